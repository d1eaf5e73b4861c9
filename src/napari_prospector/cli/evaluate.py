"""`prospect evaluate`: how well the maps of a head find the truth, beside baselines and what knowing nothing scores."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_prospector.cli.console import (
    check_place,
    device_option,
    examples,
    json_option,
    print_table,
    progress_bar,
    seed_option,
    stage_bars,
    tell,
    tokens_option,
    weights_option,
)
from napari_prospector.cli.embedding import encoder_words
from napari_prospector.cli.fit import complete_tokens, tokens_folder
from napari_prospector.cli.map import label_of
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.baselines import Method
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.evaluate import Evaluation, EvaluationRow

__all__ = ["evaluate", "evaluate_cohort"]


@click.command(
    short_help="Measure how well maps find the truth.",
    epilog=examples(
        "prospect evaluate tumour.prospector cohort.csv -o evaluation/",
        "prospect evaluate tumour.prospector held-out.csv -o evaluation/ --no-baselines --pictures 12",
    ),
)
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for tables and report."
)
@tokens_option
@click.option("--target", metavar="LABEL", help="The class to find; may be left out with two classes.")
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Compare with mean-pooled logistic regressions, fitted on the rows marked train.",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="How many slides to draw in the report.",
)
@weights_option
@device_option
@seed_option
@json_option
def evaluate(
    head: Path,
    cohort: Path,
    out: Path,
    tokens: Path | None,
    target: str | None,
    baselines: bool,
    pictures: int,
    weights: str | None,
    device: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure how well the maps of HEAD find the truth.

    This needs a COHORT with truth: PNG masks in the column truth, each of which covers its slide. Only rows marked
    test count (all rows, where there is no column split). Writes evaluation.csv, evaluation_data.csv,
    evaluation.json and report.html. The rows constant, random and prevalence say what knowing nothing scores.
    """
    from napari_prospector.core.head import load_head
    from napari_prospector.study.cohort import Cohort

    model = load_head(head)
    label = label_of(model, target)
    table = Cohort.read(cohort)
    check_place(out / "any")
    folder = tokens_folder(cohort, tokens)
    needed = table if baselines else table.split("test")
    complete_tokens(needed, folder, encoder_words(model, weights, device), quiet=as_json)
    found = evaluate_cohort(model, table, folder, label, baselines=baselines, seed=seed, quiet=as_json)
    files = found.write(out)
    files.append(write_cohort_report(out, model, table, folder, found, pictures=pictures, quiet=as_json))
    show_evaluation(found, files, as_json)


