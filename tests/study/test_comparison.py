from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.graph import chain_graph
from napari_prospector.errors import InvalidInputError, UnknownNameError
from napari_prospector.study import comparison
from napari_prospector.study.baselines import BASELINES, FAST
from napari_prospector.study.comparison import CEILING, Rivals, baseline_names, fit_ceiling, fit_rivals
from napari_prospector.study.patients import LabelledGraphs

N_TOKENS = 23
LABELS = ("normal", "tumour") * 7


def learned() -> LabelledGraphs:
    """Seven data of a class whose first five tokens differ, and seven others."""
    generator = np.random.default_rng(0)
    shift = np.zeros((N_TOKENS, 3))
    shift[:5, 0] = 4
    graphs = [chain_graph(generator.normal(size=(N_TOKENS, 3)) + (i % 2) * shift) for i in range(14)]
    return LabelledGraphs(graphs, LABELS, None)


def test_words_become_names_each_once_and_rows_of_every_table_are_not_fitted_again() -> None:
    assert baseline_names(["fast"]) == (FAST, ())
    assert baseline_names(["none"]) == ((), ())
    assert baseline_names(["one-class", "fast", "random"])[0] == ("one-class", "mean-pooled", "mean-pooled-averaged")


def test_all_leaves_out_what_is_not_installed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "find_spec", lambda name: None if name == "captum" else object())
    names, missing = baseline_names(["all"])
    assert set(names) | set(missing) == set(BASELINES) - {"constant", "random"}
    assert set(missing) == {name for name, baseline in BASELINES.items() if "captum" in baseline.needs}
    assert {"mean-pooled", "shap"} <= set(names) | set(missing)


def test_baselines_are_fitted_and_timed() -> None:
    told: list[tuple[str, int, int]] = []
    rivals = fit_rivals(["mean-pooled", "one-class"], learned(), "tumour", 3, lambda *step: told.append(step))
    assert list(rivals.methods) == list(rivals.seconds) == ["mean-pooled", "one-class"]
    assert min(rivals.seconds.values()) > 0
    assert [step[1:] for step in told] == [(1, 2), (2, 2)]
    with pytest.raises(UnknownNameError, match="Baseline 'nix' is unknown"):
        fit_rivals(["nix"], learned(), "tumour")


def test_the_ceiling_is_the_probe_plain_and_averaged_over_a_token_and_its_neighbours() -> None:
    truths = [np.arange(N_TOKENS) < 5 * (i % 2) for i in range(14)]
    rivals = fit_ceiling(learned(), truths, "tumour")
    plain, averaged = rivals.methods.values()
    assert list(rivals.methods) == [CEILING, f"{CEILING}, averaged"]
    graph = learned().graphs[1]
    scores = plain.prospect(graph)
    assert scores[:5].min() > scores[5:].max()
    # on a chain of reach 2 an inner token has four neighbours
    expected = scores[10] / 9 + 8 / 9 * scores[[8, 9, 11, 12]].mean()
    assert averaged.prospect(graph)[10] == pytest.approx(expected)
    assert list(fit_ceiling(learned(), truths, "tumour", amount=0).methods) == [CEILING]
    half = fit_ceiling(learned(), truths, "tumour", amount=0.5).methods[f"{CEILING}, averaged"]
    assert half.prospect(graph)[10] == pytest.approx(scores[10] / 2 + scores[[8, 9, 11, 12]].mean() / 2)
    with pytest.raises(InvalidInputError, match="truths must mark positive tokens"):
        fit_ceiling(learned(), [None] * 14, "tumour")


def test_rivals_are_joined() -> None:
    rivals = fit_rivals(["mean-pooled"], learned(), "tumour")
    assert list((Rivals() | rivals).methods) == ["mean-pooled"]
    assert (Rivals() | rivals).seconds == rivals.seconds
