"""Planted tissue is found as planted, whatever else lies on the glass; covers are exact areas."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_prospector.errors import InvalidInputError, MismatchError, PixelSizeError, UnknownNameError
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.slides import Level, Slide, open_slide, stated_pixel_size
from napari_prospector.tokens.tissue import TissueMask, tile_coverage, tissue_mask

ROWS, COLS = 181, 263
GLASS, DENSE, PALE = (243, 242, 244), (150, 80, 150), (232, 212, 226)
INKS = {"blue": (30, 60, 170), "green": (20, 130, 80), "black": (40, 40, 45)}


class Drawn(Slide):
    """A slide in memory; one mask cell per pixel at the default of 8 µm."""

    def __init__(self, image: np.ndarray, mpp: float | None = 8.0) -> None:
        self.image = image
        shape = (image.shape[0], image.shape[1])
        level = Level.below(shape, shape, (64, 64))
        super().__init__(Path("drawn.tif"), "drawn", (level,), stated_pixel_size(mpp, mpp), None)

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> np.ndarray:
        return self.image[row0:row1, col0:col1].copy()

    def close(self) -> None:
        """Keep everything."""


def sheet(colour: tuple[int, int, int] = GLASS, noise: float = 1.0) -> np.ndarray:
    return np.random.default_rng(1).normal(0, noise, (ROWS, COLS, 3)) + colour


def disc(row: float, col: float, radius: float) -> np.ndarray:
    rows, cols = np.mgrid[:ROWS, :COLS]
    return np.asarray((rows - row) ** 2 + (cols - col) ** 2 <= radius**2)


def paint(image: np.ndarray, where: np.ndarray, colour: tuple[int, int, int], noise: float = 4.0) -> np.ndarray:
    image[where] = np.random.default_rng(int(where.sum())).normal(0, noise, (where.sum(), 3)) + colour
    return image


def slide_of(image: np.ndarray, mpp: float | None = 8.0) -> Drawn:
    return Drawn(np.clip(image, 0, 255).astype(np.uint8), mpp)


LEFT, RIGHT = disc(70, 80, 50), disc(110, 190, 41)


# --- finding


@pytest.mark.parametrize("glass", [GLASS, (222, 220, 224), (246, 244, 235), (255, 255, 255)])
@pytest.mark.parametrize("noise", [0.5, 1.5])
def test_dense_and_pale_tissue_are_found_exactly_as_planted(glass: tuple[int, int, int], noise: float) -> None:
    image = paint(sheet(glass, noise), LEFT, DENSE, 25)
    shade = np.array(glass) / GLASS
    paint(image, RIGHT, tuple(np.multiply(PALE, shade)), 2)
    tissue = tissue_mask(slide_of(image))
    np.testing.assert_array_equal(tissue.mask, LEFT | RIGHT)
    assert tissue.method == "otsu"
    assert 0.03 <= tissue.threshold <= 0.1
    assert tissue.ink_share == 0
    assert tissue.note.startswith(f"Tissue is {100 * (LEFT | RIGHT).mean():.1f} % of drawn.tif")


def test_a_small_and_only_pale_tissue_is_found() -> None:
    piece = disc(90, 130, 12)
    tissue = tissue_mask(slide_of(paint(sheet(), piece, PALE, 2)))
    np.testing.assert_array_equal(tissue.mask, piece)


def test_white_filling_of_the_scanner_is_not_mistaken_for_glass() -> None:
    image = paint(sheet((238, 234, 239)), LEFT, (226, 204, 221), 2)
    image[:, 200:] = 255
    tissue = tissue_mask(slide_of(image))
    np.testing.assert_array_equal(tissue.mask, LEFT)


def test_black_filling_is_left_out() -> None:
    image = paint(sheet(), LEFT, DENSE, 9)
    image[:, 200:] = 0
    tissue = tissue_mask(slide_of(image))
    np.testing.assert_array_equal(tissue.mask, LEFT)
    assert tissue.ink_share >= 63 / 263


def stroke() -> np.ndarray:
    rows, cols = np.mgrid[:ROWS, :COLS]
    return np.asarray((abs(rows - 150) < 8) & (cols > 20) & (cols < 120))


@pytest.mark.parametrize("ink", INKS)
def test_marker_ink_is_neither_tissue_nor_does_it_hide_pale_tissue(ink: str) -> None:
    image = paint(paint(sheet(), RIGHT, PALE, 2), stroke(), INKS[ink], 6)
    tissue = tissue_mask(slide_of(image))
    np.testing.assert_array_equal(tissue.mask, RIGHT)
    assert stroke().mean() < tissue.ink_share < 2 * stroke().mean()
    assert f"{100 * tissue.ink_share:.1f} % are left out as ink" in tissue.note
    kept = tissue_mask(slide_of(image), exclude_ink=False)
    np.testing.assert_array_equal(kept.mask, RIGHT | stroke())
    assert kept.ink_share == 0


def test_grains_of_black_pigment_stay_tissue() -> None:
    image = paint(sheet(), LEFT, DENSE, 9)
    for row in range(40, 100, 12):
        for col in range(50, 110, 12):
            paint(image, disc(row, col, 3), (25, 22, 24), 2)
    tissue = tissue_mask(slide_of(image))
    np.testing.assert_array_equal(tissue.mask, LEFT)
    assert tissue.ink_share == 0


@pytest.mark.parametrize("colour", [GLASS, (255, 255, 255), (225, 223, 220)])
def test_an_empty_slide_has_an_empty_mask_and_says_so(colour: tuple[int, int, int]) -> None:
    image = sheet(colour, 1.5)
    paint(image, disc(20, 30, 3), DENSE)  # dust of 1,900 µm²
    tissue = tissue_mask(slide_of(image))
    assert tissue.share == 0
    assert tissue.note.startswith("No tissue was found on drawn.tif")


def test_a_slide_with_ink_alone_has_an_empty_mask() -> None:
    assert tissue_mask(slide_of(paint(sheet(), stroke(), INKS["blue"]))).share == 0
    assert tissue_mask(slide_of(sheet(INKS["black"]))).share == 0


@pytest.mark.parametrize("base", [DENSE, PALE, (222, 190, 215), (205, 150, 190)])
@pytest.mark.parametrize("noise", [3, 12])
def test_a_slide_without_glass_is_all_tissue_and_otsu_does_not_cut_it(base: tuple[int, int, int], noise: float) -> None:
    image = paint(sheet(base, noise), RIGHT, (110, 60, 140), 12)
    tissue = tissue_mask(slide_of(image))
    assert tissue.mask.all()
    assert (tissue.method, tissue.threshold) == ("all", 0)
    assert tissue.note.startswith("No glass was told from tissue on drawn.tif: the whole slide counts")


def test_real_tissue_stitched_without_glass_loses_no_tile(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "histology" / "ebhi"
    with (folder / "manifest.csv").open(newline="") as table:
        names = [row["image"] for row in csv.DictReader(table)]
    chosen = np.random.default_rng(7).choice(names, (5, 7))
    tiles = [[np.asarray(Image.open(folder / name).convert("RGB")) for name in line] for line in chosen]
    Image.fromarray(np.concatenate([np.concatenate(line, axis=1) for line in tiles])).save(tmp_path / "mosaic.png")
    with open_slide(tmp_path / "mosaic.png", mpp=0.5) as slide:
        tissue = tissue_mask(slide)
        cover = tile_coverage(tissue, GridGeometry.cover(slide.shape, 0.5, 224, 0.5))
    assert tissue.method == "all" or tissue.share > 0.9
    assert cover.shape == (5, 7)
    assert cover.min() > 0.5


@pytest.mark.parametrize(
    ("name", "mpp", "share"),
    [("cmu_small_region.svs", None, (0.35, 0.42)), ("tcga_jpeg2000.svs", 2.0, (0.58, 0.66))],
)
def test_real_tissue_on_real_glass_is_found(
    shared: Path, name: str, mpp: float | None, share: tuple[float, float]
) -> None:
    with open_slide(shared / "data" / "histology" / "slides" / name, mpp=mpp) as slide:
        tissue = tissue_mask(slide)
    assert tissue.method == "otsu"
    assert share[0] < tissue.share < share[1]  # by eye: 0.38 and 0.62


def test_a_tiny_real_core_on_much_glass_is_found(shared: Path) -> None:
    with open_slide(shared / "data" / "histology" / "slides" / "kidney_ihc.tif", mpp=4.0) as slide:
        tissue = tissue_mask(slide)
    rows, cols = np.nonzero(tissue.mask)
    assert 0.002 < tissue.share < 0.006
    assert np.mean((rows > 250) & (rows < 290) & (cols > 140) & (cols < 215)) > 0.75  # the core, seen at half size


# --- adjusting


def test_a_threshold_of_ones_own_wins() -> None:
    image = paint(paint(sheet(), LEFT, DENSE, 9), RIGHT, PALE, 1)
    tissue = tissue_mask(slide_of(image), threshold=0.15)
    np.testing.assert_array_equal(tissue.mask, LEFT)
    assert (tissue.method, tissue.threshold) == ("fixed", 0.15)


def test_all_takes_everything_ink_included() -> None:
    tissue = tissue_mask(slide_of(paint(sheet(), stroke(), INKS["blue"])), method="all", threshold=0.5)
    assert tissue.mask.all()
    assert (tissue.method, tissue.threshold, tissue.ink_share) == ("all", 0, 0)


@pytest.mark.parametrize("mpp", [8.0, 5.0])
def test_small_pieces_and_holes_are_judged_by_their_area(mpp: float) -> None:
    large, small, hole, lumen = disc(60, 80, 45), disc(150, 200, 9), disc(45, 80, 9), disc(80, 80, 16)
    image = paint(paint(sheet(), (large & ~hole & ~lumen) | small, DENSE, 9), hole | lumen, GLASS, 1)
    area = np.count_nonzero(small) * mpp**2
    kept = tissue_mask(slide_of(image, mpp), mpp, min_tissue_um2=area, max_hole_um2=area)
    np.testing.assert_array_equal(kept.mask, (large & ~hole & ~lumen) | small)
    dropped = tissue_mask(slide_of(image, mpp), mpp, min_tissue_um2=area + 1, max_hole_um2=area + 1)
    np.testing.assert_array_equal(dropped.mask, large & ~lumen)


def test_the_mask_is_made_from_a_level_that_fits_and_knows_its_place(tmp_path: Path) -> None:
    planted = np.zeros((1811, 2633), bool)
    planted[320:960, 640:1600] = True
    image = np.full((*planted.shape, 3), GLASS, np.uint8)
    image[planted] = DENSE
    options: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256), "compression": "zlib", "metadata": None}
    resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(tmp_path / "scan.tif") as writer:
        writer.write(image, **options, **resolution)
        writer.write(image[::4, ::4], subfiletype=1, **options)
    tifffile.imwrite(tmp_path / "flat.tif", image, **options, **resolution)
    for name in ("scan.tif", "flat.tif"):
        with open_slide(tmp_path / name) as slide:
            tissue = tissue_mask(slide)
        assert (tissue.scale, tissue.downsample, tissue.mask_mpp) == ((16, 16), 16, 8)
        assert tissue.scale_um == (8, 8)
        assert tissue.translate_um == (3.75, 3.75)  # cell 0 is centred on level-0 pixel 7.5
        np.testing.assert_array_equal(
            tissue.mask, np.pad(planted, ((0, 16), (0, 16)))[: 114 * 16 : 16, : 165 * 16 : 16]
        )
        assert tissue.slide_shape == (1811, 2633)


def test_the_same_slide_gives_the_same_mask() -> None:
    image = paint(paint(sheet(noise=3), LEFT, PALE, 9), stroke(), INKS["green"], 20)
    first, second = tissue_mask(slide_of(image)), tissue_mask(slide_of(image))
    np.testing.assert_array_equal(first.mask, second.mask)
    assert (first.threshold, first.note) == (second.threshold, second.note)


def test_a_slide_without_a_pixel_size_is_not_guessed_at() -> None:
    with pytest.raises(PixelSizeError, match="drawn.tif states no pixel size. Pass mpp="):
        tissue_mask(slide_of(sheet(), mpp=None))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"mask_mpp": 0}, InvalidInputError, "mask_mpp must be a width in µm above 0; got 0"),
        ({"threshold": 3.5}, InvalidInputError, "threshold must be an optical density, 0-3; got 3.5"),
        ({"threshold": float("nan")}, InvalidInputError, "threshold must be .*nan"),
        ({"min_tissue_um2": -1}, InvalidInputError, "min_tissue_um2 must be an area in µm² of at least 0; got -1"),
        ({"max_hole_um2": float("inf")}, InvalidInputError, "max_hole_um2 must be an area"),
        ({"method": "otsi"}, UnknownNameError, "Tissue method 'otsi' is unknown. Known are 'otsu', 'all'"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        tissue_mask(slide_of(sheet()), **arguments)


# --- covering


def covering(mask: np.ndarray, scale: tuple[float, float], slide_shape: tuple[int, int]) -> TissueMask:
    return TissueMask(mask, scale, slide_shape, 0.5, 0.05, "otsu", 0.0, "")


def area_of_tissue(tissue: TissueMask, box: tuple[int, int, int, int]) -> Fraction:
    """Add up the parts of every cell that lie in a box and on the slide, in level-0 pixels, as fractions."""
    high, wide = (Fraction(scale) for scale in tissue.scale)
    row0, col0, row1, col1 = (Fraction(edge) for edge in box)
    row1, col1 = min(row1, Fraction(tissue.slide_shape[0])), min(col1, Fraction(tissue.slide_shape[1]))
    total = Fraction(0)
    for row, col in np.argwhere(tissue.mask).tolist():
        height = min(row1, (row + 1) * high) - max(row0, row * high, Fraction(0))
        width = min(col1, (col + 1) * wide) - max(col0, col * wide, Fraction(0))
        total += max(height, Fraction(0)) * max(width, Fraction(0))
    return total


@given(
    st.integers(0, 99),
    st.sampled_from([(16.0, 16.0), (7.0, 11.0), (16.0625, 15.875), (1.0, 1.0), (100.0, 100.0)]),
    st.integers(1, 61),
    st.integers(1, 61),
    st.tuples(st.integers(-40, 40), st.integers(-40, 40)),
)
def test_a_cover_is_the_exact_share_of_the_tiles_area(
    seed: int, scale: tuple[float, float], tile: int, stride: int, origin: tuple[int, int]
) -> None:
    mask = np.random.default_rng(seed).random((5, 7)) < 0.6
    shape = (max(1, int(4.5 * scale[0])), max(1, int(7 * scale[1])))
    tissue = covering(mask, scale, shape)
    grid = GridGeometry(rows=3, cols=2, tile=tile, stride=stride, origin=origin, slide_mpp=0.5)
    cover = tile_coverage(tissue, grid)
    assert cover.dtype == np.float32
    for row in range(3):
        for col in range(2):
            wanted = float(area_of_tissue(tissue, grid.box(row, col)) / tile**2)
            assert cover[row, col] == pytest.approx(wanted, abs=1e-6)


def test_a_planted_square_covers_its_tiles_and_no_other() -> None:
    mask = np.zeros((31, 37), bool)
    mask[14:21, 7:28] = True
    grid = GridGeometry(rows=5, cols=6, tile=112, stride=112, origin=(0, 0), slide_mpp=0.5)
    cover = tile_coverage(covering(mask, (16.0, 16.0), (496, 592)), grid)
    wanted = np.zeros((5, 6))
    wanted[2, 1:4] = 1
    np.testing.assert_array_equal(cover, wanted)


def test_mask_and_grid_of_different_pixel_sizes_are_refused() -> None:
    grid = GridGeometry(rows=5, cols=6, tile=112, stride=112, origin=(0, 0), slide_mpp=0.25)
    with pytest.raises(MismatchError, match=r"one pixel size; they state 0.5 and 0.25 µm"):
        tile_coverage(covering(np.ones((3, 5), bool), (16.0, 16.0), (48, 80)), grid)


def test_tissue_in_pieces_too_small_to_be_tissue_points_to_the_pixel_size():
    image = np.full((211, 307, 3), 250, np.uint8)
    image[40:60, 100:140] = (120, 60, 130)
    tissue = tissue_mask(slide_of(image, 0.5), mask_mpp=0.5)
    assert not tissue.mask.any()
    assert "What is denser, 200 µm² in all, lies in pieces below 10,000 µm²: check the pixel size" in tissue.note
    assert tissue_mask(slide_of(image)).mask.sum() == 800
