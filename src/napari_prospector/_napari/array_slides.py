"""Slides that are arrays of an open layer, whichever reader made it: numpy, dask or zarr, with levels or without.

What a file is to other slides, the content is here: tokens are kept in the user's cache by a fingerprint of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.slides import Level, PixelSize, Slide, stated_pixel_size

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["ArraySlide", "GreyLevel", "grey_levels", "layer_pixel_size", "n_channels"]

CHUNK_PX = 512
N_SAMPLES, SAMPLE_PX = 16, 64
MOST_CHANNELS = 64
RGB, RGBA = 3, 4


class ArraySlide(Slide):
    """A slide over arrays that somebody else holds open.

    Parameters
    ----------
    name
        As the user knows it.
    arrays
        Finest first, each (rows, cols, 3 or 4): red, green, blue and perhaps opacity, over white; whole numbers of
        which the type's largest is full, or fractions up to 1.
    mpp
        Width of a level-0 pixel in µm; None where it is not known.

    Raises
    ------
    InvalidInputError
        If an array has another shape or type.
    """

    def __init__(self, name: str, arrays: Sequence[Any], mpp: float | None) -> None:
        for array in arrays:
            if len(array.shape) != 3 or array.shape[2] not in (RGB, RGBA) or np.dtype(array.dtype).kind not in "uf":
                raise InvalidInputError(
                    "A slide must have shape (rows, cols, 3 or 4), of unsigned numbers or fractions; layer "
                    f"{name!r} has {tuple(array.shape)} of {array.dtype}. Choose an RGB layer."
                )
        self._arrays: list[Any] | None = list(arrays)
        size = arrays[0].shape[:2]
        levels = tuple(Level.below(size, tuple(array.shape[:2]), _chunk(array)) for array in arrays)
        stated = PixelSize(mpp, None if mpp is not None else "states no pixel size")
        super().__init__(Path(name), "layer", levels, stated, mpp)
        self.name = name

    @classmethod
    def of_layer(cls, layer: Image, mpp: float | None = None) -> ArraySlide:
        """Return a layer's arrays as a slide.

        Parameters
        ----------
        layer
            RGB, two-dimensional.
        mpp
            As typed; None takes what scale and units of the layer say.
        """
        arrays = list(layer.data) if layer.multiscale else [layer.data]
        return cls(str(layer.name), arrays, layer_pixel_size(layer).mpp if mpp is None else mpp)

    def close(self) -> None:
        """Let go of the arrays; they are the layer's."""
        self._arrays = None

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.uint8]:
        if self._arrays is None:
            raise InvalidInputError(f"{self.name} is closed. Prospect its layer again.")
        return _as_rgb(np.asarray(self._arrays[level][row0:row1, col0:col1]))

    def _sampled(self) -> str:
        """Return a fingerprint of shape, type and samples of the finest level, and of a small picture of all of it."""
        assert self._arrays is not None
        finest = self._arrays[0]
        digest = hashlib.sha256(repr((tuple(finest.shape), str(finest.dtype), len(self._arrays))).encode())
        rows, cols = self.shape
        steps = math.isqrt(N_SAMPLES)
        for row in np.linspace(0, max(rows - SAMPLE_PX, 0), steps).astype(int).tolist():
            for col in np.linspace(0, max(cols - SAMPLE_PX, 0), steps).astype(int).tolist():
                block = np.asarray(finest[row : row + SAMPLE_PX, col : col + SAMPLE_PX])
                digest.update(np.ascontiguousarray(block).tobytes())
        digest.update(self.thumbnail(256).tobytes())
        return digest.hexdigest()


def layer_pixel_size(layer: Image) -> PixelSize:
    """Return the width of a layer's pixels in µm, as its transform and units say it; None where units are pixels."""
    origin, down, right = (np.asarray(layer.data_to_world(at)) for at in ((0, 0), (1, 0), (0, 1)))
    widths = [
        float(np.linalg.norm(step) * (1 * unit).to("micrometer").magnitude)
        if unit.is_compatible_with("micrometer")
        else None
        for step, unit in zip((down - origin, right - origin), layer.units, strict=True)
    ]
    return stated_pixel_size(widths[0], widths[1])


def n_channels(layer: Image) -> int:
    """Return how many grey channels a layer that is not RGB has; 0 where it cannot be looked at as a slide."""
    if layer.rgb or layer.ndim not in (2, 3):
        return 0
    finest = layer.data[0] if layer.multiscale else layer.data
    count = 1 if layer.ndim == 2 else int(finest.shape[0])
    return count if count <= MOST_CHANNELS else 0


class GreyLevel:
    """One channel of an array as grey RGB, read piece by piece: (rows, cols, 3) of uint8.

    Parameters
    ----------
    array
        Shape (rows, cols), or (channels, rows, cols).
    channel
        Which; of an array of two axes it must be 0.
    limits
        What becomes black, and what white.
    """

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, array: Any, channel: int, limits: tuple[float, float]) -> None:
        self._array, self._channel, self._limits = array, channel, limits
        self.shape = (int(array.shape[-2]), int(array.shape[-1]), RGB)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole of it."""
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Read rows and columns; the colours are cut afterwards."""
        parts = key if isinstance(key, tuple) else (key,)
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts = (*parts[:at], *[slice(None)] * (4 - len(parts)), *parts[at + 1 :])
        complete: list[Any] = [*parts, *[slice(None)] * (3 - len(parts))]
        rows, cols, color = complete
        lead = () if len(self._array.shape) == 2 else (self._channel,)
        grey = np.asarray(self._array[(*lead, rows, cols)], dtype=np.float32)
        low, high = self._limits
        shown = np.clip((grey - low) / max(high - low, 1e-30) * 255, 0, 255).round().astype(np.uint8)
        return np.asarray(np.repeat(shown[..., None], RGB, axis=-1)[..., color])


def grey_levels(layer: Image, channel: int) -> list[GreyLevel]:
    """Return one channel of a layer as grey RGB, in the contrast in which it is shown now; finest level first."""
    low, high = layer.contrast_limits
    arrays = list(layer.data) if layer.multiscale else [layer.data]
    return [GreyLevel(array, channel, (float(low), float(high))) for array in arrays]


def _as_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels (rows, cols, 3 or 4) as uint8, what is clear as white."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == RGB:
        return np.array(pixels)
    full = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    shares = np.clip(np.nan_to_num(pixels.astype(np.float32)) / np.float32(full), 0, 1)
    if pixels.shape[2] == RGBA:
        opacity = shares[..., 3:]
        shares = shares[..., :3] * opacity + (1 - opacity)
    return np.asarray((shares * 255).round(), dtype=np.uint8)


def _chunk(array: Any) -> tuple[int, int]:
    """Return the size of the pieces that an array is read in: its own, or those of files."""
    chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None)
    if chunks is None or not all(isinstance(size, int) for size in chunks[:2]):
        return min(CHUNK_PX, int(array.shape[0])), min(CHUNK_PX, int(array.shape[1]))
    return int(chunks[0]), int(chunks[1])
