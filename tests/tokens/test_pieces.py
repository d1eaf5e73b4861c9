"""Pieces of a mask, against scipy's labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_prospector.tokens.pieces import without_small_pieces


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("least", [1, 2, 5, 17, 200.5])
def test_pieces_smaller_than_asked_vanish_and_all_others_stay(neighbours, share, least):
    for shape in ((1, 59), (61, 1), (43, 67)):
        mask = np.random.default_rng(int(100 * share)).random(shape) < share
        before = mask.copy()
        labels, n_pieces = ndimage.label(mask, structure=np.ones((3, 3)) if neighbours == 8 else None)
        expected = np.zeros(shape, bool)
        for piece in range(1, n_pieces + 1):
            if (labels == piece).sum() >= least:
                expected |= labels == piece
        np.testing.assert_array_equal(without_small_pieces(mask, least, neighbours), expected)
        np.testing.assert_array_equal(mask, before)


def test_a_spiral_is_one_piece():
    mask = np.zeros((31, 37), bool)
    for ring in range(0, 14, 4):
        mask[ring, ring : 37 - ring] = mask[ring : 31 - ring, 36 - ring] = True
        mask[30 - ring, ring : 37 - ring] = mask[ring + 2 : 31 - ring, ring] = True
        mask[ring + 2, ring : ring + 5] = True
    labels, _ = ndimage.label(mask)
    least = int(np.bincount(labels.ravel())[1:].max())
    np.testing.assert_array_equal(
        without_small_pieces(mask, least, 4), labels == np.bincount(labels.ravel())[1:].argmax() + 1
    )
