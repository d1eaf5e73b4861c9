"""Tiles on their way to the encoder, and blocks on theirs to the disk: in order, bounded, nothing lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_fakes import BLOCK, FakeEncoder, FakeSlide, embed, files, ragged, speckled

from napari_prospector.errors import NotEnoughMemoryError, ProspectorWarning, StorageError
from napari_prospector.tokens.embed import embed_slide
from napari_prospector.tokens.generate import draw_slide
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.gridblocks import blocks_of
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.segments import Segments
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.store import TokenGrid
from napari_prospector.tokens.tilereader import TileReader, Tiles
from napari_prospector.tokens.tilestream import batches, in_lanes, tiles_ahead


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fake.tokens.zarr"


def made(sizes: list[int]) -> tuple[list[Tiles], Tiles]:
    """Parts of such sizes, every fifth tile unreadable, and the same in one piece."""
    n = sum(sizes)
    rng = np.random.default_rng(n)
    tokens, pixels = np.arange(2 * n).reshape(n, 2), rng.integers(0, 256, (n, 3, 5, 3), dtype=np.uint8)
    quality = rng.random((n, 2)).astype(np.float32)
    parts, start = [], 0
    for size in sizes:
        here = slice(start, start + size)
        reasons = {i - start: f"tile {i}" for i in range(start, start + size) if i % 5 == 0}
        parts.append(Tiles(tokens[here], pixels[here], reasons, quality[here]))
        start += size
    return parts, Tiles(tokens, pixels, {i: f"tile {i}" for i in range(0, n, 5)}, quality)


@pytest.mark.parametrize("sizes", [[1], [7], [8], [14, 1], [3, 3, 3], [1, 1, 1, 1, 20], [20, 1, 13], [2, 0, 5, 7]])
def test_batches_hold_all_tiles_in_order_whichever_way_they_come(sizes: list[int]) -> None:
    parts, whole = made(sizes)
    cut = list(batches(parts, 7))
    n = sum(sizes)
    assert [len(batch.tokens) for batch in cut] == [7] * (n // 7) + [n % 7] * (n % 7 > 0)
    for name in ("tokens", "pixels", "quality"):
        np.testing.assert_array_equal(np.concatenate([getattr(batch, name) for batch in cut]), getattr(whole, name))
    assert {7 * k + i: why for k, batch in enumerate(cut) for i, why in batch.reasons.items()} == whole.reasons


def test_batches_of_one_large_part_are_not_copied() -> None:
    (part,), _ = made([20])
    assert all(np.shares_memory(batch.pixels, part.pixels) for batch in batches([part], 7))


@pytest.mark.parametrize("n_lanes", [1, 2, 3])
def test_lanes_keep_the_order_and_run_at_once(n_lanes: int) -> None:
    meeting, threads = threading.Barrier(n_lanes, timeout=20), set()

    def work(item: int) -> int:
        meeting.wait()  # passes only when all lanes are at work
        threads.add(threading.get_ident())
        return item * item

    assert list(in_lanes(work, range(6), n_lanes)) == [(i, i * i) for i in range(6)]
    assert len(threads) == n_lanes


def test_work_that_fails_in_a_lane_ends_the_stream_at_its_item() -> None:
    taken = []

    def items() -> Any:
        for i in range(100):
            taken.append(i)
            yield i

    stream = in_lanes(lambda i: 6 // (3 - i), items(), 2)
    assert [next(stream) for _ in range(3)] == [(0, 2), (1, 3), (2, 6)]
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert len(taken) < 7


class TwoLanes(FakeEncoder):
    """Is given two batches at once, in threads."""

    lanes = 2


def test_the_bytes_do_not_depend_on_how_many_batches_are_under_way(path, uninterrupted):
    encoder = TwoLanes()
    embed(path, encoder=encoder)
    assert files(path) == uninterrupted
    plain = FakeEncoder()
    embed(path.with_name("plain.tokens.zarr"), encoder=plain)
    assert sorted(encoder.batches) == sorted(plain.batches)


def test_stopping_with_batches_under_way_leaves_a_store_that_goes_on(path, uninterrupted):
    slide = FakeSlide(speckled())
    for n_steps in (1, 2, 5, 9):
        steps = embed_slide(slide, TwoLanes(seconds=0.01), path, tissue=ragged(slide), block=BLOCK)
        for _ in range(n_steps):
            next(steps)
        steps.close()
    embed(path, encoder=TwoLanes())
    assert files(path) == uninterrupted


class Cramped(FakeEncoder):
    """Has memory for `most` tiles at once, and sums that do not depend on the batch."""

    most = 2

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        if len(tiles) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().encode(tiles) - len(tiles) / 64


def test_an_encoder_that_runs_out_of_memory_takes_fewer_tiles_and_loses_none(path):
    with pytest.warns(
        ProspectorWarning, match="'fake': 5 tiles at once do not fit in memory; it goes on with 2"
    ) as told:
        grid = embed(path, encoder=Cramped())
    assert len(told) == 1
    roomy = Cramped()
    roomy.most = 5
    embed(path.with_name("roomy.tokens.zarr"), encoder=roomy)
    assert grid.is_complete
    assert files(path) == files(path.with_name("roomy.tokens.zarr"))


def test_without_memory_for_one_tile_the_store_is_sound_and_goes_on(path, uninterrupted):
    slide, encoder = FakeSlide(speckled()), FakeEncoder()
    encoder.spoil = lambda vectors: vectors if len(encoder.batches) < 12 else (_ for _ in ()).throw(MemoryError())
    with (
        pytest.warns(ProspectorWarning),
        pytest.raises(NotEnoughMemoryError, match="'fake' must have memory for one tile at a time.*is kept"),
    ):
        embed(path, slide, encoder)
    assert 0 < TokenGrid.open(path).counts()["done"]
    embed(path)
    assert files(path) == uninterrupted


def test_the_last_step_comes_when_everything_is_on_the_disk(path):
    slide = FakeSlide(speckled())
    for step in embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK):
        if step.done == step.total:
            assert TokenGrid.open(path).is_complete


def test_blocks_are_written_while_the_encoder_goes_on(path, monkeypatch):
    written, encoded = threading.Event(), threading.Event()
    write_block = TokenGrid.write_block

    def waits(self: TokenGrid, *block: Any) -> None:
        if not written.is_set():
            assert encoded.wait(20), "the encoder must not wait for the first block to be written"
        write_block(self, *block)
        written.set()

    monkeypatch.setattr(TokenGrid, "write_block", waits)
    encoder, n_blocks = FakeEncoder(batch_size=36), 0
    slide = FakeSlide(speckled())
    for _ in embed_slide(slide, encoder, path, tissue=ragged(slide), block=BLOCK):
        n_blocks += 1
        if n_blocks == 2:
            encoded.set()
    assert TokenGrid.open(path).is_complete


def test_a_block_that_cannot_be_written_ends_the_run_with_that_error(path, uninterrupted, monkeypatch):
    write_block, calls = TokenGrid.write_block, []

    def refuses(self: TokenGrid, *block: Any) -> None:
        calls.append(block[0].index)
        if len(calls) == 2:
            raise StorageError("the disk is full")
        write_block(self, *block)

    encoder = FakeEncoder()
    with monkeypatch.context() as patch:
        patch.setattr(TokenGrid, "write_block", refuses)
        with pytest.raises(StorageError, match="the disk is full"):
            embed(path, encoder=encoder)
    assert calls[:2] == [(0, 0), (0, 1)]
    assert len(calls) < 6
    embed(path)
    assert files(path) == uninterrupted


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = draw_slide(3, True, (1709, 1801)).image
    return write_pyramid(tmp_path_factory.mktemp("slide") / "drawn.tif", image, 1.0, tile_px=128)


@pytest.mark.parametrize("tile_px", [64, 56])
def test_a_pass_decodes_each_tile_of_the_file_once(drawn, path, monkeypatch, tile_px):
    decoded: list[tuple[int, int]] = []
    decode = Segments.decode_segment

    def counted(self: Segments, file: Any, index: int, where: str) -> Any:
        decoded.append((self.shape[0], index))
        return decode(self, file, index, where)

    with open_slide(drawn) as slide:
        geometry = GridGeometry.cover(slide.shape, 1.0, tile_px, 1.0, None)
        reader = TileReader(slide, geometry)
        state = np.ones(geometry.shape, np.uint8)
        blocks = list(blocks_of(geometry.shape, (8, 8)))
        monkeypatch.setattr(Segments, "decode_segment", counted)
        # of several threads, two may want one tile at the same moment and both decode it
        with tiles_ahead(reader, reader.read, blocks, state, n_readers=1) as stream:
            n_tiles = sum(len(tiles.tokens) for _, tiles in stream)
    assert n_tiles == state.size
    assert len(decoded) == len(set(decoded))
    rows, cols = (min(n * tile_px, extent) for n, extent in zip(geometry.shape, slide.shape, strict=True))
    assert len(set(decoded)) == -(-rows // 128) * -(-cols // 128)


def test_where_the_encoder_fills_the_cores_nothing_is_read_while_it_works_and_the_store_is_the_same(
    path, uninterrupted, monkeypatch
):
    active, most, lock, busy = 0, 0, threading.Lock(), []
    real = TileReader.read

    def counted(self: TileReader, tokens: Any) -> Tiles:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        try:
            return real(self, tokens)
        finally:
            with lock:
                active -= 1

    class Greedy(FakeEncoder):
        fills_cores = True

        def encode(self, tiles: np.ndarray) -> np.ndarray:
            busy.append(active)
            return super().encode(tiles)

    monkeypatch.setattr(TileReader, "read", counted)
    embed(path, encoder=Greedy(), n_readers=3)
    assert len(busy) > 3
    assert set(busy) == {0}
    assert 1 <= most <= 3
    assert files(path) == uninterrupted
