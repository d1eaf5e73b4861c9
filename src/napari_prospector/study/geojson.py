"""Regions as GeoJSON, read and written as QuPath does (0.2 to 0.6).

Points are (x, y) in level-0 pixels from the slide's upper left corner, so that a point is (col, row) of an outline of
`study.annotations` and no number changes. What QuPath writes beyond geometry, class, name, id and lock (measurements,
metadata, planes, members of other programs) is kept in `Region.extra` and written back. Names are texts and nothing
else: nothing in a file is ever looked up, run or opened.

Source: QuPath's documentation (Exporting annotations) and its type adapters for PathObject, PathClass and ROI.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError
from napari_prospector.study.annotations import MOST_PX, AnnotationClass, Annotations, Region, default_color
from napari_prospector.tokens.pyramid import atomic_path

__all__ = ["GEOJSON_SUFFIXES", "read_geojson", "write_geojson"]

GEOJSON_SUFFIXES = (".geojson", ".json")

_MOST_BYTES = 512 * 2**20
_MOST_NESTED = 64
_AREAS = ("Polygon", "MultiPolygon")
_OTHERS = ("Point", "MultiPoint", "LineString", "MultiLineString", "GeometryCollection")
_NO_ANNOTATION = {
    "PathTileObject": "tile",
    "PathCellObject": "cell",
    "TMACoreObject": "tmaCore",
    "PathDetectionObject": "detection",
    "PathRootObject": "root",
    "tma_core": "tmaCore",
} | {name: name for name in ("tile", "cell", "tmaCore", "detection", "root")}
_TYPES_AS_IDS = {"PathAnnotationObject", *_NO_ANNOTATION}  # QuPath 0.2 wrote the type where the id is
_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Members = dict[str, Any]
Color = tuple[int, int, int]


def read_geojson(path: str | os.PathLike[str]) -> Annotations:
    """Read the regions of a slide.

    Parameters
    ----------
    path
        A FeatureCollection, a list of features, one feature, or a geometry alone; UTF-8.

    Returns
    -------
    Annotations
        Polygons and MultiPolygons that are annotations. `notes` tells what was left out: lines and points, detections
        and cells, outlines that enclose nothing. A class without a colour gets one (`default_color`).

    Raises
    ------
    MissingFileError
        There is no such file.
    FileFormatError
        It is no GeoJSON, or has members of the wrong type, numbers that are not finite among its coordinates, more
        than 64 levels of nesting, or more than 512 MiB.
    """
    file = Path(path)
    content = _parsed(file)
    reading = _Reading(file.name)
    features, extra = _features(content, file.name)
    regions = [region for number, feature in enumerate(features) if (region := reading.region(number, feature))]
    return Annotations(tuple(regions), reading.classes(), reading.notes(), extra)


def write_geojson(
    path: str | os.PathLike[str],
    regions: Annotations | Iterable[Region],
    classes: Iterable[AnnotationClass] = (),
) -> Path:
    """Write regions as a FeatureCollection that QuPath opens; `read_geojson` gives back equal regions.

    Parameters
    ----------
    path
        By convention ``*.geojson``. Whole or not at all; the same regions are the same bytes.
    regions
        Regions, or `Annotations` with their classes and what else their file held.
    classes
        Colours of classes, before those of `Annotations`; a class without one gets `default_color`.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    InvalidInputError
        `Region.extra` holds what JSON cannot.
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> square = Region((([[0, 0], [0, 448], [448, 448], [448, 0]],),), "tumour", "first seen")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_geojson(write_geojson(folder + "/a.geojson", [square])).regions == (square,)
    True
    """
    known = regions if isinstance(regions, Annotations) else Annotations(tuple(regions))
    colors = {one.name: one.color for one in (*known.classes, *classes)}
    for label in dict.fromkeys(region.label for region in known.regions if region.label is not None):
        colors.setdefault(label, default_color(label, colors.values()))
    members = "".join(f"{_text(name)}: {_text(value)}, " for name, value in known.extra.items())
    lines = ",\n".join(_written(region, colors) for region in known.regions)
    with atomic_path(path) as partial:
        partial.write_text(f'{{"type": "FeatureCollection", {members}"features": [\n{lines}\n]}}\n', encoding="ascii")
    return Path(path)


def _parsed(file: Path) -> Any:
    """Return the content of a JSON file, NaN and infinities among it, as QuPath writes measurements."""
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise FileFormatError(
                f"{file.name} must have at most {_MOST_BYTES / 2**20:.0f} MiB; it has {size / 2**20:,.0f}. Export "
                "annotations only, without detections and cells."
            )
        return json.loads(file.read_bytes().decode("utf-8-sig"), parse_constant=_CONSTANTS.__getitem__)
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no GeoJSON file at {file}. Check the path.") from error
    except OSError as error:
        raise FileFormatError(f"{file.name} cannot be read: {error.strerror or error}.") from error
    except RecursionError as error:
        raise FileFormatError(
            f"{file.name} must not be nested deeper than {_MOST_NESTED} levels; it is. It is no GeoJSON of regions."
        ) from error
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{file.name} must be GeoJSON; it cannot be read as JSON ({error}).") from error


def _features(content: Any, name: str) -> tuple[list[Any], Members]:
    """Return the features of a file, and what else a FeatureCollection says."""
    if isinstance(content, list):
        return content, {}
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "FeatureCollection":
        features = content.get("features")
        if not isinstance(features, list):
            raise FileFormatError(f"features of {name} must be a list; got {_kind(features)}.")
        return features, _kept(content, {"type", "features"}, f"{name}")
    if kind in ("Feature", *_AREAS, *_OTHERS):
        return [content], {}
    raise FileFormatError(
        f"{name} must hold a FeatureCollection, features or a geometry; got {_kind(content)}"
        f"{'' if kind is None else f' of type {_shortened(kind)}'}. Export it from QuPath as GeoJSON."
    )


@dataclass
class _Reading:
    """One pass over the features of a file: the regions, and what was seen on the way."""

    name: str
    colors: dict[str, Color | None] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    understood: dict[str, None] = field(default_factory=dict)

    def region(self, number: int, feature: Any) -> Region | None:
        """Return the region of a feature; None where it is none."""
        where = f"Feature {number} of {self.name}"
        if not isinstance(feature, dict):
            raise FileFormatError(f"{where} must be an object; got {_kind(feature)}.")
        if feature.get("type") in (*_AREAS, *_OTHERS):
            feature = {"type": "Feature", "geometry": feature}
        geometry, properties = _member(feature, "geometry", where), _member(feature, "properties", where)
        if not self._is_annotation(feature, geometry, properties):
            return None
        polygons = self._polygons(geometry, where)
        label, classification = self._label(properties.get("classification"), where)
        name, locked, id_ = properties.get("name"), properties.get("isLocked"), self._id(number, feature)
        name = name if isinstance(name, str) else ""
        known = {"classification"} | ({"name"} if name else set()) | ({"isLocked"} if locked is True else set())
        if properties.get("objectType") == "annotation":
            known.add("objectType")
        extra = {
            "feature": _kept(feature, {"type", "id", "geometry", "properties"}, where),
            "geometry": _kept(geometry, {"type", "coordinates"}, where),
            "properties": _kept(properties, known, where),
            "classification": classification,
        }
        if len(polygons) == 1 and geometry["type"] == "MultiPolygon":
            extra["geometry"]["type"] = "MultiPolygon"
        held = {part: members for part, members in extra.items() if members}
        try:
            return Region(polygons, label, name, id_, locked is True, held)
        except InvalidInputError:  # all that is refused by name was refused above
            self.left_out["outlines that enclose nothing"] += 1
            return None

    def _is_annotation(self, feature: Members, geometry: Members, properties: Members) -> bool:
        """Say whether a feature is an annotation that covers an area, and count it where not."""
        kind, object_type = geometry.get("type"), properties.get("objectType", properties.get("object_type"))
        stated = object_type if isinstance(object_type, str) else feature.get("id")
        other = _NO_ANNOTATION.get(stated) if isinstance(stated, str) else None
        if other is not None:
            self.left_out[f"objects of type {other} (only annotations are regions)"] += 1
        elif kind not in _AREAS:
            shown = _shortened(kind) if geometry else "nothing"
            self.left_out[f"features whose geometry is {shown} (a region is a Polygon or MultiPolygon)"] += 1
        if isinstance(properties.get("childObjects"), list):
            self.understood[
                "Objects nested in others (childObjects) are kept in the file, but are no regions here."
            ] = None
        return other is None and kind in _AREAS

    def _polygons(self, geometry: Members, where: str) -> tuple[tuple[NDArray[np.float64], ...], ...]:
        """Return the rings (row, col) of a Polygon or MultiPolygon; holes without an area are dropped."""
        coordinates = geometry.get("coordinates")
        polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
        if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
            raise FileFormatError(f"coordinates of {where.lower()} must be lists of rings; got {_kind(coordinates)}.")
        rings = [[self._ring(ring, where) for ring in polygon] for polygon in polygons]
        return tuple(
            tuple(ring for place, ring in enumerate(polygon) if place == 0 or len(ring) > 2) for polygon in rings
        )

    def _ring(self, ring: Any, where: str) -> NDArray[np.float64]:
        """Return a ring (n, 2), (row, col), without its repeated last point."""
        try:
            points = np.asarray(ring)
        except ValueError:  # ragged
            points = np.empty(0, dtype=object)
        if points.dtype.kind not in "iuf" or points.ndim != 2 or points.shape[1] < 2:
            raise FileFormatError(f"A ring of {where.lower()} must be a list of points [x, y]; got {_shortened(ring)}.")
        if points.shape[1] > 2:
            self.understood["Points have more than x and y; the further numbers are left out."] = None
        turned = points[:, 1::-1].astype(np.float64)
        if not (np.abs(turned) <= MOST_PX).all():
            raise FileFormatError(
                f"Coordinates of {where.lower()} must be finite level-0 pixels, at most {MOST_PX:g}; they are not. "
                "Draw the region again, or take it out of the file."
            )
        return turned[:-1] if len(turned) > 1 and np.array_equal(turned[0], turned[-1]) else turned

    def _label(self, classification: Any, where: str) -> tuple[str | None, Members]:
        """Return the name of a class, and what else is said of it; its colour is remembered."""
        if isinstance(classification, str):
            classification = {"name": classification}
        if not isinstance(classification, dict):
            if classification is not None:
                raise FileFormatError(
                    f"classification of {where.lower()} must be an object with a name; got {_kind(classification)}."
                )
            return None, {}
        label = _class_name(classification)
        if label is None:
            return None, _kept(classification, set(), where)
        color = _color(classification)
        first = self.colors.setdefault(label, color)
        if first is None:
            self.colors[label] = color
        elif color is not None and color != first:
            self.understood[f"Class {_shortened(label)} has several colours; the first is taken."] = None
        known = ({"name"} if "names" not in classification else set()) | (
            {"color", "colorRGB"} if color is not None else set()
        )
        return label, _kept(classification, known, where)

    def _id(self, number: int, feature: Members) -> str:
        """Return the id of a feature, or one derived from what it holds where it has none of its own."""
        stated = feature.get("id")
        stated = str(stated) if type(stated) in (int, str) else ""
        if stated in self.ids:
            self.understood["Several features have the same id; all but the first get another."] = None
        if not stated or stated in self.ids or stated in _TYPES_AS_IDS:
            stated = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {_text(feature)}"))
        self.ids.add(stated)
        return stated

    def classes(self) -> tuple[AnnotationClass, ...]:
        """Return the classes in the order in which they came."""
        taken = [color for color in self.colors.values() if color is not None]
        found = []
        for name, color in self.colors.items():
            shown = default_color(name, taken) if color is None else color
            taken.append(shown)
            found.append(AnnotationClass(name, shown))
        return tuple(found)

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for all that was left out or understood in a certain way."""
        left_out = [f"{count:,} {what}: left out." for what, count in self.left_out.items()]
        return (*left_out, *self.understood)


