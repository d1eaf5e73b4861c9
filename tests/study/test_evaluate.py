from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from napari_prospector.core.graph import TokenGraph, chain_graph, join_graphs
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.metrics import average_precision
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.baselines import ConstantMap, MeanPooledLogistic, RandomMap
from napari_prospector.study.evaluate import Evaluation, EvaluationRow, HeadMap, evaluate
from napari_prospector.study.head_maps import maps_of

N_DATA, N_TOKENS, N_DIMS = 26, 37, 5
LABELS = ["normal", "tumour"] * 13
PATIENTS = [f"p{i // 3}" for i in range(N_DATA)]


@pytest.fixture(scope="module")
def graphs() -> list[TokenGraph]:
    generator = np.random.default_rng(0)
    drawn = [generator.normal(size=(N_TOKENS, N_DIMS)).astype(np.float32) for _ in range(N_DATA)]
    for i, embeddings in enumerate(drawn):
        embeddings[:7, 0] += 4 * (i % 2)
    return [chain_graph(embeddings) for embeddings in drawn]


@pytest.fixture(scope="module")
def truths() -> list[NDArray[np.bool_]]:
    return [np.arange(N_TOKENS) < 7 * (i % 2) for i in range(N_DATA)]


@pytest.fixture(scope="module")
def head(graphs: list[TokenGraph]) -> ProspectorHead:
    return ProspectorHead(n_concepts=6, radius=1, kernel="fold-change", random_state=0).fit(graphs[:16], LABELS[:16])


@pytest.fixture(scope="module")
def evaluation(head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]) -> Evaluation:
    regression = MeanPooledLogistic(target="tumour").fit(graphs[:16], LABELS[:16])
    methods = {"prospector": head, "mean-pooled": regression, "flat": ConstantMap()}
    seconds = {"prospector": 2.5}
    return evaluate(methods, graphs[16:], LABELS[16:], truths[16:], PATIENTS[16:], n_boot=101, fit_seconds=seconds)


def row_of(evaluation: Evaluation, key: str) -> EvaluationRow:
    return next(row for row in evaluation.rows if row.key == key)


def test_every_map_of_a_head_and_every_method_is_a_row_and_the_reference_rows_follow(
    evaluation: Evaluation, head: ProspectorHead
) -> None:
    assert {"evidence", "decision"} <= set(maps_of(head))
    assert [(row.method, row.map) for row in evaluation.rows] == [
        *(("prospector", name) for name in maps_of(head)),
        ("mean-pooled", "logit"),
        ("flat", "constant"),
        ("constant", ""),
        ("random", ""),
        ("prevalence", ""),
    ]
    assert evaluation.target == "tumour"


def test_only_positive_data_count_and_the_basis_says_so(evaluation: Evaluation) -> None:
    found = evaluation.localization
    np.testing.assert_array_equal(found.counted, [False, True] * 5)
    assert evaluation.basis.startswith(
        "Means over 5 data of 'tumour' with a known region, from 4 groups, out of 10 data"
    )


def test_a_row_holds_the_measures_of_its_map(
    evaluation: Evaluation, head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]
) -> None:
    expected = [average_precision(head.prospect(graphs[i], map="evidence"), truths[i]) for i in range(17, N_DATA, 2)]
    row = row_of(evaluation, "prospector, evidence")
    assert row.localization.mean["ap"].value == pytest.approx(np.mean(expected))
    assert row.localization.mean["ap"].value > evaluation.rows[-1].localization.mean["ap"].value + 0.2
    assert evaluation.rows[0].difference == (0, 0, 0)
    assert row.n_parameters == 6 + 21 + 6 * N_DIMS
    assert row.map_seconds > 0


def test_the_time_to_learn_is_told_where_it_is_known(evaluation: Evaluation) -> None:
    assert {row.fit_seconds for row in evaluation.rows if row.method == "prospector"} == {2.5}
    assert np.isnan([row.fit_seconds for row in evaluation.rows if row.method != "prospector"]).all()
    assert evaluation.summary()[0]["seconds to fit"] == "2.5"
    assert [row.n_parameters for row in evaluation.rows[-5:]] == [N_DIMS + 1, 0, None, None, None]


def test_the_map_that_a_head_draws_unless_told_otherwise_comes_first_and_is_starred(
    evaluation: Evaluation, head: ProspectorHead, graphs: list[TokenGraph]
) -> None:
    best, *others = evaluation.rows
    assert best.is_best
    assert not any(row.is_best for row in others)
    np.testing.assert_array_equal(head.prospect(graphs[0]), head.prospect(graphs[0], map=best.map))
    assert [row["map"].endswith(" *") for row in evaluation.summary()] == [row.is_best for row in evaluation.rows]


