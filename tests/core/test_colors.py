from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.colors import concept_colors, diverging_colors
from napari_prospector.errors import InvalidInputError


def test_the_colour_of_a_concept_does_not_depend_on_how_many_there_are() -> None:
    many = concept_colors(101)
    assert many.shape == (101, 3)
    assert many.min() >= 0
    assert many.max() <= 1
    for n_concepts in (0, 1, 30, 53):
        np.testing.assert_array_equal(concept_colors(n_concepts), many[:n_concepts])


def test_no_two_concepts_share_a_colour() -> None:
    colors = concept_colors(101)
    assert len(np.unique((colors * 255).round(), axis=0)) == 101


def test_zero_is_pale_and_the_ends_are_dark_and_unlike() -> None:
    colors = diverging_colors(257)
    assert colors.shape == (257, 3)
    assert colors[128].min() > 0.9
    assert colors[[0, -1]].mean(axis=1).max() < 0.3
    assert colors[0, 2] > colors[0, 0]
    assert colors[-1, 0] > colors[-1, 2]


def test_impossible_numbers_of_colours_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="n_concepts must be at least 0; got -3"):
        concept_colors(-3)
    with pytest.raises(InvalidInputError, match="n_colors must be at least 2; got 1"):
        diverging_colors(1)
