"""Leica SCN: areas that were scanned on one glass slide, put where they lie on it, as OpenSlide puts them.

The main image is every brightfield area, on white, over the whole glass: a slide may hold several pieces of tissue,
each scanned by itself, and none may be lost. An image that covers the whole glass from its corner is the macro picture;
it shows the label, and is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from napari_prospector.errors import FileFormatError
from napari_prospector.tokens.scanners import leica_scanner
from napari_prospector.tokens.slides import stated_pixel_size
from napari_prospector.tokens.tiff_pages import page_resolution, page_shape
from napari_prospector.tokens.tiff_pyramid import LevelPages, PlacedPage, Pyramid

__all__ = ["leica_pyramid"]

# Areas of one objective differ by rounding only.
_MOST_APART = 0.02


@dataclass(frozen=True)
class _Area:
    """One image of a collection: where it lies on the glass, in nm, and its levels (cols, rows, page), finest first."""

    row_nm: int
    col_nm: int
    height_nm: int
    width_nm: int
    light: str
    model: str
    levels: tuple[tuple[int, int, int], ...]

    def nm_per_px(self, level: int) -> float:
        """Width of a pixel of a level."""
        return self.width_nm / self.levels[level][0]


def leica_pyramid(tiff: Any, name: str) -> Pyramid:
    """Return the brightfield areas of a Leica SCN as one pyramid.

    Parameters
    ----------
    tiff
        tifffile's open file.
    name
        The file's, for errors.

    Raises
    ------
    FileFormatError
        The XML that describes the file is damaged, there is no
        brightfield area, or areas were scanned with different objectives.
    """
    try:
        collection = _child(ElementTree.fromstring(tiff.pages.first.description), "collection")
        height, width = int(collection.attrib["sizeY"]), int(collection.attrib["sizeX"])
        images = [_area(node) for node in collection if _tag(node) == "image"]
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise FileFormatError(
            f"{name} must say in XML what its images are; this cannot be read: {error}. Copy it again."
        ) from error
    areas = [area for area in images if not _is_macro(area, height, width) and area.light == "brightfield"]
    _check_areas(areas, images, name)
    nm_per_px = min(area.nm_per_px(0) for area in areas)
    levels = [_level(tiff, areas, index, nm_per_px, (height, width)) for index in range(len(areas[0].levels))]
    first = levels[0].pages[0].page
    stated = page_resolution(first)
    if stated.mpp is None and not first.tags.valueof(282):
        stated = stated_pixel_size(nm_per_px / 1000, nm_per_px / 1000)
    return Pyramid("Leica SCN", tuple(levels), stated, leica_scanner(areas[0].model))


def _level(tiff: Any, areas: list[_Area], index: int, nm_per_px: float, glass_nm: tuple[int, int]) -> LevelPages:
    """Place the pages of all areas in one level."""
    ratio = areas[0].nm_per_px(index) / areas[0].nm_per_px(0)
    scale = float(round(ratio)) if abs(ratio - round(ratio)) < 0.01 * ratio else ratio
    px_per_nm = 1 / (nm_per_px * scale)
    placed = [
        PlacedPage(tiff.pages[area.levels[index][2]], round(area.row_nm * px_per_nm), round(area.col_nm * px_per_nm))
        for area in areas
    ]
    ends = [(one.row + page_shape(one.page)[0], one.col + page_shape(one.page)[1]) for one in placed]
    rows, cols = (
        max(math.ceil(side * px_per_nm - 1e-6), *(end[axis] for end in ends)) for axis, side in enumerate(glass_nm)
    )
    return LevelPages((rows, cols), scale, tuple(placed))


def _check_areas(areas: list[_Area], images: list[_Area], name: str) -> None:
    """Raise `FileFormatError` unless the areas can be one pyramid; OpenSlide refuses the same."""
    if not areas:
        lights = sorted({area.light or "nothing" for area in images})
        raise FileFormatError(
            f"{name} must hold a brightfield scan beside its macro picture; its {len(images)} images say"
            f" {', '.join(lights) or 'nothing'}. Export one plane as 8-bit RGB."
        )
    sizes = [area.nm_per_px(0) for area in areas]
    if max(sizes) > min(sizes) * (1 + _MOST_APART) or len({len(area.levels) for area in areas}) > 1:
        found = ", ".join(f"{size / 1000:.3g}" for size in sizes)
        raise FileFormatError(
            f"{name} must hold areas of one objective; their pixels are {found} µm wide, in"
            f" {[len(area.levels) for area in areas]} levels. Export each area as a file of its own."
        )


def _is_macro(area: _Area, height: int, width: int) -> bool:
    """Whether an image shows the whole glass."""
    return (area.row_nm, area.col_nm, area.height_nm, area.width_nm) == (0, 0, height, width)


def _area(image: ElementTree.Element) -> _Area:
    """Read one image of the XML; of its focal planes and channels, the first."""
    view = _child(image, "view").attrib
    dimensions = [node.attrib for node in _child(image, "pixels") if _tag(node) == "dimension"]
    levels = [
        (int(each["sizeX"]), int(each["sizeY"]), int(each["ifd"]))
        for each in dimensions
        if each.get("z", "0") == "0" and each.get("c", "0") == "0"
    ]
    if not levels or min(min(each[:2]) for each in levels) < 1:
        raise ValueError("an image has no pixels")
    device = next((node.get("model", "") for node in image if _tag(node) == "device"), "")
    light = next((node.text or "" for node in image.iter() if _tag(node) == "illuminationSource"), "")
    row_nm, col_nm, height_nm, width_nm = (int(view[key]) for key in ("offsetY", "offsetX", "sizeY", "sizeX"))
    ordered = tuple(sorted(levels, reverse=True))
    return _Area(row_nm, col_nm, height_nm, width_nm, light.strip(), device, ordered)


def _child(node: ElementTree.Element, tag: str) -> ElementTree.Element:
    """Return the first child of a name, in whatever namespace; two years of the format differ in it alone."""
    for child in node:
        if _tag(child) == tag:
            return child
    raise LookupError(f"<{_tag(node)}> has no <{tag}>")


def _tag(node: ElementTree.Element) -> str:
    """Return the name of a node without its namespace."""
    return node.tag.rpartition("}")[2]
