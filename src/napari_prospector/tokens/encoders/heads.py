"""From the tokens of a forward pass to one vector a tile: the special heads of published encoders.

A ViT of timm returns from `forward_features` a sequence of `n_prefix` tokens (the class token, then the registers)
and then one token a patch, row by row, after the final norm. What its authors hand to downstream tasks differs; a card
names it by `EncoderCard.pooling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from napari_prospector.errors import InvalidInputError

__all__ = ["POOLINGS", "check_pooling", "n_prefix_of", "pooled_features"]

Pool = Callable[[torch.Tensor, int], torch.Tensor]


def _class_token(tokens: torch.Tensor, n_prefix: int) -> torch.Tensor:
    """Return the first token, shape (n, n_dims); registers stand behind it."""
    return tokens[:, 0]


def _mean_patch(tokens: torch.Tensor, n_prefix: int) -> torch.Tensor:
    """Return the mean of the patch tokens, shape (n, n_dims); neither class token nor registers are in it."""
    return tokens[:, n_prefix:].mean(dim=1)


def _class_and_mean(tokens: torch.Tensor, n_prefix: int) -> torch.Tensor:
    """Return the class token followed by the mean of the patch tokens, shape (n, 2 n_dims)."""
    return torch.cat((_class_token(tokens, n_prefix), _mean_patch(tokens, n_prefix)), dim=-1)


POOLINGS: Mapping[str, Pool] = {"class": _class_token, "mean": _mean_patch, "class+mean": _class_and_mean}


def check_pooling(pooling: str | None, model: torch.nn.Module, name: str) -> None:
    """Refuse a pooling that is unknown, or that needs tokens of a model that has none.

    Parameters
    ----------
    pooling
        A name of `POOLINGS`; None: the model's own.
    model
        As built by timm.
    name
        Of the encoder, for the message.

    Raises
    ------
    InvalidInputError
        If it is one of those.
    """
    if pooling is None:
        return
    if pooling not in POOLINGS:
        raise InvalidInputError(
            f"pooling of encoder {name!r} must be None or one of {sorted(POOLINGS)}; got {pooling!r}."
        )
    has_class, has_tokens = getattr(model, "cls_token", None) is not None, hasattr(model, "num_prefix_tokens")
    if not has_tokens or (not has_class and pooling != "mean"):
        lacking = "class token" if has_tokens else "tokens"
        raise InvalidInputError(
            f"pooling={pooling!r} of encoder {name!r} cannot be: a {type(model).__name__} has no {lacking}. "
            "Leave pooling out of its card."
        )


def n_prefix_of(model: torch.nn.Module) -> int:
    """Return how many tokens of a model stand before its patch tokens; 0 where it has no tokens."""
    return int(getattr(model, "num_prefix_tokens", 0))


def pooled_features(model: torch.nn.Module, features: torch.Tensor, pooling: str | None) -> torch.Tensor:
    """Return one vector a tile from what `forward_features` gave.

    Parameters
    ----------
    model
        As built by timm.
    features
        What its `forward_features` returned: tokens, shape (n, n_prefix + n_patches, n_dims), where `pooling` is set.
    pooling
        A name of `POOLINGS`; None: the model's own features before its classifier.

    Returns
    -------
    torch.Tensor
        Shape (n, n_dims), or (n, 2 n_dims) for ``"class+mean"``.
    """
    if pooling is None:
        vectors: torch.Tensor = model.forward_head(features, pre_logits=True)
        return vectors
    return POOLINGS[pooling](features, n_prefix_of(model))
