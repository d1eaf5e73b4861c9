"""Places of a pair, against a search from every token over every other."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
import pytest

from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.pair_places import pair_places
from napari_prospector.tokens.geometry import GridGeometry

SHAPE = (11, 17)


def geometry(shape: tuple[int, int] = SHAPE) -> GridGeometry:
    return GridGeometry(*shape, tile=20, stride=14, origin=(5, -3), slide_mpp=0.5)


def sprite(seed: int, n_concepts: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(SHAPE) < 0.4, -1, rng.integers(n_concepts, size=SHAPE))


def within(concepts: np.ndarray, start: tuple[int, int], radius: int) -> dict[tuple[int, int], int]:
    """Hops from a token to all others within the radius, by breadth first."""
    hops, queue = {start: 0}, deque([start])
    while queue:
        row, col = queue.popleft()
        for other in ((row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            inside = 0 <= other[0] < SHAPE[0] and 0 <= other[1] < SHAPE[1]
            if inside and concepts[other] >= 0 and other not in hops and hops[row, col] < radius:
                hops[other] = hops[row, col] + 1
                queue.append(other)
    return hops


def loop(concepts: np.ndarray, a: set[int], b: set[int], radius: int) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """The slow double loop: all partners of each token."""
    found = {}
    for row, col in np.argwhere(np.isin(concepts, list(a))).tolist():
        near = within(concepts, (row, col), radius)
        partners = sorted(one for one in near if concepts[one] in b and one != (row, col))
        if partners:
            found[row, col] = partners
    return found


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize(("a", "b"), [(0, 1), (3, 1), (2, 2), ([0, 2], [1, 3]), ([0, 2], [2, 0])])
@pytest.mark.parametrize("seed", [0, 1])
def test_places_are_those_of_a_double_loop(a: Any, b: Any, radius: int, seed: int) -> None:
    concepts = sprite(seed)
    ours, theirs = (set(np.atleast_1d(one).tolist()) for one in (a, b))
    expected = loop(concepts, ours, theirs, radius)
    found = pair_places(concepts, a, b, radius, geometry(), most=10_000)
    assert [place.first for place in found.places] == sorted(expected)
    assert found.n_tokens == len(expected)
    pairs = {frozenset((token, one)) for token, partners in expected.items() for one in partners}
    assert found.n_pairs == len(pairs)
    for place in found.places:
        squares = [(one[0] - place.first[0]) ** 2 + (one[1] - place.first[1]) ** 2 for one in expected[place.first]]
        assert place.second == expected[place.first][int(np.argmin(squares))]
        both = [geometry().box(*token) for token in (place.first, place.second)]
        middle = [np.mean([(box[i] + box[i + 2] - 1) / 2 for box in both]) for i in (0, 1)]
        assert place.centre_px == tuple(middle)


def test_a_hole_is_a_hole() -> None:
    wall = np.array([[0, -1, 1], [0, -1, 1], [2, 2, 2]])
    small = GridGeometry(3, 3, tile=10, stride=10, origin=(0, 0), slide_mpp=0.5)
    assert pair_places(wall, 0, 1, 1, small).n_pairs == 0
    assert [place.first for place in pair_places(wall, 0, 1, 2, small).places] == [(1, 0)]


def test_not_more_places_than_wanted_spread_over_the_slide() -> None:
    concepts = np.indices(SHAPE).sum(axis=0) % 2
    found = pair_places(concepts, 0, 1, 1, geometry(), most=7)
    assert (len(found.places), found.n_tokens) == (7, int((concepts == 0).sum()))
    rows = [place.first[0] for place in found.places]
    assert (rows[0], rows[-1]) == (0, SHAPE[0] - 1)
    assert max(np.diff(rows)) <= 2


def test_a_concept_that_is_not_there_has_no_places() -> None:
    assert pair_places(sprite(0), 0, 9, 1, geometry()).places == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"a": -1}, "a must be a concept or several, whole numbers from 0; got -1"),
        ({"b": []}, "b must be a concept or several"),
        ({"b": [0.5]}, "b must be a concept or several"),
        ({"a": [0, 1], "b": [1, 2]}, r"the same concepts or have none in common; got \[0, 1\] and \[1, 2\]"),
        ({"radius": 0}, "radius must be a whole number of at least 1; got 0"),
        ({"most": 0}, "most must be a whole number of at least 1; got 0"),
        ({"concepts": np.zeros(SHAPE)}, "concepts must be whole numbers"),
    ],
)
def test_what_is_no_pair_is_refused(change: dict[str, Any], why: str) -> None:
    asked = {"concepts": sprite(0), "a": 0, "b": 1, "radius": 1, "geometry": geometry(), **change}
    with pytest.raises(InvalidInputError, match=why):
        pair_places(**asked)


def test_concepts_of_another_grid_are_refused() -> None:
    with pytest.raises(MismatchError, match="concepts must have one cell per token"):
        pair_places(np.zeros((3, 5), int), 0, 1, 1, geometry())


def test_a_million_tokens_take_a_moment() -> None:
    rng = np.random.default_rng(0)
    concepts = rng.integers(-3, 20, size=(1000, 1150))
    pair_places(concepts[:20, :20], 0, 1, 2, geometry((20, 20)))  # compiles
    before = time.process_time()
    found = pair_places(concepts, 0, 1, 2, geometry(concepts.shape))
    assert time.process_time() - before < 5  # 0.1 s on an idle core
    assert len(found.places) == 200
