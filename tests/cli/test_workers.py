"""`--workers` and `--scheduler`: who does the work changes nothing of what is written and told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_study import Study

from napari_prospector.cli.main import Exit
from napari_prospector.study.cohort import Cohort

# On a slow disk distributed says so; that is about the machine, not about us.
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories is taking a surprisingly long time")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The scheduler of a cluster of two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture(params=["--workers", "--scheduler"])
def by(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The words that give the work to others."""
    return (request.param, "2" if request.param == "--workers" else request.getfixturevalue("address"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cohort_is_embedded_mapped_and_evaluated_with_the_same_result(
    study: Study, by: tuple[str, str], prospect_json: Any, tmp_path: Path
) -> None:
    code, found = prospect_json("embed", study.table, "-o", tmp_path / "grids", "--tissue", "all", *by)
    assert (code, [row["slide"] for row in found["slides"]]) == (Exit.OK, [f"slide {i}.tif" for i in range(10)])
    assert found["encoder"]["name"] == "stain-texture"
    assert contents(tmp_path / "grids") == contents(study.tokens)
    head = tmp_path / "there.prospector"
    where = ("--grids", tmp_path / "grids")
    code, fitted = prospect_json("fit", study.table, "-o", head, "--n-concepts", "3", "--folds", "2", *where, *by)
    assert (code, head.read_bytes()) == (Exit.OK, study.head.read_bytes())
    slides = [row.path for row in Cohort.read(study.table)][:3]
    code, drawn = prospect_json("map", head, *slides, "-o", tmp_path / "maps", *where, *by)
    assert (code, [row["slide"] for row in drawn["maps"]]) == (Exit.OK, [path.name for path in slides])
    assert all(Path(file).is_file() for row in drawn["maps"] for file in row["files"])
    words = ("evaluate", head, study.table, "-o", tmp_path / "evaluation", "--no-baselines", "--pictures", "0", *where)
    code, there = prospect_json(*words, *by)
    here = prospect_json(*words)[1]
    assert code == Exit.OK
    assert without_seconds(there) == without_seconds(here)


def without_seconds(found: Any) -> Any:
    """Leave out how long things took."""
    if isinstance(found, dict):
        return {key: without_seconds(value) for key, value in found.items() if "seconds" not in key}
    return [without_seconds(value) for value in found] if isinstance(found, list) else found


def test_a_slide_that_fails_is_told_and_the_others_go_on(
    study: Study, by: tuple[str, str], prospect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no slide")
    monkeypatch.chdir(tmp_path)  # workers may have been started anywhere
    code, out, err = prospect("embed", "broken.tif", study.slide(0), "-o", "grids", "--tissue", "all", *by)
    assert code == Exit.PARTLY
    assert "slide 0.tif: 15 tokens in" in out
    assert "Error: broken.tif" in err
    assert "1 of 2 slides are not whole" in err


def test_a_scheduler_that_does_not_answer_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect("embed", study.table, "-o", tmp_path, "--scheduler", "tcp://127.0.0.1:1")
    assert code == Exit.REFUSED
    assert "A Dask scheduler must answer at tcp://127.0.0.1:1 within 5 s" in err


def test_a_scheduler_and_processes_contradict_each_other(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect("fit", study.table, "-o", tmp_path / "h.prospector", "--scheduler", "a:1", "--workers", "2")
    assert code == Exit.USAGE
    assert "--scheduler and --workers contradict each other" in err
