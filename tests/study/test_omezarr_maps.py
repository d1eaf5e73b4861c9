"""Maps as OME-Zarr: exact where they lie and what they hold, as NGFF 0.5 wants them, whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.core.colors import concept_colors
from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MismatchError,
    MissingFileError,
    StorageError,
    UnreadFormatError,
)
from napari_prospector.study.map_file import ConceptMap, MapFile, Origin, Place, ScoreMap
from napari_prospector.study.omezarr_maps import (
    MAP_ENDING,
    is_map_folder,
    map_folder_origin,
    read_omezarr,
    write_omezarr,
)
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.ngff import find_image
from napari_prospector.tokens.slides import open_slide

NAMES = ("lymphocytes", 'a "quoted" <b>name</b>\n', "größer — 细胞", "")
# 0.25 µm per level-0 pixel, tiles of 448 of them
GEOMETRY = GridGeometry(rows=521, cols=787, tile=448, stride=448, origin=(13, 29), slide_mpp=0.25, tile_px=224)


def drawn(geometry: GridGeometry, seed: int = 0) -> MapFile:
    """Return a map and concepts of random values, with glass and concepts that do not occur."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(NAMES), geometry.shape).astype(np.uint8)
    scores = np.where(labels == 0, np.nan, rng.normal(size=geometry.shape)).astype(np.float32)
    place = Place.of_grid(geometry)
    origin = Origin("case7.svs", "tumour", "breast", "uni", "abc123", geometry)
    return MapFile(ScoreMap(scores, place, "evidence", 2.5), ConceptMap(labels, place, NAMES), origin)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map, for reading only."""
    return write_omezarr(tmp_path_factory.mktemp("maps") / f"case7{MAP_ENDING}", drawn(GEOMETRY))


def words(folder: Path) -> Any:
    return json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"]


def transforms(folder: Path) -> Iterator[tuple[str, list[float], list[float]]]:
    for level in words(folder)["ome"]["multiscales"][0]["datasets"]:
        scale, translation = level["coordinateTransformations"]
        yield level["path"], scale["scale"], translation["translation"]


def equal(one: MapFile, other: MapFile) -> None:
    """Check that two files hold the same, down to the types of the arrays."""
    assert one.origin == other.origin
    for own, its in ((one.scores, other.scores), (one.concepts, other.concepts)):
        assert (own is None) == (its is None)
        for name, value in vars(own).items() if own else ():
            np.testing.assert_equal(vars(its)[name], value)
            assert getattr(vars(its)[name], "dtype", None) == getattr(value, "dtype", None)


def test_what_is_written_is_read_back_exactly(written: Path) -> None:
    equal(drawn(GEOMETRY), read_omezarr(written))
    assert is_map_folder(written)
    assert map_folder_origin(written) == drawn(GEOMETRY).origin


@given(
    st.builds(
        GridGeometry,
        rows=st.integers(1, 7),
        cols=st.integers(1, 11),
        tile=st.integers(1, 2000),
        stride=st.integers(1, 2000),
        origin=st.tuples(st.integers(-9999, 99999), st.integers(-9999, 99999)),
        slide_mpp=st.floats(0.01, 40, exclude_min=True),
        tile_px=st.integers(0, 512),
    )
)
def test_any_grid_is_placed_to_the_last_bit(geometry: GridGeometry) -> None:
    path = Path(os.environ["PROSPECT_TEST_FOLDER"]) / f"any{MAP_ENDING}"
    write_omezarr(path, drawn(geometry))
    expected = geometry.ngff()["coordinateTransformations"]
    for folder in (path, path / "labels" / "concepts"):
        multiscale = words(folder)["ome"]["multiscales"][0]
        assert multiscale["axes"] == geometry.ngff()["axes"]
        assert multiscale["datasets"][0]["coordinateTransformations"] == expected
    equal(drawn(geometry), read_omezarr(path))


@pytest.fixture(autouse=True, scope="module")
def _folder_of_examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for all examples of hypothesis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROSPECT_TEST_FOLDER", str(tmp_path_factory.mktemp("examples")))
        yield


@given(st.lists(st.text(), min_size=1, max_size=5), st.text(), st.text())
def test_names_of_any_letters_come_back(names: list[str], target: str, head: str) -> None:
    path = Path(os.environ["PROSPECT_TEST_FOLDER"]) / f"names{MAP_ENDING}"
    concepts = ConceptMap(np.ones((2, 3), np.uint8), Place((1, 1), (0, 0)), names)
    content = MapFile(None, concepts, Origin(target=target, head=head))
    write_omezarr(path, content)
    equal(content, read_omezarr(path))


def test_names_that_are_no_unicode_do_not_break_the_file(tmp_path: Path) -> None:
    concepts = ConceptMap(np.ones((2, 3), np.uint8), Place((1, 1), (0, 0)), ["half \ud800 a letter"])
    path = write_omezarr(tmp_path / f"a{MAP_ENDING}", MapFile(None, concepts))
    assert (path / "zarr.json").read_bytes().decode("utf-8")
    found = read_omezarr(path).concepts
    assert found is not None
    assert found.names == ("half \ud800 a letter",)


def test_zarr_alone_finds_the_arrays_and_levels_down_to_256_cells(written: Path) -> None:
    shown = drawn(GEOMETRY)
    assert shown.scores is not None
    assert shown.concepts is not None
    for folder, cells in (("", shown.scores.values), ("labels/concepts/", shown.concepts.labels)):
        group = zarr.open_group(str(written), mode="r", zarr_format=3)
        np.testing.assert_array_equal(group[f"{folder}0"][:], cells)
        assert [group[f"{folder}{level}"].shape for level in range(3)] == [(521, 787), (261, 394), (131, 197)]
        assert f"{folder}3" not in group
        assert all(group[f"{folder}{level}"].dtype == cells.dtype for level in range(3))


def test_all_levels_begin_at_one_corner_and_their_cells_double(written: Path) -> None:
    corner = [(first + 224 - 0.5) * 0.25 - 224 * 0.25 for first in GEOMETRY.origin]
    for folder in (written, written / "labels" / "concepts"):
        for path, scale, translation in transforms(folder):
            assert scale == [112.0 * 2 ** int(path)] * 2
            assert [start - step / 2 for start, step in zip(translation, scale, strict=True)] == corner
    image = find_image(written)
    assert image.units_um == (1.0, 1.0)
    assert image.scales[1] == (224.0, 224.0)
    assert image.offsets[0] == GEOMETRY.translate_um


def test_neither_a_map_nor_its_concepts_are_taken_for_a_slide(written: Path) -> None:
    with pytest.raises(UnreadFormatError, match="must hold 8-bit RGB or grey pixels"):
        open_slide(written)
    with pytest.raises(UnreadFormatError, match="concepts must hold a picture; it holds labels"):
        open_slide(written / "labels" / "concepts")


def test_the_metadata_is_what_ngff_0_5_asks_for(written: Path) -> None:
    """https://ngff.openmicroscopy.org/0.5: sections multiscales, omero, labels."""
    for folder in (written, written / "labels" / "concepts"):
        node = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        assert (node["zarr_format"], node["node_type"]) == (3, "group")
        assert node["attributes"]["ome"]["version"] == "0.5"
        (multiscale,) = node["attributes"]["ome"]["multiscales"]
        assert [axis["name"] for axis in multiscale["axes"]] == ["y", "x"]
        assert all((axis["type"], axis["unit"]) == ("space", "micrometer") for axis in multiscale["axes"])
        assert multiscale["type"]
        assert multiscale["metadata"]["description"]
        assert multiscale["name"]
        sizes = []
        for level in multiscale["datasets"]:
            assert [step["type"] for step in level["coordinateTransformations"]] == ["scale", "translation"]
            array = json.loads((folder / level["path"] / "zarr.json").read_text(encoding="utf-8"))
            assert array["node_type"] == "array"
            assert array["dimension_names"] == ["y", "x"]
            sizes.append(array["shape"])
        assert sizes == sorted(sizes, reverse=True)
    assert words(written / "labels")["ome"] == {"version": "0.5", "labels": ["concepts"]}
    (channel,) = words(written)["ome"]["omero"]["channels"]
    assert (channel["window"]["start"], channel["window"]["end"]) == (-2.5, 2.5)
    assert channel["window"]["min"] <= -2.5 < 2.5 <= channel["window"]["max"]
    assert len(channel["color"]) == 6
    about = words(written / "labels" / "concepts")["ome"]["image-label"]
    assert [one["label-value"] for one in about["colors"]] == [1, 2, 3, 4]
    assert about["source"] == {"image": "../../"}
    assert [one["concept"] for one in about["properties"]] == list(NAMES)
    for one, color in zip(about["colors"], concept_colors(4), strict=True):
        assert one["rgba"] == [*np.rint(color * 255).astype(int).tolist(), 255]


