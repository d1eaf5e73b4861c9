"""Places on a slide where a concept, or a pair of concepts, occurs, and how to fly to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_prospector._napari.camera import fly_to
from napari_prospector._napari.kernel_grid import ALONE
from napari_prospector._napari.progress import JobProgress, Steps, reported

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.sources import Source
    from napari_prospector._napari.workspace import DrawnMap
    from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["Places", "find_places", "fly_to_px"]

MOST_PLACES = 200
AROUND_TILES = 8
"""What is seen of a place: so many widths of a tile."""


@dataclass(frozen=True)
class Places:
    """Where a concept or a pair lies on a slide.

    Attributes
    ----------
    n_found
        How often it occurs.
    n_tokens
        At how many tokens: of the first concept, for a pair.
    tokens
        (row, col) of these tokens; of many some, spread evenly.
    centres_px
        (row, col) of each place in level-0 pixels: halfway between the two tokens of a pair.
    """

    n_found: int = 0
    n_tokens: int = 0
    tokens: tuple[tuple[int, int], ...] = ()
    centres_px: tuple[tuple[float, float], ...] = ()

    def sentence(self, what: str, slide: str) -> str:
        """Say how often it occurs."""
        if not self.n_found:
            return f"{what}: nowhere on {slide}."
        times = "once" if self.n_found == 1 else f"{self.n_found:,} times"
        at = f", at {self.n_tokens:,} tiles" if 1 < self.n_tokens < self.n_found else ""
        more = f"; {len(self.tokens)} of them are listed" if len(self.tokens) < self.n_tokens else ""
        return f"{what}: {times} on {slide}{at}{more}."


def find_places(drawn: DrawnMap, first: int, second: int) -> Callable[[], Steps[Places]]:
    """Return what finds the places of a pair of concepts on a slide, or of one concept.

    Parameters
    ----------
    drawn
        What was found on the slide.
    first, second
        Concepts as they were learned; `second` is `ALONE` for the tokens of the first.
    """

    def steps() -> Steps[Places]:
        from napari_prospector.study.pair_places import pair_places

        yield JobProgress("Looking for places")
        if second == ALONE:
            return _places_of(drawn, first)
        sprite = np.full(drawn.mask.shape, -1, dtype=np.int32)
        sprite[drawn.mask] = drawn.concepts

        def work(tell: Callable[[JobProgress], None]) -> Places:
            tell(JobProgress("Looking for places"))
            found = pair_places(sprite, first, second, drawn.head.radius_, drawn.geometry, MOST_PLACES)
            tokens, centres = tuple(one.first for one in found.places), tuple(one.centre_px for one in found.places)
            return Places(found.n_pairs, found.n_tokens, tokens, centres)

        return (yield from reported(work))

    return steps


def _places_of(drawn: DrawnMap, concept: int) -> Places:
    """Find the tokens of a concept; of many some, spread evenly from top to bottom."""
    cells = np.argwhere(drawn.mask)[drawn.concepts == concept]
    chosen = cells[np.linspace(0, len(cells) - 1, min(MOST_PLACES, len(cells))).astype(np.int64)]
    centres = drawn.geometry.centre_px(chosen[:, 0], chosen[:, 1]).tolist()
    return Places(
        len(cells),
        len(cells),
        tuple((row, col) for row, col in chosen.tolist()),
        tuple((row, col) for row, col in centres),
    )


def fly_to_px(viewer: Viewer, source: Source, geometry: GridGeometry, centre_px: tuple[float, float]) -> None:
    """Show a place of a slide in the middle of the canvas, with some tiles around it.

    Parameters
    ----------
    viewer, source
        The slide, and where it is open.
    geometry
        Of tokens on it, for the width of a tile; and of the source where that shows a token grid.
    centre_px
        (row, col) in level-0 pixels.
    """
    half = AROUND_TILES * geometry.tile / 2
    corners = np.array([centre_px, np.subtract(centre_px, half), np.add(centre_px, half)])
    if source.kind == "tokens":
        corners = (corners - geometry.centre_px(0, 0)) / geometry.stride
    centre, low, high = (np.asarray(source.layer.data_to_world(at)[-2:], dtype=np.float64) for at in corners)
    fly_to(viewer, (float(centre[0]), float(centre[1])), float(np.abs(high - low).max()))
