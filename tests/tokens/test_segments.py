"""The cache of decoded tiles: bounded in bytes, spared what nobody comes back for, right under threads and pickling."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_prospector.tokens import segments, tiff
from napari_prospector.tokens.slides import open_slide

ROWS, COLS = 1103, 1307
TILE = (64, 48)


@pytest.fixture(scope="module", params=["jpeg", "zlib"])
def slide_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / f"{request.param}.tif"
    image = np.random.default_rng(5).integers(0, 256, (ROWS, COLS, 3), dtype=np.uint8)
    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"photometric": "rgb", "tile": TILE, "compression": request.param, "metadata": None}
        writer.write(image, **options)
        writer.write(image[::2, ::2], subfiletype=1, **options)
    return path


def held(cache: segments.SegmentCache) -> int:
    """The bytes that a cache really keeps alive."""
    return sum((kept if kept.base is None else kept.base).nbytes for kept in cache._segments.values())


def test_the_cache_of_a_reader_stays_within_its_bytes_whatever_is_read(
    slide_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 7 * TILE[0] * TILE[1] * 3
    monkeypatch.setattr(tiff, "_TILE_CACHE_BYTES", most)
    rng = np.random.default_rng(11)
    with open_slide(slide_path) as slide:
        assert isinstance(slide, tiff.TiffSlide)
        peak = 0
        for _ in range(60):
            row, col = (int(rng.integers(-90, extent)) for extent in (ROWS, COLS))
            slide.read(row, col, *(int(side) for side in rng.integers(1, 301, 2)), level=int(rng.integers(2)))
            assert slide._cache._bytes == held(slide._cache)
            peak = max(peak, held(slide._cache))
        assert 0 < peak <= most


def test_tiles_that_were_read_as_a_whole_are_kept_only_where_decoding_is_slow(slide_path: Path) -> None:
    with open_slide(slide_path) as slide:
        assert isinstance(slide, tiff.TiffSlide)
        aligned = slide.read(128, 96, *TILE)
        slide.read(128, 96, 3 * TILE[0], 2 * TILE[1])
        kept = len(slide._cache._segments)
        assert kept == (0 if "jpeg" in slide_path.name else 6)
        # a box across four tiles takes a part of each
        slide.read(128 - 7, 96 - 11, *TILE)
        assert len(slide._cache._segments) == (4 if "jpeg" in slide_path.name else 9)
        np.testing.assert_array_equal(slide.read(128, 96, *TILE), aligned)
        aligned[:] = 0
        assert slide.read(128, 96, *TILE).any()


def test_eight_threads_read_random_boxes_as_one_does(slide_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a cache of three tiles: threads throw out what others are reading
    monkeypatch.setattr(tiff, "_TILE_CACHE_BYTES", 3 * TILE[0] * TILE[1] * 3)
    rng = np.random.default_rng(7)
    boxes = [
        (int(rng.integers(-50, ROWS)), int(rng.integers(-50, COLS)), *(int(side) for side in rng.integers(1, 211, 2)))
        for _ in range(120)
    ]
    with open_slide(slide_path) as slide:
        wanted = [slide.read(*box) for box in boxes]
    with open_slide(slide_path) as slide, ThreadPoolExecutor(8) as pool:
        for region, truth in zip(pool.map(lambda box: slide.read(*box), boxes), wanted, strict=True):
            np.testing.assert_array_equal(region, truth)


def test_a_pickled_reader_is_a_path_and_takes_no_pixels_along(slide_path: Path) -> None:
    with open_slide(slide_path, mpp=0.5) as slide:
        pixels = slide.read(0, 0, ROWS, COLS)
        packed = pickle.dumps(slide)
    assert len(packed) < 1000
    with pickle.loads(packed) as again:  # noqa: S301 - of our own making
        np.testing.assert_array_equal(again.read(0, 0, ROWS, COLS), pixels)
        assert again.mpp == 0.5