def test_a_file_tells_no_path_and_no_time_and_is_the_same_each_time(tmp_path: Path) -> None:
    shown = drawn(GEOMETRY)
    shown = replace(shown, origin=replace(shown.origin, slide="/home/me/Miller, John/case7.svs", head=r"C:\h\breast"))
    assert (shown.origin.slide, shown.origin.head) == ("case7.svs", "breast")
    paths = [write_omezarr(tmp_path / name / f"case7{MAP_ENDING}", shown) for name in ("a", "b")]
    contents = [{f.relative_to(path): f.read_bytes() for f in path.rglob("*") if f.is_file()} for path in paths]
    assert contents[0] == contents[1]
    assert not any(b"Miller" in text or str(tmp_path).encode() in text for text in contents[0].values())


def test_scores_alone_and_concepts_alone_are_files_too(tmp_path: Path) -> None:
    both = drawn(GEOMETRY)
    for name, part in (("s", replace(both, concepts=None)), ("c", replace(both, scores=None))):
        path = write_omezarr(tmp_path / f"{name}{MAP_ENDING}", part)
        equal(part, read_omezarr(path))
        assert ("image-label" in words(path)["ome"]) == (name == "c")
        assert not (path / "labels").exists()


def test_pixels_and_other_units_come_back(tmp_path: Path) -> None:
    place = Place((3.0, 5.0), (-0.5, 7.25), (None, "millimeter"))
    path = write_omezarr(tmp_path / f"a{MAP_ENDING}", MapFile(ScoreMap(np.zeros((2, 3)), place, "decision", 0)))
    found = read_omezarr(path).scores
    assert found is not None
    assert (found.place, found.limit) == (place, 0.0)
    assert words(path)["ome"]["omero"]["channels"][0]["window"]["end"] > 0


