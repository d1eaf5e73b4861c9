"""The token grids of a cohort that a head can read: finished, and of its encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_prospector._napari.request import default_tokens_path, encoder_of, other_tokens_paths
from napari_prospector.errors import ProspectorError
from napari_prospector.study.cohort import TOKENS_SUFFIX

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.project import StudySlide

__all__ = ["can_read", "head_tokens"]


def head_tokens(slide: StudySlide, head: ProspectorHead) -> Path | None:
    """Return the finished token grid of a slide that is of the head's encoder; None where there is none."""
    return next((place for place in _places(slide, head) if can_read(head, place)), None)


def can_read(head: ProspectorHead, place: Path) -> bool:
    """Say whether there is a finished token grid that the head can read."""
    from napari_prospector.tokens.store import TokenGrid

    if not place.exists():
        return False
    try:
        with TokenGrid.open(place) as grid:
            head.check_encoder(grid.tokens_card)
            return grid.is_complete
    except ProspectorError:
        return False


def _places(slide: StudySlide, head: ProspectorHead) -> Iterator[Path]:
    """Yield where the tokens of a slide may lie."""
    if slide.path.name.endswith(TOKENS_SUFFIX):
        yield slide.path
        return
    if slide.tokens is not None:
        yield slide.tokens
    yield default_tokens_path(slide.path, encoder_of(head))
    yield from other_tokens_paths(slide.path)
