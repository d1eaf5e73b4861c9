"""What drawn tissue is made of: noise, fibres, nuclei, drops and wavy outlines.

Lengths are in µm; (row, col) everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

__all__ = [
    "COARSE_UM",
    "N_ANGLES",
    "N_VARIANTS",
    "TEXTURE_PX",
    "Outline",
    "draw_nuclei",
    "enlarged",
    "fibre_texture",
    "jittered_grid",
    "smooth_noise",
    "soft_disc",
]

COARSE_UM = 8.0
"""Side of a cell of a plan, µm."""

N_ANGLES = 16
N_VARIANTS = 6
TEXTURE_PX = 1024

FloatArray = npt.NDArray[np.float32]
Generator = np.random.Generator


def smooth_noise(
    rng: Generator, shape: tuple[int, int], wavelength_um: float, cell_um: float = COARSE_UM
) -> FloatArray:
    """Return noise (rows, cols) of mean 0 and standard deviation 1 whose bumps repeat after about `wavelength_um`.

    It tiles the plane where both sides are powers of two.
    """
    sigma = wavelength_um / cell_um / 4.5
    roomy = (fft.next_fast_len(shape[0], real=True), fft.next_fast_len(shape[1], real=True))
    low_pass = [
        np.exp(-2 * (np.pi * sigma * frequency) ** 2) for frequency in (fft.fftfreq(roomy[0]), fft.rfftfreq(roomy[1]))
    ]
    spectrum = fft.rfft2(rng.standard_normal(roomy, dtype=np.float32))
    spectrum *= np.outer(*low_pass).astype(np.float32)
    noise = fft.irfft2(spectrum, roomy)[: shape[0], : shape[1]]
    noise -= noise.mean()
    return np.asarray(noise / noise.std(), np.float32)


@dataclass(frozen=True)
class Outline:
    """A wavy circle around (row, col) µm, of mean `radius` µm; the waves (n_waves, 3) are order, height and phase."""

    row: float
    col: float
    radius: float
    waves: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, rng: Generator, row: float, col: float, radius: float, wobble: float) -> Outline:
        """Draw one whose waves are about `wobble` radii high; the slowest are the highest."""
        orders = np.array([2.0, 3.0, 5.0])
        waves = np.column_stack([orders, wobble * rng.normal(0, 1 / orders), rng.uniform(0, 2 * np.pi, 3)])
        return cls(row, col, radius, waves)

    def factor(self, angle: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the distance of the edge at angles atan2(row, col), in radii."""
        edge = 1 + sum(height * np.cos(order * angle + phase) for order, height, phase in self.waves)
        return np.asarray(np.maximum(edge, 0.4))

    def points(self, angles: npt.NDArray[np.float64], radius: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return points (n, 2) µm on copies of the outline of other mean radii."""
        away = radius * self.factor(angles)
        return np.column_stack([self.row + away * np.sin(angles), self.col + away * np.cos(angles)])


# long and short half axis (µm) with their spread, amount of hematoxylin, contrast of the chromatin
_NUCLEI = {
    "lymphocyte": (3.4, 3.1, 0.09, 1.45, 0.13),
    "basal": (4.6, 3.0, 0.12, 1.15, 0.15),
    "spindle": (6.8, 1.6, 0.22, 1.00, 0.12),
    "pleomorphic": (6.0, 4.3, 0.24, 1.25, 0.34),
}


def draw_nuclei(rng: Generator, kind: str, mpp: float) -> list[list[FloatArray]]:
    """Draw the pictures of a kind of nucleus: for each angle, variants of (side, side) amounts of hematoxylin."""
    long, short, spread, amount, contrast = _NUCLEI[kind]
    side = int(np.ceil(2 * (long * (1 + 2 * spread) + 1.5) / mpp)) | 1
    grid = (np.arange(side) - side // 2) * mpp
    rows, cols = np.meshgrid(grid, grid, indexing="ij")
    chromatin = rng.standard_normal((N_ANGLES, N_VARIANTS, side, side), dtype=np.float32)
    chromatin = ndimage.gaussian_filter(chromatin, (0, 0, 0.9 / mpp, 0.9 / mpp))
    chromatin /= chromatin.std()
    pictures: list[list[FloatArray]] = []
    for step, patterns in enumerate(chromatin):
        angle = np.pi * step / N_ANGLES
        along, across = rows * np.sin(angle) + cols * np.cos(angle), rows * np.cos(angle) - cols * np.sin(angle)
        variants: list[FloatArray] = []
        for pattern in patterns:
            axes = np.array([long, short]) * np.exp(np.clip(rng.normal(0, spread, 2), -1.6 * spread, 1.6 * spread))
            bent = across + rng.normal(0, 0.5) * spread * along**2 / long
            distance = np.hypot(along / axes[0], bent / axes[1])
            inside = np.clip((1 - distance) * axes[1] / (0.7 * max(mpp, 0.6)) + 0.5, 0, 1)
            rim = 0.5 + 0.5 * np.clip(distance, 0, 1) ** 3 if contrast > 0.2 else 1.0  # pale within: vesicular
            darkness = amount * np.exp(rng.normal(0, contrast)) * rim * (1 + 0.8 * contrast * pattern)
            variants.append((inside * np.clip(darkness, 0.1, 1.7)).astype(np.float32))
        pictures.append(variants)
    return pictures


def fibre_texture(rng: Generator, angle: float, mpp: float) -> FloatArray:
    """Return a picture of collagen fibres that tiles the plane: (1024, 1024), mean 0, amounts of eosin."""
    row, col = fft.fftfreq(TEXTURE_PX, mpp)[:, None], fft.rfftfreq(TEXTURE_PX, mpp)[None]
    along, across = row * np.sin(angle) + col * np.cos(angle), row * np.cos(angle) - col * np.sin(angle)
    spectrum = fft.rfft2(rng.standard_normal((TEXTURE_PX, TEXTURE_PX), dtype=np.float32))
    total = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    for length, width, weight in ((40.0, 2.2, 0.7), (70.0, 6.0, 1.0), (120.0, 16.0, 0.5)):
        kernel = np.exp(-2 * np.pi**2 * ((along * length / 2) ** 2 + (across * width / 2) ** 2))
        kernel *= 1 - np.exp(-2 * np.pi**2 * (across * width * 1.6) ** 2)
        layer = fft.irfft2(spectrum * kernel.astype(np.float32))
        total += weight * layer / layer.std()
    total /= total.std()
    # Fibres are bright or dark for good, with thin pale gaps between them.
    return np.asarray(0.085 * np.tanh(1.4 * total) - 0.13 * np.clip(-total - 1.25, 0, 1.2), np.float32)


def jittered_grid(
    rng: Generator, extent: tuple[float, float], spacing: float, jitter: float
) -> npt.NDArray[np.float64]:
    """Return points (n, 2) over (height, width) µm: a brick pattern whose points stray by `jitter` spacings."""
    rows, cols = np.meshgrid(np.arange(0, extent[0], spacing), np.arange(0, extent[1], spacing), indexing="ij")
    cols = cols + 0.5 * spacing * (np.arange(len(cols)) % 2)[:, None]
    points = np.column_stack([rows.ravel(), cols.ravel()])
    return np.asarray(points + rng.uniform(-jitter, jitter, points.shape) * spacing)


def enlarged(field: FloatArray, px: npt.NDArray[np.int64], mpp: float) -> FloatArray:
    """Return rows of px (n, …) by linear interpolation between rows of the plan."""
    at = np.clip((px + 0.5) * mpp / COARSE_UM - 0.5, 0, len(field) - 1)
    low = np.minimum(at.astype(int), len(field) - 2)
    rows = field[low + 1]
    below = field[low]
    rows -= below
    rows *= (at - low).astype(np.float32)[:, None]
    rows += below
    return np.asarray(rows)


def soft_disc(radius: float, mpp: float) -> FloatArray:
    """Draw a disc with a soft edge: 1 within, 0 outside."""
    side = 2 * int(np.ceil((radius + 1.0) / mpp)) + 1
    grid = (np.arange(side) - side // 2) * mpp
    return np.asarray(np.clip((radius - np.hypot(grid[:, None], grid)) / 1.3 + 0.5, 0, 1), np.float32)
