"""Answers in names and words, against what the head draws."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.core.colors import concept_colors
from napari_prospector.core.graph import TokenGraph, chain_graph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.why_answer import (
    Comparison,
    answer_region,
    answer_token,
    shown_values,
)
from napari_prospector.tokens.geometry import GridGeometry

SHAPE = (7, 11)
GRID = GridGeometry(*SHAPE, tile=40, stride=40, origin=(3, 5), slide_mpp=0.5)
MAPS = ["evidence", "decision", "refined"]


def datum(seed: int, positive: bool) -> tuple[TokenGraph, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) > 0.2
    embeddings = rng.normal(size=(int(mask.sum()), 5)) + 4 * rng.integers(3, size=(int(mask.sum()), 1))
    embeddings[:9] += 6 * positive
    return grid_graph(mask, embeddings.astype(np.float32)), mask


@pytest.fixture(scope="module")
def head() -> ProspectorHead:
    graphs = [datum(seed, seed % 2 == 1)[0] for seed in range(8)]
    return ProspectorHead(n_concepts=4, radius=1).fit(graphs, ["no", "tumour"] * 4)


@pytest.mark.parametrize("map_name", MAPS)
def test_bars_add_up_to_the_score_to_the_last_bit(head: ProspectorHead, map_name: str) -> None:
    graph, mask = datum(99, True)
    scores = head.prospect(graph, map_name, "tumour")
    for token, place in enumerate(np.argwhere(mask).tolist()):
        answer = answer_token(head, graph, token, GRID, (place[0], place[1]), map_name, "tumour")
        assert math.fsum(bar.value for bar in answer.bars) == answer.score
        assert answer.score == pytest.approx(scores[token], abs=1e-5)
        assert [bar.is_own for bar in answer.bars] == [True] + [False] * (len(answer.bars) - 1)
        assert answer.centre_um == ((3 + 40 * place[0] + 19.5) * 0.5, (5 + 40 * place[1] + 19.5) * 0.5)
        values, total = shown_values([bar.value for bar in answer.bars], answer.score)
        assert sum(map(Decimal, values)) == Decimal(total)


def test_merged_concepts_are_one_bar_and_hidden_ones_give_nothing(head: ProspectorHead) -> None:
    graph, mask = datum(98, True)
    places = [(row, col) for row, col in np.argwhere(mask).tolist()]
    merged = head.with_edits(head.concept_edits_.rename(1, "stroma").merge([1, 3]))
    hidden = head.with_edits(head.concept_edits_.hide(2))
    colors = np.rint(concept_colors(4) * 255)
    for token, place in enumerate(places):
        plain = {bar.concept: bar for bar in answer_token(head, graph, token, GRID, place, "evidence").bars[1:]}
        one = answer_token(merged, graph, token, GRID, place, "evidence")
        both = [bar for bar in one.bars[1:] if bar.name == "stroma"]
        assert len(both) <= 1
        for bar in both:
            assert bar.value == pytest.approx(sum(plain[c].value for c in (1, 3) if c in plain), abs=1e-12)
            assert bar.n_tokens == sum(plain[c].n_tokens for c in (1, 3) if c in plain)
            assert bar.color == tuple(colors[1])
        for bar in answer_token(hidden, graph, token, GRID, place, "evidence").bars:
            assert bar.is_hidden == (bar.concept == 2)
            assert bar.value == 0 or not bar.is_hidden


def test_what_cannot_be_split_has_its_score_and_the_reason() -> None:
    rng = np.random.default_rng(0)
    words = [chain_graph(rng.integers(3, size=(23, 1)).astype(np.float32)) for _ in range(8)]
    head = ProspectorHead(n_concepts=3, radius=1, quantize="identity").fit(words, [0, 1] * 4)
    grid = GridGeometry(1, 23, tile=4, stride=4, origin=(0, 0), slide_mpp=1.0)
    answer = answer_token(head, words[0], 5, grid, (0, 5), "refined", 1)
    assert answer.bars == ()
    assert answer.score == head.prospect(words[0], "refined", 1)[5]
    assert "cannot be split into tokens" in str(answer.problem)
    assert answer.lines()[-1] == answer.problem
    assert answer_token(head, words[0], 5, grid, (0, 5), "refined", 1, score=0.25).score == 0.25
    assert answer_token(head, words[0], 5, grid, (0, 5), "evidence", 1).problem is None


def test_an_answer_is_text_and_json(head: ProspectorHead) -> None:
    graph, mask = datum(97, True)
    place = tuple(np.argwhere(mask)[8].tolist())
    answer = answer_token(head, graph, 8, GRID, (place[0], place[1]), "evidence")
    lines = answer.lines("case7.svs")
    assert f"(row {place[0]}, column {place[1]}) of case7.svs" in lines[0]
    assert lines[1].startswith(f"evidence for {head.target_}: ")
    assert lines[-1].split()[-1] == lines[1].split()[-1]
    assert len(lines) == 3 + len(answer.bars)
    found = json.loads(json.dumps(answer.to_json()))
    assert math.fsum(part["value"] for part in found["parts"]) == found["score"] == answer.score


def test_two_regions_lie_side_by_side(head: ProspectorHead) -> None:
    graph, _ = datum(96, True)
    scores, concepts = head.prospect(graph, "evidence"), head.concepts(graph)
    one = answer_region(head, GRID, scores[:13], concepts[:13], "nest", "evidence", "tumour")
    other = answer_region(head, GRID, scores[20:37], concepts[20:37], "stroma", "evidence", "tumour")
    assert one.n_tokens == 13
    assert one.area_mm2 == pytest.approx(13 * 0.02**2)
    assert one.total == pytest.approx(scores[:13].sum())
    assert one.mean == pytest.approx(scores[:13].mean())
    assert math.fsum(bar.value for bar in one.bars) == one.total
    both = Comparison(one, other)
    assert [row[0] for row in both.rows()] == ["tokens", "area", "sum of scores", "mean score"]
    assert both.rows()[0][1:] == ("13", "17")
    assert both.rows()[1][1:] == ("5,200 µm²", "6,800 µm²")
    for first, second in both.concepts():
        assert {bar.concept for bar in (first, second) if bar} == {(first or second).concept}  # type: ignore[union-attr]
    assert {bar.concept for pair in both.concepts() for bar in pair if bar} == set(
        concepts[[*range(13), *range(20, 37)]]
    )
    assert [line for line in both.lines() if line.startswith("Region")] == [
        "Region A: nest; evidence for tumour",
        "Region B: stroma; evidence for tumour",
    ]
    assert Comparison(one).rows()[0] == ("tokens", "13", "")
    with pytest.raises(InvalidInputError, match="glass holds no token. A token counts if more than half"):
        answer_region(head, GRID, [], [], "glass", "evidence", "tumour")


@given(
    st.lists(
        st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: x * 10.0 ** -(int(abs(x)) % 9)), min_size=1, max_size=9
    )
)
def test_what_people_read_adds_up_and_is_near(values: list[float]) -> None:
    texts, total = shown_values(values)
    read = [Decimal(text) for text in texts]
    assert sum(read) == Decimal(total)
    unit = max(Decimal(text.partition("e")[0]).as_tuple().exponent for text in [*texts, total])  # type: ignore[type-var]
    step = 10.0 ** (int(unit) - int(total.partition("e-")[2] or 0))
    for value, shown in zip(values, read, strict=True):
        assert abs(float(shown) - value) < step * (1 + 1e-6)
        assert shown == 0 or value != 0


def test_the_smallest_number_is_shown_too() -> None:
    assert [float(text) for text in shown_values([5e-324])[0]] == [0.0]


def test_zero_has_no_sign_and_small_scores_have_an_exponent() -> None:
    assert shown_values([0.0, -1.5]) == (["0.00", "-1.50"], "-1.50")
    assert shown_values([1.2e-6, -3e-7]) == (["+1.20e-06", "-0.30e-06"], "+0.90e-06")
    assert shown_values([], 0.0) == ([], "0.00")
