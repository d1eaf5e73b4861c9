"""Open napari on a slide with its prospect map: what `prospect view` starts as a process of its own.

``python -m napari_prospector._napari.view slide.svs --head tumour.prospector``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_prospector._napari.request import MAPS

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["main", "view"]


def view(
    slide: str | Path,
    head: str | Path | None = None,
    grid: str | Path | None = None,
    *,
    map: str | None = None,
    target: str | None = None,
    mpp: float | None = None,
    weights: str | Path | None = None,
    viewer: Viewer | None = None,
) -> Viewer:
    """Show a slide; with a head, its map and concepts too, drawn by the panel with progress and cancel.

    Parameters
    ----------
    slide
        The slide's file.
    head
        A ``*.prospector`` file.
    grid
        The slide's token grid, there or to be made; by default where the panel keeps it.
    map, target
        Which map, for which class; by default the head's best map and its own class.
    mpp
        Width of a level-0 pixel in µm, where the slide states none.
    weights
        The encoder's weight file.
    viewer
        Where to show it; by default a new viewer.

    Returns
    -------
    Viewer
        Start its event loop with ``napari.run()``.

    Raises
    ------
    ProspectorError
        The slide cannot be opened.
    """
    import napari
    from napari.layers import Layer

    from napari_prospector._napari.layers import slide_layer
    from napari_prospector._napari.panel import show_panel
    from napari_prospector.tokens.slides import open_slide

    array, arguments, kind = slide_layer(open_slide(slide, mpp=mpp))
    viewer = viewer or napari.Viewer()
    # the panel first: the slide is fitted to the canvas that is left
    panel = None if head is None else show_panel(viewer)
    viewer.add_layer(Layer.create(array, arguments, kind))
    if panel is not None and head is not None:
        panel.ask(Path(head), map=map, target=target, tokens=_path(grid), weights=_path(weights))
    elif grid is not None:
        viewer.open(str(grid), plugin="napari-prospector")
    return viewer


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, show the viewer and stay until it is closed."""
    import sys

    from napari_prospector.errors import ProspectorError

    parser = argparse.ArgumentParser(prog="prospect view", description="Open a slide in napari, with its map.")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--head", type=Path, help="a *.prospector file")
    parser.add_argument("--grid", type=Path, help="the slide's token grid, there or to be made")
    parser.add_argument("--map", choices=MAPS, help="default: the head's own best")
    parser.add_argument("--target", help="the class to look for")
    parser.add_argument("--mpp", type=float, help="width of a level-0 pixel in µm, where the slide states none")
    parser.add_argument("--weights", type=Path, help="the encoder's weight file")
    asked = vars(parser.parse_args(arguments))
    try:
        view(**asked)
    except ProspectorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    import napari

    napari.run()
    return 0


def _path(path: str | Path | None) -> Path | None:
    """Return a path, or None for None."""
    return None if path is None else Path(path)


if __name__ == "__main__":
    raise SystemExit(main())
