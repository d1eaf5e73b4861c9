"""Regions that people draw: their classes, their outlines, and what a brush does to them.

Two conventions, stated once:

- Outlines are (row, col) in level-0 pixels, *continuous and from corner to corner*: pixel (0, 0) covers 0 to 1 along
  both axes, as in QuPath and its GeoJSON. A token's half-open box (`GridGeometry.box`) is therefore an outline as it
  is. napari's world has pixel *centres* at whole numbers; `outline_um` and `outline_px` are the way there and back.
- What lies inside is decided even-odd: an outline that crosses itself, as hands draw them, has a hole where it winds
  twice. Shapely's geometries hold (row, col) as their (x, y) and are made valid; only this file knows.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.colors import concept_colors
from napari_prospector.errors import InvalidInputError

__all__ = [
    "MOST_PX",
    "NOT_HERE",
    "Annotations",
    "AnnotationClass",
    "Region",
    "brush_stroke",
    "default_color",
    "merged",
    "outline_px",
    "outline_um",
    "region_of_shape",
    "subtract",
]

NOT_HERE = "not here"
"""The class of regions where attribution is unwanted."""

MOST_PX = 1e9
"""Beyond any slide; areas stay far below what a float can hold."""

_GREY = (128, 128, 128)

Ring = NDArray[np.float64]
Polygon = tuple[Ring, ...]


@dataclass(frozen=True)
class AnnotationClass:
    """A class of regions and its colour.

    Parameters
    ----------
    name
        Any text that is not empty; kept as it is.
    color
        Red, green, blue, 0 to 255.

    Raises
    ------
    InvalidInputError
        The name is empty or the colour is none.
    """

    name: str
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Check both fields."""
        name: object = self.name
        if not isinstance(name, str) or not name:
            raise InvalidInputError(f"The name of a class must be a text that is not empty; got {self.name!r}.")
        color: object = self.color
        channels = tuple(color) if isinstance(color, Sequence) else ()
        if len(channels) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in channels):
            raise InvalidInputError(f"color must be red, green, blue, whole numbers 0 to 255; got {self.color!r}.")
        object.__setattr__(self, "color", channels)


def default_color(name: str, taken: Iterable[tuple[int, int, int]] = ()) -> tuple[int, int, int]:
    """Return the colour of a new class: the first that is free of those made for colour-blind eyes.

    Parameters
    ----------
    name
        Of the class; "not here" is grey.
    taken
        Colours of the classes that there are.

    Returns
    -------
    tuple
        Red, green, blue, 0 to 255; Okabe and Ito's come first (`core.colors`).

    Examples
    --------
    >>> default_color("tumour", taken=[(0, 114, 178)])
    (230, 159, 0)
    """
    if name == NOT_HERE:
        return _GREY
    used = {tuple(color) for color in taken}
    colors = np.rint(concept_colors(len(used) + 1) * 255).astype(int).tolist()
    red, green, blue = next(color for color in colors if tuple(color) not in used)
    return red, green, blue