def _member(feature: Members, name: str, where: str) -> Members:
    """Return a member of a feature that must be an object; none is an empty one."""
    value = feature.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FileFormatError(f"{name} of {where.lower()} must be an object; got {_kind(value)}.")
    return value


def _class_name(classification: Members) -> str | None:
    """Return the name of a class; of derived classes, as QuPath shows them, "Tumor: Positive"."""
    name, names = classification.get("name"), classification.get("names")
    if isinstance(name, str) and name:
        return name
    if isinstance(names, list) and names and all(isinstance(part, str) for part in names):
        return ": ".join(names) or None
    return None


def _color(classification: Members) -> Color | None:
    """Return red, green, blue: a list, or the packed number of QuPath before 0.4."""
    channels, packed = classification.get("color"), classification.get("colorRGB")
    if isinstance(channels, list) and len(channels) == 3 and all(type(c) is int and 0 <= c <= 255 for c in channels):
        red, green, blue = channels
        return red, green, blue
    if type(packed) is int:
        return packed >> 16 & 255, packed >> 8 & 255, packed & 255
    return None


def _kept(members: Mapping[str, Any], known: set[str], where: str) -> Members:
    """Return the members that are not known, refusing what is nested too deeply to be written again."""
    kept = {name: value for name, value in members.items() if name not in known}
    if _depth(kept) > _MOST_NESTED:
        raise FileFormatError(
            f"{where} must not be nested deeper than {_MOST_NESTED} levels; it is. Take out what holds it."
        )
    return kept


