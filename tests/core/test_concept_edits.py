"""ConceptEdits: names, merged, hidden and highlighted concepts, by themselves and in a head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from napari_prospector.core.colors import concept_colors
from napari_prospector.core.concept_edits import MOST_LETTERS, ConceptEdits
from napari_prospector.core.graph import TokenGraph, chain_graph, count, grid_graph
from napari_prospector.core.head import ProspectorHead, load_head
from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError

K = 7
Change = Callable[[ConceptEdits], ConceptEdits]


def datum(number: int) -> TokenGraph:
    """Three kinds of tissue on a lattice with holes, a fourth in a block of every second one."""
    rng = np.random.default_rng(number)
    kind = rng.integers(0, 3, (11, 13))
    if number % 2:
        kind[2:6, 3:8] = 3
    mask = rng.random((11, 13)) < 0.9
    return grid_graph(mask, 7 * np.eye(5)[kind[mask]] + rng.normal(size=(mask.sum(), 5)))


@pytest.fixture(scope="module")
def head() -> ProspectorHead:
    graphs = [datum(i) for i in range(12)]
    return ProspectorHead(n_concepts=5, radius=1, n_folds=2).fit(graphs, ["normal", "tumour"] * 6)


def test_a_head_nobody_has_touched_has_numbered_names_and_every_concept_for_itself() -> None:
    edits = ConceptEdits.of(3)
    assert edits.shown_names == ("concept 0", "concept 1", "concept 2")
    assert edits.groups == edits.representatives == (0, 1, 2)
    assert edits.is_untouched
    assert edits.notes() == ()


def test_a_change_leaves_the_edits_it_was_made_from_as_they_were() -> None:
    edits = ConceptEdits.of(K)
    before = ConceptEdits.of(K)
    edits.rename(1, "mucus").merge([1, 2]).hide(3).highlight([4])
    assert edits == before


def test_merged_concepts_have_the_name_and_the_colour_of_the_lowest_number() -> None:
    edits = ConceptEdits.of(K).rename(2, "lymphocytes").merge([5, 2])
    assert edits.groups == (0, 1, 2, 3, 4, 2, 6)
    assert edits.name(5) == edits.shown_names[5] == "lymphocytes"
    np.testing.assert_array_equal(edits.colors()[5], concept_colors(K)[2])
    assert edits.merge([5, 0]).groups == (0, 1, 0, 3, 4, 0, 6)
    assert edits.rename(5, "plasma cells").name(2) == "plasma cells"


def test_splitting_gives_back_names_and_undoes_merges() -> None:
    edits = ConceptEdits.of(K).rename(5, "mucus")
    assert edits.merge([3, 5]).merge([5, 1]).split(3) == edits


def test_a_name_taken_from_a_merged_concept_does_not_come_twice_after_splitting() -> None:
    edits = ConceptEdits.of(K).rename(5, "mucus").merge([3, 5]).rename(3, "mucus").split(5)
    assert edits.names[3] == "mucus"
    assert edits.names[5] == "mucus (5)"


def test_what_is_said_of_a_merged_concept_holds_for_its_group() -> None:
    edits = ConceptEdits.of(K).merge([1, 4])
    assert edits.hide(4).hidden == {1, 4}
    assert edits.hide([1]).show(4).hidden == frozenset()
    assert edits.highlight([4, 6]).highlighted == {1, 4, 6}
    assert edits.highlight(6).highlight(None).highlighted == frozenset()
    assert ConceptEdits.of(K).highlight(2).merge([2, 3]).highlighted == {2, 3}
    assert ConceptEdits.of(K).hide([2, 3]).merge([2, 3]).hidden == {2, 3}


def test_names_lose_spare_white_space() -> None:
    assert ConceptEdits.of(2).rename(0, "  tall\n columnar ").name(0) == "tall columnar"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.rename(7, "x"), "from 0 to 6; got 7"),
        (lambda e: e.rename(True, "x"), "from 0 to 6; got True"),
        (lambda e: e.hide([-1]), "from 0 to 6; got -1"),
        (lambda e: e.show(1.5), "from 0 to 6; got 1.5"),
        (lambda e: e.highlight(["a"]), "from 0 to 6; got 'a'"),
        (lambda e: e.rename(1, " \n"), "a letter at least"),
        (lambda e: e.rename(1, 5), "must be text; got 5"),
        (lambda e: e.rename(1, "x" * (MOST_LETTERS + 1)), "at most 80 letters; got 81: 'xxxx"),
        (
            lambda e: e.rename(1, "concept 3"),
            r"'concept 3' is the name of concept 3. Choose another, or merge .* 1 and 3",
        ),
        (lambda e: e.merge([2]), r"at least two concepts that are not merged with each other; got \[2\]"),
        (lambda e: e.merge([0, 1]).merge([0, 1]), r"got \[0, 1\]"),
        (lambda e: e.hide(2).merge([2, 3]), r"hidden are \[2\] only"),
        (lambda e: e.split(2), "Concept 2 is not merged"),
        (lambda e: ConceptEdits(()), "a name for each concept; got none"),
        (lambda e: ConceptEdits(("a", "b"), (1, 1)), "the lowest concept that it is merged with; got \\(1, 1\\)"),
        (lambda e: ConceptEdits(("a", "b"), (0,)), "for each of the 2 concepts"),
        (lambda e: ConceptEdits(("a", "b"), (0, 0), frozenset({1})), "hidden must hold whole groups; concept 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        change(ConceptEdits.of(K))


some = st.lists(st.integers(0, K - 1), min_size=1, max_size=3)
steps = st.lists(
    st.tuples(st.sampled_from(["merge", "split", "hide", "show", "highlight", "rename"]), some), max_size=9
)


@given(steps)
def test_whatever_is_done_groups_are_whole_names_differ_and_the_card_holds_it_all(
    changes: list[tuple[str, list[int]]],
) -> None:
    edits = ConceptEdits.of(K)
    for number, (what, concepts) in enumerate(changes):
        argument: Any = concepts[0] if what == "split" else concepts
        try:
            edits = (
                edits.rename(concepts[0], f"name {number % 3}") if what == "rename" else getattr(edits, what)(argument)
            )
        except InvalidInputError:
            continue
        shown = [edits.names[concept] for concept in edits.representatives]
        assert len(set(shown)) == len(shown)
        for concept in range(K):
            assert edits.groups[concept] == min(edits.members(concept))
            assert len({other in edits.hidden for other in edits.members(concept)}) == 1
    card = json.loads(json.dumps(edits.to_card()))
    assert ConceptEdits.of_card(edits.names, card) == edits


def test_names_of_older_heads_are_mended_where_they_could_not_be_given_now() -> None:
    edits = ConceptEdits.of_names(["mucus", "", "mucus", "x" * 99])
    assert edits.names == ("mucus", "concept 1", "mucus (2)", "x" * 80)


# ---- in a head ----


def slow_scores(graph: TokenGraph, concepts: np.ndarray, monograms: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Radius 1 by a double loop over tokens and edges."""
    scores = monograms[concepts].copy()
    for token in range(graph.n_tokens):
        for other in (token, *graph.indices[graph.indptr[token] : graph.indptr[token + 1]]):
            scores[token] += pairs[concepts[token], concepts[other]]
    return scores


