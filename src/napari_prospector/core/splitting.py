"""A score, or the scores of a region, split into parts that add up: what bar charts show.

Evidence and decision are sums over the token's own concept and the pairs with its neighbours. The refined map is the
read-out of the token's own embedding, shared with the read-outs of its direct neighbours: again a sum over tokens, and
so of parts for each concept of the neighbours, though the read-out itself knows no concepts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.explanation import Explanation
from napari_prospector.core.readout import Readout
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.core.graph import TokenGraph
    from napari_prospector.core.head import ProspectorHead

__all__ = [
    "ConceptPart",
    "RegionValue",
    "ScoreSplit",
    "region_parts",
    "region_value",
    "split_score",
    "sum_by_concept",
    "unsplittable",
]


@dataclass(frozen=True)
class ConceptPart:
    """What tokens of one concept give: `value`, summed over `n_tokens`."""

    concept: int
    n_tokens: int
    value: float


@dataclass(frozen=True)
class ScoreSplit:
    """One token's score in parts.

    Attributes
    ----------
    token, concept, map
        Whose score it is, and in which map. Here and in `parts`, merged concepts go by the number of the one that
        stands for them.
    own
        What the token gives by itself. Evidence and decision: its concept, and its pair with itself (none at radius 0).
        Refined: the read-out of its embedding, by the share that is its own.
    parts
        What its neighbours give, one part for each of their concepts; the largest absolute value first.
    score
        ``math.fsum((own, *values of the parts))``, to the last bit. It differs from the map by rounding alone: by at
        most 1e-12 of the sum of absolute parts for evidence and decision, 1e-5 for refined, which is read out in
        float32.
    """

    token: int
    concept: int
    map: str
    own: float
    parts: tuple[ConceptPart, ...]
    score: float


@dataclass(frozen=True)
class RegionValue:
    """The scores of a set of tokens, together.

    Attributes
    ----------
    map
        In which map.
    n_tokens
        Size of the set.
    total
        ``math.fsum`` of the values of `parts`, to the last bit: the sum of the scores but for rounding.
    mean
        `total` / `n_tokens`.
    parts
        The tokens of each concept in the set (of merged ones together), and the sum of their scores; the largest
        absolute value first.
    """

    map: str
    n_tokens: int
    total: float
    mean: float
    parts: tuple[ConceptPart, ...]


def sum_by_concept(why: Explanation, groups: Sequence[int] | None = None) -> ScoreSplit:
    """Sum the contributions of an explanation over neighbours of one concept.

    Parameters
    ----------
    why
        From `ProspectorHead.explain`.
    groups
        For each concept the one that stands for it (``concept_edits_.groups``): merged concepts are one part. None:
        each stands for itself.

    Examples
    --------
    >>> concepts, contributions = np.array([2, 2, 0]), np.array([1.0, 0.5, -4.0])
    >>> split = sum_by_concept(Explanation(0, 2, -2.25, "evidence", 0.25, np.arange(3), concepts, contributions))
    >>> split.own, [(part.concept, part.value) for part in split.parts], split.score
    (1.25, [(0, -4.0), (2, 0.5)], -2.25)
    """
    others = why.neighbours != why.token
    own = math.fsum((why.monogram, *why.contributions[~others].tolist()))
    parts = _parts(_grouped(why.neighbour_concepts[others], groups), why.contributions[others])
    return _split(why.token, int(_grouped(why.concept, groups)), why.map, own, parts)


def split_score(
    head: ProspectorHead, graph: TokenGraph, token: int, map: str | None = None, target: Hashable | None = None
) -> ScoreSplit:
    """Split the score of one token, in whichever map, into its own part and one for each concept of its neighbours.

    Parameters
    ----------
    head
        Fitted.
    graph, map, target
        As in `ProspectorHead.prospect`.
    token
        Number of the token.

    Raises
    ------
    InvalidInputError
        As `ProspectorHead.explain`; if the head draws no such map; or if it is the refined map of tokens that are
        categories: their read-out looks at the neighbours too, and cannot be split into tokens.
    """
    name = head.best_map_ if map is None else map
    if name != "refined":
        return sum_by_concept(head.explain(graph, token, name, target), head.concept_edits_.groups)
    if head.refiner_ is None:
        raise InvalidInputError(
            "This head was fitted without refinement and draws no refined map. Pass map='evidence'."
        )
    if (reason := unsplittable(head, name)) is not None:
        raise InvalidInputError(f"{reason} Pass map='evidence'.")
    if not 0 <= token < graph.n_tokens:
        raise InvalidInputError(f"token must lie between 0 and {graph.n_tokens - 1}; got {token}.")
    number, sign = head.target_number(target)
    near = graph.indices[graph.indptr[token] : graph.indptr[token + 1]]
    rows = np.concatenate([[token], near]).astype(np.int64)
    concepts = _grouped(head.quantizer_.predict(graph.embeddings[rows]), head.concept_edits_.groups)
    if int(concepts[0]) in head.concept_edits_.hidden:
        return _split(int(token), int(concepts[0]), name, 0.0, ())
    readout = Readout(head.refiner_.weights[number], float(head.refiner_.offset[number]))
    values = sign * readout.scores(graph.embeddings[rows])
    # a token without neighbours keeps its own read-out
    amount = head.refiner_.amount if len(near) else 0.0
    shared = amount * values[1:] / max(len(near), 1) if amount else np.empty(0)
    parts = _parts(concepts[1:] if amount else concepts[:0], shared)
    return _split(int(token), int(concepts[0]), name, float((1 - amount) * values[0]), parts)


def unsplittable(head: ProspectorHead, map: str) -> str | None:
    """Say why the scores of a map cannot be split into tokens, as a sentence; None where they can."""
    if map != "refined" or head.refiner_ is None or head.refiner_.n_categories is None:
        return None
    return (
        "The refined map of tokens that are categories cannot be split into tokens: its read-out looks at the"
        " categories of the neighbours as well."
    )


def region_value(
    head: ProspectorHead,
    graph: TokenGraph,
    tokens: ArrayLike,
    map: str | None = None,
    target: Hashable | None = None,
) -> RegionValue:
    """Return what a set of tokens is worth: sum and mean of their scores, and the sum for each of their concepts.

    Parameters
    ----------
    head, graph, map, target
        As in `ProspectorHead.prospect`. Scores depend on neighbours outside of the set too.
    tokens
        Numbers of the tokens (n,), or a mask (n_tokens,) bool.

    Raises
    ------
    InvalidInputError
        As `ProspectorHead.prospect`; or if the set is empty, holds a token twice or one that is not there.
    """
    chosen = _numbers(tokens, graph.n_tokens)
    name = head.best_map_ if map is None else map
    scores = head.prospect(graph, name, target)[chosen]
    concepts = head.quantizer_.predict(graph.embeddings[chosen])
    return region_parts(name, scores, _grouped(concepts, head.concept_edits_.groups))


def region_parts(map: str, scores: ArrayLike, concepts: ArrayLike) -> RegionValue:
    """Return the value of a region whose scores (n,) and concepts (n,) are known already; NaN scores are refused.

    Examples
    --------
    >>> value = region_parts("evidence", [1.0, 2.0, -4.0], [7, 7, 3])
    >>> value.total, value.mean, [part.concept for part in value.parts]
    (-1.0, -0.3333333333333333, [3, 7])
    """
    values, numbers = np.asarray(scores, dtype=np.float64), np.asarray(concepts)
    if values.ndim != 1 or values.shape != numbers.shape or not values.size or not np.isfinite(values).all():
        raise InvalidInputError(
            "scores and concepts must be of the same tokens, at least one, and finite; got shapes"
            f" {values.shape} and {numbers.shape}. Leave out what lies outside of the tissue."
        )
    parts = _parts(numbers, values)
    total = math.fsum(part.value for part in parts)
    return RegionValue(map, len(values), total, total / len(values), parts)


def _grouped(concepts: ArrayLike, groups: Sequence[int] | None) -> NDArray[Any]:
    """Return the concepts that stand for concepts."""
    return np.asarray(concepts if groups is None else np.asarray(groups)[np.asarray(concepts)])


def _parts(concepts: NDArray[Any], values: NDArray[np.float64]) -> tuple[ConceptPart, ...]:
    """Sum values (n,) by concept (n,), each exactly but for one rounding; the largest absolute sum first."""
    order = np.argsort(concepts, kind="stable")
    kinds, starts = np.unique(concepts[order], return_index=True)
    groups = np.split(values[order], starts[1:]) if len(kinds) else []
    parts = [
        ConceptPart(int(kind), len(group), math.fsum(group.tolist())) for kind, group in zip(kinds, groups, strict=True)
    ]
    return tuple(sorted(parts, key=lambda part: (-abs(part.value), part.concept)))


def _split(token: int, concept: int, map_name: str, own: float, parts: Sequence[ConceptPart]) -> ScoreSplit:
    """Add the parts up."""
    return ScoreSplit(token, concept, map_name, own, tuple(parts), math.fsum((own, *(part.value for part in parts))))


def _numbers(tokens: ArrayLike, n_tokens: int) -> NDArray[np.int64]:
    """Return the numbers of a set of tokens, ascending."""
    chosen = np.asarray(tokens)
    if chosen.dtype == bool:
        if chosen.shape != (n_tokens,):
            raise InvalidInputError(f"a mask of tokens must have shape ({n_tokens},); got {chosen.shape}.")
        chosen = np.flatnonzero(chosen)
    if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise InvalidInputError(f"tokens must be a list of token numbers, at least one; got {chosen.tolist()!r:.60}.")
    numbers = np.unique(chosen.astype(np.int64))
    if len(numbers) < len(chosen) or numbers[0] < 0 or numbers[-1] >= n_tokens:
        raise InvalidInputError(
            f"tokens must be different numbers from 0 to {n_tokens - 1}; got {len(chosen)} from {numbers[0]} to"
            f" {numbers[-1]}, {len(numbers)} of them different."
        )
    return numbers
