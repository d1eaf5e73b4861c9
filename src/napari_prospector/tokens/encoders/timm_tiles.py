"""Any timm model as an encoder of tiles, with weights from a local file, a folder or the hub.

This module is imported only when a timm model is asked for; torch and timm come with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from napari_prospector.errors import MissingExtraError

try:
    import timm
    import torch
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"Encoders other than 'stain-texture' need timm, torch and torchvision; {error.name} is not installed. Install "
        "them together (pip install timm torch torchvision), or take 'stain-texture'."
    ) from error

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import EncoderCard, EncoderOptions
from napari_prospector.tokens.encoders.convstem import ConvStem
from napari_prospector.tokens.encoders.torch_encoder import TimmEncoder, checked_device
from napari_prospector.tokens.encoders.weights import WeightFiles, find_weights, load_strictly

__all__ = [
    "TimmEncoder",
    "build_model",
    "card_of_model",
    "load_timm_encoder",
    "model_without_weights",
    "model_names",
    "set_input_size",
    "untrained_timm_encoder",
]

_SOURCE_PREFIX = "timm:"
# Parts of an architecture that timm takes as a class, by the names that a card can hold.
_LAYERS: Mapping[str, type[torch.nn.Module]] = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "ConvStem": ConvStem}
_TAKES_A_CLASS = ("mlp_layer", "embed_layer")
# Arguments of timm.create_model that would reach for the network or unpickle a file.
_REFUSED_ARGS = ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def model_names() -> list[str]:
    """Return the names of all timm architectures."""
    return list(timm.list_models())


def card_of_model(name: str) -> EncoderCard | None:
    """Return a card with what timm's registry says of a model; None if it has no such model."""
    if not name or not timm.is_model(name):
        return None
    entry = timm.get_pretrained_cfg(name)
    if entry is None:
        return EncoderCard(name=name, loader="timm", source=_SOURCE_PREFIX + name, tile_px=224, mpp=0.5)
    return EncoderCard(
        name=name,
        loader="timm",
        source=_SOURCE_PREFIX + name,
        tile_px=int(entry.input_size[-1]),
        mpp=0.5,
        mean=tuple(entry.mean),
        std=tuple(entry.std),
        licence=entry.license,
    )


def load_timm_encoder(card: EncoderCard, options: EncoderOptions) -> TimmEncoder:
    """Build the architecture, find or fetch its weights, load them strictly, and measure what the card leaves open.

    Raises
    ------
    InvalidInputError
        If there are no weights, or an option cannot be.
    MissingFileError
        If the weight file does not exist.
    FileFormatError
        If the weight file is damaged or its tensors are not those of the model.
    AccessError, NetworkError, StorageError
        If the hub refuses, cannot be reached, or what it sends cannot be stored.
    """
    device = checked_device(options.device)
    model_args = {**card.model_args, **(options.model_args or {})}
    # built first: what cannot be built needs no download
    model = _build_unfilled(card, model_args)
    weights = find_weights(card, options)
    load_strictly(model, weights, card.name, card.layout)
    tile_px = options.tile_px or card.tile_px
    set_input_size(model, tile_px, card.name)
    loaded = _card_as_loaded(card, options, model_args, tile_px, weights)
    return TimmEncoder(model, loaded, device, compiled=bool(options.compiled))


def model_without_weights(card: EncoderCard, options: EncoderOptions) -> torch.nn.Module:
    """Build an architecture on the meta device: its tensors have shapes and take no memory.

    Raises
    ------
    InvalidInputError
        If the architecture cannot be built so.
    """
    with torch.device("meta"):
        return build_model(card, {**card.model_args, **(options.model_args or {})})


def untrained_timm_encoder(card: EncoderCard, options: EncoderOptions) -> TimmEncoder:
    """Build an encoder with random weights: as fast as the trained one, and of no other use.

    Raises
    ------
    InvalidInputError
        If an option cannot be.
    """
    device = checked_device(options.device)
    model = build_model(card, {**card.model_args, **(options.model_args or {})})
    tile_px = options.tile_px or card.tile_px
    set_input_size(model, tile_px, card.name)
    half = (0.5, 0.5, 0.5)
    as_asked = dataclasses.replace(
        card,
        tile_px=tile_px,
        mpp=options.mpp or card.mpp,
        mean=options.mean or card.mean or half,
        std=options.std or card.std or half,
        revision=None,
    )
    return TimmEncoder(model, as_asked, device, compiled=bool(options.compiled))


