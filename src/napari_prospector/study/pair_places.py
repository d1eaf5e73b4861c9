"""Where on a slide a pair of concepts occurs: what a cell of the kernel is about, to fly to."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.graph import TokenGraph, ball, grid_graph, neighbour_counts
from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["PairPlace", "PairPlaces", "pair_places"]


@dataclass(frozen=True)
class PairPlace:
    """One token of the first concept, and its nearest of the second.

    Attributes
    ----------
    first, second
        (row, col) of both tokens.
    centre_px
        (row, col) halfway between their centres, in level-0 pixels.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    centre_px: tuple[float, float]


@dataclass(frozen=True)
class PairPlaces:
    """What `pair_places` found.

    Attributes
    ----------
    n_pairs
        How often the pair occurs on the slide, each two tokens once.
    n_tokens
        Tokens of the first concept that have one of the second within the radius.
    places
        One for each such token, or for as many of them as were wanted, spread evenly from top to bottom.
    """

    n_pairs: int
    n_tokens: int
    places: tuple[PairPlace, ...]


def pair_places(
    concepts: ArrayLike,
    a: int | Sequence[int],
    b: int | Sequence[int],
    radius: int,
    geometry: GridGeometry,
    most: int = 200,
) -> PairPlaces:
    """Find where two concepts lie within some hops of each other.

    Parameters
    ----------
    concepts
        (rows, cols) integers; below 0 where there is no token. Hops go from token to token, around holes.
    a, b
        The two concepts; several numbers for concepts that people have merged. They may be the same: then a token
        pairs with another one, not with itself.
    radius
        Hops, at least 1.
    geometry
        Of the tokens.
    most
        Number of places, at least 1.

    Returns
    -------
    PairPlaces
        Of equally near partners, by distance of their centres, the first in reading order is named.

    Raises
    ------
    InvalidInputError
        If an argument is not such, or `a` and `b` share some of their concepts and not all.
    MismatchError
        If concepts and geometry are of different shapes.

    Examples
    --------
    >>> geometry = GridGeometry(2, 4, tile=10, stride=10, origin=(0, 0), slide_mpp=0.5)
    >>> found = pair_places([[0, 0, 1, -1], [2, 2, 2, 1]], 0, 1, 1, geometry)
    >>> found.n_pairs, found.places[0].first, found.places[0].second, found.places[0].centre_px
    (1, (0, 1), (0, 2), (4.5, 19.5))
    """
    sprite = np.asarray(concepts)
    geometry.check_shape("concepts", sprite.shape)
    if sprite.ndim != 2 or not np.issubdtype(sprite.dtype, np.integer):
        raise InvalidInputError(f"concepts must be whole numbers, (rows, cols); got {sprite.dtype}, {sprite.shape}.")
    ours, theirs = _numbers("a", a), _numbers("b", b)
    if ours & theirs and ours != theirs:
        raise InvalidInputError(
            f"a and b must be the same concepts or have none in common; got {sorted(ours)} and {sorted(theirs)}."
        )
    for name, value in (("radius", radius), ("most", most)):
        if isinstance(value, bool) or operator.index(value) < 1:
            raise InvalidInputError(f"{name} must be a whole number of at least 1; got {value!r}.")
    mask = sprite >= 0
    is_ours, is_theirs = (np.isin(sprite[mask], list(numbers)) for numbers in (ours, theirs))
    if not (is_ours.any() and is_theirs.any()):
        return PairPlaces(0, 0, ())
    graph = grid_graph(mask, np.zeros((int(mask.sum()), 1), np.float32))
    partners = neighbour_counts(graph, is_theirs.astype(np.int32), 2, radius)[:, 1] - (is_ours & is_theirs)
    tokens = np.flatnonzero(is_ours & (partners > 0))
    n_pairs = int(partners[tokens].sum()) // (2 if ours == theirs else 1)
    chosen = tokens[np.linspace(0, len(tokens) - 1, min(most, len(tokens))).astype(np.int64)]
    places = tuple(_place(graph, int(token), is_theirs, radius, geometry) for token in chosen)
    return PairPlaces(n_pairs, len(tokens), places)


def _place(
    graph: TokenGraph, token: int, is_partner: NDArray[np.bool_], radius: int, geometry: GridGeometry
) -> PairPlace:
    """Find the nearest partner of a token that has one."""
    near = ball(graph, token, radius)
    near = near[is_partner[near] & (near != token)]
    own = graph.positions[token]
    partner = near[np.argmin(((graph.positions[near] - own) ** 2).sum(axis=1))]
    (row, col), (other_row, other_col) = ((int(x) for x in graph.positions[one]) for one in (token, partner))
    centre = geometry.centre_px([row, other_row], [col, other_col]).mean(axis=0)
    return PairPlace((row, col), (other_row, other_col), (float(centre[0]), float(centre[1])))


def _numbers(name: str, concepts: Any) -> frozenset[int]:
    """Return one or several concepts as a set of numbers of at least 0."""
    numbers = frozenset(np.atleast_1d(np.asarray(concepts)).tolist())
    if not numbers or any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in numbers):
        raise InvalidInputError(f"{name} must be a concept or several, whole numbers from 0; got {concepts!r}.")
    return numbers
