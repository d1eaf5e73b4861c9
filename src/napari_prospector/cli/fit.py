"""`prospect fit`: a cohort with labels in, a head file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import encoder_options, json_option, stage_bars, tell, told
from napari_prospector.cli.embedding import SlideJob, embed_slides, encoder_from_options
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.study.cohort import Cohort

__all__ = ["complete_tokens", "fit", "tokens_folder"]


@click.command()
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Head file to write.")
@click.option(
    "--tokens",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the token grids; default: tokens/ beside the table.",
)
@click.option("--select", is_flag=True, help="Choose the settings by cross-validation over the paper's grid.")
@click.option("--n-concepts", type=int, default=30, show_default=True, help="Number of concepts.")
@click.option("--radius", type=int, default=1, show_default=True, help="Hops within which tokens pair.")
@click.option("--kernel", type=click.Choice(["fold-change", "linear"]), default="fold-change", show_default=True)
@click.option("--alpha", type=float, help="Significance level of the fold-change kernel; off by default.")
@click.option("--tau", type=float, default=0.0, show_default=True, help="Smallest fold change kept, in log2.")
@click.option("--l1-ratio", type=float, default=0.5, show_default=True, help="Linear kernel: 0 ridge to 1 lasso.")
@click.option("--geometry", type=click.Choice(["auto", "euclidean", "cosine"]), help="Of the concepts.")
@click.option(
    "--whiten", type=click.Choice(["none", "standardize", "pca"]), help="Of the embeddings, before clustering."
)
@click.option("--positive", help="With two classes, the label that maps look for.")
@click.option("--reference", is_flag=True, help="Follow the paper's code, quirks included.")
@click.option("--folds", "n_folds", type=int, default=5, show_default=True, help="Folds of the cross-validation.")
@click.option("--seed", "random_state", type=int, default=0, show_default=True)
@encoder_options
@json_option
def fit(cohort: Path, out: Path, tokens: Path | None, select: bool, as_json: bool, **options: Any) -> None:
    r"""Learn a head from the labels of COHORT, a table with columns path and label.

    Optional columns: group (a patient, never divided between folds), split (rows marked test are left out), mpp, truth.
    Slides without a token grid are embedded first.

    \b
      prospect fit cohort.csv -o tumour.prospector
      prospect fit cohort.csv -o tumour.prospector --select
    """
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.core.selection import select_head
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs

    table = Cohort.read(cohort).split("train")
    table.require_classes()
    folder = tokens_folder(cohort, tokens)
    complete_tokens(table, folder, options, quiet=as_json)
    graphs = CohortGraphs.of_cohort(table, folder)
    settings = _head_settings(options)
    result: dict[str, Any] = {"head": str(out)}
    with stage_bars(as_json) as report:
        if select:
            fixed = {
                name: settings[name]
                for name in settings
                if name not in ("n_concepts", "radius", "kernel", "alpha", "tau", "l1_ratio")
            }
            selection = select_head(graphs, table.labels, table.groups, report=report, **fixed)
            head, sentence = selection.head, selection.sentence()
            result |= {"selection": selection.rows()[:20], "n_settings": len(selection.table), "sentence": sentence}
        else:
            head = ProspectorHead(**settings).fit(graphs, table.labels, table.groups, report)
            sentence = f"Fitted on {len(table)} data with the settings given."
    card = graphs.head_card(table)
    if select:
        card["selection"] = sentence
    head.save(out, card)
    for note in head.notes_:
        tell(f"Note: {note}", as_json)
    result |= {"target": head.target_, "n_data": head.n_data_, "brier": head.brier_, "notes": list(head.notes_)}
    told(result, as_json, [sentence, f"Head: {out}", "", head.describe()])


def tokens_folder(table: Path, folder: Path | None) -> Path:
    """Return the folder of the token grids of a cohort table."""
    return table.parent / "tokens" if folder is None else folder


def complete_tokens(cohort: Cohort, folder: Path, encoder: dict[str, Any], *, quiet: bool) -> None:
    """Embed the slides of a cohort that have no finished token grid.

    Raises
    ------
    InvalidInputError
        If a slide cannot be embedded; it names all of them.
    """
    from napari_prospector.tokens.store import TokenGrid

    jobs = []
    for row, store in zip(cohort, cohort.store_paths(folder), strict=True):
        if not row.is_tokens and not (store.exists() and TokenGrid.open(store).is_complete):
            jobs.append(SlideJob(Path(row.path), store, row.mpp))
    if not jobs:
        return
    model = encoder_from_options(encoder)
    tell(
        f"{len(jobs)} of {len(cohort)} slides have no finished token grid in {folder}; "
        f"embedding with {model.card.name!r}.",
        quiet,
    )
    broken = [outcome for outcome in embed_slides(jobs, model, quiet=quiet) if outcome.error]
    if broken:
        raise InvalidInputError(
            f"every slide of the cohort must be embedded; {len(broken)} failed: "
            + "; ".join(f"{outcome.slide}: {outcome.error}" for outcome in broken)
        )


def _head_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of `ProspectorHead` among the options; what was not given keeps its default."""
    names = (
        "n_concepts",
        "radius",
        "kernel",
        "alpha",
        "tau",
        "l1_ratio",
        "geometry",
        "whiten",
        "positive",
        "reference",
        "n_folds",
        "random_state",
    )
    given = {name: options[name] for name in names if options[name] is not None}
    if given.get("whiten") == "none":
        given["whiten"] = None
    return given
