"""Weight files whose tensors have other names than timm's: the names are changed, never the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from napari_prospector.errors import InvalidInputError

__all__ = ["LAYOUTS", "to_timm_layout"]

Tensors = dict[str, torch.Tensor]

LAYOUTS: Mapping[str, Callable[[Tensors, torch.nn.Module], Tensors]] = {}


def to_timm_layout(tensors: Tensors, model: torch.nn.Module, layout: str | None, name: str) -> Tensors:
    """Return the tensors of a weight file under the names that timm's model has.

    Parameters
    ----------
    tensors
        As the file names them.
    model
        The architecture that they are for, as built by timm.
    layout
        A name of `LAYOUTS`; None: they have timm's names already.
    name
        Of the encoder, for the message.

    Returns
    -------
    dict of str to torch.Tensor
        Whether all are there and each has its shape is for the loader to check.

    Raises
    ------
    InvalidInputError
        If the layout is unknown.
    """
    if layout is None:
        return tensors
    if layout not in LAYOUTS:
        raise InvalidInputError(f"layout of encoder {name!r} must be None or one of {sorted(LAYOUTS)}; got {layout!r}.")
    return LAYOUTS[layout](tensors, model)
