"""Slides that openslide reads and tifffile does not: MIRAX, Hamamatsu VMS and VMU, Zeiss CZI, Sakura, Trestle.

openslide is an extra, imported when such a slide is opened. Its pictures of label and macro are never asked for.
"""

from __future__ import annotations

import configparser
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MissingExtraError,
    StorageError,
    UnreadFormatError,
)
from napari_prospector.tokens.fingerprints import file_fingerprint, joined_fingerprint
from napari_prospector.tokens.scanners import aperio_scanner, tiff_scanner
from napari_prospector.tokens.segments import WHITE
from napari_prospector.tokens.slides import Level, PixelSize, Slide, stated_pixel_size

__all__ = ["OpenslideSlide", "is_known_to_openslide"]

_CACHE_BYTES = 64 * 2**20
_MOST_READ_PX = 16_000_000
_CHUNK_PX = 512
_N_COMPANION_SAMPLES = 3
_VENDORS = {
    "aperio": ("Aperio SVS", "Aperio"),
    "dicom": ("DICOM", None),
    "generic-tiff": ("TIFF", None),
    "hamamatsu": ("Hamamatsu", "Hamamatsu"),
    "leica": ("Leica SCN", "Leica"),
    "mirax": ("MIRAX", "3DHISTECH"),
    "philips": ("Philips TIFF", "Philips"),
    "sakura": ("Sakura SVSLIDE", "Sakura"),
    "trestle": ("Trestle TIFF", "Trestle"),
    "ventana": ("Ventana", "Ventana"),
    "zeiss": ("Zeiss CZI", "Zeiss"),
}


