"""Mixed scanners and stains are told; what goes along with the label is found, and chance is not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from napari_prospector.errors import InvalidInputError
from napari_prospector.study import mixtures
from napari_prospector.study.mixtures import association, describe_mixtures, stain_spread
from napari_prospector.tokens.staining import REFERENCE, StainEstimate


def record(tilt: float = 0.0, hematoxylin: float = 1.0, eosin: float = 1.0, light: float = 250.0) -> dict[str, Any]:
    """What a store says of a slide whose hematoxylin is tilted towards blue."""
    vectors = np.array(REFERENCE.vectors)
    vectors[0, 2] += tilt
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strengths = [REFERENCE.strengths[0] * hematoxylin, REFERENCE.strengths[1] * eosin]
    return {
        "method": "macenko",
        "vectors": vectors.tolist(),
        "strengths": strengths,
        "light": [light] * 3,
        "problem": None,
    }


def records(n_slides: int, seed: int = 0) -> list[dict[str, Any]]:
    """Slides of one laboratory: all alike but for a little."""
    generator = np.random.default_rng(seed)
    return [record(*generator.normal([0, 1, 1, 250], [0.02, 0.05, 0.05, 1.0])) for _ in range(n_slides)]


UNKNOWN = {"method": "macenko", "vectors": None, "strengths": None, "light": None, "problem": "too pale."}


def test_one_scanner_and_one_laboratory_are_nothing_to_tell() -> None:
    labels = ["tumour", "normal"] * 10
    assert describe_mixtures(["Aperio"] * 20, records(20), {"label": labels}) == ()
    assert describe_mixtures([None] * 20, [None] * 20, {"label": labels}) == ()


def test_mixed_scanners_are_counted_the_most_frequent_first() -> None:
    scanners = ["Hamamatsu"] * 8 + ["Aperio"] * 12 + [None] * 3
    (sentence,) = describe_mixtures(scanners, [None] * 23)
    assert sentence == "Scanners are mixed: 12 slides by Aperio, 8 slides by Hamamatsu, 3 do not state theirs."
    (sentence,) = describe_mixtures(["Aperio"] * 3 + [None] * 2, [None] * 5)
    assert sentence == "Scanners may be mixed: 3 slides by Aperio, 2 do not state theirs."
    (sentence,) = describe_mixtures([f"Aperio (device {i})" for i in range(11)], [None] * 11)
    assert "1 slides by Aperio (device 3), 6 by 6 others" in sentence


def test_a_scanner_that_goes_along_with_the_label_is_told() -> None:
    scanners = ["Aperio"] * 11 + ["Hamamatsu"] * 9
    labels = ["tumour"] * 10 + ["normal"] * 10
    sentences = describe_mixtures(scanners, [None] * 20, {"label": labels, "split": ["train", "test"] * 10})
    assert len(sentences) == 2
    assert "scanner goes along with the label: by the scanner alone, 95% of the slides are told right" in sentences[1]
    assert "check with slides of one scanner" in sentences[1]


@pytest.mark.parametrize(("n_each", "is_told"), [(2, False), (3, True), (5, True)])
def test_a_scanner_that_tells_every_label_right_is_told_from_three_slides_each(n_each: int, is_told: bool) -> None:
    labels = ["a"] * n_each + ["b"] * n_each
    assert (len(describe_mixtures(labels, [None] * 2 * n_each, {"label": labels})) == 2) is is_told


def test_scanners_of_one_slide_each_do_not_go_along_with_anything() -> None:
    scanners = [f"Aperio (device {i:02x})" for i in range(14)]
    assert len(describe_mixtures(scanners, [None] * 14, {"label": ["a", "b"] * 7})) == 1


def test_a_patient_counts_once() -> None:
    # twenty slides, but two patients: nothing can be concluded
    labels = ["tumour"] * 10 + ["normal"] * 10
    stains = [record(eosin=1.5 if label == "tumour" else 1.0) for label in labels]
    assert len(describe_mixtures(labels, stains, {"label": labels})) == 3
    alone = describe_mixtures(labels, stains, {"label": labels}, groups=labels)
    assert alone == ("Scanners are mixed: 10 slides by normal, 10 slides by tumour.",)
    assert len(describe_mixtures(labels, stains, {"label": labels}, groups=[None] * 20)) == 3


def test_the_spread_of_stains_is_that_of_a_slow_loop() -> None:
    estimates = [StainEstimate.from_json(record(0.1 * i, 1 + 0.2 * i, 1 + 0.01 * i)) for i in range(7)]
    angles, ratios = stain_spread(estimates)
    for stain in range(2):
        between = [
            np.degrees(np.arccos(min(1.0, np.dot(one.vectors[stain], other.vectors[stain]))))
            for one, other in itertools.combinations(estimates, 2)
        ]
        assert angles[stain] == pytest.approx(np.percentile(between, 90), abs=1e-4)
        assert angles[stain] > 1 or stain == 1
        strengths = [one.strengths[stain] for one in estimates]
        assert ratios[stain] == pytest.approx(np.percentile(strengths, 90) / np.percentile(strengths, 10))


def test_stains_that_differ_between_slides_are_told_with_how_much() -> None:
    tilted = [record(tilt=0.5 * (i % 2), eosin=1 + 1.4 * (i % 2)) for i in range(20)]
    (sentence,) = describe_mixtures([None] * 20, tilted)
    # arccos(1.203 / 1.287), the lengths of (0.563, 0.720, 0.406) and (0.563, 0.720, 0.906) being 1 and 1.287
    assert "in one pair of slides in ten, the hue of hematoxylin is 21° apart" in sentence
    assert "eosin takes 2.4 times as strongly" in sentence
    assert "hematoxylin takes" not in sentence
    (sentence,) = describe_mixtures([None] * 20, tilted, normalized="macenko")
    assert sentence.endswith("Tiles were normalized (macenko) before embedding.")


def test_a_stain_that_goes_along_with_the_label_is_told_although_it_differs_little() -> None:
    labels = ["tumour", "normal"] * 10
    stains = [record(eosin=1.15 if label == "tumour" else 1.0 + 0.001 * i) for i, label in enumerate(labels)]
    (sentence,) = describe_mixtures([None] * 20, stains, {"label": labels})
    assert "goes along with the label: how eosin takes alone tells it with an AUROC of 1.00 (p = 0.0005)" in sentence


def test_a_stain_that_goes_along_with_the_split_tells_of_another_laboratory() -> None:
    split = ["train"] * 12 + ["test"] * 8
    stains = [record(light=250 if name == "train" else 238 + 0.1 * i) for i, name in enumerate(split)]
    (sentence,) = describe_mixtures([None] * 20, stains, {"split": split})
    assert "goes along with the split: the light alone" in sentence
    assert "Figures of the test slides then tell of slides of another stain" in sentence


def test_slides_whose_stain_is_not_known_are_counted_and_left_out() -> None:
    stains = [*records(9), UNKNOWN, None]
    assert describe_mixtures([None] * 11, stains, {"label": ["a", "b", "c"] * 3 + ["a", "b"]}) == (
        "How 2 of 11 slides are stained is not known.",
    )


@pytest.mark.parametrize("labels", [["a", "b"] * 8 + ["a"], ["a", "b", "c"] * 5 + ["a", "b"]])
def test_the_auroc_is_that_of_scikit_learn(labels: Sequence[str]) -> None:
    numbers = np.random.default_rng(3).normal(size=(17, 5)).round(1)
    found = association(numbers, labels)
    assert found is not None
    aurocs = np.array(
        [[roc_auc_score(np.array(labels) == name, numbers[:, i]) for i in range(5)] for name in sorted(set(labels))]
    )
    extremes = np.maximum(aurocs, 1 - aurocs)
    assert found.value == pytest.approx(extremes.max())
    assert extremes[:, found.which].max() == extremes.max()


def test_the_p_value_is_that_of_all_permutations() -> None:
    numbers = np.array([[1.0, 9.0], [2.0, 1.0], [3.0, 8.0], [5.0, 2.0], [4.0, 4.0], [6.0, 3.0], [7.0, 0.0]])
    labels = np.array([0, 0, 0, 1, 1, 1, 1])

    def best(order: Sequence[int]) -> float:
        aurocs = [roc_auc_score(labels[list(order)], numbers[:, i]) for i in range(2)]
        return max(max(value, 1 - value) for value in aurocs)

    # every way to choose which three of seven have label 0
    every = [best([0 if i in chosen else 3 for i in range(7)]) for chosen in itertools.combinations(range(7), 3)]
    exact = np.mean(np.array(every) >= best(range(7)) - 1e-9)
    found = association(numbers, labels.tolist())
    assert found is not None
    assert found.p_value == pytest.approx(exact, abs=0.03)


def test_random_labels_are_hardly_ever_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "_N_PERMUTATIONS", 199)
    generator = np.random.default_rng(5)
    alarms = sum(
        bool(
            describe_mixtures(
                [None] * 30, records(30, seed), {"label": generator.permutation(["a", "b", "c"] * 10).tolist()}
            )
        )
        for seed in range(100)
    )
    assert alarms <= 4


def test_too_few_data_of_a_label_say_nothing() -> None:
    assert association(np.arange(5.0)[:, None], ["a", "a", "a", "a", "b"]) is None
    assert association(np.arange(4.0)[:, None], ["a"] * 4) is None


def test_entries_must_be_one_for_each_slide() -> None:
    with pytest.raises(InvalidInputError, match="label must hold one entry for each of 3 slides; got 2"):
        describe_mixtures([None] * 3, [None] * 3, {"label": ["a", "b"]})
    with pytest.raises(InvalidInputError, match="stains must hold one entry for each of 3 slides; got 4"):
        describe_mixtures([None] * 3, [None] * 4)
    with pytest.raises(InvalidInputError, match="groups must hold one entry for each of 3 data; got 2"):
        describe_mixtures([None] * 3, [None] * 3, groups=["p", "q"])
