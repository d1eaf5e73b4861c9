"""`--project pca:64`: the projection is fitted on the training slides before any is embedded, and kept for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector.cli.console import progress_bar, tell, tell_error
from napari_prospector.cli.embedding import encoder_from_options
from napari_prospector.errors import MismatchError, ProspectorError

if TYPE_CHECKING:
    from napari_prospector.tokens.encoders.encodercard import Encoder
    from napari_prospector.tokens.encoders.projection import PcaSample

__all__ = ["fitted_projection", "training_slides"]

# Of each slide; fewer where there are many slides.
_TILES_PER_SLIDE, _MOST_TILES = 16, 2000

SlideOfSize = tuple[Path, float | None]


def training_slides(slides: Sequence[Path], mpp: float | None) -> list[SlideOfSize]:
    """Return path and pixel size of the slides to fit on: the training rows of a table, or all slides."""
    from napari_prospector.study.cohort import Cohort

    if len(slides) == 1 and slides[0].suffix.lower() == ".csv":
        rows = Cohort.read(slides[0]).split("train")
        return [(Path(row.path), row.mpp or mpp) for row in rows if not row.is_tokens]
    return [(slide, mpp) for slide in slides]


def fitted_projection(
    options: Mapping[str, Any],
    slides: Sequence[SlideOfSize],
    folder: Path,
    *,
    quiet: bool,
    tissue: Mapping[str, Any] | None = None,
    min_coverage: float = 0.25,
) -> dict[str, Any]:
    """Return the options of `encoder_options` with the file of a fitted projection in place of ``pca:64``.

    Parameters
    ----------
    options
        Of `encoder_options`.
    slides
        From `training_slides`.
    folder
        Of the token grids; a projection that lies there already is taken, so that slides can be added later.
    quiet
        Say nothing.
    tissue, min_coverage
        As for `embed_slides`.

    Raises
    ------
    MismatchError
        Another projection lies there.
    InvalidInputError
        The words name no projection, or the slides hold too few tokens.
    """
    words = options.get("project")
    if not words or not words.startswith("pca"):
        return dict(options)
    from napari_prospector.tokens.encoders.projection import PcaSample, Projection, parse_projection
    from napari_prospector.tokens.projecting import PROJECTION_FILE

    kind, n_dims = parse_projection(words)
    path = folder / PROJECTION_FILE
    if path.is_file():
        found = Projection.load(path)
        if (found.kind, found.n_dims) != (kind, n_dims):
            raise MismatchError(
                f"{path} holds {found.kind}:{found.n_dims}; --project says {words}. Name another folder for the token"
                " grids, or leave --project as it was."
            )
        return {**options, "project": str(path)}
    encoder, sample = encoder_from_options({**options, "project": None}), PcaSample()
    reading = {"tissue": tissue, "min_coverage": min_coverage, "stain_normalize": options.get("stain_normalize")}
    with progress_bar(quiet) as progress:
        for slide, mpp in progress.track(slides, description=f"fit {words}"):
            try:
                _add(sample, slide, mpp, encoder, min(_TILES_PER_SLIDE, -(-_MOST_TILES // len(slides))), reading)
            except ProspectorError as problem:
                tell_error(slide.name, f"left out of {words}: {problem}", quiet)
    projection = sample.projection(n_dims, encoder.card)
    projection.save(path)
    tell(f"{words} of {sample.n_tokens:,} tokens keeps {100 * (projection.explained or 0):.1f} % of variance.", quiet)
    return {**options, "project": str(path)}


def _add(
    sample: PcaSample, path: Path, mpp: float | None, encoder: Encoder, n_tiles: int, reading: Mapping[str, Any]
) -> None:
    """Add tokens of one slide to the sample."""
    from napari_prospector.tokens.projecting import add_tokens
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.tissue import tissue_mask

    with open_slide(path, mpp=mpp) as slide:
        mask = tissue_mask(slide, **reading["tissue"]) if reading["tissue"] else None
        add_tokens(sample, slide, encoder, n_tiles, **{**reading, "tissue": mask})
