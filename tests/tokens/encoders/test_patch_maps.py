"""Patch tokens of timm models: class and register tokens dropped, final norm applied, each at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import EncoderCard, load_encoder
from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

HALF = (0.5, 0.5, 0.5)


def encoder_of(model: Any, tile_px: int = 160) -> Any:
    from napari_prospector.tokens.encoders.torch_encoder import TimmEncoder

    return TimmEncoder(model, EncoderCard("x", "timm", "timm:x", tile_px, 0.5, mean=HALF, std=HALF))


def tiles(tile_px: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, tile_px, tile_px, 3), dtype=np.uint8)


def features(model: Any, pixels: np.ndarray) -> Any:
    with torch.inference_mode():
        return model.eval().forward_features(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)


def build(name: str, **arguments: Any) -> Any:
    torch.manual_seed(5)
    return timm.create_model(name, **arguments)


@pytest.mark.parametrize(("arguments", "n_prefix"), [({}, 1), ({"reg_tokens": 3}, 4)])
def test_of_a_vit_the_class_and_register_tokens_are_dropped(arguments: dict[str, Any], n_prefix: int) -> None:
    model, pixels = build("test_vit", **arguments), tiles(160)
    patches = encoder_of(model).encode_patches(pixels)
    sequence = features(model, pixels).numpy()
    assert sequence.shape == (3, n_prefix + 100, 64)
    for row, col in ((0, 0), (2, 7), (9, 4)):
        np.testing.assert_allclose(patches[:, row, col], sequence[:, n_prefix + 10 * row + col], atol=2e-5)


def test_the_final_norm_has_been_applied() -> None:
    model = build("test_vit")
    patches = encoder_of(model).encode_patches(tiles(160))
    scaled = (patches - model.norm.bias.numpy()) / model.norm.weight.numpy()
    np.testing.assert_allclose(scaled.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=-1), 1, atol=1e-2)


def test_a_norm_that_comes_after_pooling_is_applied_to_each_token() -> None:
    model, pixels = build("test_vit", global_pool="avg"), tiles(160)
    assert isinstance(model.norm, torch.nn.Identity)
    patches = encoder_of(model).encode_patches(pixels)
    expected = model.fc_norm(features(model, pixels)[:, 1:])
    np.testing.assert_allclose(patches.reshape(3, 100, 64), expected.detach().numpy(), atol=2e-5)


@pytest.mark.parametrize(("name", "k", "n_dims"), [("test_resnet", 5, 96), ("test_efficientnet", 5, 256)])
def test_of_a_convolutional_net_it_is_the_map_whose_mean_is_pooled(name: str, k: int, n_dims: int) -> None:
    model, pixels = build(name), tiles(160)
    encoder = encoder_of(model)
    patches = encoder.encode_patches(pixels)
    assert patches.shape == (3, k, k, n_dims)
    np.testing.assert_allclose(patches.mean(axis=(1, 2)), encoder.encode(pixels), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(patches[1, 3, 2], features(model, pixels)[1, :, 3, 2].numpy(), rtol=1e-3, atol=1e-5)


def test_rows_are_rows_and_columns_are_columns() -> None:
    # only the upper right corner of the tile changes
    model, pixels = build("test_resnet"), np.full((1, 160, 160, 3), 255, np.uint8)
    encoder, plain = encoder_of(model), None
    plain = encoder.encode_patches(pixels)
    pixels[:, :16, -16:] = 0
    changes = np.abs(encoder.encode_patches(pixels) - plain).max(axis=-1)[0]
    assert np.unravel_index(changes.argmax(), changes.shape) == (0, 4)


def test_a_hierarchical_net_that_keeps_channels_last_is_not_turned() -> None:
    model = build("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=12, num_heads=(1, 1, 1, 1))
    pixels = tiles(224, 2)
    patches = encoder_of(model, 224).encode_patches(pixels)
    assert patches.shape == (2, 7, 7, 96)
    np.testing.assert_allclose(patches[1, 5, 3], features(model, pixels)[1, 5, 3].numpy(), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "k", "n_dims"),
    [
        ("vit_small_patch16_224", 14, 384),
        ("vit_small_patch14_reg4_dinov2", 16, 384),
        ("vit_small_patch16_dinov3", 14, 384),
        ("mobilenetv2_100", 7, 1280),
        ("resnet50", 7, 2048),
        ("convnext_tiny", 7, 768),
        ("swin_tiny_patch4_window7_224", 7, 768),
    ],
)
def test_architectures_have_their_geometry_on_the_meta_device(name: str, k: int, n_dims: int) -> None:
    from napari_prospector.tokens.encoders.patch_maps import patch_map

    arguments = {"img_size": 224} if name.startswith(("vit", "swin")) else {}
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
        found = patch_map(model, model.forward_features(torch.empty(2, 3, 224, 224)), 224, name)
    assert tuple(found.shape) == (2, k, k, n_dims)


def test_a_net_whose_tokens_have_no_known_place_is_refused() -> None:
    model = build("mixer_s32_224")
    with pytest.raises(InvalidInputError, match=r"does not say which of its tokens lies where: MlpMixer.*Take tile"):
        encoder_of(model, 224).encode_patches(tiles(224, 1))


def test_a_map_that_does_not_divide_the_tile_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="gives 6 x 6 for tiles of 176 px"):
        encoder_of(build("test_resnet"), 176).encode_patches(tiles(176, 1))


def test_a_batch_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"tiles must be uint8 of shape \(n, 160, 160, 3\)"):
        encoder_of(build("test_resnet")).encode_patches(np.zeros((160, 160, 3), np.uint8))


def test_load_encoder_chooses_tokens(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(build("test_vit").state_dict(), tmp_path / "v.safetensors")
    options: dict[str, Any] = {"weights": tmp_path / "v.safetensors", "device": "cpu"}
    encoder = load_encoder("test_vit", **options, tokens="patch", overlap_px=32, projection="random:11")
    card = encoder.card
    assert (card.tokens, card.overlap_px, card.patch_px, card.n_dims) == ("patch", 32, 16, 11)
    assert encoder.batch_size == load_encoder("test_vit", **options).batch_size
    whole = choose_tokens(load_encoder("test_vit", **options), projection="random:11")
    inner = encoder.encode_patches(tiles(160))
    np.testing.assert_allclose(inner, whole.encode_patches(tiles(160))[:, 1:9, 1:9], atol=1e-5)
    with pytest.raises(InvalidInputError, match="must be fitted on slides; got 'pca:11'"):
        load_encoder("test_vit", **options, projection="pca:11")
