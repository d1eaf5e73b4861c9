"""Slides as arrays: what numpy would give, read only where asked."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari.layers import slide_layer
from napari_prospector._napari.pyramid import COARSEST_PX, SlideLevel, slide_levels
from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.slides import Level, open_slide

ROWS, COLS = 307, 419


class FakeSlide:
    """A slide that counts what is read of it: level-0 pixel (i, j) is (i, j, i + j) modulo 251."""

    def __init__(self, *shapes: tuple[int, int], chunk: tuple[int, int] = (64, 64)) -> None:
        self.name, self.format, self.mpp = "fake.tif", "fake", 0.25
        self.path = Path("fake.tif")
        self.shape = shapes[0]
        self.levels = [Level.below(shapes[0], shape, chunk) for shape in shapes]
        self.n_read, self.most_read, self.is_closed = 0, 0, False

    def read(self, row: int, col: int, height: int, width: int, level: int = 0) -> np.ndarray:
        self.n_read += height * width
        self.most_read = max(self.most_read, height * width)
        rows, cols = np.arange(row, row + height)[:, None], np.arange(col, col + width)
        return np.stack(np.broadcast_arrays(rows % 251, cols % 251, (rows + cols) % 251), -1).astype(np.uint8)

    def close(self) -> None:
        self.is_closed = True


def whole(slide: FakeSlide) -> np.ndarray:
    return FakeSlide(slide.shape).read(0, 0, *slide.shape)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[:],
        np.s_[5],
        np.s_[-3],
        np.s_[...],
        np.s_[..., 1],
        np.s_[11:47, 13:17],
        np.s_[11:47:3, ::-1],
        np.s_[40:7:-5, 3, ...],
        np.s_[40::-7],
        np.s_[9:9, 2:5],
        np.s_[300:5000, -7:],
        np.s_[2, 3, 1],
        np.s_[np.int64(4), :, 0:2],
    ],
)
def test_an_index_gives_what_numpy_would(key: Any) -> None:
    slide = FakeSlide((ROWS, COLS))
    level: Any = SlideLevel(slide, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(level[key], whole(slide)[key])


@pytest.mark.parametrize("key", [np.s_[ROWS], np.s_[:, -COLS - 1], np.s_[0, 0, 0, 0]])
def test_an_index_outside_is_refused(key: Any) -> None:
    level: Any = SlideLevel(FakeSlide((ROWS, COLS)), 0)  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="out of bounds|three axes"):
        level[key]


def test_only_the_rectangle_that_is_asked_for_is_read() -> None:
    slide = FakeSlide((99_991, 100_003))
    level: Any = SlideLevel(slide, 0)  # type: ignore[arg-type]
    level[70_000:70_011, 50_000:50_013]
    assert slide.n_read == 11 * 13


def test_a_wide_coarsest_level_is_followed_by_averaged_ones() -> None:
    slide = FakeSlide((4 * COARSEST_PX - 3, 101))
    levels = slide_levels(slide)  # type: ignore[arg-type]
    assert [level.shape for level in levels] == [(16381, 101, 3), (8191, 51, 3), (4096, 26, 3)]
    fine = whole(slide)[8:16, 20:28].astype(float)
    np.testing.assert_array_equal(levels[2][2:4, 5:7], fine.reshape(2, 4, 2, 4, 3).mean((1, 3)).round())


def test_averaging_reads_a_bounded_band_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_prospector._napari.pyramid.BAND_BYTES", 3 * 4 * 101 * 4)
    slide = FakeSlide((4 * COARSEST_PX - 3, 101))
    np.asarray(slide_levels(slide)[2])  # type: ignore[arg-type]
    assert slide.most_read <= 4 * 4 * 101 + 4 * 4


def test_chunks_are_those_of_the_file_within_reason() -> None:
    assert SlideLevel(FakeSlide((ROWS, COLS), chunk=(16, 5000)), 0).chunks == (256, 1024, 3)  # type: ignore[arg-type]


def test_the_file_is_closed_with_the_last_level_and_not_before() -> None:
    slide = FakeSlide((ROWS, COLS), (77, 105))
    levels = slide_levels(slide)  # type: ignore[arg-type]
    last = levels.pop()
    del levels
    gc.collect()
    assert not slide.is_closed
    assert last.shape == (77, 105, 3)
    del last
    gc.collect()
    assert slide.is_closed


def test_a_real_file_gives_its_pixels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (ROWS, COLS, 3), dtype=np.uint8)
    slide = open_slide(write_pyramid(tmp_path / "noise.tif", image, 0.5, quality=None))
    levels = slide_levels(slide)
    np.testing.assert_array_equal(np.asarray(levels[0]), image)
    del levels
    gc.collect()
    with pytest.raises(InvalidInputError, match="closed"):
        slide.read(0, 0, 1, 1)


def test_a_slide_of_100_000_pixels_opens_without_reading_its_finest_level(viewer: Any) -> None:
    from napari.layers import Layer

    slide = FakeSlide((100_003, 99_991), (25_001, 24_998), (6_251, 6_250), (1_563, 1_563))
    start = time.perf_counter()
    viewer.add_layer(Layer.create(*slide_layer(slide)))  # type: ignore[arg-type]
    assert time.perf_counter() - start < 5
    # the coarsest level a few times over, more often in older versions of napari; the next finer one is 16 times that
    assert slide.n_read < 5 * 1_563 * 1_563
