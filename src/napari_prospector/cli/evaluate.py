"""`prospect evaluate`: how well the maps of a head find the truth, beside baselines and what knowing nothing scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import (
    check_place,
    device_option,
    examples,
    grids_option,
    json_option,
    progress_bar,
    seed_option,
    stage_bars,
    tell,
    weights_option,
    workers_options,
)
from napari_prospector.cli.embedding import encoder_words
from napari_prospector.cli.evaluation_text import show_evaluation
from napari_prospector.cli.fit import complete_tokens, tokens_folder
from napari_prospector.cli.map import label_of
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.baselines import Method
    from napari_prospector.study.cluster import AnyClient
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.comparison import Rivals
    from napari_prospector.study.evaluation import Evaluation

__all__ = ["Comparison", "evaluate", "evaluate_cohort", "show_evaluation", "write_cohort_report"]


@click.command(
    short_help="Measure how well maps find the truth.",
    epilog=examples(
        "prospect evaluate tumour.prospector cohort.csv -o evaluation/",
        "prospect evaluate tumour.prospector cohort.csv -o evaluation/ --baseline all",
        "prospect evaluate tumour.prospector held-out.csv -o evaluation/ --no-baselines --pictures 12",
    ),
)
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for tables and report."
)
@grids_option
@click.option("--target", metavar="LABEL", help="The class to find; may be left out with two classes.")
@click.option(
    "--baseline",
    "baseline",
    multiple=True,
    metavar="NAME",
    help="Method to compare with, fitted on the rows marked train; may be given several times. fast (the default): "
    "those that take seconds; all; none; or a name.",
)
@click.option("--no-baselines", is_flag=True, help="The same as --baseline none.")
@click.option(
    "--ceiling",
    is_flag=True,
    help="Add what a classifier of tokens reaches that is taught by the truths of the rows marked train.",
)
@click.option(
    "--datum",
    type=click.Choice(["slide", "group"]),
    help="Judge labels over slides, or over groups (patients), the slides of each as one; default: as the head was "
    "fitted. Maps are measured slide by slide.",
)
@click.option("--allow-seen", is_flag=True, help="Go on where slides that the head learned from are to be evaluated.")
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
@workers_options
@json_option
def evaluate(
    head: Path,
    cohort: Path,
    out: Path,
    grids: Path | None,
    target: str | None,
    baseline: tuple[str, ...],
    no_baselines: bool,
    ceiling: bool,
    datum: str | None,
    allow_seen: bool,
    pictures: int,
    weights: str | None,
    device: str | None,
    seed: int,
    as_json: bool,
    client: AnyClient | None,
) -> None:
    """Measure how well the maps of HEAD find the truth.

    This needs a COHORT with truth: in the column truth PNG masks, each of which covers its slide, or annotations of
    QuPath (*.geojson) with regions of the target class. Only rows marked test count (all rows, where there is no column
    split); slides that the head learned from are refused. Writes evaluation.csv and other tables, evaluation.json,
    evaluation.png and report.html. The rows constant, random and prevalence say what knowing nothing scores.
    """
    from napari_prospector.core.head import load_head
    from napari_prospector.study.cohort import Cohort

    if no_baselines and baseline:
        raise click.UsageError("--no-baselines and --baseline contradict each other; leave out one.")
    words = ("none",) if no_baselines else baseline or ("fast",)
    model = load_head(head)
    label = label_of(model, target)
    table = Cohort.read(cohort)
    check_place(out / "any")
    folder = tokens_folder(cohort, grids)
    needed = table.split("test") if set(words) == {"none"} and not ceiling else table
    complete_tokens(needed, folder, encoder_words(model, weights, device), client=client, quiet=as_json)
    compared = Comparison(words, ceiling)
    asked: dict[str, Any] = {"allow_seen": allow_seen, "client": client, "quiet": as_json}
    found = evaluate_cohort(model, table, folder, label, compared, datum=datum, seed=seed, **asked)
    files = found.write(out)
    files.append(write_cohort_report(out, model, table, folder, found, pictures=pictures, quiet=as_json))
    show_evaluation(found, files, as_json)


@dataclass(frozen=True)
class Comparison:
    """What a head is compared with: baselines by name, or fast, all, none; and the ceiling or not."""

    baselines: Sequence[str] = ("fast",)
    ceiling: bool = False


def evaluate_cohort(
    head: ProspectorHead,
    table: Cohort,
    folder: Path,
    target: str | None = None,
    compared: Comparison = Comparison(),
    *,
    datum: str | None = None,
    allow_seen: bool = False,
    seed: int = 0,
    client: AnyClient | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate a head on the test rows of a cohort, and baselines fitted on its training rows.

    Raises
    ------
    InvalidInputError
        If no row of the target class has a truth, or the head has learned from a test row.
    """
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.evaluate import evaluate as measure

    target = str(head.target_) if target is None else target
    test = table.split("test")
    graphs = CohortGraphs.of_cohort(test, folder, without=head.card_.get("without", {}), client=client)
    for grid in graphs.grids:
        head.check_encoder(grid.tokens_card)
    truths = _truths(table.name, test, graphs, target)
    seen = _seen(head, test, graphs, allow_seen, quiet)
    datum = datum or head.card_.get("datum", "slide")
    rivals = _rivals(head, table, folder, target, compared, datum, graphs, seed=seed, quiet=quiet)
    methods: dict[str, ProspectorHead | Method] = {"prospector": head, **rivals.methods}
    with stage_bars(quiet) as report:
        return measure(
            methods,
            graphs,
            test.labels,
            truths,
            test.groups,
            test.names,
            target,
            seed=seed,
            report=report,
            datum=datum,
            seen=seen,
            fit_seconds=rivals.seconds,
            remarks=graphs.mixtures(test.labels, None, test.groups),
        )


