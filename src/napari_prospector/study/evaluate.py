"""How well methods find the regions of a class in data that they have not seen.

Only data of the target class with a known truth count for localization; the rows *constant*, *random* and
*prevalence* always come along (`napari_prospector.core.metrics`). Probabilities of whole data are judged beside.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.each import Report, each
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.metrics import (
    REFERENCE_ROWS,
    Localization,
    RegionStatistics,
    localization,
    region_statistics,
)
from napari_prospector.core.regions import known_truth
from napari_prospector.core.reliability import Reliability, reliability
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.baselines import Method
from napari_prospector.study.evaluation import DatumProbabilities, Evaluation, EvaluationRow
from napari_prospector.study.head_maps import HeadMap, maps_of
from napari_prospector.study.patients import LabelledGraphs, PatientGraphs, as_data
from napari_prospector.study.strata import strata

__all__ = ["Evaluation", "EvaluationRow", "HeadMap", "evaluate"]


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
    *,
    datum: str = "slide",
    seen: ArrayLike | None = None,
    fit_seconds: Mapping[str, float] | None = None,
    remarks: Sequence[str] = (),
) -> Evaluation:
    """Measure fitted methods on data that they have not seen.

    Parameters
    ----------
    methods
        Heads, of which every map becomes a row, and other methods; by name, or under their own names.
    graphs
        The slides; each is loaded once for all maps and once for each method's probabilities.
    labels
        Class of each slide.
    truths
        (n_tokens,) for each slide: 1 or True positive, 0 or False negative, -1 unknown; None: unknown. In a slide of
        another class than the target nothing is positive, whatever its truth says.
    groups
        Patient of each slide: what intervals are drawn over. None: the slides.
    names
        What to call the slides.
    target
        The class to find. None: that of the first head.
    n_boot, seed, level
        As in `localization`.
    report
        Told (stage, done, total).
    datum
        What probabilities are judged over: "slide", or "group": the slides of a patient as one. Maps are always of
        slides.
    seen
        Shape (n_slides,), which slides, or other slides of their patients, a method has learned from. None: none.
    fit_seconds
        How long methods took to learn, by name, where it is known.
    remarks
        What else a reader should know of the data; they join the notes.

    Returns
    -------
    Evaluation

    Raises
    ------
    InvalidInputError
        No method, two of one name, no target, or no groups where they are to be the data.
    MismatchError
        Lengths differ.
    """
    marked = [False] * len(graphs) if seen is None else np.asarray(seen, dtype=bool).tolist()
    _check_lengths(len(graphs), labels=labels, truths=truths, groups=groups, names=names, seen=marked)
    named = _by_name(methods)
    wanted = _target(named, labels, target)
    lines = _lines(named, wanted)
    called = tuple(names) if names is not None else tuple(f"datum {i}" for i in range(len(graphs)))
    judged, judged_names = _data(graphs, labels, groups, called, datum)
    marks = [_truth_of(truth, label == wanted) for truth, label in zip(truths, labels, strict=True)]
    drawn = _draw(lines, graphs, marks, report)
    found = localization(drawn.maps, marks, groups, n_boot=n_boot, seed=seed, level=level)
    said = {name: column for name, method in named.items() if (column := _said(method, wanted, judged)) is not None}
    worth = _worth(said, judged, wanted, n_boot, seed, level)
    learned = fit_seconds or {}
    rows = [_row(key, line, found, worth, learned, drawn.seconds[key]) for key, line in lines.items()]
    return Evaluation(
        target=str(wanted),
        rows=(*rows, *(_reference_row(name, found, worth) for name in REFERENCE_ROWS)),
        localization=found,
        names=called,
        labels=tuple(map(str, labels)),
        regions=tuple(drawn.regions),
        level=level,
        strata=strata(found, drawn.regions),
        probabilities=DatumProbabilities(datum, judged_names, tuple(map(str, judged.labels)), said),
        seen=np.array(marked, dtype=bool),
        remarks=tuple(remarks),
    )


@dataclass(frozen=True)
class _Line:
    """A method, or one map of a head, under the name that its rows have."""

    name: str
    method: Method
    is_best: bool = False


@dataclass(frozen=True)
class _Drawn:
    """Maps and the seconds they took by key, regions by slide."""

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
        if not isinstance(method, ProspectorHead):
            lines[name] = _Line(name, method)
            continue
        for map_name in maps_of(method):
            lines[f"{name}, {map_name}"] = _Line(name, HeadMap(method, map_name, target), map_name == method.best_map_)
    return lines


def _data(
    graphs: Sequence[TokenGraph],
    labels: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    names: tuple[str, ...],
    datum: str,
) -> tuple[LabelledGraphs, tuple[str, ...]]:
    """Return what probabilities are judged over, and its names: those of slides, for patients are named nowhere."""
    judged = as_data(graphs, labels, groups, datum)
    if not isinstance(judged.graphs, PatientGraphs):
        return judged, names
    of_patients = [[names[place] for place in places] for places in judged.graphs.members]
    return judged, tuple(first + (f" and {len(rest)} more" if rest else "") for first, *rest in of_patients)


def _truth_of(truth: ArrayLike | None, is_target: bool) -> NDArray[np.int8] | None:
    """Return the truth of one slide; outside the target class nothing is positive."""
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
    """Draw the maps of all methods, loading every slide once."""
    n_data = len(truths)
    drawn = _Drawn({key: [np.empty(0)] * n_data for key in lines}, dict.fromkeys(lines, 0.0), [None] * n_data)
    methods = {key: line.method for key, line in lines.items()}
    for i, one in each(graphs, _draw_one, (methods,), lambda i: (truths[i],), stage="maps", report=report):
        drawn.regions[i] = one.regions
        for key, (scores, seconds) in one.maps.items():
            drawn.maps[key][i] = scores
            drawn.seconds[key] += seconds
    return drawn


class _DrawnOne(NamedTuple):
    """Regions of one slide; its map by every method, with the seconds that it took."""

    regions: RegionStatistics | None
    maps: dict[str, tuple[NDArray[np.float64], float]]


def _draw_one(graph: TokenGraph, methods: Mapping[str, Method], truth: NDArray[np.int8] | None) -> _DrawnOne:
    """Draw the maps of one slide by all methods."""
    maps = {}
    for key, method in methods.items():
        start = time.perf_counter()
        scores = method.prospect(graph)
        maps[key] = scores, time.perf_counter() - start
    return _DrawnOne(None if truth is None else region_statistics(graph, truth), maps)


def _said(method: ProspectorHead | Method, target: Hashable, judged: LabelledGraphs) -> NDArray[np.float64] | None:
    """Return the probabilities of whole data, (n_data,); None where the method gives none."""
    asked = HeadMap(method, method.best_map_, target) if isinstance(method, ProspectorHead) else method
    return asked.target_probability(judged.graphs)


def _worth(
    said: Mapping[str, NDArray[np.float64]],
    judged: LabelledGraphs,
    target: Hashable,
    n_boot: int,
    seed: int,
    level: float,
) -> dict[str, Reliability]:
    """Judge the probabilities of every method, and those of the row that knows only how frequent the class is."""
    is_target = np.array([label == target for label in judged.labels], dtype=bool)
    columns = {**said, "prevalence": np.full(is_target.size, is_target.mean())}
    return {
        name: reliability(column, is_target, judged.groups, n_boot=n_boot, seed=seed, level=level)
        for name, column in columns.items()
    }


def _row(
    key: str,
    line: _Line,
    found: Localization,
    worth: Mapping[str, Reliability],
    fit_seconds: Mapping[str, float],
    map_seconds: float,
) -> EvaluationRow:
    """Return the row of a method or of one map of a head."""
    return EvaluationRow(
        key=key,
        method=line.name,
        map=line.method.map,
        localization=found.rows[key],
        difference=found.difference(next(iter(found.rows)), key),
        reliability=worth.get(line.name),
        is_best=line.is_best,
        n_parameters=line.method.n_parameters,
        fit_seconds=fit_seconds.get(line.name, math.nan),
        map_seconds=map_seconds,
    )


def _reference_row(name: str, found: Localization, worth: Mapping[str, Reliability]) -> EvaluationRow:
    """Return the row *constant*, *random* or *prevalence*."""
    difference = found.difference(next(iter(found.rows)), name)
    return EvaluationRow(name, name, "", found.rows[name], difference, worth.get(name))
