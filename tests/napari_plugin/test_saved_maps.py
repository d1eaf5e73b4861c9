"""Maps and concepts saved from the viewer and opened again: what they show, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_prospector._napari.layers import Placement, concept_layer, map_layer, provenance, slide_layer
from napari_prospector._napari.readers import get_map_reader, get_slide_reader
from napari_prospector._napari.writers import write_omezarr_layers
from napari_prospector.core.colors import concept_colors
from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, StorageError
from napari_prospector.study.map_file import ConceptMap, MapFile, Place
from napari_prospector.study.omezarr_maps import MAP_ENDING, write_omezarr
from napari_prospector.tokens.embed import embed_to_grid
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.slides import open_slide

OURS = "napari-prospector"
NAMES = ["purple", 'a "quoted" <b>name</b>\n', "größer — 细胞"]
GEOMETRY = GridGeometry(rows=5, cols=7, tile=448, stride=448, origin=(13, 29), slide_mpp=0.25, tile_px=224)
NOTED = {"slide": "case7", "head": "square", "target": "tumour", "encoder": "mean-colour"}


def layer_tuples(geometry: GridGeometry = GEOMETRY, placement: Placement | None = None) -> list[Any]:
    """Concepts and map as the panel makes them, with glass in the first row."""
    rng = np.random.default_rng(0)
    concepts = rng.integers(0, len(NAMES), geometry.shape)
    concepts[0] = -1
    scores = np.where(concepts < 0, np.nan, rng.normal(size=geometry.shape)).astype(np.float32)
    placement = placement or Placement.of_mpp(geometry.slide_mpp)
    return [
        concept_layer(concepts, NAMES, geometry, placement, slide="case7", noted=NOTED, visible=False),
        map_layer(scores, geometry, placement, slide="case7", map="evidence", limit=2.5, noted=NOTED),
    ]


def layers_of(tuples: list[Any]) -> list[Any]:
    from napari.layers import Layer

    return [Layer.create(*each) for each in tuples]


def saved(layers: list[Any], path: Path) -> list[Any]:
    """Write layers as napari does, and return those that are read back."""
    assert write_omezarr_layers(str(path), [layer.as_layer_data_tuple() for layer in layers]) == [str(path)]
    reader = get_map_reader(str(path))
    assert reader is not None
    return layers_of(reader(str(path)))


def check_same(layer: Any, again: Any) -> None:
    """Check that a layer came back as it was, to the last bit."""
    assert type(layer) is type(again)
    np.testing.assert_array_equal(layer.data, again.data, strict=True)
    for transform in ("scale", "translate"):
        np.testing.assert_array_equal(getattr(layer, transform), getattr(again, transform), strict=True)
    assert layer.units == again.units
    assert (layer.name, layer.opacity, layer.visible, layer.blending) == (
        again.name,
        again.opacity,
        again.visible,
        again.blending,
    )
    if provenance(layer)["kind"] == "map":
        assert layer.contrast_limits == again.contrast_limits
        np.testing.assert_array_equal(layer.colormap.colors, again.colormap.colors)
    else:
        np.testing.assert_allclose(layer.colormap.colors, again.colormap.colors, atol=1e-7)
        assert layer.features["concept"].tolist() == again.features["concept"].tolist()
        assert layer.get_status((0, 0)) == again.get_status((0, 0))
    noted = provenance(layer)
    assert {name: provenance(again)[name] for name in noted} == noted


def test_a_map_and_its_concepts_come_back_as_they_were(tmp_path: Path) -> None:
    layers = layers_of(layer_tuples())
    for layer, again in zip(layers, saved(layers, tmp_path / f"case7{MAP_ENDING}"), strict=True):
        check_same(layer, again)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of hypothesis."""
    return tmp_path_factory.mktemp("examples")


numbers = st.floats(-1e6, 1e6)
positive = st.floats(1e-3, 1e6)


@settings(max_examples=30)
@given(
    geometry=st.builds(
        GridGeometry,
        rows=st.integers(1, 5),
        cols=st.integers(1, 7),
        tile=st.integers(1, 999),
        stride=st.integers(1, 999),
        origin=st.tuples(st.integers(-999, 9999), st.integers(-999, 9999)),
        slide_mpp=st.floats(0.01, 40),
    ),
    placement=st.none() | st.builds(Placement, st.tuples(positive, positive), st.tuples(numbers, numbers)),
)
def test_on_slides_with_any_scale_and_offset_too(
    examples: Path, geometry: GridGeometry, placement: Placement | None
) -> None:
    layers = layers_of(layer_tuples(geometry, placement))
    for layer, again in zip(layers, saved(layers, examples / f"case7{MAP_ENDING}"), strict=True):
        check_same(layer, again)


