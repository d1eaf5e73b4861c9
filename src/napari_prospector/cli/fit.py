"""`prospect fit`: a cohort with labels in, a head file out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import (
    check_place,
    encoder_options,
    examples,
    grids_option,
    json_option,
    seed_option,
    stage_bars,
    tell,
    told,
    workers_options,
)
from napari_prospector.cli.embedding import embed_slides, encoder_for, is_finished
from napari_prospector.cli.projecting import fitted_projection
from napari_prospector.errors import InvalidInputError, MismatchError, ProspectorWarning

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.cluster import AnyClient
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.patients import LabelledGraphs

__all__ = ["complete_tokens", "fit", "tokens_folder"]


_MOST_SHOWN = 20


class AutoOrWhole(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A whole number of at least `least`, or auto."""

    name = "auto or number"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or "auto"."""
        if value == "auto":
            return "auto"
        if isinstance(value, int) or str(value).isdecimal():
            return int(click.IntRange(min=self.least).convert(value, param, ctx))
        self.fail(f"must be a whole number of at least {self.least}, or auto; got {value!r}.", param, ctx)


# what --select chooses
_SELECTED = ("n_concepts", "radius", "kernel", "alpha", "tau", "l1_ratio")


@click.command(
    short_help="Learn a head from slides and their labels.",
    epilog=examples(
        "prospect fit cohort.csv -o tumour.prospector",
        "prospect fit cohort.csv -o tumour.prospector --datum group",
        "prospect fit cohort.csv -o tumour.prospector --kernel linear --radius 2 --positive tumour",
    ),
)
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Head file to write, NAME.prospector.",
)
@grids_option
@click.option(
    "--select",
    is_flag=True,
    help="Choose the kernel from the paper's whole grid, by the log-loss of labels, instead of as below.",
)
@click.option("--n-concepts", type=AutoOrWhole(1), default="auto", show_default=True, help="Number of concepts.")
@click.option(
    "--radius",
    type=AutoOrWhole(0),
    default="auto",
    show_default=True,
    help="Hops within which two tokens are a pair.",
)
@click.option(
    "--kernel",
    type=click.Choice(["auto", "fold-change", "linear"]),
    default="auto",
    show_default=True,
    help="What the evidence map shows: how much more frequent, or a linear classifier's weight.",
)
@click.option(
    "--refine/--no-refine",
    default=True,
    show_default=True,
    help="Whether to learn the refined map too: a read-out of the embeddings that labels and kernel teach.",
)
@click.option(
    "--datum",
    type=click.Choice(["slide", "group"]),
    default="slide",
    show_default=True,
    help="What is one datum: a slide, or a group (patient) with all its slides.",
)
@click.option("--alpha", type=float, help="Significance level of the fold-change kernel; off by default.")
@click.option(
    "--tau", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Smallest fold change kept, in log2."
)
@click.option(
    "--l1-ratio", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Linear kernel: 0 ridge to 1 lasso."
)
@click.option(
    "--geometry",
    type=click.Choice(["auto", "euclidean", "cosine"]),
    help="How embeddings are compared; auto by default.",
)
@click.option(
    "--whiten",
    type=click.Choice(["none", "standardize", "pca"]),
    help="What is done to embeddings before they are clustered; none by default.",
)
@click.option("--positive", metavar="LABEL", help="With two classes, the one that maps look for.")
@click.option("--reference", is_flag=True, help="Follow the paper's code, quirks included.")
@click.option(
    "--folds",
    "n_folds",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Folds of the cross-validation, by group.",
)
@click.option(
    "--without",
    "without_words",
    multiple=True,
    metavar="FLAGS",
    help="Leave out tiles that are flagged: pen, blur, fold, bubble, separated by commas; blur=0.8 sets a threshold. "
    "The head remembers it, so that map, evaluate and view leave them out as well.",
)
@seed_option
@encoder_options
@workers_options
@json_option
@click.pass_context
def fit(
    context: click.Context, /, cohort: Path, out: Path, grids: Path | None, select: bool, as_json: bool, **options: Any
) -> None:
    """Learn a head from the labels of COHORT, a table with columns path and label.

    Optional columns: group (a patient, never divided between folds), split (rows marked test are left out), mpp
    (µm per pixel, where a slide states none), truth (not used here). Slides without a token grid are embedded first.

    Without options everything is chosen from the labels alone, out of fold: concepts, radius, kernel, how much
    neighbours share, and the map that is shown. The result says what was chosen, why, and how sure that is.
    """
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.patients import as_data
    from napari_prospector.study.verdict import out_of_fold_verdict
    from napari_prospector.tokens.quality import parse_rules

    _check_request(context, out, select)
    without = parse_rules(options["without_words"])
    table = Cohort.read(cohort).split("train")
    table.require_classes()
    check_place(out)
    folder = tokens_folder(cohort, grids)
    complete_tokens(table, folder, options, client=options["client"], quiet=as_json)
    graphs = CohortGraphs.of_cohort(table, folder, without=without, client=options["client"])
    _check_tokens(context, graphs, folder)
    learned = as_data(graphs, table.labels, table.groups, options["datum"])
    with stage_bars(as_json) as report, warnings.catch_warnings():
        warnings.simplefilter("ignore", ProspectorWarning)  # they are among the head's notes, told below
        fitted = _fitted(learned, _head_settings(options), select, report)
    head = fitted.head
    head.notes_ = (*head.notes_, *graphs.mixtures(table.labels, groups=table.groups))
    verdict = out_of_fold_verdict(head, [str(label) for label in learned.labels], learned.groups)
    card = graphs.head_card(table, options["datum"]) | {"out_of_fold": verdict.to_card()}
    card |= {"selected": fitted.sentence} if select else {}
    head.save(out, card, graphs.head_tensors())
    for note in head.notes_:
        tell(f"Note: {note}", as_json)
    datum = "patient" if options["datum"] == "group" else "slide"
    told(
        {"head": str(out), "n_data": len(learned.labels), "out_of_fold": verdict.to_card(), **_result(fitted)},
        as_json,
        [fitted.sentence, verdict.sentence(datum), f"Head: {out}", "", head.describe()],
    )


@dataclass(frozen=True)
class _Fitted:
    """A head, how it came about as a sentence, and what was tried."""

    head: ProspectorHead
    sentence: str
    selection: dict[str, Any]


def _result(fitted: _Fitted) -> dict[str, Any]:
    """Return what --json says of a head."""
    head = fitted.head
    return {
        "sentence": fitted.sentence,
        "classes": head.n_data_,
        "target": head.target_,
        "map": head.best_map_,
        "maps": list(head.maps_),
        "brier": head.brier_,
        "is_calibrated": head.is_calibrated_,
        "notes": list(head.notes_),
        **fitted.selection,
    }


def _fitted(
    learned: LabelledGraphs, settings: dict[str, Any], select: bool, report: Callable[[str, int, int], None]
) -> _Fitted:
    """Fit a head; what is not given is chosen by it, or with `select` from the paper's grid."""
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.core.selection import select_head

    labels = [str(label) for label in learned.labels]
    if not select:
        head = ProspectorHead(**settings).fit(learned.graphs, labels, learned.groups, report)
        return _Fitted(head, head.selection_.sentence(), {"selection": head.selection_.rows()})
    fixed = {name: value for name, value in settings.items() if name not in _SELECTED}
    selection = select_head(learned.graphs, labels, learned.groups, report=report, **fixed)
    best = {"n_settings": len(selection.table), "selection": selection.rows()[:_MOST_SHOWN]}
    return _Fitted(selection.head, selection.sentence(), best)


