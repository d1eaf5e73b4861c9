"""The compiled hop kernels: what lies within `radius` hops of every token.

Both kernels run 64 breadth-first searches at once, one per bit of a machine word, and end in the same
integers: ``histogram[lane, b]``, how many tokens of concept b lie in the ball of one token, itself included.

- `search_balls` walks the edges of any graph. Its 64 tokens are neighbours of each other, so that an edge
  is followed once for all the searches that cross it.
- `slide_boxes` is for the 8-neighbour lattice, where a ball without holes is a box. A histogram slides along
  64 cells of a row over boxes of (2 radius + 1)^2 cells; tokens that holes put out of reach are taken out
  again, and which these are is found by flooding all 64 boxes at once.

From the integers on the code is shared (`_spend`), so scores and counts are identical bit for bit,
whichever kernel ran and in however many strips. Kernels release the GIL and share nothing that they
write; they are not compiled with ``parallel=True``, because numba's own threading layer must not be
entered from several Python threads, as napari and Dask do. All of them are in this one file because
numba's cache of a kernel notices a change of its own file only.
"""

# numba compiles these functions from their source: they index arrays where Python would iterate.
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "GROUP",
    "MAX_BOX_RADIUS",
    "SLOT_STEP",
    "WORD",
    "Wanted",
    "blob_order",
    "rank_table",
    "search_ball",
    "search_balls",
    "slide_boxes",
]

WORD = 64
"""Searches that run at once: the bits of a machine word."""
SLOT_STEP = 8
"""Histograms are padded to a multiple of this many slots, a SIMD register of integers."""
GROUP = 8
"""Rows of a tile that are flooded at once, so that the innermost loops are long enough for SIMD."""
MAX_BOX_RADIUS = 31
"""Largest radius of `slide_boxes`: 64 columns and a margin of 31 on both sides fit in two words."""


class Wanted(NamedTuple):
    """What a kernel writes; a result that is not wanted has length 0 along its first axis.

    scores (n_tokens,) float64 = monograms[c] + sum over b of weights[c, b] histogram[b];
    pairs (n_concepts, n_slots) int64 += histogram, in the row of the token's concept c;
    near (n_tokens, n_concepts) int32 = histogram. Slots beyond the concepts are for holes and padding.
    """

    monograms: NDArray[np.float64]
    weights: NDArray[np.float64]
    scores: NDArray[np.float64]
    pairs: NDArray[np.int64]
    near: NDArray[np.int32]


class _Tile(NamedTuple):
    """Memory for one tile of the lattice: up to 64 x 64 cells, and a margin of `radius` around them."""

    cells: NDArray[np.uint32]  # (height + 2 radius, width + 2 radius) concepts; the last slot where there is no token
    holes: NDArray[np.int64]  # (height + 2 radius,) cells of the row that are in the lattice and hold no token
    words: NDArray[np.uint64]  # (height + 2 radius + GROUP, span) which of the 64 have a token b columns further
    columns: NDArray[np.int32]  # (width + 2 radius, n_slots) histogram of the `span` cells of a column
    histogram: NDArray[np.int32]  # (64, n_slots)
    members: NDArray[np.int32]  # (64,) tokens of the row, -1 for none
    lost: NDArray[np.uint64]  # (span, span * GROUP) per offset and row: whose box holds a token out of reach there
    reach: NDArray[np.uint64]  # (span + 2, (span + 2) * GROUP) per offset and row: who has come so far
    spread: NDArray[np.uint64]  # as reach


@intrinsic
def _trailing_zeros(_typing_context: Any, _bits: Any) -> Any:
    """Index of the lowest set bit of a uint64 that is not 0."""

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), codegen


_lowest_bit: Any = _trailing_zeros


@njit(nogil=True, cache=True)
def _score(weights: Any, histogram: Any) -> Any:
    """Dot product over concepts, in ascending order: the order is part of the result."""
    score = 0.0
    for concept in range(weights.size):
        score += weights[concept] * histogram[concept]
    return score


@njit(nogil=True, cache=True)
def _spend(histogram: Any, members: Any, n_members: Any, concepts: Any, wanted: Any) -> None:
    """Turn the histograms of up to 64 tokens into what is wanted; members (64,): tokens, -1 for none."""
    for lane in range(n_members):
        token = members[lane]
        if token < 0:
            continue
        concept = concepts[token]
        if wanted.scores.size:
            pairs = _score(wanted.weights[concept], histogram[lane])
            wanted.scores[token] = wanted.monograms[concept] + pairs
        if wanted.pairs.size:
            for slot in range(histogram.shape[1]):
                wanted.pairs[concept, slot] += histogram[lane, slot]
        if wanted.near.size:
            wanted.near[token] = histogram[lane, : wanted.near.shape[1]]


