"""An evaluation as one picture: average precision of all rows, by prevalence and dispersion, and calibration."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector.core.metrics import REFERENCE_ROWS, Interval
from napari_prospector.errors import MissingExtraError
from napari_prospector.study.strata import STRATA_OF, Stratum
from napari_prospector.tokens.pyramid import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from napari_prospector.study.evaluation import Evaluation, EvaluationRow

__all__ = ["draw_evaluation"]

_DPI = 150
_WIDTH_INCHES = 11.0
_ROW_INCHES = 0.25
_LOWER_INCHES = 3.6
_MOST_LINES = 6  # in the lower panels; the upper one shows all rows
_LONGEST_NAME = 60
_INK, _SOFT, _GRID = "#333333", "#77828c", "#e3e7ea"
# of Okabe and Ito (2008), told apart by colour-blind readers too; the best map of the head comes first
_COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_TEXT: dict[str, Any] = {"color": _INK, "parse_math": False}  # names may hold a $, which would start a formula


def draw_evaluation(path: str | os.PathLike[str], found: Evaluation) -> Path:
    """Write the picture of an evaluation.

    Parameters
    ----------
    path
        PNG to write; it appears whole or not at all.
    found
        The evaluation. The lower panels show the maps of its heads and the strongest of its other methods.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    StorageError
        The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Pictures need matplotlib. Install it: pip install matplotlib") from error

    upper = _ROW_INCHES * len(found.rows) + 0.9
    figure = Figure(figsize=(_WIDTH_INCHES, upper + _LOWER_INCHES), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    frames: Any = figure.subfigures(2, 1, height_ratios=[upper, _LOWER_INCHES])
    above, below = frames
    colors = _colors(found)
    _draw_rows(above.subplots(), found, colors)
    panels = below.subplots(1, 3)
    for axes, by in zip(panels, STRATA_OF, strict=False):
        _draw_strata(axes, found, by, colors)
    _draw_reliability(panels[-1], found, colors)
    _name_lines(below, found, colors)
    with atomic_path(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(partial, format="png", dpi=_DPI, metadata={"Title": f"Finding {found.target}", "Software": None})
    return Path(path)


def _colors(found: Evaluation) -> dict[str, str]:
    """Return the colour of each row that the lower panels show: maps of heads, then others by average precision."""
    heads = {row.method for row in found.rows if row.is_best}
    others = [row for row in found.rows if row.method not in heads and row.method not in REFERENCE_ROWS]
    others.sort(key=lambda row: -_or_least(row.localization.mean["ap"].value))
    shown = [row.key for row in [*(row for row in found.rows if row.method in heads), *others]]
    return dict(zip(shown[:_MOST_LINES], _COLORS, strict=False))


def _or_least(value: float) -> float:
    """Return a value, or the least one for NaN."""
    return -math.inf if math.isnan(value) else value


def _named(row: EvaluationRow) -> str:
    """Name a row, cut to what fits; the best map of a head is starred."""
    name = f"{row.key} *" if row.is_best else row.key
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _clean(axes: Axes, title: str) -> None:
    """Give a panel its title and thin frame."""
    axes.set_title(title, size=10, loc="left", **_TEXT)
    axes.tick_params(colors=_SOFT, labelsize=8, length=0)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_rows(axes: Axes, found: Evaluation, colors: dict[str, str]) -> None:
    """Draw the mean average precision of every row with its interval."""
    place = found.localization
    title = f"Average precision, finding {found.target}: {place.n_counted} slides of {place.n_groups} groups"
    _clean(axes, f"{title}, {found.level:.0%} intervals{' · NOT HELD OUT' if found.seen.any() else ''}")
    for number, row in enumerate(found.rows):
        color = _SOFT if row.method in REFERENCE_ROWS else colors.get(row.key, _INK)
        value, low, high = row.localization.mean["ap"]
        if math.isnan(value):
            continue
        axes.plot([low, high], [number, number], color=color, linewidth=2.2, solid_capstyle="butt")
        axes.plot([value], [number], marker="o", markersize=6, color=color)
        axes.text(1.015, number, f"{value:.3f}", size=8, va="center", **_TEXT)
    names = [_named(row) for row in found.rows]
    axes.set(xlim=(0, 1.06), ylim=(len(names) - 0.4, -0.6), xticks=[0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.set_yticks(range(len(names)), names, size=8.5, **_TEXT)
    axes.grid(visible=False, axis="y")
    for label, row in zip(axes.get_yticklabels(), found.rows, strict=True):
        label.set_fontweight("bold" if row.is_best else "normal")


def _draw_strata(axes: Axes, found: Evaluation, by: str, colors: dict[str, str]) -> None:
    """Draw average precision by one property of the region."""
    _clean(axes, f"AP by {by} of the region")
    strata = [stratum for stratum in found.strata if stratum.by == by]
    for number, (key, color) in enumerate(colors.items()):
        shift = 0.09 * (number - (len(colors) - 1) / 2)
        _draw_line(axes, [stratum.ap[key] for stratum in strata], shift, color)
    chance = [stratum.ap["prevalence"].value for stratum in strata]
    axes.plot(range(len(strata)), chance, color=_SOFT, linewidth=1, linestyle=":", marker="_")
    axes.set(ylim=(0, 1.02), xlim=(-0.5, max(len(strata), 1) - 0.5))
    axes.set_xticks(range(len(strata)), [_tick(stratum) for stratum in strata], size=8)
    axes.grid(visible=False, axis="x")


def _tick(stratum: Stratum) -> str:
    """Name a stratum below its place."""
    return f"{stratum.name}\n{stratum.span}\nn = {stratum.n_data}"


def _draw_line(axes: Axes, intervals: list[Interval], shift: float, color: str) -> None:
    """Draw the values of one row over the strata with their intervals."""
    places = [number + shift for number in range(len(intervals))]
    axes.plot(places, [interval.value for interval in intervals], color=color, linewidth=1, marker="o", markersize=4)
    for place, (_, low, high) in zip(places, intervals, strict=True):
        axes.plot([place, place], [low, high], color=color, linewidth=1.4, alpha=0.6)


def _draw_reliability(axes: Axes, found: Evaluation, colors: dict[str, str]) -> None:
    """Draw the share of the class over the probability that methods gave, with an interval for the first."""
    what = "slides" if found.probabilities.datum == "slide" else "patients"
    _clean(axes, f"Labels of {len(found.probabilities.names)} {what}: said and true")
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, linestyle=":")
    drawn: set[str] = set()
    for row in found.rows:
        if row.reliability is None or row.key not in colors or row.method in drawn:
            continue
        bins, color = row.reliability.bins, colors[row.key]
        said = [part.probability for part in bins]
        axes.plot(said, [part.share.value for part in bins], color=color, linewidth=1, marker="o", markersize=4)
        for place, part in zip(said, bins if not drawn else (), strict=False):
            axes.plot([place, place], [part.share.low, part.share.high], color=color, linewidth=1.4, alpha=0.6)
        drawn.add(row.method)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel("probability, mean of a bin", size=8, color=_SOFT)
    axes.set_ylabel(f"share of {found.target}"[:_LONGEST_NAME], size=8, color=_SOFT, parse_math=False)


def _name_lines(figure: FigureBase, found: Evaluation, colors: dict[str, str]) -> None:
    """Name the colours of the lower panels below them."""
    from matplotlib.lines import Line2D

    names = {row.key: _named(row) for row in found.rows}
    handles = [Line2D([], [], color=color, marker="o", markersize=4, label=names[key]) for key, color in colors.items()]
    handles.append(Line2D([], [], color=_SOFT, linestyle=":", label="prevalence; perfect calibration"))
    legend = figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set(parse_math=False, color=_INK)
