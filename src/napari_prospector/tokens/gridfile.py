"""The zarr group behind a TokenGrid: making it whole, opening it, saying what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from napari_prospector import __version__
from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, StorageError
from napari_prospector.tokens.durable import (
    PARTIAL,
    WriterLock,
    storage_errors,
    sweep_partials,
    sync_folder,
    write_whole,
)
from napari_prospector.tokens.geometry import GridGeometry

if TYPE_CHECKING:
    from napari_prospector.tokens.tissue import TissueMask

__all__ = [
    "BACKGROUND",
    "DONE",
    "FAILED",
    "FORMAT",
    "FORMAT_VERSION",
    "PENDING",
    "READABLE_VERSIONS",
    "UNWRITTEN",
    "Card",
    "Contents",
    "Layout",
    "as_json",
    "check_attributes",
    "check_mask",
    "damage",
    "describe",
    "differences",
    "first_states",
    "lock_of",
    "open_array",
    "read_attributes",
    "read_tissue",
    "sweep",
    "write_attributes",
    "write_new",
]

FORMAT = "napari-prospector token grid"
FORMAT_VERSION = 2
# Version 1 had neither quality nor the tissue mask; it is read, and gone on with, as it is.
READABLE_VERSIONS = (1, 2)

_MOST_BLOCK = 4096

BACKGROUND, PENDING, DONE, FAILED = range(4)
# What zarr answers for a state, or a cell of the tissue mask, that was never written: a missing chunk shows.
UNWRITTEN = 255
# zstd by its library says RuntimeError; zarr's own errors are ValueErrors and FileNotFoundErrors.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OSError)


class Card(Protocol):
    """Whatever describes an encoder and can say so in JSON, such as an EncoderCard."""

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON types."""
        ...


_ONE_AT_A_TIME = threading.Lock()


class WholeFileStore(LocalStore):
    """A zarr store on the local disk in which every file is written whole, durably, or not at all.

    LocalStore itself renames into place from zarr 3.1 on, earlier ones write in place; none syncs to the disk.
    """

    is_stopped = False

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write one file; one at a time, or what sweeps after a failure would race with the writes beside it."""
        self._check_writable()
        with _ONE_AT_A_TIME:
            if self.is_stopped:
                raise StorageError(f"{self.root / key} is not written: a file before it could not be.")
            write_whole(self.root / key, value.to_bytes())

    def stop(self) -> None:
        """Wait for the write that is under way, and let none begin any more."""
        with _ONE_AT_A_TIME:
            self.is_stopped = True

    async def set(self, key: str, value: Buffer) -> None:
        """Write one file, in a thread."""
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write one file unless it is there; the lock of the store keeps others away."""
        if not (self.root / key).exists():
            await self.set(key, value)


@contextlib.contextmanager
def damage(path: Path, part: str, remedy: str = "Embed the slide again with overwrite=True") -> Iterator[None]:
    """Turn whatever a damaged store makes of reading it into a `FileFormatError` that says what to do."""
    try:
        yield
    except _UNREADABLE as error:
        raise FileFormatError(f"{path.name} is damaged: {part} cannot be read ({error}). {remedy}.") from error


def as_json(value: Any) -> Any:
    """Return a value as it comes back after writing: tuples as lists, no NaN."""
    return json.loads(json.dumps(value, allow_nan=False))


