"""How well maps find the truth over many data, beside what a map without any knowledge would reach.

Means are over *counted* data: those with at least one positive and one negative token, usually the positive data.
Pooled measures rank the tokens of several data together, which asks that scores be comparable between data. Every
table brings along the rows *constant* (the same score everywhere), *random* and *prevalence*.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.bootstrap import (
    Interval,
    bootstrap_means,
    group_codes,
    paired_difference,
    percentile_intervals,
    resample,
)
from napari_prospector.core.measures import (
    ThresholdMeasures,
    at_threshold,
    auprc_trapezoid,
    auroc,
    average_precision,
    checked,
    dice,
    expected_average_precision,
    is_constant,
    rescaled,
)
from napari_prospector.core.regions import RegionStatistics, dispersion, known_truth, prevalence, region_statistics
from napari_prospector.errors import InvalidInputError, MismatchError, UnknownNameError

__all__ = [
    "AREAS",
    "REFERENCE_ROWS",
    "Interval",
    "Localization",
    "LocalizationRow",
    "RegionStatistics",
    "ThresholdMeasures",
    "at_threshold",
    "auprc_trapezoid",
    "auroc",
    "average_precision",
    "bootstrap_means",
    "dice",
    "dispersion",
    "expected_average_precision",
    "is_constant",
    "localization",
    "paired_difference",
    "pooled_areas",
    "prevalence",
    "region_statistics",
    "rescaled",
]

AREAS = ("ap", "auroc", "auprc")
REFERENCE_ROWS = ("constant", "random", "prevalence")

_TOKENS_OF_DRAWS = 200_000  # random maps are drawn until about so many tokens were scored
_MOST_DRAWS = 64


@dataclass(frozen=True)
class LocalizationRow:
    """The measures of one kind of map.

    Attributes
    ----------
    table
        Shape (n_data, n_measures); NaN for data that are not counted.
    mean
        Measure → mean over counted data, with its bootstrap interval.
    pooled
        "ap", "auroc", "auprc" of all tokens of the counted data together.
    pooled_all
        The same with the tokens of all data whose truth is known, negative data included.
    share_constant
        Share of the counted data on which the map is constant; NaN without counted data.
    """

    table: NDArray[np.float64]
    mean: dict[str, Interval]
    pooled: dict[str, Interval]
    pooled_all: dict[str, Interval]
    share_constant: float


@dataclass(frozen=True, eq=False)
class Localization:
    """Maps against truths: per datum, as means with intervals, pooled, and beside the three reference rows.

    Attributes
    ----------
    measures
        Names of the columns of every row's table: "ap", "auroc", "auprc", then for each cut c "precision@c",
        "recall@c", "dice@c", "mcc@c", "balanced_accuracy@c", "specificity@c", where c is a share of the map's range,
        or "...>c" where it is a score.
    rows
        Name → measures; the maps first, then "constant", "random" and "prevalence". The last is the share of positive
        tokens, given as "ap" and "auprc" and NaN elsewhere.
    prevalence
        Shape (n_data,), share of positive tokens; NaN where no truth is known.
    n_tokens
        Shape (n_data,), tokens with a known truth.
    counted
        Shape (n_data,), whether the datum takes part in the means.
    n_groups
        Groups (patients) among the counted data: what the intervals rest on.
    groups
        Shape (n_data,), the number of each datum's group.
    """

    measures: tuple[str, ...]
    rows: dict[str, LocalizationRow]
    prevalence: NDArray[np.float64]
    n_tokens: NDArray[np.int64]
    counted: NDArray[np.bool_]
    n_groups: int
    groups: NDArray[np.int64]
    _bootstrap: tuple[int, int, float] = field(repr=False)

    @property
    def n_counted(self) -> int:
        """Number of data that take part in the means."""
        return int(self.counted.sum())

    def column(self, row: str, measure: str = "ap") -> NDArray[np.float64]:
        """Return one measure of one row for every datum, (n_data,); NaN for data that are not counted."""
        if row not in self.rows:
            raise UnknownNameError(f"Row {row!r} is unknown; there are {', '.join(map(repr, self.rows))}.")
        if measure not in self.measures:
            raise UnknownNameError(f"Measure {measure!r} is unknown; there are {', '.join(map(repr, self.measures))}.")
        return self.rows[row].table[:, self.measures.index(measure)]

    def mean_over(self, members: ArrayLike, row: str, measure: str = "ap") -> Interval:
        """Return the mean of a measure over those counted data that are True in `members` (n_data,)."""
        chosen = np.asarray(members, dtype=bool)
        column = self.column(row, measure)[chosen, None]
        return bootstrap_means(column, self.groups[chosen].tolist(), *self._bootstrap)[0]

    def difference(self, row: str, other: str, measure: str = "ap") -> Interval:
        """Return the mean of `row` - `other` over the counted data, with its paired bootstrap interval."""
        return paired_difference(
            self.column(row, measure), self.column(other, measure), self.groups.tolist(), *self._bootstrap
        )

    def differences(self, measure: str = "ap") -> dict[tuple[str, str], Interval]:
        """Return `difference` for every pair of rows, (earlier, later)."""
        pairs = list(itertools.combinations(self.rows, 2))
        table = np.column_stack([self.column(row, measure) - self.column(other, measure) for row, other in pairs])
        return dict(zip(pairs, bootstrap_means(table, self.groups.tolist(), *self._bootstrap), strict=True))


def localization(
    maps: Sequence[ArrayLike] | Mapping[str, Sequence[ArrayLike]],
    truths: Sequence[ArrayLike | None],
    groups: Sequence[object] | None = None,
    thresholds: Sequence[float] = (0.1, 0.5, 0.9),
    score_thresholds: Sequence[float] = (0.0,),
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Localization:
    """Measure how well maps find the truth.

    Parameters
    ----------
    maps
        Scores of each datum, each (n_tokens,); or several such sequences by name, to be compared on the same data.
        A single sequence becomes the row "map".
    truths
        Truth of each datum, (n_tokens,): 1 or True positive, 0 or False negative, -1 unknown; None: all unknown.
    groups
        The group (patient) of each datum: the bootstrap draws groups. None: it draws data.
    thresholds
        Where to cut maps for Dice and the like, as shares of each map's own range, between 0 and 1.
    score_thresholds
        The same as scores.
    n_boot, seed, level
        Bootstrap replicates, the seed of replicates and random maps, share of the replicates inside an interval.

    Returns
    -------
    Localization

    Raises
    ------
    MismatchError
        Numbers of data or of tokens differ.
    InvalidInputError
        A score is not finite, or a truth is none of -1, 0, 1.

    Examples
    --------
    >>> found = localization([[0.9, 0.2, 0.1], [0.3, 0.8, 0.5]], [[1, 0, 0], [0, 1, 1]])
    >>> found.rows["map"].mean["ap"].value, round(found.rows["constant"].mean["ap"].value, 3)
    (1.0, 0.5)
    """
    named = dict(maps) if isinstance(maps, Mapping) else {"map": maps}
    _check_maps(named, truths)
    shares = tuple(float(c) for c in thresholds)
    if not all(0 <= c <= 1 for c in shares):
        raise InvalidInputError(f"thresholds are shares of a map's range, between 0 and 1; got {shares}.")
    cuts = _Cuts(shares, tuple(float(c) for c in score_thresholds))
    marks = [known_truth(truth) if truth is not None else np.zeros(0, np.int8) for truth in truths]
    codes = group_codes(groups, len(marks))
    trial = _Trial(cuts, marks, codes, n_boot, seed, level)
    rows = {name: trial.row(scores) for name, scores in named.items()}
    rows |= trial.reference_rows()
    return Localization(
        measures=cuts.measures,
        rows=rows,
        prevalence=np.array([prevalence(mark) for mark in marks]),
        n_tokens=np.array([int(np.sum(mark >= 0)) for mark in marks], dtype=np.int64),
        counted=trial.counted,
        n_groups=int(np.unique(codes[trial.counted]).size),
        groups=codes,
        _bootstrap=(n_boot, seed, level),
    )


def _check_maps(named: Mapping[str, Sequence[ArrayLike]], truths: Sequence[ArrayLike | None]) -> None:
    """Refuse maps that are not one for each datum, and names that the reference rows have."""
    if taken := sorted(set(named) & set(REFERENCE_ROWS)):
        raise InvalidInputError(
            f"maps must not be called like a reference row; got {taken[0]!r}. Give it another name."
        )
    for name, scores in named.items():
        if len(scores) != len(truths):
            raise MismatchError(
                f"There must be one map for each of {len(truths)} truths; {name!r} has {len(scores)}."
                " Pass None as the truth of a datum that has none."
            )


@dataclass(frozen=True)
class _Cuts:
    """Where maps are cut: at shares of their range, and at scores."""

    shares: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what `measure` returns, in order."""
        marks = [f"@{share:g}" for share in self.shares] + [f">{score:g}" for score in self.scores]
        return AREAS + tuple(f"{name}{mark}" for mark in marks for name in ThresholdMeasures._fields)

    def measure(self, scores: ArrayLike, truth: NDArray[np.int8]) -> list[float]:
        """Return every measure of one map."""
        values: list[float] = [average_precision(scores, truth), auroc(scores, truth), auprc_trapezoid(scores, truth)]
        stretched = rescaled(scores)
        for share in self.shares:
            values.extend(at_threshold(stretched, truth, share))
        for score in self.scores:
            values.extend(at_threshold(scores, truth, score))
        return values


