"""The zarr group behind a TokenGrid: making it whole, opening it, saying what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from napari_prospector import __version__
from napari_prospector.errors import FileFormatError, InvalidInputError, StorageError
from napari_prospector.tokens.durable import (
    PARTIAL,
    WriterLock,
    storage_errors,
    sweep_partials,
    sync_folder,
    write_whole,
)
from napari_prospector.tokens.geometry import GridGeometry

__all__ = [
    "BACKGROUND",
    "DONE",
    "FAILED",
    "FORMAT",
    "FORMAT_VERSION",
    "PENDING",
    "Card",
    "as_json",
    "damage",
    "describe",
    "differences",
    "first_states",
    "lock_of",
    "open_array",
    "read_attributes",
    "sweep",
    "write_new",
]

FORMAT = "napari-prospector token grid"
FORMAT_VERSION = 1

BACKGROUND, PENDING, DONE, FAILED = range(4)
# What zarr answers for a state that was never written, so that a missing chunk of it shows.
_UNWRITTEN = 255
# zstd by its library says RuntimeError; zarr's own errors are ValueErrors and FileNotFoundErrors.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OSError)


class Card(Protocol):
    """Whatever describes an encoder and can say so in JSON, such as an EncoderCard."""

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON types."""
        ...


class WholeFileStore(LocalStore):
    """A zarr store on the local disk in which every file is written whole, durably, or not at all.

    LocalStore itself renames into place from zarr 3.1 on, earlier ones write in place; none syncs to the disk.
    """

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write one file."""
        self._check_writable()
        write_whole(self.root / key, value.to_bytes())

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
    if came[1] != FORMAT_VERSION:
        raise FileFormatError(
            f"{path.name} must be of format version {FORMAT_VERSION}; it is of version {came[1]!r}."
            " Update napari-prospector, or embed the slide again with overwrite=True."
        )
    return dict(attrs)


def open_array(path: Path, name: str, read_only: bool) -> zarr.Array[Any]:
    """Open one array of a store; a caller wraps this in `damage`."""
    store = WholeFileStore(path, read_only=read_only)
    return zarr.open_array(store=store, path=name, mode="r" if read_only else "r+", zarr_format=3)


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


def write_new(
    path: Path,
    attrs: Mapping[str, Any],
    states: NDArray[np.uint8],
    coverage: NDArray[np.float32],
    layout: tuple[str, int],
    overwrite: bool,
) -> None:
    """Make a store beside its place and rename it into place; the caller holds the lock.

    Parameters
    ----------
    path
        The place.
    attrs
        From `describe`.
    states, coverage
        (rows, cols) each.
    layout
        dtype of the embeddings and tokens along a side of a block.
    overwrite
        Replace a store that is there.
    """
    made, old = path.with_name(path.name + PARTIAL), path.with_name(path.name + ".old" + PARTIAL)
    with storage_errors(path):
        _sweep_beside(path)
        _make_room(path, overwrite)
        try:
            _write_arrays(made, attrs, states, coverage, layout)
            if path.exists():
                os.replace(path, old)
            os.replace(made, path)
            sync_folder(path.parent)
        finally:
            _sweep_beside(path)


def sweep(path: Path) -> None:
    """Remove what a writer that was killed left in a store and beside it; the caller holds the lock."""
    _sweep_beside(path)
    sweep_partials(path)


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


def _write_arrays(
    path: Path,
    attrs: Mapping[str, Any],
    states: NDArray[np.uint8],
    coverage: NDArray[np.float32],
    layout: tuple[str, int],
) -> None:
    """Write a whole new group."""
    dtype, block = layout
    rows, cols = states.shape
    n_dims = int(attrs["encoder"]["n_dims"])
    chunks = min(block, rows), min(block, cols)
    group = zarr.create_group(store=WholeFileStore(path), attributes=dict(attrs), zarr_format=3)
    # the checksum is what finds a flipped bit
    common: dict[str, Any] = {"compressors": ZstdCodec(level=3, checksum=True)}
    common_2d = common | {"shape": (rows, cols), "dimension_names": ("row", "col")}
    group.create_array("state", chunks=chunks, dtype="uint8", fill_value=_UNWRITTEN, **common_2d)[:] = states
    wide = min(1024, rows), min(1024, cols)
    group.create_array("coverage", chunks=wide, dtype="float32", fill_value=float("nan"), **common_2d)[:] = coverage
    group.create_array(
        "embeddings",
        shape=(rows, cols, n_dims),
        chunks=(*chunks, n_dims),
        dtype=dtype,
        fill_value=float("nan"),
        dimension_names=("row", "col", "dim"),
        **common,
    )
