"""The table of encoder cards, and `load_encoder`, the one door to every encoder.

An encoder turns tiles into embeddings; its card says everything that a store or a head must
remember about it. To add an encoder, add a card: to `pathology_cards.py` or `general_cards.py`, or in
another package through the entry-point group ``napari_prospector.encoders``.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector.errors import InvalidInputError, UnknownNameError
from napari_prospector.tokens.encoders.encodercard import (
    Encoder,
    EncoderCard,
    EncoderOptions,
    EncoderProvider,
    PatchEncoder,
)
from napari_prospector.tokens.encoders.general_cards import GENERAL_CARDS
from napari_prospector.tokens.encoders.pathology_cards import PATHOLOGY_CARDS

if TYPE_CHECKING:
    from napari_prospector.tokens.encoders.projection import Projection

__all__ = [
    "ENTRY_POINT_GROUP",
    "Encoder",
    "EncoderCard",
    "EncoderOptions",
    "EncoderProvider",
    "PatchEncoder",
    "encoder_card",
    "list_encoders",
    "load_encoder",
]

ENTRY_POINT_GROUP = "napari_prospector.encoders"
_TIMM_PREFIX = "timm:"
# The same span that a slide's pixel size must lie in, µm per pixel.
_MPP_SPAN = (0.05, 20.0)
_SMALLEST_TILE_PX = 16
_BUILT_IN: tuple[EncoderCard, ...] = (*GENERAL_CARDS, *PATHOLOGY_CARDS)


def list_encoders() -> tuple[EncoderCard, ...]:
    """List the cards of all encoders that have one, built-in and registered, by name.

    Any other timm model loads too, by its name.

    Returns
    -------
    tuple of EncoderCard
        Sorted by name. An entry point that cannot be imported is left out with a warning.

    Examples
    --------
    >>> "stain-texture" in [card.name for card in list_encoders()]
    True
    """
    cards = {card.name: card for card in _BUILT_IN}
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry_point.name in cards:
            continue
        try:
            cards[entry_point.name] = _card_of(_read_entry_point(entry_point))
        except (ImportError, AttributeError, InvalidInputError) as problem:
            warnings.warn(
                f"The encoder {entry_point.name!r} of {entry_point.value} cannot be read: {problem}", stacklevel=2
            )
    return tuple(cards[name] for name in sorted(cards))


def encoder_card(name: str) -> EncoderCard:
    """Return the card of an encoder by name, before loading: a built-in one's, a registered one's or a timm model's.

    Raises
    ------
    UnknownNameError
        If neither a card nor a timm model has that name.

    Examples
    --------
    >>> encoder_card("uni2-h").n_dims
    1536
    """
    return _card_of(_find(name))


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    tile_px: int | None = None,
    mpp: float | None = None,
    device: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    compiled: bool = False,
    tokens: str = "tile",
    overlap_px: int = 0,
    projection: str | Path | Projection | None = None,
) -> Encoder:
    """Load an encoder by name: a card's, or any timm model's with a local weight file.

    Weights that are not passed are downloaded, where the card names their repository on the Hugging Face hub (`hub`),
    unless they are in its cache. Before that a `ProspectorWarning` says what comes, how much, under which licence and
    where it goes. Nothing else is downloaded.

    Parameters
    ----------
    name
        A name of `list_encoders`, or a timm model with or without the prefix ``timm:``.
    weights
        Weight file: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin`` holding tensors only; or a folder with it, such as
        a copy of the hub's cache. It is loaded strictly: every tensor must be there, none more, each in the shape of
        the model. None: from the hub.
    model_args
        Arguments of the architecture, such as ``{"num_classes": 1001, "pad_type": "same"}``.
    mean, std
        Per channel (red, green, blue), in units of white = 1. ``x / 127.5 - 1`` is mean = std = (0.5, 0.5, 0.5).
    tile_px
        Width of a tile in pixels, where the model allows another than its own.
    mpp
        µm per pixel of a tile, 0.05 to 20.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``. None: CUDA if there is one, else the CPU.
    revision
        Commit, tag or branch of the repository on the hub, in place of the card's.
    offline
        Take weights from the cache of the hub or not at all, as the environment variable ``HF_HUB_OFFLINE`` does.
    compiled
        Let torch.compile make kernels for a timm model, on CUDA only: the first batch takes minutes, all others less
        time. Embeddings differ in their last bits from those of the plain model.
    tokens, overlap_px, projection
        Which tokens become a grid, as for `choose_tokens`: ``"patch"`` for one a patch instead of one a tile.

    Returns
    -------
    Encoder
        Its `card` holds what was asked and measured: `n_dims`, `tile_px`, `mpp`, `weights_sha256` and so on.

    Raises
    ------
    UnknownNameError
        If neither a card nor a timm model has that name.
    InvalidInputError
        If an option cannot be, weights are needed and not given, or the encoder gives no patch tokens.
    MissingFileError
        If the weight file, or that of the projection, does not exist.
    FileFormatError
        If the weight file is damaged, does not fit the model, or is not the one that the hub states.
    AccessError
        If the hub wants a login, or a licence accepted.
    NetworkError
        If the hub cannot be reached, or the machine is offline and the weights are not in the cache.
    StorageError
        If a download does not fit on the disk.
    MismatchError
        If the projection was made for other tokens.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = load_encoder("stain-texture", mpp=1.0)
    >>> encoder.encode(np.full((2, 224, 224, 3), 255, np.uint8)).shape == (2, encoder.card.n_dims)
    True
    """
    options = checked_options(weights, model_args, mean, std, tile_px, mpp, device, revision, offline, compiled)
    found = _find(name)
    encoder = _load_card(found, options) if isinstance(found, EncoderCard) else found.load(options)
    if (tokens, overlap_px, projection) == ("tile", 0, None):
        return encoder
    from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens

    return choose_tokens(encoder, tokens, overlap_px, projection)


def checked_options(
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    tile_px: int | None = None,
    mpp: float | None = None,
    device: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    compiled: bool = False,
) -> EncoderOptions:
    """Check the options of `load_encoder`, which says what they mean, and put them together.

    Raises
    ------
    InvalidInputError
        If one cannot be.
    """
    return EncoderOptions(
        weights=None if weights is None else Path(weights),
        model_args=None if model_args is None else dict(model_args),
        mean=_channel_values("mean", mean),
        std=_channel_values("std", std),
        tile_px=_checked_tile_px(tile_px),
        mpp=_checked_mpp(mpp),
        device=device,
        revision=revision,
        offline=offline,
        compiled=compiled or None,
    )


def untrained_encoder(name: str, options: EncoderOptions) -> Encoder:
    """Load an encoder to measure its speed: a timm model with random weights, any other as it is.

    Random weights take as long as trained ones, and need neither download nor access. Its card has no hash of weights.

    Raises
    ------
    ProspectorError
        As `load_encoder`, but for what concerns weights of a timm model.
    """
    found = _find(name)
    if isinstance(found, EncoderCard) and found.loader == "timm":
        from napari_prospector.tokens.encoders.timm_tiles import untrained_timm_encoder

        return untrained_timm_encoder(found, options)
    return _load_card(found, options) if isinstance(found, EncoderCard) else found.load(options)


def _find(name: str) -> EncoderCard | EncoderProvider:
    """Return what a name stands for: a built-in card, a third party's, or one made for a timm model."""
    for card in _BUILT_IN:
        if card.name == name:
            return card
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=name):
        return _read_entry_point(entry_point)
    if importlib.util.find_spec("timm") is not None:
        from napari_prospector.tokens.encoders.timm_tiles import card_of_model, model_names

        bare = name.removeprefix(_TIMM_PREFIX)
        if (card_of_timm := card_of_model(bare)) is not None:
            return card_of_timm
        raise _unknown(name, [_TIMM_PREFIX + model for model in model_names()] if bare != name else model_names())
    raise _unknown(name, [])


