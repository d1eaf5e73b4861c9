"""What an encoder is: its card, the options it is loaded with, and what third parties implement."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError

__all__ = ["Encoder", "EncoderCard", "EncoderOptions", "EncoderProvider", "PatchEncoder"]

_CHANNELS = ("mean", "std")
_NAME_LISTS = ("weight_files", "unverified")
# What an entry that a card does not write is. Cards, and stores and heads with them, stay as they were before there
# was such an entry.
_LATER: dict[str, Any] = {
    **{"tokens": "tile", "overlap_px": 0, "projection": None},
    **{"hub": None, "weight_files": None, "layout": None, "pooling": None, "n_prefix": None, "unverified": []},
}
# Entries about the weights. Of a weight file the hash says more than the revision.
_SAID_ONLY = ("licence", "gated", "citation", "hub", "weight_files", "unverified", "layout", "n_prefix")


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
        Version of the weights or of the feature definition: with `hub` the commit of the repository; None: none known.
    mean, std
        Per channel (red, green, blue) in units of white = 1; None: the encoder takes raw uint8.
    n_dims
        Length of an embedding; None until it has been measured by loading.
    patch_px
        Width in tile pixels of the finest token that one forward pass holds; None if unknown.
    licence, gated, citation
        Of the published weights, and whether its owner must grant access first; None where not verified.
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
    hub
        Repository on the Hugging Face hub that holds the weights, such as ``"MahmoodLab/UNI2-h"``; None: none known.
    weight_files
        Names of the weight file in that repository or folder, the best first; None: not known.
    layout
        How the weight file names its tensors, a name of `layouts.LAYOUTS`; None: as timm does.
    pooling
        How a forward pass becomes one vector, a name of `heads.POOLINGS`; None: as the model pools itself.
    n_prefix
        Tokens of a ViT before its patch tokens: the class token and the registers; 0 for other nets; None: not known
        before loading.
    unverified
        Names of entries that could be read neither on the model's own pages nor in tools that load it; all are None.
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
    hub: str | None = None
    weight_files: tuple[str, ...] | None = None
    layout: str | None = None
    pooling: str | None = None
    n_prefix: int | None = None
    unverified: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the card as a plain dict of JSON types.

        Examples
        --------
        >>> card = EncoderCard("mine", "timm", "timm:resnet50", tile_px=224, mpp=0.5)
        >>> EncoderCard.from_json(card.to_json()) == card
        True
        """
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        for name in (*_CHANNELS, *_NAME_LISTS):
            plain[name] = None if plain[name] is None else list(plain[name])
        plain["model_args"] = dict(self.model_args)
        plain["projection"] = None if self.projection is None else dict(self.projection)
        return {name: value for name, value in plain.items() if name not in _LATER or value != _LATER[name]}

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
        for name in _CHANNELS:
            if entries.get(name) is not None:
                entries[name] = tuple(float(value) for value in entries[name])
        for name in _NAME_LISTS:
            if entries.get(name) is not None:
                entries[name] = tuple(str(value) for value in entries[name])
        return cls(**entries)

    def identity(self) -> dict[str, Any]:
        """Return the entries of `to_json` that decide what an embedding is, and so whether a store can be continued.

        What is only said about the weights, such as licence, repository and citation, may be corrected in a later
        version without making embeddings others.

        Examples
        --------
        >>> card = EncoderCard("mine", "timm", "timm:resnet50", tile_px=224, mpp=0.5, licence="mit")
        >>> "licence" in card.identity()
        False
        """
        said = _SAID_ONLY if self.weights_sha256 is None else (*_SAID_ONLY, "revision")
        return {name: value for name, value in self.to_json().items() if name not in said}


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
    revision: str | None = None
    offline: bool = False
    compiled: bool | None = None

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
