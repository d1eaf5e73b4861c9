"""From a forward pass to the patch tokens of a tile, each at its place."""

from __future__ import annotations

import torch

from napari_prospector.errors import InvalidInputError

__all__ = ["patch_map"]


def patch_map(model: torch.nn.Module, features: torch.Tensor, tile_px: int, name: str) -> torch.Tensor:
    """Arrange what `forward_features` of a timm model gave by place.

    Of a ViT, class and register tokens are dropped. Its tokens have gone through the final norm as `forward_features`
    applies it; a model that norms only after pooling (`fc_norm`) has that norm applied to each token, which would
    otherwise be of no scale that the model ever reads. Of a convolutional or hierarchical net it is the last feature
    map, whose mean is what the model pools.

    Parameters
    ----------
    model
        As built by timm.
    features
        Shape (n, n_prefix + k * k, n_dims), (n, n_dims, k, k), or (n, k, k, n_dims) where the model says so.
    tile_px
        Width of the tiles.
    name
        Of the encoder, for messages.

    Returns
    -------
    torch.Tensor
        Shape (n, k, k, n_dims).

    Raises
    ------
    InvalidInputError
        The model does not say which token lies where, or its map is not square or does not divide the tile.
    """
    if features.ndim == 4:
        placed = features if getattr(model, "output_fmt", "NCHW") == "NHWC" else features.permute(0, 2, 3, 1)
    else:
        placed = _of_sequence(model, features, tile_px, name)
    rows, cols = placed.shape[1:3]
    if rows != cols or tile_px % rows:
        raise InvalidInputError(
            f"Patch tokens must divide a tile; encoder {name!r} gives {rows} x {cols} for tiles of {tile_px} px."
            " Pass another tile_px (--tile-px), or take tile tokens."
        )
    return placed


def _of_sequence(model: torch.nn.Module, features: torch.Tensor, tile_px: int, name: str) -> torch.Tensor:
    """Arrange the tokens of a ViT, row by row."""
    n_prefix = getattr(model, "num_prefix_tokens", None)
    patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    side = 0 if patch_size is None else tile_px // int(patch_size[0])
    if features.ndim != 3 or n_prefix is None or features.shape[1] != n_prefix + side * side:
        raise InvalidInputError(
            f"Encoder {name!r} does not say which of its tokens lies where: {type(model).__name__} gives"
            f" {tuple(features.shape)}. Take tile tokens, or an encoder that is a ViT or a convolutional net."
        )
    tokens = features[:, n_prefix:]
    fc_norm = getattr(model, "fc_norm", None)
    if fc_norm is not None and isinstance(getattr(model, "norm", None), torch.nn.Identity):
        tokens = fc_norm(tokens)
    return tokens.reshape(len(tokens), side, side, tokens.shape[2])
