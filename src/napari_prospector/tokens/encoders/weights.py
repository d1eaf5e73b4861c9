"""Weight files: found or fetched, read as nothing but tensors, loaded strictly, known by their hash."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError
from napari_prospector.tokens.encoders import hub
from napari_prospector.tokens.encoders.encodercard import EncoderCard, EncoderOptions
from napari_prospector.tokens.encoders.layouts import fit_input_size, to_timm_layout

__all__ = [
    "WeightFiles",
    "file_sha256",
    "fitting_tensors",
    "find_weights",
    "load_strictly",
    "local_weights",
    "source_of",
    "terms_of",
]

_INDEX = ".index.json"
_TENSOR_ARCHIVES = (".pth", ".pt", ".bin")
# Keys under which training scripts wrap the tensors of a model.
_WRAPPERS = ("state_dict", "model")


@dataclass(frozen=True)
class WeightFiles:
    """The weights of one model on this machine.

    Attributes
    ----------
    paths
        One file; or the parts of one that is divided, in the order of their names.
    sha256
        Of the file. Of several: of the text with one line ``HASH  NAME`` a part, as the command ``sha256sum`` prints.
    commit
        Of the hub's repository that they come from; None where that is not known.
    """

    paths: tuple[Path, ...]
    sha256: str
    commit: str | None = None

    @property
    def name(self) -> str:
        """What to call them in a message."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return self.paths[0].name + more


def source_of(card: EncoderCard, revision: str | None = None) -> hub.HubSource | None:
    """Return where on the hub the weights of a card lie, at its pinned revision or another; None: on no hub."""
    if card.hub is None:
        return None
    return hub.HubSource(card.hub, revision or card.revision, card.weight_files or hub.DEFAULT_FILES)


def terms_of(card: EncoderCard) -> str:
    """Say licence and access of the weights of a card."""
    return f"licence {card.licence or 'not stated'}" + (", gated" if card.gated else "")


def find_weights(card: EncoderCard, options: EncoderOptions) -> WeightFiles:
    """Return the weights of an encoder: the file or folder that was passed, else from the hub.

    What comes from the hub is announced before it is downloaded, and compared with the hash that the hub states.

    Raises
    ------
    InvalidInputError
        None were passed, and the card names no repository.
    MissingFileError
        File or folder does not exist or holds no weights; or the hub has none.
    AccessError, NetworkError, StorageError
        As `hub.fetch`.
    FileFormatError
        The hash is not the one that the hub states; or the index of divided weights is damaged.
    """
    if options.weights is not None:
        return local_weights(card, options.weights)
    source = source_of(card, options.revision)
    if source is None:
        raise InvalidInputError(
            f"Encoder {card.name!r} needs its weights; none were given, and nothing is downloaded silently. "
            f"Pass weights=FILE, a local .safetensors file of {card.source}."
        )
    first = hub.fetch(source, card.name, terms_of(card), offline=options.offline)
    files = [first]
    if first.filename.endswith(_INDEX) and first.path is not None:
        folder = first.filename.rpartition("/")[0]
        files = [
            hub.fetch(
                hub.HubSource(source.repo_id, first.commit, (f"{folder}/{part}" if folder else part,)),
                card.name,
                terms_of(card),
                offline=options.offline,
            )
            for part in _parts(first.path)
        ]
    hashes = {file.path: file_sha256(file.path) for file in files if file.path is not None}
    for file in files:
        hub.check_sha256(file, hashes[file.path] if file.path is not None else "")
    return WeightFiles(tuple(hashes), _combined(hashes), first.commit)


def local_weights(card: EncoderCard, place: Path) -> WeightFiles:
    """Return the weights of an encoder in a file, or in a folder: one of files, or as the hub's cache lays it out.

    Raises
    ------
    MissingFileError
        There is no such file or folder, or nothing in it that the card knows.
    FileFormatError
        The file has another hash than its place in the hub's cache says; or an index is damaged.
    """
    if not place.exists():
        raise MissingFileError(f"The weight file {place} of encoder {card.name!r} does not exist.")
    path = _in_folder(card, place) if place.is_dir() else place
    paths = [path]
    if path.name.endswith(_INDEX):
        paths = [path.with_name(part) for part in _parts(path)]
        if missing := [part.name for part in paths if not part.is_file()]:
            raise MissingFileError(f"{path.name} names {', '.join(missing)}; put it beside, into {path.parent}.")
    hashes = {part: file_sha256(part) for part in paths}
    for part, sha256 in hashes.items():
        if (stated := hub.stated_sha256(part)) not in (None, sha256):
            raise FileFormatError(
                f"{part} must have the sha256 {stated}, as its place in the hub's cache says; it has {sha256}. "
                "Copy it again."
            )
    return WeightFiles(tuple(hashes), _combined(hashes), _commit_of(path))


