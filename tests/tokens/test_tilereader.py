"""Tiles: the right level, the right pixels, and the same ones whichever way they are read."""

from __future__ import annotations

import numpy as np
import pytest
from embed_fakes import MPP, TILE_PX, FakeSlide, speckled

from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.tilereader import TileReader


def reader(slide: FakeSlide, tile_px: int, tile_mpp: float, stride_px: int | None = None) -> TileReader:
    return TileReader(slide, GridGeometry.cover(slide.shape, slide.require_mpp(), tile_px, tile_mpp, stride_px))


def all_tokens(tiles: TileReader) -> np.ndarray:
    return np.argwhere(np.ones(tiles.geometry.shape, bool))


@pytest.mark.parametrize(
    ("tile_mpp", "level"),
    [(0.25, 0), (0.5, 0), (0.99, 1), (1.0, 1), (1.8, 1), (1.95, 2), (2.0, 2), (4.0, 2)],
)
def test_the_level_that_is_read_is_the_coarsest_that_loses_nothing(tile_mpp, level):
    slide = FakeSlide(speckled(), mpp=0.5, factors=(1, 2, 4))
    assert reader(slide, 16, tile_mpp).level == level


def test_a_whole_factor_is_averaged_exactly():
    image = speckled()
    tiles = reader(FakeSlide(image, mpp=0.25), 16, 0.5)
    read = tiles.read(np.array([[1, 2], [3, 1]]))
    expected = image[32:64, 64:96].reshape(16, 2, 16, 2, 3).mean((1, 3))
    np.testing.assert_allclose(read.pixels[0], expected, atol=0.5)


@pytest.mark.parametrize(
    ("mpp", "factors"), [(0.5, (1,)), (0.25, (1, 2)), (0.37, (1,)), (0.19, (1, 2, 4)), (0.8, (1,))]
)
def test_a_tile_is_the_same_from_one_region_and_by_itself(mpp, factors):
    tiles = reader(FakeSlide(speckled(), mpp=mpp, factors=factors), 16, 0.5)
    tokens = all_tokens(tiles)
    together = tiles.read(tokens)
    for token, pixels in zip(tokens, together.pixels, strict=True):
        np.testing.assert_array_equal(tiles.read(token[None]).pixels[0], pixels)


def test_a_tile_does_not_see_its_neighbours():
    image = speckled()
    other = image.copy()
    row0, col0, row1, col1 = reader(FakeSlide(image, mpp=0.37), 16, 0.5).geometry.box(2, 3)
    inside = np.zeros(image.shape[:2], bool)
    inside[row0:row1, col0:col1] = True
    other[~inside] = 0
    for mpp in (0.25, 0.37, 0.5, 0.8):
        pair = [reader(FakeSlide(pixels, mpp=mpp), 16, 0.5) for pixels in (image, other)]
        token = np.array([pair[0].geometry.token_at((row0 + row1) // 2, (col0 + col1) // 2)])
        box = pair[0].geometry.box(*token[0])
        if inside[box[0] : box[2], box[1] : box[3]].all():
            np.testing.assert_array_equal(*(tiles.read(token).pixels for tiles in pair))


def test_a_resized_tile_keeps_its_mean_and_its_place():
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3))
    for mpp in (0.21, 0.37, 0.5, 0.8):
        tiles = reader(FakeSlide(np.ascontiguousarray(ramp), mpp=mpp), 16, 0.5)
        tokens = np.argwhere(np.ones(tiles.geometry.shape, bool)[:3, :2])
        for (row, _), pixels in zip(tokens, tiles.read(tokens).pixels, strict=True):
            np.testing.assert_allclose(pixels.mean(), tiles.geometry.centre_px(row, 0)[0], atol=0.6)


def test_parts_keep_the_order_and_stay_small(monkeypatch):
    monkeypatch.setattr("napari_prospector.tokens.tilereader._MOST_REGION_PX", 40 * TILE_PX * TILE_PX)
    tiles = reader(FakeSlide(speckled()), TILE_PX, MPP)
    for share in (1.0, 0.4, 0.05):
        chosen = np.argwhere(np.random.default_rng(5).random(tiles.geometry.shape) < share)
        parts = list(tiles.parts(chosen))
        np.testing.assert_array_equal(np.concatenate(parts), chosen)
        for part in parts:
            rows, cols = np.ptp(part, axis=0) + 1
            assert rows * cols <= 40
            assert len(part) == 1 or rows * cols <= 3 * len(part)
