"""Features of other tools become token grids: every vector at its place, every gap asked for, nothing private kept."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import foreign_stores as made
import imagecodecs
import numpy as np
import pytest

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MismatchError,
    MissingExtraError,
    MissingFileError,
    PixelSizeError,
    ProspectorWarning,
    StorageError,
)
from napari_prospector.tokens.foreign import import_features
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.store import TokenGrid

MAKERS = {
    "TRIDENT": lambda folder: made.trident(folder / "case7.h5"),
    "CLAM": lambda folder: made.clam(folder, with_patches=True),
    "STAMP": lambda folder: made.stamp(folder / "case7.h5"),
    "STAMP 1": lambda folder: made.old_stamp(folder / "case7.h5"),
    "slide2vec pt": lambda folder: made.slide2vec(folder, "pt"),
    "slide2vec npz": lambda folder: made.slide2vec(folder, "npz", shuffled=True),
    "raw2features 2": lambda folder: made.raw2features(folder / "case7.embeddings.zarr"),
    "raw2features 3": lambda folder: made.raw2features(folder / "case7.embeddings.zarr", zarr_format=3),
    "LazySlide": lambda folder: made.lazyslide(folder / "case7.zarr"),
}


def check_every_vector_at_its_place(grid: TokenGrid) -> None:
    geometry = grid.geometry
    assert (geometry.tile, geometry.stride, geometry.tile_px) == (made.TILE, made.TILE, made.TILE_PX)
    assert geometry.slide_mpp == made.MPP
    assert grid.is_complete
    assert grid.counts()["done"] == len(made.CELLS)
    found = np.asarray(grid.embeddings[:])
    for vector, corner in zip(made.features(), made.CORNERS, strict=True):
        token = geometry.token_at(corner[0] + 200, corner[1] + 300)
        assert token is not None
        assert geometry.box(*token)[:2] == tuple(corner)
        np.testing.assert_array_equal(found[token], vector)


@pytest.mark.parametrize("maker", MAKERS)
def test_every_vector_comes_to_its_place_on_the_slide(maker, tmp_path):
    grid = import_features(MAKERS[maker](tmp_path), tmp_path / "out.tokens.zarr", mpp=made.MPP)
    if maker == "STAMP 1":  # it knows tiles of 256 µm alone
        assert grid.geometry.tile == 1024
        assert grid.counts()["done"] == len(made.CELLS)
    else:
        check_every_vector_at_its_place(grid)


@pytest.mark.parametrize("maker", ["slide2vec pt", "raw2features 2", "LazySlide"])
def test_a_pixel_size_that_the_file_states_need_not_be_passed(maker, tmp_path):
    check_every_vector_at_its_place(import_features(MAKERS[maker](tmp_path), tmp_path / "out.tokens.zarr"))


@pytest.mark.parametrize("maker", ["TRIDENT", "CLAM"])
def test_a_pixel_size_that_nobody_states_is_asked_for(maker, tmp_path):
    with pytest.raises(PixelSizeError, match=r"states no pixel size; .* Pass mpp \(--mpp\), or the slide"):
        import_features(MAKERS[maker](tmp_path), tmp_path / "out.tokens.zarr")
    assert not (tmp_path / "out.tokens.zarr").exists()


@pytest.mark.parametrize("mpp", [0, 1000, float("nan")])
def test_an_absurd_pixel_size_is_refused(mpp, tmp_path):
    with pytest.raises(PixelSizeError, match=r"must be 0\.05-20 µm"):
        import_features(MAKERS["TRIDENT"](tmp_path), tmp_path / "out.tokens.zarr", mpp=mpp)


def test_places_in_um_need_no_pixel_size_and_lie_at_the_same_um(tmp_path):
    grid = import_features(MAKERS["STAMP"](tmp_path), tmp_path / "out.tokens.zarr")
    same = import_features(tmp_path / "case7.h5", tmp_path / "same.tokens.zarr", mpp=made.MPP)
    np.testing.assert_allclose(grid.geometry.scale_um, same.geometry.scale_um)
    # pixel centres: half of a pixel of either grid
    half = (grid.geometry.slide_mpp - made.MPP) / 2
    np.testing.assert_allclose(np.array(grid.geometry.translate_um) + half, same.geometry.translate_um, atol=0.26)


@pytest.mark.parametrize(
    ("maker", "name", "tool"),
    [("TRIDENT", "uni_v1", "TRIDENT"), ("STAMP", "uni2", "STAMP"), ("slide2vec npz", "prost40m", "slide2vec")],
)
def test_the_card_says_encoder_and_tool(maker, name, tool, tmp_path):
    grid = import_features(MAKERS[maker](tmp_path), tmp_path / "out.tokens.zarr", mpp=made.MPP)
    assert (grid.card["name"], grid.card["source"]) == (name, f"features of {tool}")
    assert grid.card["loader"] == "foreign"
    assert grid.attrs["slide_name"] == "case7"


@pytest.mark.parametrize("maker", MAKERS)
def test_no_folder_and_no_comment_of_the_slide_comes_along(maker, tmp_path):
    folder = tmp_path / "patient Jones"
    folder.mkdir()
    import_features(MAKERS[maker](folder), tmp_path / "out.tokens.zarr", mpp=made.MPP)
    written = b"".join(path.read_bytes() for path in (tmp_path / "out.tokens.zarr").rglob("*") if path.is_file())
    assert b"secret" not in written
    assert b"Jones" not in written


def test_the_same_features_make_the_same_store(tmp_path):
    first, second = (
        import_features(MAKERS["TRIDENT"](tmp_path), tmp_path / name, mpp=0.25) for name in ("a.zarr", "b.zarr")
    )
    assert first.attrs == second.attrs


def test_of_several_encoders_one_must_be_named(tmp_path):
    path = made.raw2features(tmp_path / "case7.embeddings.zarr", ("uni", "conch"))
    with pytest.raises(InvalidInputError, match=r"several sets .* mpp0\.5_px224/conch, mpp0\.5_px224/uni"):
        import_features(path, tmp_path / "out.tokens.zarr")
    with pytest.raises(InvalidInputError, match="not just one set for 'virchow'"):
        import_features(path, tmp_path / "out.tokens.zarr", encoder="virchow")
    grid = import_features(path, tmp_path / "out.tokens.zarr", encoder="conch")
    assert grid.card["name"] == "conch"
    assert np.nanmin(np.asarray(grid.embeddings[:])) == 64


def test_a_table_of_lazyslide_is_named_by_encoder_or_table(tmp_path):
    path = made.lazyslide(tmp_path / "case7.zarr", ("uni", "conch"))
    for number, name in enumerate(("conch", "uni_tiles")):
        grid = import_features(path, tmp_path / f"{number}.tokens.zarr", encoder=name)
        assert grid.card["name"] == name.removesuffix("_tiles")


def test_clam_without_its_patches_asks_for_the_width_of_a_tile(tmp_path):
    path = made.clam(tmp_path, with_patches=False)
    with pytest.raises(InvalidInputError, match=r"does not say how wide a tile is.*--tile"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)
    grid = import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25, tile=448)
    assert (grid.geometry.tile, grid.geometry.stride) == (448, 448)


def test_pieces_of_tissue_with_grids_of_their_own_are_moved_and_it_is_told(tmp_path):
    coords = made.XY.copy()
    coords[-1] += (50, -100)
    path = made.trident(tmp_path / "case7.h5", coords)
    with pytest.warns(ProspectorWarning, match=r"1 of 5 tiles lie off .* by up to 100 level-0 px \(25 µm, 22 %"):
        grid = import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)
    assert grid.attrs["reading"] == {
        "imported_from": "TRIDENT",
        "most_shift_px": 100.0,
        "n_moved": 1,
        "n_left_out": 0,
    }


@pytest.fixture
def slide_file(tmp_path: Path) -> Path:
    path = tmp_path / "case7.png"
    path.write_bytes(imagecodecs.png_encode(np.full((3000, 2500, 3), 200, np.uint8)))
    return path


def test_with_the_slide_the_store_belongs_to_it(tmp_path, slide_file):
    with open_slide(slide_file, mpp=0.25) as slide:
        grid = import_features(MAKERS["TRIDENT"](tmp_path), tmp_path / "out.tokens.zarr", slide=slide)
        assert grid.attrs["slide_fingerprint"] == slide.fingerprint()
        assert grid.attrs["level0_shape"] == list(slide.shape)
        check_every_vector_at_its_place(grid)


def test_features_of_another_slide_are_refused(tmp_path, slide_file):
    path = made.trident(tmp_path / "case7.h5", made.XY * 3)
    with open_slide(slide_file, mpp=0.25) as slide, pytest.raises(MismatchError, match="tiles lie outside of its"):
        import_features(path, tmp_path / "out.tokens.zarr", slide=slide)


def change(path: Path, **entries: object) -> None:
    import h5py

    with h5py.File(path, "a") as file:
        for name, value in entries.items():
            del file[name]
            if value is not None:
                file[name] = value


def test_nan_features_are_refused_and_nothing_is_left(tmp_path):
    path = MAKERS["TRIDENT"](tmp_path)
    broken = made.features()
    broken[[1, 3], 2] = np.nan
    change(path, features=broken)
    with pytest.raises(FileFormatError, match=r"2 of 5 tiles have NaN or infinity \(rows 1, 3\)"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)
    assert not (tmp_path / "out.tokens.zarr").exists()


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"coords": None}, "must hold coordinates beside its features; it holds"),
        ({"features": None}, "not the one of coordinates alone"),
        ({"features": np.empty((0, 7), np.float32)}, "at least one tile"),
        ({"features": np.zeros((5, 7), np.int32)}, "got int32"),
        ({"features": np.zeros((3, 7), np.float32)}, "one place for each of 3 tiles"),
    ],
)
def test_an_h5_that_lacks_something_says_what(entries, problem, tmp_path):
    path = MAKERS["CLAM"](tmp_path)
    change(path, **entries)
    with pytest.raises(FileFormatError, match=problem):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)


def test_a_truncated_h5_is_damaged(tmp_path):
    path = MAKERS["TRIDENT"](tmp_path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(FileFormatError, match=r"case7\.h5 does not hold what its maker documents, or is damaged"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)


def test_stamp_of_an_unknown_unit_is_refused(tmp_path):
    import h5py

    path = made.old_stamp(tmp_path / "case7.h5")
    with h5py.File(path, "a") as file:
        file.attrs["tile_size"] = 512
    with pytest.raises(FileFormatError, match="must say its unit and tile size"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)


def test_slide2vec_without_coordinates_names_the_file_that_is_missing(tmp_path):
    path = MAKERS["slide2vec pt"](tmp_path)
    shutil.rmtree(tmp_path / "tiles")
    with pytest.raises(MissingFileError, match=r"no case7\.coordinates\.npz in \.\./tiles"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)


def test_a_pt_that_holds_code_is_not_opened(tmp_path):
    import torch

    path = MAKERS["slide2vec pt"](tmp_path)
    torch.save({"a": Path("x")}, path)
    with pytest.raises(FileFormatError, match="not opened for safety"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(FileFormatError, match="must hold one tensor of features; it holds a list"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)


def test_lazyslide_without_its_tiles_is_refused(tmp_path):
    path = MAKERS["LazySlide"](tmp_path)
    (path / "shapes" / "tiles" / "shapes.parquet").unlink()
    with pytest.raises(MissingFileError, match="the table of features needs them"):
        import_features(path, tmp_path / "out.tokens.zarr")


def test_a_store_without_features_of_tiles_says_so(tmp_path):
    path = made.lazyslide(tmp_path / "case7.zarr", ())
    with pytest.raises(FileFormatError, match="holds no features of tiles"):
        import_features(path, tmp_path / "out.tokens.zarr")


def test_what_no_tool_has_made_is_refused_with_the_list_of_those_known(tmp_path):
    path = tmp_path / "case7.csv"
    path.write_text("a,b\n")
    with pytest.raises(FileFormatError, match="of no tool that is known: TRIDENT, CLAM, STAMP"):
        import_features(path, tmp_path / "out.tokens.zarr")
    with pytest.raises(MissingFileError, match="no features at"):
        import_features(tmp_path / "none.h5", tmp_path / "out.tokens.zarr")


@pytest.mark.parametrize(("maker", "package"), [("TRIDENT", "h5py"), ("LazySlide", "pyarrow")])
def test_a_package_that_is_missing_is_named_with_its_extra(maker, package, tmp_path, monkeypatch):
    path = MAKERS[maker](tmp_path)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}, which is not installed.*napari-prospector\[features\]"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)


def test_a_store_that_is_there_is_kept_unless_overwriting_is_asked_for(tmp_path):
    path = MAKERS["TRIDENT"](tmp_path)
    import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)
    with pytest.raises(StorageError, match="exists already"):
        import_features(path, tmp_path / "out.tokens.zarr", mpp=0.25)
    import_features(path, tmp_path / "out.tokens.zarr", mpp=0.5, overwrite=True)


def test_raw2features_with_a_damaged_header_is_refused(tmp_path):
    path = MAKERS["raw2features 3"](tmp_path)
    metadata = path / "grids" / "mpp0.5_px224" / "zarr.json"
    said = json.loads(metadata.read_text())
    del said["attributes"]["raw2features"]["patching"]
    metadata.write_text(json.dumps(said))
    with pytest.raises(FileFormatError, match=r"does not hold what its maker documents.*patching"):
        import_features(path, tmp_path / "out.tokens.zarr")


def test_a_head_is_fitted_on_imported_features_and_maps_them(tmp_path):
    from napari_prospector import ProspectorHead
    from napari_prospector.study.cohort_graphs import CohortGraphs

    rng = np.random.default_rng(5)
    stores = []
    for number in range(8):
        path = made.trident(tmp_path / f"case{number}.h5")
        change(path, features=(rng.normal(size=(5, 7)) + 3 * (number % 2)).astype(np.float32))
        import_features(path, tmp_path / f"{number}.tokens.zarr", mpp=0.25)
        stores.append(tmp_path / f"{number}.tokens.zarr")
    graphs = CohortGraphs(stores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProspectorWarning)
        head = ProspectorHead(n_concepts=3, radius=1, n_folds=2).fit(graphs, ["normal", "tumour"] * 4)
    assert head.prospect(graphs[1]).mean() > head.prospect(graphs[0]).mean()
