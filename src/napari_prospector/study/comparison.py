"""Fit the methods that a head is compared with, and keep the time that each took."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from numpy.typing import ArrayLike

from napari_prospector.core.metrics import REFERENCE_ROWS
from napari_prospector.study.baselines import BASELINES, FAST, Method, TokenProbe, fit_baselines
from napari_prospector.study.patients import LabelledGraphs

__all__ = ["CEILING", "MEAN_OF_NINE", "Rivals", "baseline_names", "fit_ceiling", "fit_rivals"]

CEILING = "ceiling, taught by regions"

MEAN_OF_NINE = 8 / 9
"""Share of the neighbours in the mean of a token and its eight neighbours on the grid."""


@dataclass(frozen=True)
class Rivals:
    """Fitted methods and the seconds that fitting took, by name; what shares a model is counted where it was fitted."""

    methods: dict[str, Method] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __or__(self, others: Rivals) -> Rivals:
        """Return these and others."""
        return Rivals(self.methods | others.methods, self.seconds | others.seconds)


def baseline_names(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Turn what a user asks for into names of baselines.

    Parameters
    ----------
    words
        Names of `BASELINES`, or "fast", "all", "none".

    Returns
    -------
    tuple of tuple of str
        What to fit, each once; and what "all" would hold but for packages that are not installed. *constant* and
        *random* are in neither: every table has rows of that name.
    """
    wanted: list[str] = []
    missing: list[str] = []
    for word in words:
        if word == "all":
            lacking = [name for name, baseline in BASELINES.items() if not all(map(find_spec, baseline.needs))]
            missing += lacking
            wanted += [name for name in BASELINES if name not in lacking]
        elif word != "none":
            wanted += FAST if word == "fast" else [word]
    return tuple(dict.fromkeys(name for name in wanted if name not in REFERENCE_ROWS)), tuple(dict.fromkeys(missing))


def fit_rivals(
    names: Sequence[str],
    learned: LabelledGraphs,
    target: Hashable,
    seed: int = 0,
    report: Callable[[str, int, int], None] | None = None,
) -> Rivals:
    """Fit baselines on training data.

    Parameters
    ----------
    names
        Of `BASELINES`.
    learned
        Training data.
    target
        The class to find.
    seed
        Of all of them.
    report
        Told (stage, done, total) after each.

    Raises
    ------
    UnknownNameError
        A name is not in `BASELINES`.
    MissingExtraError
        A baseline needs a package that is not installed.
    """
    seconds: dict[str, float] = {}
    ordered, start = list(dict.fromkeys(names)), time.perf_counter()

    def stop_watch(stage: str, done: int, total: int) -> None:
        nonlocal start
        seconds[ordered[done - 1]] = time.perf_counter() - start
        if report is not None:
            report(stage, done, total)
        start = time.perf_counter()

    fitted = fit_baselines(ordered, *learned, target=target, random_state=seed, report=stop_watch)
    return Rivals(fitted, seconds)


def fit_ceiling(
    learned: LabelledGraphs,
    truths: Sequence[ArrayLike | None],
    target: Hashable,
    seed: int = 0,
    amount: float = MEAN_OF_NINE,
) -> Rivals:
    """Fit the probe that sees regions of training data, for its maps as they are and averaged over neighbours.

    Parameters
    ----------
    learned
        Training slides.
    truths
        (n_tokens,) for each slide, or None.
    target, seed
        As in `fit_rivals`.
    amount
        Share of the neighbours in an averaged score, 0 … 1; at 0 there is no such map.

    Raises
    ------
    InvalidInputError
        No token is known to be positive, or none to be negative.
    """
    start = time.perf_counter()
    probe = TokenProbe(truths, target, random_state=seed).fit(*learned)
    seconds = time.perf_counter() - start
    both: dict[str, Method] = {CEILING: probe}
    if amount > 0:
        averaged = copy.copy(probe)
        averaged.amount = amount
        both[f"{CEILING}, averaged"] = averaged
    return Rivals(both, dict.fromkeys(both, seconds))
