"""Which tokens of an encoder become a grid: of tiles or of patches, overlapping or not, as they are or projected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError, MismatchError, UnknownNameError
from napari_prospector.tokens.encoders.encodercard import Encoder, EncoderCard, PatchEncoder
from napari_prospector.tokens.encoders.projection import Projection, named_projection

__all__ = ["ChosenTokens", "choose_tokens"]

KINDS = ("tile", "patch")


def choose_tokens(
    encoder: Encoder,
    tokens: str = "patch",
    overlap_px: int = 0,
    projection: str | Path | Projection | None = None,
) -> Encoder:
    """Return an encoder of other tokens, for `embed_slide`.

    Parameters
    ----------
    encoder
        From `load_encoder`.
    tokens
        ``"patch"``: the patch tokens of a ViT, or the last feature map of a convolutional net, from the same forward
        pass; ``"tile"``: one embedding a tile, as the encoder gives it.
    overlap_px
        How far neighbouring tiles overlap, in pixels of the encoder: a whole number of patches. Half of them are
        dropped at each side of a tile, so that those that are kept have seen more of what lies around them. 0: none.
    projection
        Applied to every token: ``"random:64"``, the file of a fitted one, or the projection itself. None: embeddings
        stay as they are.

    Returns
    -------
    Encoder
        Its card says what was chosen. The same encoder where nothing is.

    Raises
    ------
    UnknownNameError
        `tokens` is neither.
    InvalidInputError
        The encoder gives no patch tokens, or the overlap is no whole number of patches or leaves none.
    MismatchError
        The projection was made for other tokens.
    MissingFileError, FileFormatError
        The file of the projection does not exist, or is none.

    Examples
    --------
    >>> from napari_prospector import load_encoder
    >>> encoder = load_encoder("mobilenetv2_100", weights="mobile.safetensors")  # doctest: +SKIP
    >>> choose_tokens(encoder, "patch", overlap_px=64).card.patch_px  # doctest: +SKIP
    32
    """
    if tokens not in KINDS:
        raise UnknownNameError(f"tokens must be 'tile' or 'patch'; got {tokens!r}.")
    if tokens == "tile" and overlap_px:
        raise InvalidInputError(
            f"overlap_px is for patch tokens; got {overlap_px} with tile tokens. For tile tokens that overlap pass"
            " stride_px=… (--stride-px), or choose tokens='patch' (--tokens patch)."
        )
    if tokens == "tile" and projection is None:
        return encoder
    return ChosenTokens(encoder, tokens, overlap_px, projection)


class ChosenTokens:
    """An encoder of which `choose_tokens` chose the tokens; its card says which.

    Parameters
    ----------
    encoder, tokens, overlap_px, projection
        As for `choose_tokens`.
    """

    def __init__(
        self, encoder: Encoder, tokens: str, overlap_px: int, projection: str | Path | Projection | None
    ) -> None:
        self._encoder = encoder
        card = replace(encoder.card, tokens=tokens, overlap_px=overlap_px)
        self._inner = slice(None)
        if tokens == "patch":
            n_dims, n_patches = _measured(encoder)
            card = replace(card, n_dims=n_dims, patch_px=card.tile_px // n_patches)
            self._inner = _inner_patches(card, n_patches)
        self._projection = named_projection(projection, card) if isinstance(projection, str | Path) else projection
        if self._projection is not None:
            self._projection.check_belongs(card)
            card = replace(card, n_dims=self._projection.n_dims, projection=self._projection.record)
        self.card: EncoderCard = card

    @property
    def batch_size(self) -> int:
        """How many tiles to hand over at once; the encoder's own."""
        return self._encoder.batch_size

    @property
    def lanes(self) -> int:
        """How many batches are worked on at once; the encoder's own."""
        return int(getattr(self._encoder, "lanes", 1))

    @property
    def fills_cores(self) -> bool:
        """Whether it keeps every core busy; the encoder's own."""
        return bool(getattr(self._encoder, "fills_cores", False))

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return one embedding a tile, shape (n, n_dims), of tiles (n, tile_px, tile_px, 3), projected if so chosen.

        Raises
        ------
        MismatchError
            Patch tokens were chosen.
        """
        if self.card.tokens == "patch":
            raise MismatchError(f"Patch tokens of {self.card.name!r} were chosen. Call encode_patches.")
        return self._projected(self._encoder.encode(tiles))

    def encode_patches(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the patches that are kept, shape (n, kept, kept, n_dims), of tiles (n, tile_px, tile_px, 3).

        Raises
        ------
        InvalidInputError
            The encoder gives no patch tokens.
        """
        patches = _patch_encoder(self._encoder).encode_patches(tiles)
        return self._projected(patches[:, self._inner, self._inner])

    def _projected(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project vectors (..., n_dims)."""
        return vectors if self._projection is None else self._projection.apply(vectors)


def _patch_encoder(encoder: Encoder) -> PatchEncoder:
    """Return the same encoder if it gives patch tokens."""
    if not isinstance(encoder, PatchEncoder):
        raise InvalidInputError(
            f"Encoder {encoder.card.name!r} gives no patch tokens. Take tile tokens (--tokens tile), closer together"
            " with stride_px (--stride-px), or another encoder: prospect encoders."
        )
    return encoder


def _measured(encoder: Encoder) -> tuple[int, int]:
    """Return the length of a patch token, which may not be that of a tile's, and the patches along a side of a tile."""
    tile_px, name = encoder.card.tile_px, encoder.card.name
    shape = _patch_encoder(encoder).encode_patches(np.full((1, tile_px, tile_px, 3), 255, np.uint8)).shape
    if len(shape) != 4 or shape[1] != shape[2] or tile_px % shape[1]:
        raise InvalidInputError(
            f"encode_patches of encoder {name!r} must give shape (n, k, k, n_dims), where k divides {tile_px};"
            f" got {shape} for one tile."
        )
    return shape[3], shape[1]


def _inner_patches(card: EncoderCard, n_patches: int) -> slice:
    """Return which patches along a side of a tile are kept."""
    from napari_prospector.tokens.patches import patches_along

    n_dropped = patches_along(card)[1]
    return slice(n_dropped // 2, n_patches - (n_dropped - n_dropped // 2))
