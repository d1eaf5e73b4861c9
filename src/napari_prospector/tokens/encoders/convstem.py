"""The stem of CTransPath, which timm does not have: convolutions instead of one cut into patches."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import PatchEmbed

__all__ = ["ConvStem"]


class ConvStem(PatchEmbed):  # type: ignore[misc]
    """Two convolutions that halve the image, each normalized, then one that mixes channels, instead of patches of 4 px.

    Wang et al., Transformer-based unsupervised contrastive learning for histopathological image classification,
    Medical Image Analysis 81 (2022), section 3.1; sizes of layers and the order of `proj` as in the authors' weights.

    Parameters
    ----------
    img_size, patch_size, in_chans, embed_dim, options
        As timm's `PatchEmbed` takes them; `patch_size` must be 4 and `embed_dim` a multiple of 8.
    """

    def __init__(
        self, img_size: Any = 224, patch_size: int = 4, in_chans: int = 3, embed_dim: int = 96, **options: Any
    ) -> None:
        super().__init__(img_size, patch_size, in_chans, embed_dim, **options)
        if tuple(self.patch_size) != (4, 4) or embed_dim % 8:
            raise ValueError(
                f"ConvStem needs patch_size 4 and embed_dim a multiple of 8; got {patch_size}, {embed_dim}"
            )
        widths = (in_chans, embed_dim // 8, embed_dim // 4)
        halvings: list[torch.nn.Module] = []
        for width, next_width in zip(widths[:-1], widths[1:], strict=True):
            halvings.append(torch.nn.Conv2d(width, next_width, kernel_size=3, stride=2, padding=1, bias=False))
            halvings.append(torch.nn.BatchNorm2d(next_width))
            halvings.append(torch.nn.ReLU(inplace=True))
        self.proj = torch.nn.Sequential(*halvings, torch.nn.Conv2d(widths[-1], embed_dim, kernel_size=1))
