"""Whole-slide images: any region of any level as RGB pixels, read when asked for.

`open_slide` gives the reader of a file's or folder's family; which, formats.py knows. A new family is a subclass of
`Slide` in a file of its own and a line in formats.py.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, PixelSizeError, ProspectorWarning
from napari_prospector.tokens.fingerprints import file_fingerprint
from napari_prospector.tokens.segments import WHITE
from napari_prospector.tokens.shrinking import aligned, block_means
from napari_prospector.tokens.stopping import check_stop

__all__ = ["MPP_RANGE", "WHITE", "Level", "PixelSize", "Slide", "open_slide", "stated_pixel_size"]

MPP_RANGE = (0.05, 20.0)
"""Widths of a level-0 pixel, in µm, that a microscope slide can have."""

_BLOCK_PX = 2048
_N_THREADS = min(4, os.cpu_count() or 1)  # that read an overview, a block each
_LEAST_DAMAGED_PX = 256  # pieces that a damaged part is looked for in
_DAMAGED_GREY = 128
_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Parameters
    ----------
    shape
        (rows, cols) in pixels of this level.
    scale
        Level-0 pixels per pixel of this level, (row, col). Whole numbers where the sizes of the levels allow it.
    chunk
        (rows, cols) of the file's own tiles or strips: reads that are aligned with them decode nothing twice.
    """

    shape: tuple[int, int]
    scale: tuple[float, float]
    chunk: tuple[int, int]

    @property
    def downsample(self) -> float:
        """Level-0 pixels per pixel of this level, the mean of both axes."""
        return (self.scale[0] + self.scale[1]) / 2

    @classmethod
    def below(cls, level0_shape: tuple[int, int], shape: tuple[int, int], chunk: tuple[int, int]) -> Level:
        """Describe a level by its size; a size that a whole factor explains within one pixel has that factor."""
        ratios = (level0_shape[0] / shape[0], level0_shape[1] / shape[1])
        factor = round(sum(ratios) / 2)
        is_whole = all(abs(full / factor - small) < 1 for full, small in zip(level0_shape, shape, strict=True))
        return cls(shape, (float(factor), float(factor)) if is_whole else ratios, chunk)


@dataclass(frozen=True)
class PixelSize:
    """What a file states about the width of its pixels: `mpp` in µm, or None and the `problem` as a clause."""

    mpp: float | None
    problem: str | None


def stated_pixel_size(row_um: float | None, col_um: float | None) -> PixelSize:
    """Judge the pixel size that a file states.

    Parameters
    ----------
    row_um, col_um
        Height and width of a level-0 pixel in µm; None where the file is silent. One alone counts for both.

    Returns
    -------
    PixelSize
        The mean of both, or the problem: none stated, outside of `MPP_RANGE`, or axes more than 5 % apart.

    Examples
    --------
    >>> stated_pixel_size(0.25, 0.25).mpp
    0.25
    >>> stated_pixel_size(352.9, 352.9).problem
    'states a pixel size of 352.9 µm, outside of 0.05-20 µm'
    """
    row_um, col_um = (col_um if row_um is None else row_um), (row_um if col_um is None else col_um)
    if row_um is None or col_um is None:
        return PixelSize(None, "states no pixel size")
    low, high = MPP_RANGE
    if not (low <= row_um <= high and low <= col_um <= high):
        stated = f"{col_um:.4g} µm" if math.isclose(row_um, col_um) else f"{row_um:.4g} x {col_um:.4g} µm (row, col)"
        return PixelSize(None, f"states a pixel size of {stated}, outside of {low:g}-{high:g} µm")
    if abs(row_um - col_um) > 0.05 * min(row_um, col_um):
        return PixelSize(None, f"states pixels of {row_um:.4g} x {col_um:.4g} µm (row, col), which are not square")
    return PixelSize((row_um + col_um) / 2, None)


