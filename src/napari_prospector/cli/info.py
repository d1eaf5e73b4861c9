"""`prospect info`: what a file is, from what it was made and with which encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_prospector.cli.console import json_option, told
from napari_prospector.errors import MissingFileError

__all__ = ["describe_file", "info"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def info(file: Path, as_json: bool) -> None:
    """Say what FILE is: a head, a token grid, a cohort table, a map, or a slide."""
    result, lines = describe_file(file)
    told(result, as_json, lines)


def describe_file(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what a file is, as JSON and as lines.

    Raises
    ------
    MissingFileError
        If it does not exist.
    ProspectorError
        If it is damaged, or nothing that is known here.
    """
    if not file.exists():
        raise MissingFileError(f"There is no {file}. Pass a head, a token grid, a cohort table or a slide.")
    if file.suffix == ".prospector":
        return _head(file)
    if file.is_dir():
        return _tokens(file)
    if file.suffix.lower() == ".csv":
        return _cohort(file)
    return _slide(file)


def _head(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe a head file."""
    from napari_prospector.core.head import load_head

    head = load_head(file)
    result = {
        "kind": "head",
        "parameters": head.get_params(),
        "classes": head.classes_.tolist(),
        "target": head.target_,
        "n_data": head.n_data_,
        "color_limits": head.color_limits_,
        "brier": head.brier_,
        "is_calibrated": head.is_calibrated_,
        "concept_names": head.concept_names_,
        "notes": list(head.notes_),
        **head.card_,
    }
    return result, head.describe().splitlines()


def _tokens(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe a token grid."""
    from napari_prospector.tokens.store import TokenGrid

    with TokenGrid.open(file) as grid:
        counts, attributes = grid.counts(), dict(grid.attrs)
        geometry = grid.geometry
        lines = [
            f"Token grid of slide {attributes['slide_name']}: {geometry.rows} × {geometry.cols} tiles, "
            f"{grid.n_dims} dims",
            f"encoder: {grid.card['name']}, tiles of {geometry.tile_px} px at {geometry.tile_mpp:.4g} µm/px",
            "tokens: " + ", ".join(f"{number:,} {state}" for state, number in counts.items()),
            "complete" if grid.is_complete else "not complete: embed the slide again and it goes on",
        ]
        return {"kind": "token grid", "counts": counts, "is_complete": grid.is_complete, **attributes}, lines


def _cohort(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe a cohort table."""
    from napari_prospector.study.cohort import Cohort

    cohort = Cohort.read(file)
    classes = {name: cohort.labels.count(name) for name in cohort.classes}
    n_groups = None if cohort.groups is None else len(set(cohort.groups))
    lines = [
        f"Cohort of {len(cohort)} data: " + ", ".join(f"{number} {name}" for name, number in classes.items()),
        f"groups: {'none' if n_groups is None else n_groups}; "
        f"with truth: {sum(row.truth is not None for row in cohort)}",
    ]
    return {"kind": "cohort", "n_data": len(cohort), "classes": classes, "n_groups": n_groups}, lines


def _slide(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe a slide."""
    from napari_prospector.tokens.slides import open_slide

    with open_slide(file) as slide:
        levels = [{"shape": list(level.shape), "downsample": level.downsample} for level in slide.levels]
        result = {
            "kind": "slide",
            "format": slide.format,
            "shape": list(slide.shape),
            "mpp": slide.mpp,
            "mpp_problem": slide.mpp_problem,
            "levels": levels,
        }
        size = f"{slide.shape[0]:,} × {slide.shape[1]:,} px"
        pixel = f"{slide.mpp:.4g} µm/px" if slide.mpp else f"no usable pixel size ({slide.mpp_problem})"
        return result, [f"Slide {slide.name}: {slide.format}, {size}, {len(levels)} levels, {pixel}"]
