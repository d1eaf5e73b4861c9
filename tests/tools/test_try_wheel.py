"""Where the widgets of a wheel are opened: on the screen that there is, on one that is started, or not at all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("try_wheel", REPOSITORY / "tools" / "try_wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


try_wheel = load()


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without a screen and without Xvfb, on which none is required."""
    monkeypatch.setattr(try_wheel.sys, "platform", "linux")
    monkeypatch.setattr(try_wheel.shutil, "which", lambda name: None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("PROSPECTOR_REQUIRE", raising=False)
    return monkeypatch


def test_a_screen_that_is_there_is_used(linux: pytest.MonkeyPatch) -> None:
    linux.setenv("DISPLAY", ":7")
    assert try_wheel.screen_for_windows() == []


def test_without_one_the_widgets_are_left_out_or_xvfb_is_started(linux: pytest.MonkeyPatch) -> None:
    assert try_wheel.screen_for_windows() is None
    linux.setattr(try_wheel.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert try_wheel.screen_for_windows()[0] == "xvfb-run"


def test_where_windows_are_required_what_they_need_is_installed(linux: pytest.MonkeyPatch) -> None:
    installed: list[str] = []

    def install(packages: tuple[str, ...], *, needed: bool) -> None:
        assert needed
        installed.extend(packages)

    fake = SimpleNamespace(WINDOW_LIBRARIES=("libegl1",), SCREEN=("xvfb",), install_debian_packages=install)
    linux.setitem(sys.modules, "set_up", fake)
    linux.setenv("PROSPECTOR_REQUIRE", "shared,gui")
    assert try_wheel.screen_for_windows()[0] == "xvfb-run"
    assert installed == ["libegl1", "xvfb"]
