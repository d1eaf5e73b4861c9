"""Stains against known mixtures and a slow restatement of the method; normalization against laws and a slow loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from embed_fakes import TILE_PX, FakeSlide, speckled
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_prospector.errors import InvalidInputError, UnknownNameError
from napari_prospector.tokens.drawing import draw_stain
from napari_prospector.tokens.generate import draw_slide
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.staining import (
    REFERENCE,
    StainEstimate,
    check_normalization,
    estimate_stain,
    remix,
    stain_record,
)
from napari_prospector.tokens.tilereader import TileReader

N_PIXELS = 7919
ELSEWHERE = StainEstimate(((0.70, 0.62, 0.354), (0.12, 0.93, 0.348)), (1.31, 0.87), (241.0, 236.0, 244.0))


def amounts(n_pixels: int = N_PIXELS, seed: int = 5) -> np.ndarray:
    """Amounts of two stains, (n_pixels, 2): glass, each stain alone, and mixtures."""
    generator = np.random.default_rng(seed)
    drawn = generator.uniform(0.25, 1.6, (n_pixels, 2))
    drawn[0::5, 0] = 0
    drawn[1::5, 1] = 0
    drawn[2::17] = 0
    return generator.permutation(drawn)


def stained(mixture: np.ndarray, stain: StainEstimate) -> np.ndarray:
    """Pixels by the law of Beer and Lambert, one more grey level being the transmitted light."""
    vectors = np.array(stain.vectors)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    light = (np.array(stain.light) + 1) * np.exp(-mixture @ vectors) - 1
    return np.rint(np.clip(light, 0, 255)).astype(np.uint8)


def degrees(first: object, second: object) -> float:
    one, other = np.asarray(first, float), np.asarray(second, float)
    return float(np.degrees(np.arccos(min(1.0, one @ other / np.linalg.norm(one) / np.linalg.norm(other)))))


def slow_estimate(pixels: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Macenko's steps, pixel by pixel, on the whole matrix of densities."""
    glass = [pixel for pixel in pixels.tolist() if min(pixel) >= 200 and max(pixel) - min(pixel) <= 15]
    light = np.median([pixel for pixel in glass if min(pixel) < 255], axis=0).tolist()
    rows = []
    for pixel in pixels.tolist():
        row = [-math.log((value + 1) / (empty + 1)) for value, empty in zip(pixel, light, strict=True)]
        if sum(row) / 3 >= 0.15:
            rows.append(row)
    axes = np.linalg.svd(np.array(rows), full_matrices=False)[2]
    first, second = (axis * (1 if axis.sum() > 0 else -1) for axis in axes[:2])
    angles = [math.atan2(np.dot(row, second), np.dot(row, first)) for row in rows]
    ends = [math.cos(angle) * first + math.sin(angle) * second for angle in np.percentile(angles, [1, 99])]
    ends.sort(key=lambda vector: -vector[0])
    mixtures = [np.linalg.lstsq(np.array(ends).T, np.array(row), rcond=None)[0] for row in rows]
    return ends, [float(np.percentile([mixture[i] for mixture in mixtures], 99)) for i in range(2)]


@pytest.mark.parametrize("stain", [REFERENCE, ELSEWHERE], ids=["the reference", "elsewhere"])
def test_stains_of_a_known_mixture_are_recovered_within_a_degree(stain: StainEstimate) -> None:
    mixture = amounts()
    found = estimate_stain(stained(mixture, stain))
    for ours, theirs in zip(found.vectors, stain.vectors, strict=True):
        assert degrees(ours, theirs) < 1
    np.testing.assert_allclose(found.strengths, np.percentile(mixture, 99, axis=0), rtol=0.02)
    np.testing.assert_allclose(found.light, stain.light, atol=1)


@pytest.mark.parametrize("seed", [1, 2])
def test_stains_of_a_drawn_slide_with_blur_and_noise_are_recovered_within_six_degrees(seed: int) -> None:
    image = draw_slide(seed, True, (1511, 1523)).image
    truth = draw_stain(np.random.default_rng((seed, 3)))
    found = estimate_stain(image[::7, ::5].reshape(-1, 3))
    for ours, theirs in zip(found.vectors, truth.vectors, strict=True):
        assert degrees(ours, theirs) < 6


def test_the_estimate_is_that_of_a_slow_restatement_of_the_method() -> None:
    pixels = np.clip(
        stained(amounts(2003), ELSEWHERE) + np.random.default_rng(3).normal(0, 3, (2003, 3)).round(), 0, 255
    ).astype(np.uint8)
    found = estimate_stain(pixels)
    vectors, strengths = slow_estimate(pixels)
    np.testing.assert_allclose(found.vectors, vectors, atol=2e-6)
    np.testing.assert_allclose(found.strengths, strengths, atol=2e-6)


def test_light_is_the_brightest_hundredth_where_there_is_no_glass() -> None:
    pixels = stained(np.random.default_rng(4).uniform(0.25, 1.6, (2003, 2)), REFERENCE)
    assert list(estimate_stain(pixels).light) == np.percentile(pixels, 99, axis=0).tolist()


def test_the_order_of_pixels_does_not_matter() -> None:
    pixels = stained(amounts(), ELSEWHERE)
    assert estimate_stain(pixels[::-1]) == estimate_stain(pixels)


