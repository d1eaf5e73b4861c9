"""Every card is the model that it says: built on torch's meta device, where tensors have a shape and no numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from napari_prospector.tokens.encoders.cards import list_encoders
from napari_prospector.tokens.encoders.encodercard import EncoderCard
from napari_prospector.tokens.encoders.general_cards import GENERAL_CARDS
from napari_prospector.tokens.encoders.pathology_cards import PATHOLOGY_CARDS

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
timm_tiles = pytest.importorskip("napari_prospector.tokens.encoders.timm_tiles")
torch_encoder = pytest.importorskip("napari_prospector.tokens.encoders.torch_encoder")
heads = pytest.importorskip("napari_prospector.tokens.encoders.heads")

TIMM_CARDS = [card for card in (*GENERAL_CARDS, *PATHOLOGY_CARDS) if card.loader == "timm"]
WITH_NAMES = {"ids": lambda card: card.name}

# Sizes of weight files as their repositories on the hub list them, in bytes to the digits shown there; of float32.
LISTED_BYTES = {
    "dinov2_g14": 4.55e9,
    "dinov2_g14_reg": 4.55e9,
    "h-optimus-0": 4.54e9,
    "phikon-v2": 1.21e9,
    "hibou-b": 343e6,
    "kaiko-vits8": 86.7e6,
    "kaiko-vits16": 86.7e6,
    "kaiko-vitb8": 343e6,
    "kaiko-vitb16": 343e6,
    "kaiko-vitl14": 1.22e9,
    "lunit-vits8": 86.7e6,
    "lunit-vits16": 86.7e6,
    "lunit-resnet50-swav": 94.3e6,
    "lunit-resnet50-mocov2": 94.3e6,
}
# What the authors say of the size of their model: Virchow2's abstract, H-optimus' page, Hibou's table.
STATED_PARAMETERS = {"virchow": 632e6, "virchow2": 632e6, "h-optimus-0": 1.1e9, "h-optimus-1": 1.1e9, "hibou-b": 85.7e6}


def on_meta(card: EncoderCard) -> Any:
    with torch.device("meta"):
        return timm_tiles.build_model(card, card.model_args).eval()


def n_numbers(model: Any) -> int:
    return sum(tensor.numel() for tensor in model.state_dict().values())


@pytest.mark.parametrize("card", TIMM_CARDS, **WITH_NAMES)
def test_a_card_states_the_shapes_of_its_model(card: EncoderCard) -> None:
    model = on_meta(card)
    timm_tiles.set_input_size(model, card.tile_px, card.name)
    with torch.no_grad():
        features = model.forward_features(torch.empty(3, 3, card.tile_px, card.tile_px, device="meta"))
        vectors = heads.pooled_features(model, features, card.pooling)
    assert vectors.shape == (3, card.n_dims)
    assert torch_encoder.patch_px_of(model, card.tile_px) == card.patch_px
    assert heads.n_prefix_of(model) == card.n_prefix
    heads.check_pooling(card.pooling, model, card.name)
    if card.n_prefix:
        assert card.patch_px is not None
        assert features.shape[1] == card.n_prefix + (card.tile_px // card.patch_px) ** 2
    assert card.patch_px is None or card.tile_px % card.patch_px == 0


@pytest.mark.parametrize("card", [card for card in TIMM_CARDS if card.name in LISTED_BYTES], **WITH_NAMES)
def test_a_model_is_as_large_as_its_weight_file(card: EncoderCard) -> None:
    # the digits of a listed size leave half a per cent; headers and mask tokens are less
    assert 4 * n_numbers(on_meta(card)) == pytest.approx(LISTED_BYTES[card.name], rel=6e-3)


@pytest.mark.parametrize("card", [card for card in TIMM_CARDS if card.name in STATED_PARAMETERS], **WITH_NAMES)
def test_a_model_has_as_many_parameters_as_its_authors_say(card: EncoderCard) -> None:
    assert n_numbers(on_meta(card)) == pytest.approx(STATED_PARAMETERS[card.name], rel=0.04)


@pytest.mark.parametrize("card", [card for card in GENERAL_CARDS if card.loader == "timm"], **WITH_NAMES)
def test_a_general_card_agrees_with_the_registry_of_timm(card: EncoderCard) -> None:
    entry = timm.get_pretrained_cfg(card.source.removeprefix("timm:"))
    assert (card.mean, card.std, card.licence, card.hub) == (entry.mean, entry.std, entry.license, entry.hf_hub_id)


@pytest.mark.parametrize("card", [*GENERAL_CARDS, *PATHOLOGY_CARDS], **WITH_NAMES)
def test_what_a_card_could_not_verify_is_none_and_marked(card: EncoderCard) -> None:
    assert [name for name in card.unverified if getattr(card, name) is not None] == []
    if card.loader == "timm":
        facts = ("mean", "std", "n_dims", "patch_px", "licence", "gated", "citation", "n_prefix", "weight_files")
        named = facts if card.hub is None else (*facts, "revision")
        assert [name for name in named if getattr(card, name) is None] == [
            name for name in named if name in card.unverified
        ]


@pytest.mark.parametrize("card", [*GENERAL_CARDS, *PATHOLOGY_CARDS], **WITH_NAMES)
def test_a_revision_of_the_hub_is_a_whole_commit(card: EncoderCard) -> None:
    if card.hub is not None and card.revision is not None:
        assert len(card.revision) == 40
        assert set(card.revision) <= set("0123456789abcdef")
    assert json.loads(json.dumps(card.to_json())) == card.to_json()


def test_the_models_that_people_use_have_cards() -> None:
    asked = {
        *("uni", "uni2-h", "virchow", "virchow2", "h-optimus-0", "h-optimus-1", "h0-mini", "prov-gigapath"),
        *("phikon", "phikon-v2", "hibou-b", "hibou-l", "midnight-12k", "ctranspath", "lunit-vits8", "lunit-vits16"),
        *("kaiko-vits8", "kaiko-vits16", "kaiko-vitb8", "kaiko-vitb16", "kaiko-vitl14"),
        *("dinov2_s14", "dinov2_g14_reg", "dinov3_b16", "resnet50", "clip_b16", "mobilenetv2_100", "stain-texture"),
    }
    assert asked <= {card.name for card in list_encoders()}
