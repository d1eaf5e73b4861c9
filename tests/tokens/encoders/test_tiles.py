"""The built-in encoder: sound on any tile, the same on any number of threads, about morphology."""

from __future__ import annotations

import csv
import threading
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import Encoder, load_encoder
from napari_prospector.tokens.encoders.tiles import FEATURE_NAMES, StainTextureEncoder, raw_features

TILE_PX = 97


@pytest.fixture(scope="module")
def encoder() -> StainTextureEncoder:
    loaded = load_encoder("stain-texture", tile_px=TILE_PX)
    assert isinstance(loaded, StainTextureEncoder)
    return loaded


def tissue(seed: int, n: int = 1, nucleus_px: float = 5.0, n_nuclei: int = 40) -> NDArray[np.uint8]:
    """Draw tiles (n, 97, 97, 3) of round purple nuclei on pink."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[:TILE_PX, :TILE_PX]
    tiles = np.empty((n, TILE_PX, TILE_PX, 3))
    for tile in tiles:
        tile[:] = (225, 160, 200)
        for centre in rng.uniform(0, TILE_PX, (n_nuclei, 2)):
            tile[np.hypot(row - centre[0], col - centre[1]) < nucleus_px] = (90, 50, 140)
    return np.clip(tiles + rng.normal(0, 6, tiles.shape), 0, 255).astype(np.uint8)


def feature(tile: NDArray[np.uint8], name: str) -> float:
    return float(raw_features(tile)[FEATURE_NAMES.index(name)])


def test_every_feature_has_a_name_of_its_own(encoder: StainTextureEncoder) -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == len(raw_features(tissue(3)[0]))
    assert encoder.feature_names == FEATURE_NAMES
    assert encoder.card.n_dims == len(FEATURE_NAMES)
    assert 64 <= len(FEATURE_NAMES) <= 200


def test_it_is_an_encoder(encoder: StainTextureEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.card.mpp == 0.5


@pytest.mark.parametrize("tile_px", [64, 65, 127, 251])
def test_any_width_of_tile_gives_the_same_features(tile_px: int) -> None:
    encoder = load_encoder("stain-texture", tile_px=tile_px)
    tiles = np.random.default_rng(5).integers(0, 256, (3, tile_px, tile_px, 3), dtype=np.uint8)
    embeddings = encoder.encode(tiles)
    assert embeddings.shape == (3, len(FEATURE_NAMES))
    assert embeddings.dtype == np.float32
    assert np.isfinite(embeddings).all()


def test_a_tile_too_small_for_the_coarsest_scale_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="tile_px of 'stain-texture' must be at least 64; got 63"):
        load_encoder("stain-texture", tile_px=63)


@pytest.mark.parametrize("value", [0, 1, 127, 243, 255])
def test_a_blank_tile_has_finite_features_within_reach(value: int, encoder: StainTextureEncoder) -> None:
    embedding = encoder.encode(np.full((1, TILE_PX, TILE_PX, 3), value, np.uint8))
    assert np.isfinite(embedding).all()
    assert np.abs(embedding).max() <= 1.2


def test_noise_on_glass_is_near_to_glass_and_far_from_tissue(encoder: StainTextureEncoder) -> None:
    rng = np.random.default_rng(7)
    glass = np.clip(rng.normal(243, 2, (2, TILE_PX, TILE_PX, 3)), 0, 255).astype(np.uint8)
    first, second, nuclei = encoder.encode(np.concatenate([glass, tissue(11)]))
    assert np.linalg.norm(first - second) < 0.2 * np.linalg.norm(first - nuclei)


@given(seed=st.integers(0, 10_000))
def test_noise_of_any_kind_gives_finite_features(seed: int, encoder: StainTextureEncoder) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.integers(0, 256, 2))
    tiles = rng.integers(low, high + 1, (1, TILE_PX, TILE_PX, 3)).astype(np.uint8)
    tiles[:, rng.random((TILE_PX, TILE_PX)) < rng.random()] = 255
    assert np.isfinite(encoder.encode(tiles)).all()


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_the_number_of_threads_does_not_change_a_bit(n_threads: int, encoder: StainTextureEncoder) -> None:
    tiles = tissue(13, n=5)
    serial = StainTextureEncoder(encoder.card, n_threads=1).encode(tiles)
    assert np.array_equal(StainTextureEncoder(encoder.card, n_threads=n_threads).encode(tiles), serial)


def test_callers_in_several_threads_get_what_they_asked_for(encoder: StainTextureEncoder) -> None:
    batches = [tissue(seed, n=3) for seed in range(4)]
    found: dict[int, NDArray[np.float32]] = {}
    threads = [
        threading.Thread(target=lambda place=place: found.update({place: encoder.encode(batches[place])}))
        for place in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, batch in enumerate(batches):
        assert np.array_equal(found[place], encoder.encode(batch))


def test_a_tile_does_not_depend_on_its_batch(encoder: StainTextureEncoder) -> None:
    tiles = tissue(17, n=5)
    assert np.array_equal(encoder.encode(tiles)[3:4], encoder.encode(tiles[3:4]))


def test_views_and_frozen_arrays_are_read_like_any_other(encoder: StainTextureEncoder) -> None:
    wide = np.random.default_rng(19).integers(0, 256, (2, TILE_PX, 2 * TILE_PX, 4), dtype=np.uint8)
    view = wide[:, :, ::2, :3]
    frozen = np.ascontiguousarray(view)
    frozen.flags.writeable = False
    assert np.array_equal(encoder.encode(view), encoder.encode(frozen))


def test_no_tiles_give_no_embeddings(encoder: StainTextureEncoder) -> None:
    assert encoder.encode(np.empty((0, TILE_PX, TILE_PX, 3), np.uint8)).shape == (0, len(FEATURE_NAMES))


@pytest.mark.parametrize("shape", [(97, 97, 3), (2, 97, 101, 3), (2, 97, 97, 4)])
def test_tiles_of_another_shape_are_refused(shape: tuple[int, ...], encoder: StainTextureEncoder) -> None:
    with pytest.raises(InvalidInputError, match=r"tiles must be uint8 of shape \(n, 97, 97, 3\); got uint8"):
        encoder.encode(np.zeros(shape, np.uint8))


def test_tiles_of_another_dtype_are_refused(encoder: StainTextureEncoder) -> None:
    with pytest.raises(InvalidInputError, match=r"got float32 \(1, 97, 97, 3\)"):
        encoder.encode(np.zeros((1, TILE_PX, TILE_PX, 3), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_turning_a_tile_hardly_moves_it(turn: int) -> None:
    encoder = load_encoder("stain-texture", tile_px=96)
    tiles = tissue(23, n=2)[:, :96, :96]
    (one, other), (turned, _) = encoder.encode(tiles), encoder.encode(np.rot90(tiles, turn, axes=(1, 2)))
    assert np.linalg.norm(turned - one) < 0.2 * np.linalg.norm(other - one)


def test_fainter_staining_moves_a_tile_less_than_other_nuclei_do(encoder: StainTextureEncoder) -> None:
    small, large = tissue(29, nucleus_px=3.0), tissue(29, nucleus_px=7.0)
    fainter = (255 * (small / 255.0) ** 0.75).astype(np.uint8)
    here, there, faint = encoder.encode(np.concatenate([small, large, fainter]))
    assert np.linalg.norm(faint - here) < 0.35 * np.linalg.norm(there - here)


def test_the_area_of_nuclei_is_read_off() -> None:
    few = {radius: tissue(31, nucleus_px=radius, n_nuclei=13)[0] for radius in (4.0, 7.0)}
    name = "darkest 15 %: mean log area by area"
    assert feature(few[7.0], name) > feature(few[4.0], name) + 0.3


def test_crowded_nuclei_leave_narrower_gaps() -> None:
    name = "share farther than 13 px from the darkest 15 %"
    spread_out = tissue(37, nucleus_px=3.0, n_nuclei=60)[0]
    in_a_corner = spread_out.copy()
    in_a_corner[:, TILE_PX // 3 :] = (225, 160, 200)
    assert feature(spread_out, name) < feature(in_a_corner, name)


def test_more_hematoxylin_is_read_off() -> None:
    name = "quantile 0.5 of hematoxylin"
    assert feature(tissue(41, n_nuclei=200)[0], name) > feature(tissue(41, n_nuclei=3)[0], name) + 0.2


def test_carcinoma_and_normal_glands_of_other_patients_stand_apart(shared: Path) -> None:
    folder = shared / "data" / "histology" / "ebhi"
    with (folder / "manifest.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["class"] in ("adenocarcinoma", "normal")]
    tiles = np.stack([imagecodecs.imread(folder / row["image"])[..., :3] for row in rows])
    embeddings = load_encoder("stain-texture").encode(tiles)
    is_tumour = np.array([row["class"] == "adenocarcinoma" for row in rows])
    is_training = np.array([sum(row["patient"].encode()) % 2 == 0 for row in rows])
    centres = [embeddings[is_training & (is_tumour == side)].mean(axis=0) for side in (False, True)]
    distances = np.stack([np.linalg.norm(embeddings - centre, axis=1) for centre in centres])
    assert not {row["patient"] for row, training in zip(rows, is_training, strict=True) if training} & {
        row["patient"] for row, training in zip(rows, is_training, strict=True) if not training
    }
    right = (distances[1] < distances[0]) == is_tumour
    assert right[~is_training].mean() > 0.85
