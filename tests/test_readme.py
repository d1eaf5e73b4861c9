"""The README keeps its word: its Python runs, its commands parse, its pictures and links are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest

from napari_prospector.cli.main import prospect
from napari_prospector.core.head import load_head
from napari_prospector.tokens.pyramid import write_pyramid

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("prospect ")
]


def small_cohort(folder: Path) -> None:
    """Six slides of 6 x 6 tiles; tumour slides hold a dark corner."""
    rng = np.random.default_rng(0)
    lines = ["path,label,group"]
    for i in range(6):
        picture = rng.normal((200, 140, 180), 25, (6 * 224, 6 * 224, 3))
        if i % 2:
            picture[:448, :448] = rng.normal((90, 60, 140), 45, (448, 448, 3))
        write_pyramid(folder / f"slide{i}.tif", np.clip(picture, 0, 255).astype(np.uint8), 0.5)
        lines.append(f"slide{i}.tif,{'tumour' if i % 2 else 'normal'},patient {i}")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_ten_lines_of_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_cohort(tmp_path)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), namespace)  # what a reader would paste
    assert "looks for: **tumour**" in capsys.readouterr().out
    assert load_head(tmp_path / "tumour.prospector").card_["encoder"]["name"] == "stain-texture"
    why = namespace["why"]
    assert why.score == pytest.approx(np.max(namespace["scores"]))  # type: ignore[attr-defined, call-overload]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_parses(line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    command = prospect.get_command(click.Context(prospect), name)
    assert command is not None
    command.make_context(name, words)


def test_there_are_commands_to_parse() -> None:
    assert {line.split()[1] for line in COMMANDS} >= {"embed", "fit", "map", "evaluate", "info", "view"}


def test_pictures_and_links_within_the_project_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", TEXT, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
