"""Where a piece of a picture lies in a box of it."""

from __future__ import annotations

__all__ = ["overlap"]


def overlap(
    corner: tuple[int, int], extent: tuple[int, int], box: tuple[int, int, int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a piece lies in a box, and which part of the piece that is.

    Parameters
    ----------
    corner, extent
        First (row, col) of the piece, and its (rows, cols).
    box
        (row0, col0, row1, col1); the piece must touch it.

    Examples
    --------
    >>> overlap((64, 0), (64, 48), (70, 10, 80, 100))
    ((slice(0, 10, None), slice(0, 38, None)), (slice(6, 16, None), slice(10, 48, None)))
    """
    place, part = [], []
    for start, size, low, high in zip(corner, extent, box[:2], box[2:], strict=True):
        first, stop = max(start, low), min(start + size, high)
        place.append(slice(first - low, stop - low))
        part.append(slice(first - start, stop - start))
    return (place[0], place[1]), (part[0], part[1])
