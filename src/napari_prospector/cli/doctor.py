"""`prospect doctor`: see whether the work can start."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import encoder_options, examples, json_option, mpp_option, told
from napari_prospector.cli.embedding import loading_options, slide_jobs
from napari_prospector.cli.main import Exit

if TYPE_CHECKING:
    from napari_prospector.tokens.doctor import Check

__all__ = ["doctor"]

# Words, since colours are not seen by everybody, nor kept in a log.
_SIGNS = {"green": ("ok  ", "green"), "amber": ("look", "yellow"), "red": ("FAIL", "red")}


@click.command(
    short_help="See whether everything that the work needs is there.",
    epilog=examples(
        "prospect doctor",
        "prospect doctor --encoder uni2-h",
        "prospect doctor cohort.csv -o tokens/ --encoder uni2-h --weights /media/stick/uni2-h",
    ),
)
@click.argument("slides", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder that the token grids would go to."
)
@encoder_options
@mpp_option
@json_option
def doctor(slides: tuple[Path, ...], out: Path | None, mpp: float | None, as_json: bool, **encoder: Any) -> int:
    """Look at versions, encoder, access to weights, device, memory, disk and SLIDES, before any work.

    SLIDES are slide files, or one cohort table (.csv). Nothing is downloaded or kept; the hub is asked at most whether
    the weights may be read. Each line says ok, look or FAIL, and below it what to do. Exit code 1 if anything fails.
    """
    from napari_prospector.tokens.doctor import SlideToCheck, examine
    from napari_prospector.tokens.encoders.cards import checked_options

    jobs = [SlideToCheck(job.slide, job.mpp) for job in slide_jobs(slides, out or Path(), mpp)] if slides else []
    found = []
    for check in examine(encoder["encoder"], jobs, out, checked_options(**loading_options(encoder))):
        found.append(check)
        if not as_json:
            _print(check)
    verdicts = [check.verdict for check in found]
    worst = next(verdict for verdict in ("red", "amber", "green") if verdict in verdicts)
    ending = {"red": "This cannot start yet.", "amber": "This can start; look at the notes.", "green": "Ready."}[worst]
    told({"verdict": worst, "checks": [asdict(check) for check in found]}, as_json, [ending])
    return Exit.REFUSED if worst == "red" else Exit.OK


def _print(check: Check) -> None:
    """Print one check, and its remedy on the next line."""
    word, colour = _SIGNS[check.verdict]
    click.echo(f"{click.style(word, fg=colour, bold=True)}  {click.style(check.name, bold=True)}: {check.sentence}")
    if check.remedy:
        click.echo(f"      {check.remedy}")
