"""`prospect examples`: what the concepts of a head look like, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import (
    check_place,
    examples,
    grids_option,
    json_option,
    progress_bar,
    told,
)
from napari_prospector.cli.fit import tokens_folder
from napari_prospector.cli.map import label_of

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.examples import ConceptExamples
    from napari_prospector.study.examples_page import ConceptRow
    from napari_prospector.tokens.tilepictures import Place, TilePicture

__all__ = ["examples_page"]


@click.command(
    "examples",
    short_help="Show the concepts of a head, each with its most typical tiles.",
    epilog=examples(
        "prospect examples tumour.prospector cohort.csv -o examples.html",
        "prospect examples tumour.prospector cohort.csv -o examples/ --each 24 --context 2",
    ),
)
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Page to write, NAME.html, with its pictures in it; or a folder for examples.html and pictures.",
)
@grids_option
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    default="train",
    show_default=True,
    help="Rows of COHORT to look at; all of them, where there is no column split.",
)
@click.option("--each", type=click.IntRange(1, 200), default=12, show_default=True, help="Tiles of each concept.")
@click.option(
    "--context",
    type=click.FloatRange(0.1, 16),
    help="Width of a picture in widths of a token: above 1 shows surroundings. Default: 1; 3 for patches of tiles.",
)
@click.option("--size", type=click.IntRange(16, 512), default=96, show_default=True, help="Width of a picture in px.")
@click.option("--target", metavar="LABEL", help="Class that weights speak for; may be left out with two classes.")
@json_option
def examples_page(
    head: Path,
    cohort: Path,
    out: Path,
    grids: Path | None,
    split: Any,
    each: int,
    context: float | None,
    size: int,
    target: str | None,
    as_json: bool,
) -> None:
    """Show the concepts of HEAD: for each the most typical tiles of COHORT, its shares in the classes and its weight.

    Typical is what lies nearest to the centre of a concept. Slides must be embedded. Where a slide is gone, or a row
    names a token grid alone, the rest is told without its pictures. Names, merged and hidden concepts are as they were
    saved with the head.
    """
    from napari_prospector.core.head import load_head
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.examples_page import concept_rows, write_examples_page

    model = load_head(head)
    label = label_of(model, target)
    # a slide that is gone has left its token grid, and is told on the page
    table = Cohort.read(cohort, check_files=False)
    table = table if split == "all" else table.split(split)
    is_page = out.suffix.lower() in (".html", ".htm")
    page = out if is_page else out / "examples.html"
    check_place(page)
    graphs = CohortGraphs.of_cohort(table, tokens_folder(cohort, grids), without=model.card_.get("without", {}))
    found = _typical(model, graphs, table, each, as_json)
    rows = concept_rows(model, found, label, each)
    pictures = _pictures(graphs, table, rows, context, size, as_json)
    write_examples_page(page, model, found, table.names, pictures, target=label, n_each=each, embed_images=is_page)
    _tell(page, rows, table, pictures, as_json)


def _typical(head: ProspectorHead, graphs: CohortGraphs, table: Cohort, each: int, quiet: bool) -> ConceptExamples:
    """Find the typical tokens, with a bar."""
    from napari_prospector.study.examples import typical_tokens

    steps = typical_tokens(head, graphs, table.labels, each)
    with progress_bar(quiet) as progress:
        bar = progress.add_task("look at tokens", total=None)
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                found: ConceptExamples = end.value
                return found
            progress.update(bar, completed=done, total=total)


def _pictures(
    graphs: CohortGraphs, table: Cohort, rows: tuple[ConceptRow, ...], context: float | None, size: int, quiet: bool
) -> dict[Place, TilePicture]:
    """Read the pictures of all examples, with a bar."""
    from napari_prospector.tokens.tilepictures import TilePictures

    slides = [None if row.is_tokens else row.path for row in table]
    reader = TilePictures(graphs.grids, slides, [row.mpp for row in table], context=context, size_px=size)
    places = sorted({(one.slide, one.row, one.col) for row in rows for one in row.examples})
    pictures = {}
    with progress_bar(quiet) as progress:
        bar = progress.add_task("read tiles", total=len(places))
        for index, picture in reader.pictures(places):
            pictures[places[index]] = picture
            progress.update(bar, advance=1)
    return pictures


def _tell(
    page: Path, rows: tuple[ConceptRow, ...], table: Cohort, pictures: dict[Place, TilePicture], as_json: bool
) -> None:
    """Print what was found and where the page is."""
    problems = sorted({picture.problem for picture in pictures.values() if picture.problem})
    lines = [
        f"{row.name}: weight {row.weights_text}; "
        + ", ".join(f"{100 * share:.1f} % of {name}" for name, share in row.shares.items())
        for row in rows
    ]
    lines += [f"No picture: {problem}" for problem in problems]
    result = {
        "page": str(page),
        "concepts": [_as_json(row, table) for row in rows],
        "problems": problems,
    }
    told(result, as_json, [*lines, f"Written: {page}"])


def _as_json(row: ConceptRow, table: Cohort) -> dict[str, Any]:
    """Return a row of the page in JSON types."""
    return {
        "concept": row.concept,
        "name": row.name,
        "color": row.color,
        "weights": list(row.weights),
        "shares": row.shares,
        "n_tokens": row.n_tokens,
        "hidden": row.is_hidden,
        "examples": [
            {"slide": table.names[e.slide], "label": e.label, "row": e.row, "col": e.col, "distance": e.distance}
            for e in row.examples
        ],
    }