def _check_request(context: click.Context, out: Path, select: bool) -> None:
    """Refuse options that contradict each other, before anything is read.

    Raises
    ------
    click.UsageError
        If --select comes with what it chooses, or the head's name does not end as heads do.
    """
    if out.suffix != ".prospector":
        raise click.UsageError(f"--out must end in .prospector, so that every program knows it for a head; got {out}.")
    if select and (given := [name for name in _SELECTED if _is_given(context, name)]):
        words = ", ".join("--" + name.replace("_", "-") for name in given)
        raise click.UsageError(f"--select chooses {words}; leave out one or the other.")


def _is_given(context: click.Context, name: str) -> bool:
    """Tell whether an option was written on the command line."""
    return context.get_parameter_source(name) not in (None, click.core.ParameterSource.DEFAULT)


def _check_tokens(context: click.Context, graphs: CohortGraphs, folder: Path) -> None:
    """Refuse options of the encoder that the token grids were not made with."""
    card = {"tokens": "tile", "overlap_px": 0} | graphs.card
    for option, entry in (
        ("encoder", "name"),
        ("stain_normalize", "stain_normalize"),
        ("tokens", "tokens"),
        ("overlap", "overlap_px"),
    ):
        wanted, found = context.params[option], card.get(entry)
        if _is_given(context, option) and found != wanted:
            word = "--" + option.replace("_", "-")
            raise MismatchError(
                f"{word} says {wanted!r}; the token grids in {folder} hold {found!r}. "
                f"Name another folder with --grids, or leave {word} out."
            )


