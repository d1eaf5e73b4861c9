"""The cohort's tokens, read once for a head, so that the nearest examples of a place are found at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prospector._napari.head_tokens import head_tokens
from napari_prospector._napari.progress import JobProgress, Steps, TimeLeft
from napari_prospector.study.cohort import TOKENS_SUFFIX

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.nearest import TokenIndex
    from napari_prospector.study.project import StudySlide
    from napari_prospector.tokens.store import TokenGrid
    from napari_prospector.tokens.tilepictures import TilePictures

__all__ = ["PICTURE_PX", "CohortExamples", "CohortRequest", "is_same_head", "read_cohort"]

PICTURE_PX = 60


@dataclass(frozen=True, eq=False)
class CohortRequest:
    """Which tokens are wanted: those of labelled slides, for a head."""

    head: ProspectorHead
    slides: tuple[StudySlide, ...]

    @classmethod
    def of(cls, head: ProspectorHead, slides: Sequence[StudySlide]) -> CohortRequest:
        """Take the slides with a label that the head knows; of a head fitted on regions, all with a label."""
        classes = {str(name) for name in head.classes_}
        labelled = [slide for slide in slides if slide.label]
        return cls(head, tuple([slide for slide in labelled if slide.label in classes] or labelled))

    def is_same(self, other: CohortRequest | None) -> bool:
        """Say whether another one wants the same; names and merging of concepts make no difference."""
        return other is not None and self.slides == other.slides and is_same_head(self.head, other.head)


@dataclass(frozen=True, eq=False)
class CohortExamples:
    """What is kept of a cohort.

    Attributes
    ----------
    request
        What was wanted.
    index
        Of its tokens.
    slides, grids
        Those that are embedded, in the order of the index.
    pictures
        Of their tokens.
    n_missing
        Labelled slides that are not embedded.
    """

    request: CohortRequest
    index: TokenIndex
    slides: tuple[StudySlide, ...]
    grids: tuple[TokenGrid, ...]
    pictures: TilePictures
    n_missing: int


def read_cohort(request: CohortRequest) -> Steps[CohortExamples | str]:
    """Read the tokens of a cohort.

    Yields
    ------
    JobProgress

    Returns
    -------
    CohortExamples or str
        A sentence where there is nothing to read: nobody asked for it, so that it is no error.

    Raises
    ------
    ProspectorError
        As `index_tokens`.
    """
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.nearest import index_tokens
    from napari_prospector.tokens.tilepictures import TilePictures

    found: dict[int, Path] = {}
    for number, slide in enumerate(request.slides):
        yield JobProgress("Looking for tokens", number, len(request.slides))
        place = head_tokens(slide, request.head)
        if place is not None:
            found[number] = place
    if not found:
        return (
            "Examples come from labelled slides that are embedded with the head's encoder. Embed them under 'Slides'."
        )
    slides = tuple(request.slides[number] for number in found)
    graphs = CohortGraphs(list(found.values()), without=request.head.card_.get("without", {}))
    left, steps = TimeLeft(), index_tokens(request.head, graphs, [slide.label for slide in slides])
    with closing(steps):
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                index: TokenIndex = end.value
                break
            yield JobProgress("Reading tokens of the cohort", done, total, left(done, total))
    paths = [None if slide.path.name.endswith(TOKENS_SUFFIX) else slide.path for slide in slides]
    mpps: list[Any] = [grid.geometry.slide_mpp for grid in graphs.grids]
    pictures = TilePictures(graphs.grids, paths, mpps, size_px=PICTURE_PX)
    return CohortExamples(request, index, slides, graphs.grids, pictures, len(request.slides) - len(slides))


def is_same_head(one: ProspectorHead, other: ProspectorHead) -> bool:
    """Say whether two heads are one but for the edits of its concepts; read from one file twice they are too."""
    if one is other or one.kernels_ is other.kernels_:
        return True
    pairs = [(head.kernels_.evidence, head.quantizer_.mean_) for head in (one, other)]
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(*pairs, strict=True))
