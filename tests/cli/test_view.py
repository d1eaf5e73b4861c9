import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_study import Study


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processes that would have been started, one of which fails with 7."""
    calls: list[list[str]] = []

    def run(words: list[str], check: bool) -> SimpleNamespace:
        calls.append(words)
        return SimpleNamespace(returncode=7)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_view_starts_napari_as_a_process_and_returns_its_exit_code(
    study: Study, prospect: Any, started: list[list[str]]
) -> None:
    pytest.importorskip("napari")
    code, _, _ = prospect("view", study.slide(0), "--head", study.head, "--grid", "new.tokens.zarr", "--mpp", "0.5")
    assert code == 7
    assert started[0][:3] == [sys.executable, "-m", "napari_prospector._napari.view"]
    assert started[0][3:] == [
        *(str(study.slide(0)), "--head", str(study.head), "--grid", "new.tokens.zarr"),
        *("--mpp", "0.5"),
    ]


@pytest.mark.parametrize("name", ["evidence", "refined"])
def test_view_passes_the_map_that_is_asked_for(
    name: str, study: Study, prospect: Any, started: list[list[str]]
) -> None:
    pytest.importorskip("napari")
    assert prospect("view", study.slide(0), "--head", study.head, "--map", name)[0] == 7
    assert started[0][-2:] == ["--map", name]


@pytest.mark.parametrize("words", [["no.svs"], ["SLIDE", "--head", "no.prospector"], ["SLIDE", "--grid", "no.zarr"]])
def test_a_missing_file_is_refused_before_napari_starts(
    words: list[str], study: Study, prospect: Any, started: list[list[str]]
) -> None:
    code, _, err = prospect("view", *(study.slide(0) if word == "SLIDE" else word for word in words))
    assert code == 1
    assert "There is no no." in err
    assert started == []


def test_without_napari_it_says_what_to_install(
    study: Study, prospect: Any, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_prospector.cli.view.find_spec", lambda name: None)
    code, _, err = prospect("view", study.slide(0))
    assert code == 1
    assert "pip install 'napari-prospector[all]'" in err
    assert started == []


def test_the_process_knows_every_option_that_it_is_given(study: Study) -> None:
    from napari_prospector.cli.view import view

    shown = subprocess.run(
        [sys.executable, "-m", "napari_prospector._napari.view", "--help"], check=True, capture_output=True, text=True
    ).stdout
    # what has no value reaches it through the environment
    valued = [option for option in view.params if option.expose_value]
    passed = {name for option in valued for name in option.opts if name.startswith("--")}
    assert all(name in shown for name in passed), Path(shown)


def test_without_a_display_it_says_so_and_names_the_command_that_needs_none(
    study: Study, prospect: Any, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("napari")
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = prospect("view", study.slide(0))
    assert code == 1
    assert "needs a display" in err
    assert "prospect map" in err
    assert started == []
