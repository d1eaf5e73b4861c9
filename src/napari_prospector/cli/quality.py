"""`prospect quality`: which tiles of a token grid are flagged, and with which thresholds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from napari_prospector.cli.console import check_place, examples, json_option, told
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.tokens.store import TokenGrid

__all__ = ["quality", "shares_text"]


@click.command(
    short_help="Show which tiles are flagged as pen, blur, fold or bubble.",
    epilog=examples(
        "prospect quality tokens/case7.svs.tokens.zarr",
        "prospect quality tokens/case7.svs.tokens.zarr --threshold blur=0.8 -o flags.png",
        "prospect quality tokens/case7.svs.tokens.zarr --threshold blur=0.8,pen=0.1 --save",
    ),
)
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    "words",
    multiple=True,
    metavar="FLAG=NUMBER",
    help="Flag tiles whose measure is above this, 0 to 1; several are separated by commas.",
)
@click.option("--save", is_flag=True, help="Keep these thresholds in STORE, for all who read it later.")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the flags as a picture (.png), or measures and flags as a table (.csv).",
)
@json_option
def quality(store: Path, words: tuple[str, ...], save: bool, out: Path | None, as_json: bool) -> None:
    """Show what share of the tiles of STORE, a token grid, is flagged.

    The slide is not read: flags are measures that were stored by embedding, held against thresholds. `prospect fit
    --without pen,fold` leaves flagged tiles out.
    """
    from napari_prospector.tokens.quality import parse_rules
    from napari_prospector.tokens.store import TokenGrid

    given = {name: number for name, number in parse_rules(words).items() if number is not None}
    if len(given) < len(parse_rules(words)):
        raise click.UsageError("--threshold must be FLAG=NUMBER, such as blur=0.8.")
    if save and not given:
        raise click.UsageError("--save keeps thresholds: pass --threshold as well.")
    with TokenGrid.open(store, "r+" if save else "r") as grid:
        if save:
            grid.set_thresholds(**given)
        thresholds = grid.quality.thresholds | given
        shares = grid.quality.shares(grid.mask, thresholds)
        if out is not None:
            check_place(out)
            _write(out, grid, thresholds)
    lines = [shares_text(shares, thresholds)] + ([f"Written: {out}"] if out is not None else [])
    result = {"store": str(store), "shares": shares, "thresholds": thresholds, "saved": save}
    told({**result, "out": None if out is None else str(out)}, as_json, lines)


def shares_text(shares: dict[str, float], thresholds: dict[str, float]) -> str:
    """Say how many tiles are flagged as what."""
    parts = [f"{name} {100 * shares[name]:.1f} % (above {limit:g})" for name, limit in thresholds.items()]
    return f"flagged: {', '.join(parts)}; any {100 * shares['any']:.1f} %"


def _write(out: Path, grid: TokenGrid, thresholds: dict[str, float]) -> None:
    """Write the flags as a picture or a table, whole or not at all."""
    from napari_prospector.tokens.pyramid import atomic_path

    flags, mask, measures = grid.flags(thresholds), grid.mask, grid.quality.measures
    if out.suffix.lower() not in (".png", ".csv"):
        raise InvalidInputError(f"--out must end in .png or .csv; got {out.name}.")
    with atomic_path(out) as partial:
        if out.suffix.lower() == ".png":
            from PIL import Image

            Image.fromarray(_picture(flags, mask, len(measures))).save(partial, format="PNG")
            return
        values = grid.quality.values
        with open(partial, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["row", "col", "row0_px", "col0_px", *measures, "flags"])
            for row, col in np.argwhere(mask).tolist():
                names = [name for i, name in enumerate(measures) if flags[row, col] >> i & 1]
                numbers = ["" if np.isnan(value) else f"{value:.4f}" for value in values[row, col]]
                writer.writerow([row, col, *grid.geometry.box(row, col)[:2], *numbers, " ".join(names)])


def _picture(flags: NDArray[np.uint8], mask: NDArray[np.bool_], n_measures: int) -> NDArray[Any]:
    """Return (rows, cols, 3): one pixel a tile, the first flag of each in its colour, sound tissue grey."""
    from napari_prospector.tokens.quality import COLOURS

    image = np.full((*flags.shape, 3), 255, np.uint8)
    image[mask] = 200
    for i in reversed(range(n_measures)):
        image[mask & (flags >> i & 1 == 1)] = np.rint(255 * np.array(COLOURS[i])).astype(np.uint8)
    return image
