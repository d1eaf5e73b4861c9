"""How well methods find the regions of a class in data that they have not seen.

Only data of the target class with a known truth count for localization; the rows *constant*, *random* and
*prevalence* always come along (`napari_prospector.core.metrics`).
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.classkernels import MAPS
from napari_prospector.core.crossfit import Report
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.metrics import (
    AREAS,
    REFERENCE_ROWS,
    Interval,
    Localization,
    LocalizationRow,
    RegionStatistics,
    auroc,
    localization,
    region_statistics,
)
from napari_prospector.core.regions import known_truth
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.baselines import Method
from napari_prospector.tokens.pyramid import atomic_path

__all__ = ["Evaluation", "EvaluationRow", "HeadMap", "evaluate"]

_FEW_GROUPS = 10


@dataclass(frozen=True)
class HeadMap:
    """One map of a fitted head, as a `Method`.

    Parameters
    ----------
    head
        Fitted.
    map
        "evidence" or "decision".
    target
        The class to find; None: the head's own.
    name
        What a table calls the head.
    """

    head: ProspectorHead
    map: str = "evidence"
    target: Hashable | None = None
    name: str = "prospector"

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Fit the head anew."""
        self.head.fit(graphs, np.asarray(labels), groups)
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the map, (n_tokens,)."""
        return self.head.prospect(graph, map=self.map, target=self.target)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
        """Return the head's probability of the class for each datum, (n_data,)."""
        target = self.head.target_ if self.target is None else self.target
        column = self.head.classes_.tolist().index(target)
        return np.asarray(self.head.predict_proba(graphs)[:, column])

    @property
    def n_parameters(self) -> int:
        """Weights of the kernel of one class and numbers of the centres."""
        kernel = self.head.kernels_.evidence.shape[1]
        return int(kernel + self.head.quantizer_.n_concepts_ * self.head.quantizer_.mean_.size)


@dataclass(frozen=True)
class EvaluationRow:
    """One method and map, or one of the rows to compare with.

    Attributes
    ----------
    method, map
        As in the table; `map` is "" for the rows *constant*, *random*, *prevalence*.
    localization
        Its measures.
    difference
        Mean AP of the first row minus this row's, with its paired interval.
    datum_auroc, brier
        Of the probabilities of whole data; NaN if the method gives none.
    n_parameters
        Learned numbers; None for the rows to compare with.
    seconds
        Time that all maps took.
    """

    method: str
    map: str
    localization: LocalizationRow
    difference: Interval
    datum_auroc: float = math.nan
    brier: float = math.nan
    n_parameters: int | None = None
    seconds: float = math.nan


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    target
        The class to find.
    rows
        Methods and maps in the order given, then *constant*, *random*, *prevalence*.
    localization
        The measures of every datum.
    names, labels
        Of the data.
    regions
        Truth of each datum as regions; None where it is not known.
    level
        Of the intervals.
    """

    target: str
    rows: tuple[EvaluationRow, ...]
    localization: Localization
    names: tuple[str, ...]
    labels: tuple[str, ...]
    regions: tuple[RegionStatistics | None, ...]
    level: float

    @property
    def basis(self) -> str:
        """Say in a sentence what the figures rest on."""
        found = self.localization
        few = " So few groups make the intervals too narrow." if found.n_groups < _FEW_GROUPS else ""
        return (
            f"Means over {found.n_counted} data of {self.target!r} with a known region, from {found.n_groups} groups,"
            f" out of {len(self.names)} data; {self.level:.0%} bootstrap intervals over groups.{few}"
        )

    def summary(self) -> list[dict[str, str]]:
        """Return the table to show: a dict of column → text per row, AP first."""
        return [_summary(row) for row in self.rows]

    def table(self) -> list[dict[str, Any]]:
        """Return all figures: a dict of column → value per row. Bounds are in columns ``…_low`` and ``…_high``."""
        return [_figures(row) for row in self.rows]

    def data_table(self) -> list[dict[str, Any]]:
        """Return one dict per datum: its regions, and AP, AUROC and AUPRC of every row."""
        return [self._datum(i) for i in range(len(self.names))]

    def _datum(self, i: int) -> dict[str, Any]:
        """Return the figures of datum i."""
        regions = self.regions[i]
        figures: dict[str, Any] = {
            "name": self.names[i],
            "label": self.labels[i],
            "n_tokens": int(self.localization.n_tokens[i]),
            "counted": bool(self.localization.counted[i]),
        }
        figures |= regions._asdict() if regions else dict.fromkeys(RegionStatistics._fields, math.nan)
        for key in self.localization.rows:
            for area in AREAS:
                figures[f"{key}: {area}"] = float(self.localization.column(key, area)[i])
        return figures

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write ``evaluation.csv``, ``evaluation_data.csv`` (one row per datum) and ``evaluation.json``.

        Returns
        -------
        list of Path
            What was written; each file appears whole or not at all.

        Raises
        ------
        StorageError
            A file cannot be written.
        """
        whole = {
            "target": self.target,
            "basis": self.basis,
            "n_data": len(self.names),
            "n_counted": self.localization.n_counted,
            "n_groups": self.localization.n_groups,
            "level": self.level,
            "rows": self.table(),
            "data": self.data_table(),
        }
        texts = {
            "evaluation.csv": _csv(self.table()),
            "evaluation_data.csv": _csv(self.data_table()),
            "evaluation.json": json.dumps(_without_nan(whole), indent=1, ensure_ascii=False) + "\n",
        }
        for name, text in texts.items():
            with atomic_path(Path(folder) / name) as partial:
                partial.write_text(text, encoding="utf-8")
        return [Path(folder) / name for name in texts]


