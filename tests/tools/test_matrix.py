"""The combinations of napari and Qt, and what is read from a report of their tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("matrix", REPOSITORY / "tools" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["matrix"] = module
    spec.loader.exec_module(module)
    return module


matrix = load()


def test_each_minor_napari_from_the_promised_one_is_tried_with_each_binding() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"napari[pyqt6]>={matrix.OLDEST_NAPARI.removesuffix(".0")}"' in text
    tried = {(one.napari[:3], one.binding) for one in matrix.COMBINATIONS if not one.oldest}
    assert tried == {(napari, binding) for napari in ("0.7", "0.8", "0.9") for binding in ("PyQt6", "PySide6")}


def test_the_newest_is_the_one_that_is_pinned() -> None:
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"napari=={matrix.NEWEST_NAPARI}" in pins


def test_the_oldest_takes_every_lower_bound_but_those_of_the_model_libraries() -> None:
    (oldest,) = (one for one in matrix.COMBINATIONS if one.oldest)
    asked = oldest.requirements()
    assert {"numpy==2.0", "zarr==3.0.8", "napari[pyqt6]==0.7.0"} <= set(asked)
    assert not [line for line in asked if line.startswith(("torch", "timm"))]


def test_the_story_and_other_tests_that_are_there_are_run_unless_more_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tests = matrix.quick_tests()
    assert {"tests/napari_plugin/test_story.py", "tests/napari_plugin/test_manifest.py"} <= set(tests)
    assert [name for name in tests if not (REPOSITORY / name).is_file()] == []
    asked = []

    def note(one: Any, tests: list[str]) -> Any:
        asked.append(tests)
        return matrix.Outcome(one.name, 1, (), 1.0)

    (tmp_path / ".test.done").touch()
    monkeypatch.setattr(matrix, "BESIDE", tmp_path)
    monkeypatch.setattr(matrix, "try_combination", note)
    for words in ([], ["--whole"], ["--", "-k", "panel"]):
        assert matrix.main(["--only", "napari-0.7.0-pyqt6", *words]) == 0
    assert asked == [tests, ["tests/napari_plugin"], ["-k", "panel"]]


def test_what_failed_is_named_once_and_skips_are_not_passes(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    case = '<testcase classname="tests.test_panel" name="{}">{}</testcase>'
    cases = [
        case.format("opens", ""),
        case.format("fails", "<failure/>"),
        case.format("fails", "<error/>"),
        case.format("waits", "<skipped/>"),
    ]
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    assert matrix.read_report(report) == (1, ("tests.test_panel.fails",))


def test_a_combination_in_which_nothing_passed_has_failed() -> None:
    assert "FAILED" in matrix.Outcome("napari-0.7.0-pyqt6", 0, (), 1.0).line()
    assert "FAILED" in matrix.Outcome("napari-0.7.0-pyqt6", 3, ("one",), 1.0).line()
    assert "passed" in matrix.Outcome("napari-0.7.0-pyqt6", 3, (), 1.0).line()


def test_without_an_environment_to_stand_on_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(matrix, "BESIDE", tmp_path)
    assert matrix.main([]) == 1
    assert "run `make test` first" in capsys.readouterr().out