def tokens_folder(table: Path, folder: Path | None) -> Path:
    """Return the folder of the token grids of a cohort table."""
    return table.parent / "tokens" if folder is None else folder


def complete_tokens(
    cohort: Cohort, folder: Path, encoder: dict[str, Any], *, client: AnyClient | None = None, quiet: bool
) -> None:
    """Embed the slides of a cohort that have no finished token grid.

    Raises
    ------
    InvalidInputError
        If a slide cannot be embedded; it names all of them.
    MismatchError
        If a token grid was made from another slide of the same name, or with another encoder than the missing ones
        would be.
    """
    from napari_prospector.study.embed_cohort import SlideJob

    stores = cohort.store_paths(folder)
    jobs = [
        SlideJob(row.path, store, row.mpp)
        for row, store in zip(cohort, stores, strict=True)
        if not row.is_tokens and not is_finished(row.path, store, row.mpp)
    ]
    if not jobs:
        return
    _check_one_encoder(stores, encoder["encoder"], len(jobs))
    teachers = [(Path(row.path), row.mpp) for row in cohort if row.split != "test" and not row.is_tokens]
    encoder = fitted_projection(encoder, teachers, folder, quiet=quiet)
    model = encoder_for(encoder, client)
    tell(
        f"{len(jobs)} of {len(cohort)} slides have no finished token grid in {folder}; "
        f"embedding with {encoder['encoder']!r}.",
        quiet,
    )
    outcomes = embed_slides(jobs, model, client=client, quiet=quiet, stain_normalize=encoder["stain_normalize"])
    broken = [outcome for outcome in outcomes if outcome.error]
    if broken:
        raise InvalidInputError(
            f"Every slide of {cohort.name} must be embedded; {len(broken)} of {len(jobs)} could not be. "
            + (" ".join(str(outcome.error) for outcome in broken) if quiet else "The reasons stand above.")
        )


def _check_one_encoder(stores: Sequence[Path], encoder: str, n_missing: int) -> None:
    """Raise `MismatchError` if token grids that are there are of another encoder than the others would become."""
    from napari_prospector.tokens.store import TokenGrid

    wanted = encoder.removeprefix("timm:")
    for store in stores:
        if store.exists() and (found := TokenGrid.open(store).card["name"]) != wanted:
            raise MismatchError(
                f"{store.name} holds tokens of {found!r}, and {n_missing} slides without a token grid would be embedded"
                f" with {wanted!r}. Pass --encoder {found} as you did for prospect embed, or another folder, --grids."
            )


def _head_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of `ProspectorHead` among the options; what was not given keeps its default."""
    names = (
        "n_concepts",
        "radius",
        "kernel",
        "refine",
        "alpha",
        "tau",
        "l1_ratio",
        "geometry",
        "whiten",
        "positive",
        "reference",
        "n_folds",
    )
    given = {name: options[name] for name in names if options[name] is not None} | {"random_state": options["seed"]}
    if given.get("whiten") == "none":
        given["whiten"] = None
    return given
