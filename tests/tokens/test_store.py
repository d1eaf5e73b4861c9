"""The token grid: what it holds, what it refuses, and that nothing half-written is ever seen."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MismatchError,
    MissingFileError,
    StorageError,
    StoreBusyError,
)
from napari_prospector.tokens import durable
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import BACKGROUND, DONE, FAILED, PENDING, TokenGrid

ROWS, COLS, DIMS, BLOCK = 11, 13, 7, 5
GEOMETRY = GridGeometry(ROWS, COLS, tile=23, stride=23, origin=(0, 0), slide_mpp=0.5, tile_px=23)
CARD = {"name": "fake", "n_dims": DIMS, "weights_sha256": "ab" * 32, "model_args": {"depth": 3}}
MASK = np.random.default_rng(3).random((ROWS, COLS)) < 0.7


def create(path: Path, **changes: Any) -> TokenGrid:
    arguments: dict[str, Any] = {
        "geometry": GEOMETRY,
        "card": CARD,
        "slide_name": "case7.svs",
        "slide_fingerprint": "f0" * 32,
        "level0_shape": (257, 307),
        "block": BLOCK,
        "mask": MASK,
        "tissue": {"method": "otsu", "threshold": 0.11},
    }
    return TokenGrid.create(path, **(arguments | changes))


def embedding(row: int, col: int) -> np.ndarray:
    return np.arange(DIMS) / 8 + 16 * row + col


def fill(grid: TokenGrid, failed: tuple[tuple[int, int], ...] = ()) -> None:
    state = grid.state
    for token in failed:
        state[token] = FAILED
    state[state == PENDING] = DONE
    rows, cols = np.indices((ROWS, COLS))
    values = np.arange(DIMS) / 8 + (16 * rows + cols)[..., None]
    for block in grid.blocks():
        if (state[block.tokens] == DONE).any():
            grid.write_block(block, values[block.tokens], state[block.tokens])


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "case7.tokens.zarr"


@pytest.fixture
def filled(path: Path) -> Path:
    with create(path) as grid:
        fill(grid)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_was_written_comes_back_at_its_place_and_in_its_dtype(path, dtype):
    with create(path, dtype=dtype) as grid:
        fill(grid)
    grid = TokenGrid.open(path)
    assert grid.is_complete
    assert grid.embeddings.dtype == dtype
    assert grid.mask.tolist() == MASK.tolist()
    for row, col in np.argwhere(MASK):
        np.testing.assert_array_equal(grid.embeddings[row, col], embedding(row, col))
    assert np.isnan(np.asarray(grid.embeddings[:])[~MASK]).all()


def test_a_new_store_is_pending_where_the_mask_is_and_background_elsewhere(path):
    coverage = np.random.default_rng(5).random((ROWS, COLS)).astype(np.float32)
    with create(path, coverage=coverage) as grid:
        assert grid.state.tolist() == np.where(MASK, PENDING, BACKGROUND).tolist()
        assert grid.counts() == {"background": (~MASK).sum(), "pending": MASK.sum(), "done": 0, "failed": 0}
        assert not grid.is_complete
        np.testing.assert_array_equal(grid.coverage, coverage)


def test_the_attributes_say_where_from_and_neither_when_nor_where_to(filled):
    attrs = json.loads((filled / "zarr.json").read_text())["attributes"]
    assert attrs == TokenGrid.open(filled).attrs
    assert attrs["slide_name"] == "case7.svs"
    assert attrs["slide_fingerprint"] == "f0" * 32
    assert attrs["level0_shape"] == [257, 307]
    assert (attrs["tile_px"], attrs["stride_px"], attrs["mpp"], attrs["origin"]) == (23, 23.0, 0.5, [0, 0])
    assert attrs["encoder"] == CARD
    assert attrs["tissue"] == {"method": "otsu", "threshold": 0.11}
    assert attrs["transforms"]["coordinateTransformations"][0] == {"type": "scale", "scale": [11.5, 11.5]}
    text = "".join(content.decode("latin-1") for content in files(filled).values())
    assert str(filled.parent) not in text


def test_a_store_made_twice_has_the_same_bytes(path, tmp_path):
    for place in (path, tmp_path / "other.tokens.zarr"):
        with create(place) as grid:
            fill(grid)
    assert files(path) == files(tmp_path / "other.tokens.zarr")


def test_a_block_is_one_file_of_embeddings_and_one_of_state(filled):
    names = [name for name in files(filled) if "/c/" in name and not name.startswith("coverage")]
    n_blocks = -(-ROWS // BLOCK) * -(-COLS // BLOCK)
    assert len(names) == 2 * n_blocks
    assert "embeddings/c/2/1/0" in names


def test_nothing_is_left_beside_a_store(filled):
    assert [p.name for p in filled.parent.iterdir()] == [filled.name]


def test_the_graph_holds_the_finished_tokens_row_by_row(path):
    failed = tuple(map(tuple, np.argwhere(MASK)[[4, 17]]))
    with create(path) as grid:
        fill(grid, failed)
        graph = grid.graph()
    expected = MASK.copy()
    expected[tuple(np.transpose(failed))] = False
    assert graph.embeddings.dtype == np.float16
    np.testing.assert_array_equal(graph.positions, np.argwhere(expected))
    np.testing.assert_array_equal(graph.mask, expected)
    for vector, (row, col) in zip(graph.embeddings, graph.positions.astype(int), strict=True):
        np.testing.assert_array_equal(vector, embedding(row, col))


def test_streaming_gives_each_finished_token_once(filled):
    grid = TokenGrid.open(filled)
    seen = [
        (tuple(token), vector)
        for tokens, block in grid.iter_blocks()
        for token, vector in zip(tokens, block, strict=True)
    ]
    assert sorted(token for token, _ in seen) == list(map(tuple, np.argwhere(MASK)))
    for (row, col), vector in seen:
        np.testing.assert_array_equal(vector, embedding(row, col))


def test_a_graph_of_an_unfinished_store_must_be_asked_for(path):
    with create(path) as grid:
        with pytest.raises(InvalidInputError, match=r"pending\. Embed the slide again.*partial=True"):
            grid.graph()
        with pytest.raises(InvalidInputError, match="holds no finished token"):
            grid.graph(partial=True)
        first = next(grid.blocks())
        state = np.where(MASK[first.tokens], DONE, BACKGROUND).astype(np.uint8)
        grid.write_block(first, np.ones((*state.shape, DIMS)), state)
        assert len(grid.graph(partial=True).embeddings) == (state == DONE).sum()


def test_a_failed_token_is_stored_as_nan_and_never_as_zero(path):
    token = tuple(np.argwhere(MASK)[9])
    with create(path) as grid:
        fill(grid, (token,))
        assert grid.counts()["failed"] == 1
        assert np.isnan(np.asarray(grid.embeddings[*token])).all()


def test_an_embedding_that_is_not_finite_is_not_stored_as_done(path):
    with create(path) as grid:
        block = next(grid.blocks())
        state = np.full((BLOCK, BLOCK), DONE, np.uint8)
        before = files(path)
        with pytest.raises(InvalidInputError, match="must be finite in float16"):
            grid.write_block(block, np.full((BLOCK, BLOCK, DIMS), 1e6), state)
        assert files(path) == before


def test_a_store_opened_for_reading_is_not_written(filled):
    grid = TokenGrid.open(filled)
    block = next(grid.blocks())
    with pytest.raises(InvalidInputError, match=r"opened for reading\. Open it with mode='r\+'"):
        grid.write_block(block, np.ones((BLOCK, BLOCK, DIMS)), grid.state[block.tokens])


def test_opening_reads_little_more_than_metadata(filled, monkeypatch):
    for name in ("embeddings", "state", "coverage"):
        shutil.rmtree(filled / name / "c")
    assert TokenGrid.open(filled).geometry == GEOMETRY


def test_a_missing_store_is_named():
    with pytest.raises(MissingFileError, match=r"no token grid at nowhere\.tokens\.zarr.*prospect embed"):
        TokenGrid.open("nowhere.tokens.zarr")


def test_what_is_no_store_is_refused_and_not_touched(tmp_path):
    text = tmp_path / "slide.tokens.zarr"
    text.write_text("no store")
    folder = tmp_path / "folder"
    folder.mkdir()
    foreign = tmp_path / "image.zarr"
    foreign.mkdir()
    (foreign / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {}}}')
    before = files(tmp_path)
    for place, match in ((text, "it is a file"), (folder, "without zarr.json"), (foreign, "another zarr group")):
        for mode in ("r", "r+"):
            with pytest.raises(FileFormatError, match=match):
                TokenGrid.open(place, mode)
    assert files(tmp_path) == before


def edit(path: Path, change: Any) -> None:
    metadata = json.loads((path / "zarr.json").read_text())
    change(metadata["attributes"])
    (path / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda attrs: attrs.update(format_version=3),
            "must be of format version 1 to 2; it is of version 3. Update napari",
        ),
        (lambda attrs: attrs.pop("geometry"), "is damaged: its metadata cannot be read .*geometry.*overwrite=True"),
        (lambda attrs: attrs["geometry"].update(rows=12), r"arrays of .*for a grid of \(12, 13\)"),
        (lambda attrs: attrs["encoder"].update(n_dims=8), "embeddings of 7 dims"),
        (lambda attrs: attrs.update(encoder=3), "is damaged: its metadata cannot be read"),
    ],
)
def test_wrong_or_damaged_metadata_is_refused(filled, change, match):
    edit(filled, change)
    with pytest.raises(FileFormatError, match=match):
        TokenGrid.open(filled)


@pytest.mark.parametrize("name", ["zarr.json", "state/zarr.json", "embeddings/zarr.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", None])
def test_truncated_or_missing_metadata_files_are_refused(filled, name, content):
    (filled / name).unlink()
    if content is not None:
        (filled / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=r"is damaged: .* cannot be read|without zarr\.json"):
        TokenGrid.open(filled)


def test_a_missing_block_of_finished_tokens_is_refused_and_only_that_is_computed_anew(filled):
    (filled / "embeddings/c/1/2/0").unlink()
    grid = TokenGrid.open(filled)
    with pytest.raises(FileFormatError, match=r"embeddings/c/1/2/0 cannot be read .*missing.* only this block"):
        grid.graph()
    with TokenGrid.open(filled, "r+") as grid:
        assert grid.reset_missing_blocks() == 1
        assert grid.counts()["pending"] == MASK[5:10, 10:].sum()
        assert grid.reset_missing_blocks() == 0


def test_a_damaged_block_is_refused(filled):
    chunk = filled / "embeddings/c/1/1/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 16
    chunk.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"embeddings/c/1/1/0 cannot be read"):
        TokenGrid.open(filled).graph()


def test_a_missing_part_of_state_or_coverage_is_refused(filled):
    (filled / "state/c/1/1").unlink()
    (filled / "coverage/c/0/0").unlink()
    grid = TokenGrid.open(filled)
    with pytest.raises(FileFormatError, match="the array state cannot be read .*missing"):
        grid.counts()
    with pytest.raises(FileFormatError, match="the array coverage cannot be read"):
        _ = grid.coverage


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        (
            {"mask": np.zeros((ROWS, COLS), bool)},
            InvalidInputError,
            r"at least one token for case7.*Lower min_coverage",
        ),
        ({"mask": MASK.T}, MismatchError, r"mask must have one cell per token, shape \(11, 13\); got \(13, 11\)"),
        ({"mask": MASK.astype(int)}, InvalidInputError, "mask must be bool"),
        ({"coverage": np.ones((3, 5))}, MismatchError, "coverage must have one cell per token"),
        ({"coverage": np.full((ROWS, COLS), np.nan)}, InvalidInputError, "coverage must lie in 0-1"),
        ({"dtype": "float64"}, InvalidInputError, "dtype must be 'float16' or 'float32'; got 'float64'"),
        ({"block": 0}, InvalidInputError, "block must be 1 to 4096 tokens; got 0"),
        ({"card": {"name": "fake", "n_dims": None}}, InvalidInputError, "must state n_dims.*got None"),
    ],
)
def test_impossible_arguments_are_refused_and_leave_nothing(path, changes, error, match):
    with pytest.raises(error, match=match):
        create(path, **changes)
    assert not path.parent.exists()


def test_a_store_that_is_there_is_replaced_only_on_request(filled):
    before = files(filled)
    with pytest.raises(StorageError, match="exists already. Write to another path, or pass overwrite=True"):
        create(filled)
    assert files(filled) == before
    with create(filled, overwrite=True) as grid:
        assert grid.counts()["done"] == 0
    assert [p.name for p in filled.parent.iterdir()] == [filled.name]


def test_a_folder_of_something_else_is_never_overwritten(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.txt").write_text("precious")
    with pytest.raises(StorageError, match="is no token grid, so it is not overwritten"):
        create(folder, overwrite=True)
    assert (folder / "chapter1.txt").read_text() == "precious"


def test_an_empty_folder_may_become_a_store(path):
    path.mkdir(parents=True)
    create(path).close()
    assert TokenGrid.open(path).counts()["pending"] == MASK.sum()


def test_a_store_of_something_else_says_which_entry_differs(filled):
    grid = TokenGrid.open(filled)
    grid.check_belongs(slide_fingerprint="f0" * 32, geometry=GEOMETRY.to_json(), encoder=CARD)
    with pytest.raises(
        MismatchError, match=r"slide_fingerprint is 'f0f0f0f.*… there and 'ab.* here\. Write to another"
    ):
        grid.check_belongs(slide_fingerprint="ab" * 32)
    with pytest.raises(MismatchError, match=r"encoder\.model_args\.depth is 3 there and 4 here"):
        grid.check_belongs(encoder=CARD | {"model_args": {"depth": 4}})
    with pytest.raises(MismatchError, match=r"geometry\.stride is 23 there and 11 here"):
        grid.check_belongs(geometry=GEOMETRY.to_json() | {"stride": 11})


def test_a_second_writer_in_this_process_is_refused_and_readers_are_not(path):
    with create(path):
        with pytest.raises(StoreBusyError, match=rf"process {os.getpid()} on .* is writing it"):
            TokenGrid.open(path, "r+")
        with pytest.raises(StoreBusyError):
            create(path, overwrite=True)
        TokenGrid.open(path)
    TokenGrid.open(path, "r+").close()


HOLD = """
import sys
from napari_prospector.tokens.store import TokenGrid
grid = TokenGrid.open(sys.argv[1], "r+")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(filled: Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, filled], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_the_name_of_the_first(filled, holder):
    with pytest.raises(
        StoreBusyError, match=rf"must have one writer at a time; process {holder.pid} on .* is writing it"
    ):
        TokenGrid.open(filled, "r+")
    assert TokenGrid.open(filled).is_complete


