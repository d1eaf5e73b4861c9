"""The job of the panel, off the GUI thread: a slide and a head in, all maps and the concepts of its tokens out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.progress import JobProgress, Steps, TimeLeft, reported
from napari_prospector._napari.request import ProspectJob, content_tokens_path, encoder_of
from napari_prospector._napari.settings import settings
from napari_prospector.errors import InvalidInputError, MismatchError, ProspectorError

if TYPE_CHECKING:
    from napari_prospector._napari.painter import MapPainter
    from napari_prospector.core.graph import TokenGraph
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.tokens.encoders.cards import Encoder
    from napari_prospector.tokens.geometry import GridGeometry
    from napari_prospector.tokens.slides import Slide
    from napari_prospector.tokens.store import TokenGrid

__all__ = ["Encoders", "ProspectResult", "class_of", "prospect"]


@dataclass(frozen=True, eq=False)
class ProspectResult:
    """What a job found.

    Attributes
    ----------
    job
        What was asked.
    tokens
        Folder of the token grid.
    fingerprint
        Of the slide's content.
    geometry
        Of the grid.
    mask
        Shape (rows, cols): where there is a token.
    graph
        The tokens, in the order of `mask`.
    painter
        Draws the maps again when concepts are hidden; it knows the concept of each token.
    maps
        Name to scores of every map that the head draws, shape (rows, cols), float32; NaN where there is no token.
    probabilities
        Of each class for the whole slide.
    n_failed
        Tiles that could not be read or embedded.
    """

    job: ProspectJob
    tokens: Path
    fingerprint: str
    geometry: GridGeometry
    mask: NDArray[np.bool_]
    graph: TokenGraph
    painter: MapPainter
    maps: dict[str, NDArray[np.float32]]
    probabilities: dict[str, float]
    n_failed: int

    def summary(self) -> str:
        """Return what the head says about the whole slide, for the user."""
        chances = sorted(self.probabilities.items(), key=lambda item: -item[1])
        lines = [f"{self.job.layer}: " + ", ".join(f"{name} {chance:.0%}" for name, chance in chances)]
        if self.n_failed:
            lines.append(f"{self.n_failed:,} tiles could not be read and are holes in the map.")
        return "\n".join(lines)

    def verdict(self) -> str:
        """Return the summary, and what to know before trusting it."""
        return "\n".join([self.summary(), *self.job.head.notes_, *self.job.head.concept_edits_.notes()])

    @property
    def scores(self) -> NDArray[np.float32]:
        """The map that was asked for, (rows, cols); NaN where there is no token."""
        return self.maps[self.job.map]

    @property
    def concepts(self) -> NDArray[np.int32]:
        """The concept of every cell as it was learned, (rows, cols); -1 where there is no token."""
        return self.painter.concept_grid()

    @property
    def target(self) -> str:
        """The class that the map looks for."""
        return self.job.target or str(self.job.head.target_)


Encoders: TypeAlias = "dict[float | None, Encoder]"
"""Encoders of a head that are loaded, by the pixel size of a grid that is gone on with."""


def prospect(
    job: ProspectJob, time_left: TimeLeft | None = None, encoders: Encoders | None = None
) -> Steps[ProspectResult]:
    """Embed what is missing of a slide, then draw all maps of the head.

    Closing the generator at any yield leaves a token grid from which the same job goes on.

    Parameters
    ----------
    job
        What to do.
    time_left
        A clock for tests.
    encoders
        Kept from one job of a head to the next, so that its encoder is loaded once.

    Yields
    ------
    JobProgress

    Returns
    -------
    ProspectResult

    Raises
    ------
    ProspectorError
        With a sentence for the user.
    """
    yield JobProgress("Opening the slide")
    grid = yield from _finished_tokens(job, time_left or TimeLeft(), {} if encoders is None else encoders)
    return (yield from reported(lambda tell: _drawn(job, grid, tell)))


def _drawn(job: ProspectJob, grid: TokenGrid, tell: Callable[[JobProgress], None]) -> ProspectResult:
    """Draw all maps of a finished grid; nothing is written."""
    from napari_prospector._napari.painter import MapPainter

    tell(JobProgress("Reading the embeddings"))
    without = job.head.card_.get("without", {})
    graph, mask = grid.graph(without=without), grid.usable(without)
    tell(JobProgress("Finding the concepts"))
    painter = MapPainter(job.head, graph, mask)
    maps: dict[str, NDArray[np.float32]] = {}
    for name in job.head.maps_:
        tell(JobProgress(f"Drawing the {name} map"))
        maps[name] = painter.scores(name, class_of(job.head, job.target))
    tell(JobProgress("Judging the whole slide"))
    chances = np.asarray(job.head.predict_proba([graph]))[0]
    return ProspectResult(
        job=job,
        tokens=grid.path,
        fingerprint=str(grid.attrs["slide_fingerprint"]),
        geometry=grid.geometry,
        mask=mask,
        graph=graph,
        painter=painter,
        maps=maps,
        probabilities={str(name): float(p) for name, p in zip(job.head.classes_, chances, strict=True)},
        n_failed=int(grid.counts()["failed"]),
    )


def _finished_tokens(job: ProspectJob, time_left: TimeLeft, encoders: Encoders) -> Steps[TokenGrid]:
    """Return the slide's finished token grid, made or completed if need be; nothing is loaded where it is there."""
    from napari_prospector.tokens.embed import embed_slide
    from napari_prospector.tokens.store import TokenGrid

    if job.slide is None and job.array is None:
        return _checked(job, TokenGrid.open(job.tokens))
    with _opened(job) as slide:
        if job.by_content:
            place = content_tokens_path(job.tokens, slide.fingerprint(), encoder_of(job.head))
            job = replace(job, tokens=place, by_content=False)
        grid = _known_grid(job, slide)
        if grid is not None and grid.is_complete:
            return grid
        yield JobProgress("Loading the encoder")
        mpp = None if grid is None else grid.card["mpp"]
        if mpp not in encoders:
            encoders[mpp] = yield from reported(lambda _: _load_encoder(job, grid))
        encoder = encoders[mpp]
        job.tokens.parent.mkdir(parents=True, exist_ok=True)
        yield JobProgress("Finding the tissue")
        # a generator: closing it, before the slide is, ends its readers and lets go of the store
        normalize = encoder_of(job.head).get("stain_normalize")
        steps: Any = embed_slide(slide, encoder, job.tokens, stain_normalize=normalize)
        with closing(steps):
            for step in steps:
                yield JobProgress("Embedding tiles", step.done, step.total, time_left(step.done, step.total))
    return _checked(job, TokenGrid.open(job.tokens))