@pytest.mark.parametrize("target", ["tumour", "normal"])
def test_weights_as_arrays_draw_the_evidence_map(head: ProspectorHead, target: str) -> None:
    graph = datum(101)
    monograms, pairs = head.concept_weights("evidence", target)
    assert monograms.shape == (5,)
    np.testing.assert_array_equal(pairs, pairs.T)
    np.testing.assert_allclose(
        slow_scores(graph, head.concepts(graph), monograms, pairs), head.prospect(graph, "evidence", target), atol=1e-12
    )


def test_with_radius_0_there_are_no_weights_of_pairs_and_refined_has_none_at_all(head: ProspectorHead) -> None:
    graphs = [chain_graph(datum(i).embeddings) for i in range(6)]
    single = ProspectorHead(n_concepts=3, radius=0, refine=False).fit(graphs, [0, 1] * 3)
    monograms, pairs = single.concept_weights()
    np.testing.assert_array_equal(monograms, single.kernels_.evidence[0])
    assert not pairs.any()
    with pytest.raises(InvalidInputError, match="Only evidence and decision maps are sums .* got map='refined'"):
        head.concept_weights("refined")


def test_a_hidden_concept_and_every_pair_with_it_count_0(head: ProspectorHead) -> None:
    graph = datum(101)
    hiding = head.with_edits(head.concept_edits_.hide([1, 3]))
    concepts = head.concepts(graph)
    monograms, pairs = head.concept_weights()
    monograms[[1, 3]] = 0
    pairs[[1, 3]] = 0
    pairs[:, [1, 3]] = 0
    np.testing.assert_allclose(
        hiding.prospect(graph, "evidence"), slow_scores(graph, concepts, monograms, pairs), atol=1e-12
    )
    is_hidden = np.isin(concepts, [1, 3])
    refined = hiding.prospect(graph, "refined")
    assert not refined[is_hidden].any()
    np.testing.assert_array_equal(refined[~is_hidden], head.prospect(graph, "refined")[~is_hidden])


@pytest.mark.parametrize("map_name", ["evidence", "decision"])
def test_scores_and_explanations_still_add_up_with_hidden_concepts(head: ProspectorHead, map_name: str) -> None:
    graph = datum(103)
    hiding = head.with_edits(head.concept_edits_.hide(2))
    scores = hiding.prospect(graph, map_name)
    counts = count(graph, head.concepts(graph), 5, 1)
    kernel = head.kernels_.map_kernel(map_name, 0, counts).copy()
    for feature, pair in enumerate([(a, a) for a in range(5)] + [(a, b) for a in range(5) for b in range(a, 5)]):
        if 2 in pair:
            kernel[feature] = 0
    assert scores.sum() == pytest.approx(counts @ kernel, abs=1e-9)
    for token in (0, 31, graph.n_tokens - 1):
        assert hiding.explain(graph, token, map_name).score == pytest.approx(scores[token], abs=1e-12)


