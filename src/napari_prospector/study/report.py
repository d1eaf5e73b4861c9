"""One HTML page about a study: what was done, how well, and what the maps look like.

The page is a single file that loads nothing. What comes from files (names, labels, cards) is escaped by the template;
no folder of the machine that made it is in it.
"""

from __future__ import annotations

import base64
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_prospector import __version__
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.metrics import REFERENCE_ROWS
from napari_prospector.errors import InvalidInputError, MissingFileError
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.evaluate import Evaluation
from napari_prospector.study.figures import draw_token_grid
from napari_prospector.study.pages import page_template
from napari_prospector.tokens.pyramid import atomic_path

__all__ = ["ReportPicture", "draw_token_grid", "write_report"]

_CHART_LEFT, _CHART_WIDTH, _CHART_ROW = 330, 900, 24


@dataclass(frozen=True)
class ReportPicture:
    """A PNG and what it shows."""

    path: Path
    caption: str


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    head: ProspectorHead | None = None,
    evaluation: Evaluation | None = None,
    cohort: Cohort | None = None,
    pictures: Sequence[ReportPicture] = (),
    steps: Sequence[str] = (),
    commands: Sequence[str] = (),
    embed_images: bool = True,
) -> Path:
    """Write the page.

    Parameters
    ----------
    path
        HTML file to write; it appears whole or not at all.
    title
        Of the page.
    head
        Its model card is shown.
    evaluation
        Its table and a chart of average precision are shown.
    cohort
        Counts and rows are shown, without folders and groups.
    pictures
        In order.
    steps
        What was done, a sentence each.
    commands
        How to open the result in napari. Paths in them should be relative to the folder of the page.
    embed_images
        Whether pictures are within the page; otherwise it refers to them, and they must lie in its folder or below.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MissingFileError
        A picture does not exist.
    InvalidInputError
        A picture lies elsewhere and is not to be embedded.
    MissingExtraError
        jinja2 is not installed.
    StorageError
        The page cannot be written.
    """
    page = Path(path)
    html = page_template("report.html.j2").render(
        version=__version__,
        title=title,
        target=_target(head, evaluation),
        headline=_headline(evaluation),
        steps=list(steps),
        commands=list(commands),
        evaluation=evaluation,
        columns=list(evaluation.summary()[0]) if evaluation else [],
        summary=_marked(evaluation.summary()) if evaluation else [],
        strata=_marked(evaluation.strata_summary()) if evaluation else [],
        said=_marked(evaluation.probability_summary()) if evaluation else [],
        chart=_chart(evaluation),
        pictures=[{"source": _source(p.path, page, embed_images), "caption": p.caption} for p in pictures],
        cohort=_cohort(cohort, evaluation),
        card=list(_blocks(head.describe())) if head is not None else [],
    )
    with atomic_path(page) as partial:
        partial.write_text(html, encoding="utf-8")
    return page


def _target(head: ProspectorHead | None, evaluation: Evaluation | None) -> str:
    """Name the class that the page is about."""
    if evaluation is not None:
        return evaluation.target
    if head is not None and head.target_ is not None:
        return str(head.target_)
    return "of each label"


def _headline(evaluation: Evaluation | None) -> list[dict[str, str]]:
    """Return the figures on top of the page: the first row beside the constant and the random map."""
    if evaluation is None or evaluation.localization.n_counted == 0:
        return []
    first = evaluation.rows[0]
    references = {row.method: row for row in evaluation.rows[-len(REFERENCE_ROWS) :]}
    ap = first.localization.mean["ap"]
    interval = "" if math.isnan(ap.low) else f" [{ap.low:.2f}, {ap.high:.2f}]"
    figures = [{"value": f"{ap.value:.2f}", "text": f"AP of {first.method}, {first.map}{interval}"}]
    for name in ("constant", "random"):
        figures.append(
            {"value": f"{references[name].localization.mean['ap'].value:.2f}", "text": f"AP of a {name} map"}
        )
    figures.append({"value": str(evaluation.localization.n_counted), "text": "slides with a known region"})
    return figures


