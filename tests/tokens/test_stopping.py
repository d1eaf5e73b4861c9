"""Whoever stops a job has it stopped in the middle of a step."""

from __future__ import annotations

import threading
from pathlib import Path

import embed_fakes
import numpy as np
import pytest

from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.stopping import StopRequested, check_stop, stopping_when
from napari_prospector.tokens.store import TokenGrid


class After:
    """Says that the job was stopped once it has been asked so often."""

    def __init__(self, n_times: int) -> None:
        self.left = n_times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_where_nobody_stops_nothing_happens() -> None:
    check_stop()
    with stopping_when(lambda: False):
        check_stop()


def test_a_stop_ends_what_its_thread_does_and_no_other() -> None:
    went_on = []
    with stopping_when(lambda: True):
        other = threading.Thread(target=lambda: (check_stop(), went_on.append(1)))
        other.start()
        other.join()
        with pytest.raises(StopRequested):
            check_stop()
    check_stop()
    assert went_on == [1]


def test_an_overview_is_left_between_its_blocks(tmp_path: Path) -> None:
    file = write_pyramid(tmp_path / "s.tif", np.full((4500, 2300, 3), 200, np.uint8), 0.5)
    with open_slide(file) as slide:
        asked = After(1)
        with pytest.raises(StopRequested), stopping_when(asked):
            slide._shrunk(0, 2)
        assert asked.left == -1


@pytest.mark.parametrize("n_times", [0, 1, 3, 11, 17])
def test_a_slide_stopped_within_a_step_goes_on_to_the_same_bytes(tmp_path: Path, n_times: int) -> None:
    whole = embed_fakes.embed(tmp_path / "whole.tokens.zarr")
    stopped = tmp_path / "stopped.tokens.zarr"
    with pytest.raises(StopRequested), stopping_when(After(n_times)):
        embed_fakes.embed(stopped)
    if stopped.exists():
        assert TokenGrid.open(stopped).counts()["failed"] == whole.counts()["failed"]
    embed_fakes.embed(stopped)
    assert embed_fakes.files(stopped) == embed_fakes.files(whole.path)
