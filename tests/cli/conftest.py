"""The small cohort, embedded and fitted once for all tests of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_study import Study, make_cohort

from napari_prospector.cli import main


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A cohort, embedded and fitted by the command line itself."""
    made = Study(tmp_path_factory.mktemp("made here") / "größe 7")
    make_cohort(made.folder)
    assert main(["embed", str(made.table), "-o", str(made.tokens), "--tissue", "all", "--json"]) == 0
    assert main(["fit", str(made.table), "-o", str(made.head), "--n-concepts", "3", "--folds", "2", "--json"]) == 0
    return made


@pytest.fixture(scope="session")
def plain_head(study: Study) -> Path:
    """A head of the same cohort without a refined map."""
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs

    train = Cohort.read(study.table).split("train")
    graphs = CohortGraphs.of_cohort(train, study.tokens)
    head = ProspectorHead(n_concepts=3, radius=1, kernel="fold-change", refine=False, n_folds=2)
    path = study.folder / "plain.prospector"
    head.fit(graphs, train.labels, train.groups).save(path, graphs.head_card(train))
    return path


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prospect(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return exit code, stdout and stderr."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(word) for word in words])
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def prospect_json(prospect: Run) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run a command with --json; stdout must be one JSON object and nothing else."""

    def run(*words: str | Path) -> tuple[int, dict[str, Any]]:
        code, out, _ = prospect(*words, "--json")
        assert out.count("\n") == 1
        found = json.loads(out)
        assert isinstance(found, dict)
        return code, found

    return run
