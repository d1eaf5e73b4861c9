"""What the package index and the napari hub are told that pyproject.toml cannot know: where the source lives.

A hook of hatchling. The address comes from PROSPECTOR_REPOSITORY, or from the variables of a workflow that publishes.
With one, the links and pictures of the README become absolute (elsewhere a relative one leads nowhere) and the project
gets its URLs; without one, as in a checkout, the README stays as it is and no address is made up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["RepositoryHook", "absolute", "address_of", "project_urls"]

PLACEHOLDER = "ADDRESS-OF-THIS-REPOSITORY"
PICTURES = (".gif", ".jpg", ".jpeg", ".png", ".svg", ".webp")


class RepositoryHook(MetadataHookInterface):
    """Fill in README and URLs."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` and `urls` of the project."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        address, ref = address_of(os.environ), os.environ.get("GITHUB_REF_NAME") or "HEAD"
        if address is not None:
            text = absolute(text, address, ref)
            metadata["urls"] = project_urls(address, os.environ.get("PROSPECTOR_SITE"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def address_of(variables: Mapping[str, str]) -> str | None:
    """Return the address of the repository, or None where nobody states one.

    Raises
    ------
    ValueError
        If it is not that of a page on the web, which the package index would refuse.
    """
    address = variables.get("PROSPECTOR_REPOSITORY", "")
    if not address and variables.get("GITHUB_REPOSITORY"):
        address = f"{variables.get('GITHUB_SERVER_URL', 'https://github.com')}/{variables['GITHUB_REPOSITORY']}"
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.netloc or not parts.path.strip("/"):
        raise ValueError(
            f"PROSPECTOR_REPOSITORY must be the https address of the repository; got {address!r}. "
            "Pass the one that a browser shows, or unset it."
        )
    return address.rstrip("/").removesuffix(".git")


def absolute(text: str, address: str, ref: str) -> str:
    """Make the links and pictures of a page absolute.

    Parameters
    ----------
    text
        Markdown, at the root of the repository.
    address
        Of the repository; files are under `blob/REF` and, as they are, under `raw/REF`, as GitHub and GitLab have it.
    ref
        Tag, branch or HEAD.

    Returns
    -------
    str
        The page; blocks of code stay as they are, but for the address to clone from.
    """

    def target(match: re.Match[str]) -> str:
        link = match["link"]
        if re.match(r"[a-z]+:|#|//", link):
            return match[0]
        is_picture = match["before"].startswith("!") or link.lower().endswith(PICTURES)
        return f"{match['before']}{address}/{'raw' if is_picture else 'blob'}/{ref}/{link}"

    pieces = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    pieces[::2] = [re.sub(r"(?P<before>!?\[[^\]]*\]\()(?P<link>[^)\s]+)", target, piece) for piece in pieces[::2]]
    return "".join(pieces).replace(PLACEHOLDER, address)


def project_urls(address: str, site: str | None) -> dict[str, str]:
    """List the project's addresses under the labels that the package index and the hub know."""
    return {
        "Homepage": site or address,
        "Documentation": site or f"{address}/tree/HEAD/docs",
        "Source Code": address,
        "Bug Tracker": f"{address}/issues",
        "User Support": f"{address}/issues",
        "Changelog": f"{address}/blob/HEAD/CHANGELOG.md",
    }
