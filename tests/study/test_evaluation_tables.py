from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector.core.graph import chain_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import StorageError
from napari_prospector.study.baselines import ConstantMap, MeanPooledLogistic
from napari_prospector.study.evaluate import evaluate
from napari_prospector.study.evaluation import Evaluation

N_DATA, N_TOKENS, N_DIMS = 34, 31, 5
NAMES = [
    "evaluation.csv",
    "evaluation_data.csv",
    "evaluation_pairs.csv",
    "evaluation_strata.csv",
    "evaluation_probabilities.csv",
    "evaluation_reliability.csv",
    "evaluation.json",
    "evaluation.png",
]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Eleven positive slides of which regions have 2 to 12 tokens."""
    generator = np.random.default_rng(0)
    labels = ["normal", "tumour"] * 17
    drawn = [generator.normal(size=(N_TOKENS, N_DIMS)) for _ in labels]
    sizes = [(2 + i // 2 % 11) * (i % 2) for i in range(N_DATA)]
    for embeddings, size in zip(drawn, sizes, strict=True):
        embeddings[:size, 0] += 3
    graphs = [chain_graph(embeddings) for embeddings in drawn]
    head = ProspectorHead(n_concepts=5, radius=1, kernel="fold-change", refine=False).fit(graphs[:12], labels[:12])
    regression = MeanPooledLogistic(target="tumour").fit(graphs[:12], labels[:12])
    methods = {"prospector": head, "mean-pooled": regression, "flat": ConstantMap()}
    truths = [np.arange(N_TOKENS) < size for size in sizes]
    names = [f"slide {i}" for i in range(12, N_DATA)]
    groups = [f"secret {i // 2}" for i in range(12, N_DATA)]
    return evaluate(methods, graphs[12:], labels[12:], truths[12:], groups, names, n_boot=101)


@pytest.fixture(scope="module")
def folder(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    assert [path.name for path in evaluation.write(folder)] == NAMES
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def whole(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert isinstance(record, dict)
    return record


def test_the_table_of_methods_holds_all_measures(evaluation: Evaluation, folder: Path) -> None:
    table = rows(folder / "evaluation.csv")
    first = evaluation.rows[0]
    ap = first.localization.mean["ap"]
    assert (float(table[0]["ap"]), float(table[0]["ap_low"])) == (ap.value, ap.low)
    assert float(table[0]["pooled_auprc"]) == first.localization.pooled["auprc"].value
    assert float(table[0]["dice@0.5"]) == first.localization.mean["dice@0.5"].value
    assert first.reliability is not None
    assert float(table[0]["datum_log_loss_high"]) == first.reliability.log_loss.high
    assert float(table[0]["datum_calibration_error"]) == first.reliability.calibration_error
    assert table[-1]["auroc"] == table[-1]["map_seconds"] == ""


def test_every_slide_has_a_row(evaluation: Evaluation, folder: Path) -> None:
    slides = rows(folder / "evaluation_data.csv")
    assert len(slides) == 22
    assert (slides[1]["name"], slides[1]["label"], slides[1]["n_regions"]) == ("slide 13", "tumour", "1")
    assert slides[0]["mean_size"] == ""
    column = evaluation.localization.column("mean-pooled", "auroc")
    assert float(slides[1]["mean-pooled: auroc"]) == column[1]


def test_every_pair_of_methods_is_there_with_its_interval(evaluation: Evaluation, folder: Path) -> None:
    pairs = {(row["row"], row["other"]): row for row in rows(folder / "evaluation_pairs.csv")}
    n_rows = len(evaluation.rows)
    assert len(pairs) == n_rows * (n_rows - 1) / 2
    found = evaluation.localization.difference("mean-pooled", "flat")
    pair = pairs["mean-pooled", "flat"]
    bounds = [float(pair[f"row_minus_other_ap{end}"]) for end in ("", "_low", "_high")]
    assert bounds == pytest.approx(list(found))
    first, flat = evaluation.rows[0], next(row for row in evaluation.rows if row.key == "flat")
    assert float(pairs[first.key, "flat"]["row_minus_other_ap"]) == pytest.approx(flat.difference.value)


def test_strata_are_there_for_every_row(evaluation: Evaluation, folder: Path) -> None:
    strata = rows(folder / "evaluation_strata.csv")
    assert len(strata) == len(evaluation.rows) * len(evaluation.strata)
    first = strata[0]
    assert (first["by"], first["stratum"], first["n_data"], first["method"]) == ("prevalence", "low", "5", "prospector")
    assert float(first["lowest"]) == pytest.approx(2 / N_TOKENS)
    assert float(first["ap"]) == evaluation.strata[0].ap[evaluation.rows[0].key].value
    shown = evaluation.strata_summary()
    assert len(shown) == len(evaluation.rows)
    assert list(shown[0])[:3] == ["method", "map", "prevalence 6.5 to 19 % (n = 5)"]


def test_probabilities_are_there_for_every_datum_and_bins_for_every_method(
    evaluation: Evaluation, folder: Path
) -> None:
    said = rows(folder / "evaluation_probabilities.csv")
    assert [row["datum"] for row in said] == list(evaluation.names)
    assert float(said[4]["mean-pooled"]) == evaluation.probabilities.by_method["mean-pooled"][4]
    assert "flat" not in said[0]
    bins = rows(folder / "evaluation_reliability.csv")
    for method in ("prospector", "mean-pooled", "prevalence"):
        assert sum(int(row["n_data"]) for row in bins if row["method"] == method) == 22
    shown = evaluation.probability_summary()
    assert [row["method"] for row in shown] == ["prospector", "mean-pooled", "prevalence"]
    assert shown[0]["AUROC"].startswith(f"{evaluation.rows[0].datum_auroc:.3f} [")


def test_the_record_holds_all_tables_and_says_what_they_rest_on(evaluation: Evaluation, folder: Path) -> None:
    record = whole(folder)
    assert record["basis"] == evaluation.basis
    assert record["notes"] == list(evaluation.notes)
    assert record["rows"][0]["ap"] == evaluation.rows[0].localization.mean["ap"].value
    assert record["rows"][-1]["auroc"] is None
    assert (record["n_data"], record["n_counted"], record["n_groups"], record["n_seen"]) == (22, 11, 11, 0)
    for part, name in (("data", "data"), ("pairs", "pairs"), ("strata", "strata"), ("reliability", "reliability")):
        assert len(record[part]) == len(rows(folder / f"evaluation_{name}.csv"))


def test_patients_are_named_nowhere(folder: Path) -> None:
    assert [path.name for path in folder.iterdir() if b"secret" in path.read_bytes()] == []


def test_what_cannot_be_written_is_told(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "evaluation.csv").mkdir()
    with pytest.raises(StorageError):
        evaluation.write(tmp_path)
