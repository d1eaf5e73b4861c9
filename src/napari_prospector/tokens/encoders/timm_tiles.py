"""Any timm model as an encoder of tiles, with weights from a local file.

This module is imported only when a timm model is asked for; torch and timm come with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError
from napari_prospector.tokens.encoders.cards import EncoderCard, EncoderOptions

__all__ = ["TimmEncoder", "card_of_model", "load_timm_encoder", "model_names"]

_SOURCE_PREFIX = "timm:"
_TENSOR_ARCHIVES = (".pth", ".pt", ".bin")
# Arguments of timm.create_model that would reach for the network or unpickle a file.
_REFUSED_ARGS = ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
# Keys under which training scripts wrap the tensors of a model.
_WRAPPERS = ("state_dict", "model")
# Work of one batch, floating-point operations: about a second on two CPU cores, so that cancelling
# is prompt. It is fixed, not timed, because an embedding may depend on the batch in its last bit.
_BATCH_WORK = {"cpu": 6.4e10, "mps": 6.4e11, "cuda": 4.0e12}
_LARGEST_BATCH = {"cpu": 16, "mps": 64, "cuda": 256}


def model_names() -> list[str]:
    """Return the names of all timm architectures."""
    return list(timm.list_models())


def card_of_model(name: str) -> EncoderCard | None:
    """Return a card with what timm's registry says of a model; None if it has no such model."""
    if not name or not timm.is_model(name):
        return None
    entry = timm.get_pretrained_cfg(name)
    if entry is None:
        return EncoderCard(name=name, loader="timm", source=_SOURCE_PREFIX + name, tile_px=224, mpp=0.5)
    return EncoderCard(
        name=name,
        loader="timm",
        source=_SOURCE_PREFIX + name,
        tile_px=int(entry.input_size[-1]),
        mpp=0.5,
        mean=tuple(entry.mean),
        std=tuple(entry.std),
        licence=entry.license,
    )


