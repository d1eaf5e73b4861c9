"""What `write_pyramid` promises, read back by tifffile and by libtiff (through Pillow)."""

from __future__ import annotations

import csv
import errno
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from napari_prospector.errors import InvalidInputError, StorageError
from napari_prospector.tokens.pyramid import MadeSlide, atomic_path, write_cohort_table, write_pyramid, write_truth

SHAPE = (1009, 787)  # primes, odd at every level


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.normal(128, 300, (*SHAPE, 3)), (5, 5, 0))
    return np.clip(smooth, 0, 255).astype(np.uint8)


def test_every_level_halves_the_one_before_and_states_its_own_pixel_size(
    tmp_path: Path, image: npt.NDArray[np.uint8]
) -> None:
    path = write_pyramid(tmp_path / "a.tif", image, 0.37)
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(1009, 787, 3), (505, 394, 3), (253, 197, 3)]
        for index, level in enumerate(levels):
            page = level.pages[0]
            assert page.is_tiled
            assert page.is_reduced == (index > 0)
            for name in ("XResolution", "YResolution"):
                numerator, denominator = page.tags[name].value
                assert 1e4 * denominator / numerator == pytest.approx(0.37 * 2**index, rel=1e-6)
            assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER


def test_jpeg_stays_close_and_deflate_is_exact(tmp_path: Path, image: npt.NDArray[np.uint8]) -> None:
    near = tifffile.imread(write_pyramid(tmp_path / "near.tif", image, 1.0)).astype(int)
    assert np.abs(near - image).mean() < 2
    assert np.array_equal(tifffile.imread(write_pyramid(tmp_path / "same.tif", image, 1.0, quality=None)), image)


def test_a_lower_level_is_the_mean_of_two_by_two_pixels(tmp_path: Path, image: npt.NDArray[np.uint8]) -> None:
    path = write_pyramid(tmp_path / "a.tif", image, 1.0, quality=None)
    padded = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge").astype(float)
    expected = padded.reshape(505, 2, 394, 2, 3).mean(axis=(1, 3))
    with tifffile.TiffFile(path) as tiff:
        level = tiff.series[0].levels[1].asarray()
    assert np.abs(level - expected).max() <= 0.5


@pytest.mark.parametrize("quality", [90, None])
def test_libtiff_reads_the_same_colours(tmp_path: Path, image: npt.NDArray[np.uint8], quality: int | None) -> None:
    path = write_pyramid(tmp_path / "a.tif", image, 0.5, quality=quality)
    with Image.open(path) as opened:
        assert opened.n_frames == 3
        other = np.asarray(opened.convert("RGB")).astype(int)
    assert np.abs(other - tifffile.imread(path).astype(int)).max() <= 2  # two JPEG decoders may round differently


@pytest.mark.parametrize("band_rows", [1, 37, 256, 1009])
@pytest.mark.parametrize("tile_px", [112, 256])
def test_bands_of_any_height_give_the_bytes_of_the_whole_image(
    tmp_path: Path, image: npt.NDArray[np.uint8], band_rows: int, tile_px: int
) -> None:
    whole = write_pyramid(tmp_path / "whole.tif", image, 0.5, tile_px=tile_px)
    bands = (image[start : start + band_rows] for start in range(0, SHAPE[0], band_rows))
    banded = write_pyramid(tmp_path / "bands.tif", bands, 0.5, shape=SHAPE, tile_px=tile_px)
    assert whole.read_bytes() == banded.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mpp": 0.01}, r"mpp must lie within 0\.05 and 20 µm per pixel; got 0\.01"),
        ({"tile_px": 100}, "tile_px must be a multiple of 16; got 100"),
        ({"quality": 0}, "quality must lie within 1 and 100, or be None for lossless; got 0"),
        ({"shape": (1013, 787)}, "must add up to the 1013 rows of shape; 1009 came"),
        ({"shape": (997, 787)}, "must add up to the 997 rows of shape; more came"),
        ({"shape": (1009, 789)}, r"uint8 of shape \(rows, 789, 3\); got uint8 of shape \(1009, 787, 3\)"),
    ],
)
def test_a_wrong_request_is_refused_and_leaves_nothing(
    tmp_path: Path, image: npt.NDArray[np.uint8], arguments: dict[str, object], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        write_pyramid(tmp_path / "a.tif", image, **{"mpp": 0.5, **arguments})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_bands_need_a_shape(tmp_path: Path, image: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(
        InvalidInputError, match=r"shape must be \(rows, cols\), both at least 1, where the image comes in bands"
    ):
        write_pyramid(tmp_path / "a.tif", iter([image]), 0.5)


def test_a_full_disk_is_told_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(StorageError, match=r"a\.txt cannot be written: No space left.*Free some space"):
        _write_half_and_run_out_of_space(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_truth_is_written_as_black_and_white(tmp_path: Path) -> None:
    truth = np.random.default_rng(3).random((7, 11)) > 0.5
    picture = imagecodecs.png_decode(write_truth(tmp_path / "deep" / "truth.png", truth).read_bytes())
    assert picture.shape == (7, 11)
    assert np.array_equal(picture > 127, truth)
    with pytest.raises(InvalidInputError, match=r"truth must have shape \(rows, cols\); got \(7,\)"):
        write_truth(tmp_path / "flat.png", truth[:, 0])


def test_the_cohort_table_has_the_columns_of_a_cohort(tmp_path: Path) -> None:
    rows = [MadeSlide("slides/a, b.tif", "tumour", "p1", "train", 0.5, "truth/a.png")]
    with write_cohort_table(tmp_path / "cohort.csv", rows).open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {
                "path": "slides/a, b.tif",
                "label": "tumour",
                "group": "p1",
                "split": "train",
                "mpp": "0.5",
                "truth": "truth/a.png",
            }
        ]


def _write_half_and_run_out_of_space(target: Path) -> None:
    with atomic_path(target) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
