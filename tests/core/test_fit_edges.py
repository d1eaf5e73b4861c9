"""Fitting where data are few, tiny or strange: something sensible comes out, or the reason is said."""

from pathlib import Path

import numpy as np
import pytest

from napari_prospector.core import autofit
from napari_prospector.core.autofit import make_juries
from napari_prospector.core.crossfit import TrainingSet, make_folds, sample_tokens
from napari_prospector.core.graph import TokenGraph, chain_graph
from napari_prospector.core.head import ProspectorHead, load_head
from napari_prospector.errors import InvalidInputError, ProspectorWarning


def chains(n_data: int, n_tokens: int, share: float = 0.2, shift: float = 3.0) -> tuple[list[TokenGraph], list[int]]:
    """Noise in 5 dimensions; in every other datum the first tokens, a share of them, are shifted."""
    rng = np.random.default_rng(n_data + n_tokens)
    first = (np.arange(n_tokens) < max(1, round(share * n_tokens)))[:, None]
    labels = [number % 2 for number in range(n_data)]
    return [chain_graph(rng.normal(size=(n_tokens, 5)) + shift * label * first) for label in labels], labels


@pytest.mark.parametrize("category", [5, -1, 0.5])
def test_a_category_out_of_range_is_refused_in_words_whether_or_not_the_head_is_refined(category: float) -> None:
    rng = np.random.default_rng(0)
    data = [chain_graph(rng.integers(0, 5, (31, 1)).astype(float)) for _ in range(6)]
    wrong = data[3].embeddings.copy()
    wrong[7, 0] = category
    data[3] = data[3].with_embeddings(wrong)
    for refine in (True, False):
        head = ProspectorHead(5, 1, "fold-change", quantize="identity", refine=refine)
        with pytest.raises(InvalidInputError, match=f"whole numbers from 0 to 4; token 7 is {category}"):
            head.fit(data, [0, 1] * 3)


def test_whole_numbers_of_numpy_are_saved_like_any_other(tmp_path: Path) -> None:
    data, labels = chains(6, 31)
    head = ProspectorHead(np.int64(4), np.int64(1), "linear").fit(data, np.array(labels))  # type: ignore[arg-type]
    head.save(tmp_path / "head.prospector")
    loaded = load_head(tmp_path / "head.prospector")
    assert loaded.radius_ == 1
    np.testing.assert_array_equal(loaded.prospect(data[1]), head.prospect(data[1]))


@pytest.mark.parametrize(("n_data", "n_tokens", "max_sample"), [(6, 1, 30_000), (6, 2, 30_000), (12, 31, 5)])
def test_concepts_that_are_not_given_are_no_more_than_tokens_fill(n_data: int, n_tokens: int, max_sample: int) -> None:
    data, labels = chains(n_data, n_tokens)
    head = ProspectorHead(max_sample=max_sample).fit(data, labels)
    assert 1 <= head.quantizer_.n_concepts_ <= 5
    assert np.isfinite(head.prospect(data[1])).all()
    with pytest.raises(InvalidInputError, match="n_concepts=30. Lower n_concepts or add data"):
        ProspectorHead(30, max_sample=max_sample).fit(data, labels)


def test_of_the_default_concepts_the_most_that_tokens_fill_are_taken_where_nothing_can_be_held_out() -> None:
    data, labels = chains(6, 17)
    head = ProspectorHead().fit(data, labels, groups=["a" if label else str(i) for i, label in enumerate(labels)])
    assert head.selection_.criterion == "none"
    assert head.quantizer_.n_concepts_ == 20


def test_a_head_that_is_not_refined_still_says_what_was_chosen_and_how_sure_that_is() -> None:
    data, labels = chains(12, 41)
    head = ProspectorHead(refine=False).fit(data, labels)
    chosen = head.selection_.kernels[0]
    sentence = head.selection_.sentence()
    assert f"{chosen.n_concepts} concepts, radius {chosen.radius}, {chosen.kernel} kernel and the evidence" in sentence
    assert f"{chosen.excess:.3f} [{chosen.excess_low:.3f}, {chosen.excess_high:.3f}]" in sentence


