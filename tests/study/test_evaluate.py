from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph, chain_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.metrics import average_precision
from napari_prospector.errors import InvalidInputError, MismatchError, StorageError
from napari_prospector.study.baselines import ConstantMap, MeanPooledLogistic, RandomMap
from napari_prospector.study.evaluate import Evaluation, HeadMap, evaluate

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
    return ProspectorHead(n_concepts=6, random_state=0).fit(graphs[:16], LABELS[:16])


@pytest.fixture(scope="module")
def evaluation(head: ProspectorHead, graphs: list[TokenGraph], truths: list[NDArray[np.bool_]]) -> Evaluation:
    regression = MeanPooledLogistic(target="tumour").fit(graphs[:16], LABELS[:16])
    methods = {"prospector": head, "mean-pooled": regression, "flat": ConstantMap()}
    return evaluate(methods, graphs[16:], LABELS[16:], truths[16:], PATIENTS[16:], n_boot=101)


def test_every_map_of_a_head_and_every_method_is_a_row_and_the_reference_rows_follow(evaluation: Evaluation) -> None:
    assert [(row.method, row.map) for row in evaluation.rows] == [
        ("prospector", "evidence"),
        ("prospector", "decision"),
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
    row = evaluation.rows[0]
    assert row.localization.mean["ap"].value == pytest.approx(np.mean(expected))
    assert row.localization.mean["ap"].value > evaluation.rows[-1].localization.mean["ap"].value + 0.2
    assert row.difference == (0, 0, 0)
    assert row.n_parameters == 6 + 21 + 6 * N_DIMS
    assert row.seconds > 0


def test_probabilities_of_data_are_judged_too(
    evaluation: Evaluation, head: ProspectorHead, graphs: list[TokenGraph]
) -> None:
    evidence, decision, regression, flat = evaluation.rows[:4]
    assert evidence.datum_auroc == decision.datum_auroc > 0.5
    assert 0 <= evidence.brier < 0.25
    assert regression.datum_auroc > 0.5
    assert np.isnan([flat.datum_auroc, flat.brier]).all()
    probability = HeadMap(head, target="normal").target_probability(graphs)
    np.testing.assert_allclose(probability, 1 - HeadMap(head).target_probability(graphs))


def test_a_constant_method_equals_the_constant_row(evaluation: Evaluation) -> None:
    flat, constant = evaluation.rows[3], evaluation.rows[4]
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
    assert list(first)[:4] == ["method", "map", "AP", "AUROC"]
    mean = evaluation.rows[0].localization.mean["ap"]
    assert first["AP"] == f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    prevalence = evaluation.summary()[-1]
    assert prevalence["AUROC"] == prevalence["datum AUROC"] == prevalence["constant maps"] == ""


def test_files_hold_all_figures(evaluation: Evaluation, tmp_path: Path) -> None:
    paths = evaluation.write(tmp_path / "out")
    assert [path.name for path in paths] == ["evaluation.csv", "evaluation_data.csv", "evaluation.json"]
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    ap = evaluation.rows[0].localization.mean["ap"]
    assert (float(rows[0]["ap"]), float(rows[0]["ap_low"])) == (ap.value, ap.low)
    assert rows[-1]["auroc"] == ""
    with paths[1].open(newline="") as file:
        data = list(csv.DictReader(file))
    assert len(data) == 10
    assert (data[1]["name"], data[1]["label"], data[1]["n_regions"]) == ("datum 1", "tumour", "1")
    assert data[0]["mean_size"] == ""
    whole = json.loads(paths[2].read_text(encoding="utf-8"))
    assert whole["rows"][0]["ap"] == ap.value
    assert whole["rows"][-1]["auroc"] is None
    assert whole["n_counted"] == 5
    assert not list((tmp_path / "out").glob("*.partial"))


def test_what_cannot_be_written_is_told(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "evaluation.csv").mkdir()
    with pytest.raises(StorageError):
        evaluation.write(tmp_path)


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