def _depth(value: Any) -> int:
    """Return how many levels of lists and objects lie in each other, counted level by level."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, (dict, list))]:
        depth += 1
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
    return depth


def _written(region: Region, colors: Mapping[str, Color]) -> str:
    """Return a region as a feature, in one line."""
    kept = {part: dict(region.extra.get(part, {})) for part in ("feature", "geometry", "properties", "classification")}
    polygons = [[_points(ring) for ring in polygon] for polygon in region.polygons]
    kind = kept["geometry"].pop("type", "Polygon") if len(polygons) == 1 else "MultiPolygon"
    geometry = {"type": kind, "coordinates": polygons[0] if kind == "Polygon" else polygons}
    properties: Members = {"objectType": kept["properties"].pop("objectType", "annotation")}
    if region.name:
        properties["name"] = region.name
    if region.label is not None:
        classification = kept["classification"]
        named = {} if _class_name(classification) == region.label else {"name": region.label}
        stale = {"name", "names", "color", "colorRGB"} if named else {"color", "colorRGB"}
        others = {name: value for name, value in classification.items() if name not in stale}
        properties["classification"] = named | {"color": list(colors[region.label])} | others
    elif kept["classification"] and _class_name(kept["classification"]) is None:
        properties["classification"] = kept["classification"]
    if region.locked:
        properties["isLocked"] = True
    feature = {"type": "Feature", "id": region.id, "geometry": geometry | kept["geometry"]}
    return _text({**feature, "properties": kept["properties"] | properties, **kept["feature"]})


def _points(ring: NDArray[np.float64]) -> list[list[float]]:
    """Return a ring (row, col) as closed points [x, y], whole numbers without a fraction."""
    turned = np.concatenate([ring, ring[:1]])[:, ::-1]
    is_whole = (turned == np.rint(turned)).all()
    points: list[list[float]] = (turned.astype(np.int64) if is_whole else turned).tolist()
    return points


def _text(value: Any) -> str:
    """Return JSON in one line of ASCII: hostile names, lone surrogates among them, come back as they were."""
    try:
        return json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"extra of a region must hold what JSON can; {error}. Keep texts and numbers."
        ) from error


def _kind(value: Any) -> str:
    """Return what JSON calls a value."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _shortened(value: Any) -> str:
    """Return the beginning of a value of a file, for a sentence."""
    text = repr(value) if not isinstance(value, (dict, list)) else _text(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