def test_our_own_map_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / f"case7{MAP_ENDING}"
    write_omezarr(path, drawn(GEOMETRY))
    small = drawn(replace(GEOMETRY, rows=3, cols=5))
    write_omezarr(path, small)
    equal(small, read_omezarr(path))
    assert not (path / "1").exists()
    assert os.listdir(tmp_path) == [path.name]


def test_what_others_wrote_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / f"case7{MAP_ENDING}"
    zarr.create_group(str(path), attributes={"mine": 1})
    with pytest.raises(StorageError, match="was not written by napari-prospector"):
        write_omezarr(path, drawn(GEOMETRY))
    assert words(path) == {"mine": 1}
    file = tmp_path / f"file{MAP_ENDING}"
    file.write_text("notes")
    with pytest.raises(StorageError, match="was not written by napari-prospector"):
        write_omezarr(file, drawn(GEOMETRY))
    assert file.read_text() == "notes"


@pytest.mark.parametrize("place", ["labels/nuclei", "notes.txt"])
def test_what_others_put_into_our_folder_is_not_lost(tmp_path: Path, place: str) -> None:
    path = write_omezarr(tmp_path / f"case7{MAP_ENDING}", drawn(replace(GEOMETRY, rows=3, cols=5)))
    (path / place).mkdir()
    with pytest.raises(StorageError, match=f"{place} was not written by napari-prospector"):
        write_omezarr(path, drawn(GEOMETRY))
    assert (path / place).exists()


@pytest.mark.parametrize("name", ["case7.zarr", MAP_ENDING, "case7.ome.zarr"])
def test_the_name_must_tell_what_it_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match=r"must be named NAME\.prospect\.ome\.zarr"):
        write_omezarr(tmp_path / name, drawn(GEOMETRY))


@pytest.mark.parametrize("there", [False, True])
def test_on_a_full_disk_nothing_new_is_left_and_nothing_old_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    path, old = tmp_path / f"case7{MAP_ENDING}", drawn(replace(GEOMETRY, rows=3, cols=5))
    if there:
        write_omezarr(path, old)
    n_files = 0

    def full(*_: Any) -> None:
        nonlocal n_files
        n_files += 1
        if n_files >= 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device. Free space there"):
        write_omezarr(path, drawn(GEOMETRY))
    assert os.listdir(tmp_path) == [path.name] * there
    if there:
        equal(old, read_omezarr(path))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="must be writable"):
        write_omezarr(tmp_path / "taken" / f"case7{MAP_ENDING}", drawn(GEOMETRY))


