"""What mkdocs is told while it builds the guide: where the source is."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["on_config"]


def on_config(config: Any) -> Any:
    """Link to the repository where its address is known."""
    if address := os.environ.get("PROSPECTOR_REPOSITORY"):
        # not `repo_url`: of that, the theme asks GitHub for figures whenever a page is opened
        config.extra["social"] = [{"icon": "material/source-repository", "link": address, "name": "Source"}]
    return config
