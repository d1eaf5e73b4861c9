"""Drawn slides: the label is an arrangement, so amounts and mean colours must say nothing about it."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from napari_prospector.core.graph import count, grid_graph
from napari_prospector.errors import InvalidInputError, StorageError
from napari_prospector.tokens.arrangement import Kind, Plan, arrange
from napari_prospector.tokens.brushes import COARSE_UM
from napari_prospector.tokens.drawing import draw_stain
from napari_prospector.tokens.generate import draw_bands, draw_slide, generate_cohort
from napari_prospector.tokens.slides import open_slide

EXTENT_UM = (2604.0, 2828.0)
SMALL = (907, 953)  # px of 2 µm
TOKEN_CELLS = 14  # 112 µm


@pytest.fixture(scope="module")
def plans() -> list[tuple[bool, Plan, npt.NDArray[np.bool_]]]:
    return [(seed % 2 == 0, *arrange(seed, seed % 2 == 0, EXTENT_UM)) for seed in range(30)]


@pytest.fixture(scope="module")
def colours() -> npt.NDArray[np.float64]:
    """Mean colours (n_seeds, 2, 8) of slides that differ in the arrangement alone: tumour and normal of each seed."""
    return np.array(
        [[mean_colours(draw_slide(seed, label, SMALL, 2.0).image) for label in (True, False)] for seed in range(12)]
    )


def cross_validated_auroc(
    features: npt.NDArray[np.float64], labels: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64]
) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, features, labels, groups=groups, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, scores))


def mean_colours(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean colour of the slide, of its tissue, and mean amounts of both stains as their usual vectors give them."""
    tissue = image[::3, ::3][image[::3, ::3].min(axis=2) < 220].astype(float)
    density = -np.log(np.maximum(tissue, 1.0) / 244.0)
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    amounts = density @ np.linalg.inv(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return np.concatenate([image.mean(axis=(0, 1)), tissue.mean(axis=0), amounts[:, :2].mean(axis=0)])


def apart_um(plan: Plan) -> float:
    """Distance between crowded epithelium and lymphoid tissue."""
    distance = ndimage.distance_transform_edt(plan.kinds != Kind.CROWDED) * COARSE_UM
    return float(distance[plan.kinds == Kind.LYMPHOID].min())


def token_counts(plan: Plan) -> npt.NDArray[np.int64]:
    """Monograms and pairs of tokens of 112 µm, each named after crowded or lymphoid tissue where it holds a third."""
    rows, cols = (size // TOKEN_CELLS for size in plan.kinds.shape)
    blocks = plan.kinds[: rows * TOKEN_CELLS, : cols * TOKEN_CELLS].reshape(rows, TOKEN_CELLS, cols, TOKEN_CELLS)
    share = {kind: (blocks == kind).mean(axis=(1, 3)) for kind in Kind}
    mask = share[Kind.GLASS] < 0.75
    concepts = np.where(share[Kind.CROWDED] > 1 / 3, 1, np.where(share[Kind.LYMPHOID] > 1 / 3, 2, 0))[mask]
    graph = grid_graph(mask, np.zeros((int(mask.sum()), 1), np.float32))
    return np.asarray(count(graph, concepts.astype(np.int32), 3, 1))


def test_either_label_has_the_same_amount_of_every_tissue() -> None:
    for seed in range(5):
        (tumour, _), (normal, _) = (arrange(seed, label, EXTENT_UM) for label in (True, False))
        assert np.array_equal(np.bincount(tumour.kinds.ravel()), np.bincount(normal.kinds.ravel()))
        assert len(tumour.glands) == len(normal.glands)
        assert len(tumour.vessels) == len(normal.vessels)


def test_every_tissue_occurs_in_both_classes(plans: list[tuple[bool, Plan, npt.NDArray[np.bool_]]]) -> None:
    for _, plan, _ in plans:
        assert set(np.unique(plan.kinds)) == set(Kind)
        assert len(plan.glands) > 10
        assert len(plan.vessels) > 3


def test_infiltration_is_the_truth_and_nothing_else_comes_close(
    plans: list[tuple[bool, Plan, npt.NDArray[np.bool_]]],
) -> None:
    for tumour, plan, truth in plans:
        assert truth.any() == tumour
        if tumour:
            assert 0.03 < truth.sum() / np.count_nonzero(plan.kinds) < 0.15
            assert {Kind.CROWDED, Kind.LYMPHOID, Kind.STROMA} <= set(np.unique(plan.kinds[truth]))
            assert apart_um(plan) < 100.0
        else:
            assert apart_um(plan) > 130.0
    decoys = [bool((plan.kinds[~truth] == Kind.CROWDED).any()) for tumour, plan, truth in plans if tumour]
    assert 0.4 < np.mean(decoys) < 1.0  # a tumour slide may hold crowded epithelium that is no truth


def test_amounts_of_tokens_are_at_chance_and_pairs_of_neighbours_tell_the_classes_apart(
    plans: list[tuple[bool, Plan, npt.NDArray[np.bool_]]],
) -> None:
    labels = np.array([tumour for tumour, _, _ in plans])
    counts = np.array([token_counts(plan) for _, plan, _ in plans])
    shares = counts[:, :3] / counts[:, :3].sum(axis=1, keepdims=True)
    assert cross_validated_auroc(shares, labels, groups=np.arange(len(labels))) < 0.65
    crowded_beside_lymphoid = counts[:, 3 + 4]  # pairs (0,0) (0,1) (0,2) (1,1) (1,2) (2,2)
    assert roc_auc_score(labels, crowded_beside_lymphoid) > 0.99


def test_mean_colour_is_at_chance(colours: npt.NDArray[np.float64]) -> None:
    labels = np.tile([True, False], len(colours))
    assert 0.3 < cross_validated_auroc(colours.reshape(len(labels), -1), labels, np.arange(len(labels)) // 2) < 0.65


def test_the_label_shifts_mean_colour_by_far_less_than_staining_does(
    colours: npt.NDArray[np.float64],
) -> None:
    tumour, normal = colours[:, 0], colours[:, 1]
    spread = np.concatenate([tumour, normal]).std(axis=0)
    assert (np.abs((tumour - normal).mean(axis=0)) < 0.1 * spread).all()
    assert (np.sqrt(((tumour - normal) ** 2).mean(axis=0)) < 0.4 * spread).all()


def test_the_same_seed_draws_the_same_slide_and_another_seed_another(
    colours: npt.NDArray[np.float64],
) -> None:
    again = draw_slide(3, True, SMALL, 2.0).image
    assert np.array_equal(mean_colours(again), colours[3, 0])
    assert not np.array_equal(mean_colours(again), colours[4, 0])


def test_slides_of_one_stain_seed_share_their_stain() -> None:
    image, other = (draw_slide(seed, False, SMALL, 2.0, stain_seed=11).image for seed in (1, 2))
    assert np.abs(image[:20].mean(axis=(0, 1)) - other[:20].mean(axis=(0, 1))).max() < 0.5  # the colour of glass
    one, same, another = (draw_stain(np.random.default_rng(seed)).vectors for seed in (11, 11, 12))
    assert np.array_equal(one, same)
    assert np.abs(one - another).max() > 0.003


@pytest.mark.parametrize("mpp", [1.0, 4.0])
def test_pixel_size_changes_the_drawing_and_not_the_arrangement(mpp: float) -> None:
    shape = (round(1512 / mpp), round(1624 / mpp))
    slide = draw_slide(5, True, shape, mpp)
    assert slide.image.shape == (*shape, 3)
    assert np.array_equal(slide.truth, arrange(5, True, (1512.0, 1624.0))[1])
    assert sum(slide.shares.values()) == pytest.approx(1.0)


def test_the_truth_lies_on_the_crowded_and_lymphoid_tissue_of_the_image() -> None:
    slide = draw_slide(8, True, (1601, 1511), 1.0)
    height, width = slide.truth.shape
    rows = (np.arange(1601) * height) // 1601
    cols = (np.arange(1511) * width) // 1511
    truth = slide.truth[np.ix_(rows, cols)]
    tissue = slide.image.min(axis=2) < 220
    redness = slide.image[..., 0].astype(float)
    assert redness[truth & tissue].mean() < redness[~truth & tissue].mean() - 10  # nuclei take the red away


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seed": -1}, "seed must not be negative; got -1"),
        ({"mpp": 9.0}, r"mpp must lie within 0\.25 and 4 µm per pixel; got 9\.0"),
        ({"shape": (1600, 700)}, r"at least 1500 µm either way.*got \(1600, 700\) px at 1\.0 µm"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        draw_slide(**{"seed": 1, "tumour": True, **arguments})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    steps = list(generate_cohort(folder, n_slides=5, seed=2, shape=SMALL, mpp=2.0))
    assert [(step.done, step.total) for step in steps] == [(done, 5) for done in range(1, 6)]
    assert all(step.path.is_file() for step in steps)
    return folder


def test_a_cohort_lists_its_slides_and_keeps_patients_on_one_side(cohort: Path) -> None:
    with (cohort / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["tumour", "normal"] * 2 + ["tumour"]
    split = {row["group"]: row["split"] for row in rows}
    assert all(split[row["group"]] == row["split"] for row in rows)
    assert sorted(split.values()) == ["test", "train", "train"]
    for row in rows:
        with open_slide(cohort / row["path"]) as slide:
            assert slide.shape == SMALL
            assert slide.require_mpp() == pytest.approx(float(row["mpp"]))
            assert len(slide.levels) == 3
        assert (open_slide(cohort / row["truth"], mpp=1.0).read(0, 0, 227, 239).max() == 255) == (
            row["label"] == "tumour"
        )
    assert not list(cohort.rglob("*.partial"))


def test_the_same_cohort_is_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    for _ in generate_cohort(tmp_path, n_slides=5, seed=2, shape=SMALL, mpp=2.0):
        pass
    names = sorted(path.relative_to(cohort) for path in cohort.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((cohort / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"n_slides": 3}, "n_slides must be at least 4, two patients of two slides; got 3"),
        ({"test_share": 1.0}, r"test_share must lie between 0 and 1; got 1\.0"),
    ],
)
def test_a_cohort_that_cannot_be_split_is_refused(tmp_path: Path, arguments: dict[str, float], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        next(generate_cohort(tmp_path, **arguments))  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written.*name another folder"):
        next(generate_cohort(tmp_path / "file", shape=SMALL, mpp=2.0))


def test_bands_fill_a_slide_of_any_size_and_no_two_tiles_are_alike() -> None:
    shape = (2053, 4099)
    image = np.concatenate(list(draw_bands(1, shape, mpp=0.6)))
    assert image.shape == (*shape, 3)
    tiles = image[:2016, :4032].reshape(9, 224, 18, 224, 3).swapaxes(1, 2).reshape(-1, 224 * 224 * 3)
    tissue = tiles[tiles.min(axis=1) < 200]
    assert len(tissue) > 0.5 * len(tiles)
    assert len({hashlib.sha256(tile.tobytes()).digest() for tile in tissue}) == len(tissue)
