"""The set-up of a checkout: what it asks pip for, and what it does where it may not install."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def load(name: str) -> ModuleType:
    """Import a file of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


set_up = load("set_up")
repair_torchvision = load("repair_torchvision")


def names(lines: list[str]) -> set[str]:
    """The distributions that requirements or pins name, written in one way."""
    return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in lines}


def pins() -> dict[str, str]:
    lines = set_up.CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))


def test_the_demo_asks_for_napari_and_for_no_model_library() -> None:
    asked = names(set_up.requirements(set_up.STAGES["demo"]))
    assert {"napari", "numba", "zarr"} <= asked
    assert not asked & {"torch", "torchvision", "timm", "pytest"}


def test_the_tests_ask_for_torch_and_torchvision_in_one_command() -> None:
    asked = names(set_up.requirements(set_up.STAGES["test"]))
    assert {"torch", "torchvision", "timm", "pytest", "pytest-xvfb", "napari"} <= asked


def test_the_guide_asks_for_mkdocs_and_for_nothing_of_the_package() -> None:
    asked = names(set_up.requirements(set_up.STAGES["docs"]))
    assert "mkdocs" in asked
    assert not asked & {"napari", "numpy", "torch", "hatchling"}


@pytest.mark.parametrize("stage", ["demo", "test", "lint", "docs"])
def test_all_that_a_stage_asks_for_is_pinned_exactly(stage: str) -> None:
    assert names(set_up.requirements(set_up.STAGES[stage])) <= pins().keys()


def test_no_pin_is_bound_to_one_build_or_to_cuda() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins().values())
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_download_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def stop() -> None:
        raise set_up.SetUpError("stopped for the test")

    monkeypatch.setattr(set_up, "make_environment", stop)
    assert set_up.main(["test"]) == 1
    printed = capsys.readouterr()
    assert re.search(r"download: about \d{3} MB", printed.out)
    assert "stopped for the test" in printed.err


def test_where_it_may_not_install_it_prints_the_command_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(set_up.sys, "platform", "linux")
    monkeypatch.setattr(set_up.shutil, "which", lambda name: name)
    monkeypatch.setattr(set_up, "is_installed", lambda package: package == "libgl1")
    monkeypatch.setattr(set_up, "rights_to_install", lambda: None)
    set_up.install_debian_packages(("libgl1", "xvfb"), needed=False)
    assert "sudo apt-get install --yes --no-install-recommends xvfb\n" in capsys.readouterr().out
    with pytest.raises(set_up.SetUpError, match="sudo apt-get install --yes --no-install-recommends xvfb"):
        set_up.install_debian_packages(("libgl1", "xvfb"), needed=True)


def test_a_stage_that_nobody_knows_is_a_usage_error(capsys: Any) -> None:
    assert set_up.main(["dmeo"]) == 2
    assert "set_up.py demo|test|lint|docs" in capsys.readouterr().err


def test_the_repair_is_made_once_and_only_declares_what_is_missing(tmp_path: Path) -> None:
    extension = tmp_path / "extension.py"
    extension.write_text("def _has_ops():\n    return True\n")
    assert repair_torchvision.repair(extension)
    assert not repair_torchvision.repair(extension)
    # Where the operators load, the patched file runs without even knowing torch.
    subprocess.run([sys.executable, str(extension)], check=True)
