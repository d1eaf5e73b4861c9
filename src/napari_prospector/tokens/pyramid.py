"""Slides that are made here: pyramidal TIFF, truth picture and cohort table, each written whole or not at all.

An image may come as rows of pixels from top to bottom, so that a slide larger than memory can be written:
the smaller levels grow while level 0 passes, and wait as compressed tiles in an unnamed file.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
import numpy.typing as npt

from napari_prospector.errors import InvalidInputError, StorageError
from napari_prospector.tokens.durable import sync_folder

__all__ = ["CohortProgress", "MadeSlide", "atomic_path", "write_cohort_table", "write_pyramid", "write_truth"]

_SPOOL_BYTES = 16 * 2**20
_BIGTIFF_BYTES = 3 * 2**30
_MPP_RANGE = (0.05, 20.0)
_LAST_LEVEL_PX = 256

UInt8Array = npt.NDArray[np.uint8]
Encode = Callable[[UInt8Array], bytes]


@dataclass(frozen=True)
class MadeSlide:
    """One row of the cohort table of slides that were made, in the order of its columns.

    `path` and `truth` are relative to the table; `mpp` is in µm per level-0 pixel; `truth` is "" where there is none.
    """

    path: str
    label: str
    group: str
    split: str
    mpp: float
    truth: str


@dataclass(frozen=True)
class CohortProgress:
    """A slide of a cohort is complete: `done` of `total`, the last one at `path`."""

    done: int
    total: int
    path: Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a neighbouring path to write to; it becomes `path` when the block ends well, and is removed otherwise.

    Parameters
    ----------
    path
        The file that shall appear, or be replaced. Its folder is made when missing.

    Yields
    ------
    Path
        Where to write, in the same folder.

    Raises
    ------
    StorageError
        Where the system refuses to write: disk full, no permission.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            # the content before the name, or a power cut could leave an empty file under it
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(target)
            sync_folder(target.parent)
        finally:
            partial.unlink(missing_ok=True)
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{target} cannot be written: {reason}. Free some space or name another folder.") from error


def write_pyramid(
    path: str | os.PathLike[str],
    image: UInt8Array | Iterable[UInt8Array],
    mpp: float,
    *,
    shape: tuple[int, int] | None = None,
    tile_px: int = 256,
    quality: int | None = 90,
) -> Path:
    """Write an RGB image as a tiled TIFF pyramid that states its pixel size.

    Every level halves the one before, until both sides are at most 256 px. Levels are pages marked as reduced, the
    layout that tifffile, libvips, QuPath and OpenSlide's generic reader all know. The same pixels give the same bytes.

    Parameters
    ----------
    path
        File to write; it appears only when it is complete.
    image
        uint8, (rows, cols, 3); or an iterable of bands (any number of rows, cols, 3) from top to bottom, of which
        only a row of tiles per level is held in memory.
    mpp
        µm per level-0 pixel, 0.05 to 20; written as the resolution tags of each level, per centimetre.
    shape
        (rows, cols) of the whole image; needed where `image` comes in bands.
    tile_px
        Side of the tiles, a multiple of 16.
    quality
        JPEG quality 1 to 100, without chroma subsampling; None for lossless deflate.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InvalidInputError
        Where `mpp`, `tile_px`, `quality` or an array is not as said, or the bands do not add up to `shape`.
    StorageError
        Where the file cannot be written.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_pyramid(Path(folder) / "white.tif", np.full((600, 700, 3), 255, np.uint8), mpp=0.5)
    ...     with tifffile.TiffFile(path) as tiff:
    ...         print([level.shape[:2] for level in tiff.series[0].levels])
    [(600, 700), (300, 350), (150, 175)]
    """
    _check_request(mpp, tile_px, quality)
    if isinstance(image, np.ndarray):
        shape = image.shape[:2] if shape is None else shape
        image = [image]
    if shape is None or min(shape) < 1:
        raise InvalidInputError(
            f"shape must be (rows, cols), both at least 1, where the image comes in bands; got {shape}"
        )
    levels = [_Level(level_shape, tile_px, _encoder(quality)) for level_shape in _level_shapes(shape)]
    with atomic_path(path) as partial, _closing(levels):
        _write_levels(partial, levels, _checked_bands(image, shape), mpp, tile_px, quality)
    return Path(path)


def write_truth(path: str | os.PathLike[str], truth: npt.NDArray[np.bool_]) -> Path:
    """Write a truth mask as a grey PNG: 255 where true, 0 elsewhere.

    Pixel (i, j) of a picture of (R, C) stands for rows i·H/R to (i+1)·H/R and columns j·W/C to (j+1)·W/C of a slide
    of (H, W) px.

    Parameters
    ----------
    path
        File to write; it appears only when it is complete.
    truth
        (R, C), boolean.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InvalidInputError
        Where `truth` is not two-dimensional.
    """
    if truth.ndim != 2:
        raise InvalidInputError(f"truth must have shape (rows, cols); got {truth.shape}")
    with atomic_path(path) as partial:
        partial.write_bytes(imagecodecs.png_encode(np.where(truth, np.uint8(255), np.uint8(0))))
    return Path(path)


def write_cohort_table(path: str | os.PathLike[str], rows: Sequence[MadeSlide]) -> Path:
    """Write the cohort table of slides that were made: CSV with path, label, group, split, mpp and truth.

    Parameters
    ----------
    path
        File to write; it appears only when it is complete.
    rows
        One per slide.

    Returns
    -------
    Path
        The file written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(MadeSlide))
    writer.writerows(astuple(row) for row in rows)
    with atomic_path(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")
    return Path(path)


class _Level:
    """One level of the pyramid: takes rows, keeps encoded tiles, hands the halved rows on."""

    def __init__(self, shape: tuple[int, int], tile_px: int, encode: Encode) -> None:
        self.shape = shape
        self._tile_px = tile_px
        self._encode = encode
        self._waiting: list[UInt8Array] = []
        self._n_waiting = 0
        self._sizes: list[int] = []
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)

    def strips(self, rows: UInt8Array, last: bool = False) -> Iterator[UInt8Array]:
        """Take `rows` (h, cols, 3) and yield every strip of `tile_px` rows that is now complete."""
        self._waiting.append(rows)
        self._n_waiting += len(rows)
        if self._n_waiting < self._tile_px and not last:
            return
        joined = np.concatenate(self._waiting)
        n_whole = len(joined) if last else len(joined) // self._tile_px * self._tile_px
        self._waiting, self._n_waiting = [joined[n_whole:].copy()], len(joined) - n_whole
        for start in range(0, n_whole, self._tile_px):
            yield joined[start : min(start + self._tile_px, n_whole)]

    def encoded(self, strip: UInt8Array) -> Iterator[bytes]:
        """Yield the encoded tiles of a strip, white beyond its edges."""
        side = self._tile_px
        for start in range(0, self.shape[1], side):
            tile = strip[:, start : start + side]
            if tile.shape[:2] != (side, side):
                whole = np.full((side, side, 3), 255, np.uint8)
                whole[: tile.shape[0], : tile.shape[1]] = tile
                tile = whole
            yield self._encode(np.ascontiguousarray(tile))

    def keep(self, strip: UInt8Array) -> None:
        """Encode a strip and spool it."""
        for tile in self.encoded(strip):
            self._sizes.append(len(tile))
            self._spool.write(tile)

    def kept(self) -> Iterator[bytes]:
        """Yield the spooled tiles in order."""
        self._spool.seek(0)
        for size in self._sizes:
            yield self._spool.read(size)

    def close(self) -> None:
        """Drop the spool."""
        self._spool.close()


