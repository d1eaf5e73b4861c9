"""Dropping files on the viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from slide_files import MPP, drawn, levels_of, write_dicom, write_zarr

from napari_prospector._napari.layers import provenance
from napari_prospector._napari.panel import ProspectPanel, show_panel
from napari_prospector._napari.readers import get_grid_reader, get_head_reader, get_slide_reader
from napari_prospector.errors import FileFormatError
from napari_prospector.tokens.embed import embed_to_grid
from napari_prospector.tokens.slides import open_slide

OURS = "napari-prospector"


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What napari's corner says."""
    from napari.utils import notifications

    said: list[str] = []
    monkeypatch.setattr(notifications.notification_manager, "dispatch", lambda note: said.append(note.message))
    return said


def test_a_slide_opens_lazily_in_micrometres(viewer: Any, slide_file: Path, planted: Any, notes: list[str]) -> None:
    (layer,) = viewer.open(str(slide_file), plugin=OURS)
    assert layer.name == "case7"
    assert layer.rgb
    assert layer.multiscale
    assert layer.data.shape == (*planted.shape, 3)
    assert len(layer.data) > 1
    assert layer.scale.tolist() == [0.5, 0.5]
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert not notes
    row, col = planted.pixels[0].start, planted.pixels[1].start
    with open_slide(slide_file) as slide:
        np.testing.assert_array_equal(layer.data[0][row, col], slide.read(row, col, 1, 1)[0, 0])


def test_a_slide_without_a_pixel_size_opens_in_pixels_and_says_so(
    viewer: Any, tmp_path: Path, notes: list[str]
) -> None:
    file = tmp_path / "silent.tif"
    pixels = np.zeros((4099, 131, 3), np.uint8)
    tifffile.imwrite(file, pixels, photometric="rgb", tile=(64, 64))
    (layer,) = viewer.open(str(file), plugin=OURS)
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]
    assert len(notes) == 1
    assert "silent.tif states no pixel size" in notes[0]
    assert "Pixel size" in notes[0]


@pytest.mark.parametrize("name", ["cmu_small_region.svs", "he_levels.tiff"])
def test_real_slides_open(viewer: Any, shared: Path, notes: list[str], name: str) -> None:
    (layer,) = viewer.open(str(shared / "data" / "histology" / "slides" / name), plugin=OURS)
    # one states 0.499 µm; the other 352.9 µm, which cannot be
    assert (layer.scale[0] == pytest.approx(0.499)) == (not notes) == name.endswith("svs")
    assert layer.data[0][:200, :200].std() > 3


def test_a_small_flat_tiff_is_left_to_others(tmp_path: Path) -> None:
    file = tmp_path / "cells.tif"
    tifffile.imwrite(file, np.zeros((113, 131, 3), np.uint8), photometric="rgb")
    assert get_slide_reader(str(file)) is None
    tifffile.imwrite(file, np.zeros((7, 113, 131), np.uint16))
    assert get_slide_reader(str(file)) is None
    assert get_slide_reader(str(tmp_path / "nowhere.tif")) is None


def test_a_slide_that_is_a_folder_opens(viewer: Any, tmp_path: Path, notes: list[str]) -> None:
    image = drawn()
    write_zarr(tmp_path / "case7.ome.zarr", levels_of(image))
    (layer,) = viewer.open(str(tmp_path / "case7.ome.zarr"), plugin=OURS)
    assert layer.data.shape == image.shape
    assert layer.scale.tolist() == [MPP, MPP]
    assert not notes
    np.testing.assert_array_equal(np.asarray(layer.data[1]), image[::2, ::2])


def test_zarr_and_dicom_of_another_kind_are_left_to_others(tmp_path: Path) -> None:
    stack = zarr.open_group(str(tmp_path / "stack.zarr"), mode="w")
    stack.create_array("0", shape=(3, 5, 7), dtype="uint16")
    assert get_slide_reader(str(tmp_path / "stack.zarr")) is None
    (tmp_path / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(16))
    assert get_slide_reader(str(tmp_path / "scan.dcm")) is None
    assert get_slide_reader(str(tmp_path)) is None
    write_dicom(tmp_path / "slide.dcm", drawn())
    assert get_slide_reader(str(tmp_path / "slide.dcm")) is not None


def test_a_stack_of_slides_is_left_to_others(slide_file: Path) -> None:
    assert get_slide_reader([str(slide_file), str(slide_file)]) is None
    assert get_slide_reader([str(slide_file)]) is not None


def test_text_named_svs_is_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "notes.svs"
    file.write_text("not a slide")
    reader = get_slide_reader(str(file))
    assert reader is not None
    with pytest.raises(FileFormatError, match="notes.svs must be a slide"):
        reader(str(file))


def test_a_token_grid_opens_over_its_slide(
    viewer: Any, slide_file: Path, planted: Any, mean_colour: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "case7.tokens.zarr"
    with open_slide(slide_file) as slide:
        embed_to_grid(slide, mean_colour, folder)
    tissue, coverage, quality, tokens = viewer.open(str(folder), plugin=OURS)
    assert tokens.data.shape == coverage.data.shape == quality.data.shape == planted.grid
    assert tissue.data.shape > planted.grid
    first = tokens.data_to_world((-0.5, -0.5))
    assert first == pytest.approx((-planted.mpp / 2, -planted.mpp / 2))
    assert provenance(tokens)["encoder"] == "mean-colour"


def test_folders_and_files_of_others_are_left_to_them(tmp_path: Path) -> None:
    (tmp_path / "volume.zarr").mkdir()
    (tmp_path / "file.tokens.zarr").touch()
    assert get_grid_reader(str(tmp_path / "volume.zarr")) is None
    assert get_slide_reader(str(tmp_path / "volume.zarr")) is None
    assert get_grid_reader(str(tmp_path / "file.tokens.zarr")) is None
    assert get_head_reader(str(tmp_path / "head.safetensors")) is None


def test_a_head_dropped_on_the_viewer_opens_the_panel_with_it(viewer: Any, head_file: Path, qtbot: Any) -> None:
    assert viewer.open(str(head_file), plugin=OURS) == []
    (panel,) = [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, ProspectPanel)]
    assert panel.form.head.path == head_file
    qtbot.waitUntil(lambda: "normal / tumour" in panel.form.head_caption.text(), timeout=20_000)
    assert show_panel(viewer) is panel


def test_a_damaged_head_is_refused_with_the_reason(viewer: Any, head_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.prospector"
    damaged.write_bytes(head_file.read_bytes()[:-7])
    with pytest.raises(Exception, match="damaged.prospector is not a head file, or it is damaged"):
        viewer.open(str(damaged), plugin=OURS)


def test_samples_open_without_a_network(viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_prospector._napari import samples

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(samples, "SHAPE", (1511, 1601))
    (layer,) = viewer.open_sample(OURS, "tumour")
    assert layer.data.shape == (1511, 1601, 3)
    assert layer.scale.tolist() == [1.0, 1.0]
    written = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.tif")]
    viewer.open_sample(OURS, "tumour")
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.tif")] == written
