"""What people do with the concepts of a head: name, merge, hide and highlight them. Nothing is learned again.

*Merge*: several concepts are one to people: one name, one colour (the representative's), one row in the legend, one
line in reports. The weights stay those that were learned, so no score changes. They must: the kernel was learned from
the counts of the finer concepts, each with a weight of its own, and one weight for all of them would be another head;
fit with fewer concepts for that.

*Hide*: a concept and every pair with it count 0 in evidence and decision maps and in their explanations, and its
tokens are 0 in the refined map. Probabilities of whole data are as they were learned.

*Highlight*: for display only.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.colors import concept_colors
from napari_prospector.errors import InvalidInputError

__all__ = ["MOST_LETTERS", "ConceptEdits"]

MOST_LETTERS = 80
"""Length of the longest name of a concept."""

Numbers = SupportsIndex | Iterable[SupportsIndex]
"""One concept or several."""


@dataclass(frozen=True)
class ConceptEdits:
    """Names of the concepts of a head, and which are merged, hidden and highlighted. Every change gives a new one.

    Merged concepts go together: what is said of one of them holds for its whole group.

    Parameters
    ----------
    names
        A name for each of the K concepts, of 1 to 80 letters. Of merged concepts the representative's is shown; the
        others keep theirs for when the group is split.
    groups
        For each concept the representative of its group, the lowest number in it: its own where it is not merged.
        Empty: nothing is merged.
    hidden, highlighted
        Numbers of concepts; whole groups.

    Raises
    ------
    InvalidInputError
        If they are not such.

    Examples
    --------
    >>> edits = ConceptEdits.of(5).rename(3, "lymphocytes").merge([3, 4]).hide(0)
    >>> edits.shown_names
    ('concept 0', 'concept 1', 'concept 2', 'lymphocytes', 'lymphocytes')
    >>> edits.representatives, edits.members(4), sorted(edits.hidden)
    ((0, 1, 2, 3), (3, 4), [0])
    >>> edits.split(4).show(0) == ConceptEdits.of(5).rename(3, "lymphocytes")
    True
    """

    names: tuple[str, ...]
    groups: tuple[int, ...] = ()
    hidden: frozenset[int] = frozenset()
    highlighted: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Keep plain types, and refuse what does not fit together."""
        names = tuple(checked_name(name) for name in self.names)
        if not names:
            raise InvalidInputError("names must hold a name for each concept; got none.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "groups", self._checked_groups())
        for what in ("hidden", "highlighted"):
            numbers = frozenset(self._checked(concept) for concept in getattr(self, what))
            parted = sorted(concept for concept in self._whole(numbers) if concept not in numbers)
            if parted:
                raise InvalidInputError(
                    f"{what} must hold whole groups; concept {parted[0]} is merged with one that is {what} and is not. "
                    "Merge concepts by `merge`."
                )
            object.__setattr__(self, what, numbers)

    @classmethod
    def of(cls, n_concepts: int) -> Self:
        """Return the edits of a head whose concepts nobody has touched."""
        return cls(tuple(default_name(concept) for concept in range(n_concepts)))

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Self:
        """Return edits with names that nobody checked: those empty, too long or used twice are mended."""
        mended: list[str] = []
        for concept, given in enumerate(names):
            words = " ".join(str(given).split())[:MOST_LETTERS].strip() or default_name(concept)
            mended.append(_free_name(words, concept, mended))
        return cls(tuple(mended))

    @property
    def n_concepts(self) -> int:
        """K."""
        return len(self.names)

    @property
    def shown_names(self) -> tuple[str, ...]:
        """The name to show for each of the K concepts: that of its group."""
        return tuple(self.names[group] for group in self.groups)

    @property
    def representatives(self) -> tuple[int, ...]:
        """One concept of each group, ascending: the rows of a legend."""
        return tuple(sorted(set(self.groups)))

    @property
    def is_untouched(self) -> bool:
        """Whether all is as fitting left it."""
        return self == type(self).of(self.n_concepts)

    def members(self, concept: SupportsIndex) -> tuple[int, ...]:
        """Return the concepts of the group of a concept, ascending; itself where it is not merged."""
        group = self.groups[self._checked(concept)]
        return tuple(number for number, other in enumerate(self.groups) if other == group)

    def name(self, concept: SupportsIndex) -> str:
        """Return the name to show for a concept."""
        return self.names[self.groups[self._checked(concept)]]

    def colors(self) -> NDArray[np.float64]:
        """Return the colour (K, 3) of each concept: that of its group, as `concept_colors` has them."""
        return concept_colors(self.n_concepts)[list(self.groups)]

    def rename(self, concept: SupportsIndex, name: str) -> Self:
        """Name a concept, or the group that it is merged in.

        Raises
        ------
        InvalidInputError
            If there is no such concept, or the name is no text of 1 to 80 letters, or another group has it.
        """
        words, group = checked_name(name), self.groups[self._checked(concept)]
        for number, other in enumerate(self.names):
            if other == words and self.groups[number] != group:
                raise InvalidInputError(
                    f"A name must be that of one concept; {words!r} is the name of concept {number}. "
                    f"Choose another, or merge concepts {group} and {number}."
                )
        return replace(self, names=_with(self.names, group, words))

    def merge(self, concepts: Iterable[SupportsIndex]) -> Self:
        """Make several concepts, or groups, one: that of the lowest number lends its name and colour.

        Raises
        ------
        InvalidInputError
            If there is no such concept, these are one already, or some of them are hidden and others are not.
        """
        numbers = self._group_of(concepts)
        if len({self.groups[concept] for concept in numbers}) < 2:
            raise InvalidInputError(
                f"Merging takes at least two concepts that are not merged with each other; got {sorted(numbers)}."
            )
        if 0 < len(numbers & self.hidden) < len(numbers):
            hidden = sorted(numbers & self.hidden)
            raise InvalidInputError(
                f"Concepts {sorted(numbers)} cannot be merged: hidden are {hidden} only, and merging changes no score. "
                "Hide all of them first, or show all."
            )
        groups = tuple(min(numbers) if c in numbers else group for c, group in enumerate(self.groups))
        highlighted = self.highlighted | numbers if self.highlighted & numbers else self.highlighted
        return replace(self, groups=groups, highlighted=highlighted)

    def split(self, concept: SupportsIndex) -> Self:
        """Undo the merge that a concept is in: each concept of its group is one by itself, with its own name.

        A name that the group has since been given stays with the representative; where a member bears the same, its
        number is added.

        Raises
        ------
        InvalidInputError
            If there is no such concept, or it is not merged.
        """
        members = self.members(concept)
        if len(members) == 1:
            raise InvalidInputError(f"Concept {members[0]} is not merged; there is nothing to split.")
        names = self.names
        for member in members[1:]:
            others = (*names[:member], *names[member + 1 :])
            names = _with(names, member, _free_name(names[member], member, others))
        groups = tuple(c if c in members else group for c, group in enumerate(self.groups))
        return replace(self, names=names, groups=groups)

    def hide(self, concepts: Numbers) -> Self:
        """Let concepts, and every pair with them, count 0 in maps and explanations.

        Raises
        ------
        InvalidInputError
            If there is no such concept.
        """
        return replace(self, hidden=self.hidden | self._group_of(concepts))

    def show(self, concepts: Numbers) -> Self:
        """Undo `hide`.

        Raises
        ------
        InvalidInputError
            If there is no such concept.
        """
        return replace(self, hidden=self.hidden - self._group_of(concepts))

    def highlight(self, concepts: Numbers | None) -> Self:
        """Set off these concepts, and no others, where they are displayed; None: no concept.

        Raises
        ------
        InvalidInputError
            If there is no such concept.
        """
        return replace(self, highlighted=frozenset() if concepts is None else self._group_of(concepts))

    def merged(self, concepts: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Return the representatives of concepts, of any shape: what merging makes one has one number."""
        return np.asarray(np.asarray(self.groups, dtype=np.int32)[concepts])

    def kept_weights(self, kernel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a kernel (p,) with 0 for hidden concepts and every pair with one; itself where none is hidden."""
        if not self.hidden:
            return kernel
        is_hidden = self.is_hidden()
        first, second = np.triu_indices(self.n_concepts)
        of_feature = np.concatenate((is_hidden, is_hidden[first] | is_hidden[second]))
        return np.where(of_feature[: len(kernel)], 0.0, kernel)

    def is_hidden(self) -> NDArray[np.bool_]:
        """Return for each concept whether it is hidden, (K,)."""
        mask = np.zeros(self.n_concepts, dtype=np.bool_)
        mask[list(self.hidden)] = True
        return mask

    def notes(self) -> tuple[str, ...]:
        """Say what a reader of maps must know: which concepts are hidden, and what that does not change."""
        rows = [concept for concept in self.representatives if concept in self.hidden]
        if not rows:
            return ()
        names = ", ".join(self.names[concept] for concept in rows)
        return (
            f"Hidden, so that they and every pair with them count 0 in maps: {names}. Probabilities of whole data are "
            "as they were learned, with all concepts.",
        )

    def to_card(self) -> dict[str, Any]:
        """Return what is edited beside the names, in types of JSON."""
        return {
            "groups": list(self.groups),
            "hidden": sorted(self.hidden),
            "highlighted": sorted(self.highlighted),
        }

    @classmethod
    def of_card(cls, names: Sequence[str], card: Mapping[str, Any] | None) -> Self:
        """Return the edits that `to_card` gave; without a card, only the names."""
        if card is None:
            return cls.of_names(names)
        hidden, highlighted = frozenset(card["hidden"]), frozenset(card["highlighted"])
        return cls(tuple(names), tuple(card["groups"]), hidden, highlighted)

    def _checked(self, concept: SupportsIndex) -> int:
        """Return the number of a concept that there is."""
        try:
            number = -1 if isinstance(concept, (bool, np.bool_)) else operator.index(concept)
        except TypeError:
            number = -1
        if not 0 <= number < self.n_concepts:
            raise InvalidInputError(
                f"A concept must be a whole number from 0 to {self.n_concepts - 1}; got {concept!r}."
            )
        return number

    def _checked_groups(self) -> tuple[int, ...]:
        """Return groups that name the lowest number of each."""
        if not self.groups:
            return tuple(range(self.n_concepts))
        groups = tuple(self._checked(group) for group in self.groups)
        if len(groups) != self.n_concepts or any(groups[g] != g or g > c for c, g in enumerate(groups)):
            raise InvalidInputError(
                f"groups must name, for each of the {self.n_concepts} concepts, the lowest concept that it is merged "
                f"with; got {groups}. Merge concepts by `merge`."
            )
        return groups

    def _group_of(self, concepts: Numbers) -> frozenset[int]:
        """Return one or several concepts with all that they are merged with."""
        several = concepts if isinstance(concepts, Iterable) else (concepts,)
        return self._whole(frozenset(self._checked(concept) for concept in several))

    def _whole(self, numbers: frozenset[int]) -> frozenset[int]:
        """Return concepts with all that they are merged with."""
        groups = {self.groups[concept] for concept in numbers}
        return frozenset(concept for concept, group in enumerate(self.groups) if group in groups)


def default_name(concept: int) -> str:
    """Return the name of a concept that nobody has named."""
    return f"concept {concept}"


def checked_name(name: str) -> str:
    """Return a name of 1 to 80 letters; runs of white space are one space."""
    if not isinstance(name, str):
        raise InvalidInputError(f"A name must be text; got {name!r}.")
    words = " ".join(name.split())
    if not words:
        raise InvalidInputError(f"A name must have a letter at least; got {name!r}.")
    if len(words) > MOST_LETTERS:
        raise InvalidInputError(
            f"A name must have at most {MOST_LETTERS} letters; got {len(words)}: {words[:20]!r}…. Shorten it."
        )
    return words


def _with(names: tuple[str, ...], concept: int, name: str) -> tuple[str, ...]:
    """Return names with another name for a concept."""
    return (*names[:concept], name, *names[concept + 1 :])


def _free_name(name: str, concept: int, others: Sequence[str]) -> str:
    """Return a name, with the number of its concept where another one has it."""
    free, ending = name, f" ({concept})"
    while free in others:
        free = name[: MOST_LETTERS - len(ending)] + ending
        ending = f"{ending[:-1]}·)"
    return free
