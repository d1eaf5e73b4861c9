from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_prospector.core.graph import grid_graph
from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, MissingFileError
from napari_prospector.study.cohort import Cohort, CohortRow
from napari_prospector.study.truths import TruthMask, cohort_truths, covered_share, read_truth, token_truth
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, TokenGrid

SLIDE = (53, 71)


def geometry(rows: int, cols: int, tile: int, stride: int, origin: tuple[int, int] = (0, 0)) -> GridGeometry:
    return GridGeometry(rows=rows, cols=cols, tile=tile, stride=stride, origin=origin, slide_mpp=0.5, tile_px=tile)


def slow_share(mask: NDArray[np.bool_], grid: GridGeometry, slide: tuple[int, int]) -> NDArray[np.float64]:
    """Every tile against every mask pixel, by the area that they share."""
    shares = np.zeros(grid.shape)
    for i in range(grid.rows):
        for j in range(grid.cols):
            row0, col0, row1, col1 = grid.box(i, j)
            row0, col0, row1, col1 = max(row0, 0), max(col0, 0), min(row1, slide[0]), min(col1, slide[1])
            for a, b in np.argwhere(mask):
                top, left = a * slide[0] / mask.shape[0], b * slide[1] / mask.shape[1]
                bottom, right = (a + 1) * slide[0] / mask.shape[0], (b + 1) * slide[1] / mask.shape[1]
                height, width = min(bottom, row1) - max(top, row0), min(right, col1) - max(left, col0)
                shares[i, j] += max(height, 0) * max(width, 0) / ((row1 - row0) * (col1 - col0))
    return shares