def test_files_of_others_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="There is no"):
        read_omezarr(tmp_path / f"nowhere{MAP_ENDING}")
    for name in ("empty", "other"):
        (tmp_path / name).mkdir()
    zarr.create_group(str(tmp_path / "other"), attributes={"ome": {"version": "0.5", "multiscales": []}})
    for name in ("empty", "other"):
        assert not is_map_folder(tmp_path / name)
        with pytest.raises(FileFormatError, match=f"{name} must be a map that napari-prospector wrote"):
            read_omezarr(tmp_path / name)
    (tmp_path / "empty" / "zarr.json").write_text("{")
    assert not is_map_folder(tmp_path / "empty")
    with pytest.raises(FileFormatError, match="must be JSON"):
        read_omezarr(tmp_path / "empty")


def changed(folder: Path, **changes: Any) -> None:
    file = folder / "zarr.json"
    node = json.loads(file.read_text(encoding="utf-8"))
    node["attributes"]["napari_prospector"] |= changes
    file.write_text(json.dumps(node), encoding="utf-8")


def test_a_newer_format_is_refused(written: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(written, tmp_path / written.name))
    changed(path, format=2, version="9.9")
    with pytest.raises(FileFormatError, match=r"format 2, written by napari-prospector 9\.9.*Update"):
        read_omezarr(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "0" / "c" / "0" / "0").unlink(),
        lambda path: (path / "0" / "c" / "0" / "0").write_bytes(b"x" * 99),
        lambda path: shutil.rmtree(path / "0"),
        lambda path: shutil.rmtree(path / "labels"),
        lambda path: (path / "labels" / "concepts" / "zarr.json").write_text("{}"),
        lambda path: changed(path, geometry={"rows": 1}),
        lambda path: changed(path, limit="NaN"),
        lambda path: changed(path, sha256=None),
        lambda path: changed(path, has_scores=False),
    ],
    ids=range(9),
)
def test_a_damaged_map_is_refused(written: Path, tmp_path: Path, damage: Any) -> None:
    path = Path(shutil.copytree(written, tmp_path / written.name))
    damage(path)
    with pytest.raises(FileFormatError, match="is damaged"):
        read_omezarr(path)


def test_labels_whose_names_are_out_of_order_are_refused(written: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(written, tmp_path / written.name))
    file = path / "labels" / "concepts" / "zarr.json"
    node = json.loads(file.read_text(encoding="utf-8"))
    node["attributes"]["ome"]["image-label"]["properties"].reverse()
    file.write_text(json.dumps(node), encoding="utf-8")
    with pytest.raises(FileFormatError, match="the properties of its labels must be those of labels 1 to 4, in order"):
        read_omezarr(path)


PLACE = Place((1, 1), (0, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Place((1, 0), (0, 0)), r"scale must be two numbers \(row, col\), positive and finite; got \(1, 0\)"),
        (lambda: Place((1, 1), (0, np.inf)), "translate must be two numbers"),
        (lambda: ScoreMap(np.zeros(3), PLACE, "e", 1), r"scores must have shape \(rows, cols\); got \(3,\)"),
        (lambda: ScoreMap(np.full((2, 3), np.inf), PLACE, "e", 1), "scores must be numbers"),
        (lambda: ScoreMap(np.zeros((2, 3)), PLACE, "e", -1), "limit must be a score of at least 0; got -1"),
        (lambda: ConceptMap(np.full((2, 3), -1), PLACE, ["a"]), "labels must be whole numbers"),
        (MapFile, "must hold scores or concepts"),
    ],
)
def test_what_cannot_be_a_map_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_every_label_needs_a_name_and_a_colour() -> None:
    with pytest.raises(MismatchError, match="labels up to 2 and 1 names"):
        ConceptMap(np.full((2, 3), 2), PLACE, ["a"])
    with pytest.raises(MismatchError, match=r"shape \(1, 4\), one per name; got \(2, 3\)"):
        ConceptMap(np.ones((2, 3), int), PLACE, ["a"], np.zeros((2, 3), np.uint8))
