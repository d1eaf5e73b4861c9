"""The graph of some tokens, against the edges of the whole, one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_prospector.core.graph import TokenGraph, grid_graph, radius_graph
from napari_prospector.errors import InvalidInputError


def edges(graph: TokenGraph) -> set[tuple[int, int]]:
    ends = np.repeat(np.arange(graph.n_tokens), np.diff(graph.indptr))
    return set(zip(ends.tolist(), graph.indices.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 1), on_grid=st.booleans())
def test_a_subset_keeps_the_edges_among_its_tokens_and_nothing_else(seed: int, share: float, on_grid: bool) -> None:
    random = np.random.default_rng(seed)
    if on_grid:
        mask = random.random((7, 5)) < 0.7
        mask[3, 2] = True
        whole = grid_graph(mask, random.normal(size=(int(mask.sum()), 3)).astype(np.float32))
    else:
        whole = radius_graph(random.random((23, 2)), 0.3, random.normal(size=(23, 3)))
    chosen = random.random(whole.n_tokens) < share
    chosen[random.integers(whole.n_tokens)] = True
    part, numbers = whole.subset(chosen), np.flatnonzero(chosen)
    assert {(int(numbers[a]), int(numbers[b])) for a, b in edges(part)} == {
        pair for pair in edges(whole) if chosen[list(pair)].all()
    }
    assert np.array_equal(part.embeddings, whole.embeddings[chosen])
    assert np.array_equal(part.positions, whole.positions[chosen])
    # the checks of the constructor hold, those of the mask among them
    TokenGraph(part.embeddings, part.positions, part.indptr, part.indices, part.mask)
    assert (part.mask is None) == (not on_grid)
    assert edges(whole.subset(numbers)) == edges(part)


@pytest.mark.parametrize("tokens", [[], [False] * 4, [True] * 3, [[0, 1]], [0.5], ["a"]])
def test_tokens_are_numbers_or_one_bool_each(tokens: list[object]) -> None:
    graph = grid_graph(np.ones((2, 2), bool), np.ones((4, 3)))
    with pytest.raises(InvalidInputError, match=r"numbers of at least one token, or bool of shape \(4,\)"):
        graph.subset(tokens)


@pytest.mark.parametrize("tokens", [[1, 0], [0, 0], [-1, 2], [2, 4]])
def test_numbers_of_tokens_ascend_within_the_graph(tokens: list[int]) -> None:
    graph = grid_graph(np.ones((2, 2), bool), np.ones((4, 3)))
    with pytest.raises(InvalidInputError, match=r"ascend within 0 \.\.\. 3, each once"):
        graph.subset(tokens)
