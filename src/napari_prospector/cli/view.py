"""`prospect view`: start napari, as a process of its own, with image, map and concepts."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from napari_prospector.errors import MissingExtraError, MissingFileError

__all__ = ["view"]


@click.command()
@click.argument("slide", type=click.Path(path_type=Path))
@click.option("--head", type=click.Path(path_type=Path), help="Head whose map and concepts are shown.")
@click.option("--tokens", type=click.Path(path_type=Path), help="Token grid of the slide; made where there is none.")
@click.option("--map", "map_name", type=click.Choice(["evidence", "decision"]), default="evidence", show_default=True)
@click.option("--mpp", type=float, help="µm per pixel of level 0, where the slide does not state it.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weight file, where the head's encoder needs one.")
def view(
    slide: Path, head: Path | None, tokens: Path | None, map_name: str, mpp: float | None, weights: Path | None
) -> int:
    r"""Open SLIDE in napari, with the prospect map and the concepts of a head as layers.

    \b
      prospect view slide.svs --head tumour.prospector
    """
    for path in (slide, head, tokens, weights):
        if path is not None and not path.exists():
            raise MissingFileError(f"There is no {path}.")
    if find_spec("napari") is None:
        raise MissingExtraError("napari is not installed. Install it with: pip install 'napari-prospector[all]'")
    words = [sys.executable, "-m", "napari_prospector._napari.view", str(slide)]
    for name, value in (
        ("--head", head),
        ("--tokens", tokens),
        ("--map", map_name),
        ("--mpp", mpp),
        ("--weights", weights),
    ):
        if value is not None:
            words += [name, str(value)]
    return subprocess.run(words, check=False).returncode
