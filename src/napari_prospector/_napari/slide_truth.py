"""What is known to be true of a slide that a map is measured against: regions that were drawn, or the cohort's mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_prospector._napari.workspace import DrawnMap
    from napari_prospector.study.annotations import Region
    from napari_prospector.study.project import Study

__all__ = ["SlideTruth", "truth_of"]


@dataclass(frozen=True, eq=False)
class SlideTruth:
    """A truth.

    Attributes
    ----------
    tokens
        Shape (n_tokens,), in the order of the map's mask: 1 of the class, 0 not, -1 unknown.
    origin
        What it rests on, for the user.
    """

    tokens: NDArray[np.int8]
    origin: str


def truth_of(study: Study, drawn: DrawnMap) -> SlideTruth | None:
    """Return the truth of a map; it reads files and measures regions, so call it in a thread.

    Parameters
    ----------
    study
        Holds annotations and the cohort's masks. Drawn regions of the class count before a mask.
    drawn
        The map.

    Returns
    -------
    SlideTruth or None
        None where nothing is known.

    Raises
    ------
    ProspectorError
        If a mask cannot be read.
    """
    from napari_prospector.study.truths import read_truth, token_truth
    from napari_prospector.tokens.store import TokenGrid

    regions = study.regions(drawn.source.key)
    mask_file = _mask_file(study, drawn)
    is_drawn = any(region.label == drawn.target for region in regions)
    if not is_drawn and mask_file is None:
        return None
    with TokenGrid.open(drawn.tokens) as grid:
        rows, cols = grid.attrs["level0_shape"]
    if is_drawn:
        return _of_regions(regions, drawn, (rows, cols))
    assert mask_file is not None
    marks = token_truth(read_truth(mask_file), drawn.geometry, (rows, cols))
    return SlideTruth(marks[drawn.mask], f"the mask {mask_file.name}")


def _mask_file(study: Study, drawn: DrawnMap) -> Path | None:
    """Return the cohort's mask of a slide."""
    slide = None if drawn.source.path is None else study.slide(drawn.source.path)
    return None if slide is None else slide.truth


def _of_regions(regions: tuple[Region, ...], drawn: DrawnMap, shape: tuple[int, int]) -> SlideTruth:
    """Return regions as a truth; where none of another class is drawn, all that is not drawn is not of the class."""
    from napari_prospector.study.region_tokens import region_truth

    has_others = any(region.label not in (None, drawn.target) for region in regions)
    tokens = region_truth(
        regions, drawn.target, drawn.geometry, drawn.mask, outside=-1 if has_others else 0, slide_shape=shape
    )
    rest = "tokens in no region do not count" if has_others else f"all else counts as not {drawn.target}"
    return SlideTruth(tokens, f"the regions drawn on this slide; {rest}")