@pytest.mark.parametrize(("mpp", "moved"), [(0.25, False), (0.5, True)])
def test_a_planted_square_lies_in_the_file_where_it_lies_on_the_slide(
    viewer: Any, mean_colour: Any, tmp_path: Path, mpp: float, moved: bool
) -> None:
    """Slide → grid → layer → OME-Zarr → layer; the square's tiles of 67 µm are 268 px or 134 px wide."""
    tile = round(67 / mpp)
    first, last = (2, 3), (4, 7)
    image = np.full((6 * tile + 5, 9 * tile + 5, 3), (232, 160, 200), np.uint8)
    image[first[0] * tile : last[0] * tile, first[1] * tile : last[1] * tile] = (96, 48, 144)
    write_pyramid(tmp_path / "square.tif", image, mpp, quality=None)
    with open_slide(tmp_path / "square.tif") as slide:
        grid = embed_to_grid(slide, mean_colour, tmp_path / "square.tokens.zarr", tissue=None)
    assert grid.geometry.tile == tile
    (slide_shown,) = viewer.open(str(tmp_path / "square.tif"), plugin=OURS)
    if moved:
        slide_shown.scale, slide_shown.translate = (3.0, 5.0), (-17.0, 41.0)
    is_square = (np.asarray(grid.embeddings[..., 1], np.float32) < 0.4).astype(np.float32)
    placement = Placement.of_layer(slide_shown)
    drawn = map_layer(is_square, grid.geometry, placement, slide="square", map="evidence", limit=1)
    (layer,) = layers_of([drawn])
    viewer.add_layer(layer)
    path = tmp_path / f"square{MAP_ENDING}"
    assert viewer.layers.save(str(path), selected=True, plugin=OURS) == [str(path)]
    viewer.layers.remove(layer)
    (again,) = viewer.open(str(path), plugin=OURS)
    rows, cols = np.nonzero(again.data)
    assert (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1) == (*first, *last)
    for token, corner in ((first, -0.5), (last, -0.5)):
        pixel = np.array(token) * tile + corner
        np.testing.assert_allclose(
            again.data_to_world(np.array(token) - 0.5), slide_shown.data_to_world(pixel), rtol=1e-12
        )
    check_same(layer, again)


def test_zarr_alone_reads_the_place_of_a_layer_that_was_moved(tmp_path: Path) -> None:
    layers = layers_of(layer_tuples())
    for layer in layers:
        layer.scale, layer.translate, layer.units = (3.5, 4.25), (-7.0, 11.0), ("mm", "mm")
    saved(layers, tmp_path / f"case7{MAP_ENDING}")
    group = zarr.open_group(str(tmp_path / f"case7{MAP_ENDING}"), mode="r")
    for one in (group, group["labels/concepts"]):
        multiscale = one.attrs["ome"]["multiscales"][0]
        assert multiscale["datasets"][0]["coordinateTransformations"] == [
            {"type": "scale", "scale": [3.5, 4.25]},
            {"type": "translation", "translation": [-7.0, 11.0]},
        ]
        assert [axis["unit"] for axis in multiscale["axes"]] == ["millimeter", "millimeter"]


def test_an_affine_that_only_scales_and_moves_is_written(tmp_path: Path) -> None:
    (_, layer) = layers_of(layer_tuples())
    layer.affine = [[2, 0, 5], [0, 3, -7], [0, 0, 1]]
    (again,) = saved([layer], tmp_path / f"a{MAP_ENDING}")
    for cell in ((0, 0), (4, 6)):
        assert again.data_to_world(cell) == layer.data_to_world(cell)


@pytest.mark.parametrize(
    "transform",
    [{"rotate": 30}, {"shear": [0.2]}, {"affine": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}, {"scale": (-1, 1)}],
)
def test_a_layer_that_is_turned_sheared_or_mirrored_is_refused(tmp_path: Path, transform: dict[str, Any]) -> None:
    (_, layer) = layers_of(layer_tuples())
    for name, value in transform.items():
        setattr(layer, name, value)
    with pytest.raises(InvalidInputError, match="'case7 · evidence' is turned, sheared or mirrored"):
        write_omezarr_layers(str(tmp_path / f"a{MAP_ENDING}"), [layer.as_layer_data_tuple()])
    assert not list(tmp_path.iterdir())


def test_a_map_in_pixels_comes_back_in_pixels_and_a_changed_contrast_is_the_heads_again(tmp_path: Path) -> None:
    (_, layer) = layers_of(layer_tuples(placement=Placement.of_mpp(None)))
    layer.contrast_limits = (-0.5, 1)
    (again,) = saved([layer], tmp_path / f"a{MAP_ENDING}")
    assert [str(unit) for unit in again.units] == ["pixel", "pixel"]
    assert again.contrast_limits == [-2.5, 2.5]


