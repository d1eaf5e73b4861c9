"""The hop kernels against a slow double loop, against scipy, against each other, and against laws."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from napari_prospector.core import hops, neighbourhood
from napari_prospector.core.graph import (
    TokenGraph,
    ball,
    chain_graph,
    convolve,
    count,
    grid_graph,
    n_features,
    neighbour_counts,
    radius_graph,
)

CONCEPTS = 5


def slow_ball(graph: TokenGraph, token: int, radius: int) -> set[int]:
    """Breadth-first search in plain Python."""
    met, rim = {token}, {token}
    for _ in range(radius):
        near = (graph.indices[graph.indptr[one] : graph.indptr[one + 1]].tolist() for one in rim)
        rim = {other for others in near for other in others} - met
        met |= rim
    return met


def feature(a: int, b: int, n_concepts: int) -> int:
    """Place of a pair among the features: after the monograms, lexicographic."""
    pairs = [(i, j) for i in range(n_concepts) for j in range(i, n_concepts)]
    return n_concepts + pairs.index((min(a, b), max(a, b)))


def slow_features(graph: TokenGraph, concepts: Sequence[int], n_concepts: int, radius: int) -> np.ndarray:
    """Every token's own share of the features (n_tokens, p), by the double loop of the definition."""
    shares = np.zeros((graph.n_tokens, n_features(n_concepts, radius)), np.int64)
    for token, concept in enumerate(concepts):
        shares[token, concept] += 1
        for other in slow_ball(graph, token, radius) if radius else ():
            shares[token, feature(concept, concepts[other], n_concepts)] += 1
    return shares


def as_edges(graph: TokenGraph) -> TokenGraph:
    """The same graph, no longer known to be a lattice."""
    return TokenGraph(graph.embeddings, graph.positions, graph.indptr, graph.indices)


def lattice(shape: tuple[int, int], share: float, seed: int) -> TokenGraph:
    mask = np.random.default_rng(seed).random(shape) < share
    mask[0, 0] = True
    return grid_graph(mask, np.ones((int(mask.sum()), 1), np.float32))


def disc(diameter: int) -> TokenGraph:
    """Tissue with a ragged rim and a hole in its middle."""
    row, col = np.ogrid[:diameter, :diameter]
    far = np.hypot(row - diameter / 2, col - diameter / 2)
    mask = (far < diameter / 2) & (far > diameter / 7)
    return grid_graph(mask, np.ones((int(mask.sum()), 1), np.float32))


def spiral() -> TokenGraph:
    """Corridor one cell wide whose windings touch no other: near in the plane, far in hops."""
    mask = np.zeros((19, 23), bool)
    mask[::2] = True
    mask[1::4, -1] = True
    mask[3::4, 0] = True
    return grid_graph(mask, np.ones((int(mask.sum()), 1), np.float32))


def drawn(graph: TokenGraph, n_concepts: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n_concepts, graph.n_tokens)


def drawn_kernel(n_concepts: int, radius: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=n_features(n_concepts, radius))


@st.composite
def any_graphs(draw: st.DrawFn) -> TokenGraph:
    n_tokens = draw(st.integers(1, 13))
    pairs = [(a, b) for a in range(n_tokens) for b in range(a)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=31)) if pairs else []
    return TokenGraph.from_edges(edges, np.ones((n_tokens, 1), np.float32))


