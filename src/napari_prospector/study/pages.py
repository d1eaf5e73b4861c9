"""Templates of pages that are single files: what they show is escaped, they load nothing, and they look alike."""

from __future__ import annotations

from importlib import resources
from typing import Any

from napari_prospector.errors import MissingExtraError

__all__ = ["page_template"]


def page_template(name: str) -> Any:
    """Return a template of this folder by its file name; in it, `style | safe` is the style of all pages.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("Pages need jinja2. Install it: pip install jinja2") from error
    folder = resources.files("napari_prospector.study")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.globals["style"] = folder.joinpath("page.css").read_text(encoding="utf-8")
    return environment.from_string(folder.joinpath(name).read_text(encoding="utf-8"))
