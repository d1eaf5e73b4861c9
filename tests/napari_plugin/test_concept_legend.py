"""What the legend says of concepts, what its edits lead to, the grid of the kernel, and typical tiles; without Qt."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_grids import cohort, tokens_of

from napari_prospector._napari.concept_legend import (
    ACTIONS,
    edit_rows,
    have_same_concepts,
    legend_rows,
    refusals,
    rename_row,
    set_highlighted,
    set_shown,
    signed,
)
from napari_prospector._napari.concept_places import Places, find_places
from napari_prospector._napari.gallery_job import (
    Gallery,
    class_shares_of,
    find_gallery,
    place_of,
    read_pictures,
)
from napari_prospector._napari.kernel_grid import ALONE, ORDERS, kernel_grid
from napari_prospector.core.colors import concept_colors
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.project import Study, StudySlide
from napari_prospector.tokens.store import TokenGrid


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TokenGrid], list[str], ProspectorHead]:
    return cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def head(study: Any) -> ProspectorHead:
    return study[2]


def finish(steps: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def slides_of(grids: list[TokenGrid], labels: list[str], folder: Path) -> tuple[StudySlide, ...]:
    """Return slides that are not there, with the grids that are."""
    return tuple(
        StudySlide(folder / str(grid.attrs["slide_name"]), label, tokens=grid.path)
        for grid, label in zip(grids, labels, strict=True)
    )


def test_there_is_a_row_for_each_concept_with_its_weight_share_and_colour(head: ProspectorHead) -> None:
    rows = legend_rows(head)
    assert sorted(row.concept for row in rows) == [0, 1, 2, 3]
    assert [row.weight for row in rows] == sorted((row.weight for row in rows), reverse=True)
    weights, _ = head.concept_weights("evidence", "tumour")
    assert head.concept_shares_ is not None
    for row in rows:
        assert row.members == (row.concept,)
        assert row.weights == (weights[row.concept],)
        assert row.shares == tuple(head.concept_shares_[:, row.concept])
        assert np.abs(np.array(row.color) / 255 - concept_colors(4)[row.concept]).max() < 1 / 255
    against = legend_rows(head, "normal")
    assert {row.concept: -row.weight for row in against} == {row.concept: row.weight for row in rows}


def test_merged_concepts_are_one_row_with_the_sum_of_shares_and_the_mean_weight_of_their_tokens(
    head: ProspectorHead,
) -> None:
    merged = head.with_edits(head.concept_edits_.rename(3, "glands").merge([1, 3]))
    (row,) = (row for row in legend_rows(merged) if len(row.members) > 1)
    assert (row.concept, row.members, row.name, row.label) == (1, (1, 3), "concept 1", "concept 1 ×2")
    weights, shares = head.concept_weights()[0], head.concept_shares_
    assert shares is not None
    assert row.shares == pytest.approx(shares[:, [1, 3]].sum(axis=1))
    frequent = shares.sum(axis=0)
    expected = (weights[1] * frequent[1] + weights[3] * frequent[3]) / (frequent[1] + frequent[3])
    assert row.weight == pytest.approx(expected)
    assert len(legend_rows(merged)) == 3
    ends = sorted((weights[1], weights[3]))
    assert row.weights_text == f"{signed(ends[0])} … {signed(ends[1])}"


def test_a_head_that_knows_no_shares_takes_those_of_the_cohort(study: Any) -> None:
    grids, labels, head = study
    old = head.with_edits(head.concept_edits_)
    old.concept_shares_ = None
    assert {row.shares for row in legend_rows(old)} == {None}
    _, gallery = finish(find_gallery(old, Study(slides_of(grids, labels, Path("/nowhere"))))())
    shares = class_shares_of(old, gallery.examples)
    np.testing.assert_allclose(shares, head.concept_shares_, atol=1e-12)
    assert legend_rows(old, shares=shares) == legend_rows(head)


@pytest.mark.parametrize(
    ("weight", "text"), [(0.0, "0"), (0.0004, "0"), (-0.42, "−0.42"), (0.0412, "+0.041"), (2.765, "+2.77")]
)
def test_weights_have_a_sign_unless_they_are_0(weight: float, text: str) -> None:
    assert signed(weight) == text


def test_every_edit_says_what_was_done_and_has_one_that_undoes_it() -> None:
    edits = ConceptEdits.of(5)
    named = rename_row(edits, 3, "  lymphocytes ")
    assert named is not None
    assert named.text == "Rename concept 3 to lymphocytes"
    assert rename_row(named.edits, 3, "lymphocytes") is None
    merged = edit_rows("merge", named.edits, [4, 3])
    assert merged.text == "Merge concept 4, lymphocytes"
    assert merged.edits.members(4) == (3, 4)
    split = edit_rows("split", merged.edits, [0, 3])
    assert split.edits == named.edits
    hidden = edit_rows("hide", merged.edits, [3])
    assert hidden.edits.hidden == {3, 4}
    assert edit_rows("hide", hidden.edits, [3, 4]).edits == merged.edits
    assert edit_rows("hide", hidden.edits, [3, 0]).edits.hidden == {0, 3, 4}
    only = edit_rows("highlight", merged.edits, [4])
    assert only.edits.highlighted == {3, 4}
    assert edit_rows("highlight", only.edits, [3]).text == "Highlight none"
    assert edit_rows("highlight", only.edits, [3]).edits == merged.edits
    many = edit_rows("hide", edits, range(5))
    assert many.text == "Hide concept 0, concept 1, concept 2 and 2 more"


def test_boxes_change_one_row_beside_the_others() -> None:
    edits = ConceptEdits.of(5).merge([1, 2])
    on = set_highlighted(set_highlighted(edits, [0], True).edits, [2], True)
    assert on.edits.highlighted == {0, 1, 2}
    assert set_highlighted(on.edits, [1], False).edits.highlighted == {0}
    assert set_shown(set_shown(edits, [1], False).edits, [2], True).edits == edits


def test_what_cannot_be_done_is_told_before_and_what_is_not_told_can_be_done() -> None:
    edits = ConceptEdits.of(5).merge([1, 2]).hide(4)
    for chosen in ([], [0], [1], [4], [0, 3], [0, 4], [0, 1, 3]):
        told = refusals(edits, chosen)
        assert set(told) == set(ACTIONS)
        for action in ("merge", "split", "hide", "highlight"):
            if told[action] is None:
                assert edit_rows(action, edits, chosen).edits != edits
        if told["merge"] is not None:
            with pytest.raises(InvalidInputError):
                edit_rows("merge", edits, chosen)
    assert "Choose a concept" in str(refusals(edits, [])["hide"])
    assert "changes no score" in str(refusals(edits, [0, 4])["merge"])
    assert "merged" in str(refusals(edits, [0])["split"])
    assert "one concept" in str(refusals(edits, [0, 3])["rename"])


def test_edits_make_no_other_head_and_another_fit_does(study: Any) -> None:
    grids, labels, head = study
    assert have_same_concepts(head, head.with_edits(head.concept_edits_.hide(0)))
    other = ProspectorHead(n_concepts=3, radius=1, refine=False).fit([grid.graph() for grid in grids], labels)
    assert not have_same_concepts(head, other)


@pytest.mark.parametrize("order", ORDERS)
def test_the_kernel_is_the_heads_in_another_order_with_merged_concepts_side_by_side(
    head: ProspectorHead, order: str
) -> None:
    merged = head.with_edits(head.concept_edits_.rename(2, "stroma").merge([0, 3]).hide(2))
    grid = kernel_grid(merged, legend_rows(merged), "tumour", "evidence", order)
    alone, pairs = head.concept_weights("evidence", "tumour")
    assert sorted(grid.concepts) == [0, 1, 2, 3]
    assert abs(grid.place_of(0) - grid.place_of(3)) == 1
    for row, a in enumerate(grid.concepts):
        assert grid.weight(row, ALONE) == alone[a]
        assert [grid.weight(row, col) for col in range(4)] == [pairs[a, b] for b in grid.concepts]
    stroma, glands = grid.place_of(2), grid.place_of(1)
    assert grid.text(stroma, glands) == f"stroma × concept 1: {signed(pairs[2, 1])} (hidden: counts 0)"
    assert grid.text(glands, ALONE) == f"concept 1 alone: {signed(alone[1])}"
    assert grid.names[grid.place_of(3)] == "concept 0 (3)"
    shown = [0, 1, 3]
    assert grid.limit == max(np.abs(alone[shown]).max(), np.abs(pairs[np.ix_(shown, shown)]).max())


def test_colours_of_the_kernel_are_those_of_a_map(head: ProspectorHead) -> None:
    grid = kernel_grid(head, legend_rows(head), "tumour")
    largest = replace(grid, pairs=np.diag([1.0, -1.0, 0.0, 0.5]), alone=np.array([-2.0, 2.0, 0.0, 0.0]))
    alone, pairs = largest.pixels()
    assert alone.shape == (4, 1, 3)
    assert pairs.shape == (4, 4, 3)
    assert alone[:, 0].tolist()[:3] == [[0x05, 0x30, 0x61], [0x7F, 0x2A, 0x00], [0xF7, 0xF7, 0xF7]]
    red, _, blue = pairs[0, 0].tolist()
    assert red > blue
    flipped = replace(largest, pairs=-largest.pairs, alone=-largest.alone)
    assert flipped.pixels()[0][0].tolist() == alone[1].tolist()


def test_the_gallery_holds_for_each_row_the_tokens_nearest_to_their_centres(study: Any, tmp_path: Path) -> None:
    grids, labels, head = study
    told, gallery = finish(find_gallery(head, Study(slides_of(grids, labels, tmp_path)))())
    assert [str(one).split(" · ")[0] for one in told[:1]] == ["Looking for tokens"]
    assert any(one.stage == "Looking at tokens" and one.total for one in told)
    n_found = {concept: 0 for concept in range(4)}
    best = dict.fromkeys(range(4), np.inf)
    for grid in grids:
        for _, _, embedding in tokens_of(grid):
            distances = np.linalg.norm(head.quantizer_.centers_ - embedding, axis=1)
            n_found[int(distances.argmin())] += 1
            best[int(distances.argmin())] = min(best[int(distances.argmin())], distances.min())
    for concept in range(4):
        examples = gallery.of_group([concept], 12)
        assert examples[0].distance == pytest.approx(best[concept], rel=1e-4)
        assert {example.label for example in examples} <= {"normal", "tumour"}
        n_slides = (gallery.examples.counts[:, concept] > 0).sum()
        assert gallery.sentence([concept]) == f"{n_found[concept]:,} tiles in {n_slides} of 8 slides"
    first = gallery.of_group([0], 1)[0]
    assert gallery.caption(first)[:2] == [f"case{first.slide}.svs", f"class {labels[first.slide]}"]


def test_slides_that_are_gone_give_grey_pictures_that_say_so(study: Any, tmp_path: Path) -> None:
    grids, labels, head = study
    _, gallery = finish(find_gallery(head, Study(slides_of(grids, labels, tmp_path)))())
    places = [place_of(example) for example in gallery.of_group([1], 5)]
    told, _ = finish(read_pictures(gallery, lambda: [places])())
    assert sorted(one.found for one in told) == sorted(places)
    for place in places:
        assert "is not there any more" in str(gallery.pictures[place].problem)
        assert np.ptp(gallery.pictures[place].pixels, axis=2).max() == 0, "grey"


def test_what_is_wanted_now_is_read_next(study: Any) -> None:
    grids, labels, head = study
    gallery: Gallery = finish(find_gallery(head, Study(slides_of(grids, labels, Path("/nowhere"))))())[1]
    places = [[place_of(example) for example in gallery.of_group([concept], 6)] for concept in range(4)]
    queue: list[list[Any]] = [places[0], places[1]]
    steps: Iterator[Any] = read_pictures(gallery, lambda: queue)()
    first = [next(steps).found for _ in places[0]]
    queue[:] = [places[3], places[1]]
    then = [next(steps).found for _ in places[3]]
    assert sorted(first) == sorted(places[0])
    assert sorted(then) == sorted(places[3])
    assert sorted(one.found for one in steps) == sorted(places[1])


def test_without_an_embedded_slide_there_is_a_sentence(study: Any, tmp_path: Path) -> None:
    _, _, head = study
    slides = (StudySlide(tmp_path / "a.svs", "tumour"), StudySlide(tmp_path / "gone.tokens.zarr", "tumour"))
    with pytest.raises(InvalidInputError, match="Embed slides under 'Slides'"):
        finish(find_gallery(head, Study(slides))())


def test_grids_of_another_encoder_are_left_out(study: Any, tmp_path: Path) -> None:
    grids, labels, head = study
    slides = slides_of(grids, labels, tmp_path)
    other = head.with_edits(head.concept_edits_)
    other.card_ = {"encoder": {**head.card_["encoder"], "name": "another"}}
    with pytest.raises(InvalidInputError, match="No slide is embedded for this head"):
        finish(find_gallery(other, Study(slides))())


def test_places_of_a_concept_are_its_tokens_and_of_a_pair_those_beside_each_other(study: Any) -> None:
    grids, _, head = study
    mask, graph = grids[1].mask, grids[1].graph()
    concepts = head.concepts(graph)
    drawn: Any = SimpleNamespace(mask=mask, concepts=concepts, head=head, geometry=grids[1].geometry)
    sprite = np.full(mask.shape, -1)
    sprite[mask] = concepts
    _, found = finish(find_places(drawn, 2, ALONE)())
    assert list(found.tokens) == [tuple(cell) for cell in np.argwhere(sprite == 2).tolist()]
    assert found.n_found == found.n_tokens == len(found.tokens)
    assert found.centres_px[0] == tuple(grids[1].geometry.centre_px(*found.tokens[0]))
    _, pair = finish(find_places(drawn, 0, 3)())
    beside = 0
    for row, col in np.argwhere(sprite == 0):
        around = sprite[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
        beside += int((around == 3).sum())
    assert pair.n_found == beside > 0
    assert all(sprite[token] == 0 for token in pair.tokens)


def test_how_often_a_pair_occurs_is_a_sentence() -> None:
    assert Places().sentence("a × b", "case7") == "a × b: nowhere on case7."
    assert Places(1, 1, ((0, 0),), ((1.0, 1.0),)).sentence("a alone", "case7") == "a alone: once on case7."
    many = Places(1234, 900, ((0, 0),) * 200, ((1.0, 1.0),) * 200)
    assert many.sentence("a × b", "c") == "a × b: 1,234 times on c, at 900 tiles; 200 of them are listed."


def test_a_head_of_three_classes_has_weights_and_shares_for_each(study: Any) -> None:
    grids, _, _ = study
    labels = ["a", "b", "c"] * 2 + ["a", "b"]
    # the third class has few data
    head = ProspectorHead(n_concepts=3, radius=1, refine=False, n_folds=2).fit(
        [grid.graph() for grid in [*grids, grids[2]]], [*labels, "c"]
    )
    for target in (None, "a", "b", "c"):
        rows = legend_rows(head, target)
        weights = head.concept_weights("evidence", target or "a")[0]
        assert [row.weight for row in rows] == sorted(weights.tolist(), reverse=True)
        assert all(row.shares is not None and len(row.shares) == 3 for row in rows)
