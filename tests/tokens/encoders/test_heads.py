"""How the tokens of a forward pass become one vector, against the formula of each published head."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import list_encoders
from napari_prospector.tokens.encoders.encodercard import EncoderCard, EncoderOptions

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

heads = pytest.importorskip("napari_prospector.tokens.encoders.heads")
torch_encoder = pytest.importorskip("napari_prospector.tokens.encoders.torch_encoder")

# 35 px in patches of 7: 25 patch tokens; 11 dims a head, so that no axis equals another.
TINY = {"img_size": 35, "patch_size": 7, "embed_dim": 22, "depth": 2, "num_heads": 2, "num_classes": 0}


def tiny(**options: Any) -> Any:
    torch.manual_seed(13)
    return timm.models.VisionTransformer(**TINY, **options).eval()


def card_of(pooling: str | None) -> EncoderCard:
    half = (0.5, 0.5, 0.5)
    return EncoderCard("tiny", "timm", "timm:tiny", tile_px=35, mpp=0.5, mean=half, std=half, pooling=pooling)


@pytest.fixture
def tiles() -> Any:
    return np.random.default_rng(17).integers(0, 256, (3, 35, 35, 3), dtype=np.uint8)


@pytest.mark.parametrize("reg_tokens", [0, 4])
@pytest.mark.parametrize(("pooling", "n_dims"), [(None, 22), ("class", 22), ("mean", 22), ("class+mean", 44)])
def test_a_head_is_its_formula_on_the_sequence_of_tokens(
    pooling: str | None, n_dims: int, reg_tokens: int, tiles: Any
) -> None:
    model = tiny(reg_tokens=reg_tokens)
    encoder = torch_encoder.TimmEncoder(model, card_of(pooling))
    with torch.inference_mode():
        sequence = model.forward_features(torch.from_numpy(tiles).permute(0, 3, 1, 2) / 127.5 - 1).numpy()
    n_prefix = 1 + reg_tokens
    assert sequence.shape == (3, n_prefix + 25, 22)
    patches = np.stack([sequence[:, n_prefix + i] for i in range(25)]).mean(axis=0)
    expected = {
        None: sequence[:, 0],
        "class": sequence[:, 0],
        "mean": patches,
        "class+mean": np.concatenate([sequence[:, 0], patches], axis=1),
    }[pooling]
    embeddings = encoder.encode(tiles)
    assert embeddings.shape == (3, n_dims)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert (encoder.card.n_dims, encoder.card.n_prefix, encoder.card.patch_px) == (n_dims, n_prefix, 7)


# Of every published head the card, with the sizes that make its model small; the options that matter stay.
SMALL = {"depth": 2, "num_heads": 2, "embed_dim": 48}
SPECIAL = {
    "uni": ("class", 1),
    "uni2-h": ("class", 9),
    "virchow": ("class+mean", 1),
    "virchow2": ("class+mean", 5),
    "h-optimus-0": ("class", 5),
    "h-optimus-1": ("class", 5),
    "h0-mini": ("class+mean", 5),
    "prov-gigapath": ("class", 1),
    "phikon-v2": ("class", 1),
    "hibou-b": ("class", 5),
    "hibou-l": ("class", 5),
    "midnight-12k": ("class+mean", 1),
    "kaiko-vitl14": ("class", 5),
    "dinov2_b14_reg": ("class", 5),
    "dinov3_s16": ("class", 5),
    "clip_b16": ("class", 1),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_a_published_head_is_what_its_authors_take(name: str, tmp_path: Path) -> None:
    from napari_prospector.tokens.encoders import timm_tiles

    card = next(card for card in list_encoders() if card.name == name)
    assert card.patch_px is not None
    tile_px = 5 * card.patch_px
    small = dataclasses.replace(
        card, tile_px=tile_px, layout=None, model_args={**card.model_args, **SMALL, "img_size": tile_px}
    )
    torch.manual_seed(31)
    model = timm_tiles.build_model(small, small.model_args).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    options = EncoderOptions(weights=tmp_path / "weights.pth", device="cpu")
    encoder = timm_tiles.load_timm_encoder(small, options)
    tiles = np.random.default_rng(37).integers(0, 256, (3, tile_px, tile_px, 3), dtype=np.uint8)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (card.mean, card.std))
    with torch.inference_mode():
        tokens = model.forward_features((torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    head, n_prefix = SPECIAL[name]
    assert tokens.shape == (3, n_prefix + 25, 48)
    patches = tokens[:, -25:].mean(axis=1)
    expected = np.concatenate([tokens[:, 0], patches], axis=1) if head == "class+mean" else tokens[:, 0]
    np.testing.assert_allclose(encoder.encode(tiles), expected, atol=2e-5)
    assert encoder.card.licence == card.licence


@pytest.mark.parametrize("name", ["uni2-h", "virchow2", "h0-mini", "hibou-l", "dinov2_g14"])
def test_a_swiglu_layer_gates_its_first_half(name: str) -> None:
    from napari_prospector.tokens.encoders import timm_tiles

    card = next(card for card in list_encoders() if card.name == name)
    model = timm_tiles.build_model(card, {**card.model_args, **SMALL})
    layer = model.blocks[0].mlp
    state = torch.randn(2, 3, 48)
    with torch.inference_mode():
        first, second = (state @ layer.fc1.weight.T + layer.fc1.bias).chunk(2, dim=-1)
        expected = (first * torch.sigmoid(first) * second) @ layer.fc2.weight.T + layer.fc2.bias
        np.testing.assert_allclose(layer(state), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["uni2-h", "h-optimus-0", "hibou-b", "dinov2_b14_reg"])
def test_registers_get_no_position(name: str) -> None:
    from napari_prospector.tokens.encoders import timm_tiles

    card = next(card for card in list_encoders() if card.name == name)
    model = timm_tiles.build_model(card, {**card.model_args, **SMALL})
    assert model.no_embed_class
    assert model.pos_embed.shape[1] == model.patch_embed.num_patches


@pytest.mark.parametrize("pooling", ["class", "mean", "class+mean"])
def test_what_registers_hold_does_not_reach_an_embedding(pooling: str) -> None:
    model = tiny(reg_tokens=4)
    tokens = torch.randn(3, 30, 22)
    spoilt = tokens.clone()
    spoilt[:, 1:5] = torch.nan
    assert torch.equal(heads.pooled_features(model, spoilt, pooling), heads.pooled_features(model, tokens, pooling))


def test_the_prefix_of_a_net_without_tokens_is_none_long() -> None:
    assert heads.n_prefix_of(timm.create_model("test_resnet")) == 0


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"one of \['class', 'class\+mean', 'mean'\]; got 'median'"):
        torch_encoder.TimmEncoder(tiny(), card_of("median"))


def test_a_class_token_is_not_taken_from_a_model_without_one() -> None:
    model = tiny(class_token=False, global_pool="avg", reg_tokens=3)
    with pytest.raises(InvalidInputError, match="pooling='class' of encoder 'tiny' cannot be.*has no class token"):
        torch_encoder.TimmEncoder(model, card_of("class"))
    assert torch_encoder.TimmEncoder(model, card_of("mean")).card.n_prefix == 3


def test_tokens_are_not_taken_from_a_convolutional_net() -> None:
    with pytest.raises(InvalidInputError, match="a ResNet has no tokens"):
        torch_encoder.TimmEncoder(timm.create_model("test_resnet"), card_of("mean"))
