"""The job, step by step, without a thread and without Qt."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari import job as job_module
from napari_prospector._napari import progress as progress_module
from napari_prospector._napari.job import ProspectResult, prospect
from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Stopped, TimeLeft, stoppable
from napari_prospector._napari.request import ProspectJob, other_tokens_paths
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.graph import grid_graph
from napari_prospector.core.head import ProspectorHead, load_head
from napari_prospector.errors import MismatchError
from napari_prospector.tokens.encoders import cards
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import TokenGrid


@pytest.fixture
def job(slide_file: Path, head_file: Path) -> ProspectJob:
    return ProspectJob(
        layer="case7",
        slide=slide_file,
        mpp=None,
        tokens=slide_file.with_name("case7.tif.mean-colour.tokens.zarr"),
        head=load_head(head_file),
        head_name=head_file.name,
        map="evidence",
        target=None,
        weights=None,
    )


def finish(steps: Generator[JobProgress, None, Any]) -> tuple[list[JobProgress], Any]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def test_a_job_embeds_and_finds_the_planted_square(job: ProspectJob, planted: Any) -> None:
    seen, result = finish(prospect(job))
    assert isinstance(result, ProspectResult)
    assert result.geometry.shape == planted.grid
    assert result.geometry.tile == planted.tile
    expected = np.zeros(planted.grid, bool)
    expected[planted.tokens] = True
    np.testing.assert_array_equal(np.nan_to_num(result.scores) > 0, expected)
    np.testing.assert_array_equal(result.concepts < 0, np.isnan(result.scores))
    assert np.isnan(result.scores[0, 0])
    assert set(result.probabilities) == {"normal", "tumour"}
    assert result.verdict().startswith("case7: ")
    assert "not calibrated" in result.verdict()
    assert result.target == "tumour"
    embedding = [step for step in seen if step.total]
    assert embedding[0].done == 0
    assert embedding[-1].done == embedding[-1].total == int((result.concepts >= 0).sum())


def test_the_built_in_encoder_is_loaded_by_its_card(job: ProspectJob) -> None:
    encoder = cards.load_encoder("stain-texture", tile_px=67, mpp=1.0)
    rng = np.random.default_rng(11)
    graphs = [
        grid_graph(np.ones((3, 5), bool), encoder.encode(rng.integers(0, 256, (15, 67, 67, 3), np.uint8)))
        for _ in range(6)
    ]
    head = ProspectorHead(n_concepts=2, radius=1, kernel="fold-change", refine=False, n_folds=2).fit(graphs, [0, 1] * 3)
    head.card_ = {"encoder": encoder.card.to_json()}
    _, result = finish(prospect(replace(job, head=head)))
    assert np.isfinite(result.scores).any()
    assert TokenGrid.open(job.tokens).card["name"] == "stain-texture"
    assert result.target == "1"


def test_tiles_are_normalized_where_those_of_the_head_were(job: ProspectJob) -> None:
    finish(prospect(job))
    job.head.card_["encoder"]["stain_normalize"] = "macenko"
    with pytest.raises(MismatchError, match="fitted on tiles with stain_normalize='macenko'"):
        finish(prospect(job))
    anew = replace(job, tokens=job.tokens.with_name("normalized.tokens.zarr"))
    finish(prospect(anew))
    assert TokenGrid.open(anew.tokens).card["stain_normalize"] == "macenko"


def test_flagged_tiles_are_left_out_where_they_were_when_the_head_was_fitted(job: ProspectJob) -> None:
    _, whole = finish(prospect(job))
    with TokenGrid.open(job.tokens) as grid:
        blur = grid.quality.values[..., 1]
        limit = float(np.nanmedian(blur[grid.mask]))
        kept = grid.usable({"blur": limit})
    job.head.card_["without"] = {"blur": limit}
    _, result = finish(prospect(job))
    assert 0 < kept.sum() < np.isfinite(whole.scores).sum()
    np.testing.assert_array_equal(np.isfinite(result.scores), kept)
    np.testing.assert_array_equal(result.concepts >= 0, kept)


def test_a_finished_grid_is_used_as_it_is(job: ProspectJob, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = finish(prospect(job))
    monkeypatch.setattr(job_module, "_load_encoder", lambda *_: pytest.fail("the encoder was loaded"))
    seen, second = finish(prospect(job))
    assert not any(step.total for step in seen)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(finish(prospect(replace(job, slide=None)))[1].scores, first.scores)


def test_tokens_that_the_command_line_made_are_found(
    job: ProspectJob, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job.slide is not None
    elsewhere = other_tokens_paths(job.slide)
    finish(prospect(replace(job, tokens=elsewhere[2])))
    damaged, foreign = elsewhere[0], elsewhere[1]
    damaged.mkdir()
    other = planted.write(job.slide.with_name("case8.tif"), planted=False)
    finish(prospect(replace(job, slide=other, tokens=foreign)))
    monkeypatch.setattr(job_module, "_load_encoder", lambda *_: pytest.fail("the encoder was loaded"))
    _, result = finish(prospect(replace(job, also_look_in=elsewhere)))
    assert np.nanmax(result.scores) > 0
    assert not job.tokens.exists()


def test_a_grid_goes_on_with_the_pixel_size_that_it_was_begun_with(job: ProspectJob) -> None:
    steps = prospect(job)
    while next(steps).total == 0:
        pass
    steps.close()
    job.head.card_["encoder"]["mpp"] = 1.000003  # a head keeps it after rounding to whole level-0 pixels
    _, result = finish(prospect(job))
    assert TokenGrid.open(job.tokens).card["mpp"] == 1.0
    assert np.nanmax(result.scores) > 0


def test_the_map_for_the_other_class_is_the_negative(job: ProspectJob) -> None:
    _, tumour = finish(prospect(replace(job, target="tumour")))
    _, normal = finish(prospect(replace(job, target="normal")))
    np.testing.assert_allclose(normal.scores, -tumour.scores)


def test_stopping_at_any_step_leaves_a_grid_that_goes_on_to_the_same_map(
    job: ProspectJob, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "TELL_EVERY_S", 0)
    _, whole = finish(stoppable(prospect(replace(job, tokens=job.tokens.with_name("whole.tokens.zarr"))), Event()))
    for n_steps in range(1, 30):
        stop = Event()
        steps = stoppable(prospect(job), stop)
        for _ in range(n_steps):
            if next(steps, None) is None:
                break
        stop.set()
        _, outcome = finish(steps)
        if job.tokens.exists():
            assert TokenGrid.open(job.tokens).geometry.shape == planted.grid
        if not isinstance(outcome, Stopped):
            break
    _, outcome = finish(stoppable(prospect(job), Event()))
    np.testing.assert_array_equal(outcome.scores, whole.scores)
    assert not list(job.tokens.parent.glob("*.partial*"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"slide": Path("/nowhere/case9.svs")}, "no slide .*case9.svs"),
        ({"slide": None}, "There is no token grid"),
        ({"mpp": 0.0001}, "mpp must be"),
    ],
)
def test_errors_for_the_user_become_a_sentence(job: ProspectJob, changes: dict[str, Any], sentence: str) -> None:
    _, outcome = finish(stoppable(prospect(replace(job, **changes)), Event()))
    assert isinstance(outcome, Refusal)
    assert re.search(sentence, outcome.sentence)


def test_the_grid_of_another_slide_is_refused(job: ProspectJob, planted: Any) -> None:
    finish(prospect(job))
    other = planted.write(job.tokens.with_name("case8.tif"), seed=1)
    with pytest.raises(MismatchError, match=r"holds the tokens of another file, case7.tif. Choose another folder"):
        finish(prospect(replace(job, slide=other)))


def test_the_grid_of_another_pixel_size_is_refused(job: ProspectJob) -> None:
    finish(prospect(job))
    with pytest.raises(MismatchError, match=r"made with pixels of 0.5 µm; now they are 0.6 µm"):
        finish(prospect(replace(job, mpp=0.6)))


def test_a_head_of_another_encoder_is_refused_before_anything_is_embedded(
    job: ProspectJob, mean_colour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SimpleNamespace(card=dataclasses.replace(mean_colour.card, tile_px=71))
    monkeypatch.setattr(cards, "load_encoder", lambda *_, **__: other)
    with pytest.raises(MismatchError, match="71"):
        finish(prospect(job))
    assert not job.tokens.exists()


def test_an_encoder_with_weights_asks_for_their_file(job: ProspectJob) -> None:
    job.head.card_["encoder"] = {"name": "dinov2_s14", "weights_sha256": "ab" * 32}
    _, outcome = finish(stoppable(prospect(job), Event()))
    assert outcome == Refusal(
        "square.prospector was fitted on 'dinov2_s14', whose weights are a file of their own. "
        "Choose that file under 'Weights'."
    )


def test_a_head_that_names_no_encoder_asks_for_a_finished_grid(job: ProspectJob) -> None:
    finish(prospect(job))
    job.head.card_.clear()
    assert isinstance(finish(stoppable(prospect(replace(job, slide=None)), Event()))[1], ProspectResult)
    _, outcome = finish(stoppable(prospect(replace(job, tokens=job.tokens.with_name("new.tokens.zarr"))), Event()))
    assert isinstance(outcome, Refusal)
    assert "does not say which encoder it was fitted on" in outcome.sentence


def test_a_slide_without_tissue_says_so_and_leaves_nothing(job: ProspectJob, planted: Any) -> None:
    glass = write_pyramid(job.tokens.with_name("glass.tif"), np.full((*planted.shape, 3), 244, np.uint8), 0.5)
    _, outcome = finish(stoppable(prospect(replace(job, slide=glass)), Event()))
    assert isinstance(outcome, Refusal)
    assert "tissue" in outcome.sentence
    assert not job.tokens.exists()


def test_a_bug_is_kept_with_its_traceback(job: ProspectJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug of the encoder")

    monkeypatch.setattr(job_module, "_load_encoder", broken)
    _, outcome = finish(stoppable(prospect(job), Event()))
    assert isinstance(outcome, Failure)
    assert outcome.error.__traceback__ is not None


def test_time_left_counts_the_work_of_this_run_alone() -> None:
    clock = iter([100.0, 100.5, 110.0, 120.0])
    time_left = TimeLeft(lambda: next(clock))
    assert time_left(400, 1000) is None
    assert time_left(410, 1000) is None
    assert time_left(500, 1000) == pytest.approx(50)
    assert time_left(1000, 1000) == 0


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (JobProgress("Opening"), "Opening"),
        (JobProgress("Embedding tiles", 1200, 34567), "Embedding tiles · 1,200 of 34,567"),
        (JobProgress("Embedding tiles", 1, 7, 0.2), "Embedding tiles · 1 of 7 · 1 s left"),
        (JobProgress("Embedding tiles", 1, 7, 59.7), "Embedding tiles · 1 of 7 · 1 min left"),
        (JobProgress("Embedding tiles", 1, 7, 3560), "Embedding tiles · 1 of 7 · 59 min left"),
        (JobProgress("Embedding tiles", 1, 7, 9000), "Embedding tiles · 1 of 7 · 2.5 h left"),
    ],
)
def test_progress_reads_as_a_line(progress: JobProgress, line: str) -> None:
    assert str(progress) == line


def test_failed_tiles_are_told(job: ProspectJob) -> None:
    head = SimpleNamespace(is_calibrated_=True, notes_=(), concept_edits_=ConceptEdits.of(2))
    unused: Any = None
    result = ProspectResult(
        replace(job, head=head), job.tokens, "", unused, unused, unused, unused, {}, {"tumour": 0.934}, 1234
    )
    assert result.verdict() == "case7: tumour 93%\n1,234 tiles could not be read and are holes in the map."
