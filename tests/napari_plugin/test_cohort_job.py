"""One head on all slides of the cohort: pure, then through the widget."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari import job as job_module
from napari_prospector._napari.cohort_job import (
    CohortJob,
    CohortResult,
    SlideFound,
    cohort_files,
    plan_cohort,
    prospect_cohort,
)
from napari_prospector._napari.panel import show_panel
from napari_prospector._napari.progress import JobProgress, Refusal
from napari_prospector._napari.request import Facts, ProspectRequest
from napari_prospector.core.head import load_head
from napari_prospector.study.omezarr_maps import read_omezarr
from napari_prospector.study.project import StudySlide
from napari_prospector.tokens.store import TokenGrid

OURS = "napari-prospector"
LONG_MS = 60_000


@pytest.fixture
def slides(planted: Any, tmp_path: Path) -> tuple[StudySlide, ...]:
    """A slide with the square, one without, and one that is no slide."""
    (tmp_path / "in").mkdir()
    good = [planted.write(tmp_path / "in" / f"{name}.tif", planted=name == "a") for name in ("a", "b")]
    broken = tmp_path / "in" / "broken.tif"
    broken.write_bytes(b"no slide")
    return tuple(StudySlide(path) for path in (good[0], broken, good[1]))


@pytest.fixture
def job(slides: tuple[StudySlide, ...], head_file: Path, tmp_path: Path) -> CohortJob:
    shown = frozenset({slides[0].path})
    return CohortJob(slides, load_head(head_file), head_file.name, None, None, None, tmp_path / "maps", shown)


def finish(steps: Generator[JobProgress, None, Any]) -> tuple[list[JobProgress], Any]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def test_every_slide_gets_its_maps_and_one_that_fails_is_told(
    job: CohortJob, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = job_module._load_encoder
    monkeypatch.setattr(job_module, "_load_encoder", lambda *given: loads.append(1) or load(*given))
    seen, result = finish(prospect_cohort(job))
    assert result.n_done == 2
    assert len(result.problems) == 1
    assert result.problems[0].startswith("broken.tif: ")
    assert "The maps of 2 slides are in" in result.sentence()
    assert len(loads) == 1
    for name, is_planted in (("a", True), ("b", False)):
        stored = read_omezarr(job.folder / f"{name}.evidence.prospect.ome.zarr")
        assert stored.scores is not None
        expected = np.zeros(planted.grid, bool)
        expected[planted.tokens] = is_planted
        np.testing.assert_array_equal(np.nan_to_num(stored.scores.values) > 0, expected)
        assert stored.scores.limit == job.head.color_limits_["evidence"]
    assert [step.found.path for step in seen if isinstance(step.found, SlideFound)] == [job.slides[0].path]
    assert any(step.stage.startswith("Slide 3 of 3, b.tif: embedding tiles") for step in seen)
    assert {file.name for file in cohort_files(job)} >= {file.name for file in job.folder.iterdir()}


def test_stopping_leaves_grids_that_the_same_job_goes_on_with(job: CohortJob) -> None:
    steps = prospect_cohort(job)
    next(step for step in steps if "embedding tiles" in step.stage and 0 < step.done < step.total)
    steps.close()
    (grid,) = job.slides[0].path.parent.glob("a.tif*.tokens.zarr")
    assert not TokenGrid.open(grid).is_complete
    TokenGrid.open(grid, "r+").close()
    assert finish(prospect_cohort(job))[1].n_done == 2


def test_finished_tokens_in_the_cohort_are_prospected_as_they_are(job: CohortJob) -> None:
    finish(prospect_cohort(job))
    (grid,) = job.slides[0].path.parent.glob("a.tif*.tokens.zarr")
    alone = replace(job, slides=(StudySlide(grid),), folder=job.folder / "again", shown=frozenset())
    assert finish(prospect_cohort(alone))[1].n_done == 1
    assert (alone.folder / "a.tif.evidence.prospect.ome.zarr").exists()


def test_two_slides_of_one_name_do_not_overwrite_each_other(job: CohortJob, planted: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = planted.write(tmp_path / "other" / "a.tif", seed=7)
    result = finish(prospect_cohort(replace(job, slides=(job.slides[0], StudySlide(twin)))))[1]
    assert result.n_done == 1
    assert "shows another slide" in result.problems[0]


def test_a_slide_without_a_pixel_size_is_a_sentence_of_its_own(job: CohortJob, tmp_path: Path) -> None:
    from PIL import Image

    with Image.new("RGB", (1787, 1427), (232, 160, 200)) as picture:
        picture.save(tmp_path / "photo.png")
    result = finish(prospect_cohort(replace(job, slides=(StudySlide(tmp_path / "photo.png"),))))[1]
    assert result.n_done == 0
    assert "photo.png states no pixel size" in result.sentence()
    assert "The maps" not in result.sentence()


def test_what_is_missing_is_said_before_anything_starts(job: CohortJob, tmp_path: Path) -> None:
    asked, known = ProspectRequest(head=Path("h.prospector")), Facts(head=job.head)
    empty = plan_cohort((), asked, known, tmp_path, frozenset())
    assert isinstance(empty, Refusal)
    assert "Add slides under 'Slides'" in empty.sentence
    headless = plan_cohort(job.slides, ProspectRequest(), Facts(), tmp_path, frozenset())
    assert isinstance(headless, Refusal)
    assert "Choose a head" in headless.sentence
    assert isinstance(plan_cohort(job.slides, asked, known, tmp_path, frozenset()), CohortJob)


def test_many_failures_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    told = CohortResult(1, tmp_path, tuple(f"s{i}: broken" for i in range(20))).sentence()
    assert told.startswith("The maps of 1 slide are in")
    assert "20 failed:" in told
    assert told.endswith("… and 12 more")


def test_all_slides_through_the_widget(
    viewer: Any, slides: tuple[StudySlide, ...], head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    panel = show_panel(viewer)
    viewer.open(str(slides[0].path), plugin=OURS)
    panel.choose_head(head_file)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    panel.form.scope.setCurrentIndex(1)
    assert "The cohort has no slide" in panel.hint.text()
    workspace = panel.workspace
    workspace.edit("Add", workspace.study.with_slides(slides))
    assert panel.run_button.text() == "Prospect 3 slides …"
    assert panel.run_button.isEnabled()
    panel.start_all(tmp_path / "maps")
    qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)
    assert "1 failed:\nbroken.tif: " in panel.tasks.status.text()
    assert "a · evidence" in viewer.layers
    assert len(workspace.maps) == 1
    assert (tmp_path / "maps" / "b.decision.prospect.ome.zarr").is_dir()
    qtbot.waitUntil(lambda: panel.section.is_settled, timeout=LONG_MS)


def test_cancelling_the_cohort_takes_effect_within_two_seconds(
    viewer: Any,
    slides: tuple[StudySlide, ...],
    head_file: Path,
    tmp_path: Path,
    mean_colour: Any,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    encode = mean_colour.encode

    def encode_slowly(tiles: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return encode(tiles)

    monkeypatch.setattr(mean_colour, "encode", encode_slowly)
    monkeypatch.setattr(mean_colour, "batch_size", 1, raising=False)
    panel = show_panel(viewer)
    panel.choose_head(head_file)
    qtbot.waitUntil(lambda: panel.workspace.head is not None, timeout=LONG_MS)
    panel.workspace.edit("Add", panel.workspace.study.with_slides(slides))
    panel.form.scope.setCurrentIndex(1)
    panel.start_all(tmp_path / "maps")
    qtbot.waitUntil(lambda: panel.tasks.progress.value() >= 1, timeout=LONG_MS)
    pressed = time.perf_counter()
    panel.tasks.cancel_button.click()
    qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)
    assert time.perf_counter() - pressed < 2
    assert "Stopped" in panel.tasks.status.text()