def test_the_lock_of_a_killed_process_does_not_bar_the_next(filled, holder):
    holder.kill()
    holder.wait()
    lock = filled.with_name(filled.name + ".lock")
    assert lock.exists()
    with TokenGrid.open(filled, "r+") as grid:
        assert grid.is_complete
    assert not lock.exists()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    take = durable._try_lock

    def late(handle: int) -> bool:
        monkeypatch.setattr(durable, "_try_lock", take)
        path.unlink()  # the last holder lets go between our opening and our locking
        return take(handle)

    monkeypatch.setattr(durable, "_try_lock", late)
    with durable.WriterLock(path, path):
        assert path.exists()
        with pytest.raises(StoreBusyError):
            durable.WriterLock(path, path)
    assert not path.exists()


def test_leftovers_of_a_killed_writer_are_swept(filled):
    (filled / "embeddings/c/0/0/0.partial").write_bytes(b"half")
    (filled / "zarr.0a1b.partial").write_bytes(b"half")
    before = filled.with_name(filled.name + ".partial")
    before.mkdir()
    (before / "zarr.json").write_bytes(b"{")
    TokenGrid.open(filled)
    assert before.exists()
    TokenGrid.open(filled, "r+").close()
    assert [p.name for p in filled.parent.iterdir()] == [filled.name]
    assert not [name for name in files(filled) if "partial" in name]


