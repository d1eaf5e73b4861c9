"""`prospect embed`: slides in, token grids out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import (
    check_place,
    encoder_options,
    examples,
    json_option,
    mpp_option,
    tell,
    told,
    workers_options,
)
from napari_prospector.cli.embedding import check_names, embed_slides, encoder_for
from napari_prospector.cli.main import Exit
from napari_prospector.cli.projecting import fitted_projection, training_slides
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.study.cluster import AnyClient
    from napari_prospector.study.embed_cohort import Embedded, SlideJob
    from napari_prospector.tokens.encoders.cards import Encoder

__all__ = ["embed"]


@click.command(
    short_help="Embed the tiles of slides; one token grid per slide.",
    epilog=examples(
        "prospect embed slides/*.svs -o tokens/",
        "prospect embed cohort.csv -o tokens/",
        "prospect embed cohort.csv -o tokens/ --encoder mobilenetv2_100 --weights mobile.safetensors",
        "prospect embed cohort.csv -o normalized/ --stain-normalize macenko",
        "prospect embed cohort.csv -o patches/ --encoder uni --weights uni.safetensors --tokens patch --project pca:64",
    ),
)
@click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the token grids.",
)
@encoder_options
@mpp_option
@click.option(
    "--stride-px",
    type=click.IntRange(min=1),
    metavar="PX",
    help="Distance between tiles in the encoder's pixels; default: the tile's width, side by side.",
)
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1),
    default=0.25,
    show_default=True,
    help="Share of tissue from which a tile is embedded.",
)
@click.option(
    "--tissue-threshold", type=float, help="Optical density of tissue; lower takes in paler tissue; default: found."
)
@click.option(
    "--tissue",
    "tissue_method",
    type=click.Choice(["otsu", "all"]),
    default="otsu",
    show_default=True,
    help="How tissue is found: by optical density, or every tile taken.",
)
@click.option("--overwrite", is_flag=True, help="Start anew where a token grid is there already.")
@click.option("--retry-failed", is_flag=True, help="Try tiles again that failed in an earlier run.")
@workers_options
@json_option
def embed(
    slides: tuple[Path, ...],
    out: Path,
    mpp: float | None,
    stride_px: int | None,
    min_coverage: float,
    tissue_threshold: float | None,
    tissue_method: str,
    overwrite: bool,
    retry_failed: bool,
    as_json: bool,
    client: AnyClient | None,
    **encoder: Any,
) -> int:
    """Cut SLIDES into tiles, embed them, and store them as NAME.tokens.zarr.

    SLIDES are slide files, or one cohort table (.csv), whose column mpp gives the pixel size of slides that state
    none. What was interrupted goes on where it stopped; what is finished is left as it is.
    """
    check_place(out / "any")
    jobs = _jobs(slides, out, mpp)
    tissue = {"method": tissue_method, "threshold": tissue_threshold}
    asked = tissue if tissue != {"method": "otsu", "threshold": None} else None
    teachers = training_slides(slides, mpp)
    encoder = fitted_projection(encoder, teachers, out, quiet=as_json, tissue=asked, min_coverage=min_coverage)
    model = encoder_for(encoder, client)
    outcomes = embed_slides(
        jobs,
        model,
        client=client,
        quiet=as_json,
        tissue=asked,
        stride_px=stride_px,
        min_coverage=min_coverage,
        stain_normalize=encoder["stain_normalize"],
        overwrite=overwrite,
        retry_failed=retry_failed,
    )
    broken = [outcome for outcome in outcomes if outcome.error or outcome.failed]
    lines = [
        f"{outcome.slide}: {outcome.done:,} tokens in {outcome.tokens}"
        + (f", {outcome.failed:,} tiles failed" if outcome.failed else "")
        for outcome in outcomes
        if outcome.error is None
    ]
    told(
        {
            "encoder": _card(model, outcomes, encoder["stain_normalize"]),
            "slides": [asdict(outcome) for outcome in outcomes],
        },
        as_json,
        lines,
    )
    if not broken:
        return Exit.OK
    if len(outcomes) > 1:
        tell(f"{len(broken)} of {len(outcomes)} slides are not whole; the reasons stand above.", as_json)
    return Exit.REFUSED if all(outcome.error for outcome in outcomes) else Exit.PARTLY


def _card(
    encoder: Encoder | Mapping[str, Any], outcomes: Sequence[Embedded], stain_normalize: str | None
) -> dict[str, Any]:
    """Return the encoder's card; where workers have loaded it, that of a store which they have made."""
    from napari_prospector.tokens.encoders.cards import Encoder
    from napari_prospector.tokens.store import TokenGrid

    if isinstance(encoder, Encoder):
        return encoder.card.to_json() | {"stain_normalize": stain_normalize}
    made = [outcome for outcome in outcomes if outcome.error is None]
    return TokenGrid.open(made[0].tokens).card if made else dict(encoder)


def _jobs(slides: tuple[Path, ...], tokens: Path, mpp: float | None) -> list[SlideJob]:
    """Turn paths, or one cohort table, into slides to embed."""
    from napari_prospector.study.cohort import Cohort, token_store_path
    from napari_prospector.study.embed_cohort import SlideJob

    tables = [slide for slide in slides if slide.suffix.lower() == ".csv"]
    if tables and len(slides) > 1:
        raise InvalidInputError(
            f"SLIDES must be slide files or one cohort table; got {len(slides)} paths with {tables[0].name}."
        )
    if tables:
        cohort = Cohort.read(tables[0])
        rows = [(row.path, row.mpp or mpp) for row in cohort if not row.is_tokens]
    else:
        rows = [(slide, mpp) for slide in slides]
    check_names([Path(path) for path, _ in rows], "Token grids", with_suffix=True)
    return [SlideJob(Path(path), token_store_path(tokens, path), mpp) for path, mpp in rows]
