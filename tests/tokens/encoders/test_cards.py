"""The table of encoders: what loads, what is refused and what the refusal says."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, UnknownNameError
from napari_prospector.tokens.encoders import cards
from napari_prospector.tokens.encoders.cards import (
    ENTRY_POINT_GROUP,
    Encoder,
    EncoderCard,
    EncoderOptions,
    list_encoders,
    load_encoder,
)

THIRD_PARTY_MODULE = "third_party_encoders"


class MeanColour:
    """The smallest encoder there can be."""

    batch_size = 5

    def __init__(self, card: EncoderCard) -> None:
        self.card = card

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        return tiles.mean(axis=(1, 2), dtype=np.float32)


class MeanColourProvider:
    card = EncoderCard("mean-colour", "their-own", "a test", tile_px=23, mpp=2.0, n_dims=3)

    def load(self, options: EncoderOptions) -> Encoder:
        options.refuse("mean-colour", "weights")
        return MeanColour(self.card)


Register = Callable[..., None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Make entry points of this group name attributes of a module that exists only here."""

    def register(**attributes: object) -> None:
        module = ModuleType(THIRD_PARTY_MODULE)
        points = []
        for name, attribute in attributes.items():
            if attribute is not None:
                setattr(module, name, attribute)
            value = f"{THIRD_PARTY_MODULE}:{name}"
            points.append(importlib.metadata.EntryPoint(name.replace("_", "-"), value, ENTRY_POINT_GROUP))
        monkeypatch.setitem(sys.modules, THIRD_PARTY_MODULE, module)

        def entry_points(**query: str) -> importlib.metadata.EntryPoints:
            return importlib.metadata.EntryPoints(points).select(**query)

        monkeypatch.setattr(cards.importlib.metadata, "entry_points", entry_points)

    return register


def test_the_built_in_cards_are_listed_by_name() -> None:
    names = [card.name for card in list_encoders()]
    assert names == sorted(names)
    assert {"stain-texture", "mobilenetv2_100", "resnet50", "dinov2_s14"} <= set(names)


@pytest.mark.parametrize("card", list_encoders(), ids=lambda card: card.name)
def test_a_card_survives_json(card: EncoderCard) -> None:
    assert EncoderCard.from_json(json.loads(json.dumps(card.to_json()))) == card
    assert len({card, card}) == 1


def test_a_card_with_a_missing_entry_is_refused() -> None:
    with pytest.raises(FileFormatError, match=r"must hold \['mpp'\]"):
        EncoderCard.from_json({"name": "a", "loader": "timm", "source": "b", "tile_px": 224})


def test_a_card_with_an_unknown_entry_is_refused() -> None:
    plain = {**list_encoders()[0].to_json(), "flavour": "vanilla"}
    with pytest.raises(FileFormatError, match=r"unknown entries \['flavour'\].*newer version"):
        EncoderCard.from_json(plain)


def test_a_card_from_before_the_hub_and_poolings_is_still_read() -> None:
    newer = {"hub", "weight_files", "layout", "pooling", "n_prefix", "unverified"}
    card = EncoderCard("mine", "timm", "timm:resnet50", tile_px=224, mpp=0.5, n_dims=2048)
    older = {name: value for name, value in card.to_json().items() if name not in newer}
    assert EncoderCard.from_json(older) == card


def test_names_in_a_card_come_back_as_tuples() -> None:
    card = EncoderCard(
        "mine", "timm", "timm:a", tile_px=224, mpp=0.5, weight_files=("b.safetensors", "c.bin"), unverified=("mpp",)
    )
    assert EncoderCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_what_is_only_said_about_weights_is_not_the_identity_of_an_encoder() -> None:
    card = EncoderCard("mine", "timm", "timm:a", tile_px=224, mpp=0.5, weights_sha256="12", hub="me/mine", revision="a")
    later = dataclasses.replace(card, hub="me/renamed", revision="b", licence="mit", unverified=("gated",))
    assert later.identity() == card.identity()
    for change in ({"mean": (0.5, 0.5, 0.5)}, {"pooling": "class"}, {"weights_sha256": "34"}, {"model_args": {"a": 1}}):
        assert dataclasses.replace(card, **change).identity() != card.identity()


def test_without_a_weight_file_the_revision_is_part_of_the_identity() -> None:
    card = load_encoder("stain-texture").card
    assert dataclasses.replace(card, revision="2").identity() != card.identity()


def test_listing_and_loading_stain_texture_import_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from napari_prospector.tokens.encoders import list_encoders, load_encoder\n"
        "list_encoders(); assert 'numba' not in sys.modules\n"
        "load_encoder('stain-texture'); assert not {'torch', 'timm', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_encoder_is_answered_with_close_names() -> None:
    with pytest.raises(UnknownNameError, match=r"Encoder 'stain-textur' is unknown\. Close names: 'stain-texture'"):
        load_encoder("stain-textur")


def test_close_names_include_those_of_timm() -> None:
    with pytest.raises(UnknownNameError, match=r"Close names: 'timm:resnet50'.*List all: prospect encoders\."):
        load_encoder("timm:resnet5")


def test_without_close_names_none_are_offered() -> None:
    with pytest.raises(UnknownNameError, match=r"Encoder '' is unknown\. List all"):
        load_encoder("")


def test_without_timm_the_built_in_names_are_still_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnknownNameError, match="Close names: 'resnet50'"):
        load_encoder("resnet5")


