"""Thresholds of maps, without Qt: against plain counting and scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from napari_prospector._napari.map_units import map_unit
from napari_prospector._napari.threshold import (
    Cut,
    ThresholdTable,
    area_text,
    cells_above,
    percent_text,
)
from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.geometry import GridGeometry

GRID = GridGeometry(rows=11, cols=13, tile=400, stride=400, origin=(0, 0), slide_mpp=0.5)
CELL_MM2 = 0.04  # 400 px of 0.5 µm a side


def some_scores(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=GRID.shape).round(1).astype(np.float32)  # with ties
    mask = rng.random(GRID.shape) < 0.8
    scores[~mask] = np.nan
    return scores, mask


@pytest.mark.parametrize("threshold", [-9.0, -0.3, 0.0, 0.5, 0.50001, 9.0])
def test_area_and_dice_at_a_threshold_are_those_of_plain_counting(threshold: float) -> None:
    scores, mask = some_scores()
    values = scores[mask]
    truth = np.random.default_rng(5).integers(-1, 2, len(values)).astype(np.int8)
    table = ThresholdTable.of(scores, GRID, truth)
    cut = table.cut(threshold)
    above = values > threshold
    assert cut.n_above == above.sum() == cells_above(scores, threshold).sum()
    assert cut.area_mm2 == pytest.approx(above.sum() * CELL_MM2)
    assert cut.share == pytest.approx(above.mean())
    known = truth >= 0
    assert cut.dice == pytest.approx(f1_score(truth[known], above[known], zero_division=0))
    assert table.average_precision == pytest.approx(average_precision_score(truth[known], values[known]))


def test_without_a_positive_token_a_truth_measures_nothing() -> None:
    scores, mask = some_scores()
    table = ThresholdTable.of(scores, GRID, np.zeros(mask.sum(), np.int8))
    assert table.average_precision is None
    assert table.cut(0).dice is None


def test_a_truth_of_other_tokens_is_refused() -> None:
    scores, mask = some_scores()
    with pytest.raises(InvalidInputError, match="one per token"):
        ThresholdTable.of(scores, GRID, np.zeros(mask.sum() + 1, np.int8))


def test_a_map_without_any_token_has_no_area() -> None:
    assert ThresholdTable.of(np.full(GRID.shape, np.nan, np.float32), GRID).cut(0) == Cut(0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("area", "text"), [(0.0, "0.00 mm²"), (0.0025, "2,500 µm²"), (1.234, "1.23 mm²"), (1234.5, "1,234 mm²")]
)
def test_areas_are_read_easily(area: float, text: str) -> None:
    assert area_text(area) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.5, "50 %"), (0.0123, "1.2 %"), (0.00012, "0.012 %"), (1.0, "100 %")]
)
def test_shares_are_read_easily(share: float, text: str) -> None:
    assert percent_text(share) == text


@pytest.mark.parametrize(
    ("map", "kernel", "radius", "unit", "sentence"),
    [
        ("evidence", "fold-change", 1, "log2 fold change, summed", "its pairs with all tokens up to 1 tokens away"),
        ("evidence", "linear", 0, "weights of a logistic regression", "no neighbours"),
        ("decision", "linear", 2, "log-odds of the slide", "log-odds of tumour for the whole slide"),
        ("refined", "fold-change", 2, "spreads above the rest", "0 is the mean of tokens in slides without tumour"),
    ],
)
def test_every_map_says_what_its_numbers_mean(map: str, kernel: str, radius: int, unit: str, sentence: str) -> None:
    head: Any = SimpleNamespace(kernel_=kernel, radius_=radius)
    said = map_unit(head, map, "tumour")
    assert said.name == unit
    assert sentence in said.meaning
