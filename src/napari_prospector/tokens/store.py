"""The TokenGrid: the embeddings of one slide by one encoder, in a zarr v3 group that survives anything.

What makes it survive: a store appears whole (made beside its place, then renamed); a block of tokens is one
chunk, and a chunk is one file that is written beside its place and renamed; the embeddings of a block reach the
disk before its state says that they are there; only one process writes. So a process may be killed, or the
disk may fill up, between any two instructions: the store opens, knows what is missing, and finishes with
the same bytes as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from napari_prospector.errors import InvalidInputError, MismatchError, MissingFileError
from napari_prospector.tokens import gridfile
from napari_prospector.tokens.durable import WriterLock
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.gridfile import BACKGROUND, DONE, FAILED, FORMAT_VERSION, PENDING, Card

if TYPE_CHECKING:
    from napari_prospector.core.graph import TokenGraph

__all__ = ["BACKGROUND", "DONE", "FAILED", "FORMAT_VERSION", "PENDING", "Block", "TokenGrid"]

_MOST_BLOCK = 4096

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Block:
    """Tokens that are written together: rows `rows` and columns `cols` of the grid, chunk `index` of the store."""

    index: tuple[int, int]
    rows: slice
    cols: slice

    @property
    def tokens(self) -> tuple[slice, slice]:
        """What cuts the block out of an array with one cell per token."""
        return self.rows, self.cols


class TokenGrid:
    """The embeddings of the tokens of one slide, on disk; made by `create` or `open`, filled by `embed_slide`.

    Attributes
    ----------
    path
        The folder of the zarr group.
    geometry
        Where the tokens lie in the slide.
    card
        The encoder's card, as a dict of JSON types.
    attrs
        All that the store says about itself; neither clock times nor folders.
    embeddings
        zarr array (rows, cols, n_dims), float16 or float32; NaN where there is no finished token.
    """

    path: Path
    geometry: GridGeometry
    card: dict[str, Any]
    attrs: dict[str, Any]
    embeddings: zarr.Array[Any]

    def __init__(self, path: Path, lock: WriterLock | None = None) -> None:
        self.path = path
        self._lock = lock
        self.attrs = gridfile.read_attributes(path)
        with gridfile.damage(path, "its metadata"):
            self.geometry = GridGeometry.from_json(self.attrs["geometry"])
            self.card = dict(self.attrs["encoder"])
            names = ("embeddings", "state", "coverage")
            self.embeddings, self._state, self._coverage = (
                gridfile.open_array(path, name, read_only=lock is None) for name in names
            )
            self._check_arrays()

    def _check_arrays(self) -> None:
        """Raise ValueError unless the three arrays fit the geometry and each other."""
        shapes = [self.embeddings.shape[:2], self._state.shape, self._coverage.shape]
        if any(shape != self.geometry.shape for shape in shapes) or self.embeddings.ndim != 3:
            raise ValueError(f"arrays of {shapes} for a grid of {self.geometry.shape}")
        if self._state.chunks != self.embeddings.chunks[:2] or self._state.dtype != np.uint8:
            raise ValueError("state and embeddings are not cut into the same blocks")
        if self.embeddings.dtype not in (np.float16, np.float32) or self.n_dims != self.card["n_dims"]:
            raise ValueError(f"embeddings of {self.n_dims} dims, {self.embeddings.dtype}")

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        geometry: GridGeometry,
        card: Card | Mapping[str, Any],
        slide_name: str,
        slide_fingerprint: str,
        level0_shape: tuple[int, int],
        dtype: str = "float16",
        block: int = 16,
        *,
        mask: ArrayLike | None = None,
        coverage: ArrayLike | None = None,
        tissue: Mapping[str, Any] | None = None,
        reading: Mapping[str, Any] | None = None,
        scanner: str | None = None,
        stain: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> TokenGrid:
        """Make a store in which every token of the mask is pending, and open it for writing.

        Parameters
        ----------
        path
            Where, by convention ``*.tokens.zarr``; folders above it are made.
        geometry
            Where the tokens lie.
        card
            The encoder's card; `n_dims` must be in it.
        slide_name, slide_fingerprint, level0_shape
            The slide's file name without folder, its `Slide.fingerprint`, and (rows, cols) of level 0.
        dtype
            "float16" or "float32".
        block
            Tokens along each side of a block, the unit of writing.
        mask
            (rows, cols) bool, tokens to embed; the rest is background. Default: all.
        coverage
            (rows, cols) share of tissue, 0 to 1. Default: the mask.
        tissue, reading
            How tissue was found and how pixels were read, in JSON types, for the record.
        scanner, stain
            `Slide.scanner`, and how the slide is stained as `stain_record` says; None where unknown.
        overwrite
            Replace a token grid that is there.

        Returns
        -------
        TokenGrid
            Close it, or use it in a ``with`` block.

        Raises
        ------
        InvalidInputError
            An argument is impossible, or the mask holds no token.
        MismatchError
            `mask` or `coverage` has not the shape of the geometry.
        StorageError
            There is something at `path` already, or it cannot be written. Nothing is left behind.
        StoreBusyError
            Another process writes this store.
        """
        place = Path(os.path.abspath(path))
        states = gridfile.first_states(geometry, mask, place.name)
        shares = np.asarray(states == PENDING if coverage is None else coverage, dtype=np.float32)
        geometry.check_shape("coverage", shares.shape)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise InvalidInputError(f"coverage must lie in 0-1; got {shares.min()} to {shares.max()}.")
        if dtype not in ("float16", "float32"):
            raise InvalidInputError(f"dtype must be 'float16' or 'float32'; got {dtype!r}.")
        if not 1 <= block <= _MOST_BLOCK:
            raise InvalidInputError(f"block must be 1 to {_MOST_BLOCK} tokens; got {block!r}.")
        attrs = gridfile.describe(geometry, card, tissue, reading)
        attrs |= {"scanner": scanner, "stain": None if stain is None else gridfile.as_json(stain)}
        attrs |= {"dtype": dtype, "slide_name": slide_name, "slide_fingerprint": slide_fingerprint}
        attrs["level0_shape"] = [int(extent) for extent in level0_shape]
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(gridfile.lock_of(place))
            gridfile.write_new(place, attrs, states, shares, (dtype, block), overwrite)
            grid = cls(place, lock)
            stack.pop_all()
        return grid

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: Literal["r", "r+"] = "r") -> TokenGrid:
        """Open a store; little more is read than its metadata.

        Parameters
        ----------
        path
            The folder.
        mode
            "r" to read, also while another process writes; "r+" to write: leftovers of a writer that was killed
            are swept.

        Raises
        ------
        MissingFileError
            There is nothing at `path`.
        FileFormatError
            It is no token grid, it is damaged, or of another version.
        StoreBusyError
            Another process writes it (mode "r+").
        """
        if mode not in ("r", "r+"):
            raise InvalidInputError(f"mode must be 'r' or 'r+'; got {mode!r}.")
        place = Path(os.path.abspath(path))
        if not place.exists():
            raise MissingFileError(f"There is no token grid at {path}. Make it with embed_slide or `prospect embed`.")
        # look before locking: no lock file shall appear beside what is not ours
        grid = cls(place)
        if mode == "r":
            return grid
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(gridfile.lock_of(place))
            gridfile.sweep(place)
            grid = cls(place, lock)
            stack.pop_all()
        return grid

    def close(self) -> None:
        """Let other processes write; harmless when repeated or opened for reading."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def __enter__(self) -> TokenGrid:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        rows, cols = self.geometry.shape
        return (
            f"<TokenGrid {self.path.name}: {rows} x {cols} tokens of {self.n_dims} dims by {self.card.get('name')!r}>"
        )

    @property
    def n_dims(self) -> int:
        """Length of an embedding."""
        return int(self.embeddings.shape[2])

    @property
    def state(self) -> NDArray[np.uint8]:
        """(rows, cols): BACKGROUND, PENDING, DONE or FAILED, as on disk now."""
        with gridfile.damage(self.path, "the array state"):
            state = np.asarray(self._state[:], dtype=np.uint8)
            if int(state.max()) > FAILED:
                raise ValueError("a part of it is missing")
        return state

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(rows, cols): where the finished tokens are."""
        return np.asarray(self.state == DONE)

    @property
    def coverage(self) -> NDArray[np.float32]:
        """(rows, cols): share of tissue of each tile, 0 to 1."""
        with gridfile.damage(self.path, "the array coverage"):
            coverage = np.asarray(self._coverage[:], dtype=np.float32)
            if np.isnan(coverage).any():
                raise ValueError("a part of it is missing")
        return coverage

    def counts(self) -> dict[str, int]:
        """Return the number of tokens that are background, pending, done and failed."""
        counts = np.bincount(self.state.ravel(), minlength=4)
        return dict(zip(("background", "pending", "done", "failed"), counts.tolist(), strict=True))

    @property
    def is_complete(self) -> bool:
        """Whether no token is pending; some may have failed."""
        return self.counts()["pending"] == 0

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks, row by row."""
        height, width = self._state.chunks
        for row in range(0, self.geometry.rows, height):
            for col in range(0, self.geometry.cols, width):
                rows = slice(row, min(row + height, self.geometry.rows))
                cols = slice(col, min(col + width, self.geometry.cols))
                yield Block((row // height, col // width), rows, cols)

    def iter_blocks(self) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Stream the finished tokens, one block at a time, so that memory does not grow with the slide.

        Yields
        ------
        tokens
            (n, 2) int64, (row, col) of each, row by row within the block.
        embeddings
            (n, n_dims), as stored.

        Raises
        ------
        FileFormatError
            A block is missing or damaged; the message says which file.
        """
        done = self.mask
        for block in self.blocks():
            here = done[block.tokens]
            if here.any():
                first = (block.rows.start, block.cols.start)
                yield np.argwhere(here) + first, self._read(block, here)[here]

    def graph(self, *, partial: bool = False) -> TokenGraph:
        """Return the finished tokens as a lattice of 8 neighbours; failed ones and background are holes.

        Parameters
        ----------
        partial
            Take what is there although tokens are pending.

        Returns
        -------
        TokenGraph
            Tokens row by row, embeddings in the dtype of the store, positions (row, col) in the grid.

        Raises
        ------
        InvalidInputError
            No token is finished, or some are pending and `partial` is False.
        FileFormatError
            A block is missing or damaged.
        """
        from napari_prospector.core.graph import grid_graph

        state = self.state
        mask = state == DONE
        pending, n_tokens = int((state == PENDING).sum()), int(mask.sum())
        if pending and not partial:
            raise InvalidInputError(
                f"{self.path.name} must be finished; {pending:,} of {pending + n_tokens:,} tokens are pending."
                " Embed the slide again, it goes on where it stopped; or pass partial=True."
            )
        if not n_tokens:
            raise InvalidInputError(f"{self.path.name} holds no finished token. Embed the slide again.")
        embeddings = np.empty((n_tokens, self.n_dims), self.embeddings.dtype)
        order = np.full(mask.shape, -1, np.int64)
        order[mask] = np.arange(n_tokens)
        for tokens, block in self.iter_blocks():
            embeddings[order[tokens[:, 0], tokens[:, 1]]] = block
        return grid_graph(mask, embeddings)

    def write_block(self, block: Block, embeddings: Floats, state: NDArray[np.uint8]) -> None:
        """Store one block: its embeddings first, and its state once they are on the disk.

        Parameters
        ----------
        block
            From `blocks`.
        embeddings
            (rows, cols, n_dims) of the block; what is not DONE is stored as NaN.
        state
            (rows, cols) of the block.

        Raises
        ------
        InvalidInputError
            The store was opened for reading, or a token is marked DONE whose embedding is not finite.
        StorageError
            The disk is full or cannot be written. The store is as before and can go on later.
        """
        if self._lock is None:
            raise InvalidInputError(f"{self.path.name} was opened for reading. Open it with mode='r+'.")
        with np.errstate(over="ignore"):  # what float16 cannot hold is found by the next check
            stored = np.where((state == DONE)[..., None], embeddings, np.nan).astype(self.embeddings.dtype)
        if not np.isfinite(stored[state == DONE]).all():
            raise InvalidInputError(f"Embeddings of finished tokens must be finite in {stored.dtype}; some are not.")
        self.embeddings[*block.tokens, :] = stored
        self._state[block.tokens] = state

    def reset_missing_blocks(self) -> int:
        """Mark as pending what is marked done although its file has vanished; return the number of such blocks."""
        state, missing = self.state, 0
        for block in self.blocks():
            within = state[block.tokens]
            if (within == DONE).any() and not self._chunk(block).is_file():
                self._state[block.tokens] = np.where(within == DONE, PENDING, within).astype(np.uint8)
                missing += 1
        return missing

    def check_belongs(self, **wanted: Any) -> None:
        """Raise `MismatchError` unless the store was made from just this.

        Parameters
        ----------
        **wanted
            Entries of `attrs`, such as ``slide_fingerprint=…, geometry=…, encoder=…``, in JSON types.
        """
        differences = []
        for name, value in wanted.items():
            differences += gridfile.differences(name, self.attrs.get(name), gridfile.as_json(value))
        if differences:
            raise MismatchError(
                f"{self.path.name} was made from something else: {'; '.join(differences)}."
                " Write to another path, or pass overwrite=True (--overwrite) to start anew."
            )

    def check_mask(self, mask: NDArray[np.bool_]) -> None:
        """Raise `MismatchError` unless the tokens that are not background are those of a mask (rows, cols)."""
        here = self.state != BACKGROUND
        if not np.array_equal(here, mask):
            there, differ = int(here.sum()), int((here != mask).sum())
            raise MismatchError(
                f"{self.path.name} was made from another tissue mask: {there:,} tokens there, {int(mask.sum()):,} here,"
                f" {differ:,} differ. Leave tissue out to go on with the one of the store, write to another path, or"
                " pass overwrite=True (--overwrite) to start anew."
            )

    def _chunk(self, block: Block) -> Path:
        """Return the file of a block's embeddings."""
        row, col = block.index
        return self.path / "embeddings" / "c" / str(row) / str(col) / "0"

    def _read(self, block: Block, done: NDArray[np.bool_]) -> Floats:
        """Read the embeddings of one block and make sure that all its finished tokens are there."""
        name = self._chunk(block).relative_to(self.path).as_posix()
        remedy = f"Delete {name} in it and embed the slide again: only this block is computed anew"
        with gridfile.damage(self.path, name, remedy):
            embeddings = np.asarray(self.embeddings[*block.tokens, :])
            if not np.isfinite(embeddings[done]).all():
                raise ValueError("it is missing or holds NaN where the state says done")
        return embeddings
