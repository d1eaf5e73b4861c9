"""Typical tokens, against a slow loop over all tokens of all slides."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_grids import BLOCK, N_DIMS, SHAPE, cohort, tokens_of, write_grid

from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError
from napari_prospector.study import best_tokens
from napari_prospector.study.best_tokens import BestTokens
from napari_prospector.study.cohort_graphs import CohortGraphs
from napari_prospector.study.examples import ConceptExamples, typical_tokens
from napari_prospector.tokens.store import TokenGrid


def finish(steps: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TokenGrid], list[str], ProspectorHead]:
    return cohort(tmp_path_factory.mktemp("cohort"))


def loop(
    grids: list[TokenGrid], head: ProspectorHead, n_each: int, cap: int
) -> dict[int, list[tuple[float, int, int, int]]]:
    """Sort all tokens of a concept by distance, and take them in order unless their slide has given enough."""
    centers = head.quantizer_.centers_.astype(float)
    found: dict[int, list[tuple[float, int, int, int]]] = {}
    for slide, grid in enumerate(grids):
        for row, col, embedding in tokens_of(grid):
            distances = np.sqrt(((embedding - centers) ** 2).sum(axis=1))
            found.setdefault(int(distances.argmin()), []).append((float(distances.min()), slide, row, col))
    best = {}
    for concept, tokens in found.items():
        taken: list[tuple[float, int, int, int]] = []
        for token in sorted(tokens):
            if len(taken) < n_each and sum(one[1] == token[1] for one in taken) < cap:
                taken.append(token)
        best[concept] = taken
    return best


@pytest.mark.parametrize(("n_each", "cap"), [(24, None), (5, 1), (7, 3), (1000, 1000)])
def test_typical_tokens_are_the_nearest_to_their_centre_and_no_slide_speaks_for_all(
    study: Any, n_each: int, cap: int | None
) -> None:
    grids, labels, head = study
    _, found = finish(typical_tokens(head, grids, labels, n_each, cap))
    assert found.most_per_slide == (math.ceil(24 / 6) if cap is None else cap)
    expected = loop(grids, head, n_each, found.most_per_slide)
    assert sorted(expected) == list(range(4))
    for concept, examples in enumerate(found.examples):
        places = [(example.slide, example.row, example.col) for example in examples]
        assert places == [token[1:] for token in expected[concept]]
        np.testing.assert_allclose([e.distance for e in examples], [t[0] for t in expected[concept]], rtol=1e-4)
        assert {e.concept for e in examples} == {concept}
        assert [e.label for e in examples] == [labels[e.slide] for e in examples]


def test_shares_of_the_classes_are_counted_along_the_way(study: Any) -> None:
    grids, labels, head = study
    _, found = finish(typical_tokens(head, grids, labels))
    for slide, grid in enumerate(grids):
        concepts = head.concepts(grid.graph()).tolist()
        assert found.counts[slide].tolist() == [concepts.count(concept) for concept in range(4)]
    assert found.classes == ("normal", "tumour")
    # what the head has kept of its own cohort
    np.testing.assert_allclose(found.shares(), head.concept_shares_)


def test_progress_grows_to_the_cells_of_all_grids(study: Any) -> None:
    grids, labels, head = study
    told, _ = finish(typical_tokens(head, grids, labels))
    done, totals = zip(*told, strict=True)
    assert set(totals) == {len(grids) * SHAPE[0] * SHAPE[1]}
    assert list(done) == sorted(done)
    assert done[-1] == totals[0]
    assert len(set(done)) == math.ceil(SHAPE[0] / BLOCK) * len(grids)


def test_with_few_slides_each_gives_more(study: Any) -> None:
    grids, labels, head = study
    assert finish(typical_tokens(head, grids[:2], labels[:2], 24))[1].most_per_slide == 12


def test_flagged_tokens_that_a_cohort_leaves_out_are_no_examples(study: Any) -> None:
    grids, labels, head = study
    graphs = CohortGraphs([grid.path for grid in grids])
    first, second = (finish(typical_tokens(head, one, labels))[1] for one in (graphs, grids))
    assert first.examples == second.examples


def test_merged_concepts_share_their_examples_by_distance(study: Any) -> None:
    grids, labels, head = study
    _, found = finish(typical_tokens(head, grids, labels))
    expected: list[Any] = []
    for example in sorted((*found.examples[1], *found.examples[3]), key=lambda e: e.distance):
        if sum(one.slide == example.slide for one in expected) < found.most_per_slide:
            expected.append(example)
    assert found.of_group([1, 3]) == tuple(expected)
    assert found.of_group([1, 3], 10) == tuple(expected[:10])
    assert found.of_group([2]) == found.examples[2]


def test_in_many_dimensions_the_angle_counts(tmp_path: Path) -> None:
    grids, labels, head = cohort(tmp_path, n_slides=6, n_dims=37)
    _, found = finish(typical_tokens(head, grids, labels, 3, 1000))
    directions = head.quantizer_.projection_.T.astype(float)
    tokens = [
        (s, row, col, e - head.quantizer_.mean_) for s, grid in enumerate(grids) for row, col, e in tokens_of(grid)
    ]
    for concept, examples in enumerate(found.examples):
        cosines = sorted(((e / np.linalg.norm(e)) @ directions[concept] for *_, e in tokens), reverse=True)
        np.testing.assert_allclose([1 - e.distance**2 / 2 for e in examples], cosines[:3], rtol=1e-4)


def test_a_concept_that_does_not_occur_has_no_examples(study: Any) -> None:
    _, labels, _ = study
    found = ConceptExamples(((), ()), np.array([[3, 0], [5, 0]]), ("a", "b"), 1)
    assert found.of_group([0, 1]) == ()
    np.testing.assert_array_equal(found.shares(), [[1, 0], [1, 0]])


def test_memory_holds_the_best_alone() -> None:
    best = BestTokens(2, 3)
    rng = np.random.default_rng(0)
    drawn = [rng.random(101) for _ in range(7)]
    for number, distances in enumerate(drawn):
        kinds = np.arange(101) % 2
        best.add(kinds, distances, np.column_stack([np.full(101, number), np.zeros(101, int), np.arange(101)]))
        assert len(best.columns()[0]) == 6
    everything = np.sort(np.concatenate([distances[1::2] for distances in drawn]))
    np.testing.assert_allclose(best.of(1)[0], everything[:3], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n_each": 0}, "n_each must be a whole number of at least 1; got 0"),
        ({"most_per_slide": 0}, "most_per_slide must be a whole number of at least 1; got 0"),
        ({"graphs": []}, "graphs must hold at least one token grid; got none"),
    ],
)
def test_impossible_requests_are_refused(study: Any, change: dict[str, Any], why: str) -> None:
    grids, labels, head = study
    with pytest.raises(InvalidInputError, match=why):
        finish(typical_tokens(head, **{"graphs": grids, "labels": labels, **change}))


def test_labels_must_be_as_many_as_grids_and_grids_those_of_the_head(study: Any, tmp_path: Path) -> None:
    grids, labels, head = study
    with pytest.raises(MismatchError, match="one class for each of 8 grids; got 3"):
        finish(typical_tokens(head, grids, labels[:3]))
    other = write_grid(tmp_path / "other.tokens.zarr", 0, True, N_DIMS + 2)
    with pytest.raises(MismatchError, match="This head was fitted on 'toy'"):
        finish(typical_tokens(head, [*grids[1:], other], labels))


def test_wide_grids_are_read_in_parts_with_the_same_result(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grids, labels, head = study
    _, whole = finish(typical_tokens(head, grids, labels))
    monkeypatch.setattr(best_tokens, "_MOST_CELLS", 2 * BLOCK * BLOCK + 1)
    told, parts = finish(typical_tokens(head, grids, labels))
    assert parts.examples == whole.examples
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > math.ceil(SHAPE[0] / BLOCK) * len(grids)


@pytest.mark.parametrize("left", [None, b"", b"no zstd", 50])
def test_a_damaged_grid_is_told_by_its_file(tmp_path: Path, left: Any, study: Any) -> None:
    _, _, head = study
    grid = write_grid(tmp_path / "case0.svs.tokens.zarr", 0, True)
    chunk = grid.path / "embeddings" / "c" / "1" / "2" / "0"
    assert chunk.is_file()
    whole = chunk.read_bytes()
    chunk.unlink()
    if left is not None:
        chunk.write_bytes(whole[:left] if isinstance(left, int) else left)
    with pytest.raises(FileFormatError, match="case0.svs.tokens.zarr is damaged: embeddings/c/1/2/0 cannot be read"):
        finish(typical_tokens(head, [grid], ["a"]))
