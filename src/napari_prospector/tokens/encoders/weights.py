"""Weight files: read as nothing but tensors, loaded strictly, known by their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_prospector.errors import FileFormatError
from napari_prospector.tokens.encoders.layouts import fit_input_size, to_timm_layout

__all__ = ["file_sha256", "load_strictly"]

_TENSOR_ARCHIVES = (".pth", ".pt", ".bin")
# Keys under which training scripts wrap the tensors of a model.
_WRAPPERS = ("state_dict", "model")


def load_strictly(model: torch.nn.Module, path: Path, name: str, layout: str | None = None) -> None:
    """Load the weight file, whose tensors are named as `layout` says; all must be there, none more, in their shapes."""
    tensors = to_timm_layout(_read_tensors(path), model, layout, name)
    fit_input_size(model, tensors)
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


def file_sha256(path: Path | None) -> str | None:
    """Return the hash of a file, read in pieces."""
    if path is None:
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