def evaluate_cohort(
    head: ProspectorHead,
    table: Cohort,
    folder: Path,
    target: str | None = None,
    *,
    baselines: bool = True,
    seed: int = 0,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate a head on the test rows of a cohort, and baselines fitted on its training rows.

    Raises
    ------
    InvalidInputError
        If no row of the target class has a truth.
    """
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.evaluate import evaluate as measure
    from napari_prospector.study.truths import cohort_truths

    target = str(head.target_) if target is None else target
    test = table.split("test")
    graphs = CohortGraphs.of_cohort(test, folder)
    for grid in graphs.grids:
        head.check_encoder({**grid.card, "mpp": grid.geometry.tile_mpp, "tile_px": grid.geometry.tile_px})
    if not any(row.truth is not None and row.label == target for row in test):
        raise InvalidInputError(
            f"{table.name} must name a truth for some test row of class {target!r}; it names none. "
            "Fill its column truth with PNG masks that cover their slides."
        )
    truths = cohort_truths(test, graphs.grids, target)
    methods: dict[str, ProspectorHead | Method] = {"prospector": head}
    if baselines and any(row.split == "train" for row in table):
        methods |= _fitted_baselines(table.split("train"), folder, target)
    elif baselines:
        tell("No row is marked train, so baselines cannot be fitted without seeing the test.", quiet)
    with stage_bars(quiet) as report:
        return measure(methods, graphs, test.labels, truths, test.groups, test.names, target, seed=seed, report=report)


def show_evaluation(found: Evaluation, files: list[Path], as_json: bool) -> None:
    """Print the table of an evaluation, or one JSON object."""
    if as_json:
        text = next(path for path in files if path.name == "evaluation.json").read_text(encoding="utf-8")
        click.echo(json.dumps({**json.loads(text), "files": [str(path) for path in files]}))
        return
    print_table(
        ("method", "map", "AP [low, high]", "AUROC", "AUPRC", "pooled AP", "constant", "datum AUROC"),
        [_table_row(row) for row in found.rows],
        title=f"Finding {found.target}",
    )
    click.echo("constant: share of maps that say nothing; datum AUROC: of the probabilities of whole slides.")
    click.echo(found.basis)
    for path in files:
        click.echo(f"  {path}")


def _table_row(row: EvaluationRow) -> list[str]:
    """Return the cells of one row: what fits a terminal; the rest is in the CSV."""
    mean, place = row.localization.mean, row.localization
    ap = mean["ap"]
    bounds = "" if math.isnan(ap.low) else f" [{ap.low:.3f}, {ap.high:.3f}]"
    numbers = (mean["auroc"].value, mean["auprc"].value, place.pooled["ap"].value)
    share = "" if math.isnan(place.share_constant) else f"{place.share_constant:.0%}"
    return [row.method, row.map, f"{ap.value:.3f}{bounds}", *map(_number, numbers), share, _number(row.datum_auroc)]


def _number(value: float) -> str:
    """Write a number; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.3f}"


def write_cohort_report(
    out: Path,
    head: ProspectorHead,
    table: Cohort,
    folder: Path,
    found: Evaluation,
    *,
    pictures: int,
    quiet: bool,
    steps: Sequence[str] = (),
    commands: Sequence[str] = (),
) -> Path:
    """Draw pictures of test slides, those of the target first, and write the HTML report beside the tables."""
    from napari_prospector.study.figures import draw_token_grid
    from napari_prospector.study.report import ReportPicture, write_report
    from napari_prospector.study.truths import cohort_truths
    from napari_prospector.tokens.store import TokenGrid

    test = table.split("test")
    stores = test.store_paths(folder)
    target = next(label for label in head.classes_.tolist() if str(label) == found.target)
    truths = cohort_truths(test, [TokenGrid.open(store) for store in stores], found.target)
    # three of the target to one of the rest: both what it finds and what it leaves alone
    found_first = sorted(range(len(test)), key=lambda i: test.labels[i] != found.target)
    n_target = test.labels.count(found.target)
    shown = found_first[: pictures - pictures // 4] + found_first[n_target : n_target + pictures // 4]
    drawn = []
    with progress_bar(quiet) as progress:
        for i in progress.track(sorted(set(shown)), description="draw pictures"):
            row, path = test.rows[i], out / "pictures" / f"{test.names[i]}.png"
            slide = None if row.is_tokens else row.path
            draw_token_grid(
                path, head, stores[i], slide, target=target, slide_mpp=row.mpp, truth=truths[i], label=row.label
            )
            drawn.append(ReportPicture(path, f"{test.names[i]}, labelled {row.label}"))
    title = f"Finding {found.target} on {len(test)} slides"
    return write_report(
        out / "report.html",
        title=title,
        head=head,
        evaluation=found,
        cohort=table,
        pictures=drawn,
        steps=steps,
        commands=commands,
    )


def _fitted_baselines(train: Cohort, folder: Path, target: str) -> dict[str, Method]:
    """Fit mean-pooled logistic regressions, plain and averaged over neighbours, on training rows."""
    from napari_prospector.study.baselines import MeanPooledLogistic
    from napari_prospector.study.cohort_graphs import CohortGraphs

    graphs = CohortGraphs.of_cohort(train, folder)
    methods: dict[str, Method] = {}
    for hops in (0, 1):
        baseline = MeanPooledLogistic(target, hops=hops)
        baseline.fit(graphs, train.labels, train.groups)
        methods[baseline.name] = baseline
    return methods
