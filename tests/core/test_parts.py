from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.core.parts import equal_parts


@pytest.mark.parametrize(
    ("n_values", "sizes"),
    [(12, [4, 4, 4]), (13, [4, 4, 5]), (14, [5, 4, 5]), (11, [5, 6]), (8, [4, 4]), (7, [7]), (1, [1])],
)
def test_thirds_where_there_are_enough_values_else_halves_else_one_part(n_values: int, sizes: list[int]) -> None:
    values = np.random.default_rng(0).permutation(n_values) * 0.1
    assert np.bincount(equal_parts(values, most=3, fewest=4)).tolist() == sizes


@given(st.lists(st.integers(0, 6), min_size=1, max_size=43), st.integers(1, 5), st.integers(1, 7))
def test_parts_are_ordered_hold_enough_and_never_part_equals(values: list[int], most: int, fewest: int) -> None:
    part = equal_parts(values, most, fewest)
    sizes = np.bincount(part)
    assert len(sizes) <= most
    assert len(sizes) == 1 or sizes.min() >= fewest
    for value, number in zip(values, part, strict=True):
        for other, its in zip(values, part, strict=True):
            assert number == its if value == other else (value < other) == (number < its) or number == its


def test_no_value_has_no_part_and_one_value_that_all_have_is_one_part() -> None:
    assert equal_parts([], 3, 1).size == 0
    assert equal_parts([0.5] * 17, 3, 1).tolist() == [0] * 17
