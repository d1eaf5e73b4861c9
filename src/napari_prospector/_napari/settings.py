"""What a user sets once and for all: in napari's preferences from 0.9 on, else in a small file of our own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = [
    "BESIDE",
    "CATEGORIES",
    "IN_CACHE",
    "IN_FOLDER",
    "PLACES",
    "Settings",
    "keep_settings",
    "napari_settings",
    "settings",
]

PLUGIN = "napari-prospector"
BESIDE, IN_FOLDER, IN_CACHE = "beside the slide", "in the folder below", "in the cache"
PLACES = (BESIDE, IN_FOLDER, IN_CACHE)

CATEGORIES = {
    "encoder": "embedding",
    "tokens": "embedding",
    "tokens_folder": "embedding",
    "offline": "embedding",
    "opacity": "maps",
    "tolerance_um": "maps",
    "graph_memory_gib": "fitting",
}
"""Which page of the manifest's `configurations` each setting is on."""


@dataclass(frozen=True)
class Settings:
    """All settings, with what they are until somebody changes them.

    Attributes
    ----------
    encoder
        Name of the encoder that new work begins with.
    tokens
        Where token grids are written: one of `PLACES`.
    tokens_folder
        The folder for `IN_FOLDER`; empty is the cache.
    offline
        Never ask a hub for weights.
    opacity
        Of maps, in percent.
    tolerance_um
        How far exported contours may be from the borders of tokens, in µm, unless Export says otherwise.
    graph_memory_gib
        Most memory for tokens that Fit keeps, in GiB; beyond it they are read again when they are needed.
    """

    encoder: str = "stain-texture"
    tokens: str = BESIDE
    tokens_folder: str = ""
    offline: bool = False
    opacity: int = 65
    tolerance_um: float = 0.0
    graph_memory_gib: float = 1.0


def settings() -> Settings:
    """Return the settings as they are now; from any thread."""
    theirs = napari_settings()
    if theirs is None:
        return _sound(_in_file())
    return _sound({name: getattr(getattr(theirs, page), name) for name, page in CATEGORIES.items()})


def keep_settings(changed: Settings) -> None:
    """Change the settings for good.

    Raises
    ------
    StorageError
        If they cannot be written.
    """
    from napari_prospector.tokens.durable import write_whole

    theirs = napari_settings()
    if theirs is None:
        write_whole(_file(), json.dumps(asdict(changed), indent=1).encode())
        return
    for name, page in CATEGORIES.items():
        setattr(getattr(theirs, page), name, getattr(changed, name))


def napari_settings() -> Any | None:
    """Return what napari's preferences hold for this plugin; None below napari 0.9, which has none for plugins."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return get_plugin_settings(PLUGIN)
    except KeyError:
        return None  # used without being installed as a plugin


def _file() -> Path:
    """Return where settings are kept below napari 0.9."""
    from napari_prospector._napari import keeper

    return keeper.user_folder() / "settings.json"


def _in_file() -> Mapping[str, Any]:
    """Return what the file says; nothing where there is none."""
    file = _file()
    try:
        return _read(file, file.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}


@lru_cache(maxsize=2)
def _read(file: Path, _changed_at: int) -> Mapping[str, Any]:
    """Return what a file says; a damaged one says nothing, for it holds a convenience and no work."""
    try:
        said = json.loads(file.read_bytes())
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _sound(said: Mapping[str, Any]) -> Settings:
    """Return settings; what somebody wrote into the file that cannot be is as it was at first."""
    first = Settings()
    types = {field.name: type(getattr(first, field.name)) for field in fields(first)}
    of_type = {name: said[name] for name, kind in types.items() if name in said and _is(said[name], kind)}
    chosen = replace(first, **of_type)
    return replace(
        chosen,
        tokens=chosen.tokens if chosen.tokens in PLACES else first.tokens,
        encoder=chosen.encoder.strip() or first.encoder,
        opacity=min(100, max(0, chosen.opacity)),
        tolerance_um=min(1000.0, max(0.0, chosen.tolerance_um)),
        graph_memory_gib=max(0.0, chosen.graph_memory_gib),
    )


def _is(value: object, kind: type) -> bool:
    """Say whether a value is of a type; a whole number is a number, and True is none."""
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind
