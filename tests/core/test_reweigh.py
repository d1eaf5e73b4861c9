"""Maps drawn again under other edits: the same as those of a head with these edits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.core import reweigh
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.graph import TokenGraph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.reweigh import Reweigher
from napari_prospector.errors import InvalidInputError, MismatchError

K = 5


def datum(seed: int, n_kinds: int = 3) -> TokenGraph:
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 11)) > 0.2
    return grid_graph(mask, 5 * np.eye(6)[rng.integers(0, n_kinds, mask.sum())] + rng.normal(size=(mask.sum(), 6)))


@pytest.fixture(scope="module", params=[0, 1, 2])
def head(request: pytest.FixtureRequest) -> ProspectorHead:
    graphs = [datum(seed, 3 + seed % 2) for seed in range(8)]
    return ProspectorHead(n_concepts=K, radius=request.param, kernel="fold-change").fit(graphs, ["no", "tumour"] * 4)


@given(
    hidden=st.sets(st.integers(0, K - 1)),
    merged=st.sets(st.integers(0, K - 1), min_size=2),
    map_name=st.sampled_from(["evidence", "decision", "refined", None]),
    target=st.sampled_from(["no", "tumour", None]),
)
def test_they_are_the_maps_of_a_head_with_these_edits(
    head: ProspectorHead, hidden: set[int], merged: set[int], map_name: Any, target: Any
) -> None:
    graph, edits = datum(99, 4), ConceptEdits.of(K).merge(merged).hide(hidden)
    again = Reweigher(head, graph).scores(map_name, target, edits)
    np.testing.assert_allclose(again, head.with_edits(edits).prospect(graph, map_name, target), rtol=0, atol=1e-12)


def test_the_ways_to_a_map_agree_and_leave_the_map_with_all_concepts_as_it_was(
    head: ProspectorHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, edits = datum(95, 4), ConceptEdits.of(K).hide([0, 3])
    one_by_one = Reweigher(head, graph)
    shown = one_by_one.scores("evidence")
    monkeypatch.setattr(reweigh, "_MOST_NUMBERS", 0)
    anew = Reweigher(head, graph)
    for map_name in ("evidence", "decision"):
        for hiding in (edits, edits.show(0), ConceptEdits.of(K)):
            np.testing.assert_allclose(
                one_by_one.scores(map_name, edits=hiding), anew.scores(map_name, edits=hiding), rtol=0, atol=1e-12
            )
    one_by_one.scores("evidence")[:] = 7  # what is given away is the caller's
    np.testing.assert_array_equal(one_by_one.scores("evidence"), shown)


def test_without_edits_they_are_the_maps_of_the_head_as_it_is(head: ProspectorHead) -> None:
    graph = datum(98, 4)
    hiding = head.with_edits(head.concept_edits_.hide(1))
    np.testing.assert_allclose(
        Reweigher(hiding, graph).scores("evidence"), hiding.prospect(graph, "evidence"), atol=1e-12
    )
    shown = Reweigher(hiding, graph).scores("evidence", edits=head.concept_edits_)
    np.testing.assert_array_equal(shown, head.prospect(graph, "evidence"))


def test_concepts_that_are_known_are_not_looked_for_again(head: ProspectorHead) -> None:
    graph = datum(97, 4)
    known = head.concepts(graph)
    kernel_only = ProspectorHead(n_concepts=K, radius=1, refine=False).fit([datum(i) for i in range(6)], [0, 1] * 3)
    blind = graph.with_embeddings(np.zeros((graph.n_tokens, 6)))
    known_to_it = kernel_only.concepts(graph)
    np.testing.assert_array_equal(
        Reweigher(kernel_only, blind, known_to_it).scores("evidence"), kernel_only.prospect(graph, "evidence")
    )
    with pytest.raises(InvalidInputError, match="concepts must lie in 0 ... 4"):
        Reweigher(head, graph, known + 4)
    with pytest.raises(InvalidInputError, match="one a token"):
        Reweigher(head, graph, known[1:])


def test_edits_of_another_head_and_maps_that_are_not_drawn_are_refused(head: ProspectorHead) -> None:
    maps = Reweigher(head, datum(96))
    with pytest.raises(MismatchError, match="edits are of 3 concepts; this head has 5"):
        maps.scores("evidence", edits=ConceptEdits.of(3))
    with pytest.raises(InvalidInputError, match="map must be one of"):
        maps.scores("attention")


def test_more_than_two_classes_have_maps_of_their_own() -> None:
    graphs = [datum(seed, 2 + seed % 3) for seed in range(9)]
    head = ProspectorHead(n_concepts=4, radius=1).fit(graphs, ["a", "b", "c"] * 3)
    maps, edits = Reweigher(head, graphs[4]), ConceptEdits.of(4).hide(2)
    for map_name in head.maps_:
        for target in "abc":
            np.testing.assert_allclose(
                maps.scores(map_name, target, edits),
                head.with_edits(edits).prospect(graphs[4], map_name, target),
                atol=1e-12,
            )
