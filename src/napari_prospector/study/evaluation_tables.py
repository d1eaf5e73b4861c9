"""An evaluation as tables: to read, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector.core.metrics import AREAS, Interval, RegionStatistics
from napari_prospector.tokens.pyramid import atomic_path

if TYPE_CHECKING:
    from napari_prospector.study.evaluation import Evaluation, EvaluationRow

__all__ = [
    "data_table",
    "figures_of",
    "first_of_methods",
    "pairs_table",
    "probabilities_table",
    "probability_summary_of",
    "reliability_table",
    "strata_summary",
    "strata_table",
    "summary_of",
    "write_tables",
]


def summary_of(row: EvaluationRow) -> dict[str, str]:
    """Return what is shown of a row as column → text."""
    mean, place = row.localization.mean, row.localization
    return {
        "method": row.method,
        "map": f"{row.map} *" if row.is_best else row.map,
        "AP": _text(mean["ap"]),
        "first − this": _text(row.difference) if any(row.difference) else "",
        "AUROC": _text(mean["auroc"]),
        "AUPRC (trapezoid)": _text(mean["auprc"]),
        "Dice at half range": _text(mean["dice@0.5"]),
        "pooled AP": _text(place.pooled["ap"]),
        "constant maps": "" if math.isnan(place.share_constant) else f"{place.share_constant:.0%}",
        "datum AUROC": _number(row.datum_auroc),
        "parameters": "" if row.n_parameters is None else f"{row.n_parameters:,}",
        "seconds to fit": _seconds(row.fit_seconds),
        "seconds for maps": _seconds(row.map_seconds),
    }


def probability_summary_of(row: EvaluationRow) -> dict[str, str]:
    """Return what is shown of a method's probabilities of whole data; the row must have them."""
    found = row.reliability
    assert found is not None
    return {
        "method": row.method,
        "AUROC": _text(found.auroc),
        "Brier": _text(found.brier),
        "log-loss": _text(found.log_loss),
        "calibration error": _number(found.calibration_error),
        "were they perfect": _number(found.perfect_calibration_error),
    }


def first_of_methods(found: Evaluation) -> list[EvaluationRow]:
    """Return one row of each method that gives probabilities: the maps of a head share them."""
    by_method = {row.method: row for row in reversed(found.rows) if row.reliability is not None}
    return list(reversed(by_method.values()))


def strata_summary(found: Evaluation) -> list[dict[str, str]]:
    """Return AP by stratum, a dict of column → text per row; none without strata."""
    if not found.strata:
        return []
    return [
        {"method": row.method, "map": f"{row.map} *" if row.is_best else row.map}
        | {f"{s.by} {s.span} (n = {s.n_data})": _text(s.ap[row.key]) for s in found.strata}
        for row in found.rows
    ]


def figures_of(row: EvaluationRow) -> dict[str, Any]:
    """Return every figure of a row as column → value."""
    figures: dict[str, Any] = {"method": row.method, "map": row.map}
    blocks = (("", row.localization.mean), ("pooled_", row.localization.pooled), ("all_", row.localization.pooled_all))
    for prefix, intervals in blocks:
        for measure, interval in intervals.items():
            figures |= _bounded(f"{prefix}{measure}", interval)
    figures |= _bounded("first_minus_this_ap", row.difference)
    figures["share_constant"] = row.localization.share_constant
    nothing = Interval(math.nan, math.nan, math.nan)
    found = row.reliability
    for name in ("auroc", "brier", "log_loss"):
        figures |= _bounded(f"datum_{name}", getattr(found, name) if found else nothing)
    return figures | {
        "datum_calibration_error": found.calibration_error if found else math.nan,
        "datum_perfect_calibration_error": found.perfect_calibration_error if found else math.nan,
        "is_best": row.is_best,
        "n_parameters": row.n_parameters,
        "fit_seconds": row.fit_seconds,
        "map_seconds": row.map_seconds,
    }


def data_table(found: Evaluation) -> list[dict[str, Any]]:
    """Return one dict per slide: its regions, and AP, AUROC and AUPRC of every row."""
    return [_slide(found, i) for i in range(len(found.names))]


