"""What is drawn, as files: read back by the readers of their formats, and compared with what was planted."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari.map_export import export_files
from napari_prospector._napari.panel import ProspectPanel, show_panel

OURS = "napari-prospector"
LONG_MS = 60_000
FILES = ["case7.evidence.prospect.ome.zarr", "case7.decision.prospect.ome.zarr", "case7.evidence.geojson"]


@pytest.fixture
def panel(viewer: Any, slide_file: Path, head_file: Path, qtbot: Any) -> Iterator[ProspectPanel]:
    """A panel with a map drawn, all measured."""
    viewer.open(str(slide_file), plugin=OURS)
    panel = show_panel(viewer)
    panel.choose_head(head_file)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    panel.run_button.click()
    finish(panel, qtbot)
    yield panel
    finish(panel, qtbot)


def finish(panel: ProspectPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.is_running and panel.section.is_settled, timeout=LONG_MS)


def test_everything_is_written_and_lies_where_the_square_was_planted(
    viewer: Any, panel: ProspectPanel, planted: Any, slide_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    panel.section.export.table.setChecked(True)
    out = tmp_path / "out"
    panel.export_to(out)
    finish(panel, qtbot)
    assert sorted(file.name for file in out.iterdir()) == sorted([*FILES, "case7.tokens.csv"])
    assert "case7.tokens.csv" in panel.tasks.status.text()
    collection = json.loads((out / "case7.evidence.geojson").read_text())
    (feature,) = collection["features"]
    ring = np.array(feature["geometry"]["coordinates"][0])
    rows, cols = planted.pixels
    # GeoJSON has (x, y), QuPath's corners of pixels
    assert ring.min(axis=0).tolist() == [cols.start, rows.start]
    assert ring.max(axis=0).tolist() == [cols.stop, rows.stop]
    assert feature["properties"]["classification"]["name"] == "tumour"
    with open(out / "case7.tokens.csv", newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    inside = [line for line in lines if float(line["evidence"]) > 0]
    assert {(int(line["row"]), int(line["col"])) for line in inside} == {
        (row, col)
        for row in range(planted.tokens[0].start, planted.tokens[0].stop)
        for col in range(planted.tokens[1].start, planted.tokens[1].stop)
    }
    everything = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    assert str(tmp_path).encode() not in everything
    before = viewer.layers["case7 · evidence"]
    (scores, *_) = viewer.open(str(out / FILES[0]), plugin=OURS)[-1:]
    finest = scores.data[0] if scores.multiscale else scores.data
    np.testing.assert_array_equal(np.asarray(finest), before.data)
    assert scores.data_to_world((0, 0)) == pytest.approx(before.data_to_world((0, 0)))


def test_what_is_there_is_replaced_only_after_a_question(
    panel: ProspectPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    from qtpy.QtWidgets import QMessageBox

    asked: list[str] = []
    answers = iter([QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes])

    def answer(_parent: Any, _title: str, question: str, *_: Any) -> Any:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr(QMessageBox, "question", answer)
    panel.export_to(tmp_path)
    finish(panel, qtbot)
    assert not asked
    contours = tmp_path / "case7.evidence.geojson"
    contours.write_text("mine")
    panel.export_to(tmp_path)
    assert not panel.is_running
    assert "case7.evidence.geojson" in asked[0]
    assert contours.read_text() == "mine"
    panel.export_to(tmp_path)
    finish(panel, qtbot)
    assert json.loads(contours.read_text())["features"]


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(
    panel: ProspectPanel, tmp_path: Path, qtbot: Any
) -> None:
    (tmp_path / "file").write_text("no folder")
    panel.export_to(tmp_path / "file" / "below")
    finish(panel, qtbot)
    assert panel.tasks.status.text()
    assert "Written" not in panel.tasks.status.text()


def test_nothing_chosen_is_nothing_to_export(panel: ProspectPanel) -> None:
    box = panel.section.export
    box.maps.click()
    assert box.button.isEnabled()
    box.contours.click()
    assert not box.button.isEnabled()
    assert not box.tolerance.isEnabled()


def test_a_name_of_a_layer_never_leads_out_of_the_folder(viewer: Any, panel: ProspectPanel, tmp_path: Path) -> None:
    viewer.layers["case7"].name = "../a:b\n"
    request = panel.section.export_request(tmp_path)
    assert request is not None
    assert request.head_name == "square.prospector", "the head that drew the map, whichever is at hand now"
    assert [file.parent for file in export_files(request)] == [tmp_path] * 3
    assert export_files(request)[0].name == "..-a-b-.evidence.prospect.ome.zarr"