@st.composite
def lattices(draw: st.DrawFn) -> TokenGraph:
    rows, cols = draw(st.integers(1, 11)), draw(st.integers(1, 13))
    bits = draw(st.lists(st.booleans(), min_size=rows * cols, max_size=rows * cols))
    mask = np.array(bits).reshape(rows, cols)
    mask[rows // 2, cols // 2] = True
    return grid_graph(mask, np.ones((int(mask.sum()), 1), np.float32))


graphs = st.one_of(any_graphs(), lattices())
radii = st.integers(0, 5)


# ---- against the definition ----


@given(graphs, radii, st.integers(1, 7), st.integers(0, 99))
def test_counts_and_scores_are_those_of_the_double_loop(graph: TokenGraph, radius: int, k: int, seed: int) -> None:
    concepts = drawn(graph, k, seed)
    shares = slow_features(graph, concepts.tolist(), k, radius)
    kernel = drawn_kernel(k, radius)
    assert count(graph, concepts, k, radius).tolist() == shares.sum(axis=0).tolist()
    np.testing.assert_allclose(convolve(graph, concepts, kernel, radius), shares @ kernel, rtol=0, atol=1e-12)


@given(graphs, radii)
def test_a_ball_is_that_of_the_plain_search_and_adds_up_to_the_neighbour_counts(graph: TokenGraph, radius: int) -> None:
    concepts = drawn(graph, CONCEPTS)
    near = neighbour_counts(graph, concepts, CONCEPTS, radius)
    assert near.dtype == np.int32
    for token in range(graph.n_tokens):
        tokens = ball(graph, token, radius)
        assert tokens.tolist() == sorted(slow_ball(graph, token, radius))
        assert near[token].tolist() == np.bincount(concepts[tokens], minlength=CONCEPTS).tolist()


@pytest.mark.parametrize("radius", [1, 2, 4, 7])
def test_neighbours_are_those_that_shortest_paths_find(radius: int) -> None:
    rng = np.random.default_rng(11)
    graph = radius_graph(rng.uniform(0, 41, (307, 3)), 6.0, np.ones((307, 1)))
    concepts = drawn(graph, CONCEPTS)
    steps = csr_array((np.ones(graph.indices.size), graph.indices, graph.indptr), shape=(307, 307))
    near = dijkstra(steps, unweighted=True) <= radius
    np.testing.assert_array_equal(
        neighbour_counts(graph, concepts, CONCEPTS, radius), near @ np.eye(CONCEPTS, dtype=int)[concepts]
    )


@pytest.fixture(scope="module")
def peer(shared: Path) -> Any:
    spec = importlib.util.spec_from_file_location("sparse_peer", shared / "bench" / "sparse_peer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("share", [1.0, 0.85, 0.5])
@pytest.mark.parametrize("radius", [1, 2, 4, 8])
def test_numbers_are_those_of_the_sparse_peer(peer: Any, share: float, radius: int) -> None:
    graph = lattice((67, 71), share, seed=13)
    sources = np.repeat(np.arange(graph.n_tokens), np.diff(graph.indptr))
    edges = np.column_stack([sources, graph.indices])[sources < graph.indices]
    k = 17
    concepts, kernel = drawn(graph, k), drawn_kernel(k, radius)
    expected = peer.convolve(graph.n_tokens, edges, concepts, k, radius, kernel)
    for one in (graph, as_edges(graph)):
        np.testing.assert_array_equal(
            count(one, concepts, k, radius), peer.count(graph.n_tokens, edges, concepts, k, radius)
        )
        np.testing.assert_allclose(
            convolve(one, concepts, kernel, radius), expected, rtol=0, atol=1e-13 * np.abs(expected).max()
        )


def test_a_pair_apart_counts_twice_and_every_token_once_with_itself() -> None:
    graph = TokenGraph.from_edges([[0, 1], [1, 2]], np.ones((3, 1)))
    # Concepts 0-1-1: monograms 1, 2; (0,0): itself; (0,1): 0-1 twice; (1,1): two selves and 1-2 twice.
    assert count(graph, [0, 1, 1], 2, radius=1).tolist() == [1, 2, 1, 2, 4]
    assert count(graph, [0, 1, 1], 2, radius=2).tolist() == [1, 2, 1, 4, 4]
    assert count(graph, [0, 1, 1], 2, radius=0).tolist() == [1, 2]


def test_hops_go_around_a_hole() -> None:
    mask = np.array([[True, False, True], [True, False, True], [True, True, True]])
    graph = grid_graph(mask, np.ones((7, 1)))
    assert ball(graph, token=0, radius=2).tolist() == [0, 2, 4, 5]
    assert neighbour_counts(graph, np.arange(7), 7, radius=2)[0].tolist() == [1, 0, 1, 0, 1, 1, 0]


# ---- the lattice path and the edge path ----


@given(lattices(), st.integers(0, 8))
def test_the_lattice_path_equals_the_edge_path_to_the_last_bit(graph: TokenGraph, radius: int) -> None:
    assert_same_both_ways(graph, radius)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 5, 8, 13, 31, 32])
@pytest.mark.parametrize(
    "graph",
    [
        lattice((1, 197), 1.0, 1),
        lattice((1, 197), 0.9, 2),
        lattice((197, 1), 0.9, 3),
        lattice((3, 131), 0.9, 4),
        lattice((131, 2), 0.8, 5),
        lattice((67, 73), 1.0, 6),
        lattice((67, 139), 0.97, 7),
        lattice((73, 67), 0.6, 8),
        lattice((64, 128), 0.4, 9),
        lattice((151, 157), 0.01, 10),
        lattice((1, 1), 1.0, 11),
        disc(89),
        spiral(),
    ],
    ids=lambda graph: f"{graph.mask.shape}-{graph.n_tokens}",
)
def test_the_paths_agree_on_thin_solid_torn_and_scattered_tissue(graph: TokenGraph, radius: int) -> None:
    assert_same_both_ways(graph, radius)


