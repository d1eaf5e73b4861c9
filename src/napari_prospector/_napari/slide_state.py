"""What is known of a slide of the cohort: is it there, how large are its pixels, how far is it embedded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector._napari.request import SAME_MPP, default_tokens_path, other_tokens_paths, standard_tiles
from napari_prospector.errors import MissingFileError, ProspectorError
from napari_prospector.study.cohort import TOKENS_SUFFIX
from napari_prospector.study.project import EncoderChoice, StudySlide

if TYPE_CHECKING:
    from napari_prospector.tokens.slides import Slide
    from napari_prospector.tokens.store import TokenGrid

__all__ = ["SlideState", "look_at", "tokens_path"]


@dataclass(frozen=True)
class SlideState:
    """What a look at a slide found.

    Attributes
    ----------
    slide, choice
        What was looked at: the row of the cohort, and the encoder that its tokens are to be of.
    stated_mpp
        The pixel size that the file states.
    shape
        Of level 0; None where the slide could not be opened.
    tokens
        Where its token grid lies, or is to lie.
    done, total, failed
        Tokens of the grid that are embedded, with tissue, without an embedding; `total` is 0 where there is no grid.
    n_tiles
        Tiles with tissue, where an estimate counted them.
    missing
        There is no file.
    problem
        Why it cannot be used or embedded, a sentence.
    """

    slide: StudySlide
    choice: EncoderChoice
    stated_mpp: float | None = None
    shape: tuple[int, int] | None = None
    tokens: Path | None = None
    done: int = 0
    total: int = 0
    failed: int = 0
    n_tiles: int = 0
    missing: bool = False
    problem: str | None = None

    @property
    def mpp(self) -> float | None:
        """The pixel size that counts."""
        return self.slide.mpp or self.stated_mpp

    @property
    def needs_mpp(self) -> bool:
        """Whether the user must say the pixel size."""
        return self.shape is not None and self.mpp is None

    @property
    def is_finished(self) -> bool:
        """Whether nothing of it is left to embed."""
        return self.total > 0 and self.done + self.failed >= self.total

    @property
    def can_embed(self) -> bool:
        """Whether embedding may be tried."""
        is_grid = self.slide.path.name.endswith(TOKENS_SUFFIX)
        return not (is_grid or self.missing or self.needs_mpp or self.is_finished or self.shape is None)

    @property
    def rank(self) -> tuple[int, float]:
        """The order of states in the table: what needs the user first, finished ones last."""
        if self.missing or self.problem:
            return 0, 0.0
        if self.needs_mpp:
            return 1, 0.0
        return (3 if self.is_finished else 2), self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        """Return what the table shows."""
        if self.missing:
            return "no file"
        if self.problem:
            return f"failed: {self.problem}"
        if self.needs_mpp:
            return "no pixel size"
        if self.is_finished:
            failed = f", {self.failed:,} failed" if self.failed else ""
            return f"{self.done:,} tiles embedded{failed}"
        if self.total:
            return f"{self.done:,} of {self.total:,} tiles"
        return f"{self.n_tiles:,} tiles of tissue" if self.n_tiles else "not embedded"

    def details(self) -> str:
        """Return all that is known, for a tooltip, a line each."""
        lines = [str(self.slide.path)]
        if self.shape is not None:
            size = "no pixel size" if self.mpp is None else f"{self.mpp:.4g} µm per pixel"
            lines.append(f"{self.shape[0]:,} × {self.shape[1]:,} px, {size}")
        lines.append(str(self))
        if self.tokens is not None and self.total:
            lines.append(f"Tokens: {self.tokens}")
        return "\n".join(lines)


def tokens_path(slide: StudySlide, choice: EncoderChoice) -> Path:
    """Return where the tokens of a slide go: where its row says, else beside it or in the cache."""
    return slide.tokens or default_tokens_path(slide.path, _wanted(choice))


def look_at(slide: StudySlide, choice: EncoderChoice) -> SlideState:
    """Look at a slide and at its tokens of one encoder; what is wrong is part of the answer.

    Parameters
    ----------
    slide
        The row of the cohort.
    choice
        The encoder.
    """
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.store import TokenGrid

    state = SlideState(slide, choice)
    try:
        if slide.path.name.endswith(TOKENS_SUFFIX):
            with TokenGrid.open(slide.path) as grid:
                return _counted(replace(state, stated_mpp=grid.geometry.slide_mpp), grid)
        with open_slide(slide.path) as opened:
            state = replace(state, stated_mpp=opened.mpp, shape=opened.shape, tokens=tokens_path(slide, choice))
            grid_there = _grid_of(opened, state)
    except MissingFileError:
        return replace(state, missing=True)
    except ProspectorError as error:
        return replace(state, problem=str(error))
    return state if grid_there is None else _counted(state, grid_there)


def _grid_of(opened: Slide, state: SlideState) -> TokenGrid | None:
    """Return the slide's token grid of this encoder; elsewhere than in its own place only a finished one counts."""
    from napari_prospector.tokens.store import TokenGrid

    assert state.tokens is not None
    if state.tokens.exists():
        grid = TokenGrid.open(state.tokens)
        return grid if _belongs(grid, opened, state) else None
    for place in _elsewhere(state.slide):
        try:
            grid = TokenGrid.open(place)
            if _belongs(grid, opened, state) and grid.is_complete:
                return grid
        except ProspectorError:
            continue
    return None


def _elsewhere(slide: StudySlide) -> Iterator[Path]:
    """Yield the other places of token grids where there is one."""
    if slide.tokens is None:
        yield from (place for place in other_tokens_paths(slide.path) if place.exists())


def _belongs(grid: TokenGrid, opened: Slide, state: SlideState) -> bool:
    """Whether a grid was made from this slide, with this pixel size and this encoder."""
    mpp = state.mpp
    if mpp is not None and abs(grid.geometry.slide_mpp / mpp - 1) > SAME_MPP:
        return False
    asked = {name: value for name, value in _wanted(state.choice).items() if value is not None}
    if any(not _same(grid.card.get(name), value) for name, value in asked.items()):
        return False
    return bool(grid.attrs["slide_fingerprint"] == opened.fingerprint())


def _same(one: Any, other: Any) -> bool:
    """Whether two entries of cards are the same; numbers may be rounded."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= SAME_MPP * abs(other)
    return bool(one == other)


def _wanted(choice: EncoderChoice) -> Mapping[str, Any]:
    """Return what a choice of encoder asks of a card."""
    tile_px, mpp = standard_tiles(choice.name) or (None, None)
    return {
        "name": choice.name,
        "tile_px": choice.tile_px or tile_px,
        "mpp": choice.mpp or mpp,
        "stain_normalize": choice.stain_normalize,
    }


def _counted(state: SlideState, grid: TokenGrid) -> SlideState:
    """Return the state with what its grid holds."""
    counts = grid.counts()
    total = counts["pending"] + counts["done"] + counts["failed"]
    return replace(state, tokens=grid.path, done=counts["done"], failed=counts["failed"], total=total)
