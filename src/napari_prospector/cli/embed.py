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
    print_table,
    progress_bar,
    tell,
    tell_error,
    told,
    workers_options,
)
from napari_prospector.cli.embedding import embed_slides, encoder_for, loading_options, slide_jobs
from napari_prospector.cli.main import Exit
from napari_prospector.cli.projecting import fitted_projection, training_slides

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
        "prospect embed cohort.csv --encoder uni2-h --estimate",
        "prospect embed cohort.csv -o normalized/ --stain-normalize macenko",
        "prospect embed cohort.csv -o patches/ --encoder uni --tokens patch --project pca:64",
    ),
)
@click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the token grids; only --estimate does without.",
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
@click.option(
    "--estimate",
    is_flag=True,
    help="Start nothing: say how many tiles, hours and GB it would be, by a trial of some seconds. Weights are not "
    "needed for that.",
)
@json_option
def embed(
    slides: tuple[Path, ...],
    out: Path | None,
    mpp: float | None,
    stride_px: int | None,
    min_coverage: float,
    tissue_threshold: float | None,
    tissue_method: str,
    overwrite: bool,
    retry_failed: bool,
    estimate: bool,
    as_json: bool,
    client: AnyClient | None,
    **encoder: Any,
) -> int:
    """Cut SLIDES into tiles, embed them, and store them as NAME.tokens.zarr.

    SLIDES are slide files, or one cohort table (.csv), whose column mpp gives the pixel size of slides that state
    none. What was interrupted goes on where it stopped; what is finished is left as it is.
    """
    tissue = {"method": tissue_method, "threshold": tissue_threshold}
    grid_options = {"stride_px": stride_px, "min_coverage": min_coverage, "stain_normalize": encoder["stain_normalize"]}
    if estimate:
        return _estimate(slide_jobs(slides, out or Path(), mpp), encoder, tissue, grid_options, as_json)
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out': the folder for the token grids.")
    check_place(out / "any")
    jobs = slide_jobs(slides, out, mpp)
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
        **grid_options,
        overwrite=overwrite,
        retry_failed=retry_failed,
    )
    return _tell_outcomes(outcomes, _card(model, outcomes, encoder["stain_normalize"]), as_json)


def _tell_outcomes(outcomes: Sequence[Embedded], card: Mapping[str, Any], as_json: bool) -> int:
    """Print what came of each slide, and return the exit code."""
    broken = [outcome for outcome in outcomes if outcome.error or outcome.failed]
    lines = [
        f"{outcome.slide}: {outcome.done:,} tokens in {outcome.tokens}"
        + (f", {outcome.failed:,} tiles failed" if outcome.failed else "")
        for outcome in outcomes
        if outcome.error is None
    ]
    told(
        {
            "encoder": card,
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


def _estimate(
    jobs: Sequence[SlideJob],
    encoder: Mapping[str, Any],
    tissue: Mapping[str, Any],
    options: Mapping[str, Any],
    as_json: bool,
) -> int:
    """Print what an embedding would take, and start nothing."""
    from napari_prospector.tokens.encoders.cards import checked_options, untrained_encoder
    from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens
    from napari_prospector.tokens.estimate import SlideEstimate, estimate_embedding

    tell("Embedding a little of one slide of each format, for about 5 s, to measure the speed …", as_json)
    # a projection that is not fitted yet takes as long as a random one
    project = (encoder.get("project") or "").replace("pca:", "random:") or None
    model = choose_tokens(
        untrained_encoder(encoder["encoder"], checked_options(**loading_options(encoder))),
        encoder.get("tokens") or "tile",
        encoder.get("overlap") or 0,
        project,
    )
    with progress_bar(as_json) as progress:
        task = progress.add_task("slides", total=len(jobs))

        def report(slide: SlideEstimate) -> None:
            progress.update(task, advance=1)
            if slide.error is not None:
                tell_error(slide.slide, slide.error, as_json)

        estimate = estimate_embedding(
            [job.slide for job in jobs], model, mpps=[job.mpp for job in jobs], tissue=tissue, report=report, **options
        )
    told(estimate.to_json(), as_json, [])
    if not as_json:
        rows = [_row(slide.slide, slide) for slide in estimate.slides if slide.error is None]
        total = _row("all", estimate)
        print_table(("slide", "tiles", "tokens", "time", "store"), [*rows, total], f"Embedding with {estimate.encoder}")
        for name, speed in estimate.tokens_per_second.items():
            click.echo(f"Measured on this machine, as busy as it is now: {speed:,.3g} tokens/s ({name}).")
        if estimate.is_untrained:
            click.echo("Random weights stood for the real ones, which are as fast. Access: prospect doctor --encoder …")
        click.echo(
            "Nothing was kept or downloaded. Sizes are of the embeddings; masks and quality measures add a little."
        )
    broken = sum(slide.error is not None for slide in estimate.slides)
    if not broken:
        return Exit.OK
    return Exit.REFUSED if broken == len(estimate.slides) else Exit.PARTLY


def _row(name: str, part: Any) -> tuple[str, ...]:
    """Return the line of a slide, or of all, in the table of estimates."""
    from napari_prospector.tokens.encoders.hub import readable_size

    hours = part.seconds / 3600
    duration = f"{hours:.1f} h" if hours >= 1 else f"{part.seconds / 60:.1f} min"
    return name, f"{part.n_tiles:,}", f"{part.n_tokens:,}", duration, readable_size(part.n_bytes)
