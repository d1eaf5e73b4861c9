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
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from napari_prospector.errors import InvalidInputError, MissingFileError
from napari_prospector.tokens import gridfile, gridquality
from napari_prospector.tokens.durable import WriterLock
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.gridblocks import Block, blocks_of
from napari_prospector.tokens.gridfile import BACKGROUND, DONE, FAILED, FORMAT_VERSION, PENDING, Card
from napari_prospector.tokens.gridquality import GridQuality
from napari_prospector.tokens.quality import Rules
from napari_prospector.tokens.tissue import TissueMask

if TYPE_CHECKING:
    from napari_prospector.core.graph import TokenGraph

__all__ = ["BACKGROUND", "DONE", "FAILED", "FORMAT_VERSION", "PENDING", "Block", "TokenGrid"]

Floats = NDArray[np.floating[Any]]


class TokenGrid:
    """The embeddings of the tokens of one slide, on disk; made by `create` or `open`, filled by `embed_slide`.

    Attributes
    ----------
    path
        The folder of the zarr group.
    geometry
        Where the tokens lie in the slide.
    tiles
        What the encoder saw: the tiles whose patches the tokens are; `geometry` where tokens are tiles.
    card
        The encoder's card, as a dict of JSON types.
    attrs
        All that the store says about itself; neither clock times nor folders.
    embeddings
        zarr array (rows, cols, n_dims), float16 or float32; NaN where there is no finished token.
    without
        Quality flags of tokens that `mask`, `graph` and `iter_blocks` leave out, as for `usable`.
    """

    path: Path
    geometry: GridGeometry
    tiles: GridGeometry
    card: dict[str, Any]
    attrs: dict[str, Any]
    embeddings: zarr.Array[Any]

    def __init__(self, path: Path, lock: WriterLock | None = None, without: Rules = ()) -> None:
        self.path = path
        self.without = without
        self._lock = lock
        self.attrs = gridfile.read_attributes(path)
        with gridfile.damage(path, "its metadata"):
            self.geometry = GridGeometry.from_json(self.attrs["geometry"])
            tiles = self.attrs.get("tiles")
            self.tiles = self.geometry if tiles is None else GridGeometry.from_json(tiles)
            self.card = dict(self.attrs["encoder"])
            names = ("embeddings", "state", "coverage")
            self.embeddings, self._state, self._coverage = (
                gridfile.open_array(path, name, read_only=lock is None) for name in names
            )
            self._quality = gridquality.open_quality(path, self.attrs, read_only=lock is None)
            self._check_arrays()

    def _check_arrays(self) -> None:
        """Raise ValueError unless the three arrays fit the geometry and each other."""
        shapes = [self.embeddings.shape[:2], self._state.shape, self._coverage.shape]
        if any(shape != self.geometry.shape for shape in shapes) or self.embeddings.ndim != 3:
            raise ValueError(f"arrays of {shapes} for a grid of {self.geometry.shape}")
        if self._state.chunks != self.embeddings.chunks[:2] or self._state.dtype != np.uint8:
            raise ValueError("state and embeddings are not cut into the same blocks")
        if self._quality is not None and self._quality.chunks[:2] != self._state.chunks:
            raise ValueError("state and quality are not cut into the same blocks")
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
        tiles: GridGeometry | None = None,
        mask: ArrayLike | None = None,
        coverage: ArrayLike | None = None,
        tissue: Mapping[str, Any] | None = None,
        tissue_mask: TissueMask | None = None,
        quality: Mapping[str, Any] | None = None,
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
        tiles
            What the encoder saw, where tokens are patches of tiles. Default: `geometry`.
        mask
            (rows, cols) bool, tokens to embed; the rest is background. Default: all.
        coverage
            (rows, cols) share of tissue, 0 to 1. Default: the mask.
        tissue, reading
            How tissue was found and how pixels were read, in JSON types, for the record.
        tissue_mask
            The tissue mask itself, to be shown and looked at without the slide.
        quality
            `QualityGauge.record`, where tiles are measured; None: they are not, and none is ever flagged.
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
        n_measures = len(quality["measures"]) if quality else 0
        layout = gridfile.Layout(dtype, block, n_measures)
        contents = gridfile.Contents.checked(geometry, mask, coverage, layout, tissue_mask, place.name)
        attrs = gridfile.describe(geometry, card, tissue, reading)
        attrs |= {"scanner": scanner, "stain": None if stain is None else gridfile.as_json(stain)}
        attrs |= {"dtype": dtype, "slide_name": slide_name, "slide_fingerprint": slide_fingerprint}
        attrs["tiles"] = None if tiles in (None, geometry) else gridfile.as_json(tiles.to_json())
        attrs["level0_shape"] = [int(extent) for extent in level0_shape]
        attrs["quality"] = gridfile.as_json(quality)
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(gridfile.lock_of(place))
            gridfile.write_new(place, attrs, contents, overwrite)
            grid = cls(place, lock)
            stack.pop_all()
        return grid

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: Literal["r", "r+"] = "r", *, without: Rules = ()) -> TokenGrid:
        """Open a store; little more is read than its metadata.

        Parameters
        ----------
        path
            The folder.
        mode
            "r" to read, also while another process writes; "r+" to write: leftovers of a writer that was killed
            are swept.
        without
            Quality flags of tokens to leave out as holes; see `usable`.

        Raises
        ------
        MissingFileError
            There is nothing at `path`.
        InvalidInputError
            Flags are to be left out, and the tiles were not measured.
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
        grid = cls(place, None, without)
        grid.quality.check(without)
        if mode == "r":
            return grid
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(gridfile.lock_of(place))
            gridfile.sweep(place)
            grid = cls(place, lock, without)
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
    def tokens_card(self) -> dict[str, Any]:
        """The encoder's card with size and scale of the tiles as they were read; for `ProspectorHead.check_encoder`."""
        return {**self.card, "mpp": self.tiles.tile_mpp, "tile_px": self.tiles.tile_px}

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
        """(rows, cols): where the finished tokens are, less those that `without` leaves out."""
        return self.usable()

    @property
    def coverage(self) -> NDArray[np.float32]:
        """(rows, cols): share of tissue of each tile, 0 to 1."""
        with gridfile.damage(self.path, "the array coverage"):
            coverage = np.asarray(self._coverage[:], dtype=np.float32)
            if np.isnan(coverage).any():
                raise ValueError("a part of it is missing")
        return coverage

    @property
    def quality(self) -> GridQuality:
        """The quality measures of the tiles, and the flags that thresholds make of them."""
        return GridQuality(self.path, self.attrs, self._quality)

    def flags(self, thresholds: Mapping[str, float] | None = None) -> NDArray[np.uint8]:
        """Return (rows, cols), the quality flags as bits; see `GridQuality.flags`."""
        return self.quality.flags(thresholds)

    def usable(self, without: Rules | None = None) -> NDArray[np.bool_]:
        """Return (rows, cols): where the finished tokens are that carry none of some flags.

        Parameters
        ----------
        without
            Names of flags ("pen", "blur", "fold", "bubble"), or a mapping from name to threshold, None for the
            store's own. None: those that the grid was opened without.

        Raises
        ------
        InvalidInputError
            Flags are named and the tiles were not measured; or as `flags`.
        """
        done, rules = np.asarray(self.state == DONE), self.without if without is None else without
        return done & ~self.quality.flagged(rules) if rules else done

    def tissue_mask(self) -> TissueMask | None:
        """Return the tissue mask that the store was made with, at its own resolution; None where it keeps none."""
        return gridfile.read_tissue(self.path)

    def set_thresholds(self, **thresholds: float) -> None:
        """Change thresholds of quality flags in the store, for all who read it later.

        Raises
        ------
        InvalidInputError
            The store was opened for reading, tiles were not measured, or a threshold is not a number of 0 to 1.
        UnknownNameError
            A threshold is for no measure of this store.
        """
        self._check_writable()
        self.attrs["quality"] = self.quality.with_thresholds(thresholds)
        gridfile.write_attributes(self.path, self.attrs)

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
        yield from blocks_of(self.geometry.shape, self._state.chunks)

    def iter_blocks(self, without: Rules | None = None) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Stream the finished tokens, one block at a time, so that memory does not grow with the slide.

        Parameters
        ----------
        without
            Flags of tokens to leave out; see `usable`.

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
        done = self.usable(without)
        for block in self.blocks():
            here = done[block.tokens]
            if here.any():
                first = (block.rows.start, block.cols.start)
                yield np.argwhere(here) + first, self._read(block, here)[here]

    def graph(self, *, partial: bool = False, without: Rules | None = None) -> TokenGraph:
        """Return the finished tokens as a lattice of 8 neighbours; failed ones and background are holes.

        Parameters
        ----------
        partial
            Take what is there although tokens are pending.
        without
            Quality flags of tokens to leave out, as holes; see `usable`.

        Returns
        -------
        TokenGraph
            Tokens row by row, embeddings in the dtype of the store, positions (row, col) in the grid.

        Raises
        ------
        InvalidInputError
            No token is finished, all of them are left out, or some are pending and `partial` is False.
        FileFormatError
            A block is missing or damaged.
        """
        from napari_prospector.core.graph import grid_graph

        state = self.state
        pending, n_done = int((state == PENDING).sum()), int((state == DONE).sum())
        if pending and not partial:
            raise InvalidInputError(
                f"{self.path.name} must be finished; {pending:,} of {pending + n_done:,} tokens are pending."
                " Embed the slide again, it goes on where it stopped; or pass partial=True."
            )
        if not n_done:
            raise InvalidInputError(f"{self.path.name} holds no finished token. Embed the slide again.")
        mask = self.usable(without)
        n_tokens = int(mask.sum())
        if not n_tokens:
            raise InvalidInputError(
                f"{self.path.name} must keep a token; all {n_done:,} carry a flag that is left out."
                " Raise the thresholds, or leave fewer flags out."
            )
        embeddings = np.empty((n_tokens, self.n_dims), self.embeddings.dtype)
        order = np.full(mask.shape, -1, np.int64)
        order[mask] = np.arange(n_tokens)
        for tokens, block in self.iter_blocks(without):
            embeddings[order[tokens[:, 0], tokens[:, 1]]] = block
        return grid_graph(mask, embeddings)

    def write_block(
        self,
        block: Block,
        embeddings: Floats,
        state: NDArray[np.uint8],
        quality: NDArray[np.float32] | None = None,
    ) -> None:
        """Store one block: its embeddings and quality first, and its state once they are on the disk.

        Parameters
        ----------
        block
            From `blocks`.
        embeddings
            (rows, cols, n_dims) of the block; what is not DONE is stored as NaN.
        state
            (rows, cols) of the block.
        quality
            (rows, cols, n_measures) of the block, 0 to 1, NaN where nothing was measured; ignored by a store
            that keeps none.

        Raises
        ------
        InvalidInputError
            The store was opened for reading, or a token is marked DONE whose embedding is not finite.
        StorageError
            The disk is full or cannot be written. The store is as before and can go on later.
        """
        self._check_writable()
        with np.errstate(over="ignore"):  # what float16 cannot hold is found by the next check
            stored = np.where((state == DONE)[..., None], embeddings, np.nan).astype(self.embeddings.dtype)
        if not np.isfinite(stored[state == DONE]).all():
            raise InvalidInputError(f"Embeddings of finished tokens must be finite in {stored.dtype}; some are not.")
        self.embeddings[*block.tokens, :] = stored
        if self._quality is not None and quality is not None:
            self._quality[*block.tokens, :] = np.asarray(quality, np.float32)
        self._state[block.tokens] = state

    def _check_writable(self) -> None:
        """Raise `InvalidInputError` unless this process may write."""
        if self._lock is None:
            raise InvalidInputError(f"{self.path.name} was opened for reading. Open it with mode='r+'.")

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
        gridfile.check_attributes(self.path.name, self.attrs, wanted)

    def check_mask(self, mask: NDArray[np.bool_]) -> None:
        """Raise `MismatchError` unless the tokens that are not background are those of a mask (rows, cols)."""
        gridfile.check_mask(self.path.name, self.state, mask)

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