# ---- any graph ----


@njit(nogil=True, cache=True)
def blob_order(indptr: Any, indices: Any) -> Any:
    """Tokens in an order in which every 64 are near each other: (n_tokens,) int32.

    Breadth-first, 64 at a time; the next blob starts at the rim of those before, or at the first token left.
    """
    n_tokens = indptr.size - 1
    order, rim = np.empty(n_tokens, np.int32), np.empty(n_tokens, np.int32)
    state = np.zeros(n_tokens, np.uint8)  # 0 untouched, 1 on the rim of a blob, 2 placed
    n_placed = n_rim = rim_start = seed = 0
    while n_placed < n_tokens:
        while rim_start < n_rim and state[rim[rim_start]] == 2:
            rim_start += 1
        while rim_start == n_rim and state[seed] == 2:
            seed += 1
        order[n_placed] = rim[rim_start] if rim_start < n_rim else seed
        state[order[n_placed]] = 2
        head = n_placed
        n_placed += 1
        full = head + WORD
        while head < n_placed:
            for edge in range(indptr[order[head]], indptr[order[head] + 1]):
                other = indices[edge]
                if state[other] < 2 and n_placed < full:
                    order[n_placed] = other
                    state[other] = 2
                    n_placed += 1
                elif state[other] == 0:
                    rim[n_rim] = other
                    state[other] = 1
                    n_rim += 1
            head += 1
    return order


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def _meet(indptr: Any, indices: Any, radius: Any, members: Any, place: Any, nodes: Any, reach: Any) -> Any:
    """List the tokens within radius hops of any of the members in nodes; return how many lie within each hop.

    place of the i-th is i + 1 (0: not met). Column i + 1 of reach (2, n_tokens + 1) is made ready for `_search`:
    bit j for the j-th member, else 0.
    """
    within = np.empty(radius + 1, np.int64)
    n_met = 0
    for token in members:
        nodes[n_met] = token
        n_met += 1
        place[token] = n_met
        reach[:, n_met] = np.uint64(1) << np.uint64(n_met - 1)
    within[0] = n_met
    start = 0
    for hop in range(1, radius + 1):
        stop = n_met
        for i in range(start, stop):
            for edge in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
                other = indices[edge]
                if place[other] == 0:
                    nodes[n_met] = other
                    n_met += 1
                    place[other] = n_met
                    reach[:, n_met] = np.uint64(0)
        start = stop
        within[hop] = n_met
    return within


@njit(nogil=True, cache=True)
def _search(indptr: Any, indices: Any, within: Any, place: Any, nodes: Any, reach: Any) -> Any:
    """Run the searches for within.size - 1 hops; return the row of reach that they end in.

    A token is met in one hop more than its neighbours. Tokens that were not met share place 0, where reach is 0.
    """
    now, then = reach[0], reach[1]
    everyone = np.uint64(0)
    for i in range(within[0]):
        everyone |= now[i + 1]
    for hop in range(1, within.size):
        changed = np.uint64(0)
        for i in range(within[hop]):
            met = now[i + 1]
            if met != everyone:
                for edge in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
                    met |= now[place[indices[edge]]]
                changed |= met ^ now[i + 1]
            then[i + 1] = met
        now, then = then, now
        if not changed:
            break
    return now


@njit(nogil=True, cache=True)
def search_balls(
    indptr: Any, indices: Any, order: Any, concepts: Any, radius: Any, first: Any, last: Any, wanted: Any
) -> None:
    """Spend the balls of the tokens in words first to last (exclusive) of order (n_tokens,)."""
    n_tokens = concepts.size
    place = np.zeros(n_tokens, np.uint32)
    # The system gives pages only as they are touched: these cost what the largest balls cost.
    nodes = np.empty(n_tokens, np.uint32)
    reach = np.empty((2, n_tokens + 1), np.uint64)
    reach[:, 0] = np.uint64(0)
    histogram = np.empty((WORD, wanted.pairs.shape[1]), np.int32)
    for word in range(first, last):
        members = order[word * WORD : (word + 1) * WORD]
        within = _meet(indptr, indices, radius, members, place, nodes, reach)
        met = _search(indptr, indices, within, place, nodes, reach)
        histogram[:] = 0
        for i in range(within[-1]):
            place[nodes[i]] = 0
            concept = concepts[nodes[i]]
            bits = met[i + 1]
            while bits:
                histogram[_lowest_bit(bits), concept] += 1
                bits &= bits - np.uint64(1)
        _spend(histogram, members, members.size, concepts, wanted)


