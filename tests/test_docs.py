"""What the pages in docs/ show works: every block of Python runs, every command parses, every link leads somewhere.

The blocks of one page run in order, in one namespace, in a folder with the small cohort of `small_study` (cohort.csv,
slides/). A page that needs more adds a function to `PREPARED`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import foreign_stores
import pytest
from small_study import make_cohort

from napari_prospector.cli.main import prospect

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def random_weights(folder: Path) -> None:
    """Write weights of MobileNetV2 that have seen nothing."""
    safetensors, timm = pytest.importorskip("safetensors.torch"), pytest.importorskip("timm")
    safetensors.save_file(timm.create_model("mobilenetv2_100").state_dict(), folder / "mobile.safetensors")


PREPARED: dict[str, Callable[[Path], object]] = {
    "import.md": lambda folder: foreign_stores.trident(folder / "case7.h5"),
    "tokens.md": random_weights,
}
"""What a page needs besides the cohort, by the name of its file: a function of the folder that its blocks run in."""


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return the lines of a page that call prospect; a backslash at the end of a line goes on in the next."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("prospect ")]


def named(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_the_blocks_of_python_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cohort(tmp_path)
    PREPARED.get(named(page), lambda folder: None)(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{named(page)}, block {number}", "exec"), names)


@pytest.mark.parametrize(
    ("page", "line"), [(named(page), line) for page in PAGES for line in commands(page)], ids=lambda word: word
)
def test_every_command_parses(page: str, line: str) -> None:
    name, *words = shlex.split(line, comments=True)[1:]
    command = prospect.get_command(click.Context(prospect), name)
    assert command is not None
    command.make_context(name, words)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_option_and_command_that_a_page_names_exists(page: Path) -> None:
    names = prospect.list_commands(click.Context(prospect))
    found = [prospect.get_command(click.Context(prospect), name) for name in names]
    options = {name for command in found if command for option in command.params for name in option.opts} | {"--help"}
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spoken = [words for words in re.findall(r"`([^`]+)`", prose) if words.startswith(("--", "prospect "))]
    assert {word for words in spoken for word in re.findall(r"--[\w-]+", words)} <= options
    assert {words.split()[1] for words in spoken if words.startswith("prospect ")} <= set(names)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_no_page_forgets_the_language_of_a_block() -> None:
    """A block without one would not be tested, and nobody would notice."""
    known = {"bash", "csv", "console", "json", "python", "text", "toml", "yaml"}
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {fence.strip() for fence in fences[::2]} <= known, named(page)
