"""Tokens sampled from slides for principal axes, and the projection that lies beside their grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embed_fakes import FakeSlide, tissue_of
from patch_fakes import N_PATCHES, PATCH_PX, TILE_PX, MeanColours, patch_means

from napari_prospector.errors import InvalidInputError, MismatchError, MissingFileError
from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens
from napari_prospector.tokens.encoders.projection import PcaSample, random_projection
from napari_prospector.tokens.projecting import PROJECTION_FILE, add_tokens, projection_beside

ROWS, COLS = 3 * TILE_PX, 7 * TILE_PX


def slide() -> FakeSlide:
    return FakeSlide(np.random.default_rng(3).integers(0, 200, (ROWS, COLS, 3), dtype=np.uint8))


def test_all_patches_with_tissue_are_sampled_where_tiles_are_few() -> None:
    opened, mask = slide(), np.zeros((ROWS, COLS), bool)
    mask[: PATCH_PX * 7, : PATCH_PX * 11] = True
    sample = PcaSample()
    assert add_tokens(sample, opened, choose_tokens(MeanColours()), 99, tissue=tissue_of(opened, mask)) == 77
    means = patch_means(opened.images[0])[:7, :11].reshape(77, 3)
    card = choose_tokens(MeanColours()).card
    np.testing.assert_allclose(sample.projection(2, card).mean, means.mean(axis=0), rtol=1e-5)


def test_a_few_tiles_are_drawn_from_many_and_the_same_ones_each_time() -> None:
    opened, found = slide(), []
    tissue = tissue_of(opened, np.ones((ROWS, COLS), bool))
    for _ in range(2):
        encoder = MeanColours()
        sample, chosen = PcaSample(), choose_tokens(encoder)
        before = encoder.n_tiles
        assert add_tokens(sample, opened, chosen, 5, tissue=tissue) == 5 * N_PATCHES**2
        assert encoder.n_tiles - before == 5
        found.append(sample.projection(2, chosen.card).sha256)
    assert found[0] == found[1]


def test_tile_tokens_are_sampled_as_tiles() -> None:
    opened, sample = slide(), PcaSample()
    tissue = tissue_of(opened, np.ones((ROWS, COLS), bool))
    assert add_tokens(sample, opened, MeanColours(), 13, tissue=tissue) == 13


def test_a_slide_without_tissue_gives_no_sample() -> None:
    opened = slide()
    with pytest.raises(InvalidInputError, match="fake.svs must show tissue; no token has a share of 0.25"):
        add_tokens(PcaSample(), opened, MeanColours(), tissue=tissue_of(opened, np.zeros((ROWS, COLS), bool)))


def test_a_slide_whose_stain_cannot_be_told_is_not_normalized() -> None:
    opened = FakeSlide(np.full((ROWS, COLS, 3), 255, np.uint8))
    tissue = tissue_of(opened, np.ones((ROWS, COLS), bool))
    with pytest.raises(InvalidInputError, match="The stain of fake.svs cannot be normalized"):
        add_tokens(PcaSample(), opened, MeanColours(), tissue=tissue, stain_normalize="macenko")


def test_the_projection_beside_a_store_is_the_one_of_its_card(tmp_path: Path) -> None:
    opened, sample = slide(), PcaSample()
    card = choose_tokens(MeanColours()).card
    add_tokens(sample, opened, choose_tokens(MeanColours()), tissue=tissue_of(opened, np.ones((ROWS, COLS), bool)))
    first, second = sample.projection(1, card), sample.projection(2, card)
    store = tmp_path / "a.tokens.zarr"
    with pytest.raises(MissingFileError, match="no projection at"):
        projection_beside(store, first.record)
    first.save(tmp_path / PROJECTION_FILE)
    assert projection_beside(store, first.record).sha256 == first.sha256
    with pytest.raises(MismatchError, match=f"must be the projection {second.sha256[:8]}.*it is {first.sha256[:8]}"):
        projection_beside(store, second.record)


def test_a_random_one_needs_no_file(tmp_path: Path) -> None:
    drawn = random_projection(5, 3, 2)
    np.testing.assert_array_equal(projection_beside(tmp_path / "a.tokens.zarr", drawn.record).axes, drawn.axes)
