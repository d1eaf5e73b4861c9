"""Slides in OME-Zarr folders: 0.4 and 0.5, sharded or not, RGB or grey, on a local disk."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from napari_prospector.errors import FileFormatError, InvalidInputError, StorageError, UnreadFormatError
from napari_prospector.tokens.boxes import overlap
from napari_prospector.tokens.fingerprints import file_fingerprint, joined_fingerprint
from napari_prospector.tokens.ngff import Image, find_image
from napari_prospector.tokens.scanners import ome_scanner
from napari_prospector.tokens.segments import DAMAGE, SegmentCache
from napari_prospector.tokens.slides import Level, Slide, stated_pixel_size

__all__ = ["OmeZarrSlide"]

_CACHE_BYTES = 64 * 2**20
_MOST_CHUNK_BYTES = 512 * 2**20
_MOST_XML_BYTES = 16 * 2**20
_SAMPLES_A_SIDE = 4
_BLOSC_HEAD = 16
_DAMAGE = (*DAMAGE, zlib.error)


class _BloscStore(LocalStore):
    """Chunks of blosc, looked at before they are decoded: it believes their head, and reads on behind their end."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a file, or raise `ValueError` for a chunk that is not as long as it says."""
        content = await super().get(key, prototype, byte_range)
        if content is not None and byte_range is None and not key.endswith((".zarray", ".zattrs", "zarr.json")):
            said = (
                struct.unpack_from("<L", content[:_BLOSC_HEAD].to_bytes(), 12)[0] if len(content) >= _BLOSC_HEAD else -1
            )
            if said != len(content):
                raise ValueError(f"it has {len(content)} bytes and should have {said if said >= 0 else 'more'}")
        return content


def _is_blosc(metadata: Path) -> bool:
    """Tell whether the chunks of an array, as they are stored, are blosc's."""
    described = json.loads(metadata.read_bytes())
    codecs = described.get("codecs") or [described.get("compressor") or {}]
    return "blosc" in (codecs[-1].get("name"), codecs[-1].get("id"))


