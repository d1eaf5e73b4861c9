"""Artefacts planted into pictures of tissue, truth known: to choose thresholds of the quality flags, and to test them.

Light that passes two layers is the product of what each lets through, so ink and folds multiply.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_prospector.tokens.quality import MEASURES

__all__ = ["INKS", "Planted", "plant_artefacts"]

INKS: dict[str, tuple[float, float, float]] = {
    "blue": (0.12, 0.22, 0.62),
    "green": (0.10, 0.55, 0.28),
    "black": (0.10, 0.10, 0.11),
    "red": (0.80, 0.10, 0.14),
}
"""Share of red, green and blue light that a stroke of marker lets through."""

Generator = np.random.Generator
UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Planted:
    """A picture with artefacts.

    Attributes
    ----------
    image
        (rows, cols, 3) uint8.
    truth
        Where each artefact is, by name of the measure that should find it: (rows, cols) float32, 0 to 1.
    """

    image: UInt8Array
    truth: dict[str, FloatArray]

    def shares(self, tile_px: int) -> dict[str, npt.NDArray[np.float64]]:
        """Return the share of each tile that is covered by each artefact, (rows // tile_px, cols // tile_px)."""
        rows, cols = (extent // tile_px for extent in self.image.shape[:2])
        return {
            name: where[: rows * tile_px, : cols * tile_px]
            .reshape(rows, tile_px, cols, tile_px)
            .mean(axis=(1, 3), dtype=np.float64)
            for name, where in self.truth.items()
        }


def plant_artefacts(image: UInt8Array, seed: int, mpp: float = 0.5, n_each: int = 1) -> Planted:
    """Plant marker, blur, folds, and the rims of bubbles and cover slips into a picture of tissue.

    Parameters
    ----------
    image
        (rows, cols, 3) uint8, tissue and glass; at least about 1,000 µm a side, or artefacts cover it all.
    seed
        Decides everything; not negative.
    mpp
        Width of a pixel in µm.
    n_each
        Artefacts of each kind.

    Returns
    -------
    Planted
        Places, widths, colours and strengths are drawn at random: strokes 50 to 150 µm wide, blur by a Gaussian of
        1 to 3 µm, folds 30 to 90 µm wide, rims 8 to 25 µm thin.
    """
    rng = np.random.default_rng((seed, 17))
    light = np.percentile(image.reshape(-1, 3), 99, axis=0).astype(np.float32)
    shown = image.astype(np.float32)
    truth = {name: np.zeros(image.shape[:2], np.float32) for name in MEASURES}
    for _ in range(n_each):
        shown = _folded(shown, light, truth["fold"], rng, mpp)
        shown = _rimmed(shown, truth["bubble"], rng, mpp)
        shown = _blurred(shown, truth["blur"], rng, mpp)
        shown = _inked(shown, truth["pen"], rng, mpp)
    noisy = shown + rng.normal(0, 1, shown.shape).astype(np.float32)  # of the camera: after everything optical
    return Planted(np.rint(noisy).clip(0, 255).astype(np.uint8), truth)


def _distance_to_curve(shape: tuple[int, int], rng: Generator) -> FloatArray:
    """Return how far each pixel is from a random, gently waving line across the picture."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    rows, cols = np.indices(shape, dtype=np.float32)
    rows -= rng.uniform(0.2, 0.8) * shape[0]
    cols -= rng.uniform(0.2, 0.8) * shape[1]
    along = rows * np.sin(angle) + cols * np.cos(angle)
    across = rows * np.cos(angle) - cols * np.sin(angle)
    size = min(shape)
    return np.asarray(np.abs(across + 0.08 * size * np.sin(along * 4 / size + phase)), np.float32)


def _soft(distance: FloatArray, half_width: float, edge: float) -> FloatArray:
    """Return 1 within half a width, 0 outside, with a soft edge."""
    return np.asarray(np.clip((half_width - distance) / edge + 0.5, 0, 1), np.float32)


def _inked(image: FloatArray, truth: FloatArray, rng: Generator, mpp: float) -> FloatArray:
    """Draw a stroke of marker of a random colour."""
    from scipy import ndimage

    ink = np.array(list(INKS.values())[rng.integers(len(INKS))], np.float32) * rng.uniform(0.8, 1.2)
    stroke = _soft(_distance_to_curve(image.shape[:2], rng), rng.uniform(25, 75) / mpp, 6 / mpp)
    streaks = ndimage.gaussian_filter(rng.normal(0, 1, image.shape[:2]).astype(np.float32), 20 / mpp)
    amount = stroke * np.clip(1 + 0.12 * streaks / max(float(streaks.std()), 1e-6), 0.6, 1.3)
    np.maximum(truth, stroke, out=truth)
    return np.asarray(image * np.minimum(ink, 1) ** amount[..., None], np.float32)


def _blurred(image: FloatArray, truth: FloatArray, rng: Generator, mpp: float) -> FloatArray:
    """Bring a band out of focus."""
    from scipy import ndimage

    size = min(image.shape[:2])
    band = _soft(_distance_to_curve(image.shape[:2], rng), rng.uniform(0.12, 0.25) * size, 20 / mpp)
    sigma = rng.uniform(1.0, 3.0) / mpp
    smooth = ndimage.gaussian_filter(image, (sigma, sigma, 0))
    np.maximum(truth, band, out=truth)
    return np.asarray(image + band[..., None] * (smooth - image), np.float32)


def _folded(image: FloatArray, light: FloatArray, truth: FloatArray, rng: Generator, mpp: float) -> FloatArray:
    """Lay tissue from elsewhere over a band; only where both layers are tissue is there a fold."""
    half_width = rng.uniform(15, 45) / mpp
    band = _soft(_distance_to_curve(image.shape[:2], rng), half_width, 4 / mpp)
    shift = rng.uniform(0.2, 0.8, 2) * image.shape[:2]
    over = np.roll(image, shift.astype(int).tolist(), axis=(0, 1)) / light
    both = (image / light).mean(axis=2) < 0.9
    both &= over.mean(axis=2) < 0.9
    np.maximum(truth, band * both, out=truth)
    return np.asarray(image * np.minimum(over, 1) ** band[..., None], np.float32)


def _rimmed(image: FloatArray, truth: FloatArray, rng: Generator, mpp: float) -> FloatArray:
    """Draw the rim of a bubble, or the edge of a cover slip: a thin dark grey line that hides what is below."""
    width = rng.uniform(8, 25) / mpp
    if rng.random() < 0.5:
        rows, cols = np.indices(image.shape[:2], dtype=np.float32)
        centre = rng.uniform(0.25, 0.75, 2) * image.shape[:2]
        radius = rng.uniform(0.15, 0.35) * min(image.shape[:2])
        distance = np.abs(np.hypot(rows - centre[0], cols - centre[1]) - radius).astype(np.float32)
    else:
        distance = _distance_to_curve(image.shape[:2], rng)
    rim = _soft(distance, width / 2, width / 2)
    grey = np.float32(rng.uniform(60, 150)) + 40 * np.minimum(distance / width, 1)
    tint = rng.normal(0, 3, 3).astype(np.float32)
    np.maximum(truth, rim, out=truth)
    return np.asarray(image + 0.9 * rim[..., None] * (grey[..., None] + tint - image), np.float32)