def lock_of(path: Path) -> WriterLock:
    """Take the lock of a store, a file beside it: it must exist before the store does."""
    return WriterLock(path.with_name(path.name + ".lock"), path)


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a store of this format and version.

    Raises
    ------
    FileFormatError
        It is no token grid, damaged, or of another version.
    """
    metadata = path / "zarr.json"
    if not metadata.is_file():
        kind = "a folder without zarr.json" if path.is_dir() else "a file"
        raise FileFormatError(f"{path.name} must be a token grid; it is {kind}. Make one with embed_slide.")
    with damage(path, "zarr.json"):
        attrs = json.loads(metadata.read_text(encoding="utf-8"))["attributes"]
        came = attrs.get("format"), attrs.get("format_version")
    if came[0] != FORMAT:
        raise FileFormatError(f"{path.name} must be a {FORMAT}; it is another zarr group. Make one with embed_slide.")
    if came[1] not in READABLE_VERSIONS:
        is_newer = isinstance(came[1], int) and came[1] > FORMAT_VERSION
        raise FileFormatError(
            f"{path.name} must be of format version {READABLE_VERSIONS[0]} to {FORMAT_VERSION}; it is of version"
            f" {came[1]!r}. {'Update napari-prospector, or embed' if is_newer else 'Embed'} the slide again with"
            " overwrite=True."
        )
    return dict(attrs)


def write_attributes(path: Path, attrs: Mapping[str, Any]) -> None:
    """Replace the attributes of a store, whole or not at all; the caller holds the lock."""
    metadata = path / "zarr.json"
    with damage(path, "zarr.json"):
        group = json.loads(metadata.read_text(encoding="utf-8"))
    write_whole(metadata, json.dumps(group | {"attributes": as_json(attrs)}, indent=2).encode())


def open_array(path: Path, name: str, read_only: bool) -> zarr.Array[Any]:
    """Open one array of a store; a caller wraps this in `damage`."""
    store = WholeFileStore(path, read_only=read_only)
    return zarr.open_array(store=store, path=name, mode="r" if read_only else "r+", zarr_format=3)


def read_tissue(path: Path) -> TissueMask | None:
    """Return the tissue mask of a store; None where it keeps none.

    Raises
    ------
    FileFormatError
        It is damaged.
    """
    from napari_prospector.tokens.tissue import TissueMask

    if not (path / "tissue").is_dir():
        return None
    with damage(path, "the array tissue"):
        array = open_array(path, "tissue", read_only=True)
        cells = np.asarray(array[:], dtype=np.uint8)
        if int(cells.max()) > 1:
            raise ValueError("a part of it is missing")
        return TissueMask.from_json(cells == 1, array.attrs.asdict())


def first_states(geometry: GridGeometry, mask: ArrayLike | None, name: str) -> NDArray[np.uint8]:
    """Return PENDING where the mask is True, BACKGROUND elsewhere; refuse a mask without a token."""
    wanted = np.ones(geometry.shape, bool) if mask is None else np.asarray(mask)
    geometry.check_shape("mask", wanted.shape)
    if wanted.dtype != bool or not wanted.any():
        raise InvalidInputError(
            f"mask must be bool with at least one token for {name}; got {np.count_nonzero(wanted)} tokens"
            f" of {wanted.dtype}. Lower min_coverage, or look at the tissue mask."
        )
    return np.where(wanted, PENDING, BACKGROUND).astype(np.uint8)


def describe(
    geometry: GridGeometry,
    card: Card | Mapping[str, Any],
    tissue: Mapping[str, Any] | None,
    reading: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the attributes that say what a store holds, in JSON types: neither clock times nor folders."""
    encoder = dict(card) if isinstance(card, Mapping) else card.to_json()
    n_dims = encoder.get("n_dims")
    if isinstance(n_dims, bool) or not isinstance(n_dims, int) or n_dims < 1:
        raise InvalidInputError(f"The encoder's card must state n_dims, at least 1; got {n_dims!r}. Load the encoder.")
    attrs = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "geometry": geometry.to_json(),
        # for readers that know zarr but not us; `geometry` is what counts
        "tile_px": geometry.tile_px,
        "stride_px": geometry.stride_px,
        "mpp": geometry.tile_mpp,
        "origin": list(geometry.origin),
        "transforms": geometry.ngff(),
        "encoder": encoder,
        "tissue": dict(tissue or {}),
        "reading": dict(reading or {}),
    }
    as_stored: dict[str, Any] = as_json(attrs)
    return as_stored


@dataclass(frozen=True)
class Layout:
    """How a new store lies on the disk.

    Attributes
    ----------
    dtype
        Of the embeddings, "float16" or "float32".
    block
        Tokens along a side of a block.
    n_measures
        Quality measures of a token; 0: none are taken.
    """

    dtype: str
    block: int
    n_measures: int = 0

    def __post_init__(self) -> None:
        """Check what a caller may choose."""
        if self.dtype not in ("float16", "float32"):
            raise InvalidInputError(f"dtype must be 'float16' or 'float32'; got {self.dtype!r}.")
        if not 1 <= self.block <= _MOST_BLOCK:
            raise InvalidInputError(f"block must be 1 to {_MOST_BLOCK} tokens; got {self.block!r}.")


@dataclass(frozen=True, eq=False)
class Contents:
    """What a new store holds beside its attributes: (rows, cols) states and coverage, and a tissue mask if any."""

    states: NDArray[np.uint8]
    coverage: NDArray[np.float32]
    layout: Layout
    tissue: TissueMask | None

    @classmethod
    def checked(
        cls,
        geometry: GridGeometry,
        mask: ArrayLike | None,
        coverage: ArrayLike | None,
        layout: Layout,
        tissue: TissueMask | None,
        name: str,
    ) -> Contents:
        """Return the contents that `TokenGrid.create` was asked for, or refuse; `name` is the store's, for errors."""
        states = first_states(geometry, mask, name)
        shares = np.asarray(states == PENDING if coverage is None else coverage, dtype=np.float32)
        geometry.check_shape("coverage", shares.shape)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise InvalidInputError(f"coverage must lie in 0-1; got {shares.min()} to {shares.max()}.")
        return cls(states, shares, layout, tissue)


