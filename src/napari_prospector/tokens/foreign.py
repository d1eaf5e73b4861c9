"""Features that other tools have extracted, brought into token grids without embedding again.

Read are feature files of TRIDENT, CLAM and STAMP (HDF5), slide2vec (.pt, .npz), raw2features (``*.embeddings.zarr``)
and LazySlide (SpatialData zarr); `foreign_files` knows them. Where a file does not say what geometry needs, the caller
is asked, and nothing is guessed.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import (
    InvalidInputError,
    MismatchError,
    PixelSizeError,
    ProspectorWarning,
)
from napari_prospector.tokens.encoders.cards import EncoderCard
from napari_prospector.tokens.foreign_files import ForeignFeatures, read_foreign
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.lattice import Lattice, fit_lattice
from napari_prospector.tokens.slides import MPP_RANGE, Slide
from napari_prospector.tokens.store import BACKGROUND, DONE, TokenGrid

__all__ = ["FOREIGN_LOADER", "import_features"]

FOREIGN_LOADER = "foreign"
"""`EncoderCard.loader` of features that another tool has extracted."""

_BLOCK = 16


def import_features(
    features: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    slide: Slide | None = None,
    mpp: float | None = None,
    encoder: str | None = None,
    tile: float | None = None,
    overwrite: bool = False,
) -> TokenGrid:
    """Make a token grid of features that another tool has extracted.

    Tiles that lie on one regular grid are taken exactly. Tools that lay tiles over each piece of tissue by itself
    (CLAM, LazySlide) have a grid a piece: the grid of the most tiles wins, the other tiles go to its nearest cells,
    and the store and a warning say how far they were moved.

    Parameters
    ----------
    features
        A file or folder that `napari_prospector.tokens.foreign_files.read_foreign` knows.
    path
        The store to make, by convention ``*.tokens.zarr``.
    slide
        The slide, if it is at hand: its pixel size, size and fingerprint go into the store.
    mpp
        Width of a level-0 pixel in µm; it wins over slide and features.
    encoder
        Which features to take where there are several; else the name that the card shall have, if the file states none.
    tile
        Width of a tile in level-0 pixels, where the file does not state it.
    overwrite
        Replace a token grid that is there.

    Returns
    -------
    TokenGrid
        Complete, open for reading; float16 if the features were, else float32.

    Raises
    ------
    MissingFileError, FileFormatError, MissingExtraError
        From `read_foreign`: the file is missing, damaged, of an unknown tool, without coordinates, or holds NaN.
    PixelSizeError
        Neither the caller nor slide nor file states a pixel size.
    InvalidInputError
        The tile size is unknown, or the tiles lie on no grid.
    MismatchError
        Tiles lie outside of the slide.
    StorageError, StoreBusyError
        The store cannot be written, or there is one.

    Examples
    --------
    >>> from napari_prospector.tokens.foreign import import_features
    >>> grid = import_features("case7.h5", "case7.tokens.zarr", mpp=0.25)  # doctest: +SKIP
    """
    source = Path(os.path.abspath(features))
    found = read_foreign(source, encoder)
    slide_mpp = _slide_mpp(found, slide, mpp, source.name)
    placed = _in_pixels(found, slide_mpp, tile, source.name)
    lattice = fit_lattice(placed.corners, placed.tile or 1.0)
    geometry = GridGeometry(
        *lattice.shape, round(placed.tile or 1.0), lattice.stride, lattice.origin, slide_mpp, placed.tile_px or 0
    )
    if slide is not None:
        _check_inside(placed, geometry, slide, source.name)
    _tell_shifts(lattice, geometry, source.name)
    card = EncoderCard(
        name=found.encoder or encoder or f"{found.tool} features",
        loader=FOREIGN_LOADER,
        source=f"features of {found.tool}",
        tile_px=geometry.tile_px,
        mpp=geometry.tile_mpp,
        n_dims=found.embeddings.shape[1],
    )
    mask = np.zeros(geometry.shape, bool)
    mask[tuple(lattice.cells[lattice.kept].T)] = True
    rows, cols = (geometry.origin[axis] + (n - 1) * geometry.stride for axis, n in enumerate(geometry.shape))
    covered = (max(1, rows + geometry.tile), max(1, cols + geometry.tile))
    with TokenGrid.create(
        path,
        geometry,
        card,
        slide.name if slide is not None else found.slide_name,
        slide.fingerprint() if slide is not None else f"features:{_sha256(source)}",
        slide.shape if slide is not None else covered,
        "float16" if found.embeddings.dtype == np.float16 else "float32",
        _BLOCK,
        mask=mask,
        reading=_record(found, lattice),
        scanner=None if slide is None else slide.scanner,
        overwrite=overwrite,
    ) as grid:
        _fill(grid, found.embeddings, lattice)
    return TokenGrid.open(path)


def _slide_mpp(found: ForeignFeatures, slide: Slide | None, mpp: float | None, name: str) -> float:
    """Return the width of a level-0 pixel: what the caller says, the slide, the file."""
    stated = mpp if mpp is not None else slide.mpp if slide is not None else None
    stated = found.slide_mpp if stated is None else stated
    if stated is None and found.unit == "um" and found.tile and found.tile_px:
        # places in µm need no slide: the encoder's own pixels serve as level 0
        return found.tile / found.tile_px
    low, high = MPP_RANGE
    if stated is None or not low <= stated <= high:
        came = "states no pixel size" if stated is None else f"comes with a pixel size of {stated:g} µm"
        raise PixelSizeError(
            f"{name} {came}; it must be {low:g}-{high:g} µm per level-0 pixel. Pass mpp (--mpp), or the slide."
        )
    return float(stated)


def _in_pixels(found: ForeignFeatures, slide_mpp: float, tile: float | None, name: str) -> ForeignFeatures:
    """Return the features with places and tile in level-0 pixels."""
    factor = 1.0 if found.unit == "px" else 1 / slide_mpp
    wide = tile if tile is not None else None if found.tile is None else found.tile * factor
    if wide is None or not 1 <= wide < 1e6:
        raise InvalidInputError(
            f"{name} does not say how wide a tile is; got {wide}. Pass tile (--tile), in level-0 pixels; for CLAM, its"
            " folder patches beside the features tells it."
        )
    return replace(found, corners=found.corners * factor, unit="px", tile=wide)


def _check_inside(found: ForeignFeatures, geometry: GridGeometry, slide: Slide, name: str) -> None:
    """Raise `MismatchError` if the centre of a tile lies outside of the slide."""
    centres = found.corners + geometry.tile / 2
    outside = int(((centres < 0) | (centres >= slide.shape)).any(axis=1).sum())
    if outside:
        raise MismatchError(
            f"{name} must be of {slide.name}; {outside} of {len(centres)} tiles lie outside of its {slide.shape[0]} x"
            f" {slide.shape[1]} px. Check that features and slide belong together, and the pixel size."
        )


def _tell_shifts(lattice: Lattice, geometry: GridGeometry, name: str) -> None:
    """Warn if tiles were moved to their cells, or left out."""
    moved = int((np.abs(lattice.shifts).max(axis=1) > 0.5).sum())
    left_out = int((~lattice.kept).sum())
    if moved or left_out:
        most = lattice.most_shift
        warnings.warn(
            f"{name}: {moved} of {len(lattice.kept)} tiles lie off the grid of the others and were moved by up to"
            f" {most:.0f} level-0 px ({most * geometry.slide_mpp:.0f} µm, {100 * most / geometry.stride:.0f} % of a"
            f" step); {left_out} that wanted a taken cell were left out.",
            ProspectorWarning,
            stacklevel=3,
        )


def _record(found: ForeignFeatures, lattice: Lattice) -> dict[str, Any]:
    """Return what the store remembers of where its features came from; no folders."""
    return {
        "imported_from": found.tool,
        "most_shift_px": lattice.most_shift,
        "n_moved": int((np.abs(lattice.shifts).max(axis=1) > 0.5).sum()),
        "n_left_out": int((~lattice.kept).sum()),
    }


def _fill(grid: TokenGrid, embeddings: NDArray[Any], lattice: Lattice) -> None:
    """Write every block that holds a token."""
    order = np.full(grid.geometry.shape, -1, np.int64)
    kept = np.flatnonzero(lattice.kept)
    order[tuple(lattice.cells[kept].T)] = kept
    for block in grid.blocks():
        here = order[block.tokens]
        if (here >= 0).any():
            vectors = np.full((*here.shape, grid.n_dims), np.nan, np.float32)
            vectors[here >= 0] = embeddings[here[here >= 0]]
            grid.write_block(block, vectors, np.where(here >= 0, DONE, BACKGROUND).astype(np.uint8))


def _sha256(path: Path) -> str:
    """Return the hash of a file, or of a folder's files with their relative names, in a fixed order."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for part in _files(path):
        digest.update(f"{part.relative_to(path).as_posix()}\n".encode())
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files of a folder, sorted."""
    yield from sorted(part for part in folder.rglob("*") if part.is_file())