@contextmanager
def _closing(levels: Sequence[_Level]) -> Iterator[None]:
    """Close all levels at the end, come what may."""
    try:
        yield
    finally:
        for level in levels:
            level.close()


def _write_levels(
    path: Path, levels: Sequence[_Level], bands: Iterable[UInt8Array], mpp: float, tile_px: int, quality: int | None
) -> None:
    """Write level 0 from `bands` and then the levels that its passing has filled."""
    import tifffile

    n_bytes = 4 * levels[0].shape[0] * levels[0].shape[1]
    passing = _passing(levels, bands)
    with tifffile.TiffWriter(path, bigtiff=n_bytes > _BIGTIFF_BYTES) as tiff:
        for index, level in enumerate(levels):
            per_cm = 1e4 / (mpp * 2**index)
            tiff.write(
                level.kept() if index else map(bytes, passing),
                shape=(*level.shape, 3),
                dtype=np.uint8,
                photometric="rgb",
                tile=(tile_px, tile_px),
                compression="deflate" if quality is None else "jpeg",
                subsampling=None if quality is None else (1, 1),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if index else 0,
                software="napari-prospector",
                metadata=None,
            )
            # tifffile asks for no more than the tiles of level 0 and closes a generator that it is given, hence `map`:
            # the last rows of the levels below are still to come.
            deque(passing, maxlen=0)


