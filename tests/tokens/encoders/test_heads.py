"""How the tokens of a forward pass become one vector, against the formula of each published head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.encodercard import EncoderCard

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
