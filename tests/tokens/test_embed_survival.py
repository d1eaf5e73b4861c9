"""Whatever stops the embedding of a slide, the next run ends with the same bytes and no leftovers."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embed_fakes
import numpy as np
import pytest
from embed_fakes import BLOCK, FakeEncoder, FakeSlide, embed, files, ragged, speckled

from napari_prospector.errors import StorageError, StoreBusyError
from napari_prospector.tokens import durable
from napari_prospector.tokens.embed import embed_slide
from napari_prospector.tokens.store import TokenGrid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fake.tokens.zarr"


def test_a_finished_store_is_not_computed_again(path):
    embed(path)
    encoder = FakeEncoder()
    embed(path, encoder=encoder)
    assert encoder.batches == []


def test_stopping_leaves_a_sound_store_that_goes_on_to_the_same_bytes(path, uninterrupted):
    slide = FakeSlide(speckled())
    for n_steps in (0, 1, 2, 7, 12):
        steps = embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK)
        for _ in range(n_steps):
            next(steps)
        steps.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert 0 < TokenGrid.open(path).counts()["done"]
    embed(path)
    assert files(path) == uninterrupted


def test_stopping_takes_effect_within_a_second(path):
    slide = FakeSlide(speckled())
    steps = embed_slide(slide, FakeEncoder(seconds=0.2), path, tissue=ragged(slide), block=BLOCK)
    next(steps)
    next(steps)
    start = time.perf_counter()
    steps.close()
    assert time.perf_counter() - start < 1
    TokenGrid.open(path, "r+").close()


def test_a_block_whose_file_has_vanished_is_computed_anew(path, uninterrupted):
    embed(path)
    (path / "embeddings/c/1/1/0").unlink()
    embed(path)
    assert files(path) == uninterrupted


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """Processes without memory in common with this one; where the system can, they need not import all anew."""
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform != "win32":
            # the server does not take over sys.path, and is silent about what it cannot import
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
            context.set_forkserver_preload(["embed_fakes", "skimage.filters", "PIL.Image"])
        yield context


@contextlib.contextmanager
def embedding(processes: Any, *args: Any, target: Any = embed_fakes.report_and_run) -> Iterator[Any]:
    """Give a process that begins to embed just now."""
    here, there = processes.Pipe()
    process = processes.Process(target=target, args=(there, *args))
    process.start()
    assert here.recv() == "ready"
    yield process
    process.kill()
    process.join()


def test_killed_at_ten_random_instants_every_rerun_ends_with_the_same_bytes(processes, tmp_path, uninterrupted):
    path = tmp_path / "whole" / "fake.tokens.zarr"
    with embedding(processes, str(path), 0.03) as process:
        start = time.perf_counter()
        process.join()
        duration = time.perf_counter() - start
    assert process.exitcode == 0
    assert files(path) == uninterrupted
    stages, exits = [], []
    for i, instant in enumerate(np.random.default_rng(20).permutation(np.arange(10) + 0.5) / 10):
        path = tmp_path / str(i) / "fake.tokens.zarr"
        with embedding(processes, str(path), 0.03) as process:
            time.sleep(instant * duration)
            process.kill()  # SIGKILL; TerminateProcess on Windows: neither can be caught
            process.join()
        exits.append(process.exitcode)
        stages.append(TokenGrid.open(path).counts()["done"] if path.exists() else -1)
        embed_fakes.run(str(path))
        assert files(path) == uninterrupted
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert sum(code != 0 for code in exits) > 3, f"most must die before they end; they ended with {exits}"
    assert len(set(stages)) > 2, f"the kills must hit different stages; the stores held {stages}"


def test_killed_again_and_again_a_store_ends_with_the_same_bytes(processes, path, uninterrupted):
    for instant in np.random.default_rng(23).random(10):
        with embedding(processes, str(path), 0.03) as process:
            time.sleep(0.8 * instant)
            process.kill()
            process.join()
        if path.exists():
            TokenGrid.open(path).counts()
    embed_fakes.run(str(path))
    assert files(path) == uninterrupted
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
def test_killed_at_twenty_random_instants_on_a_slide_file_with_the_built_in_encoder(processes, tmp_path):
    from napari_prospector.tokens.generate import draw_slide
    from napari_prospector.tokens.pyramid import write_pyramid

    slide = str(write_pyramid(tmp_path / "drawn.tif", draw_slide(3, True, (1709, 1801)).image, 1.0))
    whole = tmp_path / "whole" / "drawn.tokens.zarr"
    with embedding(processes, slide, str(whole), target=embed_fakes.report_and_run_on_file) as process:
        start = time.perf_counter()
        process.join()
        duration, expected = time.perf_counter() - start, files(whole)
    assert process.exitcode == 0
    stages = []
    for i, instant in enumerate(np.random.default_rng(29).permutation(np.arange(20) + 0.5) / 20):
        path = tmp_path / str(i) / "drawn.tokens.zarr"
        with embedding(processes, slide, str(path), target=embed_fakes.report_and_run_on_file) as process:
            time.sleep(instant * duration)
            process.kill()
            process.join()
        stages.append(TokenGrid.open(path).counts()["done"] if path.exists() else -1)
        embed_fakes.run_on_file(slide, str(path))
        assert files(path) == expected
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert len(set(stages)) > 2, f"the kills must hit different stages; the stores held {stages}"


@pytest.mark.skipif(sys.platform == "win32", reason="needs processes that start within milliseconds")
def test_killed_before_any_file_operation_every_rerun_ends_with_the_same_bytes(processes, tmp_path, uninterrupted):
    codes = []
    while 0 not in codes:
        path = tmp_path / str(len(codes)) / "fake.tokens.zarr"
        process = processes.Process(target=embed_fakes.run_and_die, args=(str(path), len(codes)))
        process.start()
        process.join()
        codes.append(process.exitcode)
        embed_fakes.run(str(path))
        assert files(path) == uninterrupted
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    # two operations for each file of metadata, state and embeddings, and the renaming of the whole
    assert codes == [9] * (len(codes) - 1) + [0]
    assert len(codes) > 2 * len(uninterrupted)


def test_a_second_process_on_the_same_store_is_refused(processes, path, uninterrupted):
    with embedding(processes, str(path), 0.1) as process:
        while not path.exists():
            time.sleep(0.005)
        with pytest.raises(StoreBusyError, match=rf"one writer at a time; process {process.pid} on"):
            embed_fakes.run(str(path))
        process.join()
    assert process.exitcode == 0
    assert files(path) == uninterrupted


@pytest.mark.parametrize("after", [0, 10, 25, 31, 40])
def test_a_disk_that_fills_up_is_named_and_the_store_goes_on_later(path, monkeypatch, uninterrupted, after):
    calls = iter(range(10**9))
    sync = os.fsync

    def refuse(handle: int) -> None:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", refuse)
        with pytest.raises(StorageError, match=r"No space left on device\. Free space there and run the same call"):
            embed(path)
    if path.exists():
        TokenGrid.open(path).counts()
    assert not [name for name in files(path.parent) if "partial" in name or "lock" in name]
    embed(path)
    assert files(path) == uninterrupted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=140k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a full disk needs the command mount")
    if mounted.returncode:
        pytest.skip(f"a full disk needs the right to mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("free_pages", [1, 5, 9, 14, 18])
def test_a_disk_that_is_really_full_is_named_and_the_store_goes_on_later(small_disk, uninterrupted, free_pages):
    path, ballast = small_disk / "fake.tokens.zarr", small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail
    ballast.write_bytes(bytes((free - free_pages) * 4096))
    with pytest.raises(StorageError, match=r"must be writable; the system says: No space left on device"):
        embed(path)
    assert not [name for name in files(small_disk) if "partial" in name or "lock" in name]
    if path.exists():
        TokenGrid.open(path).counts()
    ballast.unlink()
    embed(path)
    assert files(path) == uninterrupted


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of open files are told by Linux only")
def test_power_may_fail_at_any_instant_since_content_reaches_the_disk_before_its_name(path, monkeypatch):
    log: list[tuple[str, Path]] = []
    sync, replace = os.fsync, os.replace

    def logged_sync(handle: int) -> None:
        sync(handle)
        log.append(("synced", Path(os.readlink(f"/proc/self/fd/{handle}"))))

    def logged_replace(source: Any, target: Any) -> None:
        log.extend([("from", Path(source)), ("named", Path(target))])
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_sync)
    monkeypatch.setattr(os, "replace", logged_replace)
    grid = embed(path)
    store = log.index(("named", path))
    for i, (what, file) in enumerate(log):
        if what == "from" and i + 1 != store:
            assert ("synced", file) in log[:i], f"{file.name} was named before its content was on the disk"
    # the store appears with all its folders on the disk, and its own name is made to last before it is filled
    made = path.with_name(path.name + ".partial")
    for folder in {Path(str(made / file.relative_to(path))) for file in path.rglob("*") if file.is_dir()}:
        if "embeddings/c" not in str(folder) and "quality/c" not in str(folder):
            assert ("synced", folder.parent) in log[:store], f"{folder.name} may be lost"
    assert log[store + 1] == ("synced", path.parent)
    for block in grid.blocks():
        row, col = block.index
        state, embeddings = path / f"state/c/{row}/{col}", path / f"embeddings/c/{row}/{col}/0"
        state_named = store + log[store:].index(("named", state))
        embeddings_named = log.index(("named", embeddings))
        assert ("synced", embeddings.parent) in log[embeddings_named:state_named]
        assert ("synced", embeddings.parent.parent) in log[embeddings_named:state_named]
