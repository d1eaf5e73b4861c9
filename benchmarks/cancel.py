"""Cancelling the embedding of a slide in napari's job, 20 times at random instants, with a ViT-S on the CPU.

    python benchmarks/cancel.py

Promise: a cancel takes effect within 2 s, whatever is at work: importing torch and loading the weights, finding the
tissue, reading tiles, a batch, writing. The store is sound after each, and what goes on from it ends in the same bytes
as a run that was never interrupted. The weights are random: they take as long as trained ones.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_prospector._napari.embed_job import EmbedJob, EmbedResult, embed
from napari_prospector._napari.progress import Stopped, stoppable
from napari_prospector.study.project import EncoderChoice, StudySlide
from napari_prospector.tokens.generate import draw_slide
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import TokenGrid

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL, SEED, N_CANCELS, BAR_S = "vit_small_patch14_dinov2.lvd142m", 5, 20, 2.0


@dataclass
class Watched:
    """A job in a thread, with what it said last."""

    job: EmbedJob
    stop: threading.Event
    stage: str = "start"
    outcome: Any = None

    def run(self) -> None:
        """Do the job until it is done or stopped."""
        steps = stoppable(embed(self.job), self.stop)
        while True:
            try:
                self.stage = next(steps).stage
            except StopIteration as end:
                self.outcome = end.value
                return


def random_weights(folder: Path) -> Path:
    """Write a weight file of the model."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    model = timm.create_model(MODEL, pretrained=False, num_classes=0, img_size=224)
    save_file(model.state_dict(), folder / "vit.safetensors")
    return folder / "vit.safetensors"


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path in there."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def cancelled(job: EmbedJob, after_s: float) -> dict[str, Any]:
    """Cancel a job some time after its start; say how long it took to end, and what it was doing.

    A job that was done by then is not counted.
    """
    watched = Watched(job, threading.Event())
    thread = threading.Thread(target=watched.run)
    thread.start()
    thread.join(after_s)
    stage, asked = watched.stage, time.perf_counter()
    watched.stop.set()
    thread.join()
    waited = time.perf_counter() - asked
    assert isinstance(watched.outcome, Stopped | EmbedResult), watched.outcome
    tokens = job.slides[0].tokens
    assert tokens is not None
    done = TokenGrid.open(tokens).counts()["done"] if tokens.exists() else 0
    was_running = isinstance(watched.outcome, Stopped)
    return {"after_s": after_s, "stage": stage, "waited_s": waited, "tiles_kept": done, "was_running": was_running}


def whole_run(job: EmbedJob) -> float:
    """Do a job twice without interruption; return the seconds of the second run: the first one imports and compiles."""
    tokens, seconds = job.slides[0].tokens, 0.0
    assert tokens is not None
    for _ in range(2):
        shutil.rmtree(tokens, ignore_errors=True)
        started = time.perf_counter()
        watched = Watched(job, threading.Event())
        watched.run()
        seconds = time.perf_counter() - started
        assert watched.outcome == EmbedResult(1), watched.outcome
    return seconds


def cancelled_runs(job: EmbedJob, seconds: float, expected: dict[str, bytes]) -> list[dict[str, Any]]:
    """Cancel a job at random instants, on one store that goes on; where it is whole it is compared and begun anew."""
    rng, runs, tokens = random.Random(SEED), [], job.slides[0].tokens
    assert tokens is not None
    while len(runs) < N_CANCELS:
        run = cancelled(job, rng.uniform(0, seconds))
        if run.pop("was_running"):
            runs.append(run)
            print(json.dumps(run), flush=True)
        if tokens.exists() and TokenGrid.open(tokens).is_complete:
            assert files(tokens) == expected
            shutil.rmtree(tokens)
    Watched(job, threading.Event()).run()
    assert files(tokens) == expected, "what goes on ends in the same bytes"
    return runs


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write_pyramid(folder / "slide.tif", draw_slide(SEED, True, (1500, 1600)).image, 1.0)
        choice = EncoderChoice(MODEL, weights=random_weights(folder), tile_px=224, mpp=1.0)
        whole, stopped = folder / "whole.tokens.zarr", folder / "stopped.tokens.zarr"
        seconds = whole_run(EmbedJob((StudySlide(file, tokens=whole),), choice))
        n_tiles = TokenGrid.open(whole).counts()["done"]
        runs = cancelled_runs(EmbedJob((StudySlide(file, tokens=stopped),), choice), seconds, files(whole))
    waits = [run["waited_s"] for run in runs]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    record = {
        "model": MODEL,
        "cores": os.cpu_count(),
        "load_at_end": os.getloadavg()[0],
        "tiles": n_tiles,
        "whole_run_s": seconds,
        "waited_s": {"median": statistics.median(waits), "most": max(waits), "bar": BAR_S},
        "same_bytes": True,
        "runs": runs,
        "seed": SEED,
        "commit": commit.stdout.strip(),
    }
    print(json.dumps(record["waited_s"]))
    output = REPOSITORY / "benchmarks" / "results" / "cancel.json"
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
