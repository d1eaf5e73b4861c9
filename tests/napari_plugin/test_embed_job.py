"""Embedding the slides of a cohort: what is known of each, the plan, the job; without a window."""

from __future__ import annotations

import random
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_prospector._napari.embed_job import (
    EmbedJob,
    EmbedResult,
    check_embedding,
    embed,
    estimate,
    plan_embedding,
    remedy,
)
from napari_prospector._napari.progress import Refusal, Steps, Stopped, stoppable
from napari_prospector._napari.request import default_tokens_path
from napari_prospector._napari.slide_state import SlideState, look_at, tokens_path
from napari_prospector.errors import UnknownNameError
from napari_prospector.study.project import EncoderChoice, StudySlide
from napari_prospector.tokens.doctor import Check
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import TokenGrid

CHOICE = EncoderChoice("mean-colour")


def drive(steps: Steps[Any]) -> tuple[list[Any], Any]:
    """Return all that was told, and what came of it."""
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path in there."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def slides(planted: Any, tmp_path: Path) -> list[StudySlide]:
    return [StudySlide(planted.write(tmp_path / name, seed=seed)) for seed, name in enumerate(("a.tif", "b.tif"))]


@pytest.fixture
def glass(tmp_path: Path) -> StudySlide:
    """A slide without tissue."""
    return StudySlide(write_pyramid(tmp_path / "glass.tif", np.full((1400, 1500, 3), 244, np.uint8), 0.5))


def test_a_slide_is_embedded_and_known_to_be(slides: list[StudySlide]) -> None:
    first = look_at(slides[0], CHOICE)
    assert (str(first), first.can_embed, first.stated_mpp) == ("not embedded", True, 0.5)
    told, result = drive(embed(EmbedJob((slides[0],), CHOICE)))
    assert result == EmbedResult(1)
    grid = TokenGrid.open(tokens_path(slides[0], CHOICE))
    after = look_at(slides[0], CHOICE)
    assert (after.done, after.total) == (grid.counts()["done"], grid.counts()["done"])
    assert str(after) == f"{after.done:,} tiles embedded"
    assert not after.can_embed
    assert told[-1].found == after
    assert "Slide 1 of 1, a.tif" in str(told[-1])


def test_one_that_fails_is_told_and_the_others_go_on(slides: list[StudySlide], glass: StudySlide) -> None:
    told, result = drive(embed(EmbedJob((glass, *slides), CHOICE)))
    assert result.n_finished == 2
    assert "glass.tif: glass.tif must show tissue" in result.sentence()
    failed = [one.found for one in told if isinstance(one.found, SlideState) and one.found.problem]
    assert [state.slide for state in failed] == [glass]
    assert str(failed[0]).startswith("failed: ")
    assert failed[0].can_embed, "it may be tried again"
    assert all(look_at(slide, CHOICE).is_finished for slide in slides)


def test_a_slide_that_vanished_meanwhile_is_told(slides: list[StudySlide]) -> None:
    slides[0].path.unlink()
    _, result = drive(embed(EmbedJob(tuple(slides), CHOICE)))
    assert (result.n_finished, result.problems) == (1, ("a.tif: There is no file.",))


def test_time_left_is_that_of_all_slides(slides: list[StudySlide]) -> None:
    class Clock:
        """Says how much there is to do."""

        def __call__(self, done: int, total: int) -> float:
            return float(total - done)

    told, _ = drive(embed(EmbedJob(tuple(slides), CHOICE), clock=Clock))  # type: ignore[arg-type]
    left = [one.seconds_left for one in told if one.stage.startswith("Slide")]
    assert left == sorted(left, reverse=True)
    assert left[0] == 2000
    assert left[-1] == 0


def test_where_tiles_take_long_little_is_lost_by_a_cancel(slides: list[StudySlide], mean_colour: Any) -> None:
    for slide, is_slow, rows in ((slides[0], False, 11), (slides[1], True, 4)):
        mean_colour.fills_cores = is_slow
        drive(embed(EmbedJob((slide,), CHOICE)))
        first = next(TokenGrid.open(tokens_path(slide, CHOICE)).blocks())
        assert first.rows == slice(0, rows)


def test_tokens_of_the_command_beside_the_slide_are_found(slides: list[StudySlide]) -> None:
    drive(embed(EmbedJob((slides[0],), CHOICE)))
    made = tokens_path(slides[0], CHOICE)
    command = slides[0].path.parent / "tokens" / "a.tif.tokens.zarr"
    command.parent.mkdir()
    made.rename(command)
    state = look_at(slides[0], CHOICE)
    assert state.is_finished
    assert state.tokens == command
    # of another encoder, or another slide, they do not count
    assert not look_at(slides[0], EncoderChoice("stain-texture")).is_finished
    command.rename(command.with_name("b.tif.tokens.zarr"))
    assert not look_at(slides[1], CHOICE).total


def test_tokens_lie_where_the_row_says(slides: list[StudySlide], tmp_path: Path) -> None:
    slide = replace(slides[0], tokens=tmp_path / "elsewhere" / "mine.tokens.zarr")
    drive(embed(EmbedJob((slide,), CHOICE)))
    assert look_at(slide, CHOICE).tokens == slide.tokens
    assert TokenGrid.open(slide.tokens).is_complete
    assert not tokens_path(slides[0], CHOICE).exists()


