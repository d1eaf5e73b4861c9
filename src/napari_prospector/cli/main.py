"""`prospect`: one group whose commands come from an entry-point group, so that other packages may add theirs."""

from __future__ import annotations

import difflib
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

import napari_prospector
from napari_prospector.errors import ProspectorError, ProspectorWarning

__all__ = ["COMMANDS_GROUP", "Exit", "main", "prospect"]

COMMANDS_GROUP = "napari_prospector.commands"

# the order in which the work is done
_ORDER = (
    "demo",
    "doctor",
    "embed",
    "import",
    "fit",
    "map",
    "evaluate",
    "concepts",
    "view",
    "info",
    "quality",
    "verify",
    "encoders",
)

_WIDTH = 100

_ENDING = """\b
A first round:
  prospect embed slides/*.svs -o tokens/
  prospect fit cohort.csv -o tumour.prospector
  prospect map tumour.prospector slide.svs -o maps/
  prospect view slide.svs --head tumour.prospector
`prospect demo` runs all of it on slides that it makes itself.

\b
Exit codes:
    0  done
    1  refused; the reason is printed
    2  wrong usage
    3  done in part; what failed is printed
  130  interrupted; what was finished is kept

Errors and progress go to stderr, results to stdout; --json makes a result one JSON object. For research use only.
"""


class Exit:
    """Exit codes, documented in ``prospect --help``."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    PARTLY = 3
    INTERRUPTED = 130


class _EntryPointGroup(click.Group):
    """A group that loads a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands of all installed packages, ours first and in the order of the work."""
        names = set(_entry_points())
        return [name for name in _ORDER if name in names] + sorted(names.difference(_ORDER))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        entry = _entry_points().get(cmd_name)
        if entry is None:
            close = difflib.get_close_matches(cmd_name, self.list_commands(ctx), n=1)
            advice = f"Did you mean {close[0]!r}?" if close else "prospect --help lists all."
            raise click.UsageError(f"There is no command {cmd_name!r}. {advice}", ctx)
        command = entry.load()
        if not isinstance(command, click.Command):
            raise click.ClickException(f"entry point {cmd_name!r} of {COMMANDS_GROUP} must be a click command.")
        return command


def _entry_points() -> dict[str, EntryPoint]:
    """Find the commands of all installed packages."""
    return {entry.name: entry for entry in entry_points(group=COMMANDS_GROUP)}


@click.command(
    cls=_EntryPointGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    epilog=_ENDING,
)
@click.version_option(napari_prospector.__version__, prog_name="prospect")
def prospect() -> None:
    """Learn from labels of whole slides where on a slide a class lives, and why."""


def main(arguments: list[str] | None = None) -> int:
    """Run `prospect` and return its exit code; the one place where errors become text."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal lacks must not end the run
            stream.reconfigure(errors="backslashreplace")
    # what tifffile would print about a damaged file stands in our errors
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    try:
        with _notes():
            outcome: Any = prospect.main(args=words, prog_name="prospect", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail("Interrupted. What was finished is kept; run the same command to go on.", words, Exit.INTERRUPTED)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.UsageError as error:
        if "--json" in words:
            return _fail(error.format_message(), words, Exit.USAGE)
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        return _fail(error.format_message(), words, Exit.REFUSED)
    except ProspectorError as error:
        return _fail(str(error), words, Exit.REFUSED)
    return outcome if isinstance(outcome, int) else Exit.OK


@contextmanager
def _notes() -> Iterator[None]:
    """Print our own warnings as a sentence on stderr; others keep their place in the source."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **where: Any) -> None:
            if issubclass(category, ProspectorWarning):
                click.echo(f"Note: {message}", err=True)
            else:
                shown(message, category, *place, **where)

        warnings.showwarning = show
        yield


def _fail(message: str, words: list[str], code: int) -> int:
    """Print an error where whoever called looks for it."""
    if "--json" in words:
        click.echo(json.dumps({"error": message, "exit_code": code}))
    else:
        click.echo(f"Error: {message}", err=True)
    return code