def _unknown(name: str, timm_names: Sequence[str]) -> UnknownNameError:
    """Return the error for a name that is in no table, with close names."""
    registered = sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP).names)
    candidates = [*(card.name for card in _BUILT_IN), *registered, *timm_names]
    close = difflib.get_close_matches(name, dict.fromkeys(candidates), n=4)
    advice = f" Close names: {', '.join(map(repr, close))}." if close else ""
    return UnknownNameError(f"Encoder {name!r} is unknown.{advice} List all: prospect encoders.")


def _read_entry_point(entry_point: importlib.metadata.EntryPoint) -> EncoderCard | EncoderProvider:
    """Import what an entry point names and check that it can be used."""
    loaded = entry_point.load()
    if isinstance(loaded, EncoderCard):
        return loaded
    # A class would pass the protocol's test too, but could not be loaded.
    if isinstance(loaded, type) or not isinstance(loaded, EncoderProvider):
        raise InvalidInputError(
            f"The entry point {entry_point.name!r} must name an EncoderCard, or an instance with `card` and `load`; "
            f"{entry_point.value} is a {type(loaded).__name__}."
        )
    return loaded


def _card_of(found: EncoderCard | EncoderProvider) -> EncoderCard:
    """Return the card of a table's entry."""
    return found if isinstance(found, EncoderCard) else found.card


