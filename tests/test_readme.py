"""What the README shows works: every block of Python runs, every command parses, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from small_study import make_cohort

from napari_prospector.cli.main import prospect
from napari_prospector.core.head import load_head

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("prospect ")]


@pytest.mark.parametrize("block", blocks("python"))
def test_every_block_of_python_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cohort(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert load_head(tmp_path / "tumour.prospector").target_ == "tumour"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    name, *words = shlex.split(line)[1:]
    command = prospect.get_command(click.Context(prospect), name)
    assert command is not None
    command.make_context(name, words)


def test_the_tour_shows_every_command_of_the_main_job() -> None:
    assert {line.split()[1] for line in COMMANDS} >= {"embed", "fit", "map", "evaluate", "info", "view"}


def test_every_option_and_command_that_the_text_names_exists() -> None:
    names = prospect.list_commands(click.Context(prospect))
    commands = [prospect.get_command(click.Context(prospect), name) for name in names]
    options = {name for command in commands if command for option in command.params for name in option.opts}
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    spoken = [words for words in re.findall(r"`([^`]+)`", prose) if words.startswith(("--", "prospect "))]
    assert {word for words in spoken for word in words.split() if word.startswith("--")} <= options
    assert {words.split()[1] for words in spoken if words.startswith("prospect ")} <= set(names)


def test_every_relative_link_and_picture_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT)
    relative = [link for link in links if "://" not in link]
    assert "docs/images/demo.png" in relative
    assert [link for link in relative if not (README.parent / link).is_file()] == []


def test_the_make_targets_that_it_names_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = {word for block in blocks("bash") for word in re.findall(r"^make (\S+)$", block, re.MULTILINE)}
    assert targets == {"demo", "test"}
    assert all(f"\n{target}:" in makefile for target in targets)


def test_the_sizes_of_downloads_are_those_that_the_set_up_announces() -> None:
    set_up = (README.parent / "tools" / "set_up.py").read_text(encoding="utf-8")
    sizes = [re.search(rf'"{name}": Stage\(.*?, (\d+), \d+\)', set_up) for name in ("demo", "test")]
    assert all(size and f"about {size[1]} MB" in TEXT for size in sizes)
