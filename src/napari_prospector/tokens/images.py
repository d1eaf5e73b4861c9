"""Small slides in PNG or JPEG files, decoded as a whole."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError
from napari_prospector.tokens.slides import Level, Slide, stated_pixel_size

__all__ = ["ImageSlide"]

_MOST_IMAGE_PIXELS = 80_000_000  # 240 MB as RGB; below Pillow's own limit of 89 million


class ImageSlide(Slide):
    """A PNG or JPEG, held in memory from the first read on; orientation marks of cameras are not followed."""

    def __init__(self, path: Path, format_name: str, mpp: float | None) -> None:
        with _pillow(path, format_name) as image:
            cols, rows = image.size
            mode, dpi = image.mode, image.info.get("dpi")
        if rows * cols > _MOST_IMAGE_PIXELS:
            raise _too_large(path, format_name, f"{rows} x {cols} px")
        if mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
            raise FileFormatError(f"{path.name} must hold 8-bit grey or RGB pixels; got {mode}. Save it as 8-bit RGB.")
        widths = [25400 / float(dots) if float(dots) > 0 else None for dots in dpi or (0, 0)]
        level = Level((rows, cols), (1.0, 1.0), (rows, cols))
        super().__init__(path, format_name, (level,), stated_pixel_size(widths[1], widths[0]), mpp)
        self._image: NDArray[np.uint8] | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        with self._lock:
            if self._is_closed:
                raise InvalidInputError(f"{self.name} is closed. Open it again with open_slide.")
            if self._image is None:
                self._image = _decode_image(self.path, self.format)
            return self._image[row0:row1, col0:col1].copy()

    def close(self) -> None:
        """Free the picture; later reads raise `InvalidInputError`."""
        with self._lock:
            self._image, self._is_closed = None, True


def _pillow(path: Path, format_name: str) -> Any:
    """Open a picture with Pillow, as the named format only; its pixels are not read yet."""
    from PIL import Image

    try:
        return Image.open(path, formats=[format_name])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, format_name, str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FileFormatError(f"{path.name} is a damaged {format_name}: {error}. Copy it again.") from error


def _decode_image(path: Path, format_name: str) -> NDArray[np.uint8]:
    """Decode a whole picture to RGB, what is transparent on white."""
    from PIL import Image

    with _pillow(path, format_name) as image:
        try:
            if image.mode in ("LA", "RGBA") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
            return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise FileFormatError(f"{path.name} is a damaged {format_name}: {error}. Copy it again.") from error


def _too_large(path: Path, format_name: str, came: str) -> FileFormatError:
    """Make the refusal of a picture that would not fit in memory."""
    return FileFormatError(
        f"{path.name}: a {format_name} is decoded as a whole and may have {_MOST_IMAGE_PIXELS:,} pixels; got {came}."
        " Convert it to a tiled, pyramidal TIFF."
    )
