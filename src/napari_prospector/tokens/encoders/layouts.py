"""Weight files whose tensors have other names than timm's: names change and pieces are joined, numbers stay.

The names were read in the source of the libraries that write such files:

- ``"transformers"``: `Dinov2Model`, `Dinov2WithRegistersModel` and `ViTModel` of Hugging Face transformers
  (`models/dinov2/convert_dinov2_to_hf.py`, `models/dinov2_with_registers/modeling_dinov2_with_registers.py` and
  `models/vit/convert_vit_timm_to_pytorch.py`). Queries, keys and values are three matrices there and one in timm.
- ``"dinov2"``: facebookresearch/dinov2, `dinov2/models/vision_transformer.py` and `dinov2/layers/swiglu_ffn.py`.
- ``"swin"``: the Swin transformer as first published, and timm before 0.8: a stage shrinks the map at its end, where
  timm now does at the start of the next, and tables that follow from the architecture are in the file.

Two things are more than names. A model of timm with registers adds no position to its class token, so the position
that the file states for it is added to the token beforehand (`VisionTransformer`, `no_embed_class`). A file may hold
the position embedding of another input size than the architecture was built for; the model takes the file's size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import torch

from napari_prospector.errors import InvalidInputError

__all__ = ["LAYOUTS", "fit_input_size", "to_timm_layout"]

Tensors = dict[str, torch.Tensor]

# What training needs and an embedding does not.
_UNUSED = re.compile(r"mask_token$|^pooler\.|^classifier\.|\.relative_position_index$|\.attn_mask$")
_TRANSFORMERS = (
    (r"^(dinov2|dinov2_with_registers|vit)\.", ""),
    (r"^embeddings\.cls_token", "cls_token"),
    (r"^embeddings\.register_tokens", "register_tokens"),
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^layernorm\.", "norm."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.layer_scale([12])\.lambda1", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
_DINOV2 = (
    # blocks in chunks, for sharded training: blocks.CHUNK.BLOCK.…
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)


def _renamed(tensors: Tensors, rules: tuple[tuple[str, str], ...]) -> Tensors:
    """Return the tensors under their new names, without those that an embedding does not need."""
    renamed = {}
    for name, tensor in tensors.items():
        if _UNUSED.search(name):
            continue
        new_name = name
        for pattern, replacement in rules:
            new_name = re.sub(pattern, replacement, new_name)
        renamed[new_name] = tensor
    return renamed


def _from_dinov2(tensors: Tensors, model: torch.nn.Module) -> Tensors:
    """Return the tensors of facebookresearch/dinov2 under timm's names."""
    renamed = _renamed(tensors, _DINOV2)
    if "register_tokens" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
        if getattr(model, "no_embed_class", False) and {"cls_token", "pos_embed"} <= set(renamed):
            renamed["cls_token"] = renamed["cls_token"] + renamed["pos_embed"][:, :1]
            renamed["pos_embed"] = renamed["pos_embed"][:, 1:]
    return renamed


def _from_transformers(tensors: Tensors, model: torch.nn.Module) -> Tensors:
    """Return the tensors of a ViT or DINOv2 of transformers under timm's names."""
    renamed = _renamed(tensors, _TRANSFORMERS)
    for name in [name for name in renamed if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in renamed for part in parts):
            joined = torch.cat([renamed.pop(part) for part in parts])
            renamed[name.replace(".query.", ".qkv.")] = joined
    return _from_dinov2(renamed, model)


def _from_swin(tensors: Tensors, model: torch.nn.Module) -> Tensors:
    """Return the tensors of the first Swin transformers under timm's names."""
    renamed = _renamed(tensors, ())
    # the first stage of timm's has nothing to shrink before it
    if not any(name.startswith("layers.0.downsample.") for name in renamed):
        return renamed
    stage = re.compile(r"^layers\.(\d+)\.downsample\.")
    return {
        stage.sub(lambda found: f"layers.{int(found[1]) + 1}.downsample.", name): tensor
        for name, tensor in renamed.items()
    }


LAYOUTS: Mapping[str, Callable[[Tensors, torch.nn.Module], Tensors]] = {
    "transformers": _from_transformers,
    "dinov2": _from_dinov2,
    "swin": _from_swin,
}


def to_timm_layout(tensors: Tensors, model: torch.nn.Module, layout: str | None, name: str) -> Tensors:
    """Return the tensors of a weight file under the names that timm's model has.

    A file that has timm's names already comes through unchanged, whatever the layout. A name that no rule knows stays,
    for the loader to refuse.

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


def fit_input_size(model: torch.nn.Module, tensors: Tensors) -> None:
    """Give a ViT the input size that the position embedding of a weight file was trained for, before it is loaded.

    Parameters
    ----------
    model
        As built by timm. It stays as it is unless it has a position embedding, the file too, and only their lengths
        differ, by a square number of patches.
    tensors
        Of the weight file, under timm's names.
    """
    own, theirs = getattr(model, "pos_embed", None), tensors.get("pos_embed")
    if own is None or theirs is None or own.ndim != 3 or theirs.ndim != 3 or own.shape[1] == theirs.shape[1]:
        return
    n_patches = theirs.shape[1] - (own.shape[1] - model.patch_embed.num_patches)
    side = math.isqrt(max(n_patches, 0))
    if side > 0 and side * side == n_patches:
        patch_px = model.patch_embed.patch_size[0]
        model.set_input_size(img_size=(side * patch_px, side * patch_px))
