"""What every command shares: options, progress with time left, results as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["encoder_options", "json_option", "print_table", "progress_bar", "stage_bars", "tell", "told"]

Command = TypeVar("Command", bound=Callable[..., Any])

_ERRORS = Console(stderr=True)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout."
)


def encoder_options(command: Command) -> Command:
    """Add the options that choose an encoder."""
    options = (
        click.option("--encoder", default="stain-texture", show_default=True, help="Card, or any timm model by name."),
        click.option(
            "--weights", type=click.Path(dir_okay=False), help="Local weight file of the encoder (.safetensors)."
        ),
        click.option(
            "--model-args", multiple=True, metavar="NAME=VALUE", help="Argument of the architecture; repeatable."
        ),
        click.option("--mean", type=float, nargs=3, help="Mean of red, green, blue (white = 1)."),
        click.option("--std", type=float, nargs=3, help="Standard deviation of red, green, blue."),
        click.option("--tile-px", type=int, help="Width of a tile in pixels, where the encoder allows it."),
        click.option("--mpp", type=float, help="µm per pixel at which tiles are cut; the encoder's own by default."),
        click.option("--device", help="cpu, cuda, cuda:1, mps; found by itself by default."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """Show progress on stderr: n of N, elapsed and time left; nothing where `quiet` or not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=_ERRORS, disable=quiet, transient=False) as progress:
        yield progress


@contextmanager
def stage_bars(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Give a `report(stage, done, total)` that draws one bar for each stage."""
    with progress_bar(quiet) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks or (done <= 1 and progress.tasks[tasks[stage]].finished):
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


def tell(message: str, quiet: bool = False) -> None:
    """Say something to the person at the terminal, on stderr, so that stdout stays for results."""
    if not quiet:
        click.echo(message, err=True)


def told(result: Mapping[str, Any], as_json: bool, lines: Sequence[str]) -> None:
    """Print a result: one JSON object, or lines for a reader."""
    if as_json:
        click.echo(json.dumps(result, allow_nan=False, default=str))
    else:
        for line in lines:
            click.echo(line)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
