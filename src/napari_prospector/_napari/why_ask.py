"""Questions of the widget Why, and the steps that answer them in a thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_prospector._napari.job import class_of
from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Steps
from napari_prospector._napari.tasks import Task, show_failure
from napari_prospector.study.why_answer import Comparison, RegionAnswer, answer_region, answer_token

if TYPE_CHECKING:
    from napari_prospector._napari.why_cohort import CohortExamples
    from napari_prospector._napari.workspace import DrawnMap
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.annotations import Region
    from napari_prospector.study.nearest import Example
    from napari_prospector.tokens.store import TokenGrid
    from napari_prospector.tokens.tilepictures import TilePicture, TilePictures

__all__ = [
    "Asker",
    "ExamplePicture",
    "Nearest",
    "Question",
    "RegionChoice",
    "RegionQuestion",
    "TokenReader",
    "answering",
    "comparing",
]

TOKEN_PX = 112
N_EXAMPLES = 4


@dataclass(frozen=True, eq=False)
class Question:
    """The question why a token has its score.

    Attributes
    ----------
    drawn
        The slide's maps.
    head
        That drew them, with its concepts as they are now.
    map
        Which of the maps.
    row, col
        The token.
    examples
        The cohort, where it was read.
    with_own
        Whether examples may come from this very slide.
    """

    drawn: DrawnMap
    head: ProspectorHead
    map: str
    row: int
    col: int
    examples: CohortExamples | None = None
    with_own: bool = False


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest examples of each class, the nearest first, and the cohort that they are of."""

    cohort: CohortExamples
    found: dict[Hashable, tuple[Example, ...]]


@dataclass(frozen=True, eq=False)
class ExamplePicture:
    """The picture of one example."""

    example: Example
    picture: TilePicture


