"""The baselines by the names that a command line knows them by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from napari_prospector.core.crossfit import Report
from napari_prospector.core.graph import TokenGraph
from napari_prospector.errors import UnknownNameError
from napari_prospector.study.baselines.abmil import XMIL, AttentionMIL, GradCAM
from napari_prospector.study.baselines.explainers import IntegratedGradients, Lime, ShapleySampling, import_captum
from napari_prospector.study.baselines.meanpooled import MeanPooledLogistic
from napari_prospector.study.baselines.method import Method
from napari_prospector.study.baselines.milmodel import MILModel, ModelMap
from napari_prospector.study.baselines.oneclass import OneClassNovelty
from napari_prospector.study.baselines.pooling import import_torch
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
        "abmil-attention": Baseline(
            lambda target, seed: AttentionMIL(target, "attention", seed),
            "Gated attention multiple-instance learning: its attention.",
            ("torch",),
        ),
        "abmil-logit": Baseline(
            lambda target, seed: AttentionMIL(target, "logit", seed),
            "The same model: attention times what the token says.",
            ("torch",),
        ),
        "x-mil": Baseline(
            lambda target, seed: XMIL(target, random_state=seed),
            "Mean pooling of a network without biases: input × gradient, which is integrated gradients exactly.",
            ("torch",),
        ),
        "x-mil-attention": Baseline(
            lambda target, seed: XMIL(target, "attention", seed),
            "The same with attention, weights that are a ReLU brought to a sum of 1.",
            ("torch",),
        ),
        "grad-cam": Baseline(
            lambda target, seed: GradCAM(target, random_state=seed),
            "Grad-CAM of the attention model on the grid of tokens, signed.",
            ("torch",),
        ),
        "integrated-gradients": Baseline(
            lambda target, seed: IntegratedGradients(target, random_state=seed),
            "Integrated gradients of the attention model, from the mean token of negative data.",
            ("torch", "captum"),
        ),
        "shap": Baseline(
            lambda target, seed: ShapleySampling(target, random_state=seed),
            "Shapley values of the attention model, by sampling permutations of tokens.",
            ("torch", "captum"),
        ),
        "lime": Baseline(
            lambda target, seed: Lime(target, random_state=seed),
            "LIME of the attention model: a ridge regression on which tokens are there.",
            ("torch", "captum"),
        ),
        "constant": Baseline(lambda target, seed: ConstantMap(), "The same score everywhere."),
        "random": Baseline(lambda target, seed: RandomMap(seed), "A random score for every token."),
    }
)
"""Every baseline by its name. The token-supervised probe is not among them: it needs regions."""

FAST = ("mean-pooled", "mean-pooled-averaged", "one-class")
"""What is fitted where nothing else is asked for: seconds, and neither torch nor captum."""

_IMPORTERS = {"torch": import_torch, "captum": import_captum}


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
        If a baseline needs a package that is not installed; nothing has been fitted then.
    """
    for name in names:
        if name not in BASELINES:
            close = ", ".join(map(repr, get_close_matches(name, BASELINES))) or "none"
            raise UnknownNameError(
                f"Baseline {name!r} is unknown. Close names: {close}. All of them: {', '.join(BASELINES)}."
            )
        for need in BASELINES[name].needs:
            _IMPORTERS[need]()
    fitted: dict[str, Method] = {}
    models: list[MILModel] = []
    for name in dict.fromkeys(names):
        method = BASELINES[name].make(target, random_state)
        shared = [model for model in models if isinstance(method, ModelMap) and model.settings == method.model.settings]
        if isinstance(method, ModelMap) and shared:
            method.model = shared[0]
        else:
            method.fit(graphs, labels, groups)
        if isinstance(method, ModelMap):
            models.append(method.model)
        fitted[name] = method
        if report is not None:
            report("fit baselines", len(fitted), len(set(names)))
    return fitted
