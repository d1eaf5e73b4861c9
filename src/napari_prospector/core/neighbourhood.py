"""Features and maps from neighbourhoods: `count`, `convolve`, `neighbour_counts`, `ball`.

The kernels are in `hops`; here their arguments are checked, the work is cut into strips for threads, and
integers are folded into features. Public under `napari_prospector.core.graph`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, SupportsIndex

import numba
import numpy as np

from napari_prospector.core import hops
from napari_prospector.core.checks import checked_concepts, checked_kernel, checked_whole
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from napari_prospector.core.graph import TokenGraph

__all__ = ["ball", "convolve", "count", "n_features", "neighbour_counts"]

_LEAST_SLID, _LEAST_SEARCHED = 20_000, 2_000
"""Tokens below which a second thread costs more than it saves: about half a millisecond of either kernel."""
_STRIPS_PER_THREAD = 4
"""Strips differ in work, as tissue does: a thread that is done takes the next."""


def n_features(n_concepts: int, radius: int) -> int:
    """Length p of counts and kernel: K monograms, and K (K + 1) / 2 pairs where radius > 0.

    Examples
    --------
    >>> n_features(20, 4), n_features(20, 0)
    (230, 20)
    """
    return n_concepts + (n_concepts * (n_concepts + 1) // 2 if radius > 0 else 0)


def count(
    graph: TokenGraph, concepts: ArrayLike, n_concepts: int, radius: int, n_threads: int | None = None
) -> NDArray[np.int64]:
    """Count the monograms and skip-bigrams of a datum.

    n_a = #{v : c(v) = a} and E_ab = sum over v, and u within `radius` hops of v (v included), of
    1[{c(v), c(u)} = {a, b}]: an unlike pair counts twice, a like pair twice, and every token pairs once
    with itself.

    Parameters
    ----------
    graph
        The tokens and edges of the datum.
    concepts
        (n_tokens,) integers in 0 ... n_concepts - 1.
    n_concepts
        K >= 1.
    radius
        Hops, >= 0. At 0 only monograms are counted.
    n_threads
        Default: the processors this process may use (or the environment's NUMBA_NUM_THREADS).
        The result does not depend on it.

    Returns
    -------
    (p,) int64
        n_a for a = 0 ... K - 1, then, where radius > 0, E_ab for a <= b in lexicographic order.

    Raises
    ------
    InvalidInputError
        If an argument is not such.

    Notes
    -----
    Machiraju et al. 2024, section 3.2. Exact integers. Memory beside the inputs: O(n_tokens) for each
    thread, whatever the radius.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_prospector.core.graph import chain_graph
    >>> count(chain_graph(np.ones((3, 1)), reach=1), [0, 1, 1], n_concepts=2, radius=1).tolist()
    [1, 2, 1, 2, 4]
    """
    n_concepts = checked_whole("n_concepts", n_concepts, 1)
    radius = checked_whole("radius", radius, 0)
    ids = checked_concepts(concepts, n_concepts, graph.n_tokens)
    monograms = np.bincount(ids, minlength=n_concepts).astype(np.int64)
    if radius == 0:
        return monograms
    shape = (n_concepts, _n_slots(n_concepts))
    strips = _spent(graph, ids, radius, n_threads, lambda: _wanted(n_concepts, pairs=np.zeros(shape, np.int64)))
    mixed = np.sum([strip.pairs[:, :n_concepts] for strip in strips], axis=0)
    pairs = mixed + mixed.T
    np.fill_diagonal(pairs, np.diagonal(mixed))
    return np.concatenate([monograms, pairs[np.triu_indices(n_concepts)]])


def convolve(
    graph: TokenGraph, concepts: ArrayLike, kernel: ArrayLike, radius: int, n_threads: int | None = None
) -> NDArray[np.float64]:
    """Draw the prospect map: what the kernel says about every token and its neighbourhood.

    s(v) = w_c(v) + [radius > 0] * sum of w_c(v)c(u) over u within `radius` hops of v, v included. The
    scores of a datum add up to <kernel, count(graph, ...)> (completeness).

    Parameters
    ----------
    graph
        The tokens and edges of the datum.
    concepts
        (n_tokens,) integers in 0 ... K - 1.
    kernel
        (p,) finite, in the order of `count`; its length says K.
    radius
        Hops, >= 0. At 0 the kernel has the K monograms alone.
    n_threads
        As in `count`.

    Returns
    -------
    (n_tokens,) float64
        The same to the last bit for any number of threads, and for a lattice given as mask or as edges.

    Raises
    ------
    InvalidInputError
        If an argument is not such.

    Notes
    -----
    Machiraju et al. 2024, section 3.3 (k2conv). For each token the neighbours are counted by concept,
    exactly, and the weights are then summed over concepts in one fixed order. Memory as in `count`.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_prospector.core.graph import chain_graph
    >>> graph = chain_graph(np.ones((3, 1)), reach=1)
    >>> convolve(graph, [0, 1, 1], kernel=[10.0, 20.0, 1.0, 0.5, 0.0], radius=1).tolist()
    [11.5, 20.5, 20.0]
    """
    radius = checked_whole("radius", radius, 0)
    weights, n_concepts = checked_kernel(kernel, radius)
    ids = checked_concepts(concepts, n_concepts, graph.n_tokens)
    if radius == 0:
        return weights[ids]
    scores = np.empty(graph.n_tokens)
    wanted = _wanted(n_concepts, kernel=weights, scores=scores)
    _spent(graph, ids, radius, n_threads, lambda: wanted)
    return scores


def neighbour_counts(
    graph: TokenGraph, concepts: ArrayLike, n_concepts: int, radius: int, n_threads: int | None = None
) -> NDArray[np.int32]:
    """Count the tokens of each concept within `radius` hops of each token, itself included.

    Parameters
    ----------
    graph, concepts, n_concepts, radius, n_threads
        As in `count`.

    Returns
    -------
    (n_tokens, n_concepts) int32

    Raises
    ------
    InvalidInputError
        If an argument is not such.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_prospector.core.graph import chain_graph
    >>> neighbour_counts(chain_graph(np.ones((3, 1)), reach=1), [0, 1, 1], n_concepts=2, radius=1).tolist()
    [[1, 1], [1, 2], [0, 2]]
    """
    n_concepts = checked_whole("n_concepts", n_concepts, 1)
    radius = checked_whole("radius", radius, 0)
    ids = checked_concepts(concepts, n_concepts, graph.n_tokens)
    near = np.empty((graph.n_tokens, n_concepts), np.int32)
    wanted = _wanted(n_concepts, near=near)
    _spent(graph, ids, radius, n_threads, lambda: wanted)
    return near


def ball(graph: TokenGraph, token: SupportsIndex, radius: int) -> NDArray[np.int64]:
    """Tokens within `radius` hops of a token, itself included.

    Parameters
    ----------
    graph
        The tokens and edges.
    token
        0 ... n_tokens - 1.
    radius
        Hops, >= 0.

    Returns
    -------
    (n_near,) int64
        Ascending.

    Raises
    ------
    InvalidInputError
        If there is no such token, or radius is not a whole number >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_prospector.core.graph import chain_graph
    >>> ball(chain_graph(np.ones((9, 1)), reach=2), token=1, radius=2).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    start = checked_whole("token", token, 0)
    if start >= graph.n_tokens:
        raise InvalidInputError(f"token must be one of 0 ... {graph.n_tokens - 1}; got {start}.")
    hop_limit = min(checked_whole("radius", radius, 0), graph.n_tokens)
    return np.sort(hops.search_ball(graph.indptr, graph.indices, start, hop_limit)).astype(np.int64)


def _n_slots(n_concepts: int) -> int:
    """Length of a histogram: a slot a concept, one for holes, and padding."""
    return (n_concepts // hops.SLOT_STEP + 1) * hops.SLOT_STEP


def _wanted(
    n_concepts: int,
    kernel: NDArray[np.float64] | None = None,
    scores: NDArray[np.float64] | None = None,
    pairs: NDArray[np.int64] | None = None,
    near: NDArray[np.int32] | None = None,
) -> hops.Wanted:
    """Say to a kernel what to write; without a kernel there are no weights."""
    weights = np.empty((n_concepts if kernel is not None else 0, n_concepts))
    if kernel is not None:
        first, second = np.triu_indices(n_concepts)
        weights[first, second] = weights[second, first] = kernel[n_concepts:]
    return hops.Wanted(
        monograms=np.empty(0) if kernel is None else kernel[:n_concepts],
        weights=weights,
        scores=np.empty(0) if scores is None else scores,
        pairs=np.empty((0, _n_slots(n_concepts)), np.int64) if pairs is None else pairs,
        near=np.empty((0, n_concepts), np.int32) if near is None else near,
    )


def _spent(
    graph: TokenGraph,
    concepts: NDArray[np.int32],
    radius: int,
    n_threads: int | None,
    make_wanted: Callable[[], hops.Wanted],
) -> list[hops.Wanted]:
    """Run the kernel that fits the graph over all tokens; one `Wanted` for each strip."""
    threads = _default_threads() if n_threads is None else checked_whole("n_threads", n_threads, 1)
    spend, n_units, least_tokens = _plan(graph, concepts, min(radius, graph.n_tokens))  # no path is longer

    bounds = [0, n_units]
    if threads > 1 and graph.n_tokens >= least_tokens:
        bounds = np.linspace(0, n_units, min(n_units, threads * _STRIPS_PER_THREAD) + 1).astype(int).tolist()
    waiting = list(pairwise(bounds))

    def work() -> list[hops.Wanted]:
        done = []
        while waiting:
            try:
                first, last = waiting.pop()
            except IndexError:  # another thread took the last one
                break
            done.append(make_wanted())
            spend(first, last, done[-1])
        return done

    shared = [_helpers().submit(work) for _ in range(min(threads, len(waiting)) - 1)]
    done = work()
    # A helper that the system has not let run by now would find no strip left.
    return done + [wanted for one in shared if not one.cancel() for wanted in one.result()]


def _plan(
    graph: TokenGraph, concepts: NDArray[np.int32], radius: int
) -> tuple[Callable[[int, int, hops.Wanted], None], int, int]:
    """Choose the kernel: a function that spends units first to last, how many there are, and when to use threads."""
    # Unsigned: numba then omits the test for negative indices, a third of the time of these loops.
    unsigned = concepts.view(np.uint32)
    if graph.mask is not None and radius <= hops.MAX_BOX_RADIUS:
        # Tiles as equal as can be, of 64 cells at most on each side.
        height, width = (-(-side // -(-side // hops.WORD)) for side in graph.mask.shape)
        ranks = hops.rank_table(graph.mask, width)
        if _is_dense(graph, ranks, radius):

            def slide(first: int, last: int, wanted: hops.Wanted) -> None:
                hops.slide_boxes(graph.mask, ranks, height, width, unsigned, radius, first, last, wanted)

            return slide, -(-graph.mask.shape[0] // height) * ranks.shape[1], _LEAST_SLID
    indptr, indices = graph.indptr.view(np.uint64), graph.indices.view(np.uint32)
    order = hops.blob_order(indptr, indices)

    def search(first: int, last: int, wanted: hops.Wanted) -> None:
        hops.search_balls(indptr, indices, order, unsigned, radius, first, last, wanted)

    return search, -(-graph.n_tokens // hops.WORD), _LEAST_SEARCHED


def _is_dense(graph: TokenGraph, ranks: NDArray[np.int64], radius: int) -> bool:
    """Whether boxes are worth sliding: a word costs the same for one token as for 64, and more the larger the box.

    Measured on random holes, blobs and thin strips: where this says no, searching takes less time or little more.
    """
    n_words = np.count_nonzero(np.diff(ranks.ravel(), append=graph.n_tokens))
    n_idle_rows = max(1.0, hops.GROUP / len(ranks))
    return bool(graph.n_tokens > (0.25 + 0.015 * radius) * n_words * n_idle_rows * hops.WORD)


@cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that help the calling one; kept, since starting one takes as long as 5,000 tokens."""
    return ThreadPoolExecutor(_default_threads(), thread_name_prefix="prospector-hops")


# The child of a fork has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def _default_threads() -> int:
    """Processors that this process may use, or NUMBA_NUM_THREADS of the environment."""
    return int(vars(numba.config)["NUMBA_NUM_THREADS"])  # numba sets it on import, unseen by type checkers