class Slide(ABC):
    """A whole-slide image; made by `open_slide`.

    Reads are lazy and may come from many threads. A slide is pickled by its path (and the pixel size that was
    passed) and opened anew where it arrives. Attributes: `path` (absolute), `name` (the file's, without folder),
    `format`, `levels` (finest first), `mpp` (µm per level-0 pixel, or None), `mpp_problem` (why it is None) and
    `scanner` (maker and model, where the file states them).

    Parameters
    ----------
    path
        The file or folder.
    format_name
        As users call it, such as "Aperio SVS".
    levels
        Finest first.
    stated
        What the file says about its pixel size.
    mpp
        What the caller says about it; it wins.
    """

    def __init__(
        self, path: Path, format_name: str, levels: tuple[Level, ...], stated: PixelSize, mpp: float | None
    ) -> None:
        self.path = path
        self.name = path.name
        self.format = format_name
        self.scanner: str | None = None
        self.levels = levels
        self._passed_mpp = mpp
        self.mpp = stated.mpp if mpp is None else mpp
        self.mpp_problem = f"{self.name} {stated.problem}." if self.mpp is None else None
        self._fingerprint: str | None = None

    @abstractmethod
    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        """Return a non-empty box that lies inside of a level, (row1 - row0, col1 - col0, 3), free to be changed."""

    @abstractmethod
    def close(self) -> None:
        """Free the file and the cache; later reads raise `InvalidInputError`."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of level 0."""
        return self.levels[0].shape

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Slide], tuple[str, float | None]]:
        return open_slide, (str(self.path), self._passed_mpp)

    def __repr__(self) -> str:
        rows, cols = self.shape
        size = "no pixel size" if self.mpp is None else f"{self.mpp:.4g} µm per pixel"
        return f"<{self.format} {self.name}: {rows} x {cols} px, {len(self.levels)} levels, {size}>"

    def read(self, row: int, col: int, height: int, width: int, level: int = 0) -> NDArray[np.uint8]:
        """Read a box of one level.

        Parameters
        ----------
        row, col
            Upper left corner in pixels of that level; may be negative.
        height, width
            Size in pixels of that level, at least 1.
        level
            Index into `levels`.

        Returns
        -------
        ndarray
            RGB, shape (height, width, 3), uint8; white outside of the slide.

        Raises
        ------
        InvalidInputError
            There is no such level, the size is below 1, or the slide is closed.
        FileFormatError
            A tile is damaged; the message names it.
        """
        row, col, height, width, level = (operator.index(number) for number in (row, col, height, width, level))
        if not 0 <= level < len(self.levels):
            raise InvalidInputError(f"level must be in 0-{len(self.levels) - 1} for {self.name}; got {level}.")
        if height < 1 or width < 1:
            raise InvalidInputError(f"height and width must be at least 1; got {height} x {width}.")
        rows, cols = self.levels[level].shape
        row0, col0, row1, col1 = max(row, 0), max(col, 0), min(row + height, rows), min(col + width, cols)
        if row0 >= row1 or col0 >= col1:
            return np.full((height, width, 3), WHITE, np.uint8)
        inside = self._pixels(level, row0, col0, row1, col1)
        if inside.shape[:2] == (height, width):
            return inside
        region = np.full((height, width, 3), WHITE, np.uint8)
        region[row0 - row : row1 - row, col0 - col : col1 - col] = inside
        return region

    def require_mpp(self) -> float:
        """Return the width of a level-0 pixel in µm.

        Raises
        ------
        PixelSizeError
            The file states none, or one that cannot be, and none was passed.
        """
        if self.mpp is None:
            raise PixelSizeError(
                f"{self.mpp_problem} Pass mpp=…, the width of a level-0 pixel in µm, or fill the column mpp of the"
                " cohort."
            )
        return self.mpp

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine as `downsample` level-0 pixels per pixel."""
        fine = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * (1 + 1e-6)]
        return max(fine, key=lambda i: self.levels[i].downsample) if fine else 0

    def overview(self, downsample: float) -> tuple[NDArray[np.uint8], tuple[float, float]]:
        """Return the whole slide, shrunk by averaging; what streams is bounded, however large the slide.

        Parameters
        ----------
        downsample
            Level-0 pixels per pixel that is wished for, at least 1. A level is shrunk by a whole factor, so what
            comes is the same or finer.

        Returns
        -------
        image
            RGB, shape (rows, cols, 3), uint8.
        scale
            Level-0 pixels per pixel of the image, (row, col): exact. The last row and column may stand for less.
        """
        if not 1 <= downsample < math.inf:
            raise InvalidInputError(f"downsample must be at least 1; got {downsample!r}.")
        index = self.level_for(downsample)
        level = self.levels[index]
        factor = max(1, int(downsample / level.downsample * (1 + 1e-6)))
        return self._shrunk(index, factor), (level.scale[0] * factor, level.scale[1] * factor)

    def thumbnail(self, max_px: int) -> NDArray[np.uint8]:
        """Return the whole slide in at most `max_px` pixels a side, RGB, shape (rows, cols, 3), uint8."""
        if max_px < 1:
            raise InvalidInputError(f"max_px must be at least 1; got {max_px!r}.")
        index = self.level_for(max(1.0, max(self.shape) / max_px))
        return self._shrunk(index, -(-max(self.levels[index].shape) // max_px))

    def fingerprint(self) -> str:
        """Return a sha256 of the file's size and of samples of its content, spread evenly from head to tail.

        It reads 1 MB, does not depend on the path, and is the same on every machine.
        """
        if self._fingerprint is None:
            self._fingerprint = self._sampled()
        return self._fingerprint

    def _sampled(self) -> str:
        """Return a fingerprint of the files; a reader of folders says which."""
        return file_fingerprint(self.path)

    def _shrunk(self, index: int, factor: int) -> NDArray[np.uint8]:
        """Average squares of `factor` pixels of a level; at the far edges, what there is of them."""
        level = self.levels[index]
        rows, cols = level.shape
        problems: list[str] = []
        if factor == 1 and rows * cols * 3 <= _BLOCK_BYTES:
            image = self._legible(0, 0, rows, cols, index, problems)
            self._tell(problems)
            return image
        image = np.empty((-(-rows // factor), -(-cols // factor), 3), np.uint8)
        step_cols = cols if level.chunk[1] >= cols else aligned(_BLOCK_PX, factor, level.chunk[1])
        step_rows = aligned(min(_BLOCK_PX, _BLOCK_BYTES // (3 * step_cols)), factor, level.chunk[0])

        def fill(row: int, col: int) -> None:
            height, width = min(step_rows, rows - row), min(step_cols, cols - col)
            means = block_means(self._legible(row, col, height, width, index, problems), factor)
            top, left = row // factor, col // factor
            image[top : top + means.shape[0], left : left + means.shape[1]] = means

        corners = [(row, col) for row in range(0, rows, step_rows) for col in range(0, cols, step_cols)]
        with ThreadPoolExecutor(_N_THREADS, thread_name_prefix="overview") as pool:
            for _ in pool.map(fill, *zip(*corners, strict=True)):
                check_stop()  # what has not begun is dropped with the iterator
        self._tell(problems)
        return image

    def _legible(
        self, row: int, col: int, height: int, width: int, level: int, problems: list[str]
    ) -> NDArray[np.uint8]:
        """Read a box, grey where it is damaged, and add what is wrong to `problems`.

        Grey is dense enough to count as tissue: embedding then tries the tiles there, and tells which of them fail.
        """
        try:
            return self.read(row, col, height, width, level)
        except FileFormatError as error:
            if max(height, width) <= _LEAST_DAMAGED_PX:
                problems.append(str(error))
                return np.full((height, width, 3), _DAMAGED_GREY, np.uint8)
        box = np.empty((height, width, 3), np.uint8)
        axis = int(width > height)
        middle = -(-(height, width)[axis] // 2)
        halves = ((0, middle), (middle, (height, width)[axis]))
        for first, stop in halves:
            place, size = [row, col], [height, width]
            place[axis] += first
            size[axis] = stop - first
            part = self._legible(place[0], place[1], size[0], size[1], level, problems)
            box[(slice(first, stop), slice(None)) if axis == 0 else (slice(None), slice(first, stop))] = part
        return box

    def _tell(self, problems: list[str]) -> None:
        """Warn of damage in an overview."""
        if problems:
            warnings.warn(
                f"{self.name} is damaged in {len(set(problems))} places; overviews show them grey. The first:"
                f" {min(problems)}",
                ProspectorWarning,
                stacklevel=4,
            )


def open_slide(path: str | os.PathLike[str], mpp: float | None = None) -> Slide:
    """Open a slide, whatever its format.

    Read are Aperio SVS (JPEG and JPEG 2000), OME-TIFF and other TIFF, pyramidal and flat, tiled or in strips; OME-Zarr
    0.4 and 0.5; PNG and JPEG up to 80 million pixels; with the extra ``dicom`` DICOM; with the extra ``openslide``
    MRXS, VMS, VMU, CZI and what else openslide knows. docs/formats.md lists them.

    Parameters
    ----------
    path
        The file; of OME-Zarr the folder; of DICOM a file, or the folder that holds the files of one series.
    mpp
        Width of a level-0 pixel in µm, 0.05 to 20; it wins over what the file states.

    Returns
    -------
    Slide
        Close it, or use it in a ``with`` block.

    Raises
    ------
    MissingFileError
        There is no such file.
    FileFormatError
        The file is damaged, or (`UnreadFormatError`) of a format that is not read.
    MissingExtraError
        The format needs an extra; the message names it.
    PixelSizeError
        `mpp` is out of range.
    StorageError
        The system refuses to read the file.

    Examples
    --------
    >>> from napari_prospector.tokens.slides import open_slide
    >>> with open_slide("case7.svs") as slide:  # doctest: +SKIP
    ...     corner = slide.read(0, 0, 256, 256)
    """
    # the readers are subclasses of what this file holds
    from napari_prospector.tokens.formats import slide_at

    return slide_at(Path(os.path.abspath(path)), None if mpp is None else _checked_mpp(mpp))


def _checked_mpp(mpp: Any) -> float:
    """Return the pixel size that a caller passed, if it can be one."""
    low, high = MPP_RANGE
    if isinstance(mpp, bool) or not isinstance(mpp, (int, float, np.number)) or not low <= float(mpp) <= high:
        raise PixelSizeError(
            f"mpp must be the width of a level-0 pixel in µm, {low:g}-{high:g}; got {mpp!r}."
            " 40 x objectives have about 0.25, 20 x about 0.5."
        )
    return float(mpp)