def test_another_size_of_tiles_is_another_grid() -> None:
    own = {"name": "stain-texture", "tile_px": 224, "mpp": 0.5}
    paths = [
        default_tokens_path(Path("/s/a.svs"), encoder).name
        for encoder in ({"name": "stain-texture"}, own, own | {"mpp": 1.0}, own | {"tile_px": 128, "mpp": 0.50004})
    ]
    assert paths == [
        "a.svs.stain-texture.tokens.zarr",
        "a.svs.stain-texture.tokens.zarr",
        "a.svs.stain-texture.1um.tokens.zarr",
        "a.svs.stain-texture.128px.tokens.zarr",
    ]


def test_states_say_what_is_to_be_done(slides: list[StudySlide], tmp_path: Path) -> None:
    gone = look_at(StudySlide(tmp_path / "gone.svs"), CHOICE)
    assert (str(gone), gone.can_embed) == ("no file", False)
    bare = tmp_path / "bare.png"
    Image.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(bare)
    state = look_at(StudySlide(bare), CHOICE)
    assert (str(state), state.needs_mpp, state.can_embed) == ("no pixel size", True, False)
    assert look_at(StudySlide(bare, mpp=0.5), CHOICE).can_embed
    (tmp_path / "broken.svs").write_bytes(b"II*\0")
    broken = look_at(StudySlide(tmp_path / "broken.svs"), CHOICE)
    assert str(broken).startswith("failed: broken.svs")
    ranks = [state.rank for state in (gone, broken, state, look_at(slides[0], CHOICE))]
    assert ranks == sorted(ranks)


def test_a_plan_is_a_job_or_says_why_not(slides: list[StudySlide], tmp_path: Path) -> None:
    states = [look_at(slide, CHOICE) for slide in slides]
    assert plan_embedding(states, CHOICE) == EmbedJob(tuple(slides), CHOICE)
    finished = replace(states[0], done=7, total=7)
    assert plan_embedding([finished, states[1]], CHOICE) == EmbedJob((slides[1],), CHOICE)
    for given, words in (
        ([], "Add slides first"),
        ([states[0], None], "still being looked at"),
        ([finished], "All of these are embedded"),
        ([replace(states[0], stated_mpp=None)], "Fill in the pixel size"),
        ([look_at(StudySlide(tmp_path / "gone.svs"), CHOICE)], "The column State says why"),
    ):
        planned = plan_embedding(given, CHOICE)
        assert isinstance(planned, Refusal)
        assert words in planned.sentence


def test_the_doctor_is_asked_before_and_speaks_of_the_window(slides: list[StudySlide]) -> None:
    told, checks = drive(check_embedding(EmbedJob(tuple(slides), EncoderChoice()), with_slides=True))
    assert [one.found for one in told if one.found is not None] == list(checks)
    assert {"a.tif", "b.tif", "folder", "weights"} <= {check.name for check in checks}
    assert all(check.verdict == "green" for check in checks)
    _, checks = drive(check_embedding(EmbedJob(tuple(slides), EncoderChoice("no such encoder"))))
    assert checks[-1].verdict == "red"
    said = remedy(Check("device", "amber", "cpu.", "See how long it would take: prospect embed … --estimate."))
    assert said == "See how long it would take: Check and estimate."


def test_an_estimate_counts_the_tiles_and_keeps_nothing(slides: list[StudySlide], glass: StudySlide) -> None:
    told, found = drive(estimate(EmbedJob((slides[0], glass), EncoderChoice())))
    states = [one.found for one in told if one.found is not None]
    assert states[0].n_tiles == found.n_tiles > 0
    assert str(states[0]) == f"{found.n_tiles} tiles of tissue"
    assert found.slides[1].error is not None
    assert not tokens_path(slides[0], EncoderChoice()).exists()


def test_an_encoder_that_cannot_be_loaded_ends_the_job(slides: list[StudySlide]) -> None:
    with pytest.raises(UnknownNameError, match="Encoder 'stain-textur' is unknown. Close names"):
        drive(embed(EmbedJob(tuple(slides), EncoderChoice("stain-textur"))))


def test_cancel_at_random_instants_leaves_stores_that_go_on_to_the_same_bytes(
    slides: list[StudySlide], mean_colour: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = replace(slides[0], tokens=tmp_path / "whole.tokens.zarr")
    drive(embed(EmbedJob((whole,), CHOICE)))
    expected, plain = files(whole.tokens), mean_colour.encode

    def slowly(tiles: np.ndarray) -> np.ndarray:
        time.sleep(0.03)
        return np.asarray(plain(tiles))

    mean_colour.encode = slowly
    rng = random.Random(3)
    stopped = replace(slides[0], tokens=tmp_path / "stopped.tokens.zarr")
    waited = []
    for _ in range(20):
        stop, ended = threading.Event(), []

        def work(stop: threading.Event = stop, ended: list[Any] = ended) -> None:
            ended.append(drive(stoppable(embed(EmbedJob((stopped,), CHOICE)), stop))[1])

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(rng.uniform(0, 0.3))
        asked = time.monotonic()
        stop.set()
        thread.join()
        waited.append(time.monotonic() - asked)
        assert isinstance(ended[0], Stopped | EmbedResult)
        if stopped.tokens.exists():
            counts = TokenGrid.open(stopped.tokens).counts()
            assert counts["failed"] == 0
            if isinstance(ended[0], EmbedResult):
                assert files(stopped.tokens) == expected
                shutil.rmtree(stopped.tokens)
    assert max(waited) <= 2.0
    drive(embed(EmbedJob((stopped,), CHOICE)))
    assert files(stopped.tokens) == expected
