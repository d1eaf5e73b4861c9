from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector.errors import InvalidInputError, MismatchError, MissingFileError
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.cohort_graphs import CohortGraphs
from napari_prospector.study.held_out import slide_marks
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, TokenGrid

N_DIMS = 7
GEOMETRY = GridGeometry(rows=3, cols=5, tile=448, stride=448, origin=(0, 0), slide_mpp=0.25, tile_px=224)
CARD: dict[str, Any] = {"name": "toy", "n_dims": N_DIMS, "weights_sha256": "ab12", "tile_px": 224, "mpp": 0.5}


def store(
    path: Path,
    geometry: GridGeometry = GEOMETRY,
    seed: int = 0,
    finish: bool = True,
    scanner: str | None = None,
    stain: dict[str, Any] | None = None,
    **card: Any,
) -> Path:
    """A token grid whose upper left token is background."""
    mask = np.ones(geometry.shape, dtype=bool)
    mask[0, 0] = False
    n_dims = card.get("n_dims", N_DIMS)
    made = TokenGrid.create(
        path,
        geometry,
        {**CARD, **card},
        path.name.removesuffix(".tokens.zarr"),
        f"sha-{seed}",
        (1400, 2300),
        mask=mask,
        scanner=scanner,
        stain=stain,
    )
    with made as grid:
        for block in grid.blocks() if finish else ():
            state = np.where(mask[block.tokens], DONE, 0).astype(np.uint8)
            generator = np.random.default_rng(seed)
            grid.write_block(block, generator.normal(size=(*state.shape, n_dims)).astype(np.float32), state)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [store(tmp_path / f"{name}.svs.tokens.zarr", seed=seed) for seed, name in enumerate("abc")]


def test_graphs_come_from_their_stores_as_often_as_wanted(paths: list[Path]) -> None:
    graphs = CohortGraphs(paths)
    assert len(graphs) == 3
    for _ in range(2):
        assert [graph.n_tokens for graph in graphs] == [14, 14, 14]
    np.testing.assert_array_equal(graphs[1].embeddings, TokenGrid.open(paths[1]).graph().embeddings)
    np.testing.assert_array_equal(graphs[-1].embeddings, graphs[2].embeddings)
    assert [graph.n_dims for graph in graphs[1:]] == [N_DIMS] * 2
    with pytest.raises(IndexError):
        graphs[3]


def test_graphs_are_kept_as_long_as_they_fit_the_memory_that_was_granted(paths: list[Path]) -> None:
    graphs = CohortGraphs(paths)
    assert graphs[0] is graphs[0]
    one = graphs[0].embeddings.nbytes
    streaming = CohortGraphs(paths, cache_bytes=one)
    assert [streaming[i] is streaming[i] for i in range(3)] == [True, False, False]


def test_the_card_of_a_head_tells_encoder_pixel_size_and_cohort(tmp_path: Path, paths: list[Path]) -> None:
    table = tmp_path / "cohort.csv"
    table.write_text(
        "path,label\n" + "".join(f"{path.name},{label}\n" for path, label in zip(paths, "xyx", strict=True))
    )
    cohort = Cohort.read(table)
    graphs = CohortGraphs.of_cohort(cohort, tmp_path)
    card = graphs.head_card(cohort)
    assert card["encoder"] == {**CARD, "mpp": 0.5, "tile_px": 224}
    assert card["cohort_fingerprint"] == cohort.fingerprint(["sha-0", "sha-1", "sha-2"])
    assert card["slides"] == sorted(slide_marks(["sha-0", "sha-1", "sha-2"]))
    assert (card["datum"], graphs.head_card(cohort, "group")["datum"]) == ("slide", "group")
    assert str(tmp_path) not in str(card)


@pytest.mark.parametrize(
    ("card", "text"),
    [
        (
            {"name": "uni"},
            r"one encoder; a\.svs\.tokens\.zarr and odd\.svs\.tokens\.zarr differ in name: 'toy' and 'uni'",
        ),
        ({"weights_sha256": "cd34"}, "differ in weights_sha256: 'ab12' and 'cd34'"),
        ({"n_dims": 11}, "differ in n_dims: 7 and 11"),
        ({"stain_normalize": "macenko"}, "differ in stain_normalize: None and 'macenko'"),
    ],
)
def test_stores_of_different_encoders_are_refused(
    tmp_path: Path, paths: list[Path], card: dict[str, Any], text: str
) -> None:
    with pytest.raises(MismatchError, match=text):
        CohortGraphs([*paths, store(tmp_path / "odd.svs.tokens.zarr", **card)])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tile_px": 256}, "one size; .* have 224 and 256 px"),
        ({"slide_mpp": 0.5}, "one pixel size of tiles; .* have 0.5 and 1 µm"),
        ({"stride": 224}, "one distance between tokens; .* have 112 and 56 µm"),
    ],
)
def test_stores_of_different_lengths_are_refused(
    tmp_path: Path, paths: list[Path], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(MismatchError, match=text):
        CohortGraphs([*paths, store(tmp_path / "odd.svs.tokens.zarr", replace(GEOMETRY, **changes))])


def test_scanners_whose_tiles_are_rounded_differently_go_together(tmp_path: Path, paths: list[Path]) -> None:
    near = store(tmp_path / "near.svs.tokens.zarr", replace(GEOMETRY, slide_mpp=0.2528, tile=443, stride=443))
    assert len(CohortGraphs([*paths, near])) == 4


def test_stores_that_are_missing_or_unfinished_are_refused(tmp_path: Path, paths: list[Path]) -> None:
    with pytest.raises(MissingFileError, match=r"no token grid d\.svs\.tokens\.zarr in .* `prospect embed`"):
        CohortGraphs([*paths, tmp_path / "d.svs.tokens.zarr"])
    with pytest.raises(InvalidInputError, match=r"half\.svs\.tokens\.zarr must be finished; 14 tokens are pending"):
        CohortGraphs([*paths, store(tmp_path / "half.svs.tokens.zarr", finish=False)])
    with pytest.raises(InvalidInputError, match="at least one token grid"):
        CohortGraphs([])


def test_mixed_scanners_and_stains_are_told_from_what_the_stores_say(tmp_path: Path) -> None:
    assert CohortGraphs([store(tmp_path / "plain.svs.tokens.zarr")]).mixtures(["tumour"]) == ()
    labels = ["tumour"] * 5 + ["normal"] * 5
    made = []
    for number, label in enumerate(labels):
        strengths = [2.0 + number / 100, 3.0 if label == "tumour" else 1.0]
        stain = {"vectors": [[0.6, 0.7, 0.4], [0.2, 0.8, 0.6]], "strengths": strengths, "light": [250.0, 249.0, 248.0]}
        scanner = "Aperio" if label == "tumour" else "Hamamatsu"
        path = tmp_path / f"{number}.svs.tokens.zarr"
        made.append(store(path, seed=number, scanner=scanner, stain=stain, stain_normalize="macenko"))
    graphs = CohortGraphs(made)
    assert [sentence.split(":")[0] for sentence in graphs.mixtures()] == ["Scanners are mixed", "Stains are mixed"]
    told = graphs.mixtures(labels, ["train", "test"] * 5, [f"patient {i}" for i in range(10)])
    assert [sentence.split(":")[0] for sentence in told] == [
        "Scanners are mixed",
        "The scanner goes along with the label",
        "Stains are mixed",
        "The stain goes along with the label",
    ]
    assert "normalized (macenko)" in told[2]
    with pytest.raises(InvalidInputError, match="label must hold one entry for each of 10 slides; got 2"):
        graphs.mixtures(["tumour", "normal"])
