"""The projects that were opened lately, as a small file in the user's own folder."""

from __future__ import annotations

import json
from pathlib import Path

from napari_prospector._napari import keeper
from napari_prospector.tokens.durable import write_whole

__all__ = ["note_recent", "recent_projects"]

MOST_LISTED = 8


def recent_projects() -> list[Path]:
    """Return the folders of projects opened lately that are still there, newest first."""
    return [folder for folder in _listed() if (folder / "project.json").exists()]


def note_recent(folder: Path) -> None:
    """Put a project first."""
    listed = [folder, *(other for other in _listed() if other != folder)][:MOST_LISTED]
    write_whole(_file(), json.dumps([str(path) for path in listed]).encode())


def _file() -> Path:
    """Return where the list is kept."""
    return keeper.user_folder() / "recent.json"


def _listed() -> list[Path]:
    """Return what the file says; a damaged one says nothing, for it holds a convenience and no work."""
    try:
        listed = json.loads(_file().read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    return [Path(path) for path in listed if isinstance(path, str)] if isinstance(listed, list) else []