def test_a_killed_creation_is_swept_by_the_next(path):
    partial = path.with_name(path.name + ".partial")
    partial.mkdir(parents=True)
    (partial / "zarr.json").write_bytes(b"{")
    create(path).close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int, name: str = "fsync", code: int = errno.ENOSPC) -> None:
    """Let the system refuse the call `os.<name>` from the given one on."""
    calls = iter(range(10**9))
    real = getattr(os, name)

    def refuse(*args: Any) -> Any:
        if next(calls) >= after:
            raise OSError(code, os.strerror(code))
        return real(*args)

    monkeypatch.setattr(durable.os, name, refuse)


@pytest.mark.parametrize("after", [0, 3, 20])
def test_a_disk_that_fills_up_during_creation_leaves_nothing(path, monkeypatch, after):
    full_disk(monkeypatch, after)
    with pytest.raises(StorageError, match=r"must be writable.*No space left.*Free space there"):
        create(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_disk_that_fills_up_while_writing_leaves_a_sound_store(path, monkeypatch, name, after):
    with create(path) as grid:
        with monkeypatch.context() as patch:
            full_disk(patch, after, name)
            with pytest.raises(StorageError, match="No space left") as caught:
                fill(grid)
        assert str(path) in str(caught.value)
        assert not [file for file in files(path) if "partial" in file]
        done = grid.mask
        if done.any():
            grid.graph(partial=True)
        fill(grid)
    assert TokenGrid.open(path).is_complete


def test_a_folder_that_may_not_be_written_is_named(path, monkeypatch):
    full_disk(monkeypatch, 0, code=errno.EACCES)
    with pytest.raises(StorageError, match="Permission denied. Choose a folder that you may write to"):
        create(path)


def test_nothing_is_written_any_more_once_a_new_store_has_failed(tmp_path: Path) -> None:
    from zarr.core.buffer import default_buffer_prototype

    from napari_prospector.tokens.gridfile import WholeFileStore

    content = default_buffer_prototype().buffer.from_bytes(b"7")
    store = WholeFileStore(tmp_path / "new.partial")
    store.set_sync("a", content)
    store.stop()
    with pytest.raises(StorageError, match="b is not written: a file before it could not be"):
        store.set_sync("b", content)
    assert [file.name for file in store.root.iterdir()] == ["a"]
