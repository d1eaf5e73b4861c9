"""The nearest examples in either class, against a slow loop over all tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_grids import N_DIMS, SHAPE, cohort, tokens_of
from test_examples import finish

from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.nearest import embedding_at, index_tokens, nearest_tokens
from napari_prospector.tokens.store import TokenGrid


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TokenGrid], list[str], ProspectorHead]:
    return cohort(tmp_path_factory.mktemp("cohort"))


def loop(study: Any, query: np.ndarray, label: str, n: int) -> list[tuple[float, int, int, int]]:
    grids, labels, _ = study
    return sorted(
        (float(np.sqrt(((embedding - query) ** 2).sum())), slide, row, col)
        for slide, grid in enumerate(grids)
        for row, col, embedding in tokens_of(grid)
        if labels[slide] == label
    )[:n]


def places(examples: Any) -> list[tuple[int, int, int]]:
    return [(example.slide, example.row, example.col) for example in examples]


@pytest.mark.parametrize("n", [1, 6, 1000])
def test_the_nearest_in_each_class_are_found_among_all_tokens(study: Any, n: int) -> None:
    grids, labels, head = study
    query = np.random.default_rng(1).normal(size=N_DIMS)
    _, found = finish(nearest_tokens(head, grids, labels, query, n))
    assert list(found) == ["normal", "tumour"]
    for label, examples in found.items():
        expected = loop(study, query, str(label), n)
        assert places(examples) == [token[1:] for token in expected]
        np.testing.assert_allclose([e.distance for e in examples], [t[0] for t in expected], rtol=1e-4)
        for example in examples[:7]:
            own = embedding_at(grids[example.slide], example.row, example.col)
            assert example.concept == head.quantizer_.predict(own[None])[0]
            assert example.label == label


def test_a_token_is_not_its_own_neighbour_and_its_slide_may_be_left_out(study: Any) -> None:
    grids, labels, head = study
    row, col, embedding = tokens_of(grids[3])[10]
    query = (grids[3], row, col)
    _, found = finish(nearest_tokens(head, grids, labels, query))
    assert places(found["tumour"]) == [token[1:] for token in loop(study, embedding, "tumour", 7)[1:]]
    assert places(found["normal"]) == [token[1:] for token in loop(study, embedding, "normal", 6)]
    _, others = finish(nearest_tokens(head, grids, labels, query, not_of="sha-3"))
    expected = [token for token in loop(study, embedding, "tumour", 1000) if token[1] != 3][:6]
    assert places(others["tumour"]) == [token[1:] for token in expected]
    assert others["normal"] == found["normal"]


def test_a_class_whose_only_slide_is_left_out_has_no_example(study: Any) -> None:
    grids, labels, head = study
    _, found = finish(nearest_tokens(head, grids[:2], labels[:2], np.zeros(N_DIMS), not_of="sha-1"))
    assert found["tumour"] == ()
    assert len(found["normal"]) == 6


def test_an_index_of_all_tokens_answers_as_the_stream_does(study: Any) -> None:
    grids, labels, head = study
    told, index = finish(index_tokens(head, grids, labels))
    assert index.n_tokens == sum(int(grid.mask.sum()) for grid in grids)
    assert index.nbytes == index.n_tokens * N_DIMS * 4
    assert told[0] == (0, told[-1][1])
    assert told[-1] == (8 * SHAPE[0] * SHAPE[1],) * 2
    row, col, _ = tokens_of(grids[5])[20]
    for query in (np.ones(N_DIMS), (grids[5], row, col)):
        for not_of in (None, "sha-5"):
            _, expected = finish(nearest_tokens(head, grids, labels, query, 5, not_of))
            found = index.nearest(query, 5, not_of)
            assert {label: places(e) for label, e in found.items()} == {k: places(e) for k, e in expected.items()}
            for label, examples in found.items():
                np.testing.assert_allclose(
                    [e.distance for e in examples], [e.distance for e in expected[label]], rtol=1e-5
                )
                assert [e.concept for e in examples] == [e.concept for e in expected[label]]


def test_an_index_draws_evenly_and_by_seed(study: Any) -> None:
    grids, labels, head = study
    everything = 10_000

    def drawn(n_tokens: int, seed: int = 0) -> list[tuple[int, int, int]]:
        index = finish(index_tokens(head, grids, labels, n_tokens, seed))[1]
        assert index.n_tokens <= max(n_tokens, len(grids))
        found = index.nearest(np.zeros(N_DIMS), everything)
        return sorted(places((*found["normal"], *found["tumour"])))

    few = drawn(83)
    assert np.bincount([place[0] for place in few]).tolist() == [10] * 8
    assert drawn(83) == few != drawn(83, seed=1)
    assert len(drawn(3)) == 8
    sizes = [int(grid.mask.sum()) for grid in grids]
    most = 8 * min(sizes) + 5
    shared = np.bincount([place[0] for place in drawn(most)])
    assert shared.min() == min(sizes)
    assert all(count == size or count == shared.max() for count, size in zip(shared, sizes, strict=True))


def test_what_is_no_token_or_embedding_is_refused(study: Any) -> None:
    grids, labels, head = study
    hole = tuple(np.argwhere(~grids[0].mask)[0])
    for row, col in (hole, (99, 0), (-1, 0)):
        with pytest.raises(InvalidInputError, match=r"must be those of a finished token of case0.svs.tokens.zarr"):
            embedding_at(grids[0], row, col)
    for query in (np.zeros((2, N_DIMS)), np.full(N_DIMS, np.nan), ["a"]):
        with pytest.raises(InvalidInputError, match="query must be one finite embedding"):
            finish(nearest_tokens(head, grids, labels, query))
    with pytest.raises(InvalidInputError, match=r"must have shape \(n_tokens, 5\)"):
        finish(nearest_tokens(head, grids, labels, np.zeros(3)))
    with pytest.raises(InvalidInputError, match="n must be a whole number"):
        finish(nearest_tokens(head, grids, labels, np.zeros(N_DIMS), 0))
    with pytest.raises(InvalidInputError, match="n_tokens must be a whole number"):
        finish(index_tokens(head, grids, labels, 0))
    with pytest.raises(MismatchError, match="one class for each"):
        finish(index_tokens(head, grids, labels[:2]))
