"""What is said of a head, against scikit-learn and a slow bootstrap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from napari_prospector.core.bootstrap import resample
from napari_prospector.errors import InvalidInputError
from napari_prospector.study import verdict as verdict_module
from napari_prospector.study.verdict import Verdict, out_of_fold_verdict


def head(scores: np.ndarray, classes: list[str], target: str | None, brier: float | None = 0.1) -> Any:
    return SimpleNamespace(out_of_fold_scores_=scores, classes_=np.array(classes), target_=target, brier_=brier)


def test_the_auroc_is_that_of_scikit_learn_with_a_bootstrap_over_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_module, "N_BOOT", 97)
    rng = np.random.default_rng(3)
    labels = rng.choice(["normal", "tumour"], 29)
    scores = np.round(rng.normal(size=29) + (labels == "tumour"), 1)
    groups = [f"p{i}" for i in rng.integers(0, 11, 29)]
    verdict = out_of_fold_verdict(head(scores[:, None], ["normal", "tumour"], "tumour"), labels.tolist(), groups)
    assert verdict.auroc.value == pytest.approx(roc_auc_score(labels == "tumour", scores))
    order = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    codes = np.array([order[name] for name in groups])
    slow = []
    for weights in resample(codes, 97):
        chosen = np.repeat(np.arange(29), weights.astype(int))
        if len(set(labels[chosen])) == 2:
            slow.append(roc_auc_score(labels[chosen] == "tumour", scores[chosen]))
    assert (verdict.auroc.low, verdict.auroc.high) == pytest.approx(tuple(np.quantile(slow, (0.025, 0.975))))
    assert (verdict.n_data, verdict.n_groups) == (29, len(set(groups)))


def test_of_three_classes_each_is_told_from_the_rest() -> None:
    labels = ["a", "b", "c"] * 4
    scores = np.stack([np.array(labels) == name for name in "abc"], axis=1).astype(float)
    scores[:, 2] *= -1
    verdict = out_of_fold_verdict(head(scores, ["a", "b", "c"], None), labels)
    assert verdict.auroc.value == pytest.approx(2 / 3)
    assert verdict.target is None


@pytest.mark.parametrize(
    ("separation", "words"),
    [
        (0.0, "does not reliably tell 'tumour'"),
        (9.0, "that it has not seen, the head tells 'tumour' from the rest very well: AUROC 1.00"),
    ],
)
def test_the_sentence_says_how_sure_it_is(separation: float, words: str) -> None:
    labels = ["normal", "tumour"] * 20
    scores = np.random.default_rng(0).normal(size=40) + separation * (np.array(labels) == "tumour")
    sentence = out_of_fold_verdict(head(scores[:, None], ["normal", "tumour"], "tumour"), labels).sentence()
    assert words in sentence
    assert "(40 slides, 40 patients or groups)" in sentence


def test_few_groups_are_told() -> None:
    labels = ["normal", "tumour"] * 4
    verdict = out_of_fold_verdict(head(np.arange(8.0)[:, None], ["normal", "tumour"], "tumour"), labels)
    assert "That is few" in verdict.sentence()


def test_where_nothing_could_be_held_out_no_number_is_told() -> None:
    labels = ["normal", "tumour"] * 4
    seen = out_of_fold_verdict(head(np.arange(8.0)[:, None], ["normal", "tumour"], "tumour", None), labels)
    assert "Nothing could be held out of 8 slides" in seen.sentence()
    assert seen.to_card()["auroc"] == [None, None, None]
    again = Verdict.of_card(seen.to_card())
    assert again.sentence() == seen.sentence()


def test_other_labels_than_those_of_the_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one for each of 8 data that the head was fitted on; got 2"):
        out_of_fold_verdict(head(np.arange(8.0)[:, None], ["a", "b"], "a"), ["a", "b"])
