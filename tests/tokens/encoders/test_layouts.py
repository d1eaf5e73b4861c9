"""Weight files in other layouts than those of timm give what the architecture of their authors gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError
from napari_prospector.tokens.encoders.encodercard import EncoderCard, EncoderOptions

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
layouts = pytest.importorskip("napari_prospector.tokens.encoders.layouts")
timm_tiles = pytest.importorskip("napari_prospector.tokens.encoders.timm_tiles")
convstem = pytest.importorskip("napari_prospector.tokens.encoders.convstem")
written_vits = pytest.importorskip("written_vits")

MEAN, STD = (0.3, 0.5, 0.6), (0.4, 0.3, 0.2)
# The options that published models combine: Phikon, Phikon-v2, Midnight, Hibou.
KINDS = {
    "vit": written_vits.WrittenVit("vit"),
    "dinov2": written_vits.WrittenVit("dinov2"),
    "dinov2 with SwiGLU": written_vits.WrittenVit("dinov2", swiglu=True),
    "dinov2 with registers and SwiGLU": written_vits.WrittenVit("dinov2", n_registers=4, swiglu=True),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def vit(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def tiles() -> NDArray[np.uint8]:
    return np.random.default_rng(19).integers(0, 256, (2, 35, 35, 3), dtype=np.uint8)


def card_of(vit: Any, layout: str | None, pooling: str | None, **changes: Any) -> EncoderCard:
    """Return a card of the architecture that timm has for a written-out ViT."""
    args: dict[str, Any] = {
        "img_size": vit.tile_px,
        "patch_size": vit.patch_px,
        "num_classes": 0,
        "depth": vit.n_layers,
    }
    args |= {
        "embed_dim": vit.n_dims,
        "num_heads": vit.n_heads,
        "mlp_ratio": (1 + vit.swiglu) * vit.n_hidden / vit.n_dims,
    }
    if vit.swiglu:
        args |= {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
    if vit.n_registers:
        args |= {"reg_tokens": vit.n_registers, "no_embed_class": True}
    if vit.kind == "dinov2":
        args["init_values"] = 1e-5
    source = "timm:vit_base_patch16_224"
    entries: dict[str, Any] = {"tile_px": vit.tile_px, "mpp": 0.5, "mean": MEAN, "std": STD, "model_args": args}
    return EncoderCard("tiny", "timm", source, layout=layout, pooling=pooling, **(entries | changes))


def load(card: EncoderCard, path: Path, tensors: dict[str, Any]) -> Any:
    torch.save(tensors, path)
    return timm_tiles.load_timm_encoder(card, EncoderOptions(weights=path, device="cpu"))


def written_tokens(vit: Any, tensors: dict[str, Any], tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    pixels = (torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - mean) / std
    tokens: NDArray[np.float32] = vit.tokens(tensors, pixels).numpy()
    return tokens


def pooled(vit: Any, tokens: NDArray[np.float32], pooling: str | None) -> NDArray[np.float32]:
    first, patches = tokens[:, 0], tokens[:, 1 + vit.n_registers :]
    assert patches.shape[1] == 25
    return np.concatenate([first, patches.mean(axis=1)], axis=1) if pooling == "class+mean" else first


@pytest.mark.parametrize("pooling", [None, "class", "class+mean"])
def test_a_file_of_transformers_gives_what_the_written_out_model_gives(
    vit: Any, pooling: str | None, tmp_path: Path, tiles: NDArray[np.uint8]
) -> None:
    tensors = vit.tensors()
    encoder = load(card_of(vit, "transformers", pooling), tmp_path / "weights.pth", tensors)
    expected = pooled(vit, written_tokens(vit, tensors, tiles), pooling)
    np.testing.assert_allclose(encoder.encode(tiles), expected, rtol=2e-4, atol=2e-4)
    assert (encoder.card.n_prefix, encoder.card.patch_px) == (1 + vit.n_registers, 7)


def facebook_names(vit: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Name the tensors as facebookresearch/dinov2 does, in `vision_transformer.py` and its layers."""
    names = {
        **{"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"},
        **{"mask_token": "embeddings.mask_token", "norm.weight": "layernorm.weight", "norm.bias": "layernorm.bias"},
        **{f"patch_embed.proj.{part}": f"embeddings.patch_embeddings.projection.{part}" for part in ("weight", "bias")},
    }
    if vit.n_registers:
        names["register_tokens"] = "embeddings.register_tokens"
    outer, inner = ("w12", "w3") if vit.swiglu else ("fc1", "fc2")
    written = ("weights_in", "weights_out") if vit.swiglu else ("fc1", "fc2")
    for layer in range(vit.n_layers):
        ours, theirs = f"blocks.{layer}", f"encoder.layer.{layer}"
        for part in ("weight", "bias"):
            for i in (1, 2):
                names[f"{ours}.norm{i}.{part}"] = f"{theirs}.norm{i}.{part}"
            names[f"{ours}.attn.proj.{part}"] = f"{theirs}.attention.output.dense.{part}"
            names[f"{ours}.mlp.{outer}.{part}"] = f"{theirs}.mlp.{written[0]}.{part}"
            names[f"{ours}.mlp.{inner}.{part}"] = f"{theirs}.mlp.{written[1]}.{part}"
        for i in (1, 2):
            names[f"{ours}.ls{i}.gamma"] = f"{theirs}.layer_scale{i}.lambda1"
    renamed = {new: tensors[old] for new, old in names.items()}
    for layer in range(vit.n_layers):
        for part in ("weight", "bias"):
            parts = [
                tensors[f"encoder.layer.{layer}.attention.attention.{name}.{part}"]
                for name in ("query", "key", "value")
            ]
            renamed[f"blocks.{layer}.attn.qkv.{part}"] = torch.cat(parts)
    return renamed