def _in_folder(card: EncoderCard, folder: Path) -> Path:
    """Return the weight file in a folder of files, a snapshot, a model's folder in the hub's cache, or that cache."""
    names = (*(card.weight_files or ()), *hub.DEFAULT_FILES)
    for place in _snapshots(card, folder):
        for name in dict.fromkeys(names):
            if (place / name).is_file():
                return place / name
    alone = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", *_TENSOR_ARCHIVES)]
    if len(alone) == 1:
        return alone[0]
    raise MissingFileError(
        f"The folder {folder} must hold the weights of {card.name!r}: one of {', '.join(dict.fromkeys(names))}, or one "
        f"weight file alone; it holds {', '.join(path.name for path in alone) or 'none'}. Pass the file itself."
    )


def _snapshots(card: EncoderCard, folder: Path) -> list[Path]:
    """List the folders in which weights may lie: the folder itself, and snapshots of the card's repository in it."""
    cache = folder / f"models--{(card.hub or '').replace('/', '--')}" if card.hub else folder
    model = cache if cache.is_dir() else folder
    main = model / "refs" / "main"
    named = [card.revision, main.read_text(encoding="utf-8").strip() if main.is_file() else None]
    snapshots = [model / "snapshots" / commit for commit in named if commit]
    others = sorted((model / "snapshots").iterdir()) if (model / "snapshots").is_dir() else []
    return [folder, *snapshots, *(others if len(others) == 1 else [])]


def _commit_of(path: Path) -> str | None:
    """Return the commit of a file in a snapshot of the hub's cache."""
    found = re.search(r"/snapshots/([0-9a-f]{40})/", path.absolute().as_posix())
    return found[1] if found else None


def _parts(index: Path) -> list[str]:
    """Return the names of the files that an index of divided weights names, in order."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise FileFormatError(
            f"{index.name} is damaged, or no index of weights: {problem!r}. Download it again."
        ) from problem
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise FileFormatError(f"{index.name} must name files beside it; it names {names}. Download it again.")
    return names


def _combined(hashes: dict[Path, str]) -> str:
    """Return the hash of one file, or the combined one of several."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    by_name = sorted((path.name, sha256) for path, sha256 in hashes.items())
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in by_name)
    return hashlib.sha256(text.encode()).hexdigest()


def load_strictly(model: torch.nn.Module, weights: WeightFiles, name: str, layout: str | None = None) -> None:
    """Load weights, whose tensors are named as `layout` says; all must be there, none more, each in its shape."""
    tensors = fitting_tensors(model, weights, name, layout)
    # a model that was built without numbers takes over the tensors of the file, in the precision that it computes in
    unfilled = any(tensor.is_meta for tensor in model.state_dict().values())
    model.load_state_dict(tensors, strict=True, assign=unfilled)
    model.float()


def fitting_tensors(
    model: torch.nn.Module, weights: WeightFiles, name: str, layout: str | None = None
) -> dict[str, torch.Tensor]:
    """Read weights, and make sure that they are those of a model, which may lie on the meta device.

    Raises
    ------
    FileFormatError
        The file is damaged, or a tensor is missing, too many, or of another shape.
    """
    held: dict[str, torch.Tensor] = {}
    for path in weights.paths:
        held |= _read_tensors(path)
    tensors = to_timm_layout(held, model, layout, name)
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
            f"{weights.name} does not fit encoder {name!r}: {'; '.join(problems[:3])}{more}. "
            "Pass the weights of this architecture, or model_args=… of the weights, such as {'num_classes': …}."
        )
    return tensors


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


def file_sha256(path: Path) -> str:
    """Return the hash of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
