"""What `ProspectorHead.fit` chooses when it is not told: concepts, radius and kernel, and the map to show.

Everything is judged out of fold by excess correlation (`criterion`), from labels of data alone. First the number of
concepts and the radius are chosen with the fold-change kernel, then the kernel, then the map.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.bootstrap import Interval
from napari_prospector.core.concepts import ConceptQuantizer, assign_all
from napari_prospector.core.criterion import Jury
from napari_prospector.core.crossfit import FitSettings, TrainingSet, count_tables
from napari_prospector.core.each import each
from napari_prospector.core.graph import TokenGraph, convolve
from napari_prospector.core.kernels import KERNELS, fit_kernel
from napari_prospector.errors import ProspectorWarning

__all__ = [
    "DEFAULTS",
    "OPTIONS",
    "OnTried",
    "Selection",
    "Tried",
    "affordable_concepts",
    "choose_kernel",
    "choose_map",
    "is_informative",
    "make_juries",
]

OPTIONS: dict[str, tuple[Any, ...]] = {"n_concepts": (10, 20, 30), "radius": (0, 1, 2), "kernel": KERNELS}
DEFAULTS: dict[str, Any] = {"n_concepts": 30, "radius": 1, "kernel": "fold-change"}
"""What is taken where nothing can be judged: chosen on mosaics of serrated and low-grade tissue."""

_MOST_JUDGED = 200  # data; more of them would change a choice of three by three settings no more
_TOKENS_PER_CONCEPT = 4
_FEW_GROUPS = 10  # below, what is said of uncertainty is itself uncertain
_MARGIN = 1.5  # of the refined map's excess: what another map must have to be shown in its place
_QUICK = {"n_init": 1, "minibatch_above": 4000}  # while settings are compared; what is chosen is clustered with care

_MEASURES = {
    "excess": "agreement with a read-out of single tokens (beyond that in other data; no upper bound)",
    "separation": "separation of tokens (AUROC less 0.5)",
}

Candidate = tuple[int, int, str]


@dataclass(frozen=True)
class Tried:
    """One map that was judged.

    Attributes
    ----------
    map, n_concepts, radius, kernel
        What drew it.
    excess, excess_low, excess_high
        Excess correlation with 95 % interval over groups: agreement with the judge within positive data, beyond that
        within negative data. Up to a factor that all maps share, the correlation with the unseen truth.
    behind, behind_low, behind_high
        How much less than that of the chosen one, with paired interval; 0 for the chosen one.
    separation, separation_low, separation_high
        AUROC of tokens of positive against tokens of negative data, less 0.5.
    """

    map: str
    n_concepts: int
    radius: int
    kernel: str
    excess: float
    excess_low: float
    excess_high: float
    behind: float
    behind_low: float
    behind_high: float
    separation: float
    separation_low: float
    separation_high: float

    @property
    def is_near(self) -> bool:
        """Whether the data do not tell this one from the chosen one."""
        return not (self.behind_low > 0 or self.behind_high < 0)


OnTried = Callable[[tuple[Tried, ...]], None]
"""Told all that was tried so far, best first."""


@dataclass(frozen=True)
class Selection:
    """What was tried, and what was chosen.

    Attributes
    ----------
    kernels
        Evidence maps by their settings, best first; empty where the settings were given or nothing could be judged.
    maps
        The maps of the head that was fitted, best first; empty where nothing could be judged.
    criterion
        ``"excess"``; ``"separation"`` where single tokens do not tell the class, or all of them are of it;
        ``"none"`` where nothing could be held out; ``"given"`` where there was nothing to choose.
    n_data, n_groups
        What the intervals rest on.
    """

    kernels: tuple[Tried, ...]
    maps: tuple[Tried, ...]
    criterion: str
    n_data: int
    n_groups: int

    def rows(self) -> list[dict[str, Any]]:
        """Return all that was tried as plain dictionaries: kernels, then maps, best first."""
        return [asdict(tried) for tried in (*self.kernels, *self.maps)]

    def sentence(self) -> str:
        """Say what was chosen, why, and how sure that is."""
        if self.criterion == "given":
            return "Nothing was chosen: the settings were given."
        if not self.maps and not self.kernels:
            why = "Nothing could be held out" if self.criterion == "none" else "The head was not refined"
            return f"{why}, so the evidence map is shown, of default settings where none were given."
        best = (self.maps or self.kernels)[0]
        settings = f"{best.n_concepts} concepts, radius {best.radius}, {best.kernel} kernel"
        chosen = f"{settings} and the {best.map} map" if self.kernels else f"the {best.map} map of {settings}"
        start = self.criterion
        value, low, high = (getattr(best, start + end) for end in ("", "_low", "_high"))
        text = f"Chose {chosen}"
        if start == "excess" and best.map == "refined":
            text += ", which another map must clearly beat to be shown"
        text += f"; out of fold, {_MEASURES[start]} is {value:.3f}{_bounds(low, high)}"
        others = [
            f"{other.map} {getattr(other, start):.3f}" + (" (not told apart)" if other.is_near else "")
            for other in self.maps[1:]
        ]
        text += f"; {', '.join(others)}." if others else "."
        near = sum(other.is_near for other in self.kernels[1:])
        if self.kernels:
            text += f" {near} of {len(self.kernels) - 1} other kernels cannot be told from the chosen one."
        if self.criterion == "separation":
            text += (
                " Embeddings alone do not tell which tokens of positive data are of the class (they do not tell the "
                "class, or all tokens are of it), so maps were compared by how well they tell tokens of positive data "
                "from tokens of negative data; that cannot see whether a map spills over."
            )
        some = f" (kernels on {_MOST_JUDGED} of them)" if self.kernels and self.n_data > _MOST_JUDGED else ""
        text += f" All of it from labels of {self.n_data} data of {self.n_groups} groups{some}."
        if self.n_groups < _FEW_GROUPS:
            text += " So few groups make intervals too narrow and choices little better than defaults."
        return text


def _bounds(low: float, high: float) -> str:
    """Write an interval; say where there is none."""
    return f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) else " (too few groups for an interval)"


def make_juries(training: TrainingSet, judges: Sequence[NDArray[np.float64]]) -> list[Jury]:
    """Make one jury for each target from out-of-fold scores (n_sampled,) of its judge."""
    return [
        Jury(judge, training.sample.owner, training.labels == target, training.folds, training.groups)
        for judge, target in zip(judges, training.targets, strict=True)
    ]


def is_informative(juries: Sequence[Jury]) -> bool:
    """Tell whether judges find some tokens of positive data: better than chance, by intervals over groups.

    Either in the mean rank of tokens, or in how far some tokens of positive data stand out, which shows where positive
    tokens are too few to move the mean. Where all tokens of positive data are positive there is no truth to vary with:
    a judge then varies less in positive data than in negative data, and excess correlation would reward noise.
    """
    ranks = [jury.interval(jury.separation(jury.judge)).low for jury in juries]
    stands_out = [jury.interval(jury.excess(jury.judge)) for jury in juries]
    if not juries or np.mean([found.high for found in stands_out]) < 0:
        return False
    return bool(np.mean(ranks) > 0 or np.mean([found.low for found in stands_out]) > 0)


def choose_kernel(
    training: TrainingSet,
    settings: FitSettings,
    options: dict[str, tuple[Any, ...]],
    juries: Sequence[Jury],
    on_tried: OnTried | None = None,
) -> tuple[FitSettings, tuple[Tried, ...]]:
    """Choose concepts, radius and kernel of the evidence map.

    Parameters
    ----------
    training
        At least two folds.
    settings
        Everything that is not chosen.
    options
        Values to try of ``n_concepts``, ``radius`` and ``kernel``.
    juries
        One for each target.
    on_tried
        Told what was tried so far, each time that there is more.

    Returns
    -------
    FitSettings
        With the best values.
    tuple[Tried, ...]
        All that were tried, best first.
    """
    few, juries = _few(training, juries)
    sizes = affordable_concepts(few, options["n_concepts"], settings.quantizer["max_sample"])
    grid = [(k, r, options["kernel"][0]) for k, r in itertools.product(sizes, options["radius"])]
    scores = _held_out_scores(few, settings, grid)
    best = max(grid, key=lambda candidate: _excess(scores[candidate], juries))
    if on_tried is not None:
        on_tried(judged({("evidence", *c): s for c, s in scores.items()}, juries, ("evidence", *best)))
    if len(options["kernel"]) > 1:
        more = [(*best[:2], kernel) for kernel in options["kernel"][1:]]
        scores |= _held_out_scores(few, settings, more)
        best = max([best, *more], key=lambda candidate: _excess(scores[candidate], juries))
    tried = judged({("evidence", *c): s for c, s in scores.items()}, juries, ("evidence", *best))
    if on_tried is not None:
        on_tried(tried)
    return _with(settings, best), tried


def choose_map(
    maps: dict[str, NDArray[np.float64]], settings: FitSettings, juries: Sequence[Jury], criterion: str
) -> tuple[Tried, ...]:
    """Judge the maps of one head; scores have shape (n_targets, n_sampled).

    By excess correlation the refined map is shown unless another has half as much again, and more by its paired
    interval: the best of ten kernels looks better than it is, and a map of few hot spots correlates well but misses
    the rest. (On mosaics of other tasks than those of the README, mean AP .74 where the larger excess won, .78 with a
    quarter more, .79 with half, as with the refined map always.) By separation the best is shown.

    Returns
    -------
    tuple[Tried, ...]
        The chosen one first.
    """
    concepts, kernel = settings.quantizer["n_concepts"], settings.kernels["kernel"]
    scores = {(name, concepts, settings.radius, kernel): values for name, values in maps.items()}
    refined = next(key for key in scores if key[0] == "refined")
    tried = judged(scores, juries, refined, criterion)
    if criterion == "excess":
        enough = _MARGIN * max(tried[0].excess, 0.0)
        better = [row for row in tried if row.behind_high < 0 and row.excess > enough]
    else:
        better = [row for row in tried if row.behind < 0]
    if not better:
        return tried
    best = min(better, key=lambda row: row.behind)
    return judged(scores, juries, next(key for key in scores if key[0] == best.map), criterion)


def judged(
    scores: dict[tuple[str, int, int, str], NDArray[np.float64]],
    juries: Sequence[Jury],
    chosen: tuple[str, int, int, str],
    criterion: str = "excess",
) -> tuple[Tried, ...]:
    """Measure every map; the chosen one first, then by the criterion."""
    excess = {key: [j.excess(s) for j, s in zip(juries, values, strict=True)] for key, values in scores.items()}
    apart = {key: [j.separation(s) for j, s in zip(juries, values, strict=True)] for key, values in scores.items()}
    compared = excess if criterion == "excess" else apart
    rows = []
    for key in scores:
        behind = [a - b for a, b in zip(compared[chosen], compared[key], strict=True)]
        measures = [_mean_interval(juries, terms) for terms in (excess[key], behind, apart[key])]
        rows.append(Tried(*key, *measures[0], *measures[1], *measures[2]))
    start = "excess" if criterion == "excess" else "separation"
    is_chosen = {(row.map, row.n_concepts, row.radius, row.kernel): row for row in rows}[chosen]
    return (is_chosen, *sorted((row for row in rows if row is not is_chosen), key=lambda row: -getattr(row, start)))


def _mean_interval(juries: Sequence[Jury], terms: Sequence[NDArray[np.float64]]) -> Interval:
    """Average the intervals of terms over targets."""
    found = [jury.interval(own) for jury, own in zip(juries, terms, strict=True)]
    return Interval(*(float(np.mean(ends)) for ends in zip(*found, strict=True)))


def _excess(scores: NDArray[np.float64], juries: Sequence[Jury]) -> float:
    """Return the excess correlation of a map (n_targets, n_sampled), averaged over targets."""
    return float(np.mean([jury.difference(jury.excess(own)) for jury, own in zip(juries, scores, strict=True)]))


def _with(settings: FitSettings, candidate: Candidate) -> FitSettings:
    """Return settings with the values of a candidate."""
    n_concepts, radius, kernel = candidate
    quantizer = {**settings.quantizer, "n_concepts": n_concepts}
    return replace(settings, radius=radius, quantizer=quantizer, kernels={**settings.kernels, "kernel": kernel})


def affordable_concepts(training: TrainingSet, options: tuple[int, ...], max_sample: int) -> tuple[int, ...]:
    """Leave out numbers of concepts that the tokens of some fold could not fill; one is given and stays.

    Where none of several is left, as many concepts are tried as the tokens fill.
    """
    if len(options) == 1:
        return options
    fewest = min(max_sample, *(int(keep[training.sample.owner].sum()) for keep in training.kept))
    filled = fewest // _TOKENS_PER_CONCEPT
    return tuple(k for k in options if k <= filled) or (max(min(2, fewest), min(filled, *options)),)


def _few(training: TrainingSet, juries: Sequence[Jury]) -> tuple[TrainingSet, list[Jury]]:
    """Return at most `_MOST_JUDGED` data, classes as even as they come, with their juries."""
    if len(training.labels) <= _MOST_JUDGED:
        return training, list(juries)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(training.labels))
    place = np.empty(len(order), dtype=np.int64)
    for label in np.unique(training.labels):
        own = order[training.labels[order] == label]
        place[own] = np.arange(len(own))
    chosen = np.sort(order[np.argsort(place[order], kind="stable")[:_MOST_JUDGED]])
    inside = np.isin(training.sample.owner, chosen)
    few = training.only(chosen)
    return few, make_juries(few, [jury.judge[inside] for jury in juries])


def _held_out_scores(
    training: TrainingSet, settings: FitSettings, candidates: Sequence[Candidate]
) -> dict[Candidate, NDArray[np.float64]]:
    """Return evidence (n_targets, n_sampled) of every candidate, each datum by kernels that have not seen it."""
    sample, sizes = training.sample, sorted({n_concepts for n_concepts, _, _ in candidates})
    radii = sorted({radius for _, radius, _ in candidates})
    wanted = list(itertools.product(range(training.n_folds), sizes))
    quantizers = []
    for fold, n_concepts in wanted:
        trial = {**settings.quantizer, "n_concepts": n_concepts, **_QUICK}
        with warnings.catch_warnings():
            # nobody has asked for this number; where it is chosen, the fit that counts says what it lacks
            warnings.simplefilter("ignore", ProspectorWarning)
            quantizers.append(sample.fit_quantizer(trial, training.folds != fold))
        training.tell("find concepts", len(quantizers), len(wanted))
    tables = count_tables(training.graphs, quantizers, radii, training.report)
    kernels: dict[tuple[int, Candidate], list[NDArray[np.float64]]] = {}
    for (number, (fold, size)), candidate in itertools.product(enumerate(wanted), candidates):
        if candidate[0] == size:
            counts = tables[number, candidate[1]]
            kernels[fold, candidate] = _fold_kernels(training, fold, counts, candidate, settings, quantizers[number])
    found = {candidate: np.empty((len(training.targets), len(sample.owner))) for candidate in candidates}
    per_fold = [
        (
            quantizers[fold * len(sizes) : (fold + 1) * len(sizes)],
            {candidate: kernels[fold, candidate] for candidate in candidates},
        )
        for fold in range(training.n_folds)
    ]
    passed = each(
        training.graphs,
        _evidence_of,
        (sizes, per_fold),
        lambda datum: (int(training.folds[datum]), sample.places[sample.of_datum(datum)]),
        stage="compare kernels",
        report=training.report,
    )
    for datum, scores in passed:
        for candidate, values in scores.items():
            found[candidate][:, sample.of_datum(datum)] = values
    return found


def _evidence_of(
    graph: TokenGraph,
    sizes: Sequence[int],
    per_fold: Sequence[tuple[Sequence[ConceptQuantizer], dict[Candidate, list[NDArray[np.float64]]]]],
    fold: int,
    places: NDArray[np.int64],
) -> dict[Candidate, NDArray[np.float64]]:
    """Return evidence (n_targets, n_places) of every candidate in one datum; each fold has a quantizer of each size."""
    quantizers, kernels = per_fold[fold]
    concepts = dict(zip(sizes, assign_all(quantizers, graph.embeddings), strict=True))
    return {
        candidate: np.stack([convolve(graph, concepts[candidate[0]], kernel, candidate[1])[places] for kernel in own])
        for candidate, own in kernels.items()
    }


def _fold_kernels(
    training: TrainingSet,
    fold: int,
    counts: NDArray[np.int64],
    candidate: Candidate,
    settings: FitSettings,
    quantizer: Any,
) -> list[NDArray[np.float64]]:
    """Fit the evidence kernel of every target without a fold."""
    keep, keywords = training.folds != fold, {name: settings.kernels[name] for name in ("alpha", "tau", "l1_ratio")}
    return [
        fit_kernel(
            counts[keep],
            (training.labels[keep] == target).astype(np.int64),
            candidate[2],
            n_concepts=quantizer.n_concepts_,
            **keywords,
        )
        for target in training.targets
    ]