@given(
    st.integers(1, 13), st.integers(1, 17), st.integers(5, 11), st.integers(3, 11), st.integers(-2, 3), st.integers(0)
)
def test_the_share_of_a_tile_is_exact_at_any_resolution_of_the_mask(
    n_rows: int, n_cols: int, tile: int, stride: int, start: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((n_rows, n_cols)) < 0.4
    grid = geometry(4, 6, tile, stride, (start, start + 1))
    np.testing.assert_allclose(covered_share(mask, grid, SLIDE), slow_share(mask, grid, SLIDE), atol=1e-12)


def test_a_planted_square_marks_just_the_tokens_that_it_covers_by_more_than_half() -> None:
    mask = np.zeros(SLIDE, dtype=bool)
    mask[10:20, 20:45] = True  # tiles (1, 2) and (1, 3) wholly, just half of (1, 4)
    grid = geometry(5, 7, 10, 10)
    np.testing.assert_array_equal(np.argwhere(token_truth(TruthMask(mask), grid, SLIDE)), [[1, 2], [1, 3]])
    mask[10, 45] = True
    assert token_truth(TruthMask(mask), grid, SLIDE)[1, 4] == 1


def test_a_tile_across_the_edge_of_the_slide_counts_by_its_part_within() -> None:
    grid = geometry(6, 8, 10, 10)
    assert grid.box(5, 7) == (50, 70, 60, 80)
    np.testing.assert_allclose(covered_share(np.ones((1, 1), dtype=bool), grid, SLIDE), 1)


def test_where_less_than_half_of_a_tile_is_known_the_token_is_unknown() -> None:
    positive = np.zeros((50, 70), dtype=bool)
    positive[:, :20] = True
    known = np.ones_like(positive)
    known[0:6, 0:10] = known[10:14, 0:10] = False
    marks = token_truth(TruthMask(positive, known), geometry(5, 7, 10, 10), (50, 70))
    assert marks[0].tolist() == [-1, 1, 0, 0, 0, 0, 0]
    assert marks[1, 0] == 1


@pytest.mark.parametrize("kind", ["grey", "grey 16", "alpha", "colour", "colour and alpha"])
def test_any_png_is_a_mask(tmp_path: Path, kind: str) -> None:
    truth = np.arange(5 * 7).reshape(5, 7) % 3 == 0
    full = np.where(truth, 200, 90).astype(np.uint8)
    opaque = np.full_like(full, 255)
    pixels = {
        "grey": full,
        "grey 16": full.astype(np.uint16) * 257,
        "alpha": np.stack([full, opaque], axis=2),
        "colour": np.stack([np.zeros_like(full), full, full // 2], axis=2),
        "colour and alpha": np.stack([full, full, full, opaque], axis=2),
    }[kind]
    (tmp_path / "truth.png").write_bytes(imagecodecs.png_encode(pixels))
    found = read_truth(tmp_path / "truth.png")
    np.testing.assert_array_equal(found.positive, truth)
    assert found.known is None


def test_where_alpha_is_0_nothing_is_known(tmp_path: Path) -> None:
    alpha = np.full((5, 7), 255, dtype=np.uint8)
    alpha[2, 3] = 0
    (tmp_path / "truth.png").write_bytes(imagecodecs.png_encode(np.stack([np.full_like(alpha, 255), alpha], axis=2)))
    known = read_truth(tmp_path / "truth.png").known
    assert known is not None
    np.testing.assert_array_equal(known, alpha > 0)


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no truth mask at .*truth.png"):
        read_truth(tmp_path / "truth.png")
    for content in (b"", b"not a picture", imagecodecs.png_encode(np.zeros((59, 61), np.uint8))[:40]):
        (tmp_path / "truth.png").write_bytes(content)
        with pytest.raises(FileFormatError, match=r"truth\.png must be a PNG mask"):
            read_truth(tmp_path / "truth.png")
    with pytest.raises(InvalidInputError, match=r"at least one pixel; got \(0, 5\)"):
        covered_share(np.zeros((0, 5), dtype=bool), geometry(2, 3, 10, 10), SLIDE)
    with pytest.raises(InvalidInputError, match="must reach into the slide of 53 pixels"):
        covered_share(np.zeros((3, 5), dtype=bool), geometry(7, 3, 10, 10), SLIDE)


def test_truths_of_a_cohort_are_in_the_order_of_the_tokens(tmp_path: Path) -> None:
    grid = geometry(5, 7, 10, 10)
    mask = np.ones(grid.shape, dtype=bool)
    mask[0, 1] = mask[3, 3] = False
    positive = np.zeros(grid.shape, dtype=bool)
    positive[3, 2:5] = True
    (tmp_path / "truth.png").write_bytes(imagecodecs.png_encode(positive.astype(np.uint8) * 255))
    card = {"name": "toy", "n_dims": 3}
    with TokenGrid.create(tmp_path / "a.tokens.zarr", grid, card, "a", "sha", (50, 70), mask=mask) as store:
        for block in store.blocks():
            state = np.where(mask[block.tokens], DONE, 0).astype(np.uint8)
            store.write_block(block, np.zeros((*state.shape, 3), np.float32), state)
    rows = [
        CohortRow(tmp_path / "a.tif", label, truth=truth)
        for label, truth in (("tumour", tmp_path / "truth.png"), ("normal", None), ("tumour", None))
    ]
    marked, normal, unknown = cohort_truths(Cohort(tuple(rows)), [store] * 3, "tumour")
    assert marked is not None
    positions = store.graph().positions[marked == 1]
    np.testing.assert_array_equal(positions, [[3, 2], [3, 4]])
    assert len(marked) == grid_graph(mask, np.zeros((33, 3), np.float32)).n_tokens
    np.testing.assert_array_equal(normal, np.zeros(33))
    assert unknown is None
    with pytest.raises(MismatchError, match="one token grid for each of 3 rows; got 2"):
        cohort_truths(Cohort(tuple(rows)), [store] * 2, "tumour")


def test_a_mask_of_other_proportions_than_its_slide_is_refused(tmp_path: Path) -> None:
    grid = geometry(5, 7, 10, 10)
    with TokenGrid.create(
        tmp_path / "a.tokens.zarr", grid, {"name": "toy", "n_dims": 3}, "a.tif", "f", (50, 70), block=16
    ) as made:
        for block in made.blocks():
            state = np.full(grid.shape, DONE, np.uint8)[block.tokens]
            made.write_block(block, np.zeros((*state.shape, 3), np.float32), state)
    store = TokenGrid.open(tmp_path / "a.tokens.zarr")
    for shape, is_taken in (((50, 70), True), ((25, 35), True), ((13, 18), True), ((20, 50), False)):
        truth = tmp_path / f"{shape[0]}.png"
        truth.write_bytes(imagecodecs.png_encode(np.zeros(shape, np.uint8)))
        cohort = Cohort((CohortRow(tmp_path / "a.tif", "tumour", truth=truth),))
        if is_taken:
            assert cohort_truths(cohort, [store], "tumour")[0] is not None
            continue
        with pytest.raises(MismatchError, match=r"50 x 70 px, in the same proportions; it has 20 x 50"):
            cohort_truths(cohort, [store], "tumour")
