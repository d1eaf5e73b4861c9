"""Layers of any reader as slides: numpy, dask and zarr arrays, with and without levels, grey ones when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari.array_slides import ArraySlide, GreyLevel, layer_pixel_size
from napari_prospector._napari.panel import ProspectPanel, show_panel
from napari_prospector.errors import InvalidInputError

LONG_MS = 60_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def painted(slide_file: Path) -> np.ndarray:
    """The drawn slide as one array."""
    from napari_prospector.tokens.slides import open_slide

    with open_slide(slide_file) as slide:
        return slide.read(0, 0, *slide.shape)


@pytest.fixture
def panel(viewer: Any, head_file: Path, qtbot: Any) -> Iterator[ProspectPanel]:
    """A panel with a head, and no slide yet."""
    panel = show_panel(viewer)
    panel.choose_head(head_file)
    qtbot.waitUntil(lambda: panel.workspace.head is not None, timeout=LONG_MS)
    yield panel
    qtbot.waitUntil(lambda: not panel.is_running and panel.section.is_settled, timeout=LONG_MS)


def prospected(panel: ProspectPanel, qtbot: Any) -> None:
    assert panel.run_button.isEnabled(), panel.hint.text()
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)


def as_numpy(image: np.ndarray, tmp_path: Path) -> Any:
    return image


def as_dask(image: np.ndarray, tmp_path: Path) -> Any:
    import dask.array

    return [dask.array.from_array(level, chunks=(499, 503, 3)) for level in (image, image[::2, ::2])]


def as_zarr(image: np.ndarray, tmp_path: Path) -> Any:
    import zarr

    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    return zarr.create_array(tmp_path / "a.zarr", data=np.concatenate([image, alpha], axis=2), chunks=(331, 337, 4))


@pytest.mark.parametrize("kind", [as_numpy, as_dask, as_zarr])
@pytest.mark.parametrize(("scale", "unit"), [(0.5, "um"), (500, "nm")])
def test_an_array_is_prospected_where_it_lies(
    viewer: Any,
    panel: ProspectPanel,
    painted: np.ndarray,
    planted: Any,
    tmp_path: Path,
    own_cache: Path,
    qtbot: Any,
    kind: Any,
    scale: float,
    unit: str,
) -> None:
    array = kind(painted, tmp_path)
    slide = viewer.add_image(
        array, rgb=True, multiscale=isinstance(array, list), name="array", scale=(scale, scale), units=(unit, unit)
    )
    assert panel.form.slide_caption.text() == "1,427 × 1,787 px, 0.5 µm per pixel, an array of no slide file"
    prospected(panel, qtbot)
    drawn = viewer.layers["array · evidence"]
    expected = np.zeros(planted.grid, bool)
    expected[planted.tokens] = True
    np.testing.assert_array_equal(np.nan_to_num(drawn.data) > 0, expected)
    corner = slide.data_to_world(np.array([place.start for place in planted.pixels]) - 0.5)
    token = drawn.data_to_world(np.array([place.start for place in planted.tokens]) - 0.5)
    assert drawn.units == slide.units
    assert token == pytest.approx(corner)
    grids = list(own_cache.rglob("*.tokens.zarr"))
    assert len(grids) == 1
    # another name, the same content: nothing is embedded again
    slide.name = "renamed"
    prospected(panel, qtbot)
    assert list(own_cache.rglob("*.tokens.zarr")) == grids
    assert "renamed · evidence" in viewer.layers


def test_an_array_without_a_unit_is_asked_for_its_pixel_size(
    viewer: Any, panel: ProspectPanel, painted: np.ndarray, qtbot: Any
) -> None:
    layer = viewer.add_image(painted, rgb=True, name="array")
    assert "Layer 'array' states no pixel size" in panel.hint.text()
    assert not panel.form.mpp.isHidden()
    panel.form.mpp.setValue(0.5)
    prospected(panel, qtbot)
    assert "array · evidence" in viewer.layers
    layer.scale, layer.units = (0.0005, 0.0005), ("mm", "mm")
    assert panel.form.mpp.isHidden()
    assert "0.5 µm per pixel" in panel.form.slide_caption.text()


def test_a_channel_is_looked_at_in_grey_only_when_asked_for(
    viewer: Any, panel: ProspectPanel, painted: np.ndarray
) -> None:
    channels = np.moveaxis(painted.astype(np.uint16) * 7, 2, 0)
    layer = viewer.add_image(channels, name="stains", scale=(1, 0.5, 0.5), units=("um", "um", "um"))
    assert panel.workspace.current is None
    assert panel.grey.isVisibleTo(panel)
    assert "has 3 channels; encoders were trained on slides in colour (H&E)" in panel.grey.sentence.text()
    panel.grey.channel.setCurrentIndex(1)
    layer.contrast_limits = (0, 255 * 7)
    panel.grey.button.click()
    made = viewer.layers["stains · channel 1"]
    assert made.rgb
    np.testing.assert_array_equal(np.asarray(made.data[0]), np.repeat(painted[..., 1:2], 3, axis=2))
    assert panel.workspace.current is not None
    assert panel.workspace.current.mpp == pytest.approx(0.5)
    assert not panel.grey.isVisibleTo(panel)
    assert panel.run_button.isEnabled()


def test_maps_and_other_layers_are_not_offered_in_grey(viewer: Any, panel: ProspectPanel) -> None:
    viewer.add_points(np.zeros((3, 2)))
    assert not panel.grey.isVisibleTo(panel)
    grey = viewer.add_image(np.zeros((113, 131)), name="grey")
    assert "'grey' is grey" in panel.grey.sentence.text()
    viewer.layers.remove(grey)
    panel.grey.make()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((5, 7, 3), 0.5, np.float32), 128),
        (np.full((5, 7, 3), 257 * 99, np.uint16), 99),
        (np.array([200, 200, 200, 0], np.uint8) * np.ones((5, 7, 4), np.uint8), 255),
    ],
)
def test_every_type_of_colours_becomes_what_is_seen(array: np.ndarray, expected: int) -> None:
    with ArraySlide("a", [array], 0.5) as slide:
        assert (slide.read(0, 0, 5, 7) == expected).all()


def test_the_fingerprint_is_that_of_the_content_and_not_of_the_name() -> None:
    image = np.random.default_rng(0).integers(0, 255, (211, 223, 3), dtype=np.uint8)
    other = image.copy()
    other[100:140, 100:140] = 0
    prints = [
        ArraySlide(name, [array], 0.5).fingerprint() for name, array in (("a", image), ("b", image), ("a", other))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_what_is_no_colour_picture_is_refused_and_so_is_a_closed_one() -> None:
    with pytest.raises(InvalidInputError, match="Choose an RGB layer"):
        ArraySlide("a", [np.zeros((5, 7))], None)
    slide = ArraySlide("a", [np.zeros((5, 7, 3), np.uint8)], None)
    slide.close()
    with pytest.raises(InvalidInputError, match="is closed"):
        slide.read(0, 0, 5, 7)


@pytest.mark.parametrize("key", [np.s_[2:5, 1:4], np.s_[3], np.s_[..., 0], np.s_[2, 3, 1], np.s_[:, :, 0:2]])
@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_grey_level_is_cut_as_the_array_would_be(key: Any, n_axes: int) -> None:
    values = np.arange(2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)
    whole = np.repeat((values[1] / 69 * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    level = GreyLevel(values if n_axes == 3 else values[1], n_axes - 2, (0, 69))
    np.testing.assert_array_equal(level[key], whole[key])
    np.testing.assert_array_equal(np.asarray(level), whole)
    assert len(level) == 5


def test_pixels_that_are_not_square_have_no_size() -> None:
    from napari.layers import Image

    layer = Image(np.zeros((5, 7, 3), np.uint8), rgb=True, scale=(1, 2), units=("um", "um"))
    assert layer_pixel_size(layer).mpp is None