def _opened(job: ProspectJob) -> Slide:
    """Return the job's slide, for a ``with`` block."""
    from napari_prospector.tokens.slides import open_slide

    if job.array is not None:
        return job.array
    assert job.slide is not None
    return open_slide(job.slide, mpp=job.mpp)


def _known_grid(job: ProspectJob, slide: Slide) -> TokenGrid | None:
    """Return the job's token grid, or a finished one of this slide and encoder from where else it may lie."""
    from napari_prospector.tokens.store import TokenGrid

    if job.tokens.exists():
        grid = _checked(job, TokenGrid.open(job.tokens))
        _check_slide(grid, slide)
        return grid
    for place in job.also_look_in:
        try:
            grid = _checked(job, TokenGrid.open(place))
            _check_slide(grid, slide)
        except ProspectorError:
            continue
        if grid.is_complete:
            return grid
    return None


def _checked(job: ProspectJob, grid: TokenGrid) -> TokenGrid:
    """Refuse a token grid of another encoder or tile size than the head's."""
    job.head.check_encoder(grid.tokens_card)
    return grid


def _check_slide(grid: TokenGrid, slide: Slide) -> None:
    """Refuse a token grid of another slide or pixel size."""
    if grid.attrs["slide_fingerprint"] != slide.fingerprint():
        raise MismatchError(
            f"{grid.path.name} holds the tokens of another file, {grid.attrs['slide_name']}. "
            f"Choose another folder under 'Tokens' for {slide.name}."
        )
    if grid.geometry.slide_mpp != slide.require_mpp():
        raise MismatchError(
            f"{grid.path.name} was made with pixels of {grid.geometry.slide_mpp:g} µm; now they are {slide.mpp:g} µm. "
            "Correct 'Pixel size', or choose another folder under 'Tokens'."
        )


def _load_encoder(job: ProspectJob, grid: TokenGrid | None = None) -> Encoder:
    """Load the encoder that the head was fitted on, as it was then, and make sure of it before hours are spent."""
    from napari_prospector.tokens.encoders.cards import load_encoder
    from napari_prospector.tokens.encoders.projection import Projection

    card = encoder_of(job.head)
    if "name" not in card:
        raise InvalidInputError(
            f"{job.head_name} does not say which encoder it was fitted on, so nothing can be embedded for it. "
            "Open a finished token grid (*.tokens.zarr) of the slide instead."
        )
    revision = card.get("revision") if card.get("hub") else None
    if card.get("weights_sha256") and job.weights is None and revision is None:
        raise InvalidInputError(
            f"{job.head_name} was fitted on {card['name']!r}, whose weights are a file of their own. "
            "Choose that file under 'Weights'."
        )
    options: dict[str, Any] = {name: card.get(name) or None for name in ("model_args", "mean", "std", "tile_px", "mpp")}
    options |= {"tokens": card.get("tokens") or "tile", "overlap_px": card.get("overlap_px") or 0}
    if card.get("projection"):
        options["projection"] = Projection.of_record(card["projection"], job.head.attached_)
    if grid is not None:
        # a head keeps the pixel size of its tiles after rounding; a grid goes on with the one that was asked for
        options["mpp"] = grid.card["mpp"]
    # not False: where nothing is set the environment decides, as everywhere
    options |= {"offline": True} if settings().offline else {}
    encoder = load_encoder(card["name"], weights=job.weights, revision=revision, **options)
    # normalizing is done by embed_slide, whatever the encoder
    job.head.check_encoder(encoder.card.to_json() | {"stain_normalize": card.get("stain_normalize")})
    return encoder


def class_of(head: ProspectorHead, name: str | None) -> Any:
    """Return the class as the head holds it, not as the panel spells it; None for None."""
    return next((label for label in head.classes_ if str(label) == name), None)