class OpenslideSlide(Slide):
    """A slide that openslide reads; made by `open_slide` where no other reader knows the file."""

    def __init__(self, path: Path, mpp: float | None) -> None:
        openslide = _import_openslide(path.name)
        self._error: type[Exception] = openslide.OpenSlideError
        self._lock = threading.Lock()
        _check_companions(path)
        self.path = path
        try:
            handle = self._opened(openslide)
            sizes = [(rows, cols) for cols, rows in handle.level_dimensions]
            self._downsamples = handle.level_downsamples
            properties = dict(handle.properties)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise UnreadFormatError(f"{path.name} is of no format that openslide reads.") from error
        except openslide.OpenSlideError as error:
            raise FileFormatError(
                f"{path.name} cannot be opened by openslide: {error}. Copy it again, with the files beside it."
            ) from error
        levels = tuple(Level.below(sizes[0], size, _chunk(properties, i, size)) for i, size in enumerate(sizes))
        name, _ = _VENDORS.get(properties.get("openslide.vendor", ""), ("slide", None))
        super().__init__(path, f"{name} (openslide)", levels, _pixel_size(properties), mpp)
        self.scanner = _scanner(properties)
        self._background = _background(properties)
        self._handle: Any = handle

    def __reduce__(self) -> tuple[Callable[..., Slide], tuple[str, float | None]]:
        # by this class, since another reader may know the file too
        return _reopened, (str(self.path), self._passed_mpp)

    def _opened(self, openslide: Any) -> Any:
        """Return a new handle with a cache of its own."""
        handle = openslide.OpenSlide(os.fspath(self.path))
        handle.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        return handle

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        region = np.empty((row1 - row0, col1 - col0, 3), np.uint8)
        # openslide gives 4 bytes a pixel: large boxes come band by band
        band = max(1, _MOST_READ_PX // (col1 - col0))
        for row in range(row0, row1, band):
            stop = min(row + band, row1)
            region[row - row0 : stop - row0] = self._rgb(self._read(level, row, col0, stop, col1))
        return region

    def _read(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        """Return a box as RGBA, (rows, cols, 4)."""
        # rounded by openslide's own factor, so that a pixel of the level is met as closely as its interface allows
        factor = self._downsamples[level]
        place = round(col0 * factor), round(row0 * factor)
        size = col1 - col0, row1 - row0
        handle = self._handle
        if handle is None:
            raise InvalidInputError(f"{self.name} is closed. Open it again with open_slide.")
        try:
            return np.asarray(handle.read_region(place, level, size))
        except self._error:
            pass
        # a handle that met damage fails for ever, in every thread: try alone, on a fresh one
        import openslide

        try:
            fresh = self._opened(openslide)
            pixels = np.asarray(fresh.read_region(place, level, size))
        except self._error as error:
            self._renew(handle, openslide)
            raise FileFormatError(
                f"{self.name}: level {level}, rows {row0}-{row1 - 1}, cols {col0}-{col1 - 1} cannot be read: {error}."
                " The file is damaged there; copy it again."
            ) from error
        self._renew(handle, openslide)
        return pixels

    def _renew(self, failed: Any, openslide: Any) -> None:
        """Replace the handle that failed, unless another thread or `close` did."""
        with self._lock:
            if self._handle is failed:
                try:
                    self._handle = self._opened(openslide)
                except self._error as error:
                    raise StorageError(
                        f"{self.name} cannot be opened again: {error}. Check that it is still there."
                    ) from error

    def _rgb(self, rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay pixels on the background of the slide, rounded to the nearest."""
        alpha = rgba[..., 3:]
        if (alpha == 255).all():
            return rgba[..., :3]
        opaque = alpha.astype(np.uint32)
        light = rgba[..., :3] * opaque + self._background * (255 - opaque)
        return ((light + 127) // 255).astype(np.uint8)

    def _sampled(self) -> str:
        """Return a fingerprint of the file and, where the pixels lie in others, of samples of those."""
        parts = [("slide", file_fingerprint(self.path))]
        for file in _companions(self.path):
            parts.append((file.name, file_fingerprint(file, _N_COMPANION_SAMPLES)))
        return joined_fingerprint(parts)

    def close(self) -> None:
        """Let go of the file and the cache; later reads raise `InvalidInputError`.

        The file is closed when the last thread that is reading it is done, for openslide must not close it before.
        """
        with self._lock:
            self._handle = None


def _reopened(path: str, mpp: float | None) -> OpenslideSlide:
    """Open a slide that travelled by its path."""
    return OpenslideSlide(Path(path), mpp)


def is_known_to_openslide(path: Path) -> bool | None:
    """Tell whether openslide knows the format of a file; None where openslide is not installed."""
    try:
        openslide = _import_openslide(path.name)
    except MissingExtraError:
        return None
    try:
        return openslide.OpenSlide.detect_format(os.fspath(path)) is not None
    except openslide.OpenSlideError:
        return False


def _import_openslide(name: str) -> Any:
    """Return openslide, or say how it is installed."""
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the library itself is missing
        raise MissingExtraError(
            f'{name} is read through openslide: pip install "napari-prospector[openslide]".'
        ) from error
    return openslide


def _check_companions(path: Path) -> None:
    """Say which folder or files are missing beside a slide that is only an index of them."""
    suffix = path.suffix.lower()
    if suffix == ".mrxs" and not (path.with_suffix("") / "Slidedat.ini").is_file():
        raise FileFormatError(
            f"{path.name} must lie beside the folder {path.stem!r} with Slidedat.ini and the pixels; there is none."
            " Copy both."
        )
    if suffix in (".vms", ".vmu"):
        missing = [file.name for file in _companions(path) if not file.is_file()]
        if missing:
            raise FileFormatError(
                f"{path.name} must lie beside the files that it names; {', '.join(missing[:3])} is missing. Copy them."
            )


def _companions(path: Path) -> list[Path]:
    """Return the files that hold the pixels of an index, in a fixed order; of many, the first, middle and last."""
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        stored = sorted(folder.glob("Data*.dat"))
        chosen = stored if len(stored) < 4 else [stored[0], stored[len(stored) // 2], stored[-1]]
        named = [folder / "Slidedat.ini", folder / "Index.dat"]
        return [file for file in named if file.is_file()] + chosen
    if suffix not in (".vms", ".vmu"):
        return []
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="latin-1"))
    except (OSError, configparser.Error):
        return []
    names = {
        value
        for section in parser.sections()
        for key, value in parser.items(section)
        if key.startswith(("imagefile", "mapfile")) and value
    }
    return [path.parent / Path(name).name for name in sorted(names)]


def _chunk(properties: dict[str, str], level: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return the (rows, cols) of the file's own tiles, or what is convenient."""
    sides = [properties.get(f"openslide.level[{level}].tile-{side}", "") for side in ("height", "width")]
    rows, cols = (int(side) if side.isdecimal() and int(side) > 0 else _CHUNK_PX for side in sides)
    return min(rows, size[0]), min(cols, size[1])


def _pixel_size(properties: dict[str, str]) -> PixelSize:
    """Return the pixel size that openslide finds."""
    sizes: list[float | None] = []
    for axis in "yx":
        try:
            sizes.append(float(properties[f"openslide.mpp-{axis}"]))
        except (KeyError, ValueError):
            sizes.append(None)
    return stated_pixel_size(sizes[0], sizes[1])


def _scanner(properties: dict[str, str]) -> str | None:
    """Return maker and model, as far as the file states them."""
    if properties.get("openslide.vendor") == "aperio":
        return aperio_scanner(properties.get("tiff.ImageDescription", ""))
    _, maker = _VENDORS.get(properties.get("openslide.vendor", ""), ("", None))
    return tiff_scanner(properties.get("tiff.Make"), properties.get("tiff.Model")) or maker


def _background(properties: dict[str, str]) -> NDArray[np.uint32]:
    """Return the colour below transparent pixels: the file's own, else white."""
    stated = properties.get("openslide.background-color", "")
    try:
        return np.array(list(bytes.fromhex(stated)[:3]), np.uint32) if len(stated) == 6 else _white()
    except ValueError:
        return _white()


def _white() -> NDArray[np.uint32]:
    """Return white."""
    return np.full(3, WHITE, np.uint32)
