"""Several slides of a patient as one datum, with the patient's label."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

from napari_prospector.core.each import GraphSource, Workers, source_of, workers_of
from napari_prospector.core.graph import TokenGraph, join_graphs
from napari_prospector.errors import InvalidInputError, MismatchError, UnknownNameError

__all__ = ["DATUM_KINDS", "LabelledGraphs", "PatientGraphs", "as_data"]

DATUM_KINDS = ("slide", "group")


class LabelledGraphs(NamedTuple):
    """What a head is fitted on and judged by.

    Attributes
    ----------
    graphs
        One per datum.
    labels
        Class of each datum.
    groups
        Patient of each datum; None: every datum stands alone.
    """

    graphs: Sequence[TokenGraph]
    labels: tuple[Hashable, ...]
    groups: tuple[Hashable, ...] | None


@dataclass(frozen=True)
class _JoinedSource:
    """Makes the graph of a patient wherever it is called."""

    slides: tuple[GraphSource, ...]

    def __call__(self) -> TokenGraph:
        """Make the graphs of the slides and lay them side by side."""
        return _joined([source() for source in self.slides])


def _joined(graphs: Sequence[TokenGraph]) -> TokenGraph:
    """Return the graphs of a patient's slides as one."""
    return graphs[0] if len(graphs) == 1 else join_graphs(graphs)


class PatientGraphs(Sequence[TokenGraph]):
    """The graphs of every group's slides laid side by side as one; joined when asked for.

    Parameters
    ----------
    graphs
        One per slide.
    labels
        Class of each slide; one for all slides of a group.
    groups
        Patient of each slide.

    Attributes
    ----------
    groups
        Each once, in the order in which they first appear.
    labels
        Class of each group.
    members
        Places of each group's slides in `graphs`.

    Raises
    ------
    MismatchError
        Lengths differ.
    InvalidInputError
        Slides of a group have different labels.
    """

    def __init__(self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable]) -> None:
        for name, column in (("labels", labels), ("groups", groups)):
            if len(column) != len(graphs):
                raise MismatchError(f"{name} must hold one entry for each of {len(graphs)} slides; got {len(column)}.")
        members: dict[Hashable, list[int]] = {}
        for place, group in enumerate(groups):
            members.setdefault(group, []).append(place)
        for group, places in members.items():
            if len(found := sorted({str(labels[place]) for place in places})) > 1:
                raise InvalidInputError(
                    f"All slides of a group must have one label, where the group is the datum; group {group!r} has"
                    f" {', '.join(map(repr, found))}. Give its slides one label, or let the slide be the datum."
                )
        self._slides = graphs
        self.groups = tuple(members)
        self.members = tuple(map(tuple, members.values()))
        self.labels = tuple(labels[places[0]] for places in self.members)

    def __len__(self) -> int:
        return len(self.groups)

    @overload
    def __getitem__(self, index: int) -> TokenGraph: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenGraph]: ...
    def __getitem__(self, index: int | slice) -> TokenGraph | Sequence[TokenGraph]:
        if isinstance(index, slice):
            part = copy.copy(self)
            part.groups, part.labels, part.members = self.groups[index], self.labels[index], self.members[index]
            return part
        return _joined([self._slides[place] for place in self.members[index]])

    @property
    def workers(self) -> Workers | None:
        """Those of the slides."""
        return workers_of(self._slides)

    def source(self, datum: int) -> GraphSource:
        """Return what makes the graph of a group in a worker."""
        return _JoinedSource(tuple(source_of(self._slides, place) for place in self.members[datum]))

    def name(self, datum: int) -> str:
        """Return what a datum is called where people watch: its first slide."""
        slides: Any = self._slides
        return str(slides.name(self.members[datum][0]))


def as_data(
    graphs: Sequence[TokenGraph],
    labels: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    datum: str = "slide",
) -> LabelledGraphs:
    """Return slides as data, or the slides of each patient as one datum.

    Parameters
    ----------
    graphs, labels, groups
        One entry per slide; groups may be None where the slide is the datum.
    datum
        "slide" or "group".

    Raises
    ------
    UnknownNameError
        `datum` is neither.
    InvalidInputError
        The group is to be the datum and no groups are given, or slides of a group have different labels.
    """
    if datum not in DATUM_KINDS:
        raise UnknownNameError(f"datum must be 'slide' or 'group'; got {datum!r}.")
    if datum == "slide":
        return LabelledGraphs(graphs, tuple(labels), None if groups is None else tuple(groups))
    if groups is None:
        raise InvalidInputError("groups must be given where the group is the datum. Fill column group of the cohort.")
    joined = PatientGraphs(graphs, labels, groups)
    return LabelledGraphs(joined, joined.labels, joined.groups)