@dataclass(frozen=True, eq=False)
class Region:
    """An area of a slide, in one or several pieces, with a class and a name. Equal where all that it holds is equal.

    Parameters
    ----------
    polygons
        Each polygon is its outer ring, then its holes; a ring is (n, 2) float64, (row, col) in level-0 pixels from
        corner to corner, at least 3 points. The first point is not repeated at the end (a repeat is dropped). Kept as
        read-only copies.
    label
        Name of its class; None where it has none.
    name
        What people call this one.
    id
        A text unlike that of any other region, by default a UUID.
    locked
        Whether `merged` and `subtract` leave it as it is.
    extra
        What a GeoJSON file says of it beyond this, by member; written back as it was.

    Raises
    ------
    InvalidInputError
        A ring has fewer than 3 points, or numbers that are not finite or beyond a thousand million pixels; or nothing
        is enclosed.

    Examples
    --------
    >>> square = Region((([[0, 0], [0, 4], [4, 4], [4, 0]], [[1, 1], [1, 2], [2, 2], [2, 1]]),), "tumour")
    >>> square.area_px, square.contains_point(3, 3), square.contains_point(1.5, 1.5)
    (15.0, True, False)
    """

    polygons: tuple[Polygon, ...]
    label: str | None = None
    name: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    locked: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check all fields and keep read-only copies of the rings."""
        label: object = self.label
        if label is not None and (not isinstance(label, str) or not label):
            raise InvalidInputError(f"label must be the name of a class, or None; got {self.label!r}.")
        polygons = tuple(tuple(_checked_ring(ring) for ring in polygon) for polygon in self.polygons)
        object.__setattr__(self, "polygons", polygons)
        if not any(polygons) or not all(polygons):
            raise InvalidInputError("polygons must hold at least one polygon, each with an outer ring; got none.")
        # an outline that crosses itself may enclose something though its signed areas cancel
        if not any(_signed_area(polygon[0]) for polygon in polygons) and not self.shape.area:
            raise InvalidInputError(
                f"A region must enclose an area; the outline of {len(polygons[0][0])} points encloses none. Draw "
                "around what is meant, or use the brush."
            )

    @classmethod
    def _sound(cls, polygons: tuple[Polygon, ...], **fields: Any) -> Region:
        """Region of rings that are known to be sound and read-only; every other field must be given too."""
        region = cls.__new__(cls)
        region.__dict__.update(fields, polygons=polygons)
        return region

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Region):
            return NotImplemented
        return self._words() == other._words() and _same_polygons(self.polygons, other.polygons)

    def __hash__(self) -> int:
        return hash((self.id, self.label, self.name, self.locked))

    def _words(self) -> tuple[Any, ...]:
        """Return all fields but the polygons."""
        return self.id, self.label, self.name, self.locked, self.extra

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be derived."""
        return {name: value for name, value in self.__dict__.items() if name not in {"shape", "bounds"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make read-only again what copies and other processes receive writeable."""
        self.__dict__.update(state)
        for polygon in self.polygons:
            for ring in polygon:
                ring.flags.writeable = False

    @cached_property
    def shape(self) -> Any:
        """Shapely's Polygon or MultiPolygon of the same area, valid and prepared; (row, col) is its (x, y)."""
        import shapely

        polygons = [
            shapely.polygons(outer, [shapely.linearrings(hole) for hole in holes] or None)
            for outer, *holes in self.polygons
        ]
        shape = _areas_of(shapely.multipolygons(polygons) if len(polygons) > 1 else polygons[0])
        shapely.prepare(shape)
        return shape

    @property
    def area_px(self) -> float:
        """What it covers, in square level-0 pixels."""
        return float(self.shape.area)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest box that holds it, (row0, col0, row1, col1)."""
        corners = np.concatenate([polygon[0] for polygon in self.polygons])
        (row0, col0), (row1, col1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return row0, col0, row1, col1

    def contains_point(self, row: float, col: float) -> bool:
        """Say whether a place, in continuous level-0 pixels, lies in the region or on its outline."""
        import shapely

        return bool(shapely.intersects_xy(self.shape, row, col))


def _checked_ring(ring: ArrayLike) -> Ring:
    """Return a ring (n, 2) as a read-only copy, without a repeated last point."""
    try:
        points = np.array(ring, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"A ring must be numbers of shape (n, 2), (row, col); got {error}.") from error
    if points.ndim == 2 and len(points) > 1 and np.array_equal(points[0], points[-1]):
        points = points[:-1].copy()
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise InvalidInputError(f"A ring must have at least 3 points (row, col), shape (n, 2); got {points.shape}.")
    if not (np.abs(points) <= MOST_PX).all():
        worst = points[~(np.abs(points) <= MOST_PX).all(axis=1)][0].tolist()
        raise InvalidInputError(f"A ring must hold finite level-0 pixels, at most {MOST_PX:g}; got the point {worst}.")
    points.flags.writeable = False
    return points


def _signed_area(ring: Ring) -> float:
    """Return the area of a ring by the shoelace formula, negative where it runs the other way."""
    row, col = (ring - ring[0]).T
    return float(row @ np.roll(col, -1) - col @ np.roll(row, -1)) / 2


def _same_polygons(these: tuple[Polygon, ...], those: tuple[Polygon, ...]) -> bool:
    """Say whether all rings hold the same numbers in the same order."""
    if [len(polygon) for polygon in these] != [len(polygon) for polygon in those]:
        return False
    pairs = zip(these, those, strict=True)
    return all(
        one is other or np.array_equal(one, other)
        for polygon, twin in pairs
        for one, other in zip(polygon, twin, strict=True)
    )


def _areas_of(geometry: Any) -> Any:
    """Return what a shapely geometry encloses, even-odd and valid; points and lines are dropped."""
    import shapely

    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
    if geometry.geom_type in {"Polygon", "MultiPolygon"}:
        return geometry
    pieces = shapely.get_parts(shapely.get_parts(geometry))  # a collection may hold multipolygons
    areas = [piece for piece in pieces if piece.geom_type == "Polygon" and not piece.is_empty]
    return areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)


def region_of_shape(geometry: Any, like: Region | None = None, **fields: Any) -> Region | None:
    """Return the region that covers what a shapely geometry encloses.

    Parameters
    ----------
    geometry
        Of shapely, (row, col) as its (x, y). An outline that crosses itself is made valid, even-odd; points and lines
        are dropped.
    like
        A region whose id, class, name, lock and extra members the new one takes.
    **fields
        Fields of `Region` that are to differ.

    Returns
    -------
    Region or None
        None where nothing is enclosed.

    Examples
    --------
    >>> from shapely import Polygon
    >>> bow = region_of_shape(Polygon([(0, 0), (4, 4), (4, 0), (0, 4)]), label="tumour")
    >>> len(bow.polygons), bow.area_px
    (2, 8.0)
    """
    import shapely

    areas = [piece for piece in shapely.get_parts(_areas_of(geometry)) if piece.area > 0]
    polygons = tuple(
        tuple(shapely.get_coordinates(ring) for ring in (piece.exterior, *piece.interiors)) for piece in areas
    )
    if not polygons:
        return None
    return Region(polygons, **fields) if like is None else replace(like, polygons=polygons, **fields)


def brush_stroke(points: ArrayLike, radius_px: float, label: str | None = None, **fields: Any) -> Region:
    """Return what a round brush covers along a path.

    Parameters
    ----------
    points
        Shape (n, 2), at least one point (row, col) in continuous level-0 pixels.
    radius_px
        Of the brush, in level-0 pixels, above 0. Its circle is a polygon of 32 corners.
    label, **fields
        As of `Region`.

    Raises
    ------
    InvalidInputError
        There is no point, a number is not finite, or the radius is not above 0.

    Examples
    --------
    >>> round(brush_stroke([[0, 0], [0, 10]], 1.0).area_px, 2)
    23.12
    """
    import shapely

    path = np.asarray(points, dtype=np.float64)
    if path.ndim != 2 or path.shape[1:] != (2,) or not len(path) or not (np.abs(path) <= MOST_PX).all():
        raise InvalidInputError(f"points must be finite (row, col), shape (n, 2), at least one; got {path.shape}.")
    if not 0 < radius_px <= MOST_PX:
        raise InvalidInputError(f"radius_px must be a positive width in level-0 pixels; got {radius_px!r}.")
    line = shapely.points(path[0]) if len(path) == 1 else shapely.linestrings(path)
    region = region_of_shape(line.buffer(radius_px, quad_segs=8), label=label, **fields)
    if region is None:
        raise InvalidInputError(f"radius_px must be wide enough to cover an area; got {radius_px!r}.")
    return region


def outline_um(ring: ArrayLike, slide_mpp: float) -> NDArray[np.float64]:
    """Return continuous level-0 pixels as µm of napari's world, where pixel centres lie at whole numbers of pixels."""
    return np.asarray((np.asarray(ring, dtype=np.float64) - 0.5) * slide_mpp)


def outline_px(ring: ArrayLike, slide_mpp: float) -> NDArray[np.float64]:
    """Return µm of napari's world as continuous level-0 pixels: the way back from `outline_um`."""
    return np.asarray(np.asarray(ring, dtype=np.float64) / slide_mpp + 0.5)


def merged(regions: Iterable[Region], new: Region) -> tuple[Region, ...]:
    """Add a region, joined with those of its class that it touches: what a brush does.

    Parameters
    ----------
    regions
        Those that there are.
    new
        A stroke of the brush, with a label.

    Returns
    -------
    tuple
        A touched region grows and keeps its id, name and place; where several are touched the first takes in all of
        them. Where none is touched the new region is the last. Locked regions stay as they are. To touch is to
        overlap or to share a piece of outline; one corner is not enough.
    """
    import shapely

    before = tuple(regions)
    touched = [region for region in before if region.label == new.label and not region.locked and _touch(region, new)]
    if not touched:
        return (*before, new)
    union = region_of_shape(shapely.union_all([*(region.shape for region in touched), new.shape]), touched[0])
    gone = {region.id for region in touched[1:]}
    grown = touched[0] if union is None else union
    return tuple(grown if region is touched[0] else region for region in before if region.id not in gone)


def _touch(one: Region, other: Region) -> bool:
    """Say whether two regions share an area or a piece of outline."""
    return _meet(one, other) and one.shape.intersection(other.shape).length > 0


def _meet(one: Region, other: Region) -> bool:
    """Say whether two regions share a point; most of those on a slide are told apart by their boxes, in no time."""
    row0, col0, row1, col1 = one.bounds
    top, left, bottom, right = other.bounds
    if row1 < top or bottom < row0 or col1 < left or right < col0:
        return False
    return bool(one.shape.intersects(other.shape))


def subtract(regions: Iterable[Region], stroke: Region, only: Collection[str] | None = None) -> tuple[Region, ...]:
    """Take the area of a stroke out of regions: what an eraser does.

    Parameters
    ----------
    regions
        Those that there are.
    stroke
        What is erased; its label does not matter.
    only
        Ids of the regions to erase from; None: all of them.

    Returns
    -------
    tuple
        Regions of which nothing is left are gone; locked ones, and those that the stroke does not reach, are the same
        objects as before.
    """
    kept = []
    for region in regions:
        is_meant = not region.locked and (only is None or region.id in only)
        if not is_meant or not _meet(region, stroke) or region.shape.touches(stroke.shape):
            kept.append(region)
            continue
        rest = region_of_shape(region.shape.difference(stroke.shape), region)
        if rest is not None:
            kept.append(rest)
    return tuple(kept)


@dataclass(frozen=True)
class Annotations:
    """The regions of one slide and their classes; what a GeoJSON file holds.

    Attributes
    ----------
    regions
        In the order in which they were drawn.
    classes
        Those that the regions have, each with its colour, in the order in which they come.
    notes
        What was left out or understood in a certain way, one sentence each.
    extra
        Members of the file beyond its features; written back as they were.
    """

    regions: tuple[Region, ...] = ()
    classes: tuple[AnnotationClass, ...] = ()
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
