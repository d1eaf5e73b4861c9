"""The summary as a picture: one panel for each task, one line for each method."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest.summary import CEILING_ROW
from benchmarks.contest.tables import README_COLUMNS, ordered

__all__ = ["draw_curves", "draw_summary"]

OURS, OTHERS, SEEN = "#c0392b", "#4d5a66", "#2471a3"
COLOURS = 64


def draw_summary(summaries: Mapping[str, dict[str, Any]], path: Path) -> None:
    """Draw means with their intervals; the ceiling is a dashed line."""
    from matplotlib.figure import Figure

    shown = {name: title for name, title in README_COLUMNS.items() if name in summaries}
    names = [name for name in ordered({name: summaries[name] for name in shown}) if name != CEILING_ROW][::-1]
    n_columns = min(len(shown), 4)
    n_lines = -(-len(shown) // n_columns)
    figure = Figure(figsize=(3 + 2.3 * n_columns, 0.7 + (0.19 * len(names) + 0.6) * n_lines), layout="constrained")
    panels = figure.subplots(n_lines, n_columns, sharey=True, squeeze=False)
    for panel, (key, title) in zip(panels.flat, shown.items(), strict=False):
        _draw_panel(panel, summaries[key], names)
        panel.set_title(title.removesuffix(" ¹"), fontsize=9)
    for panel in panels.flat[len(shown) :]:
        panel.set_visible(False)
    figure.supxlabel(
        "mean average precision over positive test data, 95 % interval; dashed: taught by regions\n"
        "cells: mean AUROC of beta cells among the cells of an image",
        fontsize=8,
    )
    _write_small(figure, path)


def draw_curves(curves: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw mean AP by the number of training slides; curves: task to row to {n_train: interval}."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(curves), 3.2), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    rows = list(dict.fromkeys(name for curve in curves.values() for name in curve))
    marks, colours = "os^Dv", [OURS, "#d98880", "#b9770e", OTHERS, SEEN]
    for panel, (title, curve) in zip(panels, curves.items(), strict=True):
        for i, name in enumerate(rows):
            points = sorted((int(n), interval) for n, interval in curve.get(name, {}).items())
            sizes, values = [n for n, _ in points], [interval["value"] for _, interval in points]
            ends = [[interval["value"] - interval["low"] for _, interval in points]]
            ends += [[interval["high"] - interval["value"] for _, interval in points]]
            shifted = [n * 1.03 ** (i - len(rows) / 2) for n in sizes]  # else the bars hide each other
            style = {"marker": marks[i % 5], "color": colours[i % 5], "ls": "--" if name == CEILING_ROW else "-"}
            panel.errorbar(shifted, values, ends, **style, lw=1.2, ms=4, capsize=2, label=name)
        panel.set(xscale="log", title=title, ylim=(0, 1.02), xlabel="training slides")
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.minorticks_off()
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("mean AP, 95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=len(rows))
    _write_small(figure, path)


def _draw_panel(panel: Any, summary: dict[str, Any], names: list[str]) -> None:
    """Draw one task."""
    for place, name in enumerate(names):
        row = summary["rows"].get(name)
        if row is None or row["value"] is None:
            continue
        colour = OURS if name.startswith("prospector") else OTHERS
        if row["low"] is not None:
            panel.plot([row["low"], row["high"]], [place, place], color=colour, lw=1.4, solid_capstyle="butt")
        panel.plot(row["value"], place, "o", color=colour, ms=4)
    ceiling = summary["rows"].get(CEILING_ROW)
    if ceiling is not None and ceiling["value"] is not None:
        panel.axvline(ceiling["value"], color=SEEN, ls="--", lw=1)
    panel.set_xlim(0, 1.03)
    panel.set_yticks(range(len(names)), names, fontsize=7)
    panel.tick_params(axis="x", labelsize=7)
    panel.grid(alpha=0.2)


def _write_small(figure: Any, path: Path) -> None:
    """Write a PNG of few colours, without a note of when and by what it was made."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=130, metadata={"Software": None})
    drawn.seek(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)
