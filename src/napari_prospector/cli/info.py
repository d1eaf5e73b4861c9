"""`prospect info`: what a file is, from what it was made and with which encoder."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import examples, json_option, told
from napari_prospector.errors import FileFormatError, MissingFileError, StorageError

if TYPE_CHECKING:
    from napari_prospector.tokens.store import TokenGrid

__all__ = ["describe_file", "info"]

Description = tuple[dict[str, Any], list[str]]

_KNOWN = (
    "heads (*.prospector), projects (*.prospect-project), token grids (*.tokens.zarr), cohort tables (*.csv), maps and "
    "their tables, evaluations, reports, and slides (TIFF, SVS, OME-Zarr, DICOM, PNG, JPEG and others)"
)
# the first columns of the tables that are made here
_TOKEN_TABLE = ["row", "col", "row0_px", "col0_px"]
_EVALUATION_TABLE = ["method", "map", "ap"]
_DATA_TABLE = ["name", "label", "n_tokens", "counted"]
_OTHER_TABLES = {
    "row,other": "differences between methods",
    "by,stratum": "average precision by kind of region",
    "datum,label": "probabilities of data",
    "method,lowest": "calibration in bins",
}


@click.command(
    short_help="Say what a file is, and what it was made from.",
    epilog=examples(
        "prospect info tumour.prospector",
        "prospect info tokens/slide.svs.tokens.zarr --json",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def info(file: Path, as_json: bool) -> None:
    """Say what FILE is, from what it was made and with which encoder.

    FILE is anything that prospect reads or writes: a project, a head, a token grid, a cohort table, a map or its
    table, an evaluation, a report, a slide.
    """
    result, lines = describe_file(file)
    told(result, as_json, lines)


def describe_file(file: Path) -> Description:
    """Return what a file is, as JSON and as lines.

    Raises
    ------
    MissingFileError
        If it does not exist.
    FileFormatError
        If it is damaged, or nothing that is known here.
    """
    if not file.exists():
        raise MissingFileError(f"There is no {file}. Pass one of: {_KNOWN}.")
    if file.is_dir():
        return _folder(file)
    by_suffix: dict[str, Callable[[Path], Description]] = {
        ".prospector": _head,
        ".csv": _table,
        ".json": _json,
        ".html": _report,
    }
    suffix = file.suffix.lower()
    if file.name.lower().endswith((".ome.tif", ".ome.tiff")) and (found := _map(file)):
        return found
    return by_suffix.get(suffix, _slide)(file)


def _unknown(file: Path, came: str) -> FileFormatError:
    """Return the error for a file that is nothing of ours."""
    return FileFormatError(f"{file.name} is {came}. prospect info knows {_KNOWN}.")


def _head(file: Path) -> Description:
    """Describe a head file."""
    from napari_prospector.core.head import load_head

    head = load_head(file)
    edits = head.concept_edits_
    result = {
        "kind": "head",
        "parameters": head.get_params(),
        "classes": head.n_data_,
        "target": head.target_,
        "maps": head.maps_,
        "best_map": head.best_map_,
        "n_concepts": head.quantizer_.n_concepts_,
        "radius": head.radius_,
        "kernel": head.kernel_,
        "refined_amount": None if head.refiner_ is None else head.refiner_.amount,
        "selection_sentence": head.selection_.sentence(),
        "selection_criterion": head.selection_.criterion,
        "selection_rows": head.selection_.rows(),
        "color_limits": head.color_limits_,
        "brier": head.brier_,
        "is_calibrated": head.is_calibrated_,
        "concept_names": head.concept_names_,
        "merged_concepts": [group for group in map(edits.members, edits.representatives) if len(group) > 1],
        "hidden_concepts": sorted(edits.hidden),
        "notes": [*head.notes_, *edits.notes()],
        **head.card_,
    }
    lines = head.describe().splitlines()
    if left_out := head.card_.get("without"):
        named = [name if limit is None else f"{name} above {limit:g}" for name, limit in left_out.items()]
        lines.append(f"without tiles that are flagged: {', '.join(named)}")
    return result, lines


def _folder(file: Path) -> Description:
    """Describe a token grid, or a map or a slide that is a folder."""
    from napari_prospector.core.headfile import kind_of_tokens
    from napari_prospector.study.omezarr_maps import is_map_folder
    from napari_prospector.tokens.formats import is_slide_folder
    from napari_prospector.tokens.store import TokenGrid

    if (file / "project.json").exists():
        return _project(file)
    if is_map_folder(file):
        return _map_folder(file)
    if is_slide_folder(file):
        return _slide(file)
    if not (file / "zarr.json").exists():
        raise _unknown(file, "a folder that is no token grid and no slide")
    with TokenGrid.open(file) as grid:
        counts, attributes = grid.counts(), dict(grid.attrs)
        geometry = grid.geometry
        lines = [
            f"Token grid of slide {attributes['slide_name']}: {geometry.rows} × {geometry.cols} tokens, "
            f"{grid.n_dims} dims",
            f"encoder: {grid.card['name']}, tiles of {grid.tiles.tile_px} px at {geometry.tile_mpp:.4g} µm/px",
            f"tokens: {kind_of_tokens(grid.card)}, {geometry.scale_um[0]:.4g} µm apart",
            f"stain: {_stain(attributes)}",
            "state: " + ", ".join(f"{number:,} {state}" for state, number in counts.items()),
            _quality(grid),
            "complete" if grid.is_complete else "not complete: embed the slide again and it goes on",
        ]
        shares = grid.quality.shares(grid.mask) if grid.quality.measures else None
        found = {"counts": counts, "is_complete": grid.is_complete, "flag_shares": shares}
        return {"kind": "token grid", **found, **attributes}, lines


def _project(file: Path) -> Description:
    """Describe a project; whoever has it open may go on."""
    from napari_prospector.study.project_files import read_project

    study, _ = read_project(file)
    labels = Counter(slide.label or "not labelled" for slide in study.slides)
    regions = Counter(region.label or "no class" for group in study.annotations.values() for region in group)
    heads = sorted(path.name for path in (file / "heads").glob("*.prospector"))
    missing = sorted(slide.path.name for slide in study.slides if not slide.path.exists())
    result = {
        "kind": "project",
        "n_slides": len(study.slides),
        "labels": labels,
        "missing": missing,
        "regions": regions,
        "n_annotated": len(study.annotations),
        "encoder": study.encoder.name,
        "head": study.head and study.head.name,
        "heads": heads,
    }
    lines = [
        f"Project of {_counted(len(study.slides), 'slide')}{_told(labels)}",
        f"regions: {sum(regions.values())} on {_counted(len(study.annotations), 'slide')}{_told(regions)}",
        f"encoder: {study.encoder.name}",
        f"head in use: {study.head.name if study.head else 'none'}; fitted here: {', '.join(heads) or 'none'}",
    ]
    if missing:
        named = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        lines.append(f"not found: {named}")
    return result, lines


def _counted(number: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _told(counts: Counter[str]) -> str:
    """Return how many there are of each; nothing for nothing."""
    return ": " + ", ".join(f"{number:,} {name}" for name, number in counts.items()) if counts else ""


def _quality(grid: TokenGrid) -> str:
    """Say which share of the tiles is flagged."""
    from napari_prospector.cli.quality import shares_text

    if not grid.quality.measures:
        return "quality: not measured"
    return shares_text(grid.quality.shares(grid.mask), grid.quality.thresholds)


def _stain(attributes: Mapping[str, Any]) -> str:
    """Say how a slide was scanned and stained; token grids of before it was looked at say nothing."""
    stain = attributes.get("stain") or {}
    strengths = stain.get("strengths")
    parts = [
        "hematoxylin {:.2f}, eosin {:.2f}".format(*strengths) if strengths else stain.get("problem") or "unknown",
        f"scanner {attributes.get('scanner') or 'not stated'}",
        f"normalized: {attributes['encoder'].get('stain_normalize') or 'no'}",
    ]
    return "; ".join(parts)


def _table(file: Path) -> Description:
    """Describe a table: one that is made here by its columns, any other as a cohort."""
    header, n_rows = _header(file)
    if header[:4] == _TOKEN_TABLE:
        columns = header[7:]
        line = f"Table of {n_rows:,} tokens with their place on the slide and: {', '.join(columns)}"
        return {"kind": "token table", "n_tokens": n_rows, "columns": columns}, [line]
    if header[:3] == _EVALUATION_TABLE:
        return {"kind": "evaluation table", "n_rows": n_rows}, [f"Evaluation: {n_rows} rows, one per method and map"]
    if header[:4] == _DATA_TABLE:
        return {"kind": "evaluation of data", "n_data": n_rows}, [f"Evaluation: {n_rows} data, one per row"]
    if (what := _OTHER_TABLES.get(",".join(header[:2]))) is not None:
        return {"kind": f"evaluation, {what}", "n_rows": n_rows}, [f"Evaluation: {what}, {n_rows} rows"]
    return _cohort(file)


def _header(file: Path) -> tuple[list[str], int]:
    """Return the first row of a table and how many follow; nothing for what is no text, which `Cohort` refuses."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            return next(rows, []), sum(1 for _ in rows)
    except (UnicodeDecodeError, csv.Error):
        return [], 0
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error


