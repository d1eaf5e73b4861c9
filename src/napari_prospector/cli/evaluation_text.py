"""An evaluation at the terminal: tables of a hundred columns, and what belongs to them in sentences."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_prospector.cli.console import print_table

if TYPE_CHECKING:
    from napari_prospector.core.metrics import Interval
    from napari_prospector.study.evaluation import Evaluation, EvaluationRow

__all__ = ["show_evaluation"]

_METHODS = ("method, map", "AP [low, high]", "AUROC", "AUPRC", "Dice", "pooled\nAP", "constant\nmaps")
_LABELS = (
    "method",
    "AUROC [low, high]",
    "Brier",
    "log-loss",
    "calib.\nerror",
    "if\nperfect",
    "para-\nmeters",
    "fit\ns",
    "maps\ns",
)

_MEANING = {"prevalence": "its share of the tokens", "dispersion": "number of its pieces over their mean size"}


def show_evaluation(found: Evaluation, files: list[Path], as_json: bool) -> None:
    """Print the tables of an evaluation, or one JSON object."""
    if as_json:
        text = next(path for path in files if path.name == "evaluation.json").read_text(encoding="utf-8")
        click.echo(json.dumps({**json.loads(text), "files": [str(path) for path in files]}))
        return
    print_table(_METHODS, [_method_cells(row) for row in found.rows], title=f"Finding {found.target}")
    click.echo("* what the head draws unless told otherwise; constant maps say nothing about where.")
    for by, meaning in _MEANING.items():
        strata = [stratum for stratum in found.strata if stratum.by == by and stratum.n_strata > 1]
        columns = ("method, map", *(f"{s.name}\n{s.span}\nn = {s.n_data}" for s in strata))
        if strata:
            cells = [[_named(row), *(_bounded(stratum.ap[row.key]) for stratum in strata)] for row in found.rows]
            print_table(columns, cells, title=f"AP by {by} of the region ({meaning})")
    what = "slides" if found.probabilities.datum == "slide" else "patients"
    title = f"Labels of {len(found.probabilities.names)} {what}; size and time of methods"
    print_table(_LABELS, _label_rows(found), title=title)
    if not all(math.isnan(row.fit_seconds) for row in found.rows):
        click.echo("fit s: methods that explain one model share its fit, which counts for the first of them.")
    for sentence in (found.basis, *found.notes):
        click.echo(sentence)
    for path in files:
        click.echo(f"  {path}")


def _named(row: EvaluationRow) -> str:
    """Name a row: heads have several maps, other methods one."""
    return f"{row.key} *" if row.is_best else row.key


def _method_cells(row: EvaluationRow) -> list[str]:
    """Return the cells of one row: what fits a terminal; the rest is in the files."""
    mean, place = row.localization.mean, row.localization
    numbers = (mean["auroc"].value, mean["auprc"].value, mean["dice@0.5"].value, place.pooled["ap"].value)
    share = "" if math.isnan(place.share_constant) else f"{place.share_constant:.0%}"
    return [_named(row), _bounded(mean["ap"]), *map(_number, numbers), share]


def _label_rows(found: Evaluation) -> list[list[str]]:
    """Return the cells of every method, once for all maps of a head; the maps' seconds are those of all of them."""
    seconds: dict[str, float] = {}
    for row in found.rows:
        seconds[row.method] = seconds.get(row.method, 0.0) + row.map_seconds
    first = {row.method: row for row in reversed(found.rows)}
    rows = [first[name] for name in seconds if first[name].map or first[name].reliability]
    return [_label_cells(row, seconds[row.method]) for row in rows]


def _label_cells(row: EvaluationRow, map_seconds: float) -> list[str]:
    """Return the cells of one method."""
    cells = [row.method, "", "", "", "", ""]
    if row.reliability is not None:
        cells[1] = _bounded(row.reliability.auroc)
        cells[2] = _number(row.reliability.brier.value)
        cells[3] = _number(row.reliability.log_loss.value)
        cells[4] = _number(row.reliability.calibration_error)
        cells[5] = _number(row.reliability.perfect_calibration_error)
    size = "" if row.n_parameters is None else f"{row.n_parameters:,}"
    return [*cells, size, _number(row.fit_seconds, 2), _number(map_seconds, 2)]


def _bounded(interval: Interval) -> str:
    """Write a value with its interval, where it has one."""
    bounds = "" if math.isnan(interval.low) else f" [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{_number(interval.value)}{bounds}"


def _number(value: float, digits: int = 3) -> str:
    """Write a number; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"