def test_probabilities_of_data_are_judged_too(
    evaluation: Evaluation, head: ProspectorHead, graphs: list[TokenGraph]
) -> None:
    evidence, decision = (row_of(evaluation, f"prospector, {name}") for name in ("evidence", "decision"))
    regression, flat = row_of(evaluation, "mean-pooled"), row_of(evaluation, "flat")
    assert evidence.datum_auroc == decision.datum_auroc > 0.5
    assert 0 <= evidence.brier < 0.25
    assert regression.datum_auroc > 0.5
    assert np.isnan([flat.datum_auroc, flat.brier]).all()
    probability = HeadMap(head, "evidence", "normal").target_probability(graphs)
    np.testing.assert_allclose(probability, 1 - HeadMap(head, "evidence").target_probability(graphs))


def test_a_constant_method_equals_the_constant_row(evaluation: Evaluation) -> None:
    flat, constant = row_of(evaluation, "flat"), row_of(evaluation, "constant")
    assert flat.localization.mean == constant.localization.mean
    assert flat.localization.share_constant == 1
    assert flat.difference == constant.difference


def test_outside_the_target_class_nothing_is_positive(head: ProspectorHead, graphs: list[TokenGraph]) -> None:
    everywhere = [np.arange(N_TOKENS) < 7] * 10
    found = evaluate(head, graphs[16:], LABELS[16:], everywhere, n_boot=11).localization
    np.testing.assert_array_equal(found.counted, [False, True] * 5)
    assert found.rows["prospector, evidence"].pooled_all["ap"].value < 1
    np.testing.assert_allclose(found.prevalence[::2], 0)


def test_what_is_unknown_is_no_part_of_it(
    head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]
) -> None:
    found = evaluate(head, graphs[16:], LABELS[16:], [*truths[16:20], *[None] * 6], n_boot=11)
    assert found.localization.n_counted == 2
    assert found.regions[4] is None
    assert found.data_table()[4]["prevalence"] != found.data_table()[4]["prevalence"]


def test_progress_is_told(head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(head, graphs[:3], LABELS[:3], truths[:3], n_boot=11, report=lambda *step: told.append(step))
    assert told == [("maps", 1, 3), ("maps", 2, 3), ("maps", 3, 3)]


def test_the_table_to_show_starts_with_average_precision(evaluation: Evaluation) -> None:
    first = evaluation.summary()[0]
    assert list(first)[:5] == ["method", "map", "AP", "first − this", "AUROC"]
    mean = evaluation.rows[0].localization.mean["ap"]
    assert first["AP"] == f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    prevalence = evaluation.summary()[-1]
    assert prevalence["AUROC"] == prevalence["parameters"] == prevalence["constant maps"] == ""
    assert first["first − this"] == ""
    difference = evaluation.rows[1].difference
    shown = f"{difference.value:.3f} [{difference.low:.3f}, {difference.high:.3f}]"
    assert evaluation.summary()[1]["first − this"] == shown


def test_a_head_of_three_classes_is_measured_on_the_class_that_is_named() -> None:
    generator = np.random.default_rng(3)
    labels = ["a", "b", "c"] * 11
    drawn = [generator.normal(size=(N_TOKENS, N_DIMS)).astype(np.float32) for _ in labels]
    for i, embeddings in enumerate(drawn):
        if i % 3:
            embeddings[:7, i % 3] += 5
    graphs = [chain_graph(embeddings) for embeddings in drawn]
    truths = [np.arange(N_TOKENS) < 7] * 33
    head = ProspectorHead(n_concepts=7, radius=1, kernel="fold-change", random_state=1).fit(graphs[:18], labels[:18])
    with pytest.raises(InvalidInputError, match=r"target must name the class to find; labels are \['a', 'b', 'c'\]"):
        evaluate(head, graphs[18:], labels[18:], truths[18:], n_boot=11)
    for target in ("b", "c"):
        found = evaluate(head, graphs[18:], labels[18:], truths[18:], target=target, n_boot=11)
        np.testing.assert_array_equal(found.localization.counted, [label == target for label in labels[18:]])
        scores = [head.prospect(graphs[i], target=target) for i in range(18, 33) if labels[i] == target]
        expected = np.mean([average_precision_score(truths[0], score) for score in scores])
        assert found.rows[0].localization.mean["ap"].value == pytest.approx(expected)  # the map without a name
        column = head.predict_proba(graphs[18:])[:, "abc".index(target)]
        np.testing.assert_array_equal(found.probabilities.by_method["prospector"], column)
        is_target = np.array(labels[18:]) == target
        assert found.rows[0].datum_auroc == pytest.approx(roc_auc_score(is_target, column))
        assert found.rows[-1].brier == pytest.approx(np.mean((is_target - 1 / 3) ** 2))


def test_patients_are_judged_as_one_datum_while_maps_stay_those_of_slides(
    head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]
) -> None:
    patients = [f"{label}-{i // 4}" for i, label in enumerate(LABELS)]
    parts = graphs[14:], LABELS[14:], truths[14:], patients[14:], [f"s{i}" for i in range(14, 26)]
    slides, grouped = (evaluate(head, *parts, n_boot=11, datum=datum) for datum in ("slide", "group"))
    for key in slides.localization.rows:
        np.testing.assert_array_equal(grouped.localization.column(key), slides.localization.column(key))
    assert len(slides.probabilities.names) == 12
    assert grouped.probabilities.names == (
        "s14",
        "s15",
        "s16 and 1 more",
        "s17 and 1 more",
        "s20 and 1 more",
        "s21 and 1 more",
        "s24",
        "s25",
    )
    assert grouped.probabilities.labels == ("normal", "tumour") * 4
    whole = [graphs[14], graphs[15], *(join_graphs([graphs[i], graphs[i + 2]]) for i in (16, 17, 20, 21))]
    expected = head.predict_proba([*whole, graphs[24], graphs[25]])[:, 1]
    np.testing.assert_array_equal(grouped.probabilities.by_method["prospector"], expected)
    assert grouped.rows[0].datum_auroc == pytest.approx(roc_auc_score([0, 1] * 4, expected))
    assert any("over 8 patients" in note for note in grouped.notes)