@pytest.mark.parametrize("device", [None, "cpu", "cuda"])
def test_stain_texture_runs_without_an_accelerator_whatever_was_asked(device: str | None) -> None:
    assert load_encoder("stain-texture", device=device).card.name == "stain-texture"


def test_options_end_in_the_card() -> None:
    card = load_encoder("stain-texture", tile_px=101, mpp=0.75).card
    assert (card.tile_px, card.mpp) == (101, 0.75)


@pytest.mark.parametrize("option", ["weights", "model_args", "mean", "std"])
def test_stain_texture_takes_no_weights(option: str) -> None:
    value = {"weights": "a.safetensors", "model_args": {"depth": 3}}.get(option, (0.5, 0.5, 0.5))
    with pytest.raises(InvalidInputError, match=f"'stain-texture' takes no {option}.*Leave it out"):
        load_encoder("stain-texture", **{option: value})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mpp": 0.01}, r"mpp must lie between 0\.05 and 20\.0 µm per pixel; got 0\.01"),
        ({"mpp": float("nan")}, "mpp must lie between"),
        ({"tile_px": 15}, "tile_px must be a whole number of at least 16; got 15"),
        ({"tile_px": 99.5}, "tile_px must be a whole number"),
        ({"mean": (0.5, 0.5)}, r"mean must be three finite numbers.*got \(0\.5, 0\.5\)"),
        ({"mean": (0.5, 0.5, 0.5, 0.5)}, "mean must be three finite numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be three positive numbers"),
        ({"std": (0.5, float("nan"), 0.5)}, "std must be three positive numbers"),
    ],
)
def test_an_impossible_option_is_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        load_encoder("stain-texture", **options)


def test_a_third_party_card_is_listed_and_loads_through_our_loader(register: Register) -> None:
    register(their_texture=EncoderCard("their-texture", "stain-texture", "a test", tile_px=113, mpp=1.0))
    assert "their-texture" in [card.name for card in list_encoders()]
    encoder = load_encoder("their-texture")
    assert encoder.card.name == "their-texture"
    assert encoder.card.tile_px == 113


def test_a_third_party_card_says_layout_and_pooling_and_loads_without_code(register: Register, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from written_vits import WrittenVit

    vit = WrittenVit("dinov2", n_registers=3, swiglu=True)
    args = {"img_size": 35, "patch_size": 7, "embed_dim": 22, "depth": 3, "num_heads": 2, "mlp_ratio": 52 / 22}
    args |= {"num_classes": 0, "init_values": 1e-5, "mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
    args |= {"reg_tokens": 3, "no_embed_class": True}
    half = (0.5, 0.5, 0.5)
    card = EncoderCard(
        **{"name": "their-vit", "loader": "timm", "source": "timm:vit_base_patch16_224", "tile_px": 35, "mpp": 0.5},
        **{"mean": half, "std": half, "model_args": args, "layout": "transformers", "pooling": "class+mean"},
        **{"hub": "they/their-vit", "weight_files": ("their.pth",), "licence": "mit", "unverified": ("revision",)},
    )
    register(their_vit=card)
    tensors = vit.tensors()
    torch.save(tensors, tmp_path / "their.pth")
    encoder = load_encoder("their-vit", weights=tmp_path / "their.pth", device="cpu")
    tiles = np.random.default_rng(41).integers(0, 256, (2, 35, 35, 3), dtype=np.uint8)
    tokens = vit.tokens(tensors, torch.from_numpy(tiles).permute(0, 3, 1, 2) / 127.5 - 1).numpy()
    expected = np.concatenate([tokens[:, 0], tokens[:, 4:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(encoder.encode(tiles), expected, rtol=2e-4, atol=2e-4)
    assert (encoder.card.n_dims, encoder.card.n_prefix, encoder.card.licence) == (44, 4, "mit")


def test_a_third_party_encoder_with_its_own_loader_loads(register: Register) -> None:
    register(mean_colour=MeanColourProvider())
    assert MeanColourProvider.card in list_encoders()
    encoder = load_encoder("mean-colour")
    assert isinstance(encoder, Encoder)
    assert encoder.encode(np.full((2, 23, 23, 3), 7, np.uint8)).tolist() == [[7.0] * 3] * 2


def test_a_third_party_card_cannot_replace_a_built_in_one(register: Register) -> None:
    register(resnet50=EncoderCard("resnet50", "stain-texture", "elsewhere", tile_px=113, mpp=1.0))
    assert "elsewhere" not in [card.source for card in list_encoders()]


def test_a_third_party_class_instead_of_an_instance_is_refused(register: Register) -> None:
    register(mean_colour=MeanColourProvider)
    with pytest.raises(InvalidInputError, match="'mean-colour' must name an EncoderCard, or an instance"):
        load_encoder("mean-colour")


def test_a_broken_entry_point_is_left_out_of_the_list_with_a_warning(register: Register) -> None:
    register(absent=None)
    with pytest.warns(UserWarning, match="The encoder 'absent' of third_party_encoders:absent cannot be read"):
        listed = list_encoders()
    assert "stain-texture" in [card.name for card in listed]


def test_a_card_with_a_loader_that_is_not_ours_is_refused(register: Register) -> None:
    register(odd=EncoderCard("odd", "os:system", "a test", tile_px=113, mpp=1.0))
    with pytest.raises(UnknownNameError, match=r"names the loader 'os:system'; known are \['stain-texture', 'timm'\]"):
        load_encoder("odd")
