"""`prospect why`: the score of one place of a slide, split into its own concept and its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from napari_prospector.cli.console import examples, json_option, map_option, print_table, told
from napari_prospector.cli.map import label_of
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.study.why_answer import TokenAnswer
    from napari_prospector.tokens.store import TokenGrid

__all__ = ["why"]

_BAR = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Pair(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Two numbers, of a row and of a column, with a comma between them."""

    def __init__(self, name: str, kind: type[int] | type[float]) -> None:
        self.name, self._kind = name, kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, Any]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        try:
            row, col = (self._kind(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no pair such as {'3,5' if self._kind is int else '120.5,340'}.", param, ctx)
        return row, col


@click.command(
    "why",
    short_help="Split the score of one place into its concept and its neighbours.",
    epilog=examples(
        "prospect why tumour.prospector tokens/slide.svs.tokens.zarr --at 2150,4830",
        "prospect why tumour.prospector tokens/slide.svs.tokens.zarr --token 12,30 --map decision --json",
    ),
)
@click.argument("head_file", metavar="HEAD", type=click.Path(path_type=Path))
@click.argument("grid", type=click.Path(path_type=Path))
@click.option("--at", type=Pair("ROW_UM,COL_UM", float), help="A place on the slide, in µm from its first pixel.")
@click.option("--token", type=Pair("ROW,COL", int), help="A token, by its row and column in GRID, from 0.")
@map_option
@click.option("--target", metavar="LABEL", help="The class to look for; may be left out with two classes.")
@json_option
def why(
    head_file: Path,
    grid: Path,
    at: tuple[float, float] | None,
    token: tuple[int, int] | None,
    map_name: str | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Say why a place of the slide of GRID, a token grid, has its score in a map of HEAD.

    The score is split into what the token gives by itself and what its neighbours give, one bar for each of their
    concepts; the bars add up to the score. Names, merged and hidden concepts are as they were saved with the head.
    """
    if (at is None) == (token is None):
        raise click.UsageError("Say which place is meant: either --at ROW_UM,COL_UM or --token ROW,COL.")
    from napari_prospector.core.head import load_head
    from napari_prospector.study.why_answer import answer_token
    from napari_prospector.tokens.store import TokenGrid

    head = load_head(head_file)
    label = label_of(head, target)
    with TokenGrid.open(grid, without=head.card_.get("without", {})) as store:
        head.check_encoder(store.tokens_card)
        place = _place(store, at, token)
        mask = store.usable()
        number = int(np.count_nonzero(mask.ravel()[: place[0] * mask.shape[1] + place[1]]))
        answer = answer_token(head, store.graph(), number, store.geometry, place, map_name, label)
        slide = str(store.attrs["slide_name"])
    notes = head.concept_edits_.notes()
    if as_json:
        told({"slide": slide, **answer.to_json(), "notes": notes}, True, ())
        return
    told({}, False, answer.lines(slide)[:2])
    _print(answer)
    told({}, False, notes)


def _place(grid: TokenGrid, at: tuple[float, float] | None, token: tuple[int, int] | None) -> tuple[int, int]:
    """Return (row, col) of the token that is meant."""
    mask = grid.usable()
    place = token if at is None else grid.geometry.token_at_um(*at)
    rows, cols = mask.shape
    if place is None or not (0 <= place[0] < rows and 0 <= place[1] < cols and mask[place]):
        came = f"row {token[0]}, column {token[1]}" if token is not None else f"{at} µm"
        nearest = _nearest(grid, mask, place or at, place is None)
        raise InvalidInputError(
            f"There must be tissue with a token at the place that is asked for; at {came} there is none. {nearest}"
        )
    return place


def _nearest(grid: TokenGrid, mask: np.ndarray[Any, Any], place: Any, is_um: bool) -> str:
    """Say where the nearest token lies."""
    if not mask.any():
        return "This grid has no token at all."
    cells = np.argwhere(mask)
    places = grid.geometry.centre_um(cells[:, 0], cells[:, 1]) if is_um else cells
    row, col = cells[((places - np.asarray(place)) ** 2).sum(axis=1).argmin()].tolist()
    return f"The nearest is --token {row},{col}."


def _print(answer: TokenAnswer) -> None:
    """Print the bars, and their sum."""
    from napari_prospector.study.why_answer import shown_values

    if answer.problem is not None:
        click.echo(answer.problem)
        return
    values, total = shown_values([bar.value for bar in answer.bars], answer.score)
    drawn = _drawn([bar.value for bar in answer.bars])
    rows = [[bar.caption(), bar_text, value] for bar, bar_text, value in zip(answer.bars, drawn, values, strict=True)]
    print_table(["part", "- | +", "value"], [*rows, ["sum = score", "", total]], "Parts of the score", ["part"])


def _drawn(values: Sequence[float]) -> list[str]:
    """Return a bar for each value, on a common scale, about a common zero."""
    low, high = min(0.0, *values), max(0.0, *values)
    span = high - low or 1.0
    zero = round(-low / span * _BAR)
    texts = []
    for value in values:
        length = abs(value) / span * _BAR
        if value < 0:
            texts.append(("█" * round(length)).rjust(zero) + "|")
        else:
            eighths = round(length * 8)
            texts.append(" " * zero + "|" + "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip())
    return texts
