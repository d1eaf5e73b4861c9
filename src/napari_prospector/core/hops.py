"""The compiled hop kernels: what lies within `radius` hops of every token.

Both kernels run 64 breadth-first searches at once, one per bit of a machine word, and end in the same
integers: ``histogram[lane, b]``, how many tokens of concept b lie in the ball of one token, itself included.

- `search_balls` walks the edges of any graph. Its 64 tokens are neighbours of each other, so that an edge
  is followed once for all the searches that cross it.
- `slide_boxes` is for the 8-neighbour lattice. A histogram slides along each row over the whole box of
  (2 radius + 1)^2 cells, and tokens of the box that holes put out of reach are taken out again.

From the integers on, the code is shared (`_spend`), so scores and counts are identical bit for bit,
whichever kernel ran and in however many strips. Kernels release the GIL and share nothing that they
write; they are not compiled with ``parallel=True`` because numba's built-in threading layer must not be
entered from several Python threads, as napari and Dask do.
"""

# numba compiles these functions from their source: they index arrays where Python would iterate.
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["SLOT_STEP", "WORD", "Wanted", "blob_order", "search_ball", "search_balls"]

WORD = 64
"""Searches that run at once: the bits of a machine word."""
SLOT_STEP = 8
"""Histograms are padded to a multiple of this many slots, the width of the partial sums of a score."""
GROUP = 8
"""Rows of a tile that are flooded at once, so that the innermost loops are long enough for SIMD."""
MAX_BOX_RADIUS = 31
"""Largest radius of `slide_boxes`: 64 columns and a margin of 31 on both sides fit in two words."""


class Wanted(NamedTuple):
    """What a kernel writes; a result that is not wanted has length 0 along its first axis.

    scores (n_tokens,) float64 = monograms[c] + sum over b of weights[c, b] histogram[b];
    pairs (n_concepts, n_slots) int64 += histogram, in the row of the token's concept c;
    near (n_tokens, n_concepts) int32 = histogram. The last slot counts holes: its weight is 0.
    """

    monograms: NDArray[np.float64]
    weights: NDArray[np.float64]
    scores: NDArray[np.float64]
    pairs: NDArray[np.int64]
    near: NDArray[np.int32]


