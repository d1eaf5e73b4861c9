"""The most typical tiles of every concept of a head, from the token grids of a study: work for a thread, without Qt.

Tokens are looked at once for a head; pictures are read when they are wanted, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.head_tokens import can_read, head_tokens
from napari_prospector._napari.progress import JobProgress, Steps, TimeLeft
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.cohort import TOKENS_SUFFIX
from napari_prospector.study.project import Study, StudySlide

if TYPE_CHECKING:
    from napari_prospector._napari.workspace import DrawnMap
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.best_tokens import Example
    from napari_prospector.study.examples import ConceptExamples
    from napari_prospector.tokens.store import TokenGrid
    from napari_prospector.tokens.tilepictures import Place, TilePicture, TilePictures

__all__ = ["PICTURE_PX", "Gallery", "class_shares_of", "find_gallery", "place_of", "read_pictures"]

N_EACH = 24
"""Tokens of each concept that are kept: more than are shown, for concepts that are merged later."""
PICTURE_PX = 96
MOST_KEPT = 3000  # pictures, 83 MB


@dataclass(frozen=True, eq=False)
class Gallery:
    """What was found for a head.

    Attributes
    ----------
    head
        The head.
    slides
        The slides that were looked at, in the order of `Example.slide`.
    grids
        Their token grids.
    examples
        The most typical tokens.
    reader
        Reads their pictures.
    pictures
        Those that were read; filled by `read_pictures`.
    """

    head: ProspectorHead
    slides: tuple[StudySlide, ...]
    grids: tuple[TokenGrid, ...]
    examples: ConceptExamples
    reader: TilePictures
    pictures: dict[Place, TilePicture] = field(default_factory=dict)

    def of_group(self, members: Sequence[int], most: int) -> tuple[Example, ...]:
        """Return the most typical tokens of a concept, or of merged ones."""
        return self.examples.of_group(members, most)

    def sentence(self, members: Sequence[int]) -> str:
        """Say how many tokens a concept has, and where."""
        counts = self.examples.counts[:, list(members)].sum(axis=1)
        n_slides = int((counts > 0).sum())
        slides = f"{n_slides} of {len(counts)} slide{'s' * (len(counts) != 1)}"
        return f"{int(counts.sum()):,} tiles in {slides}" if n_slides else f"in none of {len(counts)} slides"

    def caption(self, example: Example) -> list[str]:
        """Say where a token is, in lines."""
        label = f"class {example.label}" if str(example.label) else "no label"
        return [self.slides[example.slide].path.name, label, f"row {example.row}, column {example.col}"]


def place_of(example: Example) -> Place:
    """Return slide, row and col of a token."""
    return example.slide, example.row, example.col


def class_shares_of(head: ProspectorHead, found: ConceptExamples) -> NDArray[np.float64]:
    """Return the share of the tokens of each class of a head that are of each concept, (n_classes, K).

    NaN for a class that no slide has.
    """
    shares = dict(zip(map(str, found.classes), found.shares(), strict=True))
    missing = np.full(found.counts.shape[1], np.nan)
    return np.stack([shares.get(str(name), missing) for name in head.classes_.tolist()])


def find_gallery(head: ProspectorHead, study: Study, maps: Sequence[DrawnMap] = ()) -> Callable[[], Steps[Gallery]]:
    """Return what finds the most typical tokens of every concept.

    Parameters
    ----------
    head
        Fitted.
    study
        Its slides, where they are embedded for this head, are looked at; whether the slides themselves are there or
        not.
    maps
        Maps that are drawn; their slides are looked at too.
    """

    def steps() -> Steps[Gallery]:
        from napari_prospector.study.cohort_graphs import CohortGraphs
        from napari_prospector.study.examples import typical_tokens
        from napari_prospector.tokens.tilepictures import TilePictures

        slides, places = yield from _embedded(head, study, maps)
        if not slides:
            raise InvalidInputError(
                "No slide is embedded for this head, so there are no tiles to show. Embed slides under 'Slides', or "
                "draw a map under 'Prospect'."
            )
        graphs = CohortGraphs(places, without=head.card_.get("without", {}))
        looking, left = typical_tokens(head, graphs, [slide.label or "" for slide in slides], N_EACH), TimeLeft()
        while True:
            try:
                done, total = next(looking)
            except StopIteration as end:
                found: ConceptExamples = end.value
                break
            yield JobProgress("Looking at tokens", done, total, left(done, total))
        files = [None if slide.path.name.endswith(TOKENS_SUFFIX) else slide.path for slide in slides]
        mpps = [slide.mpp for slide in slides]
        reader = TilePictures(graphs.grids, files, mpps, size_px=PICTURE_PX, most_kept=MOST_KEPT)
        return Gallery(head, tuple(slides), graphs.grids, found, reader)

    return steps


def read_pictures(gallery: Gallery, queue: Callable[[], Sequence[Sequence[Place]]]) -> Callable[[], Steps[None]]:
    """Return what reads pictures until none is wanted any more.

    Parameters
    ----------
    gallery
        Gets them.
    queue
        Says what is wanted: the places of several concepts, the most urgent first. It is asked again after each
        concept, so that what is looked at now comes next.

    Yields
    ------
    JobProgress
        With the place of each picture that was read as `found`.
    """

    def steps() -> Steps[None]:
        while True:
            wanted = [tuple(places) for places in queue()]
            unread = [[place for place in places if place not in gallery.pictures] for places in wanted]
            batch = next((places for places in unread if places), None)
            if batch is None:
                return
            total = len({place for places in wanted for place in places})
            for index, picture in gallery.reader.pictures(batch):
                gallery.pictures[batch[index]] = picture
                yield JobProgress("Reading tiles", min(len(gallery.pictures), total), total, found=batch[index])

    return steps


def _embedded(
    head: ProspectorHead, study: Study, maps: Sequence[DrawnMap]
) -> Steps[tuple[list[StudySlide], list[Path]]]:
    """Find the slides that are embedded for a head, and their token grids."""
    slides, places = [], []
    for number, slide in enumerate(study.slides):
        yield JobProgress("Looking for tokens", number, len(study.slides))
        place = head_tokens(slide, head)
        if place is not None:
            slides.append(slide)
            places.append(place)
    for drawn in maps:
        known = drawn.source.path if drawn.source.kind == "slide" else None
        is_new = drawn.tokens not in places and all(slide.path != known for slide in slides)
        if is_new and can_read(head, drawn.tokens):
            slides.append(StudySlide(drawn.tokens if known is None else known, mpp=drawn.geometry.slide_mpp))
            places.append(drawn.tokens)
    return slides, places