def test_merging_naming_and_highlighting_change_no_score_and_nothing_changes_a_probability(
    head: ProspectorHead,
) -> None:
    graph = datum(104)
    shown = head.with_edits(head.concept_edits_.merge([0, 2]).rename(0, "stroma").highlight(1))
    for map_name in head.maps_:
        np.testing.assert_array_equal(shown.prospect(graph, map_name), head.prospect(graph, map_name))
    hiding = head.with_edits(head.concept_edits_.hide([0, 1]))
    np.testing.assert_array_equal(hiding.predict_proba([graph]), head.predict_proba([graph]))


def test_the_model_card_says_what_is_merged_and_hidden_and_that_probabilities_are_not_changed(
    head: ProspectorHead,
) -> None:
    edits = head.concept_edits_.rename(1, "stroma").merge([1, 4]).rename(3, "mucus").hide(3)
    said = head.with_edits(edits).describe()
    assert "merged concepts (weights as learned, one name): stroma (1, 4)" in said
    assert "count 0 in maps: mucus. Probabilities of whole data are as they were learned" in said
    strongest = said.partition("Strongest evidence")[2]
    assert "mucus" not in strongest
    assert "concept 4" not in strongest
    assert strongest.count("- stroma: ") <= 1
    assert "hidden" not in head.describe().lower()


def test_shares_of_concepts_are_those_of_the_tokens_of_each_class(head: ProspectorHead) -> None:
    assert head.concept_shares_ is not None
    for number in range(2):
        concepts = np.concatenate([head.concepts(datum(i)) for i in range(number, 12, 2)])
        np.testing.assert_allclose(head.concept_shares_[number], np.bincount(concepts, minlength=5) / len(concepts))


def test_edits_and_shares_are_saved_with_the_head(head: ProspectorHead, tmp_path: Path) -> None:
    edits = head.concept_edits_.rename(2, "mucus & <glands>").merge([2, 4]).hide(2).highlight(1)
    head.with_edits(edits).save(tmp_path / "a.prospector")
    loaded = load_head(tmp_path / "a.prospector")
    assert loaded.concept_edits_ == edits
    assert loaded.concept_names_ == edits.shown_names
    np.testing.assert_array_equal(loaded.concept_shares_, head.concept_shares_)
    graph = datum(105)
    np.testing.assert_array_equal(loaded.prospect(graph), head.with_edits(edits).prospect(graph))


def card_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as stream:
        card: dict[str, Any] = json.loads(stream.metadata()["card"])
    return card


def test_only_a_head_that_hides_is_of_a_version_that_older_readers_refuse(head: ProspectorHead, tmp_path: Path) -> None:
    edits = head.concept_edits_.rename(1, "stroma").merge([1, 2])
    for name, changed, version in (("named", edits, 2), ("hiding", edits.hide(3), 3)):
        head.with_edits(changed).save(tmp_path / f"{name}.prospector")
        card = card_of(tmp_path / f"{name}.prospector")
        assert card["format_version"] == version
        # what an older version shows: every concept by its own name
        assert card["concept_names"] == ["concept 0", "stroma", "concept 2", "concept 3", "concept 4"]


def test_a_head_of_an_older_file_has_names_no_edits_and_no_shares(head: ProspectorHead, tmp_path: Path) -> None:
    path = tmp_path / "a.prospector"
    head.save(path)
    _as_older(path, lambda card: card.pop("concept_edits"))
    loaded = load_head(path)
    assert loaded.concept_edits_ == ConceptEdits.of(5)
    assert loaded.concept_shares_ is None
    np.testing.assert_array_equal(loaded.prospect(datum(106)), head.prospect(datum(106)))


def test_edits_in_a_file_that_cannot_be_are_refused(head: ProspectorHead, tmp_path: Path) -> None:
    path = tmp_path / "a.prospector"
    head.save(path)
    _as_older(path, lambda card: card["concept_edits"].update(groups=[4, 4, 4, 4, 4]))
    with pytest.raises(FileFormatError, match="a.prospector lacks a part of a head .*the lowest concept"):
        load_head(path)


def _as_older(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the file again without shares of concepts, and with another card."""
    from napari_prospector.core import headfile

    card = card_of(path)
    change(card)
    with safe_open(path, framework="numpy") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys() if name != "concept_shares"}
    card["tensors_sha256"] = headfile._digest(tensors)
    save_file(tensors, path, {"card": json.dumps(card)})


def test_edits_of_another_number_of_concepts_are_refused_and_arrays_are_shared(head: ProspectorHead) -> None:
    with pytest.raises(MismatchError, match="edits are of 4 concepts; this head has 5"):
        head.with_edits(ConceptEdits.of(4))
    edited = head.with_edits(head.concept_edits_.hide(1))
    assert edited.kernels_ is head.kernels_
    assert edited.quantizer_ is head.quantizer_
    assert not head.concept_edits_.hidden
