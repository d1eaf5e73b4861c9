"""Slides in TIFF files: Aperio SVS, OME-TIFF, pyramidal and flat TIFF, and the makers of tiff_vendors.py.

tifffile reads the structure of a file once, at opening; from then on the file's own tiles are fetched with
positioned reads, decoded by imagecodecs and, where a read took a part of them, kept in a small cache. Only the pyramid
of the main image is touched: never the label and macro pictures, which may name the patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, UnreadFormatError
from napari_prospector.tokens.scanners import aperio_scanner, ome_scanner, tiff_scanner
from napari_prospector.tokens.segments import (
    DAMAGE,
    WHITE,
    PositionedFile,
    Rows,
    SegmentCache,
    Segments,
)
from napari_prospector.tokens.slides import Level, PixelSize, Slide, stated_pixel_size
from napari_prospector.tokens.tiff_pages import page_resolution, page_shape, page_source
from napari_prospector.tokens.tiff_pyramid import LevelPages, PlacedPage, Pyramid, is_level_below
from napari_prospector.tokens.tiff_vendors import vendor_pyramid

__all__ = ["TiffSlide"]

_TILE_CACHE_BYTES = 64 * 2**20
_STRIP_CACHE_BYTES = 256 * 2**20  # a compressed strip is as wide as the slide: keep a band of them

_FORMATS = {
    "svs": "Aperio SVS",
    "ome": "OME-TIFF",
    "shaped": "TIFF",
    "uniform": "TIFF",
    "generic": "TIFF",
    "imagej": "ImageJ TIFF",
}
_NAMED_UNITS_UM = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), 1.0),  # two Unicode letters, one look
    **{"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6},
}


class TiffSlide(Slide):
    """A slide in a TIFF file; made by `open_slide`."""

    def __init__(self, path: Path, mpp: float | None) -> None:
        try:
            with _opened(path) as tiff:
                pyramid = _pyramid(tiff, path.name)
                placed = [[_Area.of(one, level, path.name) for one in level.pages] for level in pyramid.levels]
        except FileFormatError:
            raise
        except DAMAGE as error:
            raise FileFormatError(
                f"{path.name} is a damaged or truncated TIFF: {error}. Copy it again from where it came."
            ) from error
        shape, first_chunk = pyramid.levels[0].shape, placed[0][0].source.chunk
        levels = tuple(
            Level(level.shape, (level.scale, level.scale), areas[0].source.chunk)
            if level.scale
            else Level.below(shape, level.shape, areas[0].source.chunk)
            for level, areas in zip(pyramid.levels, placed, strict=True)
        )
        super().__init__(path, pyramid.format, levels, pyramid.stated, mpp)
        self.scanner = pyramid.scanner
        self._placed = placed
        self._file = PositionedFile(path)
        try:
            for index, areas in enumerate(placed):
                for area in areas:
                    area.source.check_ends(self._file.size, f"{path.name}: level {index}")
        except FileFormatError:
            self._file.close()
            raise
        self._cache = SegmentCache(_TILE_CACHE_BYTES if first_chunk[1] < shape[1] else _STRIP_CACHE_BYTES)

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        where, areas = f"{self.name}: level {level}", self._placed[level]
        if areas[0].covers(self.levels[level].shape):
            return areas[0].source.read(self._file, (row0, col0, row1, col1), self._cache, (level, 0), where)
        region = np.full((row1 - row0, col1 - col0, 3), WHITE, np.uint8)
        for number, area in enumerate(areas):
            top, left = max(row0, area.row), max(col0, area.col)
            bottom, right = min(row1, area.row + area.source.shape[0]), min(col1, area.col + area.source.shape[1])
            if top < bottom and left < right:
                box = top - area.row, left - area.col, bottom - area.row, right - area.col
                pixels = area.source.read(self._file, box, self._cache, (level, number), where)
                region[top - row0 : bottom - row0, left - col0 : right - col0] = pixels
        return region

    def close(self) -> None:
        """Close the file and empty the cache; later reads raise `InvalidInputError`."""
        self._file.close()
        self._cache.clear()


@dataclass(frozen=True)
class _Area:
    """The pixels of a page, and where they lie in their level."""

    source: Segments | Rows
    row: int
    col: int

    @classmethod
    def of(cls, placed: PlacedPage, level: LevelPages, name: str) -> _Area:
        """Make it of a page; one that is alone shows no more than its level."""
        shape = level.shape if len(level.pages) == 1 and (placed.row, placed.col) == (0, 0) else None
        return cls(page_source(placed.page, name, shape), placed.row, placed.col)

    def covers(self, shape: tuple[int, int]) -> bool:
        """Whether it is the whole level."""
        return (self.row, self.col) == (0, 0) and self.source.shape == shape


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file with tifffile, which knows Hamamatsu's long offsets by the suffix alone."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if not tiff.pages or not tiff.is_ndpi or tiff.tiff.is_ndpi or tiff.byteorder != "<" or tiff.is_bigtiff:
            yield tiff
            return
    with tifffile.TiffFile(path, is_ndpi=True) as tiff:
        yield tiff


def _pyramid(tiff: Any, name: str) -> Pyramid:
    """Find the main image of a TIFF: of the makers with a layout of their own, or its first image."""
    if not tiff.pages:
        raise FileFormatError(f"{name} must hold an image; the TIFF has none. Copy it again from where it came.")
    found = vendor_pyramid(tiff, name)
    if found is not None:
        return found
    kind, pages = _first_image(tiff, name)
    key = pages[0].keyframe
    levels = tuple(LevelPages.of(page, page_shape(page)) for page in pages)
    return Pyramid(_FORMATS[kind], levels, _pixel_size(tiff, kind, key), _scanner(tiff, kind, key))


def _first_image(tiff: Any, name: str) -> tuple[str, list[Any]]:
    """Return the kind of a TIFF and the page of each level of its first image, finest first."""
    if not tiff.series:
        raise FileFormatError(f"{name} must hold an image; the TIFF has none. Copy it again from where it came.")
    baseline = tiff.series[0]
    if baseline.kind not in _FORMATS:
        raise UnreadFormatError(
            f"{name} must be a TIFF of Aperio, Hamamatsu, Leica, Philips, Ventana or PerkinElmer, an OME-TIFF or a"
            f" plain TIFF; its kind, {baseline.kind!r}, is not read yet."
            " Convert it to a pyramidal OME-TIFF, for example with QuPath or bfconvert."
        )
    pages: list[Any] = []
    for level in baseline.levels:
        _check_is_one_plane(level, name)
        page = level.pages[0]
        if page is None or page.parent is not tiff:
            raise FileFormatError(f"{name} must hold its own pixels; they lie in another file. Save it as one file.")
        if not pages or is_level_below(page, pages[-1], pages[0]):
            pages.append(page)
    return baseline.kind, pages


def _check_is_one_plane(level: Any, name: str) -> None:
    """Raise `FileFormatError` for stacks, time series and fluorescence channels."""
    extents = {axis: extent for axis, extent in zip(level.axes, level.shape, strict=True) if extent > 1}
    if others := {axis: extent for axis, extent in extents.items() if axis not in "YXS"}:
        planes = ", ".join(f"{axis} = {extent}" for axis, extent in others.items())
        raise FileFormatError(f"{name} must be one RGB or grey plane; got {planes}. Export one plane as 8-bit RGB.")


def _pixel_size(tiff: Any, kind: str, page: Any) -> PixelSize:
    """Return the pixel size that a file states: the scanner's own statement first, then TIFF's resolution."""
    if kind == "svs" and (found := re.search(r"\bMPP\s*=\s*(\d+(?:[.,]\d*)?(?:[eE][-+]?\d+)?)", page.description)):
        width = float(found[1].replace(",", "."))
        return stated_pixel_size(width, width)
    if kind == "ome":
        sizes = _ome_pixel_size(tiff.ome_metadata or "")
        if sizes != (None, None):
            return stated_pixel_size(*sizes)
    if kind == "imagej":
        unit_um = _NAMED_UNITS_UM.get(str((tiff.imagej_metadata or {}).get("unit")))
        return stated_pixel_size(None, None) if unit_um is None else page_resolution(page, unit_um)
    return page_resolution(page)


def _scanner(tiff: Any, kind: str, page: Any) -> str | None:
    """Return what a file states about the scanner, None where it is silent."""
    if kind == "svs":
        return aperio_scanner(page.description)
    stated = ome_scanner(tiff.ome_metadata or "") if kind == "ome" else None
    return stated or tiff_scanner(page.tags.valueof(271), page.tags.valueof(272))


def _ome_pixel_size(xml: str) -> tuple[float | None, float | None]:
    """Return height and width of a pixel in µm from OME-XML; None where it is silent or speaks in other units."""
    try:
        pixels = next((node for node in ElementTree.fromstring(xml).iter() if node.tag.endswith("Pixels")), None)
    except ElementTree.ParseError:
        return None, None
    sizes: list[float | None] = []
    for axis in "YX":
        size = pixels.get(f"PhysicalSize{axis}") if pixels is not None else None
        unit_um = _NAMED_UNITS_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm")) if pixels is not None else None
        try:
            sizes.append(float(size) * unit_um if size is not None and unit_um is not None else None)
        except ValueError:
            sizes.append(None)
    return sizes[0], sizes[1]