def _slide(found: Evaluation, i: int) -> dict[str, Any]:
    """Return the figures of slide i."""
    regions = found.regions[i]
    figures: dict[str, Any] = {
        "name": found.names[i],
        "label": found.labels[i],
        "n_tokens": int(found.localization.n_tokens[i]),
        "counted": bool(found.localization.counted[i]),
        "seen": bool(found.seen[i]),
    }
    figures |= regions._asdict() if regions else dict.fromkeys(RegionStatistics._fields, math.nan)
    for key in found.localization.rows:
        for area in AREAS:
            figures[f"{key}: {area}"] = float(found.localization.column(key, area)[i])
    return figures


def pairs_table(found: Evaluation) -> list[dict[str, Any]]:
    """Return one dict per pair of rows: how much the mean AP of the one exceeds the other's, with paired intervals."""
    return [
        {"row": row, "other": other} | _bounded("row_minus_other_ap", interval)
        for (row, other), interval in found.localization.differences().items()
    ]


def strata_table(found: Evaluation) -> list[dict[str, Any]]:
    """Return one dict per stratum and row: the values it covers, its data, and AP."""
    return [
        {
            "by": stratum.by,
            "stratum": stratum.name,
            "lowest": stratum.low,
            "highest": stratum.high,
            "n_data": stratum.n_data,
            "n_groups": stratum.n_groups,
            "method": row.method,
            "map": row.map,
        }
        | _bounded("ap", stratum.ap[row.key])
        for stratum in found.strata
        for row in found.rows
    ]


def probabilities_table(found: Evaluation) -> list[dict[str, Any]]:
    """Return one dict per datum: its label, and the probability of the class to find by every method."""
    said = found.probabilities
    return [
        {"datum": name, "label": label} | {method: float(column[i]) for method, column in said.by_method.items()}
        for i, (name, label) in enumerate(zip(said.names, said.labels, strict=True))
    ]


def reliability_table(found: Evaluation) -> list[dict[str, Any]]:
    """Return one dict per method and bin of its probabilities: how many data, and the share of the class."""
    return [
        {
            "method": row.method,
            "lowest": part.low,
            "highest": part.high,
            "n_data": part.n_data,
            "n_target": part.n_target,
            "mean_probability": part.probability,
        }
        | _bounded("share", part.share)
        for row in first_of_methods(found)
        for part in (row.reliability.bins if row.reliability else ())
    ]


def write_tables(found: Evaluation, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``evaluation*.csv`` and ``evaluation.json``, each whole or not at all."""
    tables = {
        "rows": ("evaluation.csv", found.table()),
        "data": ("evaluation_data.csv", found.data_table()),
        "pairs": ("evaluation_pairs.csv", pairs_table(found)),
        "strata": ("evaluation_strata.csv", strata_table(found)),
        "probabilities": ("evaluation_probabilities.csv", probabilities_table(found)),
        "reliability": ("evaluation_reliability.csv", reliability_table(found)),
    }
    whole = {
        "target": found.target,
        "basis": found.basis,
        "notes": list(found.notes),
        "datum": found.probabilities.datum,
        "n_data": len(found.names),
        "n_counted": found.localization.n_counted,
        "n_groups": found.localization.n_groups,
        "n_seen": int(found.seen.sum()),
        "level": found.level,
    }
    whole |= {part: rows for part, (_, rows) in tables.items()}
    texts = {name: _csv(rows) for name, rows in tables.values() if rows}
    texts["evaluation.json"] = json.dumps(_without_nan(whole), indent=1, ensure_ascii=False) + "\n"
    for name, text in texts.items():
        with atomic_path(Path(folder) / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return [Path(folder) / name for name in texts]


def _bounded(name: str, interval: Interval) -> dict[str, float]:
    """Return a value and its bounds as three columns."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _text(interval: Interval) -> str:
    """Write a value with its interval; nothing where there is none."""
    if math.isnan(interval.low):
        return _number(interval.value)
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _number(value: float) -> str:
    """Write a number; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.3f}"


def _seconds(value: float) -> str:
    """Write seconds with two digits that count; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows of one set of columns as CSV; NaN and None become empty cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow("" if _without_nan(value) is None else value for value in row.values())
    return text.getvalue()


def _without_nan(value: Any) -> Any:
    """Replace NaN by None, which JSON has."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
