"""Make the pictures of the user guide: the whole story of the plugin in a real viewer, a picture at each step.

    python tools/pictures.py [FOLDER]

Without FOLDER they go to docs/images. A screen is needed, or Xvfb: `make pictures` brings one. Work is done in a
folder of its own, so that nothing of the user's is shown or touched.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SIZE = (1280, 800)


def main(arguments: list[str]) -> int:
    """Tell the story and write a picture of each step."""
    images = Path(arguments[0]) if arguments else REPOSITORY / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        use_scratch(Path(scratch))
        tell(images, Path(scratch))
    return 0


def use_scratch(scratch: Path) -> None:
    """Keep all files that programs keep for a user in a folder of our own."""
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA", "APPDATA"):
        os.environ[variable] = str(scratch)


def tell(images: Path, scratch: Path) -> None:
    """Tell the story in a viewer of its own."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "napari_plugin"))
    import napari
    from qtpy.QtWidgets import QApplication
    from story import tell_all  # type: ignore[import-not-found]

    viewers = []

    def new_viewer() -> napari.Viewer:
        viewers.append(napari.Viewer())
        viewers[-1].window.resize(*SIZE)
        return viewers[-1]

    def turn(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def wait_until(holds: Callable[[], bool], within_ms: int) -> None:
        end = time.monotonic() + within_ms / 1000
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"It took longer than {within_ms} ms.")
            turn(0.02)

    def shot(name: str) -> None:
        turn(1.0)  # for what fades in and what is drawn late
        viewers[-1].window._qt_window.grab().save(str(images / f"{name}.png"))
        print(f"{name}.png")

    tell_all(new_viewer, wait_until, shot, scratch)
    viewers[-1].close()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
