"""Links of every page lead somewhere, and the guide that mkdocs builds holds every page and nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import napari_prospector

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
GUIDE = sorted(DOCS.rglob("*.md"))
PAGES = [*sorted(REPOSITORY.glob("*.md")), *GUIDE]


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, in which !ENV names variables."""


Loader.add_constructor("!ENV", lambda loader, node: None)
SETTINGS: dict[str, Any] = yaml.load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), Loader)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """What the links and pictures of a page lead to, on this machine."""
    found = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'<(?:img|a)[^>]*(?:src|href)="([^"]+)"', text)
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def slugs(text: str) -> set[str]:
    """The anchors of a page: its headings, spelt as both GitHub and mkdocs spell those of plain words."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode().lower() for heading in headings)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip()) for heading in plain}


def dead(page: Path) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in links(prose(page)):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in slugs(prose(target))):
            yield link


def in_nav(entry: Any) -> list[str]:
    """The pages of a table of contents."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in in_nav(part)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_no_link_is_dead(page: Path) -> None:
    assert list(dead(page)) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The other page\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Home\n[a](other.md) [b](other.md#the-other-page) [c](#home) [d](https://napari.org)\n```\n[e](x)\n```\n"
    )
    assert list(dead(page)) == []
    page.write_text("[a](missing.md) [b](other.md#no-such) ![c](images/no.png) [d](#nowhere)\n")
    assert list(dead(page)) == ["missing.md", "other.md#no-such", "images/no.png", "#nowhere"]


def test_the_table_of_contents_has_every_page_once() -> None:
    listed = in_nav(SETTINGS["nav"])
    assert len(listed) == len(set(listed))
    assert {page.relative_to(DOCS).as_posix() for page in GUIDE} == set(listed)


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(r"^::: napari_prospector\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(napari_prospector.__all__)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_research_use_is_stated(page: str) -> None:
    assert "research use only" in (REPOSITORY / page).read_text(encoding="utf-8").lower()


def test_the_guide_builds_strictly_and_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason="`make docs` brings mkdocs and builds the guide")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, check=False, cwd=REPOSITORY, env=variables, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {page.relative_to(tmp_path / "site").as_posix() for page in (tmp_path / "site").rglob("*.html")}
    assert {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in GUIDE} <= pages
    for page in pages:
        text = (tmp_path / "site" / page).read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|source|iframe)[^>]*src=\"?(https?:|//)[^\s>]*", text)
        fetched += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon)[^>]*href=\"?(https?:|//)[^\s>]*", text)
        assert fetched == [], page
