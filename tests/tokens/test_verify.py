"""Damage of every sort is found, and a sound store is called sound."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from embed_fakes import FakeEncoder, FakeSlide, embed, files, ragged, speckled, tissue_of
from patch_fakes import PATCH_PX, MeanColours
from test_gridquality import old_store

from napari_prospector.tokens.embed import embed_to_grid
from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens
from napari_prospector.tokens.store import BACKGROUND, DONE, PENDING, TokenGrid
from napari_prospector.tokens.verify import Verdict, verify_grid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "fake.tokens.zarr"
    embed(place)
    return place


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


def write(path: Path, name: str, place: tuple[int, ...], value: float) -> None:
    zarr.open_array(str(path / name), mode="r+")[place] = value


def token_of(path: Path, state: int) -> tuple[int, ...]:
    return tuple(np.argwhere(TokenGrid.open(path).state == state)[0].tolist())


def change(path: Path, **attributes: object) -> None:
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"].update(attributes)
    (path / "zarr.json").write_text(json.dumps(metadata))


def test_a_sound_store_has_no_problems_and_is_not_touched(path):
    before = files(path)
    verdict = verify_grid(path, FakeSlide(speckled()))
    assert verdict == Verdict(path, (), ("metadata", "states", "every chunk", "slide fake.svs"), verdict.counts)
    assert verdict.is_sound
    assert verdict.counts == TokenGrid.open(path).counts()
    assert files(path) == before


def test_a_store_of_version_1_is_sound_and_may_be_unfinished(tmp_path):
    verdict = verify_grid(old_store(tmp_path / "old.tokens.zarr"))
    assert verdict.is_sound
    assert verdict.counts["pending"] == 78


def test_a_store_that_was_killed_between_embeddings_and_state_is_sound(path):
    row, col = token_of(path, DONE)
    write(path, "state", (row, col), PENDING)
    assert verify_grid(path).is_sound


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda path: flip(path / "embeddings/c/1/1/0"),
        r"embeddings/c/1/1/0 cannot be read.*checksum.*Delete it and embed",
    ),
    (lambda path: flip(path / "quality/c/0/1/0"), r"quality/c/0/1/0 cannot be read.*Delete embeddings/c/0/1/0 as well"),
    (lambda path: flip(path / "state/c/1/1"), "the array state cannot be read"),
    (lambda path: flip(path / "coverage/c/0/0"), "the array coverage cannot be read"),
    (lambda path: flip(path / "tissue/c/0/0"), "the array tissue cannot be read"),
    (lambda path: (path / "embeddings/c/0/1/0").unlink(), r"embeddings/c/0/1/0 is missing\. Embed the slide again"),
    (lambda path: (path / "quality/c/0/1/0").unlink(), r"quality/c/0/1/0 is missing"),
    (lambda path: (path / "state/c/0/1").unlink(), "the array state cannot be read .*missing"),
    (lambda path: (path / "zarr.json").unlink(), "without zarr.json"),
    (lambda path: change(path, format_version=99), "version 99. Update napari-prospector"),
    (lambda path: write(path, "state", (3, 4), 7), "the array state cannot be read"),
    (lambda path: write(path, "embeddings", (*token_of(path, DONE), 5), np.nan), "NaN or infinity where .* says done"),
    (lambda path: write(path, "embeddings", (*token_of(path, DONE), 5), np.inf), "NaN or infinity where .* says done"),
    (lambda path: write(path, "embeddings", (*token_of(path, BACKGROUND), 2), 0), "the state calls background"),
    (lambda path: write(path, "quality", (*token_of(path, DONE), 1), 1.5), "measures outside of 0 to 1"),
    (lambda path: (path / "embeddings/c/0/0/0.partial").write_bytes(b"x"), "0.partial were left by a writer"),
    (lambda path: path.with_name(path.name + ".partial").mkdir(), r"zarr\.partial were left by a writer"),
]


@pytest.mark.parametrize(("damage", "match"), DAMAGES)
def test_damage_is_found_and_the_way_out_is_said(path, damage, match):
    damage(path)
    problems = verify_grid(path).problems
    assert len(problems) == 1
    pytest.raises(ValueError, lambda: (_ for _ in ()).throw(ValueError(problems[0]))).match(match)


def test_every_way_out_that_is_a_deleted_file_leads_out(path, uninterrupted):
    flip(path / "quality/c/0/1/0")
    flip(path / "embeddings/c/1/1/0")
    for name in ("embeddings/c/1/1/0", "embeddings/c/0/1/0"):
        (path / name).unlink()
    embed(path)
    assert verify_grid(path).is_sound
    assert files(path) == uninterrupted


def test_another_slide_and_another_pixel_size_are_noticed(path):
    (problem,) = verify_grid(path, FakeSlide(speckled(seed=8), name="other.svs")).problems
    assert "made from another file than other.svs (it names fake.svs; the fingerprints differ)" in problem
    (problem,) = verify_grid(path, FakeSlide(speckled(), mpp=0.25)).problems
    assert "made with pixels of 0.5 µm; fake.svs has 0.25" in problem
    change(path, level0_shape=[3, 5])
    (problem,) = verify_grid(path, FakeSlide(speckled())).problems
    assert "it states a slide of [3, 5] px" in problem


def test_a_grid_that_reaches_beyond_its_slide_is_noticed(path):
    slide = FakeSlide(speckled())
    small = FakeSlide(speckled(rows=40, cols=50))
    small.fingerprint = slide.fingerprint
    problems = verify_grid(path, small).problems
    assert any("its last token lies at pixel" in problem for problem in problems)


def test_weights_are_compared_by_their_hash(tmp_path):
    weights, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    weights.write_bytes(b"weights")
    other.write_bytes(b"others")
    digest = hashlib.sha256(b"weights").hexdigest()
    path = tmp_path / "a.tokens.zarr"
    embed(path, encoder=FakeEncoder(weights_sha256=digest))
    assert verify_grid(path, weights=weights).is_sound
    (problem,) = verify_grid(path, weights=other).problems
    assert f"other weights than b.safetensors: sha256 {digest[:12]}… there" in problem
    embed(tmp_path / "c.tokens.zarr")
    assert "states no hash of weights" in verify_grid(tmp_path / "c.tokens.zarr", weights=other).problems[0]


def test_tokens_that_are_embedded_again_agree_or_are_reported(tmp_path):
    path, slide = tmp_path / "a.tokens.zarr", FakeSlide(speckled())
    embed(path, slide, tissue=ragged(slide))
    encoder = FakeEncoder()
    assert verify_grid(path, slide, encoder=encoder, n_reembed=11).is_sound
    assert len(encoder.batches) == 11
    encoder.spoil = lambda vectors: vectors * 1.1
    assert "differ by up to" in verify_grid(path, slide, encoder=encoder, n_reembed=3).problems[0]
    assert (
        "holds embeddings of 7 dims; encoder 'fake' gives 5"
        in (verify_grid(path, slide, encoder=FakeEncoder(n_dims=5), n_reembed=3).problems[0])
    )


def test_patch_tokens_are_embedded_again_as_patches(tmp_path):
    slide = FakeSlide(speckled())
    encoder = choose_tokens(MeanColours(), overlap_px=2 * PATCH_PX)
    place = tmp_path / "patches.tokens.zarr"
    embed_to_grid(slide, encoder, place, tissue=tissue_of(slide, np.ones(slide.shape, bool))).close()
    assert verify_grid(place, slide, encoder=encoder, n_reembed=31).is_sound
    assert "differ by up to" in verify_grid(place, slide, encoder=_Turned(encoder), n_reembed=31).problems[0]


def test_tokens_of_another_kind_are_not_embedded_again(path):
    card = json.loads((path / "zarr.json").read_text())["attributes"]["encoder"]
    change(path, encoder=card | {"tokens": "patch"})
    found = verify_grid(path, FakeSlide(speckled()), encoder=FakeEncoder(), n_reembed=3).problems
    assert "it holds patch tokens; encoder 'fake' gives tile tokens" in found[0]


class _Turned:
    """Patches with rows and columns exchanged."""

    def __init__(self, encoder):
        self.card, self.batch_size, self.encode = encoder.card, encoder.batch_size, encoder.encode
        self.encode_patches = lambda tiles: encoder.encode_patches(tiles).swapaxes(1, 2)
