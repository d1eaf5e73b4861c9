"""Typical tokens of concepts, from the finished token grids of a cohort.

How near a token is to the centre of its concept is measured where the head measures it (`core.conceptspace`). Grids are
streamed block by block, and only the best tokens are kept: memory grows with neither slides nor their number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.classkernels import class_shares
from napari_prospector.core.conceptspace import ConceptSpace
from napari_prospector.core.head import ProspectorHead
from napari_prospector.study.best_tokens import (
    BestTokens,
    Example,
    Grids,
    Progress,
    as_examples,
    check_whole,
    checked_grids,
    sorted_classes,
    stream_tokens,
)

__all__ = ["ConceptExamples", "Example", "typical_tokens"]

_LEAST_SLIDES = 6  # that share the typical tokens of a concept, where the cohort has them


@dataclass(frozen=True, eq=False)
class ConceptExamples:
    """What `typical_tokens` found.

    Attributes
    ----------
    examples
        For each concept its tokens nearest to the centre, the nearest first; none for a concept that does not occur.
    counts
        Shape (n_slides, n_concepts): tokens of each concept in each slide.
    labels
        Class of each slide.
    most_per_slide
        No more than so many of a concept's examples are from one slide.
    """

    examples: tuple[tuple[Example, ...], ...]
    counts: NDArray[np.int64]
    labels: tuple[Hashable, ...]
    most_per_slide: int

    @property
    def classes(self) -> tuple[Hashable, ...]:
        """The labels that occur, sorted."""
        return sorted_classes(self.labels)

    def shares(self) -> NDArray[np.float64]:
        """Return the share of the tokens of each of `classes` that are of each concept, (n_classes, n_concepts)."""
        numbers = np.array([self.classes.index(label) for label in self.labels])
        return class_shares(self.counts, numbers, len(self.classes))

    def of_group(self, concepts: Sequence[int], n: int | None = None) -> tuple[Example, ...]:
        """Return the examples of concepts that people have merged, n at most.

        The nearest to its own centre comes first, and again no more than `most_per_slide` are from one slide.
        """
        taken: list[Example] = []
        given: Counter[int] = Counter()
        for example in sorted((one for concept in concepts for one in self.examples[concept]), key=_nearness):
            if given[example.slide] < self.most_per_slide and (n is None or len(taken) < n):
                taken.append(example)
                given[example.slide] += 1
        return tuple(taken)


def typical_tokens(
    head: ProspectorHead,
    graphs: Grids,
    labels: Sequence[Hashable],
    n_each: int = 24,
    most_per_slide: int | None = None,
) -> Generator[Progress, None, ConceptExamples]:
    """Find for every concept the tokens nearest to its centre, and count concepts by slide.

    Parameters
    ----------
    head
        Fitted on the encoder of the grids.
    graphs
        Finished token grids, one for each slide.
    labels
        Class of each slide.
    n_each
        Examples of each concept.
    most_per_slide
        Of them from one slide, so that no slide speaks for all. None: a sixth of `n_each`, rounded up, or more where
        the cohort has fewer than six slides. A concept that few slides have gets fewer examples.

    Yields
    ------
    Progress
        After each block.

    Returns
    -------
    ConceptExamples

    Raises
    ------
    InvalidInputError
        A number is below 1, or there is no grid.
    MismatchError
        There is not one label for each grid, or a grid is not what the head was fitted on.
    FileFormatError
        A grid is damaged.
    """
    grids, classes = checked_grids(head, graphs, labels)
    check_whole("n_each", n_each)
    cap = most_per_slide
    if cap is None:
        cap = max(math.ceil(n_each / _LEAST_SLIDES), math.ceil(n_each / len(grids)))
    check_whole("most_per_slide", cap)
    space, n_concepts = ConceptSpace(head.quantizer_), head.quantizer_.n_concepts_
    counts = np.zeros((len(grids), n_concepts), dtype=np.int64)
    best, here, current = BestTokens(n_concepts, n_each), BestTokens(n_concepts, cap), -1
    for slide, tokens, embeddings, progress in stream_tokens(grids):
        if slide != current:
            best.add(*here.columns())
            here, current = BestTokens(n_concepts, cap), slide
        if len(tokens):
            concepts = head.quantizer_.predict(embeddings)
            distances = np.linalg.norm(space.points(embeddings) - space.centers[concepts], axis=1)
            counts[slide] += np.bincount(concepts, minlength=n_concepts)
            here.add(concepts, distances, np.column_stack([np.full(len(tokens), slide), tokens]))
        yield progress
    best.add(*here.columns())
    found = [as_examples(best.of(concept), classes, concept) for concept in range(n_concepts)]
    return ConceptExamples(tuple(found), counts, classes, cap)


def _nearness(example: Example) -> tuple[float, int, int, int]:
    """Return what examples are sorted by."""
    return example.distance, example.slide, example.row, example.col
