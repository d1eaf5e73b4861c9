"""Patch tokens through every command: embed with a fitted projection, fit, info, map, evaluate."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from small_study import Study, make_cohort

from napari_prospector.cli import main
from napari_prospector.core.head import load_head
from napari_prospector.tokens.encoders.projection import Projection
from napari_prospector.tokens.store import TokenGrid

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

# test_resnet: tiles of 160 px, a last map of 5 x 5; the slides have 3 x 5 squares of 224 px
PATCH_PX, ROWS, COLS, N_DIMS = 32, 21, 35, 7
Run = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class PatchStudy(Study):
    """A cohort of patch tokens."""

    @property
    def weights(self) -> Path:
        return self.folder / "resnet.safetensors"

    @property
    def encoder(self) -> list[str]:
        words = ["--encoder", "test_resnet", "--weights", str(self.weights), "--device", "cpu"]
        return [*words, "--tokens", "patch", "--overlap", "64", "--project", f"pca:{N_DIMS}"]


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> PatchStudy:
    from safetensors.torch import save_file

    made = PatchStudy(tmp_path_factory.mktemp("patches") / "study")
    make_cohort(made.folder)
    torch.manual_seed(5)
    save_file(timm.create_model("test_resnet").state_dict(), made.weights)
    words = [str(made.table), "-o", str(made.tokens), "--tissue", "all", "--json", *made.encoder]
    assert main(["embed", *words]) == 0
    words = ["--n-concepts", "3", "--radius", "1", "--kernel", "fold-change", "--folds", "2", "--json"]
    assert main(["fit", str(made.table), "-o", str(made.head), *words]) == 0
    return made


def test_the_store_holds_patches_and_says_so(patches: PatchStudy, prospect: Run) -> None:
    with TokenGrid.open(patches.grid(0)) as grid:
        assert (grid.geometry.shape, grid.n_dims, grid.embeddings.dtype) == ((ROWS, COLS), N_DIMS, np.float16)
        assert grid.card["projection"]["sha256"] == Projection.load(patches.tokens / "projection.safetensors").sha256
    code, out, _ = prospect("info", patches.grid(0))
    assert code == 0
    assert f"{ROWS} × {COLS} tokens, {N_DIMS} dims" in out
    assert "tiles of 160 px at 0.5 µm/px" in out
    assert f"patch tokens with an overlap of 64 px projected by pca {grid.card['projection']['sha256'][:8]}" in out
    assert "16 µm apart" in out


def test_the_axes_are_fitted_on_training_slides_only(patches: PatchStudy, tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    lines = patches.table.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if ",test," not in line]
    assert 1 < len(kept) < len(lines)
    for name in ("slides", "truth"):
        (tmp_path / name).symlink_to(patches.folder / name)
    table.write_text("\n".join(kept) + "\n", encoding="utf-8")
    out = tmp_path / "tokens"
    assert main(["embed", str(table), "-o", str(out), "--tissue", "all", "--json", *patches.encoder]) == 0
    alone, with_test = (Projection.load(folder / "projection.safetensors") for folder in (out, patches.tokens))
    assert alone.sha256 == with_test.sha256


def test_slides_that_are_added_later_go_through_the_same_projection(patches: PatchStudy, tmp_path: Path) -> None:
    shutil.copy(patches.tokens / "projection.safetensors", tmp_path)
    slide = patches.slide(3)
    assert main(["embed", str(slide), "-o", str(tmp_path), "--tissue", "all", "--json", *patches.encoder]) == 0
    with TokenGrid.open(tmp_path / patches.grid(3).name) as later, TokenGrid.open(patches.grid(3)) as first:
        np.testing.assert_array_equal(later.embeddings[:], first.embeddings[:])


def test_another_projection_in_the_folder_is_refused(patches: PatchStudy, prospect: Run) -> None:
    words = [word.replace(f"pca:{N_DIMS}", "pca:5") for word in patches.encoder]
    code, _, err = prospect("embed", patches.table, "-o", patches.tokens, *words)
    assert code == 1
    assert "holds pca:7; --project says pca:5" in " ".join(err.split())


def test_a_map_is_as_fine_as_the_patches_and_needs_no_file_but_the_head(
    patches: PatchStudy, tmp_path: Path, prospect_json: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    assert set(load_head(patches.head).attached_) == {"projection.axes", "projection.mean"}
    words = ["-o", tmp_path, "--weights", patches.weights, "--device", "cpu", "--map", "evidence"]
    code, found = prospect_json("map", patches.head, patches.slide(8), *words)
    assert (code, found["errors"]) == (0, {})
    with tifffile.TiffFile(tmp_path / "slide 8.evidence.ome.tif") as tiff:
        assert tiff.pages[0].shape == (ROWS, COLS)
        assert 'PhysicalSizeX="16.0"' in (tiff.ome_metadata or "")
    again, stored = (TokenGrid.open(folder / patches.grid(8).name) for folder in (tmp_path / "tokens", patches.tokens))
    finished = again.mask
    assert finished.any()
    np.testing.assert_array_equal(again.embeddings[:][finished], stored.embeddings[:][finished])


def test_evaluation_counts_patches(patches: PatchStudy, tmp_path: Path, prospect: Run) -> None:
    words = ["--grids", patches.tokens, "--baseline", "none", "--json"]
    code, _, err = prospect("evaluate", patches.head, patches.table, "-o", tmp_path, *words)
    assert code == 0, err


def test_a_head_of_patches_refuses_tiles(patches: PatchStudy, study: Study, tmp_path: Path, prospect: Run) -> None:
    words = ["--encoder", "test_resnet", "--weights", str(patches.weights), "--device", "cpu", "--project", "random:7"]
    code, _, err = prospect("embed", patches.slide(8), "-o", tmp_path, "--tissue", "all", *words)
    assert code == 0, err
    code, _, err = prospect("map", patches.head, tmp_path / patches.grid(8).name, "-o", tmp_path / "maps")
    assert code == 1
    assert "fitted on patch tokens with an overlap of 64 px projected by pca" in " ".join(err.split())
    assert "the grid holds tile tokens projected by random of seed 0 to 7 dims" in " ".join(err.split())


def test_grids_of_patches_are_not_fitted_as_tiles(patches: PatchStudy, tmp_path: Path, prospect: Run) -> None:
    words = ["--grids", patches.tokens, "--tokens", "tile"]
    code, _, err = prospect("fit", patches.table, "-o", tmp_path / "h.prospector", *words)
    assert code == 1
    assert "--tokens says 'tile'; the token grids" in " ".join(err.split())


def test_a_projection_that_is_gone_is_asked_for(patches: PatchStudy, tmp_path: Path, prospect: Run) -> None:
    shutil.copytree(patches.tokens, tmp_path / "tokens")
    (tmp_path / "tokens" / "projection.safetensors").unlink()
    words = ["--grids", tmp_path / "tokens", "--n-concepts", "3", "--radius", "1", "--kernel", "fold-change"]
    code, _, err = prospect("fit", patches.table, "-o", tmp_path / "h.prospector", *words)
    assert code == 1
    assert "no projection at" in err


def test_patches_of_the_built_in_encoder_are_refused_before_any_work(
    study: Study, tmp_path: Path, prospect: Run
) -> None:
    code, _, err = prospect("embed", study.slide(0), "-o", tmp_path, "--tokens", "patch")
    assert code == 1
    assert "'stain-texture' gives no patch tokens" in err


def test_workers_get_the_projection_that_lies_in_the_head(
    patches: PatchStudy, tmp_path: Path, prospect_json: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    words = ["-o", tmp_path, "--weights", patches.weights, "--device", "cpu", "--workers", "2"]
    code, found = prospect_json("map", patches.head, patches.slide(8), *words)
    assert (code, found["errors"]) == (0, {})
    again, stored = (TokenGrid.open(folder / patches.grid(8).name) for folder in (tmp_path / "tokens", patches.tokens))
    assert again.card["projection"] == stored.card["projection"]
    np.testing.assert_array_equal(again.embeddings[:][again.mask], stored.embeddings[:][again.mask])