def evaluate(
    methods: Mapping[str, ProspectorHead | Method] | Sequence[ProspectorHead | Method] | ProspectorHead,
    graphs: Sequence[TokenGraph],
    labels: Sequence[Hashable],
    truths: Sequence[ArrayLike | None],
    groups: Sequence[Hashable] | None = None,
    names: Sequence[str] | None = None,
    target: Hashable | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    report: Report | None = None,
) -> Evaluation:
    """Measure fitted methods on data that they have not seen.

    Parameters
    ----------
    methods
        Heads, of which every map becomes a row, and other methods; by name, or under their own names.
    graphs
        The data; each is loaded once for all maps and once for each method's probabilities.
    labels
        Class of each datum.
    truths
        (n_tokens,) for each datum: 1 or True positive, 0 or False negative, -1 unknown; None: unknown. In a datum of
        another class than the target nothing is positive, whatever its truth says.
    groups
        Patient of each datum: what intervals are drawn over. None: the data.
    names
        What to call the data.
    target
        The class to find. None: that of the first head.
    n_boot, seed, level
        As in `localization`.
    report
        Told (stage, done, total).

    Returns
    -------
    Evaluation

    Raises
    ------
    InvalidInputError
        No method, two of one name, or no target.
    MismatchError
        Lengths differ.
    """
    _check_lengths(len(graphs), labels=labels, truths=truths, groups=groups, names=names)
    named = _by_name(methods)
    wanted = _target(named, labels, target)
    lines = _lines(named, wanted)
    is_target = np.array([label == wanted for label in labels], dtype=bool)
    marks = [_truth_of(truth, hit) for truth, hit in zip(truths, is_target.tolist(), strict=True)]
    drawn = _draw(lines, graphs, marks, report)
    found = localization(drawn.maps, marks, groups, n_boot=n_boot, seed=seed, level=level)
    of_data = {key: _of_data(method, wanted, graphs, is_target) for key, method in named.items()}
    first = next(iter(lines))
    rows = [
        EvaluationRow(
            line.name,
            line.method.map,
            found.rows[key],
            found.difference(first, key),
            *of_data[line.name],
            line.method.n_parameters,
            drawn.seconds[key],
        )
        for key, line in lines.items()
    ]
    rows += [EvaluationRow(name, "", found.rows[name], found.difference(first, name)) for name in REFERENCE_ROWS]
    return Evaluation(
        target=str(wanted),
        rows=tuple(rows),
        localization=found,
        names=tuple(names) if names is not None else tuple(f"datum {i}" for i in range(len(graphs))),
        labels=tuple(map(str, labels)),
        regions=tuple(drawn.regions),
        level=level,
    )


@dataclass(frozen=True)
class _Line:
    """A method, or one map of a head, under the name that its rows have."""

    name: str
    method: Method


@dataclass(frozen=True)
class _Drawn:
    """Maps and the seconds they took by key, regions by datum."""

    maps: dict[str, list[NDArray[np.float64]]]
    seconds: dict[str, float]
    regions: list[RegionStatistics | None]


def _check_lengths(n_data: int, **columns: Sequence[Any] | None) -> None:
    """Raise `MismatchError` unless every column that is given has one entry for each datum."""
    for name, column in columns.items():
        if column is not None and len(column) != n_data:
            raise MismatchError(f"{name} must hold one entry for each of {n_data} data; got {len(column)}.")


def _by_name(
    methods: Mapping[str, ProspectorHead | Method] | Sequence[ProspectorHead | Method] | ProspectorHead,
) -> dict[str, ProspectorHead | Method]:
    """Give every method its name; two of one name, or a name of the rows to compare with, are refused."""
    if isinstance(methods, Mapping):
        named = dict(methods)
    else:
        listed = [methods] if isinstance(methods, ProspectorHead) else list(methods)
        names = [HeadMap.name if isinstance(method, ProspectorHead) else method.name for method in listed]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InvalidInputError(
                f"methods must have different names; {twice[0]!r} occurs twice. Pass a dict of names."
            )
        named = dict(zip(names, listed, strict=True))
    if not named:
        raise InvalidInputError("methods must hold at least one head or method; got none.")
    return named


