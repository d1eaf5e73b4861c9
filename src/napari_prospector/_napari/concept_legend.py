"""The legend of a head: one row for each concept, or for each group of merged ones, and what can be done with rows.

Pure: neither napari nor Qt is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.core.head import ProspectorHead

__all__ = [
    "ACTIONS",
    "LegendEdit",
    "LegendRow",
    "edit_rows",
    "have_same_concepts",
    "legend_rows",
    "refusals",
    "rename_row",
    "set_highlighted",
    "set_shown",
    "signed",
]

ACTIONS = ("rename", "merge", "split", "hide", "highlight")
"""What can be done with the chosen rows; renaming asks for a name first."""

_MOST_NAMES = 3  # that the text of an edit tells


@dataclass(frozen=True)
class LegendRow:
    """What the legend tells of a concept, or of several that people have merged.

    Attributes
    ----------
    concept
        The concept that stands for the group.
    members
        All of the group, ascending.
    name
        To show.
    color
        Red, green and blue, 0 to 255; the same everywhere.
    shares
        Of the tokens of each class of the head, 0 to 1; None where nobody knows.
    weights
        Of each member, for the class that is looked for.
    weight
        Mean of them, weighted by how frequent each member is where that is known.
    is_hidden, is_highlighted
        As in `ConceptEdits`.
    """

    concept: int
    members: tuple[int, ...]
    name: str
    color: tuple[int, int, int]
    shares: tuple[float, ...] | None
    weights: tuple[float, ...]
    weight: float
    is_hidden: bool
    is_highlighted: bool

    @property
    def label(self) -> str:
        """The name, with the number of concepts that are merged in it."""
        return self.name if len(self.members) == 1 else f"{self.name} ×{len(self.members)}"

    @property
    def weights_text(self) -> str:
        """The weight, signed; from the lowest to the highest of merged concepts."""
        ends = dict.fromkeys((signed(min(self.weights)), signed(max(self.weights))))
        return " … ".join(ends)


@dataclass(frozen=True)
class LegendEdit:
    """What an edit is called in the history, and what it leads to."""

    text: str
    edits: ConceptEdits


def signed(weight: float) -> str:
    """Return a weight with its sign; 0 has none."""
    if abs(weight) < 0.0005:
        return "0"
    return f"{weight:+.{2 if abs(weight) >= 0.1 else 3}f}".replace("-", "−")


def legend_rows(
    head: ProspectorHead,
    target: Hashable | None = None,
    map: str = "evidence",
    shares: NDArray[np.float64] | None = None,
) -> tuple[LegendRow, ...]:
    """Return the rows of the legend of a head, the largest weight first.

    Parameters
    ----------
    head
        Fitted, with its edits.
    target
        Class that weights above 0 speak for, as in `ProspectorHead.prospect`; None: the one that the head looks for,
        or the first of more than two.
    map
        ``"evidence"`` or ``"decision"``, as in `ProspectorHead.concept_weights`.
    shares
        Shape (n_classes, n_concepts), for a head whose file does not know them (`concept_shares_` is None).
    """
    edits, classes = head.concept_edits_, head.classes_.tolist()
    chosen = (head.target_ if len(classes) == 2 else classes[0]) if target is None else target
    weights = head.concept_weights(map, chosen)[0]
    known = head.concept_shares_ if head.concept_shares_ is not None else shares
    colors = np.rint(255 * edits.colors()).astype(int)
    rows = []
    for concept in edits.representatives:
        members = edits.members(concept)
        own = None if known is None else known[:, list(members)]
        red, green, blue = colors[concept].tolist()
        rows.append(
            LegendRow(
                concept=concept,
                members=members,
                name=edits.name(concept),
                color=(red, green, blue),
                shares=None if own is None else tuple(own.sum(axis=1).tolist()),
                weights=tuple(weights[list(members)].tolist()),
                weight=_mean(weights[list(members)], own),
                is_hidden=concept in edits.hidden,
                is_highlighted=concept in edits.highlighted,
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.weight, row.concept)))


def _mean(weights: NDArray[np.float64], shares: NDArray[np.float64] | None) -> float:
    """Return the mean weight of a token of a group (n_members,), given shares (n_classes, n_members)."""
    if len(weights) == 1:  # to the last digit
        return float(weights[0])
    frequent = np.zeros(len(weights)) if shares is None else np.nan_to_num(shares).mean(axis=0)
    return float(np.average(weights, weights=frequent) if frequent.sum() > 0 else weights.mean())


def have_same_concepts(one: ProspectorHead, other: ProspectorHead) -> bool:
    """Say whether two heads number the same concepts: they are one head but for the edits."""
    mine, theirs = one.quantizer_, other.quantizer_
    return mine is theirs or np.array_equal(mine.centers_, theirs.centers_)


def rename_row(edits: ConceptEdits, concept: int, name: str) -> LegendEdit | None:
    """Name a row; None where it has that name already.

    Raises
    ------
    InvalidInputError
        As `ConceptEdits.rename`.
    """
    after = edits.rename(concept, name)
    if after == edits:
        return None
    return LegendEdit(f"Rename {edits.name(concept)} to {after.name(concept)}", after)


def set_shown(edits: ConceptEdits, concepts: Sequence[int], is_shown: bool) -> LegendEdit:
    """Show rows, or hide them."""
    after = edits.show(concepts) if is_shown else edits.hide(concepts)
    return LegendEdit(f"{'Show' if is_shown else 'Hide'} {_names(edits, concepts)}", after)


def set_highlighted(edits: ConceptEdits, concepts: Sequence[int], is_on: bool) -> LegendEdit:
    """Highlight rows beside those that are highlighted already, or no longer."""
    members = {member for concept in concepts for member in edits.members(concept)}
    wanted = edits.highlighted | members if is_on else edits.highlighted - members
    word = "Highlight" if is_on else "Do not highlight"
    return LegendEdit(f"{word} {_names(edits, concepts)}", edits.highlight(wanted))


def edit_rows(action: str, edits: ConceptEdits, concepts: Sequence[int]) -> LegendEdit:
    """Do with rows what a button says.

    Parameters
    ----------
    action
        ``"merge"``; ``"split"``: those that are merged; ``"hide"``, or show where all are hidden; ``"highlight"`` only
        these, or none where only these are.
    edits
        As they are.
    concepts
        One of each row.

    Raises
    ------
    InvalidInputError
        As the methods of `ConceptEdits`; `refusals` says so beforehand.
    """
    names = _names(edits, concepts)
    if action == "merge":
        return LegendEdit(f"Merge {names}", edits.merge(concepts))
    if action == "split":
        after = edits
        for concept in concepts:
            after = after.split(concept) if len(after.members(concept)) > 1 else after
        return LegendEdit(f"Split {names}", after)
    if action == "hide":
        return set_shown(edits, concepts, is_shown=edits.hidden.issuperset(concepts))
    only = edits.highlight(concepts)
    if only == edits:
        return LegendEdit("Highlight none", edits.highlight(None))
    return LegendEdit(f"Highlight {names}", only)


def refusals(edits: ConceptEdits, concepts: Collection[int]) -> dict[str, str | None]:
    """Say of each of `ACTIONS` why it cannot be done with the chosen rows; None where it can."""
    hidden = edits.hidden & set(concepts)
    none = None if concepts else "Choose a concept first."
    found: dict[str, str | None] = dict.fromkeys(ACTIONS, none)
    if len(concepts) > 1:
        found["rename"] = "Choose one concept to name."
    if len(concepts) < 2:
        found["merge"] = "Choose two or more concepts to make them one."
    elif hidden and len(hidden) < len(concepts):
        found["merge"] = "Hide all of them, or show all: merging changes no score."
    if concepts and not any(len(edits.members(concept)) > 1 for concept in concepts):
        found["split"] = "None of the chosen is merged."
    return found


def _names(edits: ConceptEdits, concepts: Sequence[int]) -> str:
    """Return the names of rows, of many the first ones."""
    names = list(dict.fromkeys(edits.name(concept) for concept in concepts))
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
