"""`prospect view`: the process that shows a slide with its map."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_prospector._napari.panel import ProspectPanel
from napari_prospector._napari.view import main, view
from napari_prospector.errors import MissingFileError
from napari_prospector.tokens.embed import embed_to_grid
from napari_prospector.tokens.slides import open_slide

LONG_MS = 60_000


def panel_of(viewer: Any) -> ProspectPanel:
    (panel,) = [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, ProspectPanel)]
    return panel


def test_a_slide_alone_is_shown_without_the_panel(viewer: Any, slide_file: Path) -> None:
    assert view(slide_file, viewer=viewer) is viewer
    assert [layer.name for layer in viewer.layers] == ["case7"]
    assert not viewer.window.dock_widgets


def test_a_head_starts_at_once_and_its_layers_come(
    viewer: Any, slide_file: Path, head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    tokens = tmp_path / "elsewhere" / "mine.tokens.zarr"
    view(slide_file, head_file, tokens, map="decision", target="normal", viewer=viewer)
    qtbot.waitUntil(lambda: "case7 · decision" in [layer.name for layer in viewer.layers], timeout=LONG_MS)
    assert tokens.is_dir()
    panel = panel_of(viewer)
    assert panel.request.target == "normal"
    assert not panel.is_running


def test_without_a_map_the_best_of_the_head_comes(
    viewer: Any, slide_file: Path, refined_head_file: Path, qtbot: Any
) -> None:
    view(slide_file, refined_head_file, viewer=viewer)
    qtbot.waitUntil(lambda: "case7 · refined" in [layer.name for layer in viewer.layers], timeout=LONG_MS)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"map": "refined"}, "This head draws no refined map; choose one of evidence, decision."),
        ({"target": "benign"}, "'benign' is no class of this head; it knows normal, tumour."),
    ],
)
def test_a_map_or_class_that_the_head_lacks_is_refused_and_nothing_is_drawn(
    viewer: Any, slide_file: Path, head_file: Path, qtbot: Any, asked: dict[str, str], sentence: str
) -> None:
    view(slide_file, head_file, viewer=viewer, **asked)
    panel = panel_of(viewer)
    qtbot.waitUntil(lambda: panel.tasks.status.text() == sentence, timeout=LONG_MS)
    assert not panel.is_running
    assert [layer.name for layer in viewer.layers] == ["case7"]


def test_a_pixel_size_that_is_passed_needs_no_question(
    viewer: Any, planted: Any, head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    from PIL import Image

    with Image.new("RGB", (1787, 1427), (232, 160, 200)) as picture:
        picture.save(tmp_path / "photo.png")
    view(tmp_path / "photo.png", head_file, mpp=0.5, viewer=viewer)
    qtbot.waitUntil(lambda: "photo · evidence" in [layer.name for layer in viewer.layers], timeout=LONG_MS)
    assert viewer.layers["photo"].scale.tolist() == [0.5, 0.5]


def test_tokens_without_a_head_are_shown_as_layers(viewer: Any, slide_file: Path, head_file: Path, qtbot: Any) -> None:
    view(slide_file, head_file, viewer=viewer)
    qtbot.waitUntil(lambda: "case7 · evidence" in [layer.name for layer in viewer.layers], timeout=LONG_MS)
    viewer.layers.clear()
    view(slide_file, grid=slide_file.with_name("case7.tif.mean-colour.tokens.zarr"), viewer=viewer)
    assert [layer.name for layer in viewer.layers][1:] == [
        "case7.tif.mean-colour · tissue",
        "case7.tif.mean-colour · tissue share",
        "case7.tif.mean-colour · quality",
        "case7.tif.mean-colour · tokens",
    ]


def test_a_slide_that_is_not_there_is_a_sentence_before_any_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingFileError, match="There is no slide"):
        view(tmp_path / "case9.svs")
    assert main([str(tmp_path / "case9.svs")]) == 1
    assert capsys.readouterr().err.startswith("There is no slide")


@pytest.mark.gui
def test_the_process_opens_its_window_and_draws_the_map(
    slide_file: Path, head_file: Path, mean_colour: Any, tmp_path: Path
) -> None:
    tokens, done = tmp_path / "case7.tokens.zarr", tmp_path / "done.txt"
    with open_slide(slide_file) as slide:
        embed_to_grid(slide, mean_colour, tokens)
    # the process tells of its first map, then closes by itself
    code = f"""
import sys, pathlib, napari
from qtpy.QtCore import QTimer
from napari_prospector._napari import view
def look():
    viewer = napari.current_viewer()
    if len(viewer.layers) == 4:
        pathlib.Path({str(done)!r}).write_text(", ".join(layer.name for layer in viewer.layers))
        viewer.close()
def run():
    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(200)
    start()
start, napari.run = napari.run, run
sys.exit(view.main(sys.argv[1:]))
"""
    words = [sys.executable, "-c", code, str(slide_file), "--head", str(head_file), "--grid", str(tokens)]
    # napari keeps its settings in these
    homes = {name: str(tmp_path) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    process = subprocess.run(
        words, env={**os.environ, **homes}, capture_output=True, text=True, timeout=180, check=False
    )
    assert process.returncode == 0, process.stderr
    assert done.read_text() == "case7, case7 · concepts, case7 · decision, case7 · evidence"
