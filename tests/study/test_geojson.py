"""GeoJSON as QuPath writes it: understood, kept, given back; and what is none is refused in a sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, StorageError
from napari_prospector.study import geojson
from napari_prospector.study.annotations import NOT_HERE, AnnotationClass, Annotations, Region
from napari_prospector.study.geojson import read_geojson, write_geojson

RING = [[0, 0], [70, 0], [70, 30], [0, 30], [0, 0]]  # 70 columns, 30 rows, closed
HOLE = [[10, 5], [10, 6], [12, 6], [12, 5], [10, 5]]
HOSTILE = [
    "<script>alert(1)</script>",
    "\"quotes\" 'and' \\ / \x00\x07",
    "line\nline\r\n\u2028",
    "🧫 Ödem",
    "\ud800 alone",
    "x" * 10_000,
    "__proto__",
    "=cmd|' /C calc'!A0",
    "../../etc/passwd",
]


def feature(**changes: Any) -> dict[str, Any]:
    whole = {
        "type": "Feature",
        "id": "0b0b3b4e-4a2c-4c8e-9b3a-1d2f3a4b5c6d",
        "geometry": {"type": "Polygon", "coordinates": [RING, HOLE]},
        "properties": {
            "objectType": "annotation",
            "name": "first",
            "classification": {"name": "Tumor", "color": [200, 0, 0]},
            "isLocked": True,
            "measurements": {"Area µm^2": 131.25, "Solidity": 1},
            "metadata": {"ANNOTATION_DESCRIPTION": "seen on Monday"},
        },
    }
    return whole | changes


def written(folder: Path, content: Any) -> Path:
    path = folder / "a.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", **members, "features": list(features)}


def plain(properties: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [RING]},
        "properties": properties,
    } | changes


def test_a_feature_of_qupath_is_a_region_with_row_and_col_in_their_places(tmp_path: Path) -> None:
    found = read_geojson(written(tmp_path, collection(feature())))
    region = found.regions[0]
    assert region.bounds == (0, 0, 30, 70)
    assert region.area_px == 30 * 70 - 2
    assert region.polygons[0][0].tolist() == [[0, 0], [0, 70], [30, 70], [30, 0]]
    assert (region.label, region.name, region.locked) == ("Tumor", "first", True)
    assert region.id == feature()["id"]
    assert found.classes == (AnnotationClass("Tumor", (200, 0, 0)),)
    assert found.notes == ()


def test_what_qupath_wrote_is_written_back_as_it_was(tmp_path: Path) -> None:
    """All members of its type adapters: planes, ellipses, measurements, children, derived classes, several pieces."""
    whole = collection(
        feature(),
        feature(
            id="2",
            geometry={
                "type": "MultiPolygon",
                "coordinates": [[RING, HOLE], [[[100.5, 7], [101.25, 7], [100, 9.1], [100.5, 7]]]],
                "plane": {"c": -1, "z": 3, "t": 0},
            },
            properties={
                "objectType": "annotation",
                "classification": {"names": ["Tumor", "Positive"], "color": [250, 62, 62]},
                "color": [1, 2, 3],
            },
        ),
        feature(
            id="3",
            geometry={"type": "MultiPolygon", "coordinates": [[RING]], "isEllipse": True},
            properties={"objectType": "annotation", "childObjects": [{"deep": [None, False, -0.0, 1e-300]}]},
            bbox=[0, 0, 70, 30],
        ),
        name="slide 7",
        crs={"type": "none"},
    )
    before = written(tmp_path, whole)
    found = read_geojson(before)
    assert [region.label for region in found.regions] == ["Tumor", "Tumor: Positive", None]
    after = write_geojson(tmp_path / "b.geojson", found)
    assert json.loads(after.read_text()) == whole
    assert read_geojson(after) == found


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_texts(tmp_path: Path, text: str) -> None:
    region = Region(
        ((np.array(RING[:-1], float),),),
        text,
        text,
        text,
        extra={"properties": {text: [text, {text: None}], "__proto__": {"x": 1}}, "feature": {"constructor": text}},
    )
    path = write_geojson(tmp_path / "a.geojson", [region], [AnnotationClass(text, (9, 8, 7))])
    found = read_geojson(path)
    assert found.regions == (region,)
    assert found.classes == (AnnotationClass(text, (9, 8, 7)),)
    assert path.read_bytes().isascii()


finite = st.floats(-1e9, 1e9, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ring=st.lists(st.tuples(finite, finite), min_size=3, max_size=7, unique=True),
    shift=st.sampled_from([0, 0.1, 1 / 3]),
    label=st.none() | st.text(min_size=1),
    name=st.text(),
    locked=st.booleans(),
    properties=st.dictionaries(st.text().map(lambda text: f"{text} "), json_values, max_size=3),
)
def test_what_is_written_is_read_bit_by_bit(
    tmp_path: Path,
    ring: list[tuple[float, float]],
    shift: float,
    label: str | None,
    name: str,
    locked: bool,
    properties: dict[str, Any],
) -> None:
    points = np.array(ring) * (1 - shift / 10)
    extra = {"properties": properties} if properties else {}
    try:
        region = Region(
            ((points,), (np.array([[0, 0], [0, 0.1], [0.3, 0.7]]),)), label, name, locked=locked, extra=extra
        )
    except InvalidInputError:
        return
    path = write_geojson(tmp_path / "a.geojson", [region])
    found = read_geojson(path)
    assert found.regions == (region,)
    again = write_geojson(tmp_path / "b.geojson", found)
    assert again.read_bytes() == path.read_bytes()


def test_a_list_a_feature_and_a_bare_geometry_are_read_too(tmp_path: Path) -> None:
    geometry = {"type": "Polygon", "coordinates": [RING]}
    for content in ([plain(), geometry], [plain()], plain(), geometry, plain(properties={})):
        found = read_geojson(written(tmp_path, content))
        assert [region.area_px for region in found.regions] == [2100] * len(found.regions)
        assert len(found.regions) == (len(content) if isinstance(content, list) else 1)
        assert len({region.id for region in found.regions}) == len(found.regions)
        assert read_geojson(tmp_path / "a.geojson") == found  # ids are derived, not drawn
    assert read_geojson(written(tmp_path, [])) == Annotations()
    assert read_geojson(written(tmp_path, "\ufeff" + json.dumps(plain()))).regions[0].area_px == 2100


def test_colours_of_older_versions_and_of_classes_without_one(tmp_path: Path) -> None:
    features = [
        plain({"classification": {"name": "Tumor", "colorRGB": -3670016}}),  # QuPath's red, 0xffc80000
        plain({"classification": {"name": "Stroma"}}),
        plain({"classification": "Wall"}),
        plain({"classification": {"name": NOT_HERE}}),
        plain({"classification": {"name": "Tumor", "color": [1, 1, 1]}}),
        plain({"classification": {"name": "Stroma", "color": [150, 200, 150]}}),
        plain({"classification": {"name": "", "color": [1, 1, 1]}}),
        plain({"classification": None}),
    ]
    found = read_geojson(written(tmp_path, features))
    assert [region.label for region in found.regions] == [
        "Tumor",
        "Stroma",
        "Wall",
        NOT_HERE,
        "Tumor",
        "Stroma",
        None,
        None,
    ]
    colors = {one.name: one.color for one in found.classes}
    assert colors["Tumor"] == (200, 0, 0)
    assert colors["Stroma"] == (150, 200, 150)
    assert colors[NOT_HERE] == (128, 128, 128)
    assert len(set(colors.values())) == 4
    assert found.notes == ("Class 'Tumor' has several colours; the first is taken.",)
    assert read_geojson(write_geojson(tmp_path / "b.geojson", found)).regions == found.regions


def test_a_region_that_was_relabelled_forgets_the_class_of_its_file(tmp_path: Path) -> None:
    from dataclasses import replace

    path = written(tmp_path, collection(plain({"classification": {"names": ["A", "B"], "color": [1, 2, 3], "x": 4}})))
    region = replace(read_geojson(path).regions[0], label="C", locked=True, name="new")
    write_geojson(path, [region], [AnnotationClass("C", (7, 8, 9))])
    assert json.loads(path.read_text())["features"][0]["properties"] == {
        "objectType": "annotation",
        "name": "new",
        "classification": {"name": "C", "color": [7, 8, 9], "x": 4},
        "isLocked": True,
    }
    write_geojson(path, [replace(region, label=None)])
    assert "classification" not in json.loads(path.read_text())["features"][0]["properties"]


def test_what_is_no_area_or_no_annotation_is_left_out_and_told(tmp_path: Path) -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    flat = {"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [9, 9], [0, 0]]]}
    features = [
        plain(geometry=line),
        line,
        plain(geometry={"type": "Point", "coordinates": [1, 2]}),
        plain(geometry=None),
        plain({"objectType": "detection"}),
        plain({"object_type": "cell"}),
        plain(id="PathDetectionObject"),
        plain(geometry=flat),
        plain(geometry={"type": "Polygon", "coordinates": []}),
        plain(id="PathAnnotationObject"),
    ]
    found = read_geojson(written(tmp_path, features))
    assert len(found.regions) == 1
    assert found.regions[0].id != "PathAnnotationObject"
    assert found.notes == (
        "2 features whose geometry is 'LineString' (a region is a Polygon or MultiPolygon): left out.",
        "1 features whose geometry is 'Point' (a region is a Polygon or MultiPolygon): left out.",
        "1 features whose geometry is nothing (a region is a Polygon or MultiPolygon): left out.",
        "2 objects of type detection (only annotations are regions): left out.",
        "1 objects of type cell (only annotations are regions): left out.",
        "2 outlines that enclose nothing: left out.",
    )


def test_odd_rings_are_understood(tmp_path: Path) -> None:
    high = [[x, y, 5.0] for x, y in RING]
    open_ring = RING[:-1]
    flat_hole = [[1, 1], [2, 2], [1, 1]]
    features = [
        plain(geometry={"type": "Polygon", "coordinates": [high]}),
        plain(geometry={"type": "Polygon", "coordinates": [open_ring, flat_hole]}),
        plain(id="x"),
        plain(id="x"),
        plain(id=7),
    ]
    found = read_geojson(written(tmp_path, features))
    assert [region.area_px for region in found.regions] == [2100] * 5
    assert len({region.id for region in found.regions}) == 5
    assert found.regions[4].id == "7"
    assert found.notes == (
        "Points have more than x and y; the further numbers are left out.",
        "Several features have the same id; all but the first get another.",
    )


def test_types_that_stand_where_the_id_is_are_no_ids(tmp_path: Path) -> None:
    """QuPath 0.2 wrote them, and programs that followed it name annotations so."""
    found = read_geojson(written(tmp_path, [plain({"objectType": "annotation"}, id="PathCellObject")] * 2))
    assert len({region.id for region in found.regions} - {"PathCellObject"}) == 2
    assert found.notes == ()


def test_children_are_kept_and_told(tmp_path: Path) -> None:
    found = read_geojson(written(tmp_path, plain({"childObjects": [plain()]})))
    assert found.notes == ("Objects nested in others (childObjects) are kept in the file, but are no regions here.",)
    assert found.regions[0].extra["properties"]["childObjects"] == [plain()]


def test_measurements_may_be_nan_as_qupath_writes_them(tmp_path: Path) -> None:
    path = written(tmp_path, collection(plain({"measurements": {"a": math.nan, "b": -math.inf}})))
    found = read_geojson(path)
    assert math.isnan(found.regions[0].extra["properties"]["measurements"]["a"])
    assert read_geojson(write_geojson(tmp_path / "b.geojson", found)).regions == found.regions


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "must be GeoJSON; it cannot be read as JSON"),
        ('{"type": ', "must be GeoJSON; it cannot be read as JSON"),
        ("1" * 5000, "must be GeoJSON; it cannot be read as JSON"),
        ("[" * 100_000, "must not be nested deeper than 64 levels"),
        ("3", "must hold a FeatureCollection, features or a geometry; got a number"),
        ("null", "got nothing"),
        ('{"type": "Topology"}', "got an object of type 'Topology'. Export it from QuPath"),
        ('{"features": []}', "got an object. Export it from QuPath"),
        ({"type": "FeatureCollection"}, "features of a.geojson must be a list; got nothing"),
        (collection(7), "Feature 0 of a.geojson must be an object; got a number"),
        (collection(plain(), "x"), "Feature 1 of a.geojson must be an object; got a text"),
        (plain(geometry=[]), "geometry of feature 0 of a.geojson must be an object; got a list"),
        (plain(properties="x"), "properties of feature 0 of a.geojson must be an object; got a text"),
        (
            plain({"classification": 4}),
            "classification of feature 0 of a.geojson must be an object with a name; got a num",
        ),
    ],
)
def test_what_is_no_geojson_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(FileFormatError, match=sentence):
        read_geojson(written(tmp_path, content))


@pytest.mark.parametrize(
    ("coordinates", "sentence"),
    [
        (None, "must be lists of rings; got nothing"),
        ([1, 2], "must be lists of rings; got a list|must be a list of points"),
        ({"a": 1}, "must be lists of rings; got an object"),
        ([[1, 2, 3]], r"must be a list of points \[x, y\]"),
        ([[[1], [2], [3]]], r"must be a list of points \[x, y\]"),
        ([[[0, 0], [1, 2, 3], [0, 1]]], r"must be a list of points \[x, y\]"),
        ([[["0", "0"], ["0", "5"], ["5", "5"]]], r"must be a list of points \[x, y\]; got .*\"0\""),
        ([[[0, 0], [None, 1], [1, 1]]], r"must be a list of points \[x, y\]"),
        ([[[True, False], [True, True], [False, False]]], r"must be a list of points \[x, y\]"),
        ([[[0, 0], [0, 10**30], [1, 1]]], r"must be a list of points \[x, y\]"),
        ([[[0, 0], [0, 5], [math.nan, 5]]], "must be finite level-0 pixels"),
        ([[[0, 0], [0, 5], [math.inf, 5]]], "must be finite level-0 pixels"),
        ([[[0, 0], [0, 5], [1e10, 5]]], r"must be finite level-0 pixels, at most 1e\+09"),
    ],
)
def test_coordinates_are_points_that_a_slide_can_hold(tmp_path: Path, coordinates: Any, sentence: str) -> None:
    path = written(tmp_path, collection(plain(), plain(geometry={"type": "Polygon", "coordinates": coordinates})))
    with pytest.raises(FileFormatError, match=f"(?i)feature 1 of a.geojson {sentence}"):
        read_geojson(path)


def test_members_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    for content in (plain({"metadata": deep}), collection(plain(), other=deep)):
        with pytest.raises(FileFormatError, match="must not be nested deeper than 64 levels"):
            read_geojson(written(tmp_path, content))


def test_files_too_large_or_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFileError, match="There is no GeoJSON file at"):
        read_geojson(tmp_path / "none.geojson")
    with pytest.raises(FileFormatError, match="cannot be read: Is a directory"):
        read_geojson(tmp_path)
    monkeypatch.setattr(geojson, "_MOST_BYTES", 2**20)
    with pytest.raises(FileFormatError, match="must have at most 1 MiB; it has 2. Export annotations only"):
        read_geojson(written(tmp_path, " " * 2**21))
    (tmp_path / "latin.geojson").write_bytes('"ä"'.encode("latin-1"))
    with pytest.raises(FileFormatError, match="must be GeoJSON; it cannot be read"):
        read_geojson(tmp_path / "latin.geojson")


def test_extra_members_are_json(tmp_path: Path) -> None:
    region = Region(((np.array(RING[:-1], float),),), extra={"properties": {"x": object()}})
    with pytest.raises(InvalidInputError, match="extra of a region must hold what JSON can"):
        write_geojson(tmp_path / "a.geojson", [region])
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_geojson(tmp_path / "file" / "a.geojson", [])
    assert json.loads(write_geojson(tmp_path / "new" / "a.geojson", []).read_text()) == collection()
