"""The baselines by the names that a command line knows them by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from napari_prospector.core.crossfit import Report
from napari_prospector.core.graph import TokenGraph
from napari_prospector.errors import UnknownNameError
from napari_prospector.study.baselines.meanpooled import MeanPooledLogistic
from napari_prospector.study.baselines.method import Method
from napari_prospector.study.baselines.oneclass import OneClassNovelty
from napari_prospector.study.baselines.uninformed import ConstantMap, RandomMap

__all__ = ["BASELINES", "FAST", "Baseline", "fit_baselines"]


@dataclass(frozen=True)
class Baseline:
    """A method that is taught by labels of data, before it is fitted.

    Attributes
    ----------
    make
        Takes the class to find and a seed; returns the method, not fitted.
    about
        What it is, in one sentence.
    needs
        Packages beyond the dependencies that are always there: () or ("torch",) or ("torch", "captum").
    """

    make: Callable[[Hashable, int], Method]
    about: str
    needs: tuple[str, ...] = ()


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "mean-pooled": Baseline(
            lambda target, seed: MeanPooledLogistic(target, random_state=seed),
            "Logistic regression on the mean embedding of a datum, applied to its tokens.",
        ),
        "mean-pooled-averaged": Baseline(
            lambda target, seed: MeanPooledLogistic(target, hops=1, random_state=seed),
            "The same, averaged over neighbours.",
        ),
        "one-class": Baseline(
            lambda target, seed: OneClassNovelty(target, random_state=seed),
            "How unlike the tokens of negative data a token is (one-class support vector machine).",
        ),
        "constant": Baseline(lambda target, seed: ConstantMap(), "The same score everywhere."),
        "random": Baseline(lambda target, seed: RandomMap(seed), "A random score for every token."),
    }
)
"""Every baseline by its name. The token-supervised probe is not among them: it needs regions."""

FAST = ("mean-pooled", "mean-pooled-averaged", "one-class")
"""What is fitted where nothing else is asked for: seconds, and neither torch nor captum."""


def fit_baselines(
    names: Sequence[str],
    graphs: Sequence[TokenGraph],
    labels: Sequence[Hashable],
    groups: Sequence[Hashable] | None = None,
    *,
    target: Hashable,
    random_state: int = 0,
    report: Report | None = None,
) -> dict[str, Method]:
    """Fit several baselines; those that explain one and the same model share its fit.

    Parameters
    ----------
    names
        Of `BASELINES`.
    graphs, labels, groups
        Training data, the class and the patient of each.
    target
        The class to find.
    random_state
        Seed of all of them.
    report
        Told (stage, done, total) after each.

    Returns
    -------
    dict[str, Method]
        Fitted, by name, in the order asked for.

    Raises
    ------
    UnknownNameError
        If a name is not in `BASELINES`.
    MissingExtraError
        If a baseline needs a package that is not installed.
    """
    for name in names:
        if name not in BASELINES:
            close = ", ".join(map(repr, get_close_matches(name, BASELINES))) or "none"
            raise UnknownNameError(
                f"Baseline {name!r} is unknown. Close names: {close}. All of them: {', '.join(BASELINES)}."
            )
    fitted: dict[str, Method] = {}
    for name in dict.fromkeys(names):
        fitted[name] = BASELINES[name].make(target, random_state).fit(graphs, labels, groups)
        if report is not None:
            report("fit baselines", len(fitted), len(set(names)))
    return fitted