@pytest.mark.parametrize("k", [1, 7, 8, 15, 16, 61])
def test_the_paths_agree_for_any_number_of_concepts(k: int) -> None:
    assert_same_both_ways(lattice((31, 37), 0.8, seed=5), radius=3, k=k)


def assert_same_both_ways(graph: TokenGraph, radius: int, k: int = CONCEPTS) -> None:
    concepts, kernel = drawn(graph, k), drawn_kernel(k, radius)
    edges = as_edges(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "_is_dense", lambda *_: True)
        by_boxes = (
            count(graph, concepts, k, radius),
            convolve(graph, concepts, kernel, radius),
            neighbour_counts(graph, concepts, k, radius),
        )
    np.testing.assert_array_equal(by_boxes[0], count(edges, concepts, k, radius))
    np.testing.assert_array_equal(by_boxes[1], convolve(edges, concepts, kernel, radius))
    np.testing.assert_array_equal(by_boxes[2], neighbour_counts(edges, concepts, k, radius))


@pytest.mark.parametrize(
    ("graph", "radius", "path"),
    [
        (lattice((67, 71), 0.85, seed=1), 1, "slide_boxes"),
        (lattice((67, 71), 0.85, seed=1), 8, "slide_boxes"),
        (lattice((128, 192), 1.0, seed=2), 31, "slide_boxes"),
        (lattice((128, 192), 1.0, seed=2), 32, "search_balls"),
        (lattice((67, 71), 0.1, seed=3), 4, "search_balls"),
        (lattice((197, 2), 1.0, seed=4), 4, "search_balls"),
        (lattice((1, 197), 1.0, seed=5), 4, "search_balls"),
        (disc(89), 4, "slide_boxes"),
        (chain_graph(np.ones((197, 1))), 1, "search_balls"),
    ],
)
def test_dense_lattices_take_the_lattice_path(
    graph: TokenGraph, radius: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    monkeypatch.setattr(hops, "slide_boxes", lambda *_: taken.append("slide_boxes"))
    monkeypatch.setattr(hops, "search_balls", lambda *_: taken.append("search_balls"))
    count(graph, drawn(graph, CONCEPTS), CONCEPTS, radius, n_threads=1)
    assert taken == [path]


def test_a_radius_beyond_the_graph_reaches_all_that_is_connected() -> None:
    graph = chain_graph(np.ones((23, 1)), reach=2)
    assert neighbour_counts(graph, np.zeros(23, int), 1, radius=10**9).tolist() == [[23]] * 23
    assert len(ball(graph, 0, radius=10**9)) == 23


# ---- laws ----


@given(graphs, radii, st.integers(0, 99))
def test_renumbering_the_tokens_renumbers_the_scores(graph: TokenGraph, radius: int, seed: int) -> None:
    concepts, kernel = drawn(graph, CONCEPTS), drawn_kernel(CONCEPTS, radius)
    order = np.random.default_rng(seed).permutation(graph.n_tokens)
    place = np.argsort(order)
    sources = np.repeat(np.arange(graph.n_tokens), np.diff(graph.indptr))
    edges = np.column_stack([place[sources], place[graph.indices]])[sources < graph.indices]
    turned = TokenGraph.from_edges(edges, graph.embeddings[order])
    assert convolve(turned, concepts[order], kernel, radius).tolist() == (
        convolve(graph, concepts, kernel, radius)[order].tolist()
    )
    assert (
        count(turned, concepts[order], CONCEPTS, radius).tolist() == count(graph, concepts, CONCEPTS, radius).tolist()
    )


@given(any_graphs(), radii)
def test_an_isolated_token_changes_no_other(graph: TokenGraph, radius: int) -> None:
    concepts, kernel = drawn(graph, CONCEPTS), drawn_kernel(CONCEPTS, radius)
    alone = TokenGraph(
        np.ones((graph.n_tokens + 1, 1)),
        np.zeros((graph.n_tokens + 1, 1)),
        np.append(graph.indptr, graph.indptr[-1]),
        graph.indices,
    )
    scores = convolve(alone, np.append(concepts, 0), kernel, radius)
    assert scores[:-1].tolist() == convolve(graph, concepts, kernel, radius).tolist()
    own = np.zeros(kernel.size)
    own[0] = 1
    own[CONCEPTS : CONCEPTS + 1] = 1
    assert scores[-1] == own @ kernel


@given(graphs, radii)
def test_the_scores_of_a_datum_add_up_to_its_score(graph: TokenGraph, radius: int) -> None:
    concepts, kernel = drawn(graph, CONCEPTS), drawn_kernel(CONCEPTS, radius)
    scores = convolve(graph, concepts, kernel, radius)
    whole = kernel @ count(graph, concepts, CONCEPTS, radius)
    assert scores.sum() == pytest.approx(whole, rel=0, abs=1e-11)


@given(graphs, graphs, radii)
def test_two_data_in_one_graph_are_counted_and_scored_as_each_alone(a: TokenGraph, b: TokenGraph, radius: int) -> None:
    both = TokenGraph(
        np.ones((a.n_tokens + b.n_tokens, 1)),
        np.zeros((a.n_tokens + b.n_tokens, 1)),
        np.concatenate([a.indptr, a.indptr[-1] + b.indptr[1:]]),
        np.concatenate([a.indices, b.indices + a.n_tokens]),
    )
    of_a, of_b, kernel = drawn(a, CONCEPTS, 1), drawn(b, CONCEPTS, 2), drawn_kernel(CONCEPTS, radius)
    concepts = np.concatenate([of_a, of_b])
    assert convolve(both, concepts, kernel, radius).tolist() == [
        *convolve(a, of_a, kernel, radius),
        *convolve(b, of_b, kernel, radius),
    ]
    np.testing.assert_array_equal(
        count(both, concepts, CONCEPTS, radius),
        count(a, of_a, CONCEPTS, radius) + count(b, of_b, CONCEPTS, radius),
    )


# ---- threads and types ----


@pytest.mark.parametrize("make", [lambda graph: graph, as_edges], ids=["lattice", "edges"])
def test_the_number_of_threads_changes_nothing(make: Any) -> None:
    graph = make(lattice((211, 223), 0.85, seed=17))
    concepts, kernel = drawn(graph, 19), drawn_kernel(19, 3)
    scores, counts = convolve(graph, concepts, kernel, 3, n_threads=1), count(graph, concepts, 19, 3, n_threads=1)
    for n_threads in (2, 3, 7, None):
        np.testing.assert_array_equal(convolve(graph, concepts, kernel, 3, n_threads=n_threads), scores)
        np.testing.assert_array_equal(count(graph, concepts, 19, 3, n_threads=n_threads), counts)


def test_a_small_graph_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhood, "_helpers", None)
    graph = lattice((67, 73), 1.0, seed=1)
    count(graph, drawn(graph, CONCEPTS), CONCEPTS, 4, n_threads=5)


