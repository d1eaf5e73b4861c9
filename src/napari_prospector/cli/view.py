"""`prospect view`: start napari, as a process of its own, with image, map and concepts."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from napari_prospector.cli.console import examples, map_option, mpp_option, weights_option
from napari_prospector.errors import MissingExtraError, MissingFileError, ProspectorError

__all__ = ["view"]

# on Linux, what tells Qt where to draw; without any of them it aborts
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


@click.command(
    short_help="Open a slide in napari, with map and concepts.",
    epilog=examples(
        "prospect view slide.svs",
        "prospect view slide.svs --head tumour.prospector",
    ),
)
@click.argument("slide", type=click.Path(path_type=Path))
@click.option("--head", type=click.Path(path_type=Path), help="Head whose map and concepts are shown.")
@click.option(
    "--grid", type=click.Path(path_type=Path), help="Token grid of the slide; with a head, made where there is none."
)
@map_option
@click.option("--target", metavar="LABEL", help="The class to look for; default: the head's own.")
@mpp_option
@weights_option
def view(
    slide: Path,
    head: Path | None,
    grid: Path | None,
    map_name: str | None,
    target: str | None,
    mpp: float | None,
    weights: str | None,
) -> int:
    """Open SLIDE in napari, with the prospect map and the concepts of a head as layers."""
    for path in (slide, head, weights, None if head else grid):
        if path is not None and not Path(path).exists():
            raise MissingFileError(f"There is no {path}. Check the path.")
    if find_spec("napari") is None:
        raise MissingExtraError("napari is not installed. Install it with: pip install 'napari-prospector[all]'")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in _SCREENS):
        raise ProspectorError(
            "prospect view opens a window and needs a display; neither DISPLAY nor WAYLAND_DISPLAY names one. Run it "
            "on a desktop, or through ssh -X; prospect map draws pictures without a display."
        )
    words = [sys.executable, "-m", "napari_prospector._napari.view", str(slide)]
    for name, value in (
        ("--head", head),
        ("--grid", grid),
        ("--map", map_name),
        ("--target", target),
        ("--mpp", mpp),
        ("--weights", weights),
    ):
        if value is not None:
            words += [name, str(value)]
    return subprocess.run(words, check=False).returncode
