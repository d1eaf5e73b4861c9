"""`prospect evaluate`: how well the maps of a head find the truth, beside baselines and what knowing nothing scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_prospector.cli.console import json_option, print_table, progress_bar, stage_bars, tell
from napari_prospector.cli.embedding import encoder_words
from napari_prospector.cli.fit import complete_tokens, tokens_folder
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.baselines import Method
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.evaluate import Evaluation

__all__ = ["evaluate", "evaluate_cohort"]


@click.command()
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for tables and report."
)
@click.option(
    "--tokens",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the token grids; default: tokens/ beside the table.",
)
@click.option(
    "--baselines/--no-baselines", default=True, show_default=True, help="Fit baselines on the rows marked train."
)
@click.option("--pictures", type=int, default=6, show_default=True, help="How many slides to draw in the report.")
@click.option("--weights", type=click.Path(dir_okay=False), help="Weight file, where the head's encoder needs one.")
@click.option("--device", help="cpu, cuda, cuda:1, mps; found by itself by default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@json_option
def evaluate(
    head: Path,
    cohort: Path,
    out: Path,
    tokens: Path | None,
    baselines: bool,
    pictures: int,
    weights: str | None,
    device: str | None,
    seed: int,
    as_json: bool,
) -> None:
    r"""Measure HEAD on the rows of COHORT that are marked test (all rows, where there is no column split).

    Region truth comes from the column truth: a PNG that covers its slide. Writes evaluation.csv, evaluation_data.csv,
    evaluation.json and report.html. The rows constant, random and prevalence say what knowing nothing scores.

    \b
      prospect evaluate tumour.prospector cohort.csv -o evaluation/
    """
    from napari_prospector.core.head import load_head
    from napari_prospector.study.cohort import Cohort

    model = load_head(head)
    table = Cohort.read(cohort)
    folder = tokens_folder(cohort, tokens)
    complete_tokens(table, folder, encoder_words(model, weights, device), quiet=as_json)
    found = evaluate_cohort(model, table, folder, baselines=baselines, seed=seed, quiet=as_json)
    files = found.write(out)
    files.append(write_cohort_report(out, model, table, folder, found, pictures=pictures, quiet=as_json))
    show_evaluation(found, files, as_json)


def evaluate_cohort(
    head: ProspectorHead, table: Cohort, folder: Path, *, baselines: bool = True, seed: int = 0, quiet: bool = False
) -> Evaluation:
    """Evaluate a head on the test rows of a cohort, and baselines fitted on its training rows.

    Raises
    ------
    InvalidInputError
        If no row of the target class has a truth, or the head has more than two classes.
    """
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.evaluate import evaluate as measure
    from napari_prospector.study.truths import cohort_truths

    if head.target_ is None:
        raise InvalidInputError("evaluate needs a head of two classes; this one has more.")
    test = table.split("test")
    graphs = CohortGraphs.of_cohort(test, folder)
    for grid in graphs.grids:
        head.check_encoder({**grid.card, "mpp": grid.geometry.tile_mpp, "tile_px": grid.geometry.tile_px})
    target = str(head.target_)
    if not any(row.truth is not None and row.label == target for row in test):
        raise InvalidInputError(
            f"no row of class {target!r} in {table.name} has a truth to measure against. "
            "Fill its column truth with PNG masks."
        )
    truths = cohort_truths(test, graphs.grids, target)
    methods: dict[str, ProspectorHead | Method] = {"prospector": head}
    if baselines and any(row.split == "train" for row in table):
        methods |= _fitted_baselines(table.split("train"), folder, target)
    elif baselines:
        tell("No row is marked train, so baselines cannot be fitted without seeing the test.", quiet)
    with stage_bars(quiet) as report:
        return measure(methods, graphs, test.labels, truths, test.groups, test.names, seed=seed, report=report)


def show_evaluation(found: Evaluation, files: list[Path], as_json: bool) -> None:
    """Print the table of an evaluation, or one JSON object."""
    import json

    if as_json:
        text = next(path for path in files if path.name == "evaluation.json").read_text(encoding="utf-8")
        click.echo(json.dumps({**json.loads(text), "files": [str(path) for path in files]}))
        return
    rows = found.summary()
    print_table(list(rows[0]), [list(row.values()) for row in rows], title=f"Finding {found.target}")
    click.echo(found.basis)
    for path in files:
        click.echo(f"  {path}")


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
    truths = cohort_truths(test, [TokenGrid.open(store) for store in stores], str(head.target_))
    # three of the target to one of the rest: both what it finds and what it leaves alone
    found_first = sorted(range(len(test)), key=lambda i: test.labels[i] != str(head.target_))
    n_target = test.labels.count(str(head.target_))
    shown = found_first[: pictures - pictures // 4] + found_first[n_target : n_target + pictures // 4]
    drawn = []
    with progress_bar(quiet) as progress:
        for i in progress.track(sorted(set(shown)), description="draw pictures"):
            row, path = test.rows[i], out / "pictures" / f"{test.names[i]}.png"
            slide = None if row.is_tokens else row.path
            draw_token_grid(path, head, stores[i], slide, slide_mpp=row.mpp, truth=truths[i], label=row.label)
            drawn.append(ReportPicture(path, f"{test.names[i]}, labelled {row.label}"))
    title = f"Finding {head.target_} on {len(test)} slides"
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
