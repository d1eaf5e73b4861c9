"""What every command shares: options, progress with time left, results as text or JSON."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from napari_prospector.errors import StorageError

__all__ = [
    "check_place",
    "device_option",
    "encoder_options",
    "examples",
    "json_option",
    "map_option",
    "mpp_option",
    "offline_option",
    "print_table",
    "progress_bar",
    "seed_option",
    "stage_bars",
    "tell",
    "tell_error",
    "told",
    "grids_option",
    "weights_option",
    "workers_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

# Where stdout is no terminal, a table is as wide as a wide one.
_PIPED_WIDTH = 100

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout."
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same result."
)


def examples(*commands: str) -> str:
    """Return the end of a help text: commands to copy, each on a line of its own."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


device_option = click.option(
    "--device", metavar="NAME", help="Where a timm model runs: cpu, cuda, cuda:1, mps; default: the fastest there is."
)
map_option = click.option(
    "--map",
    "map_name",
    # written out: core.classkernels, where the names live, imports scikit-learn
    type=click.Choice(["evidence", "decision", "refined"]),
    help="evidence: what is typical of the class; decision: what a classifier of whole slides uses; refined: what a "
    "read-out of the embeddings finds that the evidence has taught. Default: the head's own best.",
)


def _go_offline(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Set what the hub's library and every process that is started look at, until the command has ended."""
    if wanted:
        before = os.environ.get("HF_HUB_OFFLINE")
        os.environ["HF_HUB_OFFLINE"] = "1"
        context.call_on_close(
            lambda: os.environ.pop("HF_HUB_OFFLINE") if before is None else os.environ.update(HF_HUB_OFFLINE=before)
        )


offline_option = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_go_offline,
    help="Download nothing: weights come from --weights or the hub's cache; the same as HF_HUB_OFFLINE=1.",
)
_head_weights_option = click.option(
    "--weights",
    type=click.Path(),
    help="Weight file of the head's encoder, or a folder with it; default: from the hub, where the head says so.",
)


def weights_option(command: Command) -> Command:
    """Add the options that say where the weights of a head's encoder come from."""
    return _head_weights_option(offline_option(command))


mpp_option = click.option(
    "--mpp",
    type=float,
    metavar="UM",
    help="Width of a level-0 pixel in µm, for slides that do not state it or state a wrong one: it wins.",
)
grids_option = click.option(
    "--grids",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the token grids; default: tokens/ beside the table.",
)


_ENCODER_OPTIONS = (
    click.option(
        "--encoder",
        metavar="NAME",
        default="stain-texture",
        show_default=True,
        help="What turns tiles into embeddings: stain-texture, or any timm model by name.",
    ),
    click.option(
        "--weights",
        type=click.Path(),
        help="Weight file of the encoder (.safetensors), or a folder with it. Default: from the hub, if the encoder's "
        "card names a repository; what is downloaded is said before.",
    ),
    click.option(
        "--revision",
        metavar="COMMIT",
        help="Commit, tag or branch of the encoder's repository on the hub; default: the one that its card pins.",
    ),
    offline_option,
    click.option(
        "--model-args",
        multiple=True,
        metavar="NAME=VALUE",
        help="Argument of a timm model, such as img_size=224; may be given several times.",
    ),
    click.option(
        "--mean", type=float, nargs=3, metavar="R G B", help="Of the encoder's input, white = 1; default: its own."
    ),
    click.option(
        "--std", type=float, nargs=3, metavar="R G B", help="Of the encoder's input, white = 1; default: its own."
    ),
    click.option(
        "--tile-px",
        type=click.IntRange(min=1),
        metavar="PX",
        help="Width of a tile in pixels, where the encoder allows it; default: its own.",
    ),
    click.option(
        "--tile-mpp",
        type=float,
        metavar="UM",
        help="µm per pixel of a tile, whatever the slide's; default: the encoder's own.",
    ),
    click.option(
        "--tokens",
        type=click.Choice(["tile", "patch"]),
        default="tile",
        show_default=True,
        help="One embedding a tile, or one for each patch of it: a finer map from the same forward pass.",
    ),
    click.option(
        "--overlap",
        type=click.IntRange(min=0),
        default=0,
        metavar="PX",
        help="With --tokens patch: how far tiles overlap, in the encoder's pixels; only inner patches are kept.",
    ),
    click.option(
        "--project",
        metavar="KIND:DIMS",
        help="Project tokens to fewer dimensions: pca:64 (fitted on the training slides), random:64, or a file.",
    ),
    click.option(
        "--stain-normalize",
        type=click.Choice(["macenko"]),
        help="Bring the tiles of every slide to one staining before they are embedded; default: as they are.",
    ),
    device_option,
    click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="On CUDA: make kernels for the encoder first, which takes minutes and pays on many slides.",
    ),
)


def encoder_options(command: Command) -> Command:
    """Add the options that choose an encoder."""
    for option in reversed(_ENCODER_OPTIONS):
        command = option(command)
    return command


_WORKERS_OPTIONS = (
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Let the workers of a Dask cluster do the work; of its scheduler, such as tcp://node7:8786, or "
        "the file that dask scheduler has written.",
    ),
    click.option(
        "--workers",
        "n_workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Processes on this machine to do the work; 1: this one.",
    ),
)


def workers_options(command: Command) -> Command:
    """Add the options that say who does the work; the command gets their workers, or None, as `client`."""

    @functools.wraps(command)
    def with_client(*arguments: Any, scheduler: str | None, n_workers: int, **options: Any) -> Any:
        from napari_prospector.study.cluster import open_workers

        if scheduler is not None and n_workers > 1:
            raise click.UsageError("--scheduler and --workers contradict each other; leave out one.")
        client = click.get_current_context().with_resource(open_workers(scheduler, n_workers))
        return command(*arguments, client=client, **options)

    for option in reversed(_WORKERS_OPTIONS):
        with_client = option(with_client)
    return with_client  # type: ignore[return-value]


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
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=False) as progress:
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


def tell_error(name: str, message: str, quiet: bool = False) -> None:
    """Say on stderr what went wrong with one of many files; the others go on."""
    tell(f"Error: {message if name in message else f'{name}: {message}'}", quiet)


def told(result: Mapping[str, Any], as_json: bool, lines: Sequence[str]) -> None:
    """Print a result: one JSON object, or lines for a reader."""
    if as_json:
        click.echo(json.dumps(_plain(result), allow_nan=False))
    else:
        for line in lines:
            click.echo(line)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    wrapping: Sequence[str] = (),
    piped_width: int = _PIPED_WIDTH,
) -> None:
    """Print a table on stdout; its first column and those in `wrapping` may wrap, the others stay whole."""
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for number, column in enumerate(columns):
        folds = column in wrapping
        justify: Literal["left", "right"] = "left" if number < 2 or folds else "right"
        table.add_column(column, justify=justify, no_wrap=number > 0 and not folds, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, width=None if sys.stdout.isatty() else piped_width).print(table)


def check_place(path: Path) -> None:
    """Make the folder of a file, and see that it may be written to, before long work is done for it.

    Raises
    ------
    StorageError
        If it cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"The folder of {path} cannot be made: {error.strerror}. Name another place.") from error
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"The folder of {path} may not be written to. Name another place.")


def _plain(value: Any) -> Any:
    """Turn a value into what JSON has: NaN and infinity become null, paths and other labels text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