@pytest.mark.parametrize("vit", list(KINDS.values())[1:], ids=list(KINDS)[1:])
@pytest.mark.parametrize("layout", ["dinov2", "transformers"])
def test_a_file_of_facebookresearch_gives_the_same(
    vit: Any, layout: str, tmp_path: Path, tiles: NDArray[np.uint8]
) -> None:
    tensors = vit.tensors(seed=3)
    encoder = load(card_of(vit, layout, "class+mean"), tmp_path / "weights.bin", facebook_names(vit, tensors))
    expected = pooled(vit, written_tokens(vit, tensors, tiles), "class+mean")
    np.testing.assert_allclose(encoder.encode(tiles), expected, rtol=2e-4, atol=2e-4)


def test_the_conversion_of_dinov2_is_that_of_timm() -> None:
    vit = KINDS["dinov2 with registers and SwiGLU"]
    model = timm_tiles.build_model(card_of(vit, None, None), card_of(vit, None, None).model_args)
    theirs = timm.models.vision_transformer.checkpoint_filter_fn(facebook_names(vit, vit.tensors()), model)
    ours = layouts.to_timm_layout(facebook_names(vit, vit.tensors()), model, "dinov2", "tiny")
    assert ours.keys() == theirs.keys() == model.state_dict().keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_blocks_in_chunks_are_counted_through() -> None:
    tensors = {"blocks.2.11.norm1.weight": torch.ones(2), "blocks.2.11.mlp.w12.bias": torch.ones(3)}
    assert set(layouts.to_timm_layout(tensors, torch.nn.Identity(), "dinov2", "tiny")) == {
        "blocks.11.norm1.weight",
        "blocks.11.mlp.fc1.bias",
    }


@pytest.mark.parametrize("layout", ["transformers", "dinov2", "swin"])
def test_a_file_that_is_in_the_layout_of_timm_already_stays_as_it_is(layout: str) -> None:
    vit = KINDS["dinov2 with registers and SwiGLU"]
    model = timm_tiles.build_model(card_of(vit, None, None), card_of(vit, None, None).model_args)
    tensors = dict(model.state_dict())
    converted = layouts.to_timm_layout(tensors, model, layout, "tiny")
    assert converted.keys() == tensors.keys()
    assert all(torch.equal(converted[name], tensors[name]) for name in tensors)


def test_a_tensor_that_no_rule_knows_is_refused_by_name(tmp_path: Path) -> None:
    vit = KINDS["dinov2"]
    tensors = vit.tensors() | {"encoder.layer.1.adapter.weight": torch.zeros(2, 3)}
    with pytest.raises(FileFormatError, match=r"blocks\.1\.adapter\.weight is not in the model"):
        load(card_of(vit, "transformers", None), tmp_path / "weights.pth", tensors)


def test_half_of_an_attention_is_missed(tmp_path: Path) -> None:
    vit = KINDS["dinov2"]
    tensors = vit.tensors()
    del tensors["encoder.layer.2.attention.attention.key.bias"]
    with pytest.raises(FileFormatError, match=r"blocks\.2\.attn\.qkv\.bias is missing"):
        load(card_of(vit, "transformers", None), tmp_path / "weights.pth", tensors)


def test_the_model_takes_the_input_size_of_the_weights_and_then_that_of_the_tiles(tmp_path: Path) -> None:
    vit = KINDS["dinov2 with registers and SwiGLU"]
    trained_at_49 = written_vits.WrittenVit("dinov2", n_registers=4, swiglu=True, n_side=7)
    tensors = trained_at_49.tensors()
    encoder = load(card_of(vit, "transformers", None), tmp_path / "weights.pth", tensors)
    assert encoder.card.tile_px == 35
    # against transformers' rule: patches resampled bicubically with antialiasing, the class token's position untouched
    theirs = tensors["embeddings.position_embeddings"]
    grid = theirs[:, 1:].reshape(1, 7, 7, 22).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(5, 5), mode="bicubic", antialias=True, align_corners=False)
    positions = torch.cat([theirs[:, :1], grid.permute(0, 2, 3, 1).reshape(1, 25, 22)], dim=1)
    tiles = np.random.default_rng(23).integers(0, 256, (2, 35, 35, 3), dtype=np.uint8)
    expected = written_tokens(vit, tensors | {"embeddings.position_embeddings": positions}, tiles)[:, 0]
    np.testing.assert_allclose(encoder.encode(tiles), expected, rtol=2e-4, atol=2e-4)


