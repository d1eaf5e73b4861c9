"""What mkdocs is told while it builds the guide: which pages are written, and where the source is.

A page in docs/ that the table of contents lacks fails the build all the same, so a name that is misspelt there cannot
hide its page.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["on_config", "written"]


def on_config(config: Any) -> Any:
    """Prune the table of contents before mkdocs reads it, and link to the repository where its address is known."""
    config.nav = written(config.nav, Path(config.docs_dir))
    if address := os.environ.get("PROSPECTOR_REPOSITORY"):
        # not `repo_url`: of that, the theme asks GitHub for figures whenever a page is opened
        config.extra["social"] = [{"icon": "material/source-repository", "link": address, "name": "Source"}]
    return config


def written(nav: list[Any], docs: Path) -> list[Any]:
    """Keep the entries whose pages are in `docs`, and the groups that have any.

    Parameters
    ----------
    nav
        As in mkdocs.yml: pages, `{title: page}` and `{title: [entries]}`.
    docs
        The folder of the pages.
    """
    kept: list[Any] = []
    for entry in nav:
        title, page = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(page, list):
            page = written(page, docs)
        elif not (docs / page).is_file():
            continue
        if page:
            kept.append(page if title is None else {title: page})
    return kept
