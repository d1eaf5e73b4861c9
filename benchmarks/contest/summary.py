"""The records of a task as one table: means over test data of all seeds, with intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.bootstrap import (
    Interval,
    bootstrap_means,
    group_codes,
    paired_difference,
    percentile_intervals,
    resample,
)

__all__ = ["CEILING_ROW", "DEFAULT_ROW", "share_of", "summarize"]

DEFAULT_ROW = "prospector (default)"
CEILING_ROW = "ceiling: taught by regions"
N_BOOT = 2000

FloatArray = NDArray[np.float64]


def summarize(records: Sequence[dict[str, Any]], n_boot: int = N_BOOT) -> dict[str, Any]:
    """Average the rows of a task over positive test data of all seeds.

    Parameters
    ----------
    records
        Of one task, one for each seed. A row that a record lacks takes no part there.
    n_boot
        Replicates of the bootstrap, which draws groups; data of a group of the same name are drawn together, in
        whatever seed they are.

    Returns
    -------
    dict
        `rows`: name of a row to its means. Of the first measure of the task each has `value`, `low`, `high` and
        `by_seed`; `over`: how much the default head is above it, paired, with `low` and `high`; `of_ceiling`: its
        mean as a share of the ceiling's.
    """
    groups = [group for record in records for group in record["groups"]]
    names = list(dict.fromkeys(name for record in records for name in _rows(record)))
    measures = _measures(records)
    columns = {name: {measure: _column(records, name, measure) for measure in measures} for name in names}
    lead = measures[0]
    rows = {}
    for name in names:
        own = columns[name][lead]
        rows[name] = {
            **_interval(bootstrap_means(own[:, None], groups, n_boot)[0]),
            "by_seed": _by_seed(records, name, lead),
            **{measure: _mean(columns[name][measure]) for measure in measures[1:]},
            **_averages([_rows(record)[name] for record in records if name in _rows(record)]),
        }
        if DEFAULT_ROW in columns and name != DEFAULT_ROW:
            rows[name]["over"] = _interval(paired_difference(columns[DEFAULT_ROW][lead], own, groups, n_boot))
        if CEILING_ROW in columns and name != CEILING_ROW:
            rows[name]["of_ceiling"] = _interval(share_of(own, columns[CEILING_ROW][lead], groups, n_boot))
    return {
        **{key: records[0][key] for key in ("name", "about", "target", "n_train", "n_test")},
        "measure": lead,
        "seeds": [record["seed"] for record in records],
        "support": [record["support"] for record in records],
        "n_positive": len(groups),
        "n_groups": len(set(groups)),
        **{
            key: float(np.mean([value for record in records for value in record[key]]))
            for key in ("prevalence", "random_ap")
            if key in records[0]
        },
        "rows": rows,
        "refused": {
            key: found["refused"]
            for record in records
            for key, found in record["methods"].items()
            if "refused" in found
        },
    }


def share_of(values: FloatArray, others: FloatArray, groups: Sequence[str], n_boot: int = N_BOOT) -> Interval:
    """Return mean of `values` / mean of `others` over the same data (n_data,), with an interval over groups."""
    known = ~np.isnan(values) & ~np.isnan(others)
    codes = group_codes(groups, len(values))[known]
    first, second = values[known], others[known]
    if not len(first) or second.mean() == 0:
        return Interval(np.nan, np.nan, np.nan)
    weights = resample(codes, n_boot if np.unique(codes).size > 1 else 0)
    replicates = (weights @ first) / (weights @ second)
    return percentile_intervals([first.mean() / second.mean()], replicates[:, None])[0]


def _rows(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all rows of a record by name."""
    return {name: row for method in record["methods"].values() for name, row in method["rows"].items()}


def _measures(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the measures."""
    return list(next(row for record in records for row in _rows(record).values())["measures"])


def _column(records: Sequence[dict[str, Any]], name: str, measure: str) -> FloatArray:
    """Return a measure of a row for every datum of all records, (n_data,); NaN where there is none."""
    parts = []
    for record in records:
        row = _rows(record).get(name)
        values = row["measures"][measure] if row else [None] * len(record["groups"])
        parts.append(np.array([np.nan if value is None else value for value in values], dtype=np.float64))
    return np.concatenate(parts)


def _by_seed(records: Sequence[dict[str, Any]], name: str, measure: str) -> list[float | None]:
    """Return the mean of each seed."""
    return [_mean(_column([record], name, measure)) for record in records]


def _averages(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average over seeds what a record gives once; None where no seed has it."""
    keys = ("pooled_ap", "datum_auroc", "share_constant", "fit_seconds", "map_seconds", "n_parameters")
    averages: dict[str, Any] = {}
    for key in (*keys, "strongest_is_expected"):
        known = [row[key] for row in rows if row.get(key) is not None]
        averages[key] = round(float(np.mean(known)), 5) if known else None
    averages["chosen"] = [row["chosen"] for row in rows]
    return averages


def _interval(interval: Interval) -> dict[str, float | None]:
    """Return an interval for JSON."""
    return {
        key: None if np.isnan(value) else round(value, 5)
        for key, value in zip(("value", "low", "high"), interval, strict=True)
    }


def _mean(values: FloatArray) -> float | None:
    """Return the mean of what is known, for JSON."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 5) if known.size else None