def _passing(levels: Sequence[_Level], bands: Iterable[UInt8Array]) -> Iterator[bytes]:
    """Yield the encoded tiles of level 0, while its halved rows fill the levels below."""
    top, below = levels[0], levels[1:]
    empty = np.empty((0, top.shape[1], 3), np.uint8)
    for band in bands:
        for strip in top.strips(band):
            yield from top.encoded(strip)
            _fill(below, strip)
    for strip in top.strips(empty, last=True):
        yield from top.encoded(strip)
        _fill(below, strip)
    for index, level in enumerate(below):
        for strip in level.strips(np.empty((0, level.shape[1], 3), np.uint8), last=True):
            level.keep(strip)
            _fill(below[index + 1 :], strip)


def _fill(levels: Sequence[_Level], strip: UInt8Array) -> None:
    """Give the halved strip to the first level, and what that completes to the next."""
    if not levels:
        return
    for done in levels[0].strips(_halved(strip)):
        levels[0].keep(done)
        _fill(levels[1:], done)


def _halved(strip: UInt8Array) -> UInt8Array:
    """Return the rounded means of 2 × 2 px; an odd last row or column stands twice."""
    odd_rows, odd_cols = strip.shape[0] % 2, strip.shape[1] % 2
    if odd_rows or odd_cols:
        strip = np.pad(strip, ((0, odd_rows), (0, odd_cols), (0, 0)), mode="edge")
    wide = strip.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def _level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the shapes of all levels, each half of the one before, rounded up."""
    shapes = [shape]
    while max(shapes[-1]) > _LAST_LEVEL_PX:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes


def _encoder(quality: int | None) -> Encode:
    """Return the function that turns a tile into what a TIFF of that compression holds."""
    if quality is None:
        return lambda tile: bytes(imagecodecs.zlib_encode(tile.tobytes(), level=6))
    # The arguments are those that tifffile derives for photometric "rgb" and the same subsampling.
    return lambda tile: bytes(
        imagecodecs.jpeg8_encode(tile, quality, colorspace="RGB", outcolorspace="YCBCR", subsampling=(1, 1))
    )


def _checked_bands(bands: Iterable[UInt8Array], shape: tuple[int, int]) -> Iterator[UInt8Array]:
    """Yield the bands, refusing what is no RGB band of this width, and a wrong sum of rows."""
    n_rows = 0
    for band in bands:
        if band.ndim != 3 or band.shape[1:] != (shape[1], 3) or band.dtype != np.uint8:
            raise InvalidInputError(
                f"the image must be uint8 of shape (rows, {shape[1]}, 3); got {band.dtype} of shape {band.shape}"
            )
        n_rows += len(band)
        if n_rows > shape[0]:
            break
        yield band
    if n_rows != shape[0]:
        came = "more" if n_rows > shape[0] else n_rows
        raise InvalidInputError(f"the bands must add up to the {shape[0]} rows of shape; {came} came")


def _check_request(mpp: float, tile_px: int, quality: int | None) -> None:
    """Refuse what no slide should state."""
    if not _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]:
        raise InvalidInputError(f"mpp must lie within 0.05 and 20 µm per pixel; got {mpp}")
    if tile_px < 16 or tile_px % 16:
        raise InvalidInputError(f"tile_px must be a multiple of 16; got {tile_px}")
    if quality is not None and not 1 <= quality <= 100:
        raise InvalidInputError(f"quality must lie within 1 and 100, or be None for lossless; got {quality}")
