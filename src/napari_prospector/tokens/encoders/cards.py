"""The table of encoder cards, and `load_encoder`, the one door to every encoder.

An encoder turns tiles into embeddings; its card says everything that a store or a head must
remember about it. To add an encoder, add a card: to `_BUILT_IN` here, or in another package
through the entry-point group ``napari_prospector.encoders``.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, UnknownNameError

__all__ = [
    "ENTRY_POINT_GROUP",
    "Encoder",
    "EncoderCard",
    "EncoderOptions",
    "EncoderProvider",
    "PatchEncoder",
    "list_encoders",
    "load_encoder",
]

ENTRY_POINT_GROUP = "napari_prospector.encoders"
_TIMM_PREFIX = "timm:"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# The same span that a slide's pixel size must lie in, µm per pixel.
_MPP_SPAN = (0.05, 20.0)
_SMALLEST_TILE_PX = 16
# What a card does not say of tokens is this.
_FINER: dict[str, Any] = {"tokens": "tile", "overlap_px": 0, "projection": None}


@dataclass(frozen=True)
class EncoderCard:
    """What a store and a head remember about the encoder that made their embeddings.

    Attributes
    ----------
    name
        The name that `load_encoder` knows it by.
    loader
        ``"stain-texture"``, ``"timm"``, or a word of the third party that loads it.
    source
        Where architecture and weights come from, such as ``"timm:resnet50.a1_in1k"``.
    tile_px
        Width of a tile in pixels.
    mpp
        µm per pixel of a tile, unless the caller asks for another.
    revision
        Version of the weights or of the feature definition; None if there is none.
    mean, std
        Per channel (red, green, blue) in units of white = 1; None: the encoder takes raw uint8.
    n_dims
        Length of an embedding; None until it has been measured by loading.
    patch_px
        Width in tile pixels of the finest token that one forward pass holds; None if unknown.
    licence, gated, citation
        Of the published weights; None where not verified.
    weights_sha256
        Of the weight file that was loaded; None without weights.
    model_args
        Arguments of the architecture, JSON types only.
    stain_normalize
        How `embed_slide` brings tiles to one staining before it hands them over: ``"macenko"``; None: not at all.
    tokens
        ``"tile"``: one embedding a tile; ``"patch"``: one for every patch of a tile, each `patch_px` wide.
    overlap_px
        How far tiles overlap, so that only their inner patches are kept; pixels of a tile, 0 with tile tokens.
    projection
        Which projection embeddings went through (`Projection.record`), JSON types only; None: none.
    """

    name: str
    loader: str
    source: str
    tile_px: int
    mpp: float
    revision: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    n_dims: int | None = None
    patch_px: int | None = None
    licence: str | None = None
    gated: bool | None = None
    citation: str | None = None
    weights_sha256: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    stain_normalize: str | None = None
    tokens: str = "tile"
    overlap_px: int = 0
    projection: Mapping[str, Any] | None = field(default=None, hash=False)

    def to_json(self) -> dict[str, Any]:
        """Return the card as a plain dict of JSON types.

        Examples
        --------
        >>> card = EncoderCard("mine", "timm", "timm:resnet50", tile_px=224, mpp=0.5)
        >>> EncoderCard.from_json(card.to_json()) == card
        True
        """
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        for name in ("mean", "std"):
            plain[name] = None if plain[name] is None else list(plain[name])
        plain["model_args"] = dict(self.model_args)
        plain["projection"] = None if self.projection is None else dict(self.projection)
        # cards of whole tiles stay as they were before there was a choice, and so do stores and heads with them
        return {name: value for name, value in plain.items() if name not in _FINER or value != _FINER[name]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> EncoderCard:
        """Return the card that `to_json` wrote.

        Raises
        ------
        FileFormatError
            If a required entry is missing or an entry is unknown.
        """
        known = {one.name for one in dataclasses.fields(cls)}
        required = {"name", "loader", "source", "tile_px", "mpp"}
        if missing := sorted(required - set(plain)):
            raise FileFormatError(f"An encoder card must hold {missing}; got the entries {sorted(plain)}.")
        if unknown := sorted(set(plain) - known):
            raise FileFormatError(
                f"The encoder card {plain['name']!r} holds unknown entries {unknown}. "
                "It may come from a newer version; update napari-prospector."
            )
        entries = dict(plain)
        for name in ("mean", "std"):
            if entries.get(name) is not None:
                entries[name] = tuple(float(value) for value in entries[name])
        return cls(**entries)


@dataclass(frozen=True)
class EncoderOptions:
    """What a caller asked of `load_encoder` beside the name; None where nothing was asked."""

    weights: Path | None = None
    model_args: Mapping[str, Any] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    tile_px: int | None = None
    mpp: float | None = None
    device: str | None = None

    def refuse(self, encoder: str, *names: str) -> None:
        """Raise InvalidInputError if one of the named options was given to an encoder that has none."""
        given = [name for name in names if getattr(self, name) is not None]
        if given:
            raise InvalidInputError(
                f"Encoder {encoder!r} takes no {', '.join(given)}; got {given[0]}={getattr(self, given[0])!r}. "
                "Leave it out."
            )


@runtime_checkable
class Encoder(Protocol):
    """Tiles in, embeddings out."""

    @property
    def card(self) -> EncoderCard:
        """The card, with `n_dims` filled in."""
        ...

    @property
    def batch_size(self) -> int:
        """How many tiles to hand to one call of `encode`."""
        ...

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return embeddings, shape (n, n_dims), of tiles, shape (n, tile_px, tile_px, 3), red green blue."""
        ...