def test_several_threads_may_call_at_once() -> None:
    graph = lattice((151, 157), 0.9, seed=19)
    concepts = drawn(graph, CONCEPTS)
    expected = count(graph, concepts, CONCEPTS, 2).tolist()
    barrier = threading.Barrier(5)

    def call(_: int) -> list[int]:
        barrier.wait(timeout=60)
        return count(graph, concepts, CONCEPTS, 2, n_threads=3).tolist()

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(call, range(5))) == [expected] * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_counts_with_threads_of_its_own() -> None:
    graph = lattice((151, 157), 0.9, seed=37)
    concepts = drawn(graph, CONCEPTS)
    expected = count(graph, concepts, CONCEPTS, 2, n_threads=3).tolist()
    child = os.fork()
    if child == 0:
        same = False
        try:
            same = count(graph, concepts, CONCEPTS, 2, n_threads=3).tolist() == expected
        finally:
            os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_error_in_a_helping_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            started.set()
            raise MemoryError
        started.wait(timeout=60)

    started = threading.Event()
    monkeypatch.setattr(hops, "slide_boxes", fail)
    graph = lattice((151, 157), 0.9, seed=41)
    with pytest.raises(MemoryError):
        count(graph, drawn(graph, CONCEPTS), CONCEPTS, 2, n_threads=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64, ">i4"])
def test_concepts_of_any_integer_type_give_the_same_counts(dtype: Any) -> None:
    graph = lattice((13, 17), 0.9, seed=23)
    concepts = drawn(graph, CONCEPTS)
    assert count(graph, concepts.astype(dtype), CONCEPTS, 2).tolist() == count(graph, concepts, CONCEPTS, 2).tolist()


def test_read_only_and_strided_arguments_are_taken() -> None:
    graph = lattice((13, 17), 0.9, seed=29)
    concepts, kernel = drawn(graph, CONCEPTS), drawn_kernel(CONCEPTS, 2)
    expected = convolve(graph, concepts, kernel, 2).tolist()
    twice = np.repeat(kernel, 2)
    twice.flags.writeable = False
    assert convolve(graph, np.repeat(concepts, 2)[::2], twice[::2], 2).tolist() == expected


def test_the_kernel_that_came_is_left_as_it_was() -> None:
    graph = lattice((13, 17), 0.9, seed=31)
    kernel = drawn_kernel(CONCEPTS, 2)
    before = kernel.copy()
    convolve(graph, drawn(graph, CONCEPTS), kernel, 2)[:] = 0
    np.testing.assert_array_equal(kernel, before)
