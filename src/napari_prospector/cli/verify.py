"""`prospect verify`: token grids and heads are sound, and belong to their slides and weights, or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import device_option, examples, json_option, mpp_option, progress_bar, told
from napari_prospector.cli.main import Exit
from napari_prospector.errors import InvalidInputError, MissingFileError, ProspectorError

if TYPE_CHECKING:
    from napari_prospector.tokens.encoders.cards import Encoder

__all__ = ["verify"]


@click.command(
    short_help="Check that token grids and heads are sound.",
    epilog=examples(
        "prospect verify tokens/*.tokens.zarr",
        "prospect verify tokens/*.tokens.zarr --slides slides/ --weights uni.safetensors",
        "prospect verify tokens/case7.svs.tokens.zarr --slide slides/case7.svs --reembed 16",
        "prospect verify tumour.prospector",
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--slide", type=click.Path(dir_okay=False, path_type=Path), help="The slide that the one token grid should be of."
)
@click.option(
    "--slides",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the slides; each token grid is held against the slide that it names.",
)
@mpp_option
@click.option(
    "--weights",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Weight file that the token grids should have been made with.",
)
@click.option(
    "--reembed",
    type=click.IntRange(min=1),
    metavar="N",
    help="Embed N tokens of each grid again, and compare; needs the slide, and the weights where the encoder has some.",
)
@device_option
@json_option
def verify(
    files: tuple[Path, ...],
    slide: Path | None,
    slides: Path | None,
    mpp: float | None,
    weights: Path | None,
    reembed: int | None,
    device: str | None,
    as_json: bool,
) -> int:
    """Check that FILES, token grids or heads, are sound; nothing is changed.

    Of a token grid every chunk is read, which finds flipped bits, and states, embeddings and quality measures are held
    against each other; with --slide or --slides also against the slide, with --weights against the weight file. Of a
    head file the tensors are held against their digest. Exit code 1 where anything is wrong.
    """
    if slide is not None and (slides is not None or len(files) > 1):
        raise click.UsageError("--slide belongs to one token grid; pass --slides FOLDER for several.")
    if reembed and slide is None and slides is None:
        raise click.UsageError("--reembed needs the slide: pass --slide or --slides.")
    asked = {"slide": slide, "slides": slides, "mpp": mpp, "weights": weights, "reembed": reembed, "device": device}
    rows = []
    with progress_bar(as_json or len(files) == 1) as progress:
        for file in progress.track(files, description="verify"):
            rows.append(_verdict(file, asked))
    told({"files": rows, "is_sound": all(not row["problems"] for row in rows)}, as_json, _lines(rows))
    return Exit.REFUSED if any(row["problems"] for row in rows) else Exit.OK


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the verdicts for a reader."""
    lines = []
    for row in rows:
        pending = row["counts"].get("pending", 0)
        note = f"; {pending:,} tokens are pending, embed the slide again and it goes on" if pending else ""
        if not row["problems"]:
            lines.append(f"{row['file']}: ok ({', '.join(row['checked'])}{note})")
        lines += [f"{row['file']}: {problem}" for problem in row["problems"]]
    return lines


def _verdict(file: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Check one file; what cannot be read at all is a problem like others."""
    try:
        if not file.exists():
            raise MissingFileError(f"There is no {file}.")
        if file.is_file() and file.suffix == ".prospector":
            return _head_verdict(file)
        return _grid_verdict(file, asked)
    except ProspectorError as error:
        return {"file": str(file), "problems": [str(error)], "checked": [], "counts": {}}


def _head_verdict(file: Path) -> dict[str, Any]:
    """Check a head file: its digest, and that nothing in it is NaN or infinite."""
    import numpy as np

    from napari_prospector.core.head import load_head
    from napari_prospector.core.headfile import read_head_file

    tensors, _ = read_head_file(file)
    problems = [
        f"{name} holds NaN or infinity. Fit the head again."
        for name, tensor in sorted(tensors.items())
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all()
    ]
    load_head(file)
    return {"file": str(file), "problems": problems, "checked": ["format", "digest of the tensors"], "counts": {}}


def _grid_verdict(file: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Check a token grid."""
    import contextlib

    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.verify import verify_grid

    with contextlib.ExitStack() as stack:
        slide = None
        if (path := _slide_of(file, asked)) is not None:
            slide = stack.enter_context(open_slide(path, mpp=asked["mpp"]))
        encoder = _encoder_of(file, asked) if asked["reembed"] else None
        found = verify_grid(file, slide, asked["weights"], encoder, asked["reembed"] or 0)
    return {
        "file": str(file),
        "problems": list(found.problems),
        "checked": list(found.checked),
        "counts": found.counts,
    }


def _slide_of(file: Path, asked: dict[str, Any]) -> Path | None:
    """Return the slide that a token grid should be of, where one is asked for."""
    from napari_prospector.tokens.gridfile import read_attributes

    if asked["slides"] is None:
        slide: Path | None = asked["slide"]
        return slide
    name = str(read_attributes(file).get("slide_name"))
    found: Path = asked["slides"] / Path(name).name
    if not found.exists():
        raise MissingFileError(f"{file.name} was made from {name}, which is not in {asked['slides']}.")
    return found


def _encoder_of(file: Path, asked: dict[str, Any]) -> Encoder:
    """Load the encoder of a token grid."""
    from napari_prospector.cli.embedding import encoder_from_options, words_of_card
    from napari_prospector.tokens.gridfile import read_attributes
    from napari_prospector.tokens.projecting import projection_beside

    card = read_attributes(file).get("encoder")
    if not isinstance(card, dict) or "name" not in card:
        raise InvalidInputError(f"{file.name} does not say which encoder it was made with. Leave --reembed out.")
    words = words_of_card(card, None if asked["weights"] is None else str(asked["weights"]), asked["device"])
    if card.get("projection"):
        words["projection"] = projection_beside(file, card["projection"])
    return encoder_from_options(words)
