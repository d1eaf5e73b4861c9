"""Slides that are drawn: H&E for demo and tests, with a seed and a known truth.

What makes a tumour slide is an arrangement, never an ingredient. Each slide is drawn from a recipe that does not know
the label: so much stroma, fat, normal gland, crowded epithelium and lymphoid tissue, and a laboratory's staining. In a
*normal* slide, crowded epithelium and lymphoid tissue lie apart, each in islands within stroma. In a *tumour* slide,
one or two of those places fall together: lymphocytes infiltrate the crowded epithelium. That is the truth. The other
places lie apart there too, so that neither tissue by itself tells truth from decoy; amounts, and with them mean
colours, are those of a normal slide.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.arrangement import Kind, arrange
from napari_prospector.tokens.brushes import COARSE_UM, smooth_noise
from napari_prospector.tokens.drawing import draw_stain, render
from napari_prospector.tokens.pyramid import CohortProgress, MadeSlide, write_cohort_table, write_pyramid, write_truth

__all__ = ["DrawnSlide", "draw_bands", "draw_slide", "generate_cohort"]

_MIN_SIDE_UM = 1500.0
_MPP_RANGE = (0.25, 4.0)

_BLOCK_PX = 1024
_BAND_PX = 256
_TISSUE_SHARE = 0.65

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnSlide:
    """A slide in memory.

    Attributes
    ----------
    image
        (rows, cols, 3) uint8, RGB.
    truth
        (r, c) boolean: where lymphocytes infiltrate crowded epithelium; its cells divide the image evenly. All False
        in a normal slide.
    mpp
        µm per px of `image`.
    shares
        Part of the tissue's area that is stroma, adipose, crowded and lymphoid, by name; glands lie within the stroma.
    """

    image: npt.NDArray[np.uint8]
    truth: BoolArray
    mpp: float
    shares: dict[str, float]


def draw_slide(
    seed: int, tumour: bool, shape: tuple[int, int] = (3136, 3136), mpp: float = 1.0, stain_seed: int | None = None
) -> DrawnSlide:
    """Draw a slide.

    The same seed gives the same recipe and staining for either label; only the arrangement differs.

    Parameters
    ----------
    seed
        Decides everything; not negative.
    tumour
        Whether lymphocytes infiltrate crowded epithelium in one or two places.
    shape
        (rows, cols), px; each side at least 1,500 µm long.
    mpp
        µm per px, 0.25 to 4.
    stain_seed
        Slides of one number look stained together; `seed` unless told.

    Returns
    -------
    DrawnSlide
        The slide and its truth.

    Raises
    ------
    InvalidInputError
        Where an argument is not as said.

    Examples
    --------
    >>> slide = draw_slide(seed=1, tumour=True, shape=(1600, 1800))
    >>> slide.image.shape, slide.truth.shape, bool(slide.truth.any())
    ((1600, 1800, 3), (200, 225), True)
    """
    _check_request(seed, shape, mpp)
    plan, truth = arrange(seed, tumour, (shape[0] * mpp, shape[1] * mpp))
    stain = draw_stain(np.random.default_rng((seed if stain_seed is None else stain_seed, 3)))
    image = render(plan, stain, np.random.default_rng((seed, 4, int(tumour))), shape, mpp)
    n_tissue = np.count_nonzero(plan.kinds)
    shares = {
        kind.name.lower(): float(np.count_nonzero(plan.kinds == kind) / n_tissue) for kind in Kind if kind != Kind.GLASS
    }
    return DrawnSlide(image=image, truth=_fitted(truth, shape, mpp), mpp=mpp, shares=shares)


def draw_bands(seed: int, shape: tuple[int, int], mpp: float = 0.5) -> Iterator[npt.NDArray[np.uint8]]:
    """Draw a slide of any size, band by band: what `write_pyramid` takes where a slide is larger than memory.

    A patchwork for trials of size, without truth: squares of 1,024 px cut anywhere from one drawn slide, mirrored,
    turned and each stained a little darker or paler, so that no two are alike. About two thirds of the squares hold
    tissue.

    Parameters
    ----------
    seed
        Decides everything; not negative.
    shape
        (rows, cols), px.
    mpp
        µm per px, 0.25 to 4.

    Yields
    ------
    npt.NDArray[np.uint8]
        (up to 256, cols, 3), from top to bottom.

    Examples
    --------
    >>> [len(band) for band in draw_bands(seed=1, shape=(1500, 2000), mpp=2.0)]
    [256, 256, 256, 256, 256, 220]
    """
    side = max(3 * _BLOCK_PX, int(np.ceil(_MIN_SIDE_UM / mpp)))
    source = draw_slide(seed, True, (side, side), mpp).image[side // 6 : -side // 6, side // 6 : -side // 6]
    rng = np.random.default_rng((seed, 5))
    grid = (-(-shape[0] // _BLOCK_PX), -(-shape[1] // _BLOCK_PX))
    lie = smooth_noise(rng, grid, 8.0 * max(grid)) if max(grid) > 1 else np.zeros(grid, np.float32)
    tissue = lie >= np.quantile(lie, 1 - _TISSUE_SHARE)
    for index, holds in enumerate(tissue):
        band = np.full((_BLOCK_PX, grid[1] * _BLOCK_PX, 3), 244, np.uint8)
        for col in np.flatnonzero(holds):
            band[:, col * _BLOCK_PX : (col + 1) * _BLOCK_PX] = _patch(source, rng)
        band = band[: shape[0] - index * _BLOCK_PX, : shape[1]]
        yield from (band[start : start + _BAND_PX] for start in range(0, len(band), _BAND_PX))


def generate_cohort(
    folder: str | os.PathLike[str],
    n_slides: int = 24,
    seed: int = 0,
    *,
    shape: tuple[int, int] = (3136, 3136),
    mpp: float = 1.0,
    test_share: float = 1 / 3,
) -> Iterator[CohortProgress]:
    """Draw a cohort of slides, half of them tumour slides, and write it.

    Writes `slides/*.tif`, `truth/*.png` (of every slide) and, last, `cohort.csv`. Each patient (`group`) gives one
    tumour and one normal slide, stained together, so that staining cannot tell the labels apart; no patient is both in
    training and in test. The same arguments give the same files.

    Parameters
    ----------
    folder
        Where to write; made when missing.
    n_slides
        How many, at least 4; of an odd number, the last patient has a tumour slide alone.
    seed
        Decides everything.
    shape
        (rows, cols) of each slide, px.
    mpp
        µm per px. At 1.0, tokens of 112 px see about a gland each, and a slide of the default shape holds 28 × 28.
    test_share
        Part of the patients that is kept for the test, within 0 and 1; at least one on either side.

    Yields
    ------
    CohortProgress
        After each slide; the table is there when the iterator ends.

    Raises
    ------
    InvalidInputError
        Where an argument is not as said.
    StorageError
        Where a file cannot be written.
    """
    _check_request(seed, shape, mpp)
    if n_slides < 4:
        raise InvalidInputError(f"n_slides must be at least 4, two patients of two slides; got {n_slides}")
    if not 0 < test_share < 1:
        raise InvalidInputError(f"test_share must lie between 0 and 1; got {test_share}")
    root = Path(folder)
    n_patients = -(-n_slides // 2)
    n_test = min(max(round(n_patients * test_share), 1), n_patients - 1)
    rows = []
    for index in range(n_slides):
        patient, tumour = index // 2, index % 2 == 0
        slide = draw_slide(_stirred(seed, index), tumour, shape, mpp, stain_seed=_stirred(seed, n_slides + patient))
        row = MadeSlide(
            path=f"slides/slide-{index + 1:03d}.tif",
            label="tumour" if tumour else "normal",
            group=f"patient-{patient + 1:02d}",
            split="test" if patient >= n_patients - n_test else "train",
            mpp=mpp,
            truth=f"truth/slide-{index + 1:03d}.png",
        )
        write_truth(root / row.truth, slide.truth)
        write_pyramid(root / row.path, slide.image, mpp)
        rows.append(row)
        yield CohortProgress(done=index + 1, total=n_slides, path=root / row.path)
    write_cohort_table(root / "cohort.csv", rows)


def _patch(source: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a square of the source, cut anywhere, turned, mirrored, darker or paler."""
    row, col = (int(rng.integers(size - _BLOCK_PX + 1)) for size in source.shape[:2])
    square = source[row : row + _BLOCK_PX, col : col + _BLOCK_PX]
    square = np.rot90(square, int(rng.integers(4)))[:: int(rng.choice([-1, 1]))]
    # Optical density changes by up to a sixth; glass stays glass.
    levels = 244.0 * (np.arange(256) / 244.0) ** rng.uniform(0.85, 1.17)
    return levels.clip(0, 255).astype(np.uint8).take(square)


def _fitted(truth: BoolArray, shape: tuple[int, int], mpp: float) -> BoolArray:
    """Return the truth in cells that divide the image evenly; those of the plan may reach beyond its last px."""
    picks = [
        ((np.arange(n_cells) + 0.5) * n_px * mpp / n_cells / COARSE_UM).astype(int)
        for n_cells, n_px in zip(truth.shape, shape, strict=True)
    ]
    return np.asarray(truth[np.ix_(*picks)])


def _stirred(seed: int, index: int) -> int:
    """Return the seed of a part of the cohort, so that neighbouring cohorts share no slide."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def _check_request(seed: int, shape: tuple[int, int], mpp: float) -> None:
    """Refuse what cannot be drawn."""
    if seed < 0:
        raise InvalidInputError(f"seed must not be negative; got {seed}")
    if not _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]:
        raise InvalidInputError(f"mpp must lie within 0.25 and 4 µm per pixel; got {mpp}")
    if min(shape) * mpp < _MIN_SIDE_UM:
        raise InvalidInputError(
            f"shape times mpp must be at least 1500 µm either way, room for all tissues; got {shape} px at {mpp} µm"
        )