def test_notes_say_what_few_data_cannot_tell(
    evaluation: Evaluation, head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]
) -> None:
    strata, calibration = evaluation.notes
    assert strata == (
        "5 data are too few to tell small from large regions, or compact from scattered ones; 8 are needed."
    )
    assert calibration.startswith("A calibration error is never 0: with 10 data perfect probabilities")
    few = evaluate(head, graphs[20:], LABELS[20:], truths[20:], n_boot=11)
    assert few.notes[-1] == "6 data are too few for a calibration error; 10 are needed."
    same = evaluate(head, graphs[8:], LABELS[8:], truths[8:], n_boot=11)
    assert same.notes[0].startswith("By prevalence data make 1 part instead of 3: a part must hold at least 4")


def test_what_was_learned_from_is_called_so(
    head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]
) -> None:
    seen = [i < 3 for i in range(10)]
    found = evaluate(head, graphs[16:], LABELS[16:], truths[16:], n_boot=11, seen=seen)
    assert found.notes[0].startswith("NOT HELD OUT: 3 of 10 slides, or other slides of their patients, were learned")
    assert [slide["seen"] for slide in found.data_table()] == seen
    with pytest.raises(MismatchError, match="seen must hold one entry for each of 10 data; got 2"):
        evaluate(head, graphs[16:], LABELS[16:], truths[16:], seen=[True, False])


def test_what_cannot_be_evaluated_is_refused(
    head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]
) -> None:
    with pytest.raises(MismatchError, match="labels must hold one entry for each of 5 data; got 26"):
        evaluate(head, graphs[:5], LABELS, truths[:5])
    with pytest.raises(MismatchError, match="groups must hold one entry for each of 5 data; got 26"):
        evaluate(head, graphs[:5], LABELS[:5], truths[:5], PATIENTS)
    with pytest.raises(InvalidInputError, match="at least one head or method"):
        evaluate([], graphs[:5], LABELS[:5], truths[:5])
    with pytest.raises(InvalidInputError, match="different names; 'random map' occurs twice"):
        evaluate([RandomMap(), RandomMap(seed=2)], graphs[:5], LABELS[:5], truths[:5])
    with pytest.raises(
        InvalidInputError, match=r"target must name the class to find; labels are \['normal', 'tumour'\]"
    ):
        evaluate([RandomMap()], graphs[:5], LABELS[:5], truths[:5])
    with pytest.raises(InvalidInputError, match="called like a reference row; got 'random'"):
        evaluate({"random": RandomMap()}, graphs[:5], LABELS[:5], truths[:5], target="tumour")
