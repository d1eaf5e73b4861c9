"""What an embedding will take: tiles exactly, time from a trial, and nothing left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from embed_fakes import MPP, TILE_PX, FakeEncoder, FakeSlide, embed, ragged, speckled, tissue_of

from napari_prospector.errors import InvalidInputError, StorageError
from napari_prospector.tokens.encoders.cards import checked_options, encoder_card, untrained_encoder
from napari_prospector.tokens.estimate import count_tokens, estimate_embedding
from napari_prospector.tokens.pyramid import write_pyramid

ALL = {"method": "all"}


def test_the_tiles_are_those_that_are_embedded(tmp_path: Path) -> None:
    slide = FakeSlide(speckled())
    mask = ragged(slide)
    with embed(tmp_path / "t", slide) as grid:
        assert count_tokens(slide, FakeEncoder().card, mask) == (grid.counts()["done"],) * 2


def test_time_grows_with_the_tiles_and_bytes_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    small, large = FakeSlide(speckled()), FakeSlide(speckled(rows=23 * TILE_PX, cols=29 * TILE_PX), name="large.svs")
    encoder = FakeEncoder(seconds=0.002)
    estimate = estimate_embedding([small, large], encoder, tissue=ALL, seconds=0.05, stride_px=TILE_PX)
    assert [one.n_tiles for one in estimate.slides] == [11 * 13, 23 * 29]
    assert [one.n_bytes for one in estimate.slides] == [11 * 13 * 7 * 2, 23 * 29 * 7 * 2]
    assert estimate.slides[1].seconds > estimate.slides[0].seconds > 0
    assert estimate.seconds == sum(one.seconds for one in estimate.slides)
    assert list(estimate.tokens_per_second) == ["fake"]
    assert (estimate.n_tiles, estimate.n_bytes) == (810, 810 * 14)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_ends_after_its_seconds() -> None:
    encoder = FakeEncoder(batch_size=3, seconds=0.01)
    estimate_embedding([FakeSlide(speckled())], encoder, tissue=ALL, seconds=0.02)
    assert sum(encoder.batches) < 11 * 13


def test_every_format_is_tried_once(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif", speckled(), MPP)
    encoder = FakeEncoder()
    estimate = estimate_embedding([path, path, FakeSlide(speckled())], encoder, tissue=ALL, seconds=0.01)
    assert len(estimate.tokens_per_second) == 2


def test_a_slide_that_cannot_be_embedded_is_an_entry_and_the_others_go_on(tmp_path: Path) -> None:
    slides = [tmp_path / "gone.svs", FakeSlide(speckled(), mpp=None), FakeSlide(np.full((701, 503, 3), 244, np.uint8))]
    said = []
    estimate = estimate_embedding([*slides, FakeSlide(speckled())], FakeEncoder(), seconds=0.01, report=said.append)
    assert str(estimate.slides[0].error).startswith("There is no slide")
    assert "states no pixel size" in str(estimate.slides[1].error)
    assert str(estimate.slides[2].error).startswith("No tile has enough tissue")
    assert estimate.slides[3].error is None
    assert estimate.n_tiles == estimate.slides[3].n_tiles > 0
    assert tuple(said) == estimate.slides


def test_pixel_sizes_may_be_passed_beside_the_paths(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(speckled()).save(tmp_path / "plain.png")
    estimate = estimate_embedding([tmp_path / "plain.png"], FakeEncoder(), mpps=[MPP], tissue=ALL, seconds=0.01)
    assert estimate.n_tiles == 11 * 13


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_trial_of_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInputError, match="seconds must be above 0; got"):
        estimate_embedding([], FakeEncoder(), seconds=seconds)


def test_a_temporary_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match=r"nowhere must be writable.*TMPDIR"):
        estimate_embedding([FakeSlide(speckled())], FakeEncoder(), tissue=ALL, seconds=0.01)


def test_random_weights_stand_for_those_of_a_gated_model_and_claim_nothing() -> None:
    pytest.importorskip("timm")
    encoder = untrained_encoder("timm:test_vit", checked_options(device="cpu", tile_px=96))
    assert encoder.card.weights_sha256 is None
    assert encoder.card.revision is None
    assert encoder.encode(np.zeros((2, 96, 96, 3), np.uint8)).shape == (2, 64)
    slide = FakeSlide(speckled(rows=5 * 96, cols=7 * 96))
    estimate = estimate_embedding([slide], encoder, tissue=ALL, seconds=0.01)
    assert (estimate.is_untrained, estimate.n_tiles) == (True, 35)
    assert estimate.to_json()["total"]["n_tiles"] == 35


def test_what_needs_no_weights_is_measured_as_it_is() -> None:
    encoder = untrained_encoder("stain-texture", checked_options())
    assert encoder.card.name == encoder_card("stain-texture").name
    slide = FakeSlide(speckled(rows=3 * 224, cols=2 * 224))
    assert not estimate_embedding([slide], encoder, tissue=ALL, seconds=0.01).is_untrained


def test_patch_tokens_are_counted_beside_their_tiles(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from napari_prospector.tokens.embed import embed_to_grid
    from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens

    encoder = choose_tokens(
        untrained_encoder("timm:test_vit", checked_options(device="cpu", tile_px=96)), "patch", 32, "random:5"
    )
    slide = FakeSlide(speckled(rows=203, cols=307))
    estimate = estimate_embedding([slide], encoder, tissue=ALL, seconds=0.01)
    with embed_to_grid(slide, encoder, tmp_path / "t", tissue=tissue_of(slide, np.ones((203, 307), bool))) as grid:
        n_tokens = grid.counts()["done"]
    # inner patches of 96 px tiles that overlap by 32: 4 x 4 patches of 16 px each
    assert (estimate.n_tiles, estimate.n_tokens) == (4 * 5, n_tokens)
    assert n_tokens == 13 * 19
    assert estimate.n_bytes == n_tokens * 5 * 2
