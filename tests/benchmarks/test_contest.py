"""Records, summary, tables and pictures of the accuracy benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import learning_curve
from benchmarks.contest import methods, records
from benchmarks.contest.figure import draw_curves, draw_summary
from benchmarks.contest.measure import about_test, measured
from benchmarks.contest.methods import Contestant
from benchmarks.contest.orders import Order, Place, run
from benchmarks.contest.summary import CEILING_ROW, DEFAULT_ROW, share_of, summarize
from benchmarks.contest.tables import END, START, full_table, readme_table, write_readme
from benchmarks.tasks.task import Split, Task, one_hot
from napari_prospector.core.graph import TokenGraph, chain_graph
from napari_prospector.errors import InvalidInputError, MissingExtraError

N_TOKENS = 11


def categories(rng: np.random.Generator, positive: bool) -> NDArray[np.float32]:
    """Category numbers of a chain; positive ones hold a run of category 2."""
    numbers = rng.integers(0, 2, N_TOKENS)
    if positive:
        numbers[3:6] = 2
    return numbers[:, None].astype(np.float32)


def small_task(with_truth: bool = True) -> Task:
    """Chains of 11 tokens of 3 categories, six of each class for training, three of each for test."""
    rng = np.random.default_rng(0)

    def split(name: str, n_each: int) -> Split:
        labels = ["found", "empty"] * n_each
        graphs = [chain_graph(categories(rng, label == "found")) for label in labels]
        truths = [graph.embeddings[:, 0] == 2 for graph in graphs]
        vectors = [one_hot(graph, 3) for graph in graphs]
        return Split(
            graphs, labels, [f"{name} {i}" for i in range(2 * n_each)], truths if with_truth else None, vectors
        )

    return Task(
        name="small",
        about="find category 2",
        target="found",
        train=split("train", 6),
        test=split("test", 3),
        quantize="identity",
        n_concepts=3,
        support={"train": {"chains": 12}},
        expected_concept=None if with_truth else 2,
    )


class Spy:
    """Scores by a function, and counts how often it is asked."""

    n_parameters = 7

    def __init__(self, score: Any) -> None:
        self.score, self.n_asked = score, 0

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        self.n_asked += 1
        return np.asarray(self.score(graph.embeddings[:, 0]), dtype=np.float64)

    def target_probability(self, graphs: Any) -> NDArray[np.float64]:
        return np.array([float((graph.embeddings == 2).any()) for graph in graphs])


def test_a_row_is_measured_on_positive_test_data_only() -> None:
    row = measured(small_task(), Contestant("row", Spy(lambda numbers: numbers == 2), False, 1.5))
    assert row["measures"] == {"ap": [1.0] * 3, "auroc": [1.0] * 3, "auprc": [1.0] * 3}
    assert (row["pooled_ap"], row["datum_auroc"], row["share_constant"]) == (1.0, 1.0, 0.0)
    assert (row["n_parameters"], row["fit_seconds"]) == (7, 1.5)
    flat = measured(small_task(), Contestant("row", Spy(np.zeros_like), False, 0.0))
    assert flat["measures"]["ap"] == pytest.approx([3 / 11] * 3, abs=1e-5)
    assert flat["share_constant"] == 1.0


def test_where_nobody_has_marked_regions_the_expected_concept_is_looked_at() -> None:
    task = small_task(with_truth=False)
    row = measured(
        task, Contestant("row", Spy(lambda numbers: np.array([-1.0, 1.0, 3.0])[numbers.astype(int)]), False, 0)
    )
    assert row["measures"]["expected_auroc"] == [1.0] * 3
    assert row["strongest_is_expected"]
    kinds = [task.test.graphs[i].embeddings[:, 0] for i in range(0, 6, 2)]
    shares = [9 / (9 + float((kind == 1).sum())) for kind in kinds]
    assert row["measures"]["expected_share"] == pytest.approx(shares, abs=1e-5)
    assert "prevalence" not in about_test(task)


def test_a_record_is_completed_and_nothing_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, task = tmp_path / "folder" / "small-seed-0.json", small_task()
    fits: list[str] = []

    def fake(task: Task, seed: int, keys: list[str], amount: float) -> Any:
        fits.extend(keys)
        if keys == ["constant"] and fits.count("constant") == 1:
            raise KeyboardInterrupt
        yield from ((key, Contestant(key, Spy(lambda numbers: numbers), False, 0.0)) for key in keys)

    monkeypatch.setattr(records, "methods_of", fake)
    wanted = ["mean-pooled", "constant", "random"]
    with pytest.raises(KeyboardInterrupt):
        records.complete(path, task, 0, wanted)
    assert list(json.loads(path.read_text())["methods"]) == ["mean-pooled"]
    first = records.complete(path, task, 0, wanted)
    assert fits == ["mean-pooled", "constant", "constant", "random"]
    assert json.loads(path.read_text()) == first == records.complete(path, task, 0, wanted)
    records.complete(path, task, 0, wanted, again=["random"])
    assert fits == ["mean-pooled", "constant", "constant", "random", "random"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_refuses_is_recorded_and_what_is_not_installed_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(task: Task, seed: int, keys: list[str], amount: float) -> Any:
        if "random" in keys:
            raise InvalidInputError("no thanks")
        raise MissingExtraError("install it")
        yield

    monkeypatch.setattr(records, "methods_of", fake)
    found = records.complete(tmp_path / "r.json", small_task(), 0, ["random", "lime", "shap"])
    assert list(found["methods"]) == ["random"]
    assert found["methods"]["random"]["refused"] == "no thanks"
    assert "small: shap, lime: left out: install it" in capsys.readouterr().err


def test_a_failure_is_told_at_once_and_raised_when_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = Place(tmp_path / "no shared data", tmp_path)
    orders = [Order(name, 0, tmp_path / f"{name}.json", place) for name in ("zinc", "cells")]
    with pytest.raises(FileNotFoundError, match="no shared data"):
        run(orders, jobs=1)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["[1/2] failed", "[2/2] failed"]


def test_explanations_of_one_model_are_fitted_together() -> None:
    units = methods.units_of(["prospector", "lime", "constant", "shap", "ceiling"])
    assert units == [["prospector"], ["constant"], ["ceiling"], ["lime", "shap"]]


def test_the_ceiling_shares_as_much_as_the_recorded_head_and_follows_it() -> None:
    record = {"methods": {"prospector": {"rows": {DEFAULT_ROW: {"chosen": {"amount": 0.3}}, "other": {"chosen": {}}}}}}
    assert records._amount(record) == 0.3
    assert records._amount({"methods": {}}) == 0.0
    kept = {"methods": {"prospector": {}, "ceiling": {}, "random": {}}}
    wanted = ["prospector", "ceiling", "random", "constant"]
    assert records.missing_keys(kept, wanted) == ["constant"]
    assert records.missing_keys(kept, wanted, again=["prospector"]) == ["prospector", "ceiling", "constant"]


def test_head_baselines_and_ceiling_find_what_is_plain_to_see() -> None:
    task = small_task()
    keys = ["prospector", "as published", "mean-pooled", "constant", "ceiling"]
    found = list(methods.methods_of(task, 0, keys))
    assert [key for key, _ in found if key != "prospector"] == keys[1:]
    rows = {contestant.row: measured(task, contestant) for _, contestant in found}
    for row in (DEFAULT_ROW, "prospector, evidence", "as published", "mean-pooled", CEILING_ROW):
        assert np.mean(rows[row]["measures"]["ap"]) > 0.9, row
    assert rows[DEFAULT_ROW]["chosen"]["n_concepts"] == 3


def record_of(seed: int, groups: list[str], rows: dict[str, list[float | None]]) -> dict[str, Any]:
    more = {"pooled_ap": 0.5, "datum_auroc": None, "share_constant": 0.0, "fit_seconds": 1.0 + seed, "map_seconds": 2.0}
    made = {
        name: {"measures": {"ap": ap, "auroc": ap, "auprc": ap}, **more, "n_parameters": 5, "chosen": {}}
        for name, ap in rows.items()
    }
    about = {"name": "small", "about": "find it", "target": "found", "support": {"train": {"chains": 12}}}
    about |= {"n_train": 12, "n_test": 6, "prevalence": [0.25] * len(groups), "random_ap": [0.3] * len(groups)}
    return {**about, "seed": seed, "groups": groups, "methods": {name: {"rows": {name: made[name]}} for name in made}}


def two_records() -> list[dict[str, Any]]:
    first = {DEFAULT_ROW: [0.9, 0.7, 0.8], "constant": [0.2, 0.1, 0.4], CEILING_ROW: [1.0, 0.8, 0.9]}
    second = {DEFAULT_ROW: [0.6, None], CEILING_ROW: [0.7, 0.9], "prospector, evidence": [0.3, 0.4]}
    return [record_of(0, ["a", "a", "b"], first), record_of(1, ["c", "b"], second)]


def slow_bootstrap(
    groups: list[str], numbers: list[float], others: list[float] | None, n_boot: int
) -> NDArray[np.float64]:
    """Means, or ratios of means, of resampled groups, drawn one group at a time."""
    rng = np.random.default_rng(5)
    names, found = sorted(set(groups)), []
    for _ in range(n_boot):
        drawn = [names[rng.integers(len(names))] for _ in names]
        members = [i for name in drawn for i, group in enumerate(groups) if group == name]
        top = sum(numbers[i] for i in members)
        found.append(top / (len(members) if others is None else sum(others[i] for i in members)))
    return np.array(found)


def test_means_and_intervals_are_those_of_a_slow_loop() -> None:
    found = summarize(two_records(), n_boot=20_000)
    assert (found["n_positive"], found["n_groups"], found["seeds"]) == (5, 3, [0, 1])
    row = found["rows"][CEILING_ROW]
    ceiling, groups = [1.0, 0.8, 0.9, 0.7, 0.9], ["a", "a", "b", "c", "b"]
    assert row["value"] == pytest.approx(np.mean(ceiling))
    assert row["by_seed"] == pytest.approx([0.9, 0.8])
    # groups of one name are drawn together over seeds
    expected = np.quantile(slow_bootstrap(groups, ceiling, None, 4000), [0.025, 0.975])
    assert [row["low"], row["high"]] == pytest.approx(expected, abs=0.01)
    assert row["fit_seconds"] == 1.5


def test_differences_are_paired_and_leave_out_what_either_lacks() -> None:
    found = summarize(two_records(), n_boot=20_000)["rows"]
    assert found["constant"]["over"]["value"] == pytest.approx(np.mean([0.7, 0.6, 0.4]), abs=1e-5)
    assert found["constant"]["by_seed"] == [pytest.approx(0.7 / 3, abs=1e-5), None]
    assert found["prospector, evidence"]["over"]["value"] == pytest.approx(0.3)
    expected = np.quantile(slow_bootstrap(["a", "a", "b"], [0.7, 0.6, 0.4], None, 4000), [0.025, 0.975])
    assert [found["constant"]["over"][end] for end in ("low", "high")] == pytest.approx(expected, abs=0.01)
    assert "over" not in found[DEFAULT_ROW]


def test_the_share_of_the_ceiling_is_a_ratio_of_means() -> None:
    values, others, groups = [0.9, 0.7, 0.8, 0.6], [1.0, 0.8, 0.9, 0.7], ["a", "a", "b", "c"]
    found = summarize(two_records())["rows"][DEFAULT_ROW]["of_ceiling"]
    assert found["value"] == pytest.approx(3.0 / 3.4, abs=1e-5)
    interval = share_of(np.array(values), np.array(others), groups, 20_000)
    expected = np.quantile(slow_bootstrap(groups, values, others, 4000), [0.025, 0.975])
    assert [interval.low, interval.high] == pytest.approx(expected, abs=0.005)
    assert np.isnan(share_of(np.array([np.nan]), np.array([1.0]), ["a"]).value)


def summaries() -> dict[str, dict[str, Any]]:
    return {name: summarize(two_records()) for name in ("zinc", "section-inheritance")}


def test_the_table_of_the_readme_has_methods_as_rows_and_the_best_without_regions_is_bold() -> None:
    introduction, lines = (part.splitlines() for part in readme_table(summaries()).split("\n\n"))
    assert "2 seeds" in introduction[0]
    assert lines[0] == "| method | zinc sites | text: inheritance |"
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        f"| {name}" for name in (DEFAULT_ROW, "prospector, evidence", "constant", CEILING_ROW)
    ]
    assert lines[2].count("**.75**") == 2
    assert "**" not in lines[5]


def test_the_full_table_says_what_it_rests_on() -> None:
    text = full_table(summaries())
    assert (
        "## zinc\n\nFind it. 12 data for training, 6 for test in each of 2 seeds; 5 positive test data of 3 groups"
        in text
    )
    assert "rests on train (12 chains)" in text
    row = next(line for line in text.splitlines() if line.startswith("| constant"))
    assert row.startswith("| constant | 0.233 [0.150, 0.400] | +0.567 [+0.400, +0.650] |")


def test_curves_hold_every_size_that_has_been_measured(tmp_path: Path) -> None:
    for size in (6, 24):
        for record in two_records():
            path = records.record_path(tmp_path, f"serrated-{size}", record["seed"])
            records.write_atomically(path, json.dumps(record))
    curve = learning_curve.curves_of(tmp_path, [6, 12, 24])["serrated"]
    assert {name: list(row) for name, row in curve.items()} == {
        name: ["6", "24"] for name in (DEFAULT_ROW, "prospector, evidence", CEILING_ROW)
    }
    assert curve[CEILING_ROW]["24"]["value"] == pytest.approx(0.86)


def test_the_table_lands_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n", encoding="utf-8")
    write_readme(readme, "new")
    write_readme(readme, "new")
    assert readme.read_text(encoding="utf-8") == f"before\n{START}\nnew\n{END}\nafter\n"


def test_pictures_are_small_and_the_same_each_time(tmp_path: Path) -> None:
    points = {
        name: {str(n): summaries()["zinc"]["rows"][CEILING_ROW] for n in (6, 12)} for name in (DEFAULT_ROW, "other")
    }
    for draw, drawn in ((draw_summary, summaries()), (draw_curves, {"task": points, "other task": points})):
        paths = [tmp_path / f"{draw.__name__}-{i}.png" for i in range(2)]
        for path in paths:
            draw(drawn, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert paths[0].stat().st_size < 150_000
        with Image.open(paths[0]) as image:
            assert image.size[0] > 400