def _load_card(card: EncoderCard, options: EncoderOptions) -> Encoder:
    """Load a card through one of our own loaders; each imports what it needs only now."""
    loaders: dict[str, Callable[[EncoderCard, EncoderOptions], Encoder]] = {
        "stain-texture": _load_stain_texture,
        "timm": _load_timm,
    }
    if card.loader not in loaders:
        raise UnknownNameError(
            f"Encoder {card.name!r} names the loader {card.loader!r}; known are {sorted(loaders)}. "
            "Register an EncoderProvider with its own `load` instead."
        )
    return loaders[card.loader](card, options)


def _load_stain_texture(card: EncoderCard, options: EncoderOptions) -> Encoder:
    """Load the built-in encoder; numba is imported here."""
    from napari_prospector.tokens.encoders.tiles import StainTextureEncoder

    options.refuse(card.name, "weights", "model_args", "mean", "std", "compiled")
    return StainTextureEncoder(
        dataclasses.replace(card, tile_px=options.tile_px or card.tile_px, mpp=options.mpp or card.mpp)
    )


def _load_timm(card: EncoderCard, options: EncoderOptions) -> Encoder:
    """Load a timm model; torch and timm are imported here."""
    from napari_prospector.tokens.encoders.timm_tiles import load_timm_encoder

    return load_timm_encoder(card, options)


def _channel_values(name: str, values: Sequence[float] | None) -> tuple[float, float, float] | None:
    """Check the three values of `mean` or `std`."""
    if values is None:
        return None
    numbers = tuple(float(value) for value in values)
    kind = "positive" if name == "std" else "finite"
    sound = all(math.isfinite(number) and (kind == "finite" or number > 0) for number in numbers)
    if len(numbers) != 3 or not sound:
        raise InvalidInputError(f"{name} must be three {kind} numbers (red, green, blue); got {numbers}.")
    return numbers[0], numbers[1], numbers[2]


def _checked_tile_px(tile_px: int | None) -> int | None:
    """Check the width of a tile."""
    if tile_px is not None and (tile_px != int(tile_px) or tile_px < _SMALLEST_TILE_PX):
        raise InvalidInputError(f"tile_px must be a whole number of at least {_SMALLEST_TILE_PX}; got {tile_px}.")
    return None if tile_px is None else int(tile_px)


def _checked_mpp(mpp: float | None) -> float | None:
    """Check the µm per pixel of a tile."""
    if mpp is not None and not _MPP_SPAN[0] <= mpp <= _MPP_SPAN[1]:
        raise InvalidInputError(f"mpp must lie between {_MPP_SPAN[0]} and {_MPP_SPAN[1]} µm per pixel; got {mpp}.")
    return None if mpp is None else float(mpp)
