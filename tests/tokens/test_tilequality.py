"""Laws of the quality measures, and artefacts planted into drawn tissue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_prospector.tokens.artefacts import INKS, plant_artefacts
from napari_prospector.tokens.quality import MEASURES, THRESHOLDS
from napari_prospector.tokens.tilequality import QualityGauge

PEN, BLUR, FOLD, BUBBLE = range(4)
ROWS, COLS, MPP = 113, 127, 0.5
LIGHT = (244.0, 243.0, 245.0)
GAUGE = QualityGauge(LIGHT, tissue_density=0.15)


def tissue(seed: int = 3, rows: int = ROWS, cols: int = COLS) -> np.ndarray:
    """Pale eosin with dark nuclei of 6 px, sharp."""
    rng = np.random.default_rng(seed)
    amount = 0.6 + 0.15 * ndimage.gaussian_filter(rng.normal(0, 1, (rows, cols)), 1)
    seeds = (rng.random((rows, cols)) < 0.004).astype(float)
    nuclei = ndimage.maximum_filter(seeds, footprint=np.hypot(*np.mgrid[-3:4, -3:4]) <= 3.2)
    density = amount[..., None] * (0.05, 0.28, 0.15) + nuclei[..., None] * (0.5, 0.6, 0.25)
    return np.rint(np.array(LIGHT) * 10**-density).clip(0, 255).astype(np.uint8)


def measured(*tiles: np.ndarray, gauge: QualityGauge = GAUGE, mpp: float = MPP) -> np.ndarray:
    return gauge.measure(np.stack(tiles), mpp)


def blurred(tile: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(ndimage.gaussian_filter(tile.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def test_sound_tissue_carries_no_flag():
    values = measured(*(tissue(seed) for seed in range(7)))
    assert (values <= [THRESHOLDS[name] for name in MEASURES]).all()


@pytest.mark.parametrize("colour", [255, 244, 210])
def test_glass_is_neither_blurred_nor_anything_else(colour):
    values = measured(np.full((ROWS, COLS, 3), colour, np.uint8))[0]
    assert np.isnan(values[BLUR])
    assert values[[PEN, FOLD, BUBBLE]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_a_blurred_copy_is_worse_the_more_so_the_more_it_is_blurred(seed):
    tile = tissue(seed)
    blur = measured(tile, *(blurred(tile, sigma) for sigma in (0.7, 1.2, 2, 4)))[:, BLUR]
    assert (np.diff(blur) >= 0).all()
    assert blur[0] < blur[1] < blur[2]
    assert blur[-1] > THRESHOLDS["blur"]


def test_paler_tissue_is_not_taken_for_blurred():
    tile = tissue()
    pale = np.rint(np.array(LIGHT) * (tile / np.array(LIGHT)) ** 0.6).astype(np.uint8)
    sharp, also_sharp = measured(tile, pale)[:, BLUR]
    assert abs(also_sharp - sharp) < 0.1


@pytest.mark.parametrize("name", INKS)
def test_ink_over_glass_and_tissue_raises_pen_by_about_its_share(name):
    tile = tissue()
    tile[:, 90:] = LIGHT  # glass
    inked = tile.copy()
    inked[:, 64:] = np.rint(inked[:, 64:] * np.array(INKS[name]))
    before, after = measured(tile, inked)[:, PEN]
    assert before < THRESHOLDS["pen"]
    assert after > THRESHOLDS["pen"]
    assert after <= (COLS - 64) / COLS + before


def test_a_second_layer_of_tissue_is_a_fold_and_ink_is_not():
    tile = tissue()
    folded = np.rint(tile * (tissue(11) / np.array(LIGHT)) * (tissue(12) / np.array(LIGHT))).astype(np.uint8)
    inked = np.rint(tile * np.array(INKS["blue"])).astype(np.uint8)
    single, double, ink = measured(tile, folded, inked)[:, FOLD]
    assert single < THRESHOLDS["fold"] < 0.5 < double
    assert ink < THRESHOLDS["fold"]


def test_folds_are_not_measured_where_the_density_of_tissue_is_unknown():
    assert np.isnan(measured(tissue(), gauge=QualityGauge(LIGHT))[0, FOLD])


def test_a_smooth_grey_band_is_a_rim_and_a_black_stroke_is_not():
    tile = tissue()
    rim, stroke = tile.copy(), tile.copy()
    rim[40:80] = 110
    stroke[40:80] = 30
    values = measured(tile, rim, stroke)
    assert values[0, BUBBLE] == 0
    # of 14 rows of cells the band fills 5, and the sharp edges make the outer two rough
    assert values[1, BUBBLE] == pytest.approx(3 / 14)
    assert values[2, BUBBLE] == 0
    assert values[2, PEN] == pytest.approx(40 / ROWS, abs=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.5, 1.0, 8.0]))
def test_measures_lie_in_0_to_1_and_do_not_depend_on_the_other_tiles(seed, mpp):
    rng = np.random.default_rng(seed)
    tiles = [
        rng.integers(0, 256, (31, 37, 3), dtype=np.uint8),
        tissue(seed % 97, 31, 37),
        np.zeros((31, 37, 3), np.uint8),
    ]
    together = measured(*tiles, mpp=mpp)
    assert together.shape == (3, len(MEASURES))
    assert together.dtype == np.float32
    assert ((together >= 0) & (together <= 1) | np.isnan(together)).all()
    for alone, tile in zip(together, tiles, strict=True):
        np.testing.assert_array_equal(measured(tile, mpp=mpp)[0], alone)


def test_turning_a_tile_leaves_its_measures_as_they_are():
    tile = tissue(rows=112, cols=128)  # whole cells, so that turning moves none of them
    turned = [np.ascontiguousarray(other) for other in (tile[::-1], tile[:, ::-1])]
    for values in measured(*turned):
        np.testing.assert_allclose(values, measured(tile)[0], atol=1e-5)


def test_the_gauge_comes_back_from_the_record_of_a_store():
    assert QualityGauge.from_record(GAUGE.record) == GAUGE
    assert QualityGauge.from_record(QualityGauge().record) == QualityGauge()


def test_planted_artefacts_are_mostly_found_and_sound_tiles_mostly_left_alone():
    image = tissue(5, 1808, 2032)
    image[:, :127] = LIGHT  # glass, by which the planting knows the light
    planted = plant_artefacts(image, seed=4, mpp=MPP)
    tiles = planted.image.reshape(16, 113, 16, 127, 3).swapaxes(1, 2).reshape(-1, 113, 127, 3)
    values = QualityGauge(LIGHT, 0.08).measure(np.ascontiguousarray(tiles), MPP)
    truths = np.stack([planted.truth[name].reshape(16, 113, 16, 127).mean((1, 3)).ravel() for name in MEASURES])
    clean = truths.max(axis=0) == 0
    assert clean.sum() > 10
    for i, (name, least) in enumerate({"pen": 0.3, "blur": 0.9, "fold": 0.3, "bubble": 0.1}.items()):
        flags, bad = values[:, i] > THRESHOLDS[name], truths[i] >= least
        assert bad.any(), name
        assert flags[bad].mean() > 0.5, name
        assert flags[clean].mean() < 0.15, name


def test_artefacts_are_the_same_for_the_same_seed_and_known_by_tile():
    image = tissue(5, 1808, 2048)
    one, two, other = (plant_artefacts(image, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.image, two.image)
    assert not np.array_equal(one.image, other.image)
    shares = one.shares(113)
    assert set(shares) == set(MEASURES)
    assert shares["pen"].shape == (16, 18)
    assert shares["pen"][3, 5] == pytest.approx(one.truth["pen"][339:452, 565:678].mean())
