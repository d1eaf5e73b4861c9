from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.core.graph import TokenGraph, ball, chain_graph, convolve, count, grid_graph, radius_graph
from napari_prospector.errors import InvalidInputError

ROWS, COLS, DIMS = 7, 11, 5


def edges_of(graph: TokenGraph) -> set[tuple[int, int]]:
    """Every directed edge of the adjacency."""
    sources = np.repeat(np.arange(graph.n_tokens), np.diff(graph.indptr))
    return set(zip(sources.tolist(), graph.indices.tolist(), strict=True))


def both_ways(pairs: Any) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in pairs} | {(int(b), int(a)) for a, b in pairs}


def rows_ascend(graph: TokenGraph) -> bool:
    rows = np.split(graph.indices, graph.indptr[1:-1])
    return all((np.diff(row) > 0).all() for row in rows)


def vectors(n_tokens: int, n_dims: int = DIMS) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n_tokens, n_dims)).astype(np.float32)


# ---- builders ----


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=7))
def test_a_grid_graph_joins_exactly_the_true_cells_that_touch(cells: list[list[bool]]) -> None:
    mask = np.array(cells)
    mask[0, 0] = True
    graph = grid_graph(mask, vectors(int(mask.sum())))
    places = np.argwhere(mask)
    near = [(a, b) for a, p in enumerate(places) for b, q in enumerate(places) if a < b and abs(p - q).max() == 1]
    assert edges_of(graph) == both_ways(near)
    assert graph.n_edges == len(near)
    assert rows_ascend(graph)


def test_a_grid_graph_numbers_its_tokens_row_by_row() -> None:
    mask = np.random.default_rng(2).random((ROWS, COLS)) < 0.6
    graph = grid_graph(mask, vectors(int(mask.sum())))
    assert graph.positions.tolist() == np.argwhere(mask).tolist()
    assert graph.n_tokens == mask.sum()
    assert graph.n_dims == DIMS


def test_a_grid_graph_takes_positions_of_its_own() -> None:
    mask = np.ones((2, 3), bool)
    assert grid_graph(mask, vectors(6), positions=np.argwhere(mask) * 112.0).positions.max() == 224.0


def test_drawing_on_in_the_mask_does_not_change_the_graph() -> None:
    mask = np.ones((2, 3), bool)
    graph = grid_graph(mask, vectors(6))
    mask[:] = False
    assert graph.mask is not None
    assert graph.mask.all()


@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_radius_graph_joins_exactly_the_points_within_the_cutoff(n_axes: int) -> None:
    coords = np.random.default_rng(5).uniform(0, 10, (43, n_axes))
    graph = radius_graph(coords, 3.0, vectors(43))
    near = np.linalg.norm(coords[:, None] - coords[None], axis=-1) <= 3.0
    np.fill_diagonal(near, False)
    assert edges_of(graph) == both_ways(np.argwhere(near))
    assert rows_ascend(graph)
    np.testing.assert_array_equal(graph.positions, coords)


def test_a_radius_graph_joins_points_at_exactly_the_cutoff_and_in_one_place() -> None:
    assert edges_of(radius_graph([[0, 0], [3, 4], [3, 4]], 5, vectors(3))) == both_ways([(0, 1), (0, 2), (1, 2)])


@pytest.mark.parametrize(("n_tokens", "reach"), [(1, 2), (2, 3), (13, 1), (13, 2), (13, 5), (3, 17)])
def test_a_chain_graph_joins_exactly_the_tokens_within_reach(n_tokens: int, reach: int) -> None:
    graph = chain_graph(vectors(n_tokens), reach=reach)
    near = [(a, b) for a in range(n_tokens) for b in range(a) if a - b <= reach]
    assert edges_of(graph) == both_ways(near)
    assert rows_ascend(graph)


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=41), st.randoms())
def test_from_edges_keeps_exactly_the_edges_in_whatever_order_and_direction(pairs: Any, random: Any) -> None:
    edges = sorted({(min(a, b), max(a, b)) for a, b in pairs if a != b})
    random.shuffle(edges)
    turned = [(b, a) if random.random() < 0.5 else (a, b) for a, b in edges]
    graph = TokenGraph.from_edges(turned, vectors(13))
    assert edges_of(graph) == both_ways(edges)
    assert rows_ascend(graph)


def test_from_edges_without_positions_numbers_the_tokens() -> None:
    graph = TokenGraph.from_edges(np.empty((0, 2), int), vectors(3))
    assert graph.positions.tolist() == [[0], [1], [2]]
    assert graph.n_edges == 0


def test_the_constructor_takes_what_a_builder_made() -> None:
    graph = grid_graph(np.ones((ROWS, COLS), bool), vectors(ROWS * COLS))
    again = TokenGraph(graph.embeddings, graph.positions, graph.indptr, graph.indices, graph.mask)
    assert edges_of(again) == edges_of(graph)
    assert again.mask is not None