@dataclass(frozen=True)
class _Trial:
    """The truths that maps are held against, and how intervals are drawn."""

    cuts: _Cuts
    truths: list[NDArray[np.int8]]
    codes: NDArray[np.int64]
    n_boot: int
    seed: int
    level: float

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which data have both a positive and a negative token, (n_data,)."""
        return np.array([bool(np.any(t == 1) and np.any(t == 0)) for t in self.truths], dtype=bool)

    def row(self, maps: Iterable[ArrayLike]) -> LocalizationRow:
        """Measure the maps of all data."""
        scores = list(maps)
        table = self._table(scores)
        pooled = self._pooled(scores, self.counted, self.n_boot)
        flat = [is_constant(s) for s, counts in zip(scores, self.counted, strict=True) if counts]
        return LocalizationRow(
            table=table,
            mean=self._means(table),
            pooled=pooled,
            pooled_all=self._pooled(scores, self._known, self.n_boot)
            if (self._known != self.counted).any()
            else pooled,
            share_constant=float(np.mean(flat)) if flat else math.nan,
        )

    def reference_rows(self) -> dict[str, LocalizationRow]:
        """Return the rows of maps that know nothing, in the order of `REFERENCE_ROWS`."""
        constant = self.row([np.zeros(truth.size) for truth in self.truths])
        return {"constant": constant, "random": self._random_row(), "prevalence": self._prevalence_row()}

    def _random_row(self) -> LocalizationRow:
        """Average random maps, uniform between -1 and 1, until chance has been averaged away."""
        total = sum(truth.size for truth in self.truths)
        n_draws = min(max(_TOKENS_OF_DRAWS // max(total, 1), 2), _MOST_DRAWS)
        drawn = list(self._random_maps(n_draws))
        table = np.mean([self._table(maps) for maps in drawn], axis=0)
        pools = [[self._pooled(maps, which, 0) for maps in drawn] for which in (self.counted, self._known)]
        pooled = [
            {area: Interval(float(np.mean([p[area].value for p in pool])), math.nan, math.nan) for area in AREAS}
            for pool in pools
        ]
        return LocalizationRow(table, self._means(table), pooled[0], pooled[1], 0.0 if self.counted.any() else math.nan)

    def _random_maps(self, n_draws: int) -> Iterator[list[NDArray[np.float64]]]:
        """Yield `n_draws` times one random map for each datum."""
        generator = np.random.default_rng([self.seed, 1])
        for _ in range(n_draws):
            yield [generator.uniform(-1, 1, truth.size) for truth in self.truths]

    def _prevalence_row(self) -> LocalizationRow:
        """Return the share of positive tokens as AP and AUPRC, NaN elsewhere."""
        table = np.full((len(self.truths), len(self.cuts.measures)), math.nan)
        shares = np.array([prevalence(truth) for truth in self.truths])
        for area in ("ap", "auprc"):
            table[self.counted, self.cuts.measures.index(area)] = shares[self.counted]
        pooled = []
        for which in (self.counted, self._known):
            tokens = [t[t >= 0] for t, takes_part in zip(self.truths, which, strict=True) if takes_part]
            share = prevalence(np.concatenate(tokens)) if tokens else math.nan
            values = {"ap": share, "auroc": math.nan, "auprc": share}
            pooled.append({area: Interval(values[area], math.nan, math.nan) for area in AREAS})
        return LocalizationRow(table, self._means(table), pooled[0], pooled[1], math.nan)

    def _table(self, maps: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Measure the map of each counted datum, (n_data, n_measures); NaN for the others."""
        table = np.full((len(self.truths), len(self.cuts.measures)), math.nan)
        for i in np.flatnonzero(self.counted).tolist():
            table[i] = self.cuts.measure(maps[i], self.truths[i])
        return table

    @property
    def _known(self) -> NDArray[np.bool_]:
        """Which data have any token of known truth, (n_data,)."""
        return np.array([bool(np.any(truth >= 0)) for truth in self.truths], dtype=bool)

    def _means(self, table: NDArray[np.float64]) -> dict[str, Interval]:
        """Return the mean of every column of table (n_data, n_measures)."""
        intervals = bootstrap_means(table, self.codes.tolist(), self.n_boot, self.seed, self.level)
        return dict(zip(self.cuts.measures, intervals, strict=True))

    def _pooled(self, maps: Sequence[ArrayLike], which: NDArray[np.bool_], n_boot: int) -> dict[str, Interval]:
        """Measure all tokens of the data in `which` (n_data,) together."""
        chosen = np.flatnonzero(which).tolist()
        parts = [checked(maps[i], self.truths[i]) for i in chosen]
        if not parts:
            return {area: Interval(math.nan, math.nan, math.nan) for area in AREAS}
        scores, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
        datum = np.repeat(np.arange(len(chosen)), [part[0].size for part in parts])
        value = pooled_areas(scores, truth, datum, np.ones((1, len(chosen))))[0]
        enough = np.unique(self.codes[chosen]).size > 1
        weights = resample(self.codes[chosen], n_boot if enough else 0, self.seed)
        replicates = pooled_areas(scores, truth, datum, weights)
        return dict(zip(AREAS, percentile_intervals(value, replicates, self.level), strict=True))


