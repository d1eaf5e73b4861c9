"""Fitting a head in a real window: from labels, from regions, and what may come between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari.docks import show_widget
from napari_prospector._napari.fit_job import FitJob, FitRequest, fit_head, plan_fit, tally
from napari_prospector._napari.fit_widget import FitWidget
from napari_prospector._napari.progress import Refusal
from napari_prospector._napari.request import default_tokens_path
from napari_prospector._napari.workspace import Workspace, workspace_of
from napari_prospector.core.head import load_head
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import NOT_HERE, Region
from napari_prospector.study.project import Study, StudySlide

LONG_MS = 60_000


@pytest.fixture
def study(embedded_study: Study) -> Study:
    return embedded_study


def box(rows: slice, cols: slice, label: str) -> Region:
    corners = [(rows.start, cols.start), (rows.start, cols.stop), (rows.stop, cols.stop), (rows.stop, cols.start)]
    return Region((([(float(r), float(c)) for r, c in corners],),), label=label)


def fitted(job: FitJob | Refusal, folder: Path) -> tuple[list[Any], Any]:
    assert isinstance(job, FitJob)
    seen, steps = [], fit_head(job, lambda: folder)
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def test_a_head_is_fitted_from_labels_and_saved_with_what_is_known_of_it(study: Study, tmp_path: Path) -> None:
    seen, result = fitted(plan_fit(FitRequest(), study), tmp_path / "heads")
    assert result.path == tmp_path / "heads" / "tumour-1.prospector"
    head = load_head(result.path)
    assert head.card_["encoder"]["name"] == "mean-colour"
    assert head.n_data_ == {"normal": 4, "tumour": 4}
    assert head.card_["out_of_fold"]["n_data"] == 8
    assert "AUROC" in result.verdict.sentence(result.datum)
    tried = [progress.found for progress in seen if progress.found is not None]
    assert len(tried) >= 2, "the table is filled while the head is being fitted"
    assert [len(rows) for rows in tried] == sorted(len(rows) for rows in tried)
    _, again = fitted(plan_fit(FitRequest(), study), tmp_path / "heads")
    assert again.path.name == "tumour-2.prospector", "no head is overwritten"


def test_slides_that_are_not_embedded_are_left_out_and_told(study: Study, tmp_path: Path, planted: Any) -> None:
    more = planted.write(tmp_path / "late.tif", seed=99)
    _, result = fitted(plan_fit(FitRequest(), study.with_slides([StudySlide(more, "tumour")])), tmp_path)
    assert result.left_out[0] == "1 slide left out, not embedded yet: late.tif."
    bare = study.with_slides([]).with_fields([s.path for s in study.slides[:5]], tokens=tmp_path / "no.tokens.zarr")
    with pytest.raises(InvalidInputError, match="at least 3 embedded slides; 3 of 8 labelled slides are embedded"):
        fitted(plan_fit(FitRequest(), bare), tmp_path)


def test_test_slides_are_never_learned_from(study: Study, tmp_path: Path) -> None:
    marked = study.with_fields([slide.path for slide in study.slides[:2]], split="test")
    _, result = fitted(plan_fit(FitRequest(), marked), tmp_path)
    assert result.head.n_data_ == {"normal": 3, "tumour": 3}


def test_a_patient_is_one_datum_where_that_is_asked(study: Study, tmp_path: Path) -> None:
    pairs = replace(study, slides=tuple(replace(s, group=f"p{i % 6}{s.label}") for i, s in enumerate(study.slides)))
    _, result = fitted(plan_fit(FitRequest(by_patient=True), pairs), tmp_path)
    assert result.datum == "patient"
    assert sum(result.head.n_data_.values()) == len({slide.group for slide in pairs.slides})


def test_a_head_is_fitted_from_regions_of_one_slide(study: Study, tmp_path: Path, planted: Any) -> None:
    tumour, normal = planted.pixels, (slice(2 * 134, 9 * 134), slice(2 * 134, 6 * 134))
    regions = (box(*tumour, "tumour"), box(*normal, "normal"), box(slice(0, 134), slice(0, 134), NOT_HERE))
    drawn = replace(study, slides=(), annotations=MappingProxyType({study.slides[1].key: regions}))
    assert tally(drawn, "regions") == {"normal": 1, "tumour": 1}
    _, result = fitted(plan_fit(FitRequest("regions", options={"radius": 0}), drawn), tmp_path)
    assert result.datum == "region"
    assert any("cut into pieces" in note for note in result.left_out)
    from napari_prospector.tokens.store import TokenGrid

    with TokenGrid.open(default_tokens_path(study.slides[1].path, {"name": "mean-colour"})) as grid:
        scores = np.full(grid.mask.shape, np.nan)
        scores[grid.mask] = result.head.prospect(grid.graph(), map="evidence")
    inside = np.zeros(scores.shape, bool)
    inside[planted.tokens] = True
    assert np.nanmin(scores[inside]) > np.nanmax(scores[~inside & ~np.isnan(scores)])


@pytest.mark.parametrize(
    ("request_", "labels", "sentence"),
    [
        (FitRequest(), [], "there are none. Label slides under 'Slides'"),
        (FitRequest(), ["a"] * 5, "all of them say 'a'"),
        (FitRequest(), ["a"] * 5 + ["b"] * 2, "at least 3 slides; 'b' has 2"),
        (FitRequest(target="c"), ["a"] * 3 + ["b"] * 3, "No slide is labelled 'c'"),
        (FitRequest(by_patient=True), ["a"] * 3 + ["b"] * 3, "once they have a group"),
        (FitRequest("regions"), ["a"] * 3 + ["b"] * 3, "there are none. Label regions under 'Annotate'"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(request_: FitRequest, labels: list[str], sentence: str) -> None:
    slides = tuple(StudySlide(Path(f"/{number}.svs"), label) for number, label in enumerate(labels))
    planned = plan_fit(request_, Study(slides=slides))
    assert isinstance(planned, Refusal)
    assert sentence in planned.sentence


@pytest.fixture
def workspace(viewer: Any) -> Workspace:
    return workspace_of(viewer)


@pytest.fixture
def widget(viewer: Any, workspace: Workspace) -> FitWidget:
    return show_widget(viewer, FitWidget, "Fit")


def test_from_labels_to_a_head_in_use(widget: FitWidget, workspace: Workspace, study: Study, qtbot: Any) -> None:
    assert not widget.fit_button.isEnabled()
    assert "Label slides" in widget.missing.text()
    workspace.edit("Add slides", study)
    assert widget.form.counts.text() == "8 slides: 4 normal, 4 tumour"
    assert widget.form.target.currentText() == "tumour"
    widget.fit_button.click()
    assert not widget.fit_button.isEnabled()
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    assert "AUROC" in widget.sentence.text()
    assert widget.table.rowCount() > 3
    assert "tumour-1.prospector" in widget.head_name.text()
    assert widget.fit_button.text() == "Fit again"
    assert workspace.study.head is not None
    assert workspace.study.head.parent == workspace.keeper.opened().heads
    workspace.undo()
    assert workspace.study.head is None
    assert widget.head_name.text().startswith("No head yet")


def test_cancel_keeps_the_head_that_was_there(
    widget: FitWidget, workspace: Workspace, study: Study, head_file: Path, qtbot: Any
) -> None:
    workspace.edit("Add slides", replace(study, head=head_file))
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    widget.fit_button.click()
    qtbot.waitUntil(lambda: "Looking" in widget.bar.status.text() or "ing" in widget.bar.status.text())
    with qtbot.waitSignal(widget.bar.finished, timeout=2000):
        widget.bar.cancel()
    assert workspace.study.head == head_file
    assert "still in use" in widget.bar.status.text()
    assert widget.fit_button.isEnabled()


def test_a_head_is_saved_elsewhere_and_opened_again(
    widget: FitWidget, workspace: Workspace, head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    workspace.use_head(head_file)
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    widget.save_head(tmp_path / "mine")
    qtbot.waitUntil(lambda: not widget.bar.is_running, timeout=LONG_MS)
    assert load_head(tmp_path / "mine.prospector").n_data_ == load_head(head_file).n_data_
    assert widget.bar.status.text() == "Saved mine.prospector."
