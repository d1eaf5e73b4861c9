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
from napari_prospector.tokens.encoders.devices import TorchDevice, checked_device
from napari_prospector.tokens.encoders.heads import check_pooling, n_prefix_of, pooled_features
from napari_prospector.tokens.encoders.memory import BatchSize, in_turns, is_out_of_memory
from napari_prospector.tokens.encoders.patch_maps import patch_map
from napari_prospector.tokens.stopping import check_stop

__all__ = ["TimmEncoder", "checked_device", "patch_px_of"]

Finish = Callable[[torch.Tensor], torch.Tensor]


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
    compiled
        Let torch.compile make kernels for this model, on CUDA only: the first batch takes minutes, the others less
        time than without. Embeddings differ in their last bits from those of the plain model.

    Attributes
    ----------
    lanes
        How many calls of `encode` may and should run at once, in threads.
    fills_cores
        Whether `encode` keeps every core busy, so that tiles are better read between its calls than beside them.
    """

    def __init__(
        self, model: torch.nn.Module, card: EncoderCard, device: str = "cpu", *, compiled: bool = False
    ) -> None:
        self._device = TorchDevice(device)
        self._model = model.eval().requires_grad_(False)
        if card.mean is None or card.std is None:
            raise InvalidInputError(f"mean and std of encoder {card.name!r} are unknown. Pass mean=… and std=….")
        if compiled and self._device.kind != "cuda":
            raise InvalidInputError(f"compiled pays on device='cuda' only; got device={device!r}. Leave it out.")
        check_pooling(card.pooling, model, card.name)
        self._scale = 1.0 / (255.0 * torch.tensor(card.std, device=device).reshape(1, 3, 1, 1))
        self._shift = torch.tensor(card.mean, device=device).reshape(1, 3, 1, 1) * 255.0
        self.card = card
        self.lanes = self._device.lanes
        self.fills_cores = self._device.torch.type == "cpu"
        self._model.to(device=self._device.torch, memory_format=torch.channels_last)
        self._features: Callable[[torch.Tensor], torch.Tensor] = self._model.forward_features
        self._padded = False
        if self._device.kind != "cuda":
            # a batch of a large model takes many seconds here; its layers are where it can be left
            for layer in self._model.modules():
                layer.register_forward_pre_hook(_stop_between_layers)
        self._size = BatchSize(card.name, 1)
        work, n_dims = self._measure()
        self._size.tiles = self._device.batch_size(work, lambda n: self._encoded(self._blank(n), self._pooled))
        if compiled:
            self._features, self._padded = torch.compile(self._features), True
        self.card = dataclasses.replace(
            card, n_dims=n_dims, patch_px=patch_px_of(model, card.tile_px), n_prefix=n_prefix_of(model)
        )

    @property
    def batch_size(self) -> int:
        """How many tiles it takes at once; smaller after memory did not suffice."""
        return self._size.tiles

    @batch_size.setter
    def batch_size(self, n_tiles: int) -> None:
        self._size.tiles = n_tiles

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
        NotEnoughMemoryError
            If not even one tile fits in memory.
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

    def _in_turns(self, tiles: NDArray[np.uint8], finish: Finish) -> NDArray[np.float32]:
        """Run tiles through the model in batches that fit, and `finish` what `forward_features` gave for each."""
        return in_turns(lambda part: self._encoded(part, finish), tiles, self._size)

    def _encoded(self, tiles: NDArray[np.uint8], finish: Finish) -> NDArray[np.float32]:
        """Run one batch through the model; a compiled one sees only batches of one size, or it would compile again."""
        n_tiles = len(tiles)
        if self._padded and n_tiles < self._size.tiles:
            tiles = np.concatenate([tiles, self._blank(self._size.tiles - n_tiles)])
        with self._device.stream():
            return self._device.download(self._forward(tiles, finish)[:n_tiles])

    def _forward(self, tiles: NDArray[np.uint8], finish: Finish) -> torch.Tensor:
        """Return the finished features of one batch, on the device."""
        # Permuting rows-columns-channels gives the channels-last layout that convolutions like, without a copy.
        pixels = self._device.upload(tiles).permute(0, 3, 1, 2).float().sub_(self._shift).mul_(self._scale)
        with torch.inference_mode(), self._device.autocast():
            return finish(self._features(pixels))

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

    def _blank(self, n_tiles: int) -> NDArray[np.uint8]:
        """Return so many white tiles."""
        return np.full((n_tiles, self.card.tile_px, self.card.tile_px, 3), 255, np.uint8)

    def _measure(self) -> tuple[float, int]:
        """Return the work of one tile in floating-point operations, and the length of an embedding."""
        try:
            with FlopCounterMode(display=False) as counter:
                pooled = self._encoded(self._blank(1), self._pooled)
        except (AssertionError, RuntimeError) as problem:
            if is_out_of_memory(problem):
                self._size.halve(1, str(problem))
            raise InvalidInputError(
                f"Encoder {self.card.name!r} cannot take tiles of tile_px={self.card.tile_px}: {problem}"
            ) from problem
        return float(counter.get_total_flops()), int(pooled.shape[1])


def _stop_between_layers(layer: torch.nn.Module, arguments: object) -> None:
    """Leave a batch that nobody wants any more."""
    check_stop()


def patch_px_of(model: torch.nn.Module, tile_px: int) -> int | None:
    """Return the width of the finest token of one forward pass, None if the model does not tell."""
    patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch_size is not None and hasattr(model, "pos_embed"):
        return int(patch_size[0])
    feature_table = getattr(model, "feature_info", None)
    return int(feature_table[-1]["reduction"]) if isinstance(feature_table, list) and feature_table else None