# ---- what a graph is ----


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_embeddings_keep_their_float_type_and_are_not_copied(dtype: Any) -> None:
    embeddings = np.ones((3, DIMS), dtype)
    graph = chain_graph(embeddings)
    assert graph.embeddings.dtype == dtype
    assert np.shares_memory(graph.embeddings, embeddings)


def test_whole_number_embeddings_become_float32() -> None:
    assert chain_graph([[1, 2], [3, 4], [5, 6]]).embeddings.dtype == np.float32


def test_the_arrays_of_a_graph_are_read_only_also_in_a_copy() -> None:
    graph = grid_graph(np.ones((2, 3), bool), vectors(6))
    for one in (graph, copy.deepcopy(graph)):
        for array in (one.embeddings, one.positions, one.indptr, one.indices, one.mask):
            assert array is not None
            assert not array.flags.writeable


def test_other_embeddings_leave_the_edges_as_they_are() -> None:
    graph = grid_graph(np.ones((2, 3), bool), vectors(6))
    other = graph.with_embeddings(np.ones((6, 13)))
    assert other.n_dims == 13
    assert edges_of(other) == edges_of(graph)
    assert other.mask is not None
    with pytest.raises(InvalidInputError, match=r"shape \(6, n_dims\), one row for each of the tokens of this graph"):
        graph.with_embeddings(np.ones((7, 13)))


# ---- refusals ----


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.ones(384), r"got \(384,\)\. Pass one vector as embeddings\[None\]"),
        (np.ones((0, 5)), r"at least one token and one dimension; got \(0, 5\)"),
        (np.ones((3, 0)), r"got \(3, 0\)"),
        (np.ones((3, 5), complex), "got dtype complex128"),
        ([["a"], ["b"]], "got dtype <U1"),
        (np.array([[0, 1], [0, np.nan], [np.inf, 0]]), "2 of 3 tokens hold NaN or infinity, the first is token 1"),
    ],
)
def test_embeddings_that_no_head_could_read_are_refused(embeddings: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        chain_graph(embeddings)


def test_nan_far_down_in_many_embeddings_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_prospector.core.checks._BLOCK_VALUES", 3 * DIMS)
    embeddings = vectors(17)
    embeddings[[13, 16]] = np.nan
    with pytest.raises(InvalidInputError, match="2 of 17 tokens .* the first is token 13"):
        chain_graph(embeddings)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 5), bool), r"all 15 cells of shape \(3, 5\) are False. Look at the tissue mask"),
        (np.ones((3, 5), int), r"must be bool of shape \(rows, cols\); got int64 of shape \(3, 5\)"),
        (np.ones(15, bool), r"got bool of shape \(15,\)"),
        (np.ones((2, 7), bool), r"shape \(14, n_dims\), one row for each of the True cells of mask; got \(15, 5\)"),
    ],
)
def test_a_mask_that_holds_no_such_tokens_is_refused(mask: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        grid_graph(mask, vectors(15))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([[0, 1], [2, 7]], r"must join tokens 0 ... 6; edges\[1\] is \(2, 7\)"),
        ([[0, 1], [-1, 2]], r"edges\[1\] is \(-1, 2\)"),
        ([[0, 1], [3, 3]], r"edges\[1\] joins token 3 to itself. Drop it"),
        (
            [[0, 1], [4, 2], [5, 6], [2, 4]],
            r"\(2, 4\) comes 2 times, as edges\[1\] and edges\[3\]. Pass np.unique",
        ),
        ([[0.0, 1.0]], r"must be integers of shape \(n_edges, 2\); got float64"),
        ([[0, 1, 2], [1, 2, 3]], r"got int64 of shape \(2, 3\). Pass edges.T"),
        ([0, 1], r"got int64 of shape \(2,\)"),
    ],
)
def test_edges_that_are_no_undirected_graph_are_refused(edges: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        TokenGraph.from_edges(edges, vectors(7))


def test_the_same_neighbour_in_two_adjacent_rows_is_no_repeated_edge() -> None:
    assert TokenGraph.from_edges([[0, 2], [1, 2]], vectors(3)).n_edges == 2


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        (
            [0, 1, 2],
            [1, 0],
            r"indptr must be integers of shape \(4,\), one more than tokens; got int64 of shape \(3,\)",
        ),
        ([0, 1, 2, 2], [1.0, 0.0], r"indices must be integers of shape \(2 n_edges,\); got float64"),
        ([0, 1, 2, 3], [1, 0], "must rise from 0 to the 2 indices; it goes from 0 to 3"),
        ([0, 2, 1, 2], [1, 0], "must rise from 0"),
        ([0, 1, 2, 2], [1, 3], r"must lie in 0 ... 2; got 1 ... 3"),
        ([0, 1, 1, 1], [1], "must be an undirected graph: each edge in both rows"),
        ([0, 1, 2, 2], [0, 1], "no self loops"),
        ([0, 2, 3, 4], [2, 1, 0, 0], "rows ascending"),
        ([0, 2, 4, 4], [1, 1, 0, 0], "no repeats"),
    ],
)
def test_an_adjacency_that_is_no_undirected_graph_is_refused(indptr: Any, indices: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        TokenGraph(vectors(3), np.zeros((3, 2)), np.array(indptr), np.array(indices))


def test_a_mask_on_a_graph_that_is_not_its_lattice_is_refused() -> None:
    chain = chain_graph(vectors(6), reach=1)
    with pytest.raises(InvalidInputError, match="mask must be given only for the full 8-neighbour lattice"):
        TokenGraph(chain.embeddings, chain.positions, chain.indptr, chain.indices, np.ones((2, 3), bool))


def test_positions_that_do_not_match_the_tokens_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"positions must be numbers of shape \(6, n_axes\).* got float64 of"):
        grid_graph(np.ones((2, 3), bool), vectors(6), positions=np.zeros((5, 2)))
    with pytest.raises(InvalidInputError, match="positions must be finite; 1 of 3 tokens hold NaN"):
        TokenGraph.from_edges([[0, 1]], vectors(3), positions=[[0.0], [np.nan], [2.0]])


