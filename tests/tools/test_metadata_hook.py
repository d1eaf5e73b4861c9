"""What the package index is told: a README whose links lead somewhere, and addresses that nobody made up."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESS = "https://github.com/someone/napari-prospector"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metadata_hook", REPOSITORY / "tools" / "metadata_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hook = load()


@pytest.fixture(autouse=True)
def nobody_states_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PROSPECTOR_REPOSITORY",
        "PROSPECTOR_SITE",
        "GITHUB_REPOSITORY",
        "GITHUB_SERVER_URL",
        "GITHUB_REF_NAME",
    ):
        monkeypatch.delenv(name, raising=False)


def told() -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    hook.RepositoryHook(str(REPOSITORY), {}).update(metadata)
    return metadata


def test_without_an_address_the_readme_stays_and_no_url_is_made_up() -> None:
    assert told() == {"readme": {"content-type": "text/markdown", "text": README}}


def test_where_it_is_published_every_link_of_the_readme_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/napari-prospector")
    monkeypatch.setenv("GITHUB_REF_NAME", "v1.2.3")
    metadata = told()
    text = metadata["readme"]["text"]
    assert re.findall(r"\]\((?!https://)([^)]+)\)", text) == []
    assert f"]({ADDRESS}/raw/v1.2.3/docs/images/demo.png)" in text
    assert f"]({ADDRESS}/blob/v1.2.3/docs/formats.md)" in text
    assert "ADDRESS-OF" not in text
    assert f"git clone {ADDRESS} napari-prospector" in text
    assert metadata["urls"]["Source Code"] == ADDRESS


def test_links_are_made_absolute_and_code_and_other_addresses_are_left_alone() -> None:
    text = (
        "[a](docs/a.md#part) ![b](b.png) [![c](c.svg)](https://x.org) [d](#here) [e](mailto:a@b.org)\n"
        "```\n[f](g.md)\n```\n[h](i)"
    )
    assert hook.absolute(text, ADDRESS, "HEAD") == (
        f"[a]({ADDRESS}/blob/HEAD/docs/a.md#part) ![b]({ADDRESS}/raw/HEAD/b.png) "
        f"[![c]({ADDRESS}/raw/HEAD/c.svg)](https://x.org) [d](#here) [e](mailto:a@b.org)\n```\n[f](g.md)\n```\n"
        f"[h]({ADDRESS}/blob/HEAD/i)"
    )


def test_the_address_is_spelt_as_a_browser_shows_it() -> None:
    assert hook.address_of({"PROSPECTOR_REPOSITORY": ADDRESS + ".git"}) == ADDRESS
    assert hook.address_of({}) is None


@pytest.mark.parametrize("address", ["git@github.com:someone/it.git", "http://x.org/it", "https://x.org", "somewhere"])
def test_an_address_that_the_index_would_refuse_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="must be the https address of the repository"):
        hook.address_of({"PROSPECTOR_REPOSITORY": address})


def test_the_guide_is_the_home_page_where_it_is_published() -> None:
    assert hook.project_urls(ADDRESS, None)["Homepage"] == ADDRESS
    assert hook.project_urls(ADDRESS, "https://x.org/guide/")["Documentation"] == "https://x.org/guide/"