def load_timm_encoder(card: EncoderCard, options: EncoderOptions) -> TimmEncoder:
    """Build the architecture, load the weight file strictly, and measure what the card leaves open.

    Raises
    ------
    InvalidInputError
        If there is no weight file, or an option cannot be.
    MissingFileError
        If the weight file does not exist.
    FileFormatError
        If the weight file is damaged or its tensors are not those of the model.
    """
    if options.weights is None:
        raise InvalidInputError(
            f"Encoder {card.name!r} needs its weights; none were given, and nothing is downloaded silently. "
            f"Pass weights=FILE, a local .safetensors file of {card.source}."
        )
    if not options.weights.is_file():
        raise MissingFileError(f"The weight file {options.weights} of encoder {card.name!r} does not exist.")
    device = _checked_device(options.device)
    model_args = {**card.model_args, **(options.model_args or {})}
    model = _build(card, model_args)
    _load_strictly(model, options.weights, card.name)
    tile_px = options.tile_px or card.tile_px
    _set_input_size(model, tile_px, card.name)
    return TimmEncoder(model, _card_as_loaded(card, options, model_args, tile_px), device)


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
        self._scale = 1.0 / (255.0 * torch.tensor(card.std, device=device).reshape(1, 3, 1, 1))
        self._shift = torch.tensor(card.mean, device=device).reshape(1, 3, 1, 1) * 255.0
        self.card = card
        self._model.to(device=self._device, memory_format=torch.channels_last)
        work, n_dims = self._measure()
        kind = self._device.type
        self.batch_size = int(np.clip(_BATCH_WORK[kind] // max(work, 1), 1, _LARGEST_BATCH[kind]))
        self.card = dataclasses.replace(card, n_dims=n_dims, patch_px=_patch_px(model, card.tile_px))

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
        tile_px = self.card.tile_px
        if tiles.ndim != 4 or tiles.shape[1:] != (tile_px, tile_px, 3) or tiles.dtype != np.uint8:
            raise InvalidInputError(
                f"tiles must be uint8 of shape (n, {tile_px}, {tile_px}, 3); got {tiles.dtype} {tiles.shape}."
            )
        if len(tiles) == 0:
            return np.empty((0, self.card.n_dims or 0), np.float32)
        batches = [tiles[start : start + self.batch_size] for start in range(0, len(tiles), self.batch_size)]
        return np.concatenate([self._forward(batch).float().cpu().numpy() for batch in batches])

    def _forward(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        """Return the pooled features of one batch, shape (n, n_dims), on the device."""
        on_device = torch.from_numpy(np.require(tiles, requirements=["C", "W"])).to(self._device)
        # Permuting rows-columns-channels gives the channels-last layout that convolutions like, without a copy.
        pixels = (on_device.permute(0, 3, 1, 2).float() - self._shift) * self._scale
        on_cuda = self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=on_cuda):
            pooled = self._model.forward_head(self._model.forward_features(pixels), pre_logits=True)
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
                pooled = self._forward(blank)
        except (AssertionError, RuntimeError) as problem:
            raise InvalidInputError(
                f"Encoder {self.card.name!r} cannot take tiles of tile_px={tile_px}: {problem}"
            ) from problem
        return float(counter.get_total_flops()), int(pooled.shape[1])


def _checked_device(device: str | None) -> str:
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


def _build(card: EncoderCard, model_args: Mapping[str, Any]) -> torch.nn.Module:
    """Build the architecture with random weights."""
    if refused := sorted(set(model_args) & set(_REFUSED_ARGS)):
        raise InvalidInputError(
            f"model_args must describe the architecture only; got {refused}. Pass weights=FILE instead."
        )
    try:
        return timm.create_model(card.source.removeprefix(_SOURCE_PREFIX), pretrained=False, **model_args)
    except (TypeError, ValueError) as problem:
        raise InvalidInputError(
            f"Encoder {card.name!r} cannot be built with model_args={dict(model_args)}: {problem}"
        ) from problem


def _set_input_size(model: torch.nn.Module, tile_px: int, name: str) -> None:
    """Make a model of fixed input size take tiles of `tile_px`, resampling its position embedding."""
    own_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if own_size in (None, (tile_px, tile_px)):
        return
    if not hasattr(model, "set_input_size"):
        raise InvalidInputError(f"Encoder {name!r} takes tiles of {own_size} px only; got tile_px={tile_px}.")
    try:
        model.set_input_size(img_size=(tile_px, tile_px))
    except (AssertionError, ValueError) as problem:
        raise InvalidInputError(f"Encoder {name!r} cannot take tiles of tile_px={tile_px}: {problem}") from problem


def _card_as_loaded(
    card: EncoderCard, options: EncoderOptions, model_args: Mapping[str, Any], tile_px: int
) -> EncoderCard:
    """Return the card of what was really loaded."""
    # Another head or normalization means other weights than the published ones: claim nothing about those.
    foreign = bool(options.model_args or options.mean or options.std)
    return dataclasses.replace(
        card,
        tile_px=tile_px,
        mpp=options.mpp or card.mpp,
        mean=options.mean or card.mean,
        std=options.std or card.std,
        licence=None if foreign else card.licence,
        gated=None if foreign else card.gated,
        citation=None if foreign else card.citation,
        weights_sha256=_sha256(options.weights),
        model_args=dict(model_args),
    )


def _patch_px(model: torch.nn.Module, tile_px: int) -> int | None:
    """Return the width of the finest token of one forward pass, None if the model does not tell."""
    patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch_size is not None and hasattr(model, "pos_embed"):
        return int(patch_size[0])
    feature_table = getattr(model, "feature_info", None)
    return int(feature_table[-1]["reduction"]) if isinstance(feature_table, list) and feature_table else None


def _load_strictly(model: torch.nn.Module, path: Path, name: str) -> None:
    """Load the weight file; every tensor must be there, none more, each in its shape."""
    tensors = _read_tensors(path)
    wanted = model.state_dict()
    problems = [
        *(f"{key} is missing" for key in wanted if key not in tensors),
        *(
            f"{key} must have shape {tuple(wanted[key].shape)}, the file holds {tuple(tensors[key].shape)}"
            for key in wanted
            if key in tensors and wanted[key].shape != tensors[key].shape
        ),
        *(f"{key} is not in the model" for key in tensors if key not in wanted),
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise FileFormatError(
            f"{path.name} does not fit encoder {name!r}: {'; '.join(problems[:3])}{more}. "
            "Pass the weights of this architecture, or model_args=… of the weights, such as {'num_classes': …}."
        )
    model.load_state_dict(tensors, strict=True)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a weight file, and nothing but tensors."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as problem:
            raise FileFormatError(f"{path.name} is damaged or no safetensors file: {problem}") from problem
    if path.suffix not in _TENSOR_ARCHIVES:
        raise FileFormatError(f"A weight file must be .safetensors, {', '.join(_TENSOR_ARCHIVES)}; got {path.name}.")
    unpickling_error: type[Exception] = vars(torch.serialization)["pickle"].UnpicklingError
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (unpickling_error, RuntimeError, EOFError, ValueError) as problem:
        raise FileFormatError(
            f"{path.name} is damaged, or holds more than tensors and is not opened for safety: {problem}. "
            "Convert it to .safetensors."
        ) from problem
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise FileFormatError(f"{path.name} must hold named tensors; got a {type(loaded).__name__} of other things.")
    return dict(loaded)


def _sha256(path: Path | None) -> str | None:
    """Return the hash of a file, read in pieces."""
    if path is None:
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