@runtime_checkable
class PatchEncoder(Encoder, Protocol):
    """An encoder that also gives the patch tokens of a tile, from the same forward pass."""

    def encode_patches(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return one embedding a patch, shape (n, k, k, n_dims), of tiles (n, tile_px, tile_px, 3); k divides tile_px.

        Embedding (row, col) belongs to the square of ``tile_px / k`` pixels at that row and column of the tile.
        """
        ...


@runtime_checkable
class EncoderProvider(Protocol):
    """What an entry point may name instead of a plain `EncoderCard`: an encoder with its own loader."""

    @property
    def card(self) -> EncoderCard:
        """The card before loading."""
        ...

    def load(self, options: EncoderOptions) -> Encoder:
        """Return the encoder that was asked for."""
        ...


_BUILT_IN: tuple[EncoderCard, ...] = (
    EncoderCard(
        name="stain-texture",
        loader="stain-texture",
        source="built in",
        revision="1",
        tile_px=224,
        mpp=0.5,
        licence="bsd-3-clause",
        gated=False,
        citation="napari-prospector; stain vectors of Ruifrok and Johnston, Anal Quant Cytol Histol 23 (2001)",
    ),
    # The facts of the next three are those of timm's own registry (pretrained_cfg of timm 1.0).
    EncoderCard(
        name="mobilenetv2_100",
        loader="timm",
        source="timm:mobilenetv2_100.ra_in1k",
        tile_px=224,
        mpp=0.5,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        n_dims=1280,
        patch_px=32,
        licence="apache-2.0",
        gated=False,
        citation="Sandler et al., MobileNetV2, CVPR 2018, arXiv 1801.04381",
    ),
    EncoderCard(
        name="resnet50",
        loader="timm",
        source="timm:resnet50.a1_in1k",
        tile_px=224,
        mpp=0.5,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        n_dims=2048,
        patch_px=32,
        licence="apache-2.0",
        gated=False,
        citation="Wightman et al., ResNet strikes back, arXiv 2110.00476",
    ),
    EncoderCard(
        name="dinov2_s14",
        loader="timm",
        source="timm:vit_small_patch14_dinov2.lvd142m",
        tile_px=224,
        mpp=0.5,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        n_dims=384,
        patch_px=14,
        licence="apache-2.0",
        gated=False,
        citation="Oquab et al., DINOv2, TMLR 2024, arXiv 2304.07193",
    ),
)


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


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    tile_px: int | None = None,
    mpp: float | None = None,
    device: str | None = None,
) -> Encoder:
    """Load an encoder by name: a card's, or any timm model's with a local weight file.

    Nothing is downloaded.

    Parameters
    ----------
    name
        A name of `list_encoders`, or a timm model with or without the prefix ``timm:``.
    weights
        Weight file: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin`` holding tensors only. It is
        loaded strictly: every tensor must be there, none more, each in the shape of the model.
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

    Returns
    -------
    Encoder
        Its `card` holds what was asked and measured: `n_dims`, `tile_px`, `mpp`, `weights_sha256` and so on.

    Raises
    ------
    UnknownNameError
        If neither a card nor a timm model has that name.
    InvalidInputError
        If an option cannot be, or weights are needed and not given.
    MissingFileError
        If the weight file does not exist.
    FileFormatError
        If the weight file is damaged or does not fit the model.

    Examples
    --------
    >>> encoder = load_encoder("stain-texture", mpp=1.0)
    >>> encoder.encode(np.full((2, 224, 224, 3), 255, np.uint8)).shape == (2, encoder.card.n_dims)
    True
    """
    options = EncoderOptions(
        weights=None if weights is None else Path(weights),
        model_args=None if model_args is None else dict(model_args),
        mean=_channel_values("mean", mean),
        std=_channel_values("std", std),
        tile_px=_checked_tile_px(tile_px),
        mpp=_checked_mpp(mpp),
        device=device,
    )
    found = _find(name)
    if isinstance(found, EncoderCard):
        return _load_card(found, options)
    return found.load(options)


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

    options.refuse(card.name, "weights", "model_args", "mean", "std")
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
