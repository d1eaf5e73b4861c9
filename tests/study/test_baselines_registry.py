from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest
from planted import mean_ap, planted

from napari_prospector.errors import MissingExtraError, UnknownNameError
from napari_prospector.study.baselines import BASELINES, FAST, Method, MILModel, fit_baselines

TRAINING = planted()
UNINFORMED = {"constant", "random"}
WITHOUT_NEIGHBOURS = sorted(set(BASELINES) - UNINFORMED - {"mean-pooled-averaged"})


@pytest.fixture(scope="module")
def fitted() -> dict[str, Method]:
    return fit_baselines(list(BASELINES), TRAINING.graphs, TRAINING.labels, target="tumour")


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_scores_tokens_and_data_by_one_interface(name: str, fitted: dict[str, Method]) -> None:
    method, graph = fitted[name], TRAINING.graphs[2]
    scores = method.prospect(graph)
    assert scores.shape == (33,)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, method.prospect(graph))
    probability = method.target_probability(TRAINING.graphs)
    assert probability is None or (probability.shape == (26,) and probability.min() >= 0 and probability.max() <= 1)
    assert method.n_parameters >= 0
    assert method.map


@pytest.mark.parametrize("name", WITHOUT_NEIGHBOURS)
def test_every_baseline_finds_the_one_concept_that_carries_the_class(name: str, fitted: dict[str, Method]) -> None:
    assert mean_ap(fitted[name]) > 0.8


def test_averaging_over_neighbours_blurs_single_tokens_and_still_beats_chance(fitted: dict[str, Method]) -> None:
    assert 0.25 < mean_ap(fitted["mean-pooled-averaged"]) < 0.8


@pytest.mark.parametrize("name", ["mean-pooled", "one-class", "abmil-attention", "x-mil"])
def test_data_that_were_not_seen_get_the_right_class(name: str, fitted: dict[str, Method]) -> None:
    unseen = planted(8, seed=3)
    probability = fitted[name].target_probability(unseen.graphs)
    assert probability is not None
    np.testing.assert_array_equal(probability > 0.5, [label == "tumour" for label in unseen.labels])


def test_labels_drawn_at_random_leave_every_probability_near_one_half() -> None:
    noise, unseen = planted(26, seed=5, random_labels=True), planted(8, seed=55)
    names = ["mean-pooled", "one-class", "abmil-attention", "x-mil"]
    for name, method in fit_baselines(names, noise.graphs, noise.labels, target="tumour").items():
        np.testing.assert_allclose(method.target_probability(unseen.graphs), 0.5, atol=0.15, err_msg=name)


def test_all_have_different_names_and_a_sentence_about_them(fitted: dict[str, Method]) -> None:
    assert len({method.name for method in fitted.values()}) == len(BASELINES)
    assert all(baseline.about.endswith(".") for baseline in BASELINES.values())
    assert all(re.fullmatch(r"[a-z-]+", name) for name in BASELINES)


def test_what_is_fast_needs_neither_torch_nor_captum() -> None:
    assert not [need for name in FAST for need in BASELINES[name].needs]


def test_maps_of_one_model_share_its_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[Any] = []

    def count(self: MILModel, *args: Any) -> MILModel:
        fits.append(self.architecture)
        return self

    monkeypatch.setattr(MILModel, "fit", count)
    names = ["abmil-logit", "shap", "x-mil", "grad-cam", "abmil-attention", "lime"]
    fitted = fit_baselines(names, TRAINING.graphs, TRAINING.labels, target="tumour")
    assert len(fits) == 2
    assert list(fitted) == names
    assert fitted["shap"].model is fitted["abmil-logit"].model is fitted["lime"].model  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_map_and_another_seed_another(fitted: dict[str, Method]) -> None:
    names, graph = ["one-class", "abmil-attention", "x-mil", "shap"], TRAINING.graphs[1]
    again = fit_baselines(names, TRAINING.graphs, TRAINING.labels, target="tumour")
    for name in names:
        np.testing.assert_array_equal(again[name].prospect(graph), fitted[name].prospect(graph))
    other = fit_baselines(["abmil-attention"], TRAINING.graphs, TRAINING.labels, target="tumour", random_state=5)
    assert (other["abmil-attention"].prospect(graph) != fitted["abmil-attention"].prospect(graph)).any()


def test_progress_is_told_after_each_of_them() -> None:
    told: list[tuple[str, int, int]] = []
    names = ["random", "constant", "random"]
    fit_baselines(names, TRAINING.graphs, TRAINING.labels, target="tumour", report=lambda *stage: told.append(stage))
    assert told == [("fit baselines", 1, 2), ("fit baselines", 2, 2)]


def test_an_unknown_name_is_told_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"'grad-cams' is unknown. Close names: 'grad-cam'.*All of them: mean-"):
        fit_baselines(["random", "grad-cams"], TRAINING.graphs, TRAINING.labels, target="tumour")


@pytest.mark.parametrize(
    ("name", "module", "advice"),
    [
        ("abmil-attention", "torch", "needs torch. Install it: pip install torch"),
        ("x-mil", "torch", "needs torch"),
        ("integrated-gradients", "captum", 'need captum. Install it: pip install "napari-prospector[captum]"'),
        ("shap", "captum", "need captum"),
        ("lime", "captum", "need captum"),
    ],
)
def test_what_is_not_installed_is_told_before_anything_is_fitted(
    name: str, module: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in (module, f"{module}.attr"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=re.escape(advice)):
        fit_baselines(["constant", name], TRAINING.graphs, TRAINING.labels, target="tumour")