def _cohort(file: Path) -> Description:
    """Describe a cohort table."""
    from napari_prospector.study.cohort import Cohort

    cohort = Cohort.read(file)
    classes = {name: cohort.labels.count(name) for name in cohort.classes}
    splits = {name: sum(row.split == name for row in cohort) for name in ("train", "test")}
    n_groups = None if cohort.groups is None else len(set(cohort.groups))
    n_truths = sum(row.truth is not None for row in cohort)
    lines = [
        f"Cohort of {len(cohort)} data: " + ", ".join(f"{number} {name}" for name, number in classes.items()),
        f"groups: {'none' if n_groups is None else n_groups}; with truth: {n_truths}"
        + (f"; {splits['train']} train, {splits['test']} test" if any(splits.values()) else "; not split"),
    ]
    result = {"kind": "cohort", "n_data": len(cohort), "classes": classes, "n_groups": n_groups, "splits": splits}
    return {**result, "n_truths": n_truths}, lines


def _json(file: Path) -> Description:
    """Describe the record of an evaluation."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unknown(file, "no JSON, or cut short") from error
    if not isinstance(record, dict) or not {"target", "basis", "rows"} <= record.keys():
        raise _unknown(file, "JSON, but no evaluation")
    lines = [f"Evaluation: finding {record['target']}", record["basis"]]
    lines += [f"{_method(row)}: AP {row['ap']:.3f}" for row in record["rows"] if row.get("ap") is not None]
    return {"kind": "evaluation", **record}, lines


def _method(row: dict[str, Any]) -> str:
    """Name a row of an evaluation."""
    return f"{row['method']}, {row['map']}" if row.get("map") else str(row["method"])


def _report(file: Path) -> Description:
    """Describe a report by its title."""
    page = file.read_text(encoding="utf-8", errors="replace")
    _, begin, rest = page.partition("<title>")
    if not begin or "napari-prospector" not in page:
        raise _unknown(file, "a page, but no report of napari-prospector")
    title = rest.partition("</title>")[0].strip()
    return {"kind": "report", "title": title}, [f"Report: {title}"]


def _map(file: Path) -> Description | None:
    """Describe a map that was written here; None for any other OME-TIFF, which may be a slide."""
    from napari_prospector.study.map_owner import map_words

    said = map_words(file)
    if said is None:
        return None
    shape = said["shape"]
    lines = [
        f"Map of slide {said.get('slide', '?')}: {said['shows']}",
        f"{shape[0]} × {shape[1]} tokens of {said['token_um']:g} µm; encoder: {said.get('encoder', '?')}",
    ]
    return {"kind": "map", **said}, lines


def _map_folder(file: Path) -> Description:
    """Describe a map in an OME-Zarr folder."""
    from dataclasses import asdict

    from napari_prospector.study.map_file import MICROMETER
    from napari_prospector.study.omezarr_maps import read_omezarr

    found = read_omezarr(file)
    scores, concepts, origin = found.scores, found.concepts, found.origin
    shows = [] if scores is None else [f"{scores.map} for {origin.target or '?'}"]
    shows += [] if concepts is None else [f"{len(concepts.names)} concepts"]
    shape, place = found.grid
    result = {
        **asdict(origin),
        "map": None if scores is None else scores.map,
        "limit": None if scores is None else scores.limit,
        "concept_names": None if concepts is None else list(concepts.names),
        "shape": list(shape),
        **asdict(place),
    }
    unit = "µm" if place.units[0] == MICROMETER else place.units[0] or "pixels"
    lines = [
        f"Map of slide {origin.slide or '?'}: {', '.join(shows)}",
        f"{shape[0]} × {shape[1]} tokens of {place.scale[0]:g} {unit};"
        f" encoder: {origin.encoder or '?'}; head: {origin.head or '?'}",
    ]
    return {"kind": "map", **result}, lines


def _slide(file: Path) -> Description:
    """Describe a slide."""
    from napari_prospector.tokens.formats import SLIDE_SUFFIXES
    from napari_prospector.tokens.slides import open_slide

    try:
        opened = open_slide(file)
    except FileFormatError as error:
        # what does not end so, and cannot be read, is no damaged slide
        if file.suffix.lower() in SLIDE_SUFFIXES or file.is_dir():
            raise
        raise _unknown(file, "nothing that is known here") from error
    with opened as slide:
        levels = [{"shape": list(level.shape), "downsample": level.downsample} for level in slide.levels]
        result = {
            "kind": "slide",
            "format": slide.format,
            "shape": list(slide.shape),
            "mpp": slide.mpp,
            "mpp_problem": slide.mpp_problem,
            "levels": levels,
        }
        size = f"{slide.shape[0]:,} × {slide.shape[1]:,} px, {len(levels)} level{'s' * (len(levels) > 1)}"
        lines = [f"Slide {slide.name}: {slide.format}, {size}"]
        problem = f"No usable pixel size: {slide.mpp_problem} Pass --mpp, or fill the column mpp of the cohort."
        lines.append(f"{slide.mpp:.4g} µm per pixel" if slide.mpp else problem)
        return result, lines
