"""Projections: drawn from a seed alone, or the principal axes of a sample; saved, known by hash, never unpickled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, MissingFileError
from napari_prospector.tokens.encoders.cards import EncoderCard
from napari_prospector.tokens.encoders.projection import PcaSample, Projection, parse_projection, random_projection

N_FROM, N_DIMS = 11, 5
CARD = EncoderCard("means", "fake", "tests", 20, 0.5, n_dims=N_FROM, tokens="patch", weights_sha256="ab")


def tokens(n: int = 97, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, N_FROM)) * np.arange(1, N_FROM + 1) + 1000).astype(np.float32)


def fitted() -> Projection:
    sample = PcaSample()
    for part in np.array_split(tokens(), [13, 13, 60]):
        sample.add(part)
    return sample.projection(N_DIMS, CARD)


def test_a_random_projection_is_of_signs_and_follows_from_lengths_and_seed() -> None:
    axes = random_projection(N_FROM, N_DIMS, 7).axes
    np.testing.assert_allclose(np.abs(axes), 1 / np.sqrt(N_DIMS), rtol=1e-6)
    np.testing.assert_array_equal(axes, random_projection(N_FROM, N_DIMS, 7).axes)
    assert (axes != random_projection(N_FROM, N_DIMS, 8).axes).any()


def test_a_random_projection_is_the_same_on_every_machine() -> None:
    # printf 'napari-prospector projection 11 5 0' | openssl dgst -shake256 -xoflen 7   (OpenSSL 3.0)
    expected = np.unpackbits(np.frombuffer(bytes.fromhex("9721fdb3152cff"), np.uint8))[: N_FROM * N_DIMS]
    signs = (random_projection(N_FROM, N_DIMS).axes > 0).astype(int).ravel()
    np.testing.assert_array_equal(signs, expected)


def test_a_random_projection_keeps_squared_lengths_on_average() -> None:
    vectors = np.random.default_rng(0).normal(size=(13, 601))
    lengths = [(random_projection(601, 29, seed).apply(vectors) ** 2).sum(axis=1) for seed in range(53)]
    np.testing.assert_allclose(np.mean(lengths, axis=0) / (vectors**2).sum(axis=1), 1, atol=0.15)


def test_pca_finds_the_axes_that_scikit_learn_finds() -> None:
    projection, oracle = fitted(), PCA(N_DIMS, svd_solver="full").fit(tokens().astype(np.float64))
    np.testing.assert_allclose(projection.mean, oracle.mean_, rtol=1e-5)
    overlaps = np.abs((projection.axes * oracle.components_.T).sum(axis=0))
    np.testing.assert_allclose(overlaps, 1, atol=1e-5)
    assert projection.explained == pytest.approx(oracle.explained_variance_ratio_.sum())
    assert (np.take_along_axis(projection.axes, np.abs(projection.axes).argmax(axis=0)[None], 0) > 0).all()


def test_a_projection_is_applied_to_the_last_axis() -> None:
    projection, vectors = fitted(), tokens(24).reshape(2, 3, 4, N_FROM)
    projected = projection.apply(vectors)
    assert projected.shape == (2, 3, 4, N_DIMS)
    expected = (vectors[1, 2, 3].astype(np.float64) - projection.mean) @ projection.axes
    np.testing.assert_allclose(projected[1, 2, 3], expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(InvalidInputError, match="takes embeddings of 11 dims; got 7"):
        projection.apply(np.zeros((3, 7)))


def test_a_saved_projection_comes_back_the_same(tmp_path: Path) -> None:
    fitted().save(tmp_path / "new" / "p.safetensors")
    back = Projection.load(tmp_path / "new" / "p.safetensors")
    np.testing.assert_array_equal(back.axes, fitted().axes)
    assert (back.record, back.made_for, back.explained) == (fitted().record, fitted().made_for, fitted().explained)


@pytest.mark.parametrize("projection", [fitted(), random_projection(N_FROM, N_DIMS, 3)])
def test_the_record_of_a_card_brings_it_back(projection: Projection) -> None:
    record = json.loads(json.dumps(projection.record))
    np.testing.assert_array_equal(Projection.of_record(record, projection.tensors).axes, projection.axes)


def test_a_fitted_one_without_its_numbers_or_with_others_is_refused() -> None:
    with pytest.raises(MissingFileError, match="not at hand.*head.save"):
        Projection.of_record(fitted().record, {})
    other = {"projection.axes": fitted().axes * np.float32(2), "projection.mean": fitted().mean}
    with pytest.raises(FileFormatError, match="not the one that its card remembers: its hash"):
        Projection.of_record(fitted().record, other)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no projection at"):
        Projection.load(tmp_path / "p.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    save_file(fitted().tensors, tmp_path / "bare.safetensors")
    about = {"format": "another", "kind": "pca"}
    save_file(fitted().tensors, tmp_path / "other.safetensors", {"projection": json.dumps(about)})
    for name in ("text", "bare", "other"):
        with pytest.raises(FileFormatError, match=f"{name}.safetensors is no projection, or it is damaged"):
            Projection.load(tmp_path / f"{name}.safetensors")


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    fitted().save(tmp_path / "p.safetensors")
    content = bytearray((tmp_path / "p.safetensors").read_bytes())
    content[-3] ^= 1
    (tmp_path / "p.safetensors").write_bytes(content)
    with pytest.raises(FileFormatError, match="its hash is"):
        Projection.load(tmp_path / "p.safetensors")


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (replace(CARD, name="uni"), "fitted on 'means' with name 'means'; now it is 'uni'"),
        (replace(CARD, weights_sha256="cd"), "weights_sha256 'ab'; now it is 'cd'"),
        (replace(CARD, tokens="tile"), "tokens 'patch'; now it is 'tile'"),
        (replace(CARD, n_dims=13), "takes tokens of 11 dims; those of 'means' have 13"),
    ],
)
def test_it_belongs_to_the_tokens_that_it_was_fitted_on(card: EncoderCard, words: str) -> None:
    fitted().check_belongs(CARD)
    with pytest.raises(MismatchError, match=words):
        fitted().check_belongs(card)


def test_a_random_one_belongs_to_any_tokens_of_that_length() -> None:
    random_projection(N_FROM, 2).check_belongs(replace(CARD, name="uni", tokens="tile"))


def test_a_sample_must_hold_more_tokens_than_axes() -> None:
    sample = PcaSample()
    with pytest.raises(InvalidInputError, match="more than 5 tokens; the sample holds 0"):
        sample.projection(5, CARD)
    sample.add(tokens(5))
    sample.add(tokens(0))
    with pytest.raises(InvalidInputError, match="the sample holds 5. Pass fewer"):
        sample.projection(5, CARD)
    sample.add(tokens(30))
    with pytest.raises(InvalidInputError, match="keep 1 to 11 dims of tokens of 11; got 13"):
        sample.projection(13, CARD)


@pytest.mark.parametrize("words", ["pca", "pca:0", "pca:x", "svd:64", "random:-1", "pca:64:3", ""])
def test_words_that_name_no_projection_are_refused(words: str) -> None:
    with pytest.raises(InvalidInputError, match="pca:DIMS, random:DIMS or a"):
        parse_projection(words)


def test_a_projection_is_named_by_kind_and_length() -> None:
    assert parse_projection("random:128") == ("random", 128)