def pooled_areas(scores: ArrayLike, truth: ArrayLike, datum: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Return AP, AUROC and trapezoidal AUPRC of pooled tokens, once for every weighting of the data.

    The tokens are sorted once; a bootstrap replicate is one pass over them.

    Parameters
    ----------
    scores
        Shape (n_tokens,), finite.
    truth
        Shape (n_tokens,), bool.
    datum
        Shape (n_tokens,), row number of the token's datum in `weights`.
    weights
        Shape (n_boot, n_data), how often each datum counts, not negative.

    Returns
    -------
    NDArray[np.float64]
        Shape (n_boot, 3); NaN where a measure is not defined.
    """
    values, weight = np.asarray(scores, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    is_start = np.diff(values[order], prepend=np.inf) != 0
    rank = np.cumsum(is_start, dtype=np.int64) - 1
    n_data = weight.shape[1]
    key = (rank * n_data + np.asarray(datum, dtype=np.int64)[order]) * 2 + np.asarray(truth, dtype=np.int64)[order]
    if 2 * n_data * int(is_start.sum()) < values.size:  # many ties: tokens that no weighting can part are one entry
        key, count = np.unique(key, return_counts=True)
    else:
        count = np.ones(key.size, dtype=np.int64)
    rank, place = np.divmod(key, 2 * n_data)
    is_end = np.append(np.diff(rank) != 0, True)[: key.size]
    areas = _weighted_areas(place % 2 == 1, place // 2, count.astype(np.float64), is_end, weight)
    return np.asarray(areas)


@numba.njit(nogil=True, cache=True)
def _weighted_areas(
    truth: NDArray[np.bool_],
    datum: NDArray[np.int64],
    count: NDArray[np.float64],
    is_end: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (n_boot, 3) areas of entries (n_entries,) from the highest score down; is_end closes a tie."""
    areas = np.full((weights.shape[0], 3), np.nan)
    for replicate in range(weights.shape[0]):
        hits = alarms = hits_before = alarms_before = ap = rank = trapezoid = 0.0
        for i in range(truth.size):
            weight = weights[replicate, datum[i]] * count[i]
            if truth[i]:
                hits += weight
            else:
                alarms += weight
            if is_end[i]:
                if hits > hits_before:
                    before = hits_before + alarms_before
                    precision = hits / (hits + alarms)
                    precision_before = hits_before / before if before > 0 else 1.0
                    ap += (hits - hits_before) * precision
                    trapezoid += (hits - hits_before) * (precision + precision_before) / 2
                rank += (alarms - alarms_before) * (hits + hits_before) / 2
                hits_before, alarms_before = hits, alarms
        if hits > 0:
            areas[replicate, 0], areas[replicate, 2] = ap / hits, trapezoid / hits
            if alarms > 0:
                areas[replicate, 1] = rank / (hits * alarms)
    return areas
