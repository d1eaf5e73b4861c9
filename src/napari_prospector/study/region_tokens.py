"""From regions to tokens: which tokens lie in which region, regions as truth, and regions as data to fit from.

A token lies in a region if more than `min_share` of its tile does; areas are exact. Where regions overlap, the one that
was drawn later lies on top, and "not here" lies on top of all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.coverage import box_areas
from napari_prospector.core.graph import TokenGraph, grid_graph
from napari_prospector.core.labels import FEWEST_PER_CLASS
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import NOT_HERE, Region, region_of_shape
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import TokenGrid

__all__ = [
    "RegionGraphs",
    "check_enough_regions",
    "region_graphs",
    "region_shares",
    "region_truth",
    "split_regions",
    "tokens_of",
]

_SAME_SHARE = 1e-9  # shares that differ by less are the same area, but for rounding
_PIECES_PER_CLASS, _LARGEST_PIECE = 5, 256

Window = tuple[slice, slice]


def region_shares(
    region: Region, geometry: GridGeometry, slide_shape: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """Return the share of each token's tile that a region covers.

    Parameters
    ----------
    region
        Any.
    geometry
        Where the tokens lie.
    slide_shape
        (rows, cols) of level 0: of tiles that reach beyond the slide, only what lies within counts. None: whole tiles.

    Returns
    -------
    NDArray[np.float64]
        Shape (rows, cols), 0 to 1; areas are exact but for rounding (about 1e-12 of a tile).

    Examples
    --------
    >>> grid = GridGeometry(rows=1, cols=3, tile=4, stride=4, origin=(0, 0), slide_mpp=0.25)
    >>> region_shares(Region((([[0, 0], [0, 6], [4, 6], [4, 0]],),)), grid).tolist()
    [[1.0, 0.5, 0.0]]
    """
    shares = np.zeros(geometry.shape)
    found = _window_shares(region, geometry, slide_shape, geometry.tile)
    if found is not None:
        window, part = found
        shares[window] = part
    return shares


def _window_shares(
    region: Region, geometry: GridGeometry, slide_shape: tuple[int, int] | None, width: int
) -> tuple[Window, NDArray[np.float64]] | None:
    """Return the part of the grid that a region reaches and the shares in it, None where it reaches no token.

    Shares are those of squares of a width around the centres of the tiles.
    """
    row0, col0, row1, col1 = region.bounds
    windows, boxes = [], []
    for axis, (first, last) in enumerate(((row0, row1), (col0, col1))):
        origin = geometry.origin[axis] + (geometry.tile - width) / 2
        start = max(int((first - origin - width) // geometry.stride), 0)
        stop = min(int((last - origin) // geometry.stride) + 1, geometry.shape[axis])
        if start >= stop:
            return None
        starts = origin + np.arange(start, stop) * geometry.stride
        spans = np.stack([starts, starts + width], axis=1)
        windows.append(slice(start, stop))
        boxes.append(spans if slide_shape is None else spans.clip(0, slide_shape[axis]))
    areas = box_areas(_directed_rings(region.shape), boxes[0], boxes[1])
    heights, widths = (np.diff(spans, axis=1)[:, 0] for spans in boxes)
    # a tile that lies outside of the slide has no area, and no share
    full = np.maximum(np.outer(heights, widths), np.finfo(np.float64).tiny)
    return (windows[0], windows[1]), (areas / full).clip(0, 1)


def _directed_rings(shape: Any) -> list[NDArray[np.float64]]:
    """Return the rings of a valid shapely geometry, outer ones running from rows to columns, holes the other way."""
    import shapely

    rings = []
    for piece in shapely.get_parts(shape):
        for number, ring in enumerate((piece.exterior, *piece.interiors)):
            points = shapely.get_coordinates(ring)[:-1]
            row, col = (points - points[0]).T
            is_positive = row @ np.roll(col, -1) - col @ np.roll(row, -1) > 0
            rings.append(points if is_positive == (number == 0) else points[::-1])
    return rings


def tokens_of(
    regions: Sequence[Region],
    geometry: GridGeometry,
    min_share: float = 0.5,
    slide_shape: tuple[int, int] | None = None,
    by: Literal["tile", "cell"] = "tile",
) -> NDArray[np.int32]:
    """Say in which region each token lies.

    Parameters
    ----------
    regions
        In the order in which they were drawn.
    geometry, slide_shape
        As in `region_shares`.
    min_share
        A token lies in a region if more than this share of its tile does, 0 to 1.
    by
        "tile": all that the token looks at. "cell": the square around its centre, as wide as the stride, that stands
        for it on maps; whatever the stride, `study.outlines.outlines` of a mask holds just the tokens of the mask.

    Returns
    -------
    NDArray[np.int32]
        Shape (rows, cols): the number of the region, or -1. Of several regions it is the one that covers most of the
        tile; where they cover the same, one of class "not here", else the one drawn last.

    Raises
    ------
    InvalidInputError
        `min_share` is no share, or `by` is none of the two.
    """
    _check_share(min_share)
    if by not in {"tile", "cell"}:
        raise InvalidInputError(f"by must be 'tile' or 'cell'; got {by!r}.")
    width = geometry.tile if by == "tile" else geometry.stride
    owner = np.full(geometry.shape, -1, dtype=np.int32)
    best = np.zeros(geometry.shape)
    for number in sorted(range(len(regions)), key=lambda number: regions[number].label == NOT_HERE):
        found = _window_shares(regions[number], geometry, slide_shape, width)
        if found is None:
            continue
        window, shares = found
        wins = (shares > min_share) & (shares >= best[window] - _SAME_SHARE)
        owner[window][wins] = number
        best[window][wins] = shares[wins]
    return owner


def _check_share(min_share: float) -> None:
    """Refuse what is no share."""
    if not 0 <= min_share < 1:
        raise InvalidInputError(f"min_share must be a share of a tile, 0 or more and below 1; got {min_share!r}.")


def region_truth(
    regions: Sequence[Region],
    target: str,
    geometry: GridGeometry,
    mask: ArrayLike,
    min_share: float = 0.5,
    *,
    outside: int = -1,
    slide_shape: tuple[int, int] | None = None,
) -> NDArray[np.int8]:
    """Take regions as the truth that maps are measured against.

    Parameters
    ----------
    regions
        In the order in which they were drawn; regions without a class, and those of QuPath's classes that end in an
        asterisk (Ignore*, Region*), make what they cover unknown.
    target
        The class whose regions are positive. Those of all other classes, "not here" among them, are negative.
    geometry, slide_shape
        As in `region_shares`.
    mask
        (rows, cols) bool: where there is a token.
    min_share
        As in `tokens_of`, but of all regions of a kind together.
    outside
        What tokens in no region are: -1 unknown, 0 negative ("all that is positive was drawn").

    Returns
    -------
    NDArray[np.int8]
        Shape (n_tokens,), in the order of `TokenGrid.graph`: 1 positive, 0 negative, -1 unknown.

    Raises
    ------
    InvalidInputError
        `min_share` or `outside` is none of these.
    MismatchError
        `mask` is not of this grid.
    """
    _check_share(min_share)
    if outside not in {-1, 0}:
        raise InvalidInputError(f"outside must be -1, unknown, or 0, negative; got {outside!r}.")
    cells = np.asarray(mask, dtype=bool)
    geometry.check_shape("mask", cells.shape)
    truth = np.full(geometry.shape, outside, dtype=np.int8)
    for mark, region in _painted(regions, target).items():
        found = None if region is None else _window_shares(region, geometry, slide_shape, geometry.tile)
        if found is not None:
            window, shares = found
            truth[window][shares > min_share] = mark
    return np.asarray(truth[cells])


def _painted(regions: Iterable[Region], target: str) -> dict[int, Region | None]:
    """Paint regions over each other, and return what is left to see of unknown (-1), negative (0), positive (1)."""
    import shapely

    def mark_of(region: Region) -> int:
        if region.label is None or (region.label.endswith("*") and region.label != target):
            return -1
        return int(region.label == target)

    in_order = sorted(regions, key=lambda region: region.label == NOT_HERE)
    shapes = np.array([region.shape for region in in_order], dtype=object)
    marks = np.array([mark_of(region) for region in in_order], dtype=int)
    below, above = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    covers = (above > below) & (marks[above] != marks[below])
    seen: dict[int, list[Any]] = {-1: [], 0: [], 1: []}
    for number, shape in enumerate(shapes):
        hidden = shapely.union_all(shapes[above[covers & (below == number)]])
        seen[int(marks[number])].append(shape if hidden.is_empty else shape.difference(hidden))
    return {mark: region_of_shape(shapely.union_all(np.array(visible, dtype=object))) for mark, visible in seen.items()}


class RegionGraphs(NamedTuple):
    """Regions as data of their own: what `ProspectorHead.fit` takes.

    Attributes
    ----------
    graphs
        One a region: its tokens and the edges between them.
    labels
        The class of each.
    ids
        Of the regions; of pieces, the id of the region and a number.
    groups
        For `fit`, so that pieces of one region are never divided between folds: the id of the region.
    """

    graphs: tuple[TokenGraph, ...]
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]


def region_graphs(
    grid: TokenGrid,
    regions: Sequence[Region],
    labels: Collection[str] | None = None,
    min_share: float = 0.5,
) -> RegionGraphs:
    """Take the labelled regions of a slide as data, so that a head can be fitted from one slide.

    Parameters
    ----------
    grid
        Of the slide. Only finished tokens count, less those that it leaves out.
    regions
        In the order in which they were drawn. Regions without a class are no data.
    labels
        The classes to take; None: all but "not here", whose tokens are in no datum either way.
    min_share
        As in `tokens_of`. A token belongs to one region only, so that no token is in two data.

    Returns
    -------
    RegionGraphs
        Positions are (row, col) in the grid; hops end at the border of a region.

    Raises
    ------
    InvalidInputError
        A region has no token; the message names it. Or no region has a class.

    Notes
    -----
    Regions of one slide share its stain and scanner: what a head learns from them holds for this slide first.
    Take regions of several slides together by joining the tuples, with the slides' names as groups.
    """
    meant = [
        number
        for number, region in enumerate(regions)
        if region.label is not None and (region.label != NOT_HERE if labels is None else region.label in labels)
    ]
    if not meant:
        wanted = "a class" if labels is None else f"a class of {', '.join(map(repr, labels))}"
        raise InvalidInputError(f"At least one region must have {wanted}; none of {len(regions)} has. Label them.")
    owner = tokens_of(regions, grid.geometry, min_share, grid.attrs["level0_shape"])
    owner[~grid.usable()] = -1
    empty = [regions[number] for number in meant if not (owner == number).any()]
    if empty:
        raise InvalidInputError(
            f"Every region must hold a token; {_told(empty)} none. A token counts if more than {min_share:.0%} of its "
            f"tile ({grid.geometry.tile} px) lies in the region and it is embedded: draw larger, or leave these out."
        )
    graphs = _cut_out(grid, np.where(np.isin(owner, meant), owner, -1), meant)
    names = tuple(str(regions[number].label) for number in meant)
    ids = tuple(regions[number].id for number in meant)
    return RegionGraphs(tuple(graphs), names, ids, ids)


def _told(regions: Sequence[Region]) -> str:
    """Return regions as people know them, with the verb."""
    names = [f"{region.name or region.id!r} ({region.label})" for region in regions[:5]]
    more = f" and {len(regions) - 5} more" if len(regions) > 5 else ""
    return f"{', '.join(names)}{more} {'have' if len(regions) > 1 else 'has'}"


def _cut_out(grid: TokenGrid, owner: NDArray[np.int32], numbers: Sequence[int]) -> list[TokenGraph]:
    """Return the graph of the tokens of each number in `owner` (rows, cols); blocks without any are not kept."""
    order = np.full(owner.shape, -1, dtype=np.int64)
    wanted = owner >= 0
    order[wanted] = np.arange(int(wanted.sum()))
    embeddings = np.empty((int(wanted.sum()), grid.n_dims), grid.embeddings.dtype)
    for tokens, block in grid.iter_blocks():
        places = order[tokens[:, 0], tokens[:, 1]]
        embeddings[places[places >= 0]] = block[places >= 0]
    graphs = []
    for number in numbers:
        cells = np.argwhere(owner == number)
        (top, left), (bottom, right) = cells.min(axis=0), cells.max(axis=0) + 1
        mask = owner[top:bottom, left:right] == number
        graphs.append(grid_graph(mask, embeddings[order[cells[:, 0], cells[:, 1]]], cells.astype(np.float64)))
    return graphs


def check_enough_regions(labels: Sequence[str]) -> None:
    """Refuse what no head can be fitted on, in words for people who draw.

    Parameters
    ----------
    labels
        The class of each region.

    Raises
    ------
    InvalidInputError
        There are fewer than two classes, or fewer than 3 regions of one.
    """
    counts = {label: list(labels).count(label) for label in dict.fromkeys(labels)}
    if len(counts) < 2:
        raise InvalidInputError(
            f"Regions of at least two classes are needed; got {', '.join(map(repr, counts)) or 'none'}. Draw regions "
            "of another class too, such as normal tissue."
        )
    few = [f"{label!r} has {n}" for label, n in counts.items() if n < FEWEST_PER_CLASS]
    if few:
        raise InvalidInputError(
            f"Each class needs at least {FEWEST_PER_CLASS} regions; {', '.join(few)}. Draw more; or let large regions "
            "be cut into pieces (split_regions): pieces of one region cannot show how well others are found."
        )


def split_regions(found: RegionGraphs, n_tokens: int | None = None) -> RegionGraphs:
    """Cut large regions into connected pieces, so that a slide with one or two regions a class can be fitted.

    Parameters
    ----------
    found
        Of `region_graphs`.
    n_tokens
        About how many tokens a piece should hold; None: so few that the class with the fewest tokens makes five
        pieces, at most 256.

    Returns
    -------
    RegionGraphs
        Pieces in the order of their regions. Each is connected and holds at least half of `n_tokens`, but for parts of
        a region that are smaller by themselves. `groups` are the regions as before.

    Raises
    ------
    InvalidInputError
        `n_tokens` is below 1.

    Notes
    -----
    Pieces of one region look alike. Pass `groups` to `fit`, then no fold holds pieces of a region that others of its
    pieces were fitted on: with two regions or more of each class, what is said of the head is said of regions that it
    had not seen. With a single region of a class nothing can be held out, and the head's notes say so.
    """
    if n_tokens is None:
        totals: dict[str, int] = dict.fromkeys(found.labels, 0)
        for graph, label in zip(found.graphs, found.labels, strict=True):
            totals[label] += graph.n_tokens
        n_tokens = max(min(min(totals.values()) // _PIECES_PER_CLASS, _LARGEST_PIECE), 1)
    if n_tokens < 1:
        raise InvalidInputError(f"n_tokens must be at least 1 token a piece; got {n_tokens!r}.")
    graphs, labels, ids, groups = [], [], [], []
    for graph, label, name, group in zip(*found, strict=True):
        pieces = _pieces(graph, n_tokens)
        graphs += [graph.subset(piece) for piece in pieces]
        ids += [name] if len(pieces) == 1 else [f"{name}/{number}" for number in range(1, len(pieces) + 1)]
        labels += [label] * len(pieces)
        groups += [group] * len(pieces)
    return RegionGraphs(tuple(graphs), tuple(labels), tuple(ids), tuple(groups))


def _pieces(graph: TokenGraph, n_tokens: int) -> list[NDArray[np.int64]]:
    """Cut a graph into connected pieces of about n_tokens; each the numbers (n,) of its tokens, ascending."""
    adjacency = _adjacency(graph)
    waiting = _components(adjacency, np.arange(graph.n_tokens))[::-1]
    pieces = []
    while waiting:
        piece = waiting.pop()
        n_parts = round(len(piece) / n_tokens)
        if n_parts < 2:
            pieces.append(piece)
            continue
        # cut across the longer side, so that the parts hold whole numbers of pieces
        places = graph.positions[piece]
        order = np.argsort(places[:, np.ptp(places, axis=0).argmax()], kind="stable")
        cut = len(piece) * (n_parts // 2) // n_parts
        halves = [np.sort(piece[order[:cut]]), np.sort(piece[order[cut:]])]
        waiting += [part for half in halves[::-1] for part in _components(adjacency, half)[::-1]]
    return _without_crumbs(adjacency, pieces, (n_tokens + 1) // 2)


def _adjacency(graph: TokenGraph) -> Any:
    """Return the edges as a sparse matrix (n_tokens, n_tokens)."""
    from scipy.sparse import csr_array

    edges = np.ones(len(graph.indices), dtype=np.int8)
    return csr_array((edges, graph.indices, graph.indptr), shape=(graph.n_tokens, graph.n_tokens))


def _components(adjacency: Any, tokens: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the connected parts of some tokens, ascending each."""
    from scipy.sparse.csgraph import connected_components

    n_parts, part = connected_components(adjacency[tokens][:, tokens], directed=False)
    return [tokens[part == number] for number in range(n_parts)]


def _without_crumbs(adjacency: Any, pieces: list[NDArray[np.int64]], least: int) -> list[NDArray[np.int64]]:
    """Join every piece smaller than `least` with the neighbour that it shares most edges with, the smallest first."""
    owner = np.empty(adjacency.shape[0], dtype=np.int64)
    for number, piece in enumerate(pieces):
        owner[piece] = number
    kept = dict(enumerate(pieces))
    settled: set[int] = set()
    while crumbs := [number for number in kept if len(kept[number]) < least and number not in settled]:
        crumb = min(crumbs, key=lambda number: len(kept[number]))
        near = owner[adjacency[kept[crumb]].indices]
        near = near[near != crumb]
        if not near.size:  # a part of the region by itself
            settled.add(crumb)
            continue
        host = int(np.bincount(near).argmax())
        kept[host] = np.sort(np.concatenate([kept[host], kept.pop(crumb)]))
        owner[kept[host]] = host
    return list(kept.values())