def _marked(table: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return the rows of a table with their kind: those to compare with are set apart."""
    rows: list[dict[str, Any]] = []
    for cells in table:
        is_reference = cells["method"] in REFERENCE_ROWS
        is_first = is_reference and (not rows or rows[-1]["kind"] == "")
        rows.append({"kind": "reference first" if is_first else "reference" if is_reference else "", "cells": cells})
    return rows


def _chart(evaluation: Evaluation | None) -> dict[str, Any]:
    """Place the average precision of every row, in pixels."""
    if evaluation is None:
        return {}

    def place(share: float) -> float | None:
        span = _CHART_WIDTH - _CHART_LEFT - 30
        return None if math.isnan(share) else round(_CHART_LEFT + span * share, 1)

    rows = []
    for number, row in enumerate(evaluation.rows):
        is_reference = number >= len(evaluation.rows) - len(REFERENCE_ROWS)
        value, low, high = (place(bound) for bound in row.localization.mean["ap"])
        name = f"{row.key} *" if row.is_best else row.key
        color = "#9aa4ad" if is_reference else "#dd6a1f" if number == 0 else "#2f7fbf"
        places = {"y": 20 + number * _CHART_ROW, "value": value, "low": low, "high": high}
        rows.append({"text": _short(name), "is_reference": is_reference, "color": color, **places})
    return {
        "width": _CHART_WIDTH,
        "height": 20 + len(rows) * _CHART_ROW + 22,
        "left": _CHART_LEFT,
        "ticks": [{"x": place(share), "text": f"{share:g}"} for share in (0, 0.25, 0.5, 0.75, 1)],
        "rows": rows,
    }


def _short(name: str) -> str:
    """Cut a name to what fits beside the chart."""
    return name if len(name) <= 46 else name[:45] + "…"


def _source(picture: Path, page: Path, embed: bool) -> str:
    """Return what an image's `src` must be: its content, or its place beside the page."""
    if not picture.is_file():
        raise MissingFileError(f"There is no picture at {picture}. Draw it first.")
    if embed:
        return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")
    try:
        return picture.resolve().relative_to(page.parent.resolve()).as_posix()
    except ValueError as error:
        raise InvalidInputError(
            f"A picture that is not embedded must lie in the folder of {page.name} or below; {picture.name} does not."
            " Move it, or pass embed_images=True."
        ) from error


def _cohort(cohort: Cohort | None, evaluation: Evaluation | None) -> dict[str, Any] | None:
    """Count the cohort and list its rows, with the AP of the first method where it is known."""
    if cohort is None:
        return None
    splits = sorted({row.split or "" for row in cohort}, key=("train", "test", "").index)
    counts = Counter((row.label, row.split or "") for row in cohort)
    groups = cohort.groups
    patients = "no groups are given" if groups is None else f"{len(set(groups))} groups (patients), none in two splits"
    precision = _precision_by_name(evaluation)
    return {
        "sentence": f"{cohort.name}: {len(cohort)} data, {patients}.",
        "splits": [split or "all" for split in splits],
        "counts": [{"name": name, "numbers": [counts[name, split] for split in splits]} for name in cohort.classes],
        "has_ap": bool(precision),
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "split": row.split or "",
                "truth": "mask" if row.truth else "",
                "ap": "" if row.split == "train" else precision.get(row.name, ""),
            }
            for row in cohort
        ],
    }


def _precision_by_name(evaluation: Evaluation | None) -> Mapping[str, str]:
    """Return the AP of the first row by the name of the datum, where it counts."""
    if evaluation is None:
        return {}
    values = evaluation.localization.column(next(iter(evaluation.localization.rows)))
    return {name: f"{ap:.3f}" for name, ap in zip(evaluation.names, values, strict=True) if not math.isnan(ap)}


def _blocks(markdown: str) -> Iterator[dict[str, Any]]:
    """Cut a model card into headings, lists and paragraphs; that is all the Markdown that it uses."""
    items: list[str] = []
    for line in [*markdown.splitlines(), ""]:
        text = line.strip().replace("**", "")
        if text.startswith("- "):
            items.append(text[2:])
            continue
        if items:
            yield {"kind": "list", "items_": items, "text": ""}
            items = []
        if text.startswith("#"):
            yield {"kind": "heading", "text": text.lstrip("# "), "items_": []}
        elif text:
            yield {"kind": "paragraph", "text": text, "items_": []}