def test_remixing_is_that_of_a_slow_loop() -> None:
    pixels = np.random.default_rng(11).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    expected = np.empty(pixels.shape)
    for place in np.ndindex(2, 5, 7):
        density = -np.log((pixels[place] + 1.0) / (np.array(ELSEWHERE.light) + 1))
        mixture = np.linalg.lstsq(np.array(ELSEWHERE.vectors).T, density, rcond=None)[0]
        mixture *= np.array(REFERENCE.strengths) / ELSEWHERE.strengths
        expected[place] = np.clip(256 * np.exp(-(mixture @ np.array(REFERENCE.vectors))) - 1, 0, 255)
    np.testing.assert_allclose(remix(pixels, ELSEWHERE), expected, atol=0.51)


def test_a_slide_from_elsewhere_becomes_as_if_stained_like_the_reference() -> None:
    mixture = amounts()
    wanted = stained(mixture * np.array(REFERENCE.strengths) / ELSEWHERE.strengths, REFERENCE)
    came = remix(stained(mixture, ELSEWHERE), ELSEWHERE)
    # a grey level of the dark original is up to three of the lighter copy
    assert np.abs(came.astype(int) - wanted).max() <= 3
    assert np.abs(came.astype(int) - wanted).mean() < 0.5


def test_there_and_back_again_is_where_it_began() -> None:
    pixels = stained(amounts(), ELSEWHERE)
    back = remix(remix(pixels, ELSEWHERE), REFERENCE, ELSEWHERE)
    assert np.abs(back.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("stain", [REFERENCE, ELSEWHERE], ids=["the reference", "elsewhere"])
def test_a_slide_that_is_stained_like_the_target_stays_as_it_is(stain: StainEstimate) -> None:
    pixels = stained(amounts(), stain)
    assert np.abs(remix(pixels, stain, stain).astype(int) - pixels).max() <= 1


def test_empty_light_becomes_white() -> None:
    glass = np.array([[ELSEWHERE.light]], np.uint8)
    assert remix(glass, ELSEWHERE).tolist() == [[[255, 255, 255]]]


tilts = st.floats(-0.07, 0.07)


@settings(max_examples=25)
@given(st.lists(tilts, min_size=6, max_size=6), st.floats(0.6, 1.5), st.floats(0.6, 1.5), st.integers(225, 255))
def test_two_laboratories_look_alike_once_normalized(
    tilt: list[float], hematoxylin: float, eosin: float, light: int
) -> None:
    vectors = np.array(REFERENCE.vectors) + np.reshape(tilt, (2, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lit = (float(light), light - 3.0, light - 1.0)
    other = StainEstimate((tuple(vectors[0]), tuple(vectors[1])), REFERENCE.strengths, lit)
    mixture = amounts()
    here = stained(mixture, REFERENCE)
    there = stained(mixture * [hematoxylin, eosin], other)
    before = np.abs(there.astype(int) - here).mean()
    normalized = [remix(pixels, estimate_stain(pixels)).astype(int) for pixels in (here, there)]
    assert np.abs(normalized[0] - normalized[1]).mean() < min(2.0, max(before, 1.0))


def test_an_estimate_comes_back_from_json() -> None:
    found = estimate_stain(stained(amounts(), ELSEWHERE))
    plain = {"vectors": found.vectors, "strengths": found.strengths, "light": found.light}
    assert StainEstimate.from_json(json.loads(json.dumps(plain))) == found


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (np.full((N_PIXELS, 3), 243), "0 of 7919 sampled pixels are denser than glass; 500 must be"),
        (stained(np.repeat([[0.0, 0.0], [0.9, 0.4]], 601, axis=0), REFERENCE), "all tissue has one colour"),
        (stained(amounts(1201) * [1.0, 1e-2], REFERENCE), "all tissue has one colour"),
    ],
)
def test_too_little_tissue_or_a_single_stain_is_told(pixels: np.ndarray, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        estimate_stain(pixels.astype(np.uint8))


def test_another_normalization_is_refused() -> None:
    check_normalization(None)
    check_normalization("macenko")
    with pytest.raises(UnknownNameError, match="stain_normalize must be 'macenko', or None; got 'reinhard'"):
        check_normalization("reinhard")


def reader(slide: FakeSlide) -> TileReader:
    return TileReader(slide, GridGeometry.cover(slide.shape, slide.require_mpp(), TILE_PX, 0.5))


def test_at_most_sixty_four_tiles_are_sampled_and_only_where_tissue_is() -> None:
    slide = FakeSlide(speckled(rows=13 * TILE_PX, cols=19 * TILE_PX))
    mask = np.zeros((13, 19), bool)
    mask[3:, 7:] = True
    record = stain_record(reader(slide), mask)
    places = {(row // TILE_PX, col // TILE_PX) for row, col, *_ in slide.reads}
    assert len(slide.reads) == len(places) == 64
    assert {(3, 7), (12, 18)} <= places
    assert all(mask[place] for place in places)
    assert record["method"] == "macenko"
    assert record["problem"] is None


def test_tiles_that_cannot_be_read_are_left_out_of_the_sample() -> None:
    slide = FakeSlide(speckled(rows=7 * TILE_PX, cols=5 * TILE_PX))
    mask = np.ones((7, 5), bool)
    mask[2, 3] = False
    without = stain_record(reader(slide), mask)
    slide.damaged = [(2 * TILE_PX + 1, 3 * TILE_PX + 1)]
    mask[2, 3] = True
    assert stain_record(reader(slide), mask) == without
    slide.damaged = [(row * TILE_PX, col * TILE_PX) for row in range(7) for col in range(5)]
    record = stain_record(reader(slide), mask)
    assert record == {
        "method": "macenko",
        "vectors": None,
        "strengths": None,
        "light": None,
        "problem": "none of its tiles could be read.",
    }
