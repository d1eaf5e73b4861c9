"""`prospect demo`: the main job from nothing, on real histology where it is at hand, else on slides drawn here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import (
    check_place,
    examples,
    json_option,
    progress_bar,
    seed_option,
    stage_bars,
    tell,
    told,
)
from napari_prospector.cli.embedding import encoder_options_of
from napari_prospector.cli.evaluate import evaluate_cohort, show_evaluation, write_cohort_report
from napari_prospector.cli.fit import complete_tokens
from napari_prospector.cli.map import map_stores
from napari_prospector.errors import MissingFileError

if TYPE_CHECKING:
    from napari_prospector.study.cohort import Cohort

__all__ = ["demo"]


@click.command(
    short_help="Run the whole job on slides that it makes.",
    epilog=examples("prospect demo", "prospect demo --generated -o drawn/"),
)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("prospector-demo"),
    show_default=True,
    help="Folder for everything it makes.",
)
@click.option("--generated", is_flag=True, help="Draw the slides even where real histology is at hand.")
@click.option(
    "--n-slides",
    type=click.IntRange(min=12),
    default=36,
    show_default=True,
    help="Slides of the cohort, a third of them for the test.",
)
@seed_option
@json_option
def demo(out: Path, generated: bool, n_slides: int, seed: int, as_json: bool) -> None:
    """Run the whole job on a cohort that it makes: slides and labels in, prospect maps, figures and a report out.

    With real histology in the folder that the environment variable PROSPECTOR_SHARED names (default: ../shared), the
    slides are mosaics of real images; without it they are drawn. Nothing is downloaded and torch is not needed.
    Interrupt it whenever you like: the same command goes on.
    """
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs

    tell("Nothing is downloaded, and torch is not loaded.", as_json)
    histology = None if generated else real_histology()
    check_place(out / "any")
    table_path = _make_cohort(out, histology, n_slides, seed, as_json)
    table = Cohort.read(table_path)
    tokens, head_path = out / "tokens", out / "tumour.prospector"
    if histology is None:
        _tell_mean_color(table, as_json)
    complete_tokens(table, tokens, encoder_options_of("stain-texture"), quiet=as_json)
    train = table.split("train")
    graphs = CohortGraphs.of_cohort(train, tokens)
    with stage_bars(as_json) as report:
        head = ProspectorHead(random_state=seed).fit(graphs, train.labels, train.groups, report)
    tell(head.selection_.sentence(), as_json)
    head.save(head_path, graphs.head_card(train))
    test = table.split("test")
    stores = dict(zip((Path(row.path) for row in test), test.store_paths(tokens), strict=True))
    maps, errors = map_stores(head, stores, out / "maps", None, None, None, quiet=as_json)
    found = evaluate_cohort(head, table, tokens, seed=seed, quiet=as_json)
    files = found.write(out / "evaluation")
    shown = next(Path(row.path) for row in test if row.label == head.target_)
    command = _view_command(shown, head_path, stores[shown])
    page = write_cohort_report(
        out / "evaluation", head, table, tokens, found, pictures=12, quiet=as_json, steps=_steps(histology, train, test)
    )
    result: dict[str, Any] = {"cohort": str(table_path), "head": str(head_path), "maps": maps, "errors": errors}
    result |= {"evaluation": [str(path) for path in files], "report": str(page), "view": command}
    if not as_json:
        show_evaluation(found, [*files, page], as_json=False)
    told(result, as_json, ["", *_ending(head_path, out, page, command)])


def real_histology() -> Path | None:
    """Return the folder of real histology images, or None where there is none.

    Raises
    ------
    MissingFileError
        If PROSPECTOR_SHARED names a folder that does not hold them.
    """
    named = os.environ.get("PROSPECTOR_SHARED")
    folder = Path(named or "../shared") / "data" / "histology" / "ebhi"
    if (folder / "manifest.csv").is_file():
        return folder
    if named:
        raise MissingFileError(
            f"PROSPECTOR_SHARED must name a folder with data/histology/ebhi/manifest.csv; {named} holds none. "
            "Unset it, or pass --generated, to draw the slides."
        )
    return None


def _make_cohort(out: Path, histology: Path | None, n_slides: int, seed: int, quiet: bool) -> Path:
    """Make the slides and their table, unless an earlier run has."""
    from napari_prospector.tokens.generate import generate_cohort
    from napari_prospector.tokens.mosaics import make_mosaic_cohort

    folder = out / ("mosaics" if histology else "drawn") / f"{n_slides}-slides-seed-{seed}"
    table = folder / "cohort.csv"
    if table.is_file():
        tell(f"Slides of an earlier run: {folder}", quiet)
        return table
    n_test = n_slides // 3
    if histology is None:
        tell("Drawing slides (set PROSPECTOR_SHARED to use real histology).", quiet)
        steps: Iterator[Any] = iter(generate_cohort(folder, n_slides, seed))
    else:
        tell(f"Stitching {n_slides} slides of real histology: adenocarcinoma among normal tissue and polyps.", quiet)
        steps = iter(
            make_mosaic_cohort(folder, histology, "adenocarcinoma", n_train=n_slides - n_test, n_test=n_test, seed=seed)
        )
    with progress_bar(quiet) as progress:
        task = progress.add_task("make slides", total=n_slides)
        for step in steps:
            progress.update(task, completed=step.done, total=step.total)
    return table


def _tell_mean_color(table: Cohort, quiet: bool) -> None:
    """Say that the drawn slides cannot be told apart by their mean colour."""
    from napari_prospector.study.mean_color import mean_color_auroc

    area = mean_color_auroc([row.path for row in table], table.labels, table.groups)
    tell(f"The mean colour of a slide tells the classes apart with AUROC {area:.2f} (0.5 is chance).", quiet)


def _view_command(slide: Path, head: Path, tokens: Path) -> str:
    """Return the command that opens a slide with its map; its paths start at the current folder, where they can."""
    here = Path.cwd()
    names = [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in (slide, head, tokens)]
    return shlex.join(["prospect", "view", names[0], "--head", names[1], "--grid", names[2]])


def _steps(histology: Path | None, train: Cohort, test: Cohort) -> list[str]:
    """Tell what the demo did, a sentence each."""
    slides = (
        "Slides were stitched from real histology (EBHI-Seg, CC BY 4.0): adenocarcinoma among normal tissue and "
        "polyps. No patient is both in training and in test."
        if histology
        else "Slides were drawn by a generator: every tissue occurs in both classes, only their arrangement differs."
    )
    return [
        slides,
        "Tissue was cut into tiles, and each tile embedded by stain-texture, which needs no download.",
        f"A head was fitted on the labels of {len(train)} training slides; it never saw a region.",
        f"It was applied to {len(test)} test slides and its maps were measured against the truth.",
    ]


def _ending(head: Path, out: Path, page: Path, command: str) -> list[str]:
    """Say what was made and how to go on."""
    return [
        f"Head:     {head}",
        f"Maps:     {out / 'maps'}",
        f"Report:   {page}",
        f"napari:   {command}",
    ]