def test_positions_that_fill_no_square_are_refused(tmp_path: Path) -> None:
    vit = KINDS["dinov2"]
    tensors = vit.tensors()
    tensors["embeddings.position_embeddings"] = torch.zeros(1, 1 + 26, 22)
    with pytest.raises(FileFormatError, match=r"pos_embed must have shape \(1, 26, 22\), the file holds \(1, 27, 22\)"):
        load(card_of(vit, "transformers", None), tmp_path / "weights.pth", tensors)


SWIN_ARGS = {"embed_dim": 24, "depths": (2, 2, 2), "num_heads": (2, 3, 4), "img_size": 56, "window_size": 7}


def swin_card() -> EncoderCard:
    args = {**SWIN_ARGS, "num_classes": 0, "embed_layer": "ConvStem"}
    source = "timm:swin_tiny_patch4_window7_224"
    return EncoderCard("ctp", "timm", source, tile_px=56, mpp=1.0, mean=MEAN, std=STD, layout="swin", model_args=args)


def swin_of_2021(tensors: dict[str, Any]) -> dict[str, Any]:
    """Name the tensors as timm 0.5 did, with the tables that it kept: each stage shrinks the map at its end."""
    old = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        old[".".join(parts)] = tensor
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    return old


def test_a_swin_of_2021_is_renamed_as_timm_does_and_loads(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = timm_tiles.build_model(swin_card(), swin_card().model_args).eval()
    old = swin_of_2021(model.state_dict())
    assert "layers.0.downsample.reduction.weight" in old
    ours = layouts.to_timm_layout(dict(old), model, "swin", "ctp")
    assert ours.keys() == model.state_dict().keys()
    # timm's own filter resamples the stem as if it cut patches; the other names can be compared
    others = {name: tensor for name, tensor in old.items() if not name.startswith("patch_embed.")}
    theirs = timm.models.swin_transformer.checkpoint_filter_fn(others, model)
    assert {name for name in ours if not name.startswith("patch_embed.")} == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # wrapped as the authors' file is
    encoder = load(swin_card(), tmp_path / "ctranspath.pth", {"model": old})
    tiles = np.random.default_rng(29).integers(0, 256, (2, 56, 56, 3), dtype=np.uint8)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        maps = model.forward_features((torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - mean) / std)
    assert maps.shape == (2, 4, 4, 96)
    np.testing.assert_allclose(encoder.encode(tiles), maps.numpy().mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_the_stem_of_ctranspath_is_two_halvings_and_a_mixing_of_channels() -> None:
    torch.manual_seed(11)
    stem = convstem.ConvStem(img_size=44, embed_dim=24).eval()
    for part in (stem.proj[1], stem.proj[4]):
        torch.nn.init.uniform_(part.running_mean, -1, 1)
        torch.nn.init.uniform_(part.running_var, 0.5, 2)
        torch.nn.init.uniform_(part.weight, 0.5, 2)
    shapes = {name: tuple(tensor.shape) for name, tensor in stem.named_parameters()}
    assert shapes["proj.0.weight"] == (3, 3, 3, 3)
    assert shapes["proj.3.weight"] == (6, 3, 3, 3)
    assert shapes["proj.6.weight"] == (24, 6, 1, 1)
    assert "proj.0.bias" not in shapes
    state = pixels = torch.randn(2, 3, 44, 44)
    for conv, norm in ((stem.proj[0], stem.proj[1]), (stem.proj[3], stem.proj[4])):
        state = torch.nn.functional.conv2d(state, conv.weight, stride=2, padding=1)
        each = [norm.running_mean, norm.running_var, norm.weight, norm.bias]
        mean, variance, scale, shift = (values.reshape(1, -1, 1, 1) for values in each)
        state = ((state - mean) / torch.sqrt(variance + norm.eps) * scale + shift).clamp(min=0)
    mixed = torch.einsum("nchw,dc->ndhw", state, stem.proj[6].weight[:, :, 0, 0]) + stem.proj[6].bias.reshape(
        1, -1, 1, 1
    )
    np.testing.assert_allclose(stem(pixels).detach(), mixed.flatten(2).mT.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"patch_size": 8}, {"embed_dim": 20}])
def test_a_stem_of_other_sizes_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="ConvStem needs patch_size 4 and embed_dim a multiple of 8"):
        convstem.ConvStem(**options)


def test_without_a_layout_tensors_keep_their_names() -> None:
    tensors = {"a.weight": torch.zeros(2, 3)}
    assert layouts.to_timm_layout(tensors, torch.nn.Identity(), None, "mine") is tensors


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"layout of encoder 'mine' must be None or one of .*got 'keras'"):
        layouts.to_timm_layout({}, torch.nn.Identity(), "keras", "mine")
