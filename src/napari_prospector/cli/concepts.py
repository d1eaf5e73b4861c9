"""`prospect concepts`: list the concepts of a head; name, merge and hide them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import check_place, examples, json_option, print_table, tell, told

if TYPE_CHECKING:
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.core.head import ProspectorHead

__all__ = ["concepts"]


class Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Numbers of concepts, separated by commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of concept numbers, such as 3 or 3,5.", param, ctx)


class Name(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A concept and its name."""

    name = "N=NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        """Read number and name."""
        if isinstance(value, tuple):
            return value
        number, sign, name = str(value).partition("=")
        if not sign or not number.strip().isdecimal():
            self.fail(f"{value!r} is no number and name of a concept, such as 3=lymphocytes.", param, ctx)
        return int(number), name


@click.command(
    short_help="List the concepts of a head; name, merge and hide them.",
    epilog=examples(
        "prospect concepts tumour.prospector",
        'prospect concepts tumour.prospector --rename 3="lymphocytes" --merge 3,5',
        "prospect concepts tumour.prospector --hide 4 -o without-ink.prospector",
    ),
)
@click.argument("head_file", metavar="HEAD", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rename", multiple=True, type=Name(), help="Name a concept, or the group that it is merged in.")
@click.option("--merge", multiple=True, type=Numbers(), help="Make these concepts one to people; no score changes.")
@click.option("--split", multiple=True, type=int, metavar="N", help="Undo the merge that this concept is in.")
@click.option("--hide", multiple=True, type=Numbers(), help="Let these concepts count 0 in maps and explanations.")
@click.option("--show", multiple=True, type=Numbers(), help="Undo --hide.")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Head to write; default: HEAD itself."
)
@json_option
def concepts(
    head_file: Path,
    rename: tuple[tuple[int, str], ...],
    merge: tuple[tuple[int, ...], ...],
    split: tuple[int, ...],
    hide: tuple[tuple[int, ...], ...],
    show: tuple[tuple[int, ...], ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """List the concepts of HEAD, with their share of the tokens of each class and their weight; or change them.

    Weights are those of a concept by itself in the evidence map; above 0 speaks for the class. Changes are made in the
    order split, show, merge, hide, rename, and HEAD is replaced in one step. Nothing is fitted again: merged concepts
    keep their weights, and probabilities of whole slides stay as they were learned.
    """
    from napari_prospector.core.head import load_head

    head = load_head(head_file)
    before = edits = head.concept_edits_
    steps: tuple[tuple[Callable[..., Any], Sequence[Any]], ...] = (
        (lambda one, concept: one.split(concept), split),
        (lambda one, numbers: one.show(numbers), show),
        (lambda one, numbers: one.merge(numbers), merge),
        (lambda one, numbers: one.hide(numbers), hide),
        (lambda one, pair: one.rename(*pair), rename),
    )
    for change, values in steps:
        for value in values:
            edits = change(edits, value)
    target = None
    if out is not None or edits != before:
        target = head_file if out is None else out
        check_place(target)
        head = head.with_edits(edits)
        head.save(target)
    rows = _rows(head)
    _tell_change(target, head_file, before, edits, as_json)
    notes = list(edits.notes())
    if as_json:
        told({"head": head_file, "written": target, "concepts": rows, "notes": notes}, True, ())
    else:
        _print(head, rows)
        told({}, False, notes)


def _rows(head: ProspectorHead) -> list[dict[str, Any]]:
    """Describe every concept."""
    edits, shares = head.concept_edits_, head.concept_shares_
    classes = head.classes_.tolist()
    targets = classes if head.target_ is None else [head.target_]
    weights = {str(target): head.concept_weights("evidence", target)[0] for target in targets}
    return [
        {
            "number": concept,
            "name": edits.name(concept),
            "own_name": edits.names[concept],
            "merged_with": [other for other in edits.members(concept) if other != concept],
            "hidden": concept in edits.hidden,
            "highlighted": concept in edits.highlighted,
            "shares": None if shares is None else {str(n): shares[i, concept] for i, n in enumerate(classes)},
            "weights": {name: monograms[concept] for name, monograms in weights.items()},
        }
        for concept in range(edits.n_concepts)
    ]


def _print(head: ProspectorHead, rows: Sequence[dict[str, Any]]) -> None:
    """Print a row for each concept."""
    classes = [] if head.concept_shares_ is None else [str(name) for name in head.classes_.tolist()]
    targets = list(rows[0]["weights"])
    columns = ["number", "name", *(f"of {name}" for name in classes), *(f"weight for {name}" for name in targets), ""]
    cells = [
        [
            str(row["number"]),
            row["name"],
            *(f"{row['shares'][name]:.1%}" for name in classes),
            *(f"{row['weights'][name]:+.3g}" for name in targets),
            _state(row),
        ]
        for row in rows
    ]
    looked_for = "each class" if head.target_ is None else head.target_
    print_table(columns, cells, f"Concepts of a head that looks for {looked_for}", wrapping=["name", ""])


def _state(row: dict[str, Any]) -> str:
    """Say whether a concept is merged or hidden."""
    words = [f"merged with {', '.join(map(str, row['merged_with']))}"] if row["merged_with"] else []
    return "; ".join([*words, *(["hidden"] if row["hidden"] else [])])


def _tell_change(target: Path | None, head: Path, before: ConceptEdits, after: ConceptEdits, quiet: bool) -> None:
    """Say what was written, and how to undo it where the old head is no more."""
    if target is None:
        return
    tell(f"{target} written.", quiet)
    if target == head and (words := _undo(before, after)):
        tell(f"To undo: prospect concepts {shlex.quote(str(head))} {words}", quiet)


def _undo(before: ConceptEdits, after: ConceptEdits) -> str:
    """Return the options that lead back; nothing where they do not, as with a name that no longer could be given."""
    from napari_prospector.errors import InvalidInputError

    words: list[str] = []
    edits = after
    try:
        for group in after.representatives:
            if len(members := after.members(group)) > 1 and members != before.members(group):
                words.append(f"--split {group}")
                edits = edits.split(group)
        if shown := sorted(after.hidden - before.hidden):
            words.append(f"--show {','.join(map(str, shown))}")
            edits = edits.show(shown)
        for group in before.representatives:
            if len(members := before.members(group)) > 1 and members != edits.members(group):
                words.append(f"--merge {','.join(map(str, members))}")
                edits = edits.merge(members)
        if hidden := sorted(before.hidden - after.hidden):
            words.append(f"--hide {','.join(map(str, hidden))}")
            edits = edits.hide(hidden)
        for concept in before.representatives:
            if edits.names[concept] != before.names[concept]:
                words.append(f"--rename {shlex.quote(f'{concept}={before.names[concept]}')}")
                edits = edits.rename(concept, before.names[concept])
    except InvalidInputError:
        return ""
    return " ".join(words) if edits.shown_names == before.shown_names and edits.hidden == before.hidden else ""
