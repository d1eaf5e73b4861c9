from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.graph import (
    TokenGraph,
    chain_graph,
    convolve,
    count,
    grid_graph,
    join_graphs,
    n_features,
    radius_graph,
)
from napari_prospector.errors import InvalidInputError

DIMS, CONCEPTS = 5, 3
SHAPES = ((7, 11), (3, 2), (2, 13))


def slides() -> list[TokenGraph]:
    """Three grids of different sizes, with holes."""
    generator = np.random.default_rng(7)
    masks = [generator.random(shape) < 0.7 for shape in SHAPES]
    return [grid_graph(mask, generator.normal(size=(int(mask.sum()), DIMS)).astype(np.float32)) for mask in masks]


def mixed() -> list[TokenGraph]:
    """A grid, points and a chain, all with positions of two axes."""
    generator = np.random.default_rng(8)
    points = radius_graph(generator.uniform(0, 5, (17, 2)), 1.7, generator.normal(size=(17, DIMS)))
    chain = chain_graph(generator.normal(size=(1, DIMS)))
    places = np.zeros((1, 2))
    return [slides()[0], points, TokenGraph(chain.embeddings, places, chain.indptr, chain.indices)]


def directed_edges(graphs: list[TokenGraph]) -> set[tuple[int, int]]:
    """The edges of the union, one by one."""
    edges, first = set(), 0
    for graph in graphs:
        for token in range(graph.n_tokens):
            for near in graph.indices[graph.indptr[token] : graph.indptr[token + 1]]:
                edges.add((first + token, first + int(near)))
        first += graph.n_tokens
    return edges


@pytest.mark.parametrize("graphs", [slides(), mixed(), slides()[:1]], ids=["slides", "mixed", "one"])
def test_the_union_has_the_tokens_and_exactly_the_edges_of_its_parts(graphs: list[TokenGraph]) -> None:
    whole = join_graphs(graphs)
    assert directed_edges([whole]) == directed_edges(graphs)
    assert whole.n_edges == sum(graph.n_edges for graph in graphs)
    np.testing.assert_array_equal(whole.embeddings, np.concatenate([graph.embeddings for graph in graphs]))
    first = 0
    for number, graph in enumerate(graphs):
        part = whole.positions[first : first + graph.n_tokens]
        assert (part[:, 0] == number).all()
        np.testing.assert_array_equal(part[:, 1:], graph.positions)
        first += graph.n_tokens
    # the constructor checks all that a builder promises, the mask among it
    TokenGraph(whole.embeddings, whole.positions, whole.indptr, whole.indices, whole.mask)


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("graphs", [slides(), mixed()], ids=["slides", "mixed"])
def test_counts_of_the_union_add_up_and_its_maps_are_those_of_its_parts(graphs: list[TokenGraph], radius: int) -> None:
    generator = np.random.default_rng(9)
    concepts = [generator.integers(0, CONCEPTS, graph.n_tokens) for graph in graphs]
    kernel = generator.normal(size=n_features(CONCEPTS, radius))
    whole, ids = join_graphs(graphs), np.concatenate(concepts)
    parts = list(zip(graphs, concepts, strict=True))
    counts = [count(graph, own, CONCEPTS, radius) for graph, own in parts]
    np.testing.assert_array_equal(count(whole, ids, CONCEPTS, radius), np.sum(counts, axis=0))
    maps = [convolve(graph, own, kernel, radius) for graph, own in parts]
    np.testing.assert_array_equal(convolve(whole, ids, kernel, radius), np.concatenate(maps))


def test_the_mask_is_kept_only_where_all_have_one() -> None:
    mask = join_graphs(slides()).mask
    assert mask is not None
    assert mask.shape == (7 + 1 + 3 + 1 + 2, 13)
    assert join_graphs(mixed()).mask is None


def test_graphs_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one graph; got none"):
        join_graphs([])
    with pytest.raises(InvalidInputError, match=r"embeddings of one width; got widths \[5, 7\]"):
        join_graphs([chain_graph(np.ones((3, 5))), chain_graph(np.ones((2, 7)))])
    with pytest.raises(InvalidInputError, match=r"positions of one width; got widths \[1, 2\]"):
        join_graphs([chain_graph(np.ones((3, 5))), grid_graph(np.ones((1, 2), bool), np.ones((2, 5)))])