def _target(
    named: Mapping[str, ProspectorHead | Method], labels: Sequence[Hashable], target: Hashable | None
) -> Hashable:
    """Return the class to find: the one asked for, else that of the first head."""
    if target is None:
        targets = [method.target_ for method in named.values() if isinstance(method, ProspectorHead)]
        target = next((choice for choice in targets if choice is not None), None)
    if target is None:
        raise InvalidInputError(f"target must name the class to find; labels are {sorted(set(map(str, labels)))}.")
    return target


def _lines(named: Mapping[str, ProspectorHead | Method], target: Hashable) -> dict[str, _Line]:
    """Return one line for every method and every map of a head, by the key of its row."""
    lines: dict[str, _Line] = {}
    for name, method in named.items():
        if isinstance(method, ProspectorHead):
            lines |= {f"{name}, {map_name}": _Line(name, HeadMap(method, map_name, target)) for map_name in MAPS}
        else:
            lines[name] = _Line(name, method)
    return lines


def _truth_of(truth: ArrayLike | None, is_target: bool) -> NDArray[np.int8] | None:
    """Return the truth of one datum; outside the target class nothing is positive."""
    if truth is None:
        return None
    marks = known_truth(truth)
    return marks if is_target else np.minimum(marks, 0).astype(np.int8)


def _draw(
    lines: Mapping[str, _Line],
    graphs: Sequence[TokenGraph],
    truths: Sequence[NDArray[np.int8] | None],
    report: Report | None,
) -> _Drawn:
    """Draw the maps of all methods, loading every datum once."""
    drawn = _Drawn({key: [] for key in lines}, dict.fromkeys(lines, 0.0), [])
    for i, truth in enumerate(truths):
        graph = graphs[i]
        drawn.regions.append(None if truth is None else region_statistics(graph, truth))
        for key, line in lines.items():
            start = time.perf_counter()
            drawn.maps[key].append(line.method.prospect(graph))
            drawn.seconds[key] += time.perf_counter() - start
        if report is not None:
            report("maps", i + 1, len(truths))
    return drawn


def _of_data(
    method: ProspectorHead | Method, target: Hashable, graphs: Sequence[TokenGraph], is_target: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return AUROC and Brier score of the probabilities of whole data; NaN where there are none."""
    asked = HeadMap(method, target=target) if isinstance(method, ProspectorHead) else method
    probability = asked.target_probability(graphs)
    if probability is None:
        return math.nan, math.nan
    return auroc(probability, is_target), float(np.mean((probability - is_target) ** 2))


def _figures(row: EvaluationRow) -> dict[str, Any]:
    """Return every figure of a row as column → value."""
    figures: dict[str, Any] = {"method": row.method, "map": row.map}
    blocks = (("", row.localization.mean), ("pooled_", row.localization.pooled), ("all_", row.localization.pooled_all))
    for prefix, intervals in blocks:
        for measure, interval in intervals.items():
            figures |= {
                f"{prefix}{measure}": interval.value,
                f"{prefix}{measure}_low": interval.low,
                f"{prefix}{measure}_high": interval.high,
            }
    figures |= {f"first_minus_this_ap{end}": v for end, v in zip(("", "_low", "_high"), row.difference, strict=True)}
    return figures | {
        "share_constant": row.localization.share_constant,
        "datum_auroc": row.datum_auroc,
        "brier": row.brier,
        "n_parameters": row.n_parameters,
        "seconds": row.seconds,
    }


def _summary(row: EvaluationRow) -> dict[str, str]:
    """Return what is shown of a row as column → text."""
    mean, place = row.localization.mean, row.localization
    return {
        "method": row.method,
        "map": row.map,
        "AP": _text(mean["ap"]),
        "AUROC": _text(mean["auroc"]),
        "AUPRC (trapezoid)": _text(mean["auprc"]),
        "Dice at half range": _text(mean["dice@0.5"]),
        "pooled AP": _text(place.pooled["ap"]),
        "constant maps": "" if math.isnan(place.share_constant) else f"{place.share_constant:.0%}",
        "datum AUROC": _number(row.datum_auroc),
        "Brier": _number(row.brier),
    }


def _text(interval: Interval) -> str:
    """Write a value with its interval; nothing where there is none."""
    if math.isnan(interval.low):
        return _number(interval.value)
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _number(value: float) -> str:
    """Write a number; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.3f}"


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