# ---- the lattice ----


@njit(nogil=True, cache=True)
def rank_table(mask: Any, width: Any) -> Any:
    """How many tokens come before cell (row, block * width): (rows, blocks) int64."""
    rows, cols = mask.shape
    table = np.empty((rows, (cols + width - 1) // width), np.int64)
    n_before = 0
    for row in range(rows):
        for block in range(table.shape[1]):
            table[row, block] = n_before
            n_before += mask[row, block * width : (block + 1) * width].sum()
    return table


@njit(nogil=True, cache=True)
def _new_tile(height: Any, width: Any, radius: Any, n_slots: Any) -> Any:
    """Memory for tiles of one size."""
    span = 2 * radius + 1
    return _Tile(
        cells=np.empty((height + span - 1, width + span - 1), np.uint32),
        holes=np.empty(height + span - 1, np.int64),
        words=np.zeros((height + span - 1 + GROUP, span), np.uint64),
        columns=np.empty((width + span - 1, n_slots), np.int32),
        histogram=np.empty((WORD, n_slots), np.int32),
        members=np.empty(WORD, np.int32),
        lost=np.empty((span, span * GROUP), np.uint64),
        reach=np.empty((span + 2, (span + 2) * GROUP), np.uint64),
        spread=np.empty((span + 2, (span + 2) * GROUP), np.uint64),
    )


@njit(nogil=True, cache=True)
def _load(mask: Any, ranks: Any, width: Any, concepts: Any, top: Any, left: Any, tile: Any) -> None:
    """Fill cells and holes of a tile; (top, left) is the corner of its margin and may lie outside."""
    rows, cols = mask.shape
    empty = tile.columns.shape[1] - 1
    start, stop = max(left, 0), min(left + tile.cells.shape[1], cols)
    block = start // width
    tile.cells[:] = empty
    for i in range(tile.cells.shape[0]):
        row = top + i
        tile.holes[i] = 0
        if not 0 <= row < rows:
            continue
        token = ranks[row, block] + mask[row, block * width : start].sum()
        first = token
        for col in range(start, stop):
            if mask[row, col]:
                tile.cells[i, col - left] = concepts[token]
                token += 1
        tile.holes[i] = (stop - start) - (token - first)


@njit(nogil=True, cache=True)
def _pack(tile: Any, n_cols: Any) -> None:
    """Fill the words of a tile: bit j of words[i, b] says that cells[i, j + b] holds a token."""
    empty = tile.columns.shape[1] - 1
    lanes = ~np.uint64(0) >> np.uint64(WORD - n_cols)
    for i in range(tile.cells.shape[0]):
        low = high = np.uint64(0)
        for col in range(tile.cells.shape[1]):
            present = np.uint64(tile.cells[i, col] != empty)
            if col < WORD:
                low |= present << np.uint64(col)
            else:
                high |= present << np.uint64(col - WORD)
        tile.words[i, 0] = low & lanes
        for shift in range(1, tile.words.shape[1]):
            tile.words[i, shift] = (low >> np.uint64(shift) | high << np.uint64(WORD - shift)) & lanes


@njit(nogil=True, cache=True)
def _flood(tile: Any, row: Any, radius: Any) -> None:
    """Find what is out of reach in the boxes of GROUP rows of 64 cells, from `row` of the tile on.

    A cell reaches the offset (a, b) in k hops if there is a token, and one of the 9 offsets around is reached
    in k - 1. Planes of offsets hold GROUP words each; those of `reach` and `spread` have a border of zeros.
    """
    span = 2 * radius + 1
    for a in range(span):
        for b in range(span):
            for g in range(GROUP):
                tile.lost[a, b * GROUP + g] = tile.words[row + g + a, b]
    tile.reach[:] = np.uint64(0)
    tile.spread[:] = np.uint64(0)
    middle = (radius + 1) * GROUP
    tile.reach[radius + 1, middle : middle + GROUP] = tile.lost[radius, middle - GROUP : middle]
    for hop in range(1, radius + 1):
        low, high = radius + 1 - hop, radius + 1 + hop
        for a in range(low + 1, high):
            line, wider = tile.reach[a], tile.spread[a]
            for x in range(low * GROUP, (high + 1) * GROUP):
                wider[x] = line[x - GROUP] | line[x] | line[x + GROUP]
        for a in range(low, high + 1):
            above, here, below = tile.spread[a - 1], tile.spread[a], tile.spread[a + 1]
            line, present = tile.reach[a], tile.lost[a - 1]
            for x in range(low * GROUP, (high + 1) * GROUP):
                line[x] = (above[x] | here[x] | below[x]) & present[x - GROUP]
    for a in range(span):
        for b in range(span):
            for g in range(GROUP):
                missed = ~tile.reach[a + 1, (b + 1) * GROUP + g] & tile.reach[radius + 1, middle + g]
                tile.lost[a, b * GROUP + g] &= missed


@njit(nogil=True, cache=True)
def _slide(tile: Any, n_cols: Any, span: Any) -> None:
    """Histograms of the boxes around 64 cells of a row, from those of its columns."""
    columns, histogram = tile.columns, tile.histogram
    histogram[0] = columns[0]
    for b in range(1, span):
        for slot in range(histogram.shape[1]):
            histogram[0, slot] += columns[b, slot]
    for lane in range(1, n_cols):
        before, here = histogram[lane - 1], histogram[lane]
        enters, leaves = columns[lane + span - 1], columns[lane - 1]
        for slot in range(here.size):
            here[slot] = before[slot] + enters[slot] - leaves[slot]


@njit(nogil=True, cache=True)
def _take_out(tile: Any, row: Any, span: Any) -> None:
    """Subtract what is out of reach from the histograms of a row of the tile."""
    for a in range(span):
        for b in range(span):
            bits = tile.lost[a, b * GROUP + row % GROUP]
            while bits:
                lane = _lowest_bit(bits)
                tile.histogram[lane, tile.cells[row + a, lane + b]] -= 1
                bits &= bits - np.uint64(1)


@njit(nogil=True, cache=True)
def _spend_tile(tile: Any, n_rows: Any, n_cols: Any, radius: Any, first: Any, concepts: Any, wanted: Any) -> None:
    """Spend the boxes of n_rows x n_cols cells; first (n_rows,): the token that each row starts with."""
    span = 2 * radius + 1
    empty = tile.columns.shape[1] - 1
    # A rectangle without holes is a box even where the lattice ends: every token in it is within reach.
    n_holes = tile.holes[: 2 * radius].sum()
    if tile.holes.sum():
        _pack(tile, n_cols)
    tile.columns[:] = 0
    for i in range(2 * radius):
        for col in range(n_cols + 2 * radius):
            tile.columns[col, tile.cells[i, col]] += 1
    for row in range(n_rows):
        n_holes += tile.holes[row + 2 * radius]
        for col in range(n_cols + 2 * radius):
            tile.columns[col, tile.cells[row + 2 * radius, col]] += 1
        _slide(tile, n_cols, span)
        if row % GROUP == 0 and tile.holes[row : row + GROUP + 2 * radius].sum():
            _flood(tile, row, radius)
        if n_holes:
            _take_out(tile, row, span)
        token = first[row]
        for lane in range(n_cols):
            here = tile.cells[row + radius, lane + radius] != empty
            tile.members[lane] = token if here else -1
            token += here
        _spend(tile.histogram, tile.members, n_cols, concepts, wanted)
        n_holes -= tile.holes[row]
        for col in range(n_cols + 2 * radius):
            tile.columns[col, tile.cells[row, col]] -= 1


@njit(nogil=True, cache=True)
def slide_boxes(
    mask: Any, ranks: Any, height: Any, width: Any, concepts: Any, radius: Any, first: Any, last: Any, wanted: Any
) -> None:
    """Spend the balls of the tokens in tiles first to last (exclusive) of height x width cells."""
    rows, cols = mask.shape
    n_across = ranks.shape[1]
    tile = _new_tile(height, width, radius, wanted.pairs.shape[1])
    for number in range(first, last):
        top, block = number // n_across * height, number % n_across
        left = block * width
        n_rows, n_cols = min(height, rows - top), min(width, cols - left)
        if mask[top : top + n_rows, left : left + n_cols].any():
            _load(mask, ranks, width, concepts, top - radius, left - radius, tile)
            _spend_tile(tile, n_rows, n_cols, radius, ranks[top : top + n_rows, block], concepts, wanted)
