"""The summary as Markdown: everything, and the few columns that the README shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest.records import write_atomically
from benchmarks.contest.summary import CEILING_ROW

__all__ = ["README_COLUMNS", "full_table", "ordered", "readme_table", "write_readme"]

START, END = "<!-- accuracy -->", "<!-- /accuracy -->"

README_COLUMNS = {
    "adenocarcinoma-patches-MobileNetV2": "adenocarcinoma",
    "high-grade-patches-MobileNetV2": "high-grade",
    "serrated-patches-MobileNetV2": "serrated",
    "adenocarcinoma-scattered-MobileNetV2": "adenocarcinoma, scattered",
    "high-grade-scattered-MobileNetV2": "high-grade, scattered",
    "serrated-scattered-MobileNetV2": "serrated, scattered",
    "zinc": "zinc sites",
    "section-inheritance": "text: inheritance",
    "section-treatment": "text: treatment",
    "section-genetic-changes": "text: genetic changes",
    "cells": "cells ¹",
}

UNINFORMED = ("random", "constant")

HEADINGS = {
    "ap": "mean AP",
    "expected_auroc": "AUROC of the expected cells",
}


def ordered(summaries: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the names of all rows: maps of the head first; what knows nothing, and the ceiling, last."""
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary["rows"]))
    last = (*UNINFORMED, CEILING_ROW)
    names.sort(key=lambda name: (name in last and last.index(name) + 1, not name.startswith("prospector")))
    return names


def full_table(summaries: Mapping[str, dict[str, Any]]) -> str:
    """Return one section for each task, all rows and measures."""
    lines = [
        "# Accuracy",
        "",
        "Made by `make bench-accuracy`. Labels of whole data only, but for the ceiling. Means over test data of the",
        "class of all seeds; in brackets 95 % intervals, bootstrap over groups (pools of patients, families of chains,",
        "documents, donors). The same patients come back in other seeds, so that true intervals are somewhat wider.",
        '"Default above" is the mean of the default head minus that of the row, paired. AUPRC is the trapezoidal one',
        "of the reference, which flatters constant maps. Pooled AP ranks the tokens of all test data together.",
        "Maps that explain one model share its fit, and the first pays.",
    ]
    for name, summary in summaries.items():
        lines += ["", f"## {name}", "", *_about(summary), "", *_section(summary, ordered(summaries))]
    return "\n".join(lines) + "\n"


def readme_table(summaries: Mapping[str, dict[str, Any]]) -> str:
    """Return methods as rows and a choice of tasks as columns; the best row that sees no region is bold."""
    columns = {name: title for name, title in README_COLUMNS.items() if name in summaries}
    lines = [*_introduction(summaries), "", "| method | " + " | ".join(columns.values()) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    best = {name: _best(summaries[name]) for name in columns}
    for row in ordered({name: summaries[name] for name in columns}):
        cells = [_short(summaries[name]["rows"].get(row), row != CEILING_ROW, best[name]) for name in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    if "cells" in columns:
        lines += [
            "",
            "¹ Non-diabetic against long type 1 diabetes, which lacks beta cells: AUROC of beta cells in an image.",
        ]
    return "\n".join(lines)


def _introduction(summaries: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return what a reader of the README needs to know of the table."""
    n_seeds = max(len(summary["seeds"]) for summary in summaries.values())
    return [
        f"Mean average precision (AP) over test data of the class, {n_seeds} seeds, ± half of a 95 % interval over",
        "groups of patients, families of chains or documents. All methods learn from labels of whole data, but for the",
        "ceiling, a linear classifier of tokens that is taught by regions. Bold: the best without regions. Histology:",
        "mosaics of colorectal tissue (EBHI-Seg) seen by MobileNetV2, 40 training and 20 test slides of other",
        "patients, the class in patches or scattered as single tiles; high-grade is among low-grade neoplasia,",
        "serrated among polyps. Zinc: residues that bind it, by amino acids and contacts alone. Text: sentences of a",
        "section, by a bag of words.",
    ]


def write_readme(readme: Path, table: str) -> None:
    """Put a table between the marks of the README."""
    before, rest = readme.read_text(encoding="utf-8").split(START)
    write_atomically(readme, f"{before}{START}\n{table}\n{END}{rest.split(END)[1]}")


def _best(summary: dict[str, Any]) -> str:
    """Return the highest mean of a row that has seen no region, as it is written."""
    values = [row["value"] for name, row in summary["rows"].items() if name != CEILING_ROW]
    return _two_digits(max((value for value in values if value is not None), default=0.0))


def _short(row: dict[str, Any] | None, may_be_bold: bool, best: str) -> str:
    """Return a mean and half the width of its interval; bold where it is written like the best."""
    if row is None or row["value"] is None:
        return "–"
    spread = "" if row["low"] is None else f" ± {_two_digits((row['high'] - row['low']) / 2)}"
    value = _two_digits(row["value"])
    return (f"**{value}**" if may_be_bold and value == best else value) + spread


def _two_digits(value: float) -> str:
    """Write a number between 0 and 1 without its leading zero."""
    return f"{value:.2f}".removeprefix("0")


def _about(summary: dict[str, Any]) -> list[str]:
    """Return what a section rests on."""
    lines = [
        f"{summary['about'][0].upper()}{summary['about'][1:]}. {summary['n_train']} data for training, "
        f"{summary['n_test']} for test in each of {len(summary['seeds'])} seeds; {summary['n_positive']} positive test "
        f"data of {summary['n_groups']} groups."
    ]
    if "prevalence" in summary:
        lines[0] += f" Positive tokens: {summary['prevalence']:.3f}."
    lines += [f"Seed {summary['seeds'][0]} rests on {_plain(summary['support'][0])}."]
    return lines + [f"Refused: {key}: {text}" for key, text in summary["refused"].items()]


def _plain(support: Mapping[str, Any]) -> str:
    """Return nested numbers as words."""
    words = [
        f"{key} ({_plain(value)})" if isinstance(value, dict) else f"{value:g} {key}" for key, value in support.items()
    ]
    return ", ".join(words)


def _section(summary: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return the table of one task."""
    lead = summary["measure"]
    others = ["auroc", "auprc"] if lead == "ap" else ["expected_share", "strongest_is_expected"]
    titles = ["AUROC", "AUPRC"] if lead == "ap" else ["share of positive scores", "is the strongest"]
    head = ["method", HEADINGS[lead], "default above", "of the ceiling", *titles, "pooled AP", "constant maps"]
    head += ["AUROC of data", "fit, s", "maps, s", "parameters"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---|" * (len(head) - 1)]
    for name in names:
        row = summary["rows"].get(name)
        if row is None:
            continue
        cells = [name, _long(row), _long(row.get("over"), signed=True), _long(row.get("of_ceiling"))]
        cells += [_number(row.get(key)) for key in (*others, "pooled_ap", "share_constant", "datum_auroc")]
        cells += [_number(row[key], 1) for key in ("fit_seconds", "map_seconds")] + [_number(row["n_parameters"], 0)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _long(interval: dict[str, Any] | None, signed: bool = False) -> str:
    """Return a value and its interval."""
    if interval is None or interval["value"] is None:
        return ""
    sign = "+" if signed else ""
    if interval["low"] is None:
        return f"{interval['value']:{sign}.3f}"
    return f"{interval['value']:{sign}.3f} [{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]"


def _number(value: float | None, digits: int = 3) -> str:
    """Return a number, "" where there is none."""
    return "" if value is None else f"{value:.{digits}f}"
