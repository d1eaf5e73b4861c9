"""The stored pixels of a TIFF level: tiles and strips, fetched by position, decoded, cached, turned into RGB.

Nothing here knows tifffile: tiff.py reads the tables of a file and hands over offsets, sizes and a decoder.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, StorageError

__all__ = [
    "DAMAGE",
    "WHITE",
    "Colours",
    "PositionedFile",
    "Rows",
    "SegmentCache",
    "Segments",
]

UInt8Array = NDArray[np.uint8]
Box = tuple[int, int, int, int]

WHITE = 255
"""The grey value of what lies outside of a slide, and of tiles that its scanner left out."""
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What tifffile and the codecs raise when a file does not hold what its tags say."""

_ROWS_CHUNK = (512, 512)


@dataclass(frozen=True)
class Colours:
    """How the samples of a pixel become RGB.

    Parameters
    ----------
    n_colours
        1 for grey, 3 for colour; what follows them is alpha or ignored.
    is_inverted
        Grey whose zero is white.
    is_ycbcr
        Luma and chroma that the decoder leaves as they are.
    alpha
        "" (none, or of unknown meaning), "straight" or "premultiplied".
    """

    n_colours: int
    is_inverted: bool = False
    is_ycbcr: bool = False
    alpha: str = ""

    def rgb(self, samples: NDArray[Any]) -> UInt8Array:
        """Turn samples, (rows, cols, n_samples) of 8 or 16 bits, into RGB; 16 bits are scaled by their full range."""
        if samples.dtype.itemsize == 2:
            samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
        colours = samples[..., : self.n_colours]
        if self.is_inverted:
            colours = 255 - colours
        if self.n_colours == 1:
            colours = np.repeat(colours, 3, axis=2)
        if self.is_ycbcr:
            colours = _rgb_of_ycbcr(colours)
        if self.alpha:
            colours = self._over_white(colours, samples[..., self.n_colours : self.n_colours + 1])
        return colours

    def _over_white(self, colours: UInt8Array, alpha: UInt8Array) -> UInt8Array:
        """Lay colours on white, rounded to the nearest."""
        opaque = alpha.astype(np.uint32)
        shares = opaque if self.alpha == "straight" else np.uint32(255)
        light = colours.astype(np.uint32) * shares + WHITE * (255 - opaque)
        laid: UInt8Array = np.minimum((light + 127) // 255, 255).astype(np.uint8)
        return laid


@dataclass(frozen=True, eq=False)
class Segments:
    """A level in tiles or compressed strips, `chunk` pixels each, row by row; planes apart follow each other.

    `shape` is what the level shows. `stored` is what its tiles were laid out for; some makers pad it. `decode` takes
    the bytes of a segment and its place in the tables; where a segment is a stack of `n_stacked` stored pieces, one
    below the other, `join` makes one of their bytes. What `is_quick` to decode is kept only where a read took a part
    of it.
    """

    shape: tuple[int, int]
    stored: tuple[int, int]
    chunk: tuple[int, int]
    n_planes: int
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    decode: Callable[[bytes, int], NDArray[Any]]
    endings: tuple[bytes, ...]
    colours: Colours
    is_quick: bool = False
    n_stacked: int = 1
    join: Callable[[list[bytes]], bytes] | None = None

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Number of segments along each axis."""
        return -(-self.stored[0] // self.chunk[0]), -(-self.stored[1] // self.chunk[1])

    @cached_property
    def pieces(self) -> tuple[int, int]:
        """Number of stored pieces along each axis."""
        return -(-self.stored[0] * self.n_stacked // self.chunk[0]), self.grid[1]

    def check_ends(self, file_size: int, where: str) -> None:
        """Raise `FileFormatError` if a segment is missing from the tables or ends behind the end of the file."""
        wanted = self.pieces[0] * self.pieces[1] * self.n_planes
        if len(self.offsets) < wanted or len(self.sizes) < wanted:
            raise FileFormatError(
                f"{where} needs {wanted} tiles; its table names {min(len(self.offsets), len(self.sizes))}."
                " The file is damaged; copy it again."
            )
        offsets, sizes = self.offsets[:wanted], self.sizes[:wanted]
        # not offsets + sizes: damaged tables may hold numbers whose sum wraps round
        late = (offsets < 0) | (sizes < 0) | (sizes > file_size - offsets)
        if late.any():
            index = int(np.argmax(late))
            raise FileFormatError(
                f"{where}, {self.name_of(index)} should have {sizes[index]} bytes from byte {offsets[index]} on; the"
                f" file has {file_size} in all. It is truncated; copy it again."
            )

    def name_of(self, place: int) -> str:
        """Name a stored piece as users count: by its place in the grid."""
        row, col = divmod(place % (self.pieces[0] * self.pieces[1]), self.pieces[1])
        return f"tile (row {row}, col {col})"

    def read(
        self,
        file: PositionedFile,
        box: tuple[int, int, int, int],
        cache: SegmentCache,
        number: tuple[int, int],
        where: str,
    ) -> UInt8Array:
        """Return a box (row0, col0, row1, col1) that lies inside of the level as RGB, free to be changed.

        `number` tells the pages of a file apart in its cache: level, and which of its pages.
        """
        row0, col0, row1, col1 = box
        height, width = self.chunk
        if (row1 - row0, col1 - col0) == self.chunk and row0 % height == col0 % width == 0 and self.is_quick:
            index = row0 // height * self.grid[1] + col0 // width
            if cache.get((*number, index)) is None:
                alone = self.decode_segment(file, index, where)
                return np.full((height, width, 3), WHITE, np.uint8) if alone is None else alone
        region = np.empty((row1 - row0, col1 - col0, 3), np.uint8)
        for row in range(row0 // height, (row1 - 1) // height + 1):
            top = row * height
            first_row, stop_row = max(top, row0), min(top + height, row1)
            for col in range(col0 // width, (col1 - 1) // width + 1):
                left = col * width
                first_col, stop_col = max(left, col0), min(left + width, col1)
                index = row * self.grid[1] + col
                segment = cache.get((*number, index))
                if segment is None:
                    segment = self.decode_segment(file, index, where)
                    part = first_row, first_col, stop_row, stop_col
                    if segment is not None and not (self.is_quick and self._is_all_of(top, left, part)):
                        segment.flags.writeable = False
                        cache.put((*number, index), segment)
                region[first_row - row0 : stop_row - row0, first_col - col0 : stop_col - col0] = (
                    WHITE
                    if segment is None
                    else segment[first_row - top : stop_row - top, first_col - left : stop_col - left]
                )
        return region

    def _is_all_of(self, top: int, left: int, part: tuple[int, int, int, int]) -> bool:
        """Whether a part (row0, col0, row1, col1) holds all that a segment adds to the level."""
        stop_row, stop_col = min(top + self.chunk[0], self.shape[0]), min(left + self.chunk[1], self.shape[1])
        return part == (top, left, stop_row, stop_col)

    def decode_segment(self, file: PositionedFile, index: int, where: str) -> UInt8Array | None:
        """Return one segment as RGB, `chunk` large; None if the file leaves it out."""
        per_plane = self.grid[0] * self.grid[1]
        planes = []
        for plane in range(self.n_planes):
            place = index + plane * per_plane
            if self.join is not None:
                encoded = self.join(self._stack(file, index, where))
            elif self.sizes[place] == 0 or self.offsets[place] == 0:
                return None
            else:
                encoded = self._piece(file, place, where)
            planes.append(self._decode(encoded, place, where))
        rgb = self.colours.rgb(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2))
        if rgb.shape[:2] != self.chunk:
            # the last strip, and JPEG tiles that were cut at the slide's edge
            rows, cols = rgb.shape[:2]
            rgb = np.pad(rgb, ((0, self.chunk[0] - rows), (0, self.chunk[1] - cols), (0, 0)), constant_values=WHITE)
        return np.ascontiguousarray(rgb)

    def _stack(self, file: PositionedFile, index: int, where: str) -> list[bytes]:
        """Return the bytes of the pieces of a segment, from top to bottom."""
        row, col = divmod(index, self.grid[1])
        rows = range(row * self.n_stacked, min((row + 1) * self.n_stacked, self.pieces[0]))
        return [self._piece(file, each * self.grid[1] + col, where) for each in rows]

    def _piece(self, file: PositionedFile, place: int, where: str) -> bytes:
        """Return the bytes of a stored piece, which end as they must."""
        encoded = file.read(int(self.offsets[place]), int(self.sizes[place]))
        # libjpeg fills what is missing with grey and says nothing
        if encoded.endswith(self.endings):
            return encoded
        encoded = encoded.rstrip(b"\0")
        if not encoded.endswith(self.endings):
            raise FileFormatError(
                f"{where}, {self.name_of(place)} is cut short: its JPEG has no end. The file is damaged; copy it again."
            )
        return encoded

    def _decode(self, encoded: bytes, place: int, where: str) -> NDArray[Any]:
        """Return one plane of a segment, (rows, cols, samples)."""
        try:
            return self.decode(encoded, place)
        except DAMAGE as error:
            name = self.name_of(place) if self.n_stacked == 1 else f"tile row {place // self.grid[1] * self.n_stacked}"
            raise FileFormatError(
                f"{where}, {name} cannot be decoded: {error}. The file is damaged there; copy it again."
            ) from error


@dataclass(frozen=True, eq=False)
class Rows:
    """A level in uncompressed strips: any part of any row can be fetched as it is, and nothing is cached."""

    shape: tuple[int, int]
    strip_rows: int
    n_samples: int
    dtype: np.dtype[Any]
    offsets: NDArray[np.int64]
    colours: Colours

    @property
    def chunk(self) -> tuple[int, int]:
        """What is convenient to read at once; the file has no grain of its own."""
        return min(_ROWS_CHUNK[0], self.shape[0]), min(_ROWS_CHUNK[1], self.shape[1])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the level."""
        return self.shape[1] * self.n_samples * self.dtype.itemsize

    def place_of(self, row: int) -> int:
        """Return the byte at which a row begins."""
        return int(self.offsets[row // self.strip_rows]) + row % self.strip_rows * self.row_bytes

    def check_ends(self, file_size: int, where: str) -> None:
        """Raise `FileFormatError` if a strip is missing from the tables or ends behind the end of the file."""
        if len(self.offsets) * self.strip_rows < self.shape[0] or (self.offsets == 0).any():
            raise FileFormatError(f"{where} names too few strips for its rows. The file is damaged; copy it again.")
        for strip in range(-(-self.shape[0] // self.strip_rows)):
            end = self.place_of(min((strip + 1) * self.strip_rows, self.shape[0]) - 1) + self.row_bytes
            if end > file_size:
                raise FileFormatError(
                    f"{where}, strip {strip} ends at byte {end}, and the file has {file_size}."
                    " It is truncated; copy it again."
                )

    def read(
        self,
        file: PositionedFile,
        box: tuple[int, int, int, int],
        cache: SegmentCache,
        number: tuple[int, int],
        where: str,
    ) -> UInt8Array:
        """Return a box (row0, col0, row1, col1) that lies inside of the level as RGB; see `Segments.read`."""
        row0, col0, row1, col1 = box
        pixel_bytes = self.n_samples * self.dtype.itemsize
        width = col1 - col0
        is_whole = width == self.shape[1]
        pieces, row = [], row0
        while row < row1:
            # a strip's rows lie side by side: full rows come in one read
            stop = min(row1, (row // self.strip_rows + 1) * self.strip_rows) if is_whole else row + 1
            pieces.append(file.read(self.place_of(row) + col0 * pixel_bytes, (stop - row) * width * pixel_bytes))
            row = stop
        samples = np.frombuffer(b"".join(pieces), self.dtype).reshape(row1 - row0, width, self.n_samples)
        rgb = self.colours.rgb(samples)
        return rgb if rgb.flags.writeable else rgb.copy()


class PositionedFile:
    """Reads at given places, from many threads at once."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error
        # viewers let go of slides without closing them
        weakref.finalize(self, self._file.close)
        self._name = path.name
        self._lock = threading.Lock()
        self.size = self._file.seek(0, os.SEEK_END)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes that begin at `offset`."""
        if self._file.closed:
            raise InvalidInputError(f"{self._name} is closed. Open it again with open_slide.")
        try:
            content = self._read(offset, size)
        except OSError as error:
            raise StorageError(f"{self._name} cannot be read at byte {offset}: {error}. Check the disk.") from error
        if len(content) != size:
            raise FileFormatError(
                f"{self._name} ends inside of a tile, at byte {offset + len(content)}. Copy it again."
            )
        return content

    def _read(self, offset: int, size: int) -> bytes:
        """Read where the system reads positions, without moving a shared one; Windows has no pread."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class SegmentCache:
    """Decoded segments by level, page and index, least recently used first out, bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._segments: OrderedDict[tuple[int, ...], UInt8Array] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, ...]) -> UInt8Array | None:
        """Return a segment and mark it as used."""
        with self._lock:
            segment = self._segments.get(key)
            if segment is not None:
                self._segments.move_to_end(key)
            return segment

    def put(self, key: tuple[int, ...], segment: UInt8Array) -> None:
        """Keep a segment; the newest stays even if it alone is larger than the bound."""
        with self._lock:
            if key in self._segments:
                return
            self._segments[key] = segment
            self._bytes += segment.nbytes
            while self._bytes > self._most_bytes and len(self._segments) > 1:
                self._bytes -= self._segments.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._segments.clear()
            self._bytes = 0


@cache
def _chroma_tables() -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return what chroma 0-255 adds to red, to blue, and (times 65536) to green from Cb and from Cr.

    JFIF's factors, rounded as OpenSlide rounds them, so that slides that both read have the same pixels.
    """
    chroma = np.arange(256) - 128
    red, blue = np.rint(1.40200 * chroma), np.rint(1.77200 * chroma)
    green_cb, green_cr = np.rint(-0.34414 * 65536 * chroma), np.rint(-0.71414 * 65536 * chroma) + (1 << 15)
    return red.astype(np.int32), blue.astype(np.int32), green_cb.astype(np.int32), green_cr.astype(np.int32)


def _rgb_of_ycbcr(ycbcr: UInt8Array) -> UInt8Array:
    """Convert full-range BT.601 luma and chroma, (rows, cols, 3), to RGB."""
    red, blue, green_cb, green_cr = _chroma_tables()
    luma, cb, cr = (ycbcr[..., i].astype(np.intp) for i in range(3))
    channels = (luma + red[cr], luma + ((green_cb[cb] + green_cr[cr]) >> 16), luma + blue[cb])
    rgb: UInt8Array = np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
    return rgb