def _truths(name: str, test: Cohort, graphs: CohortGraphs, target: str) -> list[NDArray[np.int8] | None]:
    """Return the truth of every test row.

    Raises
    ------
    InvalidInputError
        If none of the rows of the target has a truth, or all of those are empty.
    """
    from napari_prospector.study.truths import cohort_truths

    if not any(row.truth is not None and row.label == target for row in test):
        raise InvalidInputError(
            f"{name} must name a truth for some test row of class {target!r}; it names none. "
            "Fill its column truth with PNG masks that cover their slides, or with QuPath's annotations (*.geojson)."
        )
    truths = cohort_truths(test, graphs.grids, target)
    own = [truth for row, truth in zip(test, truths, strict=True) if row.label == target and truth is not None]
    if not any((truth > 0).any() for truth in own):
        raise InvalidInputError(
            f"The truth of some test slide of class {target!r} must show a region; in {name} all are empty. "
            "Check the masks, or name the class that they show with --target."
        )
    return truths


def _seen(head: ProspectorHead, test: Cohort, graphs: CohortGraphs, allow_seen: bool, quiet: bool) -> NDArray[np.bool_]:
    """Return which slides (n_slides,) the head has learned from, they or their patients; refuse them unless allowed."""
    from napari_prospector.study.held_out import seen_slides

    learned = head.card_.get("slides")
    if learned is None:
        tell("The head does not say which slides it learned from: see to it that none of these is among them.", quiet)
    seen = seen_slides(learned or (), graphs.contents, test.groups)
    if seen.any() and not allow_seen:
        names = ", ".join(name for name, is_seen in zip(test.names, seen.tolist(), strict=True) if is_seen)
        raise InvalidInputError(
            f"A head must be evaluated on slides of patients that it has not learned from; it has learned from"
            f" {int(seen.sum())} of these {len(test)}: {names if len(names) < 200 else names[:199] + '…'}. Mark rows"
            " train and test in column split and fit again, or pass --allow-seen, and do not report the figures."
        )
    return seen


def _rivals(
    head: ProspectorHead,
    table: Cohort,
    folder: Path,
    target: str,
    compared: Comparison,
    datum: str,
    tested: CohortGraphs,
    *,
    seed: int,
    quiet: bool,
) -> Rivals:
    """Fit what is asked for on the training rows, where there are some."""
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.comparison import MEAN_OF_NINE, Rivals, baseline_names, fit_ceiling, fit_rivals
    from napari_prospector.study.patients import as_data
    from napari_prospector.study.truths import cohort_truths

    names, missing = baseline_names(compared.baselines)
    if missing:
        tell(f"Not compared with {', '.join(missing)}: packages of the extras are not installed.", quiet)
    fitted = Rivals()
    if not names and not compared.ceiling:
        return fitted
    if not any(row.split == "train" for row in table):
        tell("No row is marked train, so nothing to compare with can be fitted without seeing the test.", quiet)
        return fitted
    train = table.split("train")
    slides = CohortGraphs.of_cohort(train, folder, without=head.card_.get("without", {}))
    _refuse_twins(table, slides, tested)
    if names:
        learned = as_data(slides, train.labels, train.groups, datum)
        with stage_bars(quiet) as report:
            fitted |= fit_rivals(names, learned, target, seed, report)
    if compared.ceiling:
        truths = cohort_truths(train, slides.grids, target)
        refiner = head.refiner_  # the ceiling is averaged as the refined map is
        amount = MEAN_OF_NINE if refiner is None else refiner.amount
        fitted |= fit_ceiling(as_data(slides, train.labels, train.groups), truths, target, seed, amount)
    return fitted


def _refuse_twins(table: Cohort, slides: CohortGraphs, tested: CohortGraphs) -> None:
    """Raise `InvalidInputError` where a slide is both in training and, under another name, in test."""
    from napari_prospector.study.held_out import seen_slides, slide_marks

    twins = seen_slides(slide_marks(slides.contents), tested.contents)
    if twins.any():
        names = [
            grid.attrs["slide_name"] for grid, is_twin in zip(tested.grids, twins.tolist(), strict=True) if is_twin
        ]
        raise InvalidInputError(
            f"{table.name}: no slide may be in train and in test; {names[0]!r} ({len(names)} in all) is in both, under"
            " two names. Remove one of them."
        )


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
    without = head.card_.get("without", {})
    truths = cohort_truths(test, [TokenGrid.open(store, without=without) for store in stores], found.target)
    # three of the target to one of the rest: both what it finds and what it leaves alone
    found_first = sorted(range(len(test)), key=lambda i: test.labels[i] != found.target)
    n_target = test.labels.count(found.target)
    shown = found_first[: pictures - pictures // 4] + found_first[n_target : n_target + pictures // 4]
    drawn = []
    with progress_bar(quiet) as progress:
        for i in progress.track(sorted(set(shown)), description="draw pictures"):
            row, path = test.rows[i], out / "pictures" / f"{test.names[i]}.png"
            slide = None if row.is_tokens else row.path
            shown_as = {"target": target, "label": row.label, "truth": truths[i]}
            draw_token_grid(path, head, stores[i], slide, slide_mpp=row.mpp, **shown_as)
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