@dataclass(frozen=True, eq=False)
class _Array:
    """A level: its zarr array, what its axes are, and the file that says so."""

    pixels: Any
    axes: tuple[str, ...]
    metadata: Path

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self._plane(self.pixels.shape)

    @property
    def chunk(self) -> tuple[int, int]:
        """(rows, cols) of what is decoded at once: of a shard, one of its chunks."""
        rows, cols = self._plane(self.pixels.chunks)
        return min(rows, self.shape[0]), min(cols, self.shape[1])

    def _plane(self, extents: tuple[int, ...]) -> tuple[int, int]:
        return int(extents[self.axes.index("y")]), int(extents[self.axes.index("x")])

    def read(self, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        """Return a box inside of the level as RGB; chunks that are not there hold the fill value."""
        if not self.metadata.is_file():
            # else a disk that went away would read as a slide of fill values
            raise StorageError(f"{self.metadata} is gone. Check that the disk with the slide is still there.")
        places = {"y": slice(row0, row1), "x": slice(col0, col1), "c": slice(None)}
        box = np.asarray(self.pixels[tuple(places.get(axis, 0) for axis in self.axes)])
        left = [axis for axis in self.axes if axis in places]
        order = [left.index(axis) for axis in "cyx" if axis in left]
        planes = box.transpose(order)
        planes = planes if "c" in left else planes[None]
        rgb = np.empty((row1 - row0, col1 - col0, 3), np.uint8)
        for channel in range(3):
            # plane by plane: three times as fast as numpy's own way of moving the first axis to the end
            rgb[..., channel] = planes[channel if len(planes) > 1 else 0]
        return rgb

    def sampled_chunks(self) -> Iterator[str]:
        """Yield the keys of up to 4 x 4 stored pieces (chunks, or shards) that are spread over the plane."""
        pieces = self.pixels.shards or self.pixels.chunks
        ranges = []
        for axis, extent, piece in zip(self.axes, self.pixels.shape, pieces, strict=True):
            count = -(-extent // piece)
            few = np.linspace(0, count - 1, _SAMPLES_A_SIDE).round().astype(int) if axis in "yx" else range(count)
            ranges.append(sorted({int(place) for place in few}))
        for place in product(*ranges):
            yield self.pixels.metadata.encode_chunk_key(place)


class OmeZarrSlide(Slide):
    """A slide in an OME-Zarr folder; made by `open_slide`."""

    def __init__(self, path: Path, mpp: float | None) -> None:
        image = find_image(path)
        arrays = [_array(image, level, path.name) for level in image.paths]
        shape = arrays[0].shape
        self._arrays: list[_Array] = []
        levels = []
        for index, array in enumerate(arrays):
            scale = _scale(image, index, shape, array.shape)
            if index and (scale is None or array.shape[0] * array.shape[1] >= np.prod(self._arrays[-1].shape)):
                continue
            self._arrays.append(array)
            below = Level.below(shape, array.shape, array.chunk)
            levels.append(below if scale is None else Level(array.shape, scale, array.chunk))
        stated = stated_pixel_size(image.pixel_um("y"), image.pixel_um("x"))
        super().__init__(path, f"OME-Zarr {image.version}", tuple(levels), stated, mpp)
        self._image = image
        self.scanner = _scanner(path)
        self._cache = SegmentCache(_CACHE_BYTES)
        self._is_closed = False

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        if self._is_closed:
            raise InvalidInputError(f"{self.name} is closed. Open it again with open_slide.")
        height, width = self._arrays[level].chunk
        n_cols = -(-self._arrays[level].shape[1] // width)
        box = (row0, col0, row1, col1)
        region = np.empty((row1 - row0, col1 - col0, 3), np.uint8)
        missing = []
        for row, col in product(
            range(row0 // height, (row1 - 1) // height + 1), range(col0 // width, (col1 - 1) // width + 1)
        ):
            chunk = self._cache.get((level, row * n_cols + col))
            if chunk is None:
                missing.append((row, col))
                continue
            place, part = overlap((row * height, col * width), chunk.shape[:2], box)
            region[place] = chunk[part]
        if missing:
            self._read_missing(level, missing, region, box)
        return region

    def _read_missing(
        self, level: int, missing: list[tuple[int, int]], region: NDArray[np.uint8], box: tuple[int, int, int, int]
    ) -> None:
        """Read the chunks (row, col) that are not in the cache, all at once, into a region and the cache."""
        array = self._arrays[level]
        (height, width), shape = array.chunk, array.shape
        n_cols = -(-shape[1] // width)
        first, last = np.min(missing, axis=0), np.max(missing, axis=0) + 1
        top, left = int(first[0]) * height, int(first[1]) * width
        bottom, right = min(int(last[0]) * height, shape[0]), min(int(last[1]) * width, shape[1])
        try:
            pixels = array.read(top, left, bottom, right)
        except StorageError:
            raise
        except _DAMAGE:
            self._name_the_damaged(level, missing)
            raise
        for row, col in missing:
            corner = row * height, col * width
            chunk = pixels[corner[0] - top : corner[0] - top + height, corner[1] - left : corner[1] - left + width]
            place, part = overlap(corner, (chunk.shape[0], chunk.shape[1]), box)
            region[place] = chunk[part]
            # what was taken as a whole is rarely asked for again
            if region[place].shape != chunk.shape:
                chunk = chunk.copy()  # of its own: a view would keep all that was read
                chunk.flags.writeable = False
                self._cache.put((level, row * n_cols + col), chunk)

    def _name_the_damaged(self, level: int, chunks: list[tuple[int, int]]) -> None:
        """Raise `FileFormatError` for the first of some chunks that cannot be read."""
        array = self._arrays[level]
        (height, width), (rows, cols) = array.chunk, array.shape
        for row, col in chunks:
            top, left = row * height, col * width
            try:
                array.read(top, left, min(top + height, rows), min(left + width, cols))
            except PermissionError as error:
                raise StorageError(f"{self.name} cannot be read: {error}. Check its permissions.") from error
            except _DAMAGE as error:
                raise FileFormatError(
                    f"{self.name}: level {level}, chunk (row {row}, col {col}) of array"
                    f" {array.metadata.parent.name!r} cannot be decoded: {error}. It is damaged there; copy it again."
                ) from error

    def _sampled(self) -> str:
        """Return a fingerprint of the metadata and of up to 4 x 4 chunks (or shards) of the finest and coarsest level.

        Chunks are taken at even distances over the plane, named by their key; one that is missing counts as such. No
        folder is listed, so that a slide of a million chunks costs as little as one of ten.
        """
        image = self._image
        parts = [("axes", json.dumps([image.axes, image.units_um, image.scales, image.offsets]))]
        for array in self._arrays:
            described = json.loads(array.metadata.read_bytes())
            described.pop("attributes", None)
            parts.append(("array", json.dumps(described, sort_keys=True)))
        for array in {id(one): one for one in (self._arrays[0], self._arrays[-1])}.values():
            for key in array.sampled_chunks():
                file = array.metadata.parent / key
                parts.append((key, file_fingerprint(file, n_samples=2) if file.is_file() else "missing"))
        return joined_fingerprint(parts)

    def close(self) -> None:
        """Empty the cache; later reads raise `InvalidInputError`."""
        self._is_closed = True
        self._cache.clear()


def _array(image: Image, path: str, name: str) -> _Array:
    """Open the array of a level, or refuse what is no 8-bit RGB or grey plane."""
    folder = image.folder / path
    is_v3 = image.version == "0.5"
    metadata = folder / ("zarr.json" if is_v3 else ".zarray")
    if not metadata.is_file():
        raise FileFormatError(f"{name} must hold the level {path!r} that it lists; it is missing. Copy it again.")
    try:
        store = _BloscStore if _is_blosc(metadata) else LocalStore
        pixels: Any = zarr.open_array(store(folder, read_only=True), mode="r", zarr_format=3 if is_v3 else 2)
    except _DAMAGE as error:
        raise UnreadFormatError(
            f"{name}: level {path!r} cannot be opened: {error}. Its metadata is damaged, or its compression is not"
            " read; copy it again, or write it with blosc, zstd or gzip."
        ) from error
    _check_is_one_plane(pixels, image.axes, f"{name}: level {path!r}")
    return _Array(pixels, image.axes, metadata)


def _check_is_one_plane(pixels: Any, axes: tuple[str, ...], where: str) -> None:
    """Raise `UnreadFormatError` for stacks, other channels than RGB or grey, and other pixels than 8-bit ones."""
    if len(pixels.shape) != len(axes) or min(pixels.shape) < 1:
        raise FileFormatError(
            f"{where} must have the axes {', '.join(axes)}; its shape is {pixels.shape}. Copy it again."
        )
    extents = dict(zip(axes, pixels.shape, strict=True))
    if extents.get("t", 1) > 1 or extents.get("z", 1) > 1:
        raise UnreadFormatError(f"{where} must be one plane; got {extents}. Export one plane as 8-bit RGB.")
    if extents.get("c", 1) not in (1, 3) or pixels.dtype != np.uint8:
        raise UnreadFormatError(
            f"{where} must hold 8-bit RGB or grey pixels (c = 3 or 1, uint8); got c = {extents.get('c', 1)},"
            f" {pixels.dtype}. Export it as 8-bit RGB."
        )
    n_bytes = int(np.prod(pixels.chunks))
    if n_bytes > _MOST_CHUNK_BYTES:
        raise UnreadFormatError(
            f"{where} must be stored in chunks of at most {_MOST_CHUNK_BYTES >> 20} MB; one has {pixels.chunks}."
            " Write it anew in chunks of 512 x 512."
        )


def _scale(image: Image, index: int, shape0: tuple[int, int], shape: tuple[int, int]) -> tuple[float, float] | None:
    """Return level-0 pixels per pixel of a level, (row, col), as its transformations state them.

    None where they cannot be meant: the level would not cover the slide within a pixel of its own, or would begin
    elsewhere. Such a level is not used; one whose transformations say nothing is judged by its size.
    """
    first, own = image.scales[0], image.scales[index]
    whole = Level.below(shape0, shape, shape).scale
    if first is None or own is None:
        return whole
    scale = []
    for axis, full, small, by_size in zip("yx", shape0, shape, whole, strict=True):
        place = image.axes.index(axis)
        ratio = own[place] / first[place]
        if abs(full / ratio - small) > 1:
            ratio = by_size  # writers that give every level the scale of the first
        # centres of pixels are what a translation places: (ratio - 1) / 2 where corners meet, 0 where nobody cared
        shift = (image.offsets[index][place] - image.offsets[0][place]) / first[place]
        if abs(shift) > ratio:
            return None
        scale.append(ratio)
    return scale[0], scale[1]


def _scanner(path: Path) -> str | None:
    """Return maker and model from the OME-XML that bioformats2raw lays beside the images."""
    xml = path / "OME" / "METADATA.ome.xml"
    try:
        is_small = xml.is_file() and xml.stat().st_size <= _MOST_XML_BYTES
        return ome_scanner(xml.read_text(encoding="utf-8")) if is_small else None
    except (OSError, UnicodeDecodeError):
        return None
