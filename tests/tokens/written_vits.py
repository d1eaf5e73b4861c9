"""ViTs written out from the papers, on tensors named as Hugging Face transformers names them: an oracle without timm.

DINOv2 and its registers: Oquab et al. 2024, Darcet et al. 2024; ViT: Dosovitskiy et al. 2021. Where registers stand and
which tokens get a position is read in transformers' `modeling_dinov2_with_registers.py` (class token and patches do,
registers do not); a SwiGLU layer is ``W₂ (silu(a) ∘ b)`` with ``a, b`` the halves of ``W₁ x`` (Shazeer 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

__all__ = ["WrittenVit"]


@dataclass(frozen=True)
class WrittenVit:
    """Sizes of a small ViT; each length is a number of its own."""

    kind: str
    n_registers: int = 0
    swiglu: bool = False
    n_dims: int = 22
    n_heads: int = 2
    n_layers: int = 3
    n_hidden: int = 26
    patch_px: int = 7
    n_side: int = 5

    @property
    def tile_px(self) -> int:
        return self.patch_px * self.n_side

    def tensors(self, seed: int = 0) -> dict[str, torch.Tensor]:
        """Draw a weight file, as `save_pretrained` of transformers names it."""
        shapes = self._outer_shapes()
        for layer in range(self.n_layers):
            inner = self._dinov2_shapes() if self.kind == "dinov2" else self._vit_shapes()
            shapes |= {f"encoder.layer.{layer}.{name}": shape for name, shape in inner.items()}
        generator = torch.Generator().manual_seed(seed)
        return {name: 0.4 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    def tokens(self, tensors: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
        """Return the last hidden state, shape (n, 1 + n_registers + n_side², n_dims)."""
        get = tensors.__getitem__
        kernel, bias = (get(f"embeddings.patch_embeddings.projection.{part}") for part in ("weight", "bias"))
        patches = F.conv2d(pixels, kernel, bias, stride=self.patch_px).flatten(2).mT
        first = get("embeddings.cls_token").expand(len(pixels), 1, self.n_dims)
        state = torch.cat([first, patches], dim=1) + get("embeddings.position_embeddings")
        if self.n_registers:
            registers = get("embeddings.register_tokens").expand(len(pixels), self.n_registers, self.n_dims)
            state = torch.cat([state[:, :1], registers, state[:, 1:]], dim=1)
        for layer in range(self.n_layers):
            inner = {
                name.split(".", 3)[3]: t for name, t in tensors.items() if name.startswith(f"encoder.layer.{layer}.")
            }
            state = self._block(inner, state)
        return self._normed(tensors, "layernorm", state)

    def _block(self, inner: dict[str, torch.Tensor], state: torch.Tensor) -> torch.Tensor:
        before, after = ("norm1", "norm2") if self.kind == "dinov2" else ("layernorm_before", "layernorm_after")
        first, second = 1.0, 1.0
        if self.kind == "dinov2":
            first, second = inner["layer_scale1.lambda1"], inner["layer_scale2.lambda1"]
        state = state + first * self._attention(inner, self._normed(inner, before, state))
        return state + second * self._mlp(inner, self._normed(inner, after, state))

    def _attention(self, inner: dict[str, torch.Tensor], state: torch.Tensor) -> torch.Tensor:
        query, key, value = (_linear(inner, f"attention.attention.{part}", state) for part in ("query", "key", "value"))
        width = self.n_dims // self.n_heads
        mixed = []
        for head in range(self.n_heads):
            columns = slice(head * width, (head + 1) * width)
            agreement = query[..., columns] @ key[..., columns].mT / width**0.5
            mixed.append(agreement.softmax(dim=-1) @ value[..., columns])
        return _linear(inner, "attention.output.dense", torch.cat(mixed, dim=-1))

    def _mlp(self, inner: dict[str, torch.Tensor], state: torch.Tensor) -> torch.Tensor:
        if self.swiglu:
            both = _linear(inner, "mlp.weights_in", state)
            gate, value = both[..., : self.n_hidden], both[..., self.n_hidden :]
            return _linear(inner, "mlp.weights_out", gate * torch.sigmoid(gate) * value)
        names = ("mlp.fc1", "mlp.fc2") if self.kind == "dinov2" else ("intermediate.dense", "output.dense")
        hidden = _linear(inner, names[0], state)
        return _linear(inner, names[1], hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)))

    def _normed(self, tensors: dict[str, torch.Tensor], name: str, state: torch.Tensor) -> torch.Tensor:
        centred = state - state.mean(dim=-1, keepdim=True)
        variance = (centred**2).mean(dim=-1, keepdim=True)
        return centred / torch.sqrt(variance + 1e-6) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def _outer_shapes(self) -> dict[str, Any]:
        shapes: dict[str, Any] = {
            "embeddings.cls_token": (1, 1, self.n_dims),
            "embeddings.position_embeddings": (1, 1 + self.n_side**2, self.n_dims),
            "embeddings.patch_embeddings.projection.weight": (self.n_dims, 3, self.patch_px, self.patch_px),
            "embeddings.patch_embeddings.projection.bias": (self.n_dims,),
            "layernorm.weight": (self.n_dims,),
            "layernorm.bias": (self.n_dims,),
        }
        if self.kind == "dinov2":
            shapes["embeddings.mask_token"] = (1, self.n_dims)
        else:
            shapes |= {"pooler.dense.weight": (self.n_dims, self.n_dims), "pooler.dense.bias": (self.n_dims,)}
        if self.n_registers:
            shapes["embeddings.register_tokens"] = (1, self.n_registers, self.n_dims)
        return shapes

    def _shared_shapes(self) -> dict[str, Any]:
        names = [f"attention.attention.{part}" for part in ("query", "key", "value")] + ["attention.output.dense"]
        return _affine_shapes(dict.fromkeys(names, (self.n_dims, self.n_dims)))

    def _dinov2_shapes(self) -> dict[str, Any]:
        out = self.n_hidden * (2 if self.swiglu else 1)
        names = ("mlp.weights_in", "mlp.weights_out") if self.swiglu else ("mlp.fc1", "mlp.fc2")
        shapes = {names[0]: (out, self.n_dims), names[1]: (self.n_dims, self.n_hidden)}
        scales = {f"layer_scale{i}.lambda1": (self.n_dims,) for i in (1, 2)}
        norms = {f"norm{i}.{part}": (self.n_dims,) for i in (1, 2) for part in ("weight", "bias")}
        return self._shared_shapes() | _affine_shapes(shapes) | scales | norms

    def _vit_shapes(self) -> dict[str, Any]:
        shapes = {"intermediate.dense": (self.n_hidden, self.n_dims), "output.dense": (self.n_dims, self.n_hidden)}
        names = ("layernorm_before", "layernorm_after")
        norms = {f"{name}.{part}": (self.n_dims,) for name in names for part in ("weight", "bias")}
        return self._shared_shapes() | _affine_shapes(shapes) | norms


def _affine_shapes(matrices: dict[str, tuple[int, int]]) -> dict[str, Any]:
    weights = {f"{name}.weight": shape for name, shape in matrices.items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in matrices.items()}


def _linear(tensors: dict[str, torch.Tensor], name: str, state: torch.Tensor) -> torch.Tensor:
    return state @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
