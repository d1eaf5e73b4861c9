"""Annotations as the truth of a cohort, against PNG masks of the same regions."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError
from napari_prospector.study.annotations import Region
from napari_prospector.study.cohort import Cohort, CohortRow
from napari_prospector.study.contours import Contours
from napari_prospector.study.geojson import write_geojson
from napari_prospector.study.truths import cohort_truths
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, TokenGrid

SLIDE = (55, 70)  # the last row of tiles reaches beyond it


@pytest.fixture
def store(tmp_path: Path) -> TokenGrid:
    grid = GridGeometry(6, 7, tile=10, stride=10, origin=(0, 0), slide_mpp=0.5)
    mask = np.ones(grid.shape, dtype=bool)
    mask[0, 1] = False
    path, card = tmp_path / "a.tokens.zarr", {"name": "toy", "n_dims": 3}
    with TokenGrid.create(path, grid, card, "a.svs", "sha", SLIDE, mask=mask) as made:
        for block in made.blocks():
            state = np.where(mask[block.tokens], DONE, 0).astype(np.uint8)
            made.write_block(block, np.zeros((*state.shape, 3), np.float32), state)
    return TokenGrid.open(path)


def box(row0: float, col0: float, row1: float, col1: float, label: str | None) -> Region:
    return Region((([[row0, col0], [row0, col1], [row1, col1], [row1, col0]],),), label)  # type: ignore[arg-type]


def cohort(*truths: Path, label: str = "tumour") -> Cohort:
    return Cohort(tuple(CohortRow(truth.parent / "a.svs", label, truth=truth) for truth in truths))


def test_annotations_and_a_mask_of_the_same_regions_are_the_same_truth(store: TokenGrid, tmp_path: Path) -> None:
    pixels = np.zeros(SLIDE, dtype=np.uint8)
    pixels[13:29, 8:44] = pixels[49:55, 61:70] = 255
    (tmp_path / "truth.png").write_bytes(imagecodecs.png_encode(pixels))
    regions = [box(13, 8, 29, 44, "tumour"), box(49, 61, 55, 70, "tumour"), box(0, 0, 9, 9, "stroma")]
    drawn = write_geojson(tmp_path / "truth.geojson", regions)
    by_mask, by_regions = cohort_truths(cohort(tmp_path / "truth.png", drawn), [store] * 2, "tumour")
    assert by_mask is not None
    assert (
        by_mask.sum() == 7
    )  # more than half covered: three tiles in each of two rows, and in the slide the whole of the last tile
    assert np.array_equal(by_mask, by_regions)


def test_regions_without_a_class_and_ignored_ones_are_unknown(store: TokenGrid, tmp_path: Path) -> None:
    regions = [box(10, 0, 20, 30, "tumour"), box(10, 10, 20, 20, "Ignore*"), box(30, 0, 40, 10, None)]
    (truth,) = cohort_truths(cohort(write_geojson(tmp_path / "a.json", regions)), [store], "tumour")
    positions = store.graph().positions
    assert truth is not None
    assert positions[truth == 1].tolist() == [[1, 0], [1, 2]]
    assert positions[truth == -1].tolist() == [[1, 1], [3, 0]]


def test_annotations_of_other_classes_or_of_another_slide_are_refused(store: TokenGrid, tmp_path: Path) -> None:
    other = write_geojson(tmp_path / "a.geojson", [box(0, 0, 9, 9, "Tumor"), box(0, 0, 9, 9, "Stroma")])
    with pytest.raises(
        InvalidInputError, match=r"a.geojson must hold a region of class 'tumour'; its classes are 'Stro"
    ):
        cohort_truths(cohort(other), [store], "tumour")
    (negative,) = cohort_truths(cohort(other, label="normal"), [store], "tumour")
    assert negative is not None
    assert not negative.any()
    far = write_geojson(tmp_path / "b.geojson", [box(900, 0, 990, 9, "tumour")])
    with pytest.raises(
        MismatchError, match=r"b.geojson must be of its slide a.svs, 55 x 70 px; region .* lies outside"
    ):
        cohort_truths(cohort(far), [store], "tumour")
    (tmp_path / "c.geojson").write_text("{}")
    with pytest.raises(FileFormatError, match=r"c.geojson must hold a FeatureCollection"):
        cohort_truths(cohort(tmp_path / "c.geojson"), [store], "tumour")


def test_contours_are_refused_before_a_map_is_drawn() -> None:
    with pytest.raises(InvalidInputError, match="threshold must be a finite score, or None; got inf"):
        Contours(float("inf"))
    with pytest.raises(InvalidInputError, match="simplify_um must be a tolerance in µm, 0 or more; got -1"):
        Contours(simplify_um=-1)