@pytest.mark.parametrize("cutoff", [0, -1.5, np.nan, np.inf, "eight", None])
def test_a_cutoff_that_is_no_length_is_refused(cutoff: Any) -> None:
    with pytest.raises(InvalidInputError, match="cutoff must be a finite length > 0"):
        radius_graph(np.zeros((3, 3)), cutoff, vectors(3))


def test_points_in_one_or_four_dimensions_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"coords must have shape .* got \(3, 4\)"):
        radius_graph(np.zeros((3, 4)), 8.0, vectors(3))
    with pytest.raises(InvalidInputError, match=r"coords must be numbers of shape \(3, n_axes\)"):
        radius_graph(np.zeros((2, 3)), 8.0, vectors(3))


@pytest.mark.parametrize("reach", [0, -1, 1.5, True, "2"])
def test_a_reach_that_is_no_number_of_tokens_is_refused(reach: Any) -> None:
    with pytest.raises(InvalidInputError, match="reach must be a whole number >= 1; got"):
        chain_graph(vectors(3), reach=reach)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"concepts": [0, 1]}, r"concepts must be integers of shape \(3,\), one a token; got int64 of shape \(2,\)"),
        ({"concepts": [0.0, 1.0, 1.0]}, "got float64"),
        ({"concepts": [0, 1, 2]}, "must lie in 0 ... 1, as n_concepts is 2; got 2 at token 2"),
        ({"concepts": [0, -1, 1]}, "got -1 at token 1"),
        ({"n_concepts": 0}, "n_concepts must be a whole number >= 1; got 0"),
        ({"radius": -1}, "radius must be a whole number >= 0; got -1"),
        ({"radius": 1.5}, "radius must be a whole number >= 0; got 1.5"),
        ({"n_threads": 0}, "n_threads must be a whole number >= 1; got 0"),
    ],
)
def test_count_refuses_what_it_cannot_count(arguments: dict[str, Any], message: str) -> None:
    sound = {"concepts": [0, 1, 1], "n_concepts": 2, "radius": 1}
    with pytest.raises(InvalidInputError, match=message):
        count(chain_graph(vectors(3)), **(sound | arguments))


@pytest.mark.parametrize(
    ("kernel", "radius", "message"),
    [
        (np.ones(4), 1, r"must have length K \+ K \(K \+ 1\) / 2 .*; got 4. A kernel of K monograms alone"),
        (np.ones(1), 1, "got 1"),
        ([1, 2, np.nan, 0, 0], 1, r"kernel must be finite; kernel\[2\] is not"),
        (np.ones((5, 1)), 1, r"must be numbers of shape \(p,\); got float64 of shape \(5, 1\)"),
        (["a"], 0, "got <U1"),
        (np.ones(2), 1, "as n_concepts is 1; got 1 at token 1"),
    ],
)
def test_convolve_refuses_a_kernel_that_is_none(kernel: Any, radius: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        convolve(chain_graph(vectors(3)), [0, 1, 1], kernel, radius)


def test_ball_refuses_a_token_that_is_not_there() -> None:
    with pytest.raises(InvalidInputError, match="token must be one of 0 ... 2; got 3"):
        ball(chain_graph(vectors(3)), token=3, radius=1)
    with pytest.raises(InvalidInputError, match="token must be a whole number >= 0; got -1"):
        ball(chain_graph(vectors(3)), token=-1, radius=1)