class TokenReader:
    """Reads embeddings and pictures of the slides that are open; used by one thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[TokenGrid, TilePictures]] = {}

    def of(self, drawn: DrawnMap) -> tuple[TokenGrid, TilePictures]:
        """Return the grid of a drawn map and the pictures of its tokens."""
        if drawn.tokens not in self._kept:
            from napari_prospector.tokens.store import TokenGrid
            from napari_prospector.tokens.tilepictures import TilePictures

            grid = TokenGrid.open(drawn.tokens)
            slide = drawn.source.path if drawn.source.kind == "slide" else None
            pictures = TilePictures([grid], [slide], [drawn.geometry.slide_mpp], size_px=TOKEN_PX)
            self._kept[drawn.tokens] = grid, pictures
        return self._kept[drawn.tokens]


def answering(question: Question, reader: TokenReader) -> Steps[None]:
    """Answer, the score first, then the picture, then the examples.

    Yields
    ------
    JobProgress
        With `found`: a `TokenAnswer`, a `TilePicture`, a `Nearest`, and `ExamplePicture` after `ExamplePicture`.
    """
    drawn, row, col = question.drawn, question.row, question.col
    token = drawn.token_at(row, col)
    assert token is not None
    value = float(drawn.maps[question.map][row, col]) if question.map in drawn.maps else None
    target = class_of(question.head, drawn.target)
    place = (drawn.geometry, (row, col))
    answer = answer_token(question.head, drawn.graph, token, *place, question.map, target, value)
    yield JobProgress("Splitting the score", found=answer)
    grid, pictures = reader.of(drawn)
    yield JobProgress("Reading the tile", found=pictures.picture(0, row, col))
    cohort = question.examples
    if cohort is None:
        return
    own = None if question.with_own else str(grid.attrs["slide_fingerprint"])
    found = cohort.index.nearest((grid, row, col), N_EXAMPLES, own)
    yield JobProgress("Finding examples", found=Nearest(cohort, found))
    examples = [example for several in found.values() for example in several]
    places = [(example.slide, example.row, example.col) for example in examples]
    for index, picture in cohort.pictures.pictures(places):
        yield JobProgress("Reading examples", found=ExamplePicture(examples[index], picture))


@dataclass(frozen=True, eq=False)
class RegionChoice:
    """A region to be told the value of: drawn, or the tokens that are True."""

    name: str
    region: Region | None = None
    cells: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class RegionQuestion:
    """The question what regions are worth. `first` and `second` may be missing; the rest as in `Question`."""

    drawn: DrawnMap
    head: ProspectorHead
    map: str
    first: RegionChoice | None
    second: RegionChoice | None
    slide_shape: tuple[int, int] | None = None


def comparing(question: RegionQuestion) -> Steps[Comparison]:
    """Work out the values of one or two regions.

    Raises
    ------
    InvalidInputError
        A region holds no token.
    """
    drawn, head, name = question.drawn, question.head, question.map
    yield JobProgress("Measuring the regions")
    if drawn.painter is not None:
        scores = drawn.painter.scores(name, class_of(head, drawn.target), head.concept_edits_)
    else:
        scores = drawn.maps[name]
    values: list[RegionAnswer | None] = []
    for choice in (question.first, question.second):
        yield JobProgress("Measuring the regions")
        if choice is None:
            values.append(None)
            continue
        inside = _cells_of(choice, drawn, question.slide_shape) & drawn.mask
        concepts = drawn.concepts[inside[drawn.mask]]
        about = (choice.name, name, drawn.target)
        values.append(answer_region(head, drawn.geometry, scores[inside], concepts, *about))
    return Comparison(values[0], values[1])


def _cells_of(choice: RegionChoice, drawn: DrawnMap, slide_shape: tuple[int, int] | None) -> NDArray[np.bool_]:
    """Return where the tokens of a region are, (rows, cols)."""
    if choice.cells is not None:
        drawn.geometry.check_shape("cells", choice.cells.shape)
        return choice.cells
    from napari_prospector.study.region_tokens import tokens_of

    assert choice.region is not None
    return np.asarray(tokens_of([choice.region], drawn.geometry, slide_shape=slide_shape) >= 0)


class Asker(QObject):
    """One question at a time, the latest: what is asked while another is being answered takes its place."""

    found = Signal(object)
    """Part of an answer."""
    finished = Signal(object)
    """The result of the steps."""
    refused = Signal(str)
    """Why there is no answer."""

    def __init__(self, owner: QObject) -> None:
        super().__init__(owner)
        self._task: Task | None = None
        self._next: Callable[[], Steps[Any]] | None = None
        self._is_stale = False

    @property
    def is_at_work(self) -> bool:
        """Whether something is being answered."""
        return self._task is not None

    def ask(self, steps: Callable[[], Steps[Any]]) -> None:
        """Answer this, and nothing that was asked before."""
        self.forget()
        self._next = steps
        self._start()

    def forget(self) -> None:
        """Answer nothing of what was asked."""
        self._next = None
        if self._task is not None:
            self._is_stale = True
            self._task.cancel()

    def _start(self) -> None:
        """Take up the next question, unless one is being answered."""
        if self._task is not None or self._next is None:
            return
        steps, self._next, self._is_stale = self._next, None, False
        self._task = Task(steps, self)
        self._task.progressed.connect(self._tell)
        self._task.finished.connect(self._end)
        self._task.start()

    def _tell(self, progress: JobProgress) -> None:
        """Pass on what was found."""
        if progress.found is not None and not self._is_stale:
            self.found.emit(progress.found)

    def _end(self, outcome: Any) -> None:
        """Pass on what came of it, and take up the next."""
        task, self._task = self._task, None
        if task is not None:
            task.deleteLater()
        if isinstance(outcome, Failure):
            show_failure(outcome)
        elif not self._is_stale:
            if isinstance(outcome, Refusal):
                self.refused.emit(outcome.sentence)
            elif outcome is not None:
                self.finished.emit(outcome)
        self._start()
