"""A torch model at work: tiles in, embeddings out, in batches that fit the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import EncoderCard
from napari_prospector.tokens.encoders.heads import check_pooling, n_prefix_of, pooled_features
from napari_prospector.tokens.encoders.patch_maps import patch_map

__all__ = ["TimmEncoder", "checked_device", "patch_px_of"]

# Work of one batch, floating-point operations: about a second on two CPU cores, so that cancelling
# is prompt. It is fixed, not timed, because an embedding may depend on the batch in its last bit.
_BATCH_WORK = {"cpu": 6.4e10, "mps": 6.4e11, "cuda": 4.0e12}
_LARGEST_BATCH = {"cpu": 16, "mps": 64, "cuda": 256}


class TimmEncoder:
    """A timm model that turns tiles into its pooled features before the classifier.

    Parameters
    ----------
    model
        In any mode, on any device; it is put in evaluation mode and moved.
    card
        `mean` and `std` must be set; `n_dims` and `patch_px` are measured.
    device
        Where it runs. On CUDA the forward pass runs under float16 autocast, elsewhere in float32.
    """

    def __init__(self, model: torch.nn.Module, card: EncoderCard, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._model = model.eval().requires_grad_(False)
        if card.mean is None or card.std is None:
            raise InvalidInputError(f"mean and std of encoder {card.name!r} are unknown. Pass mean=… and std=….")
        check_pooling(card.pooling, model, card.name)
        self._scale = 1.0 / (255.0 * torch.tensor(card.std, device=device).reshape(1, 3, 1, 1))
        self._shift = torch.tensor(card.mean, device=device).reshape(1, 3, 1, 1) * 255.0
        self.card = card
        self._model.to(device=self._device, memory_format=torch.channels_last)
        work, n_dims = self._measure()
        kind = self._device.type
        self.batch_size = int(np.clip(_BATCH_WORK[kind] // max(work, 1), 1, _LARGEST_BATCH[kind]))
        self.card = dataclasses.replace(
            card, n_dims=n_dims, patch_px=patch_px_of(model, card.tile_px), n_prefix=n_prefix_of(model)
        )

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings of tiles.

        Parameters
        ----------
        tiles
            Shape (n, tile_px, tile_px, 3), red green blue. More than `batch_size` are taken in turns.

        Returns
        -------
        ndarray of float32
            Shape (n, n_dims).

        Raises
        ------
        InvalidInputError
            If `tiles` has another shape or dtype.
        """
        self._check(tiles)
        if len(tiles) == 0:
            return np.empty((0, self.card.n_dims or 0), np.float32)
        return self._in_turns(tiles, self._pooled)

    def encode_patches(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the patch tokens of tiles: of a ViT after the final norm, of other nets the last feature map.

        Parameters
        ----------
        tiles
            As for `encode`; at least one.

        Returns
        -------
        ndarray of float32
            Shape (n, k, k, n_dims), by place; `n_dims` may be another than that of a tile.

        Raises
        ------
        InvalidInputError
            If `tiles` has another shape or dtype, or the model does not say which token lies where.
        """
        self._check(tiles)
        return self._in_turns(tiles, self._patches)

    def _check(self, tiles: NDArray[np.uint8]) -> None:
        """Refuse what is no batch of tiles."""
        tile_px = self.card.tile_px
        if tiles.ndim != 4 or tiles.shape[1:] != (tile_px, tile_px, 3) or tiles.dtype != np.uint8:
            raise InvalidInputError(
                f"tiles must be uint8 of shape (n, {tile_px}, {tile_px}, 3); got {tiles.dtype} {tiles.shape}."
            )

    def _in_turns(
        self, tiles: NDArray[np.uint8], finish: Callable[[torch.Tensor], torch.Tensor]
    ) -> NDArray[np.float32]:
        """Run tiles through the model in batches, and `finish` what `forward_features` gave for each."""
        batches = [tiles[start : start + self.batch_size] for start in range(0, len(tiles), self.batch_size)]
        return np.concatenate([self._forward(batch, finish).float().cpu().numpy() for batch in batches])

    def _forward(self, tiles: NDArray[np.uint8], finish: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return the finished features of one batch, on the device."""
        on_device = torch.from_numpy(np.require(tiles, requirements=["C", "W"])).to(self._device)
        # Permuting rows-columns-channels gives the channels-last layout that convolutions like, without a copy.
        pixels = (on_device.permute(0, 3, 1, 2).float() - self._shift) * self._scale
        on_cuda = self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=on_cuda):
            return finish(self._model.forward_features(pixels))

    def _patches(self, features: torch.Tensor) -> torch.Tensor:
        """Return the patch tokens of one batch, shape (n, k, k, n_dims)."""
        return patch_map(self._model, features, self.card.tile_px, self.card.name)

    def _pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Return the pooled features of one batch, shape (n, n_dims)."""
        pooled = pooled_features(self._model, features, self.card.pooling)
        if pooled.ndim != 2:
            raise InvalidInputError(
                f"Encoder {self.card.name!r} must give one vector a tile; got {tuple(pooled.shape)}. "
                "Leave global_pool out of model_args."
            )
        return pooled

    def _measure(self) -> tuple[float, int]:
        """Return the work of one tile in floating-point operations, and the length of an embedding."""
        tile_px = self.card.tile_px
        blank = np.full((1, tile_px, tile_px, 3), 255, np.uint8)
        try:
            with FlopCounterMode(display=False) as counter:
                pooled = self._forward(blank, self._pooled)
        except (AssertionError, RuntimeError) as problem:
            raise InvalidInputError(
                f"Encoder {self.card.name!r} cannot take tiles of tile_px={tile_px}: {problem}"
            ) from problem
        return float(counter.get_total_flops()), int(pooled.shape[1])


def checked_device(device: str | None) -> str:
    """Return the device to use; raise InvalidInputError if the machine has no such device."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in available:
        raise InvalidInputError(f"device must be 'cpu', 'cuda', 'cuda:N' or 'mps'; got {device!r}.")
    if not available[kind]:
        raise InvalidInputError(f"device={device!r} was asked for, but torch sees none here. Pass device='cpu'.")
    return device


def patch_px_of(model: torch.nn.Module, tile_px: int) -> int | None:
    """Return the width of the finest token of one forward pass, None if the model does not tell."""
    patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch_size is not None and hasattr(model, "pos_embed"):
        return int(patch_size[0])
    feature_table = getattr(model, "feature_info", None)
    return int(feature_table[-1]["reduction"]) if isinstance(feature_table, list) and feature_table else None