def test_layers_of_others_are_left_to_them(tmp_path: Path, slide_file: Path) -> None:
    path = str(tmp_path / f"a{MAP_ENDING}")
    with open_slide(slide_file) as slide:
        others = layers_of([slide_layer(slide), (np.zeros((3, 5)), {}, "image"), (np.zeros((3, 5), int), {}, "labels")])
        tuples = [layer.as_layer_data_tuple() for layer in others]
        assert write_omezarr_layers(path, tuples) == []
        with pytest.raises(InvalidInputError, match="'case7' is neither. Select those two layers only"):
            write_omezarr_layers(path, [*layer_tuples(), tuples[0]])
    assert not Path(path).exists()


def test_one_file_is_one_map_of_one_slide(tmp_path: Path) -> None:
    path, (concepts, scores) = str(tmp_path / f"a{MAP_ENDING}"), layer_tuples()
    with pytest.raises(MismatchError, match="one map and its concepts; got 'case7 · evidence', 'case7 · evidence'"):
        write_omezarr_layers(path, [scores, scores])
    other = map_layer(
        scores[0], GEOMETRY, Placement.of_mpp(1), slide="b", map="refined", limit=1, noted={**NOTED, "slide": "b"}
    )
    with pytest.raises(MismatchError, match="is of one slide; got layers of 'case7' and 'b'"):
        write_omezarr_layers(path, [concepts, other])


def test_colours_and_names_are_saved_as_they_are_now(tmp_path: Path) -> None:
    from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap

    (layer, _) = layers_of(layer_tuples())
    colors = np.array([(0, 0, 0, 0), (1, 0, 0, 1), (0, 1, 0, 0), (0, 0, 1, 0.2)])
    layer.colormap = CyclicLabelColormap(colors=colors, background_value=0)
    layer.features = {"index": [0, 1, 3], "concept": ["none", "tumour", "stroma"]}
    (again,) = saved([layer], tmp_path / f"a{MAP_ENDING}")
    np.testing.assert_allclose(again.colormap.colors, colors, atol=1e-7)
    assert again.features["concept"].tolist() == ["none", "tumour", "concept 1", "stroma"]
    layer.colormap = DirectLabelColormap(color_dict={1: "red", None: "blue"})
    (again,) = saved([layer], tmp_path / f"b{MAP_ENDING}")
    np.testing.assert_allclose(again.colormap.colors[1:], [(1, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 1)], atol=1e-7)


def test_many_concepts_keep_their_colours_to_eight_bits(tmp_path: Path) -> None:
    concepts = np.arange(60).reshape(6, 10)
    geometry = GridGeometry(6, 10, tile=3, stride=3, origin=(0, 0), slide_mpp=1.0)
    named = [f"c{i}" for i in range(60)]
    (layer,) = layers_of([concept_layer(concepts, named, geometry, Placement.of_mpp(1), slide="s")])
    (again,) = saved([layer], tmp_path / f"a{MAP_ENDING}")
    np.testing.assert_allclose(again.colormap.colors[1:, :3], concept_colors(60), atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(again.data, layer.data, strict=True)


def test_napari_saves_and_opens_maps_by_their_ending(viewer: Any, tmp_path: Path) -> None:
    for layer in layers_of(layer_tuples()):
        viewer.add_layer(layer)
    path = tmp_path / f"case7{MAP_ENDING}"
    assert viewer.layers.save(str(path)) == [str(path)]
    concepts, scores = viewer.open(str(path), plugin=OURS)
    assert [concepts.name, scores.name] == ["case7 · concepts [1]", "case7 · evidence [1]"]
    np.testing.assert_array_equal(scores.data, viewer.layers["case7 · evidence"].data)
    # a picture without an ending is saved by napari itself
    viewer.layers.selection = {viewer.add_image(np.zeros((3, 5), np.uint8))}
    assert viewer.layers.save(str(tmp_path / "picture"), selected=True) == [str(tmp_path / "picture.tif")]


def test_maps_are_not_slides_even_when_they_are_renamed(tmp_path: Path) -> None:
    labels = ConceptMap(np.ones((5000, 3), np.uint8), Place((1, 1), (0, 0)), ["a"])
    path = write_omezarr(tmp_path / f"a{MAP_ENDING}", MapFile(None, labels))
    renamed = path.rename(tmp_path / "renamed.zarr")
    assert get_slide_reader(str(renamed)) is None
    assert get_map_reader(str(renamed)) is not None
    assert get_map_reader([str(renamed), str(renamed)]) is None
    zarr.create_group(str(tmp_path / "other.zarr"))
    assert get_map_reader(str(tmp_path / "other.zarr")) is None
    assert get_map_reader(str(tmp_path / "nowhere.zarr")) is None


def test_a_file_that_is_named_as_ours_and_is_not_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / f"a{MAP_ENDING}"
    zarr.create_group(str(path))
    reader = get_map_reader(str(path))
    assert reader is not None
    with pytest.raises(FileFormatError, match="must be a map that napari-prospector wrote"):
        reader(str(path))
    with pytest.raises(StorageError, match="was not written by napari-prospector"):
        write_omezarr_layers(str(path), layer_tuples())