def write_new(path: Path, attrs: Mapping[str, Any], contents: Contents, overwrite: bool) -> None:
    """Make a store beside its place and rename it into place; the caller holds the lock.

    Parameters
    ----------
    path
        The place.
    attrs
        From `describe`.
    contents
        The arrays.
    overwrite
        Replace a store that is there.
    """
    made, old = path.with_name(path.name + PARTIAL), path.with_name(path.name + ".old" + PARTIAL)
    with storage_errors(path):
        _sweep_beside(path)
        _make_room(path, overwrite)
        store = WholeFileStore(made)
        try:
            _write_arrays(store, attrs, contents)
            if path.exists():
                os.replace(path, old)
            os.replace(made, path)
            sync_folder(path.parent)
        finally:
            store.stop()
            _sweep_beside(path)


def sweep(path: Path) -> None:
    """Remove what a writer that was killed left in a store and beside it; the caller holds the lock."""
    _sweep_beside(path)
    sweep_partials(path)


def check_attributes(name: str, attrs: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `MismatchError` unless the attributes of the store of a name are as wanted."""
    found = []
    for entry, value in wanted.items():
        found += differences(entry, attrs.get(entry), as_json(value))
    if found:
        raise MismatchError(
            f"{name} was made from something else: {'; '.join(found)}."
            " Write to another path, or pass overwrite=True (--overwrite) to start anew."
        )


def check_mask(name: str, state: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Raise `MismatchError` unless what is not background in the store of a name is a mask; (rows, cols) each."""
    here = state != BACKGROUND
    if not np.array_equal(here, mask):
        there, differ = int(here.sum()), int((here != mask).sum())
        raise MismatchError(
            f"{name} was made from another tissue mask: {there:,} tokens there, {int(mask.sum()):,} here,"
            f" {differ:,} differ. Leave tissue out to go on with the one of the store, write to another path, or"
            " pass overwrite=True (--overwrite) to start anew."
        )


def differences(name: str, stored: Any, wanted: Any) -> list[str]:
    """List where two JSON values differ, as sentences with the path to each entry."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        keys = sorted({*stored, *wanted})
        return [line for key in keys for line in differences(f"{name}.{key}", stored.get(key), wanted.get(key))]
    return [] if stored == wanted else [f"{name} is {_short(stored)} there and {_short(wanted)} here"]


def _short(value: Any) -> str:
    """Show a JSON value, a hash only by its first digits."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:14]}…"


def _sweep_beside(path: Path) -> None:
    """Remove a store that was begun beside its place, and one that was moved away."""
    for name in (path.name + PARTIAL, path.name + ".old" + PARTIAL):
        leftover = path.with_name(name)
        if leftover.exists():
            shutil.rmtree(leftover)


def _make_room(path: Path, overwrite: bool) -> None:
    """Raise unless a new store may take this place."""
    if not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        return
    if not overwrite:
        raise StorageError(f"{path} exists already. Write to another path, or pass overwrite=True.")
    ours = path.name.endswith(".tokens.zarr")
    with contextlib.suppress(FileFormatError):
        ours = ours or bool(read_attributes(path))
    if not (ours and path.is_dir()):
        raise StorageError(f"{path} is no token grid, so it is not overwritten. Write to another path.")


def _write_arrays(store: WholeFileStore, attrs: Mapping[str, Any], contents: Contents) -> None:
    """Write a whole new group."""
    rows, cols = contents.states.shape
    n_dims = int(attrs["encoder"]["n_dims"])
    layout = contents.layout
    chunks = min(layout.block, rows), min(layout.block, cols)
    group = zarr.create_group(store=store, attributes=dict(attrs), zarr_format=3)
    # the checksum is what finds a flipped bit
    common: dict[str, Any] = {"compressors": ZstdCodec(level=3, checksum=True)}
    common_2d = common | {"shape": (rows, cols), "dimension_names": ("row", "col")}
    state = group.create_array("state", chunks=chunks, dtype="uint8", fill_value=UNWRITTEN, **common_2d)
    state[:] = contents.states
    wide, missing = (min(1024, rows), min(1024, cols)), float("nan")
    coverage = group.create_array("coverage", chunks=wide, dtype="float32", fill_value=missing, **common_2d)
    coverage[:] = contents.coverage
    layers = [("embeddings", n_dims, layout.dtype, "dim"), ("quality", layout.n_measures, "float32", "measure")]
    for name, depth, dtype, axis in layers[: 2 if layout.n_measures else 1]:
        group.create_array(
            name,
            shape=(rows, cols, depth),
            chunks=(*chunks, depth),
            dtype=dtype,
            fill_value=missing,
            dimension_names=("row", "col", axis),
            **common,
        )
    if contents.tissue is not None:
        _write_tissue(group, contents.tissue, common)


def _write_tissue(group: zarr.Group, tissue: TissueMask, common: Mapping[str, Any]) -> None:
    """Write a tissue mask, 1 where tissue is, at its own resolution and with all that it takes to place it."""
    array = group.create_array(
        "tissue",
        shape=tissue.mask.shape,
        chunks=tuple(min(2048, extent) for extent in tissue.mask.shape),
        dtype="uint8",
        fill_value=UNWRITTEN,
        dimension_names=("row", "col"),
        attributes=as_json(tissue.to_json()),
        **common,
    )
    array[:] = tissue.mask.astype(np.uint8)
