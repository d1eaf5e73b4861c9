"""What one works on: slides with their labels, annotations, the head and its concepts, as one frozen record.

Every edit makes a new record (`dataclasses.replace`, or the methods below), so that undo is keeping the old one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.cohort import Cohort, CohortRow

if TYPE_CHECKING:
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.study.annotations import AnnotationClass, Region

__all__ = ["EncoderChoice", "Study", "StudySlide"]


@dataclass(frozen=True)
class EncoderChoice:
    """The encoder that slides are embedded with; None stands for the encoder's own.

    Attributes
    ----------
    name
        Of the encoder's card.
    weights
        Its weight file.
    tile_px, mpp
        Size of a tile in pixels, and µm per pixel.
    stain_normalize
        As in `embed_slide`.
    """

    name: str = "stain-texture"
    weights: Path | None = None
    tile_px: int | None = None
    mpp: float | None = None
    stain_normalize: str | None = None


@dataclass(frozen=True)
class StudySlide:
    """A slide of the cohort, labelled or not yet.

    Attributes
    ----------
    path
        The slide, or its token grid; absolute.
    label, group, split, mpp, truth
        As in `CohortRow`; `label` is None while nobody has given one.
    tokens
        Its token grid, where that is not where it lies by default.
    """

    path: Path
    label: str | None = None
    group: str | None = None
    split: str | None = None
    mpp: float | None = None
    truth: Path | None = None
    tokens: Path | None = None

    @property
    def key(self) -> str:
        """What names the slide in `Study.annotations`."""
        return os.fspath(self.path)

    @classmethod
    def of_row(cls, row: CohortRow) -> Self:
        """Take a row of a cohort's table."""
        return cls(row.path, row.label or None, row.group, row.split, row.mpp, row.truth)

    def row(self, line: int = 0) -> CohortRow:
        """Return the row of a cohort's table; an unlabelled slide has label ''."""
        return CohortRow(self.path, self.label or "", self.group, self.split, self.mpp, self.truth, line)


@dataclass(frozen=True)
class Study:
    """Everything that is kept, and that can be undone.

    Attributes
    ----------
    slides
        The cohort, in the order of its table.
    classes
        Of annotations, with their colours.
    annotations
        Regions of each slide, by `StudySlide.key`; a layer that was read from no file has the key ``layer:NAME``.
    encoder
        For embedding.
    head
        The head's file; None while there is none.
    concepts
        What was done to the concepts of that head; None: nothing that its file does not say.
    """

    slides: tuple[StudySlide, ...] = ()
    classes: tuple[AnnotationClass, ...] = ()
    annotations: Mapping[str, tuple[Region, ...]] = field(default_factory=lambda: MappingProxyType({}))
    encoder: EncoderChoice = EncoderChoice()
    head: Path | None = None
    concepts: ConceptEdits | None = None

    def slide(self, path: Path) -> StudySlide | None:
        """Return a slide of the cohort; None where it is not in it."""
        return next((slide for slide in self.slides if slide.path == path), None)

    def with_slides(self, slides: Iterable[StudySlide]) -> Self:
        """Add slides at the end; those that are there already are left as they are."""
        known = {slide.path for slide in self.slides}
        new = {slide.path: slide for slide in slides if slide.path not in known}
        return replace(self, slides=(*self.slides, *new.values()))

    def without_slides(self, paths: Iterable[Path]) -> Self:
        """Take slides out of the cohort; their annotations stay, for the slides may come back."""
        gone = set(paths)
        return replace(self, slides=tuple(slide for slide in self.slides if slide.path not in gone))

    def with_fields(self, paths: Iterable[Path], **changes: Any) -> Self:
        """Change fields, such as ``label``, of slides."""
        meant = set(paths)
        changed = (replace(slide, **changes) if slide.path in meant else slide for slide in self.slides)
        return replace(self, slides=tuple(changed))

    def regions(self, key: str) -> tuple[Region, ...]:
        """Return the annotations of a slide."""
        return self.annotations.get(key, ())

    def with_regions(self, key: str, regions: Iterable[Region]) -> Self:
        """Put regions in place of those that a slide had."""
        kept = {**self.annotations, key: tuple(regions)}
        return replace(self, annotations=MappingProxyType({name: those for name, those in kept.items() if those}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur among slides, sorted."""
        return tuple(sorted({slide.label for slide in self.slides if slide.label}))

    def cohort(self, name: str = "cohort") -> Cohort:
        """Return the labelled slides as a cohort.

        Raises
        ------
        InvalidInputError
            No slide has a label.
        """
        rows = tuple(slide.row(line) for line, slide in enumerate(self.slides, 2) if slide.label)
        if not rows:
            raise InvalidInputError("At least one slide must have a label; none has. Give labels under 'Slides'.")
        return Cohort(rows, name)