def test_settings_that_were_given_are_not_said_to_be_chosen() -> None:
    head = ProspectorHead(4, 1, "linear").fit(*chains(12, 41))
    assert head.selection_.sentence().startswith(
        f"Chose the {head.best_map_} map of 4 concepts, radius 1, linear kernel"
    )


def test_embeddings_that_are_all_alike_give_blank_maps_and_no_warning_of_a_solver() -> None:
    data = [chain_graph(np.full((31, 3), 2.5)) for _ in range(6)]
    with pytest.warns(ProspectorWarning) as told:
        head = ProspectorHead().fit(data, [0, 1] * 3)
    assert {warning.category for warning in told} == {ProspectorWarning}
    for name in head.maps_:
        assert not head.prospect(data[1], name).any()


def test_a_datum_without_a_group_is_a_group_of_its_own_and_groups_may_be_any_hashables() -> None:
    data, labels = chains(12, 41)
    alone = ProspectorHead(4, 1, "linear").fit(data, labels, groups=[None] * 12)
    assert (alone.selection_.n_groups, alone.selection_.criterion) == (12, "excess")
    pairs = [("clinic", number // 2) for number in range(12)]
    folds = make_folds(np.array(labels), pairs, 3, 0)
    assert sorted(set(folds.tolist())) == [0, 1, 2]
    assert folds[::2].tolist() == folds[1::2].tolist()
    assert ProspectorHead(4, 1, "linear").fit(data, labels, groups=pairs).selection_.n_groups == 6


@pytest.mark.parametrize("shift", [1.0, 2.0, 20.0])
def test_where_a_class_fills_its_data_maps_are_compared_by_separation(shift: float) -> None:
    head = ProspectorHead(10, 1, "linear").fit(*chains(12, 101, share=1.0, shift=shift))
    assert head.selection_.criterion == "separation"
    assert head.selection_.maps[0].separation > 0.4
    assert head.selection_.maps[0].separation == max(row.separation for row in head.selection_.maps)
    assert "or all tokens are of it" in head.selection_.sentence()
    partly = ProspectorHead(10, 1, "linear").fit(*chains(12, 101, share=0.8, shift=shift))
    assert partly.selection_.criterion == "excess"


def test_numbers_of_concepts_that_were_only_tried_warn_of_nothing() -> None:
    rng = np.random.default_rng(2)
    labels = [0, 1] * 6
    data = [chain_graph((rng.random((41, 1)) < 0.1 + 0.4 * label).astype(float)) for label in labels]
    with pytest.warns(ProspectorWarning, match="have only 2 distinct concepts") as told:
        head = ProspectorHead().fit(data, labels)
    chosen = head.selection_.maps[0].n_concepts
    assert {str(warning.message).split("; ")[1] for warning in told} == {f"n_concepts={chosen} was asked for."}


def test_of_many_data_some_are_judged_with_their_own_folds_tokens_and_judges_and_rare_classes_stay_whole() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 307, p=[0.05, 0.15, 0.8])
    data = [chain_graph(rng.normal(size=(int(rng.integers(1, 11)), 3))) for _ in labels]
    sample = sample_tokens(data, 1500, 0)
    whole = TrainingSet(data, labels, np.arange(3), make_folds(labels, None, 3, 0), [*range(307)], sample)
    juries = make_juries(whole, [rng.normal(size=len(sample.owner)) for _ in range(3)])
    few, few_juries = autofit._few(whole, juries)
    sizes = np.bincount(labels)
    assert np.bincount(few.labels).tolist() == [sizes[0], sizes[1], 200 - sizes[0] - sizes[1]]
    assert few.groups is not None
    for datum, number in enumerate(few.groups):
        assert few.graphs[datum] is data[number]
        assert (few.labels[datum], few.folds[datum]) == (labels[number], whole.folds[number])
        own, same = few.sample.of_datum(datum), sample.of_datum(number)
        np.testing.assert_array_equal(few.sample.places[own], sample.places[same])
        for mine, theirs in zip(few_juries, juries, strict=True):
            np.testing.assert_array_equal(mine.judge[own], theirs.judge[same])
            assert mine.is_target[datum] == theirs.is_target[number]