@intrinsic  # type: ignore[untyped-decorator]
def _lowest_bit(_typing_context: Any, _bits: Any) -> Any:
    """Index of the lowest set bit of a uint64 that is not 0."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _score(weights: Any, histogram: Any, partial: Any) -> Any:
    """Dot product in one fixed order: slot b goes to partial sum b mod 8, the eight are added as a tree."""
    partial[:] = 0.0
    for start in range(0, weights.size, SLOT_STEP):
        for lane in range(SLOT_STEP):
            partial[lane] += weights[start + lane] * histogram[start + lane]
    even = (partial[0] + partial[4]) + (partial[2] + partial[6])
    odd = (partial[1] + partial[5]) + (partial[3] + partial[7])
    return even + odd


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _spend(histogram: Any, members: Any, n_members: Any, concepts: Any, partial: Any, wanted: Any) -> None:
    """Turn the histograms of up to 64 tokens into what is wanted; members (64,): tokens, -1 for none."""
    for lane in range(n_members):
        token = members[lane]
        if token < 0:
            continue
        concept = concepts[token]
        if wanted.scores.size:
            wanted.scores[token] = wanted.monograms[concept] + _score(
                wanted.weights[concept], histogram[lane], partial
            )
        if wanted.pairs.size:
            for slot in range(histogram.shape[1]):
                wanted.pairs[concept, slot] += histogram[lane, slot]
        if wanted.near.size:
            wanted.near[token] = histogram[lane, : wanted.near.shape[1]]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def blob_order(indptr: Any, indices: Any) -> Any:
    """Tokens in an order in which every 64 are near each other: (n_tokens,) int32.

    Breadth-first from the first token that is left, 64 at a time; the next blob starts at the rim of the last.
    """
    n_tokens = indptr.size - 1
    order = np.empty(n_tokens, np.int32)
    state = np.zeros(n_tokens, np.uint8)  # 0 untouched, 1 on the rim of a blob, 2 placed
    rim = np.empty(n_tokens, np.int32)
    n_placed = n_rim = rim_start = seed = 0
    while n_placed < n_tokens:
        while rim_start < n_rim and state[rim[rim_start]] == 2:
            rim_start += 1
        if rim_start < n_rim:
            start = rim[rim_start]
        else:
            while state[seed] == 2:
                seed += 1
            start = seed
        first = head = n_placed
        order[n_placed] = start
        state[start] = 2
        n_placed += 1
        while head < n_placed:
            token = order[head]
            head += 1
            for edge in range(indptr[token], indptr[token + 1]):
                other = indices[edge]
                if state[other] == 2:
                    continue
                if n_placed < first + WORD:
                    order[n_placed] = other
                    state[other] = 2
                    n_placed += 1
                elif state[other] == 0:
                    state[other] = 1
                    rim[n_rim] = other
                    n_rim += 1
    return order


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _grow(indptr: Any, indices: Any, radius: Any, n_found: Any, slot: Any, nodes: Any, reach: Any, front: Any) -> Any:
    """Run the searches that start at nodes[:n_found]; return how many nodes they met.

    nodes[i] is the i-th node met and slot[nodes[i]] = i + 1 (0: not met); bit j of reach[i] says that search j met it;
    front (2, n) holds, for this hop and the next, the searches that arrived at node i with it.
    """
    n_tokens = nodes.size // 3
    active, waiting = n_tokens, 2 * n_tokens
    n_active = n_found
    for i in range(n_found):
        nodes[active + i] = i
        front[0, i] = reach[i]
        front[1, i] = np.uint64(0)
    now = 0
    for _ in range(radius):
        n_waiting = 0
        for k in range(n_active):
            i = nodes[active + k]
            arrived = front[now, i]
            front[now, i] = np.uint64(0)
            for edge in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
                other = indices[edge]
                j = slot[other] - 1
                if j < 0:
                    j = n_found
                    n_found += 1
                    slot[other] = n_found
                    nodes[j] = other
                    reach[j] = front[0, j] = front[1, j] = np.uint64(0)
                fresh = arrived & ~reach[j]
                if fresh:
                    if front[1 - now, j] == 0:
                        nodes[waiting + n_waiting] = j
                        n_waiting += 1
                    front[1 - now, j] |= fresh
                    reach[j] |= fresh
        active, waiting = waiting, active
        n_active = n_waiting
        now = 1 - now
        if n_active == 0:
            break
    return n_found


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def search_balls(
    indptr: Any, indices: Any, order: Any, concepts: Any, radius: Any, first: Any, last: Any, wanted: Any
) -> None:
    """Spend the balls of the tokens in words first to last (exclusive) of `order` (n_tokens,)."""
    n_tokens = concepts.size
    # Pages of these arrays are touched only as far as a ball reaches; slot must start, and ends, as zeros.
    slot = np.zeros(n_tokens, np.int32)
    nodes = np.empty(3 * n_tokens, np.int32)
    reach = np.empty(n_tokens, np.uint64)
    front = np.empty((2, n_tokens), np.uint64)
    histogram = np.empty((WORD, wanted.weights.shape[1]), np.int32)
    partial = np.empty(SLOT_STEP)
    for word in range(first, last):
        members = order[word * WORD : (word + 1) * WORD]
        for lane in range(members.size):
            slot[members[lane]] = lane + 1
            nodes[lane] = members[lane]
            reach[lane] = np.uint64(1) << np.uint64(lane)
        n_found = _grow(indptr, indices, radius, members.size, slot, nodes, reach, front)
        histogram[:] = 0
        for i in range(n_found):
            slot[nodes[i]] = 0
            concept = concepts[nodes[i]]
            bits = reach[i]
            while bits:
                histogram[_lowest_bit(bits), concept] += 1
                bits &= bits - np.uint64(1)
        _spend(histogram, members, members.size, concepts, partial, wanted)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def search_ball(indptr: Any, indices: Any, token: Any, radius: Any) -> Any:
    """Tokens within radius hops of one token, nearest first."""
    met = np.zeros(indptr.size - 1, np.bool_)
    nodes = np.empty(indptr.size - 1, np.int32)
    met[token] = True
    nodes[0] = token
    start, n_met = 0, 1
    for _ in range(radius):
        rim_end = n_met
        for k in range(start, rim_end):
            for edge in range(indptr[nodes[k]], indptr[nodes[k] + 1]):
                other = indices[edge]
                if not met[other]:
                    met[other] = True
                    nodes[n_met] = other
                    n_met += 1
        start = rim_end
        if n_met == rim_end:
            break
    return nodes[:n_met].copy()
