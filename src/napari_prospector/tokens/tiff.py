"""Slides in TIFF files: Aperio SVS, OME-TIFF, pyramidal and flat TIFF, in tiles or strips.

tifffile reads the structure of a file once, at opening; from then on the file's own tiles are fetched with
positioned reads, decoded by imagecodecs and kept in a small cache. Only the pyramid of the first image is
touched: never the label and macro pictures, which may name the patient.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, UnreadFormatError
from napari_prospector.tokens.scanners import aperio_scanner, ome_scanner, tiff_scanner
from napari_prospector.tokens.segments import (
    DAMAGE,
    PositionedFile,
    SegmentCache,
)
from napari_prospector.tokens.slides import Level, PixelSize, Slide, stated_pixel_size
from napari_prospector.tokens.tiff_pages import page_resolution, page_source

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
        import tifffile

        try:
            with tifffile.TiffFile(path) as tiff:
                kind, pages = _pyramid(tiff, path.name)
                stated = _pixel_size(tiff, kind, pages[0].keyframe)
                scanner = _scanner(tiff, kind, pages[0].keyframe)
                self._sources = [page_source(page, path.name) for page in pages]
        except FileFormatError:
            raise
        except DAMAGE as error:
            raise FileFormatError(
                f"{path.name} is a damaged or truncated TIFF: {error}. Copy it again from where it came."
            ) from error
        shape, first_chunk = self._sources[0].shape, self._sources[0].chunk
        levels = tuple(Level.below(shape, source.shape, source.chunk) for source in self._sources)
        super().__init__(path, _FORMATS[kind], levels, stated, mpp)
        self.scanner = scanner
        self._file = PositionedFile(path)
        try:
            for index, source in enumerate(self._sources):
                source.check_ends(self._file.size, f"{path.name}: level {index}")
        except FileFormatError:
            self._file.close()
            raise
        self._cache = SegmentCache(_TILE_CACHE_BYTES if first_chunk[1] < shape[1] else _STRIP_CACHE_BYTES)

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        where = f"{self.name}: level {level}"
        return self._sources[level].read(self._file, (row0, col0, row1, col1), self._cache, level, where)

    def close(self) -> None:
        """Close the file and empty the cache; later reads raise `InvalidInputError`."""
        self._file.close()
        self._cache.clear()


def _pyramid(tiff: Any, name: str) -> tuple[str, list[Any]]:
    """Return the kind of a TIFF and the page of each level of its first image, finest first."""
    if not tiff.pages or not tiff.series:
        raise FileFormatError(f"{name} must hold an image; the TIFF has none. Copy it again from where it came.")
    baseline = tiff.series[0]
    if baseline.kind not in _FORMATS:
        raise UnreadFormatError(
            f"{name} must be an Aperio SVS, an OME-TIFF or a plain TIFF; its kind, {baseline.kind!r}, is not read yet."
            " Convert it to a pyramidal OME-TIFF, for example with QuPath or bfconvert."
        )
    pages: list[Any] = []
    for level in baseline.levels:
        _check_is_one_plane(level, name)
        page = level.pages[0]
        if page is None or page.parent is not tiff:
            raise FileFormatError(f"{name} must hold its own pixels; they lie in another file. Save it as one file.")
        if not pages or _is_smaller(page.keyframe, pages[-1].keyframe, pages[0].keyframe):
            pages.append(page)
    return baseline.kind, pages


def _check_is_one_plane(level: Any, name: str) -> None:
    """Raise `FileFormatError` for stacks, time series and fluorescence channels."""
    extents = {axis: extent for axis, extent in zip(level.axes, level.shape, strict=True) if extent > 1}
    if others := {axis: extent for axis, extent in extents.items() if axis not in "YXS"}:
        planes = ", ".join(f"{axis} = {extent}" for axis, extent in others.items())
        raise FileFormatError(f"{name} must be one RGB or grey plane; got {planes}. Export one plane as 8-bit RGB.")


def _is_smaller(page: Any, above: Any, first: Any) -> bool:
    """Whether a page can be a level: smaller than the one above it, and of the first one's proportions."""
    if page.imagelength * page.imagewidth >= above.imagelength * above.imagewidth:
        return False
    wanted = page.imagelength * first.imagewidth / first.imagelength
    return bool(abs(page.imagewidth - wanted) <= 2 + 0.01 * wanted)


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
