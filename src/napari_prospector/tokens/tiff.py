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
    WHITE,
    Colours,
    PositionedFile,
    Rows,
    SegmentCache,
    Segments,
    overlap,
)
from napari_prospector.tokens.slides import Level, PixelSize, Slide, stated_pixel_size

__all__ = ["TiffSlide"]

_TILE_CACHE_BYTES = 64 * 2**20
_STRIP_CACHE_BYTES = 256 * 2**20  # a compressed strip is as wide as the slide: keep a band of them
_MOST_SEGMENT_BYTES = 512 * 2**20

_FORMATS = {
    "svs": "Aperio SVS",
    "ome": "OME-TIFF",
    "shaped": "TIFF",
    "uniform": "TIFF",
    "generic": "TIFF",
    "imagej": "ImageJ TIFF",
}
# Values of TIFF tags.
_UNCOMPRESSED, _JPEG, _APERIO_YCBCR_J2K, _APERIO_RGB_J2K = 1, 7, 33003, 33005
_DECODED_AS_JPEG = (6, 7, 33007, 34892)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_ALPHAS = {1: "premultiplied", 2: "straight"}
_SEPARATE_PLANES = 2
_RESOLUTION_UNITS_UM = {2: 25400.0, 3: 10000.0}  # inch, centimetre
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
                self._sources = [_source(page, path.name) for page in pages]
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
        source = self._sources[level]
        if isinstance(source, Rows):
            return source.read(self._file, row0, col0, row1, col1)
        region = np.empty((row1 - row0, col1 - col0, 3), np.uint8)
        for index, corner in source.segments_of(row0, col0, row1, col1):
            segment = self._cache.get((level, index))
            if segment is None:
                segment = source.decode_segment(self._file, index, f"{self.name}: level {level}")
                if segment is not None:
                    self._cache.put((level, index), segment)
            place, part = overlap(corner, source.chunk, (row0, col0, row1, col1))
            region[place] = WHITE if segment is None else segment[part]
        return region

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


def _source(page: Any, name: str) -> Segments | Rows:
    """Take from a page what reading its pixels needs, so that tifffile's file can be closed."""
    key = page.keyframe
    shape = (int(key.imagelength), int(key.imagewidth))
    if min(shape) < 1:
        raise FileFormatError(f"{name} must hold pixels; a level has the shape {shape}. Copy it again.")
    colours = _colours(key, name)
    offsets = np.array(page.dataoffsets, np.int64)
    is_separate = key.planarconfig == _SEPARATE_PLANES and key.samplesperpixel > 1
    is_plain = key.compression == _UNCOMPRESSED and key.predictor == 1 and key.fillorder == 1
    if is_plain and not key.is_tiled and not is_separate:
        dtype = np.dtype(key.dtype).newbyteorder(key.parent.byteorder)
        return Rows(shape, min(int(key.rowsperstrip), shape[0]), key.samplesperpixel, dtype, offsets, colours)
    chunk = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, shape[0]), shape[1])
    n_bytes = chunk[0] * chunk[1] * key.samplesperpixel * np.dtype(key.dtype).itemsize
    if not 0 < n_bytes <= _MOST_SEGMENT_BYTES:
        raise FileFormatError(
            f"{name} must be stored in pieces of at most {_MOST_SEGMENT_BYTES >> 20} MB; one of its tiles or strips"
            f" has {chunk[0]} x {chunk[1]} px. Convert it to a tiled, pyramidal TIFF."
        )
    try:
        key.decode(None, 0)
    except ValueError as error:
        raise UnreadFormatError(
            f"{name} is stored in a way that is not read: {error}. Convert it to JPEG tiles."
        ) from error
    # both move the position of tifffile's file when first touched, so before it is closed
    tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader} if _is_jpeg(key) else {}
    return Segments(
        shape=shape,
        chunk=(int(chunk[0]), int(chunk[1])),
        n_planes=key.samplesperpixel if is_separate else 1,
        offsets=offsets,
        sizes=np.array(page.databytecounts, np.int64),
        decode=key.decode,
        tables=tables,
        ending=b"\xff\xd9" if key.compression == _JPEG else b"",
        colours=colours,
    )


def _is_jpeg(key: Any) -> bool:
    """Whether tifffile's decoder wants the tables of a JPEG."""
    return key.compression in _DECODED_AS_JPEG


def _colours(key: Any, name: str) -> Colours:
    """Read how a page stores its colours, or refuse."""
    photometric, n_extra = int(key.photometric), len(key.extrasamples)
    n_colours = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _YCBCR: 3}.get(photometric)
    is_wide = key.bitspersample == 16 and photometric == _RGB
    is_read = n_colours is not None and key.samplesperpixel - n_extra == n_colours and n_extra <= 1
    if not is_read or np.dtype(key.dtype).kind != "u" or not (key.bitspersample == 8 or is_wide):
        raise UnreadFormatError(
            f"{name} must hold 8-bit grey or RGB pixels, or 16-bit RGB; got {key.samplesperpixel} samples of"
            f" {key.bitspersample} bits ({np.dtype(key.dtype)}), {key.photometric!r}. Export it as 8-bit RGB."
        )
    # the decoder turns the luma and chroma of a JPEG into RGB, but not those of Aperio's JPEG 2000
    is_ycbcr = photometric == _YCBCR and not _is_jpeg(key) and key.compression != _APERIO_RGB_J2K
    return Colours(
        n_colours=n_colours or 3,
        is_inverted=photometric == _WHITE_IS_ZERO,
        is_ycbcr=is_ycbcr or key.compression == _APERIO_YCBCR_J2K,
        alpha=_ALPHAS.get(int(key.extrasamples[0]), "") if n_extra else "",
    )


def _pixel_size(tiff: Any, kind: str, page: Any) -> PixelSize:
    """Return the pixel size that a file states: the scanner's own statement first, then TIFF's resolution."""
    if kind == "svs" and (found := re.search(r"\bMPP\s*=\s*(\d+(?:[.,]\d*)?(?:[eE][-+]?\d+)?)", page.description)):
        width = float(found[1].replace(",", "."))
        return stated_pixel_size(width, width)
    if kind == "ome":
        sizes = _ome_pixel_size(tiff.ome_metadata or "")
        if sizes != (None, None):
            return stated_pixel_size(*sizes)
    unit_um = _RESOLUTION_UNITS_UM.get(int(page.tags.valueof(296, 1)))
    if kind == "imagej":
        unit_um = _NAMED_UNITS_UM.get(str((tiff.imagej_metadata or {}).get("unit")))
    if unit_um is None:
        return stated_pixel_size(None, None)
    widths: list[float | None] = []
    for tag in (283, 282):
        dots, per = page.tags.valueof(tag, (0, 1))
        widths.append(unit_um * per / dots if dots > 0 and per > 0 else None)
    return stated_pixel_size(widths[0], widths[1])


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
