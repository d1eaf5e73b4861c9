"""Which tokens lie in which region, by intersecting one tile at a time; regions as truth and as data of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_prospector.core.crossfit import make_folds
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.annotations import NOT_HERE, Region, brush_stroke
from napari_prospector.study.region_tokens import (
    RegionGraphs,
    check_enough_regions,
    region_graphs,
    region_shares,
    region_truth,
    split_regions,
    tokens_of,
)
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, PENDING, TokenGrid

GRID = GridGeometry(rows=11, cols=13, tile=20, stride=20, origin=(30, -10), slide_mpp=0.25)
SLIDE = (240, 245)
N_DIMS = 7
EVERYWHERE = np.ones(GRID.shape, dtype=bool)


def box(row0: float, col0: float, row1: float, col1: float, label: str | None = "tumour", **fields: object) -> Region:
    return Region((([[row0, col0], [row0, col1], [row1, col1], [row1, col0]],),), label, **fields)  # type: ignore[arg-type]


def tokens_box(row0: int, col0: int, row1: int, col1: int, label: str | None = "tumour", **fields: object) -> Region:
    """Return the region that covers the tiles of a block of tokens, half-open."""
    top, left, _, _ = GRID.box(row0, col0)
    bottom, right, _, _ = GRID.box(row1, col1)
    return box(top, left, bottom, right, label, **fields)


def slow_shares(region: Region, grid: GridGeometry, slide: tuple[int, int] | None) -> NDArray[np.float64]:
    shares = np.zeros(grid.shape)
    for i, j in np.ndindex(grid.shape):
        tile = shapely.box(*grid.box(i, j))
        if slide is not None:
            tile = tile.intersection(shapely.box(0, 0, *slide))
        shares[i, j] = region.shape.intersection(tile).area / tile.area if tile.area else 0
    return shares


@settings(max_examples=80, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(-5, 60), st.integers(-5, 80)), min_size=3, max_size=8, unique=True),
    tile=st.integers(3, 17),
    stride=st.integers(3, 13),
    start=st.integers(-4, 9),
    within=st.booleans(),
)
def test_shares_of_tiles_are_those_of_intersecting_each(
    points: list[tuple[int, int]], tile: int, stride: int, start: int, within: bool
) -> None:
    try:
        region = Region(((np.array(points, float),),))
    except InvalidInputError:
        return
    grid, slide = GridGeometry(5, 7, tile, stride, (start, start + 3), 0.5), (41, 47) if within else None
    np.testing.assert_allclose(region_shares(region, grid, slide), slow_shares(region, grid, slide), atol=1e-9)


def test_a_planted_square_holds_just_its_tokens() -> None:
    owner = tokens_of([tokens_box(2, 3, 5, 10)], GRID)
    expected = np.full(GRID.shape, -1)
    expected[2:5, 3:10] = 0
    assert np.array_equal(owner, expected)


def test_just_half_of_a_tile_is_not_enough() -> None:
    half = box(30, -10, 50, 20)  # tile (0, 0) wholly, just half of (0, 1)
    assert np.argwhere(tokens_of([half], GRID) == 0).tolist() == [[0, 0]]
    assert (tokens_of([half], GRID, min_share=0.49) == 0).sum() == 2
    assert (tokens_of([half], GRID, min_share=0) == 0).sum() == 2


def test_where_regions_overlap_the_larger_share_the_later_and_not_here_win() -> None:
    first, later = tokens_box(0, 0, 4, 4), tokens_box(2, 2, 6, 6, "stroma")
    pen = tokens_box(3, 0, 4, 13, NOT_HERE)
    owner = tokens_of([pen, first, later], GRID)
    assert owner[0, 0] == 1
    assert owner[2, 2] == 2
    assert set(owner[3].tolist()) == {0}
    part = box(30, -10, 50, 3)  # 13 of the 20 columns of tile (0, 0), drawn last
    assert tokens_of([first, part], GRID)[0, 0] == 0


def test_a_token_is_measured_by_tile_or_cell() -> None:
    with pytest.raises(InvalidInputError, match="by must be 'tile' or 'cell'; got 'pixel'"):
        tokens_of([], GRID, by="pixel")  # type: ignore[arg-type]


@pytest.mark.parametrize("min_share", [-0.1, 1, 2, float("nan")])
def test_a_share_is_a_share(min_share: float) -> None:
    with pytest.raises(InvalidInputError, match="0 or more and below 1"):
        tokens_of([], GRID, min_share)
    with pytest.raises(InvalidInputError, match="0 or more and below 1"):
        region_truth([], "tumour", GRID, EVERYWHERE, min_share)


def test_truth_is_what_was_painted_last() -> None:
    regions = [
        tokens_box(0, 0, 6, 6),
        tokens_box(1, 1, 3, 3, "stroma"),
        tokens_box(2, 2, 3, 3),
        tokens_box(5, 0, 6, 1, "Ignore*"),
        tokens_box(0, 5, 1, 6, None),
    ]
    truth = region_truth([tokens_box(0, 0, 1, 1, NOT_HERE), *regions], "tumour", GRID, EVERYWHERE).reshape(GRID.shape)
    expected = np.full(GRID.shape, -1, dtype=np.int8)
    expected[:6, :6] = 1
    expected[1:3, 1:3] = 0
    expected[2, 2] = 1
    expected[5, 0] = expected[0, 5] = -1
    expected[0, 0] = 0
    assert np.array_equal(truth, expected)


@settings(max_examples=60, deadline=None)
@given(
    drawn=st.lists(
        st.tuples(
            *(st.integers(0, 8), st.integers(0, 10), st.integers(1, 4), st.integers(1, 4)),
            st.sampled_from(["tumour", "stroma", "Ignore*", None]),
        ),
        max_size=8,
    )
)
def test_truth_is_painted_region_over_region(drawn: list[tuple[int, int, int, int, str | None]]) -> None:
    expected, regions = np.full(GRID.shape, -1, dtype=np.int8), []
    for row, col, height, width, label in drawn:
        row1, col1 = min(row + height, GRID.rows), min(col + width, GRID.cols)
        regions.append(tokens_box(row, col, row1, col1, label))
        expected[row:row1, col:col1] = {"tumour": 1, "stroma": 0}.get(str(label), -1)
    assert np.array_equal(region_truth(regions, "tumour", GRID, EVERYWHERE), expected.ravel())


def test_what_lies_outside_of_all_regions_may_be_negative_and_only_tokens_have_a_truth() -> None:
    mask = np.random.default_rng(0).random(GRID.shape) < 0.6
    truth = region_truth([tokens_box(0, 0, 6, 6)], "tumour", GRID, mask, outside=0)
    expected = np.zeros(GRID.shape, dtype=np.int8)
    expected[:6, :6] = 1
    assert truth.dtype == np.int8
    assert np.array_equal(truth, expected[mask])
    with pytest.raises(InvalidInputError, match="outside must be -1, unknown, or 0, negative; got 1"):
        region_truth([], "tumour", GRID, mask, outside=1)
    with pytest.raises(MismatchError, match="mask must have one cell per token"):
        region_truth([], "tumour", GRID, mask[1:])


def test_two_regions_of_a_class_share_a_tile() -> None:
    left, right = box(30, -10, 50, -2), box(30, -2, 50, 6)  # 40 % of tile (0, 0) each
    assert (tokens_of([left, right], GRID) == -1).all()
    assert region_truth([left, right], "tumour", GRID, EVERYWHERE).tolist().count(1) == 1


def test_of_a_tile_at_the_border_what_lies_in_the_slide_counts() -> None:
    corner = box(230, 230, 240, 245)  # the last tile, 20 x 20 at (230, 230), reaches 10 x 15 px into the slide
    assert (tokens_of([corner], GRID) == -1).all()
    assert np.argwhere(tokens_of([corner], GRID, slide_shape=SLIDE) == 0).tolist() == [[10, 12]]
    truth = region_truth([corner], "tumour", GRID, EVERYWHERE, slide_shape=SLIDE)
    assert np.flatnonzero(truth == 1).tolist() == [GRID.rows * GRID.cols - 1]


@pytest.fixture
def grid(tmp_path: Path) -> TokenGrid:
    """Return a finished grid but for a hole at (4, 4), a token a time: the first dimension is row, the second col."""
    mask = EVERYWHERE.copy()
    mask[4, 4] = False
    path = tmp_path / "a.tokens.zarr"
    card = {"name": "fake", "n_dims": N_DIMS}
    with TokenGrid.create(path, GRID, card, "a.svs", "f0", SLIDE, dtype="float32", block=5, mask=mask) as store:
        random = np.random.default_rng(1)
        for block in store.blocks():
            places = np.stack(np.mgrid[block.rows, block.cols], axis=-1)
            noise = random.normal(size=(*places.shape[:2], N_DIMS - 2))
            state = np.where(store.state[block.tokens] == PENDING, DONE, 0).astype(np.uint8)
            store.write_block(block, np.concatenate([places, noise], axis=-1).astype(np.float32), state)
    return TokenGrid.open(path)


def test_regions_become_graphs_of_their_own_tokens(grid: TokenGrid) -> None:
    regions = [tokens_box(3, 3, 6, 8, id="a"), tokens_box(7, 0, 9, 2, "stroma", id="b"), tokens_box(0, 0, 1, 1, None)]
    found = region_graphs(grid, regions)
    assert (found.labels, found.ids, found.groups) == (("tumour", "stroma"), ("a", "b"), ("a", "b"))
    first = found.graphs[0]
    assert first.n_tokens == 3 * 5 - 1  # a hole is a hole
    assert np.array_equal(first.positions, first.embeddings[:, :2])
    whole = grid.graph()
    inside = ((whole.positions >= [3, 3]) & (whole.positions < [6, 8])).all(axis=1)
    twin = whole.subset(inside)
    assert np.array_equal(first.indices, twin.indices)
    assert np.array_equal(first.embeddings, twin.embeddings)


def test_no_token_is_in_two_data_and_not_here_is_in_none(grid: TokenGrid) -> None:
    regions = [tokens_box(0, 0, 4, 4, id="a"), tokens_box(2, 2, 6, 6, "stroma"), tokens_box(0, 0, 1, 13, NOT_HERE)]
    found = region_graphs(grid, regions)
    places = [tuple(place) for graph in found.graphs for place in graph.positions.tolist()]
    assert len(places) == len(set(places))
    assert found.labels == ("tumour", "stroma")
    assert min(row for row, _ in places) == 1
    assert region_graphs(grid, regions, labels=["tumour", NOT_HERE]).labels == ("tumour", NOT_HERE)


def test_regions_without_a_token_are_named(grid: TokenGrid) -> None:
    hole, tiny = tokens_box(4, 4, 5, 5, name="hole"), box(31, -9, 33, -7, "stroma", id="7f")
    with pytest.raises(
        InvalidInputError, match=r"'hole' \(tumour\), '7f' \(stroma\) have none. A token counts if more"
    ):
        region_graphs(grid, [hole, tiny, tokens_box(0, 0, 2, 2)])
    with pytest.raises(InvalidInputError, match="and 2 more have none"):
        region_graphs(grid, [box(31, -9, 33, -7 + i) for i in range(7)])


def test_at_least_one_region_has_a_class(grid: TokenGrid) -> None:
    with pytest.raises(InvalidInputError, match="At least one region must have a class; none of 1 has"):
        region_graphs(grid, [tokens_box(0, 0, 2, 2, None)])
    with pytest.raises(InvalidInputError, match="a class of 'stroma'; none of 1"):
        region_graphs(grid, [tokens_box(0, 0, 2, 2)], labels=["stroma"])


def test_too_few_regions_are_told_to_people_who_draw() -> None:
    check_enough_regions(["tumour"] * 3 + ["stroma"] * 3)
    with pytest.raises(InvalidInputError, match="at least two classes are needed; got 'tumour'"):
        check_enough_regions(["tumour"] * 5)
    with pytest.raises(InvalidInputError, match="got none"):
        check_enough_regions([])
    with pytest.raises(
        InvalidInputError, match=r"'tumour' has 2, 'stroma' has 1. Draw more; or let large .*split_regions"
    ):
        check_enough_regions(["tumour", "stroma", "tumour", "wall", "wall", "wall"])


def is_connected(graph: TokenGraph) -> bool:
    reached, waiting = {0}, [0]
    while waiting:
        token = waiting.pop()
        new = set(graph.indices[graph.indptr[token] : graph.indptr[token + 1]].tolist()) - reached
        reached |= new
        waiting += new
    return len(reached) == graph.n_tokens


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.3, 1), n_tokens=st.integers(1, 60))
def test_pieces_are_connected_and_make_up_their_region(seed: int, share: float, n_tokens: int) -> None:
    from napari_prospector.core.graph import grid_graph

    random = np.random.default_rng(seed)
    mask = random.random((17, 23)) < share
    mask[5, 5] = True
    graph = grid_graph(mask, random.normal(size=(int(mask.sum()), 3)))
    found = split_regions(RegionGraphs((graph,), ("tumour",), ("a",), ("a",)), n_tokens)
    assert all(is_connected(piece) for piece in found.graphs)
    places = [tuple(place) for piece in found.graphs for place in piece.positions.tolist()]
    assert sorted(places) == [tuple(place) for place in np.argwhere(mask).tolist()]
    assert set(found.groups) == {"a"}
    assert len(set(found.ids)) == len(found.ids)
    small = sum(piece.n_tokens < n_tokens / 2 for piece in found.graphs)
    alone = grid_graph(mask, graph.embeddings)
    assert small <= sum(size < n_tokens / 2 for size in component_sizes(alone))


def component_sizes(graph: TokenGraph) -> list[int]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    edges = csr_array((np.ones(len(graph.indices)), graph.indices, graph.indptr), shape=(graph.n_tokens,) * 2)
    return np.bincount(connected_components(edges, directed=False)[1]).tolist()


def test_a_slide_with_one_region_a_class_can_be_fitted_in_pieces(grid: TokenGrid) -> None:
    regions = [tokens_box(0, 0, 11, 6, id="a"), tokens_box(0, 6, 11, 13, "stroma", id="b")]
    found = split_regions(region_graphs(grid, regions))
    check_enough_regions(found.labels)
    assert [found.labels.count(label) for label in ("tumour", "stroma")] == [5, 6]  # 65 and 77 tokens, 13 a piece
    assert {group for group, label in zip(found.groups, found.labels, strict=True) if label == "tumour"} == {"a"}
    head = ProspectorHead(3, 1, "linear", refine=False).fit(found.graphs, found.labels, found.groups)
    assert head.brier_ is None  # nothing could be held out, and it is said
    assert any("out of fold" in note or "seen" in note for note in head.notes_), head.notes_
    assert head.prospect(grid.graph()).shape == (11 * 13 - 1,)


def test_pieces_of_a_region_never_straddle_folds(grid: TokenGrid) -> None:
    regions = [
        tokens_box(0, 0, 5, 6, id="a"),
        tokens_box(6, 0, 11, 6, id="b"),
        tokens_box(0, 6, 5, 13, "stroma", id="c"),
        tokens_box(6, 6, 11, 13, "stroma", id="d"),
    ]
    found = split_regions(region_graphs(grid, regions), 6)
    folds = make_folds(np.unique(found.labels, return_inverse=True)[1], found.groups, 5, 0)
    assert folds.max() == 1
    for group in "abcd":
        assert len({fold for fold, name in zip(folds, found.groups, strict=True) if name == group}) == 1
    with pytest.raises(InvalidInputError, match="n_tokens must be at least 1 token a piece; got 0"):
        split_regions(found, 0)


def test_a_brush_marks_what_it_covers() -> None:
    stroke = brush_stroke([[40, 0], [40, 200]], 11, "tumour")  # a band of 22 px over the first row of tiles, 30 to 50
    assert np.flatnonzero((tokens_of([stroke], GRID) == 0).any(axis=1)).tolist() == [0]


def test_a_head_from_regions_of_one_slide_finds_what_was_not_drawn(tmp_path: Path) -> None:
    """Two kinds of tissue in four bands; of two bands regions are drawn, the other two are found by them."""
    kinds = np.repeat([0, 1, 0, 1], [3, 3, 3, 2])[:, None].repeat(GRID.cols, axis=1)
    path, random = tmp_path / "a.tokens.zarr", np.random.default_rng(5)
    with TokenGrid.create(path, GRID, {"name": "fake", "n_dims": 5}, "a.svs", "f0", SLIDE, block=5) as store:
        for block in store.blocks():
            here = kinds[block.tokens]
            embeddings = random.normal(size=(*here.shape, 5)) + 4 * here[..., None]
            store.write_block(block, embeddings.astype(np.float32), np.full(here.shape, DONE, np.uint8))
    grid = TokenGrid.open(path)
    regions = [tokens_box(band, col, band + 3, col + 3, name) for band, name in BANDS for col in (0, 4, 8)]
    found = region_graphs(grid, regions)
    head = ProspectorHead(3, 0, "linear", positive="tumour").fit(found.graphs, found.labels, found.groups)
    scores = head.prospect(grid.graph(), "evidence").reshape(GRID.shape)
    undrawn = np.s_[6:]
    assert scores[undrawn][kinds[undrawn] == 1].min() > scores[undrawn][kinds[undrawn] == 0].max()


BANDS = ((0, "stroma"), (3, "tumour"))
