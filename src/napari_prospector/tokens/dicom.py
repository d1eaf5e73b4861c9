"""Slides in DICOM: the pyramid of the volume images of one series, from a file or a folder.

Label and overview images, which may show a patient's name, are never opened further than their kind.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, UnreadFormatError
from napari_prospector.tokens.boxes import overlap
from napari_prospector.tokens.dicomfile import (
    Frames,
    Instance,
    frames_of,
    is_dicom,
    read_instance,
    tile_positions,
)
from napari_prospector.tokens.fingerprints import file_fingerprint, joined_fingerprint
from napari_prospector.tokens.segments import DAMAGE, WHITE, Colours, PositionedFile, SegmentCache
from napari_prospector.tokens.slides import Level, Slide, stated_pixel_size

__all__ = ["DicomSlide"]

_CACHE_BYTES = 64 * 2**20
_VOLUME = "VOLUME"
_MOST_SEAMS, _CLEARLY = 32, 0.7
Decoder = Callable[[bytes], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Source:
    """A level: its files with the frames in each, the frame of each tile (-1: left out), and how frames decode."""

    instance: Instance
    files: Sequence[tuple[int, Frames, PositionedFile]]
    frame_of: NDArray[np.int64]
    decode: Decoder
    colours: Colours

    @property
    def is_full(self) -> bool:
        """Whether frames follow each other in the order of the grid, for all that the file says."""
        return bool((self.frame_of.ravel() == np.arange(self.frame_of.size)).all())

    def tile(self, row: int, col: int, where: str) -> NDArray[np.uint8] | None:
        """Return a tile as RGB, None where the file leaves it out."""
        frame = int(self.frame_of[row, col])
        if frame < 0:
            return None
        first, frames, file = next(part for part in reversed(self.files) if part[0] <= frame)
        try:
            samples = self.decode(frames.read(file, frame - first))
            samples = samples.reshape(*self.instance.tile, self.instance.n_samples)
        except (FileFormatError, InvalidInputError):
            raise
        except DAMAGE as error:
            raise FileFormatError(
                f"{where}, tile (row {row}, col {col}) cannot be decoded: {error}. The file is damaged there; copy it"
                " again."
            ) from error
        rgb = self.colours.rgb(samples)
        rgb.flags.writeable = False
        return rgb


class DicomSlide(Slide):
    """A slide in DICOM files; made by `open_slide` from one file, or from a folder that holds one series."""

    def __init__(self, path: Path, mpp: float | None) -> None:
        groups = _levels(path)
        first = groups[0][0]
        stated = stated_pixel_size(*first.spacing_um)
        levels = tuple(Level.below(first.shape, group[0].shape, group[0].tile) for group in groups)
        super().__init__(path, "DICOM", levels, stated, mpp)
        self.scanner = first.scanner
        self._paths = [instance.path for group in groups for instance in group]
        self._files: list[PositionedFile] = []
        # viewers let go of slides without closing them, and half-opened ones must not keep files
        weakref.finalize(self, _close, self._files)
        self._cache = SegmentCache(_CACHE_BYTES)
        self._is_closed = False
        try:
            self._sources = [self._source(group) for group in groups]
            if self._orders_tiles():
                self.format = "DICOM (order of tiles found by their seams)"
        except BaseException:
            _close(self._files)
            raise

    def _source(self, group: Sequence[Instance]) -> _Source:
        """Open the files of a level."""
        first, parts = group[0], []
        for instance in group:
            file = PositionedFile(instance.path)
            self._files.append(file)
            parts.append((instance.first_frame, frames_of(instance, file), file))
        decode = _decoder(first)
        # JPEG decoders and the transforms inside of JPEG 2000 give RGB by themselves
        is_ycbcr = first.photometric == "YBR_FULL" and first.syntax not in _JPEGS
        colours = Colours(first.n_samples, is_inverted=first.photometric == "MONOCHROME1", is_ycbcr=is_ycbcr)
        return _Source(first, parts, _frame_table(group), decode, colours)

    def _orders_tiles(self) -> bool:
        """Put the tiles of levels that do not say so in columns, where they fit so; tell whether any does."""
        found = False
        for index, source in enumerate(self._sources):
            if source.instance.organization or not source.is_full or not _runs_down_columns(source, self.name):
                continue
            found = True
            n_rows, n_cols = source.instance.grid
            in_columns = np.arange(n_rows * n_cols, dtype=np.int64).reshape(n_cols, n_rows).T
            self._sources[index] = replace(source, frame_of=in_columns)
        return found

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        if self._is_closed:
            raise InvalidInputError(f"{self.name} is closed. Open it again with open_slide.")
        source = self._sources[level]
        height, width = source.instance.tile
        region = np.empty((row1 - row0, col1 - col0, 3), np.uint8)
        for row in range(row0 // height, (row1 - 1) // height + 1):
            for col in range(col0 // width, (col1 - 1) // width + 1):
                index = row * source.instance.grid[1] + col
                tile = self._cache.get((level, index))
                if tile is None:
                    tile = source.tile(row, col, f"{self.name}: level {level}")
                    if tile is not None:
                        self._cache.put((level, index), tile)
                place, part = overlap((row * height, col * width), (height, width), (row0, col0, row1, col1))
                region[place] = WHITE if tile is None else tile[part]
        return region

    def _sampled(self) -> str:
        """Return a fingerprint of all volume files, whatever their names and their order."""
        return joined_fingerprint(("file", mark) for mark in sorted(file_fingerprint(path) for path in self._paths))

    def close(self) -> None:
        """Close the files and empty the cache; later reads raise `InvalidInputError`."""
        self._is_closed = True
        _close(self._files)
        self._cache.clear()


def _close(files: Iterable[PositionedFile]) -> None:
    """Close files."""
    for file in files:
        file.close()


def _levels(path: Path) -> list[list[Instance]]:
    """Return the files of each level, finest first; parts of one picture (concatenations) in their order."""
    instances = [read_instance(path)] if path.is_file() else _of_folder(path)
    volumes = [instance for instance in instances if instance.flavour == _VOLUME]
    if not volumes:
        kinds = ", ".join(sorted({instance.flavour.lower() for instance in instances}))
        raise UnreadFormatError(
            f"{path.name} must hold a VOLUME image, which shows the tissue; it holds: {kinds}. Such images may show a"
            " patient's name and are not opened. Name the volume file, or the folder of the series."
        )
    if len({instance.series for instance in volumes}) > 1:
        raise UnreadFormatError(
            f"{path.name} must hold one slide; it holds {len({instance.series for instance in volumes})} DICOM series."
            " Put each into a folder of its own, or name a file."
        )
    groups: dict[tuple[tuple[int, int], str], list[Instance]] = defaultdict(list)
    for number, instance in enumerate(volumes):
        groups[instance.shape, instance.source or f"alone {number}"].append(instance)
    ordered = sorted(groups.values(), key=lambda group: -group[0].shape[0] * group[0].shape[1])
    levels = [sorted(ordered[0], key=lambda part: part.first_frame)]
    for group in ordered[1:]:
        if group[0].shape == levels[-1][0].shape:
            raise UnreadFormatError(
                f"{path.name} must hold one picture of each size; it holds two of {group[0].shape} px, such as focal"
                " planes. Put one of each size into a folder."
            )
        if _is_level_of(levels[0][0].shape, group[0].shape):
            levels.append(sorted(group, key=lambda part: part.first_frame))
    return levels


def _is_level_of(full: tuple[int, int], small: tuple[int, int]) -> bool:
    """Whether a picture has the proportions of the finest, within what rounding does."""
    wanted = small[0] * full[1] / full[0]
    return abs(small[1] - wanted) <= 2 + 0.01 * wanted


def _of_folder(folder: Path) -> list[Instance]:
    """Read every whole-slide image of a folder; other DICOM files, such as annotations, are passed by."""
    found, refusal = [], None
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or not is_dicom(path):
            continue
        try:
            found.append(read_instance(path))
        except UnreadFormatError as error:
            refusal = error
    if not found:
        raise refusal or FileFormatError(
            f"{folder.name} must hold DICOM files; there are none in it. Name the folder in which they lie themselves."
        )
    return found


def _frame_table(group: Sequence[Instance]) -> NDArray[np.int64]:
    """Return the number of the frame of each tile of a level, (rows, cols) of the grid; -1 where there is none."""
    first = group[0]
    n_frames, grid = sum(instance.n_frames for instance in group), first.grid
    places = [] if first.organization == "TILED_FULL" else [tile_positions(instance) for instance in group]
    if any(places):
        table = np.full(grid, -1, np.int64)
        for instance, own in zip(group, places, strict=True):
            for number, (row, col) in enumerate(own):
                if row < grid[0] and col < grid[1]:
                    table[row, col] = instance.first_frame + number
        return table
    starts = np.cumsum([0] + [instance.n_frames for instance in group[:-1]])
    if n_frames != grid[0] * grid[1] or [instance.first_frame for instance in group] != starts.tolist():
        raise FileFormatError(
            f"{first.path.name} must hold {grid[0]} x {grid[1]} tiles; {n_frames} are found, in {len(group)} file"
            f"{'s' * (len(group) > 1)}. A file of the series is missing, or it holds several planes."
        )
    return np.arange(n_frames, dtype=np.int64).reshape(grid)


def _runs_down_columns(source: _Source, name: str) -> bool:
    """Tell whether tiles follow each other down the columns, in a file that says nothing about their order.

    The standard's order is along rows. Tiles that follow each other are neighbours in both orders, beside or below:
    where the lower edge of one fits the upper edge of the next clearly better, columns it is.
    """
    n_rows, n_cols = source.instance.grid
    beside, below = [], []
    pairs = [i for i in range(n_rows * n_cols - 1) if (i + 1) % n_cols and (i + 1) % n_rows]
    for index in pairs[:: max(1, len(pairs) // _MOST_SEAMS)]:
        try:
            tiles = [source.tile(*divmod(place, n_cols), name) for place in (index, index + 1)]
        except FileFormatError:
            continue  # a damaged tile is told of when it is asked for
        one, other = (np.asarray(tile, np.float64) for tile in tiles)
        beside.append(np.abs(one[:, -1] - other[:, 0]).mean())
        below.append(np.abs(one[-1] - other[0]).mean())
    return bool(beside) and float(np.mean(below)) < _CLEARLY * float(np.mean(beside))


_JPEG_BASE = "1.2.840.10008.1.2.4."
_JPEGS = (_JPEG_BASE + "50", _JPEG_BASE + "51")
_CODECS = {
    **dict.fromkeys((_JPEG_BASE + "57", _JPEG_BASE + "70"), "ljpeg_decode"),
    **dict.fromkeys((_JPEG_BASE + "80", _JPEG_BASE + "81"), "jpegls_decode"),
    **dict.fromkeys([_JPEG_BASE + ending for ending in ("90", "91", "201", "202", "203")], "jpeg2k_decode"),
    **dict.fromkeys([_JPEG_BASE + ending for ending in ("110", "111", "112")], "jpegxl_decode"),
}
_RLE = "1.2.840.10008.1.2.5"


def _decoder(instance: Instance) -> Decoder:
    """Return what turns a frame into samples, or refuse its compression."""
    import imagecodecs

    if not instance.is_encapsulated:
        if instance.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"):
            raise UnreadFormatError(
                f"{instance.path.name} must hold whole pixels; they are {instance.photometric}. Export it as RGB."
            )
        return partial(_plain, instance=instance)
    if instance.syntax in _JPEGS:
        is_rgb = instance.photometric == "RGB"
        return partial(_jpeg, n_samples=instance.n_samples, is_rgb=is_rgb)
    if instance.syntax == _RLE:
        return partial(_run_lengths, instance=instance)
    if (codec := _CODECS.get(instance.syntax)) is None:
        raise UnreadFormatError(
            f"{instance.path.name} is compressed in a way that is not read (transfer syntax {instance.syntax})."
            " Export it as JPEG, JPEG 2000 or uncompressed."
        )
    decode: Decoder = getattr(imagecodecs, codec)
    return decode


def _plain(frame: bytes, instance: Instance) -> NDArray[Any]:
    """Read an uncompressed frame, by pixel or by plane."""
    samples = np.frombuffer(frame, np.uint8)
    if not instance.is_planar:
        return samples
    return np.moveaxis(samples.reshape(instance.n_samples, *instance.tile), 0, -1)


def _run_lengths(frame: bytes, instance: Instance) -> NDArray[Any]:
    """Decode a frame of run lengths, which lie by plane."""
    import imagecodecs

    samples = np.frombuffer(imagecodecs.dicomrle_decode(frame, np.dtype(np.uint8)), np.uint8)
    return np.moveaxis(samples.reshape(instance.n_samples, *instance.tile), 0, -1)


def _jpeg(frame: bytes, n_samples: int, is_rgb: bool) -> NDArray[Any]:
    """Decode a JPEG; its own markers say whether it holds RGB or luma and chroma, else the file does."""
    import imagecodecs

    if b"\xff\xd9" not in frame[-4:]:
        # libjpeg fills what is missing with grey and says nothing
        raise ValueError("its JPEG has no end")
    if n_samples == 1:
        return np.asarray(imagecodecs.jpeg8_decode(frame))
    stated = _is_rgb_by_marker(frame)
    colours = "RGB" if (is_rgb if stated is None else stated) else "YCBCR"
    return np.asarray(imagecodecs.jpeg8_decode(frame, colorspace=colours, outcolorspace="RGB"))


def _is_rgb_by_marker(frame: bytes) -> bool | None:
    """Return what Adobe's or JFIF's marker says about the colours of a JPEG, None where there is neither."""
    place, is_jfif = 2, False
    while frame[place : place + 1] == b"\xff" and frame[place + 1] != 0xDA:
        marker, size = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        content = frame[place + 4 : place + 2 + size]
        if marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12:
            return content[11] == 0
        is_jfif |= marker == 0xE0 and content.startswith(b"JFIF")
        place += 2 + size
    return False if is_jfif else None