def build_model(card: EncoderCard, model_args: Mapping[str, Any]) -> torch.nn.Module:
    """Build the architecture of a card with random weights.

    Parameters
    ----------
    card
        Of a timm model.
    model_args
        Arguments of the architecture, in place of those of the card; a layer that timm takes as a class is given by
        name, such as ``{"mlp_layer": "SwiGLUPacked"}``.

    Raises
    ------
    InvalidInputError
        If timm knows no such architecture or argument, or an argument would load weights by itself.
    """
    architecture = card.source.removeprefix(_SOURCE_PREFIX)
    if not timm.is_model(architecture):
        raise InvalidInputError(
            f"Encoder {card.name!r} needs the architecture {architecture!r}, which timm {timm.__version__} does not"
            " have. Update timm."
        )
    if refused := sorted(set(model_args) & set(_REFUSED_ARGS)):
        raise InvalidInputError(
            f"model_args must describe the architecture only; got {refused}. Pass weights=FILE instead."
        )
    arguments = {name: _layer(name, value) if name in _TAKES_A_CLASS else value for name, value in model_args.items()}
    try:
        return timm.create_model(architecture, pretrained=False, **arguments)
    except (AssertionError, TypeError, ValueError) as problem:
        raise InvalidInputError(
            f"Encoder {card.name!r} cannot be built with model_args={dict(model_args)}: {problem}"
        ) from problem


def _build_unfilled(card: EncoderCard, model_args: Mapping[str, Any]) -> torch.nn.Module:
    """Build the architecture without numbers where the weight file will bring all of them, else with random ones.

    Drawing numbers for a giant ViT takes most of a minute, and holding them beside the file twice the memory. Tables
    that follow from the architecture, such as those of windows and rotary positions, are in no file.
    """
    try:
        with torch.device("meta"):
            model = build_model(card, model_args)
    except (NotImplementedError, RuntimeError):
        return build_model(card, model_args)
    filled = set(model.state_dict())
    tables = [name for name, _ in model.named_buffers() if name not in filled]
    loose = [1 for part in model.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    return build_model(card, model_args) if tables or loose else model


def _layer(argument: str, value: Any) -> type[torch.nn.Module]:
    """Return the class that a name in `model_args` stands for."""
    if value not in _LAYERS:
        raise InvalidInputError(f"{argument} in model_args must be one of {sorted(_LAYERS)}; got {value!r}.")
    return _LAYERS[value]


def set_input_size(model: torch.nn.Module, tile_px: int, name: str) -> None:
    """Make a model of fixed input size take tiles of `tile_px`, resampling its position embedding as timm does.

    Parameters
    ----------
    model
        As built by timm, with its weights loaded.
    tile_px
        Width of a tile in pixels.
    name
        Of the encoder, for the message.

    Raises
    ------
    InvalidInputError
        If the model cannot take such tiles.
    """
    own_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if own_size in (None, (tile_px, tile_px)):
        return
    if not hasattr(model, "set_input_size"):
        raise InvalidInputError(f"Encoder {name!r} takes tiles of {own_size} px only; got tile_px={tile_px}.")
    try:
        model.set_input_size(img_size=(tile_px, tile_px))
    except (AssertionError, ValueError) as problem:
        raise InvalidInputError(f"Encoder {name!r} cannot take tiles of tile_px={tile_px}: {problem}") from problem


def _card_as_loaded(
    card: EncoderCard, options: EncoderOptions, model_args: Mapping[str, Any], tile_px: int, weights: WeightFiles
) -> EncoderCard:
    """Return the card of what was really loaded."""
    # Another head or normalization means other weights than the published ones: claim nothing about those. A card that
    # does not know its normalization has to be told.
    told = [(options.mean, card.mean), (options.std, card.std)]
    foreign = model_args != dict(card.model_args) or any(None not in both and both[0] != both[1] for both in told)
    said: dict[str, Any] = {name: None for name in ("licence", "gated", "citation", "hub", "revision")}
    # a file that was passed may hold any revision
    revision = card.revision if card.hub is None else weights.commit
    return dataclasses.replace(
        card,
        tile_px=tile_px,
        mpp=options.mpp or card.mpp,
        mean=options.mean or card.mean,
        std=options.std or card.std,
        weights_sha256=weights.sha256,
        model_args=dict(model_args),
        **({**said, "unverified": ()} if foreign else {"revision": revision}),
    )
