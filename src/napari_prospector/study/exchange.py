"""Maps as files that other programs open: OME-TIFF in µm, and a table of tokens."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.pyramid import atomic_path

__all__ = ["on_grid", "write_map", "write_token_table"]


def on_grid(values: ArrayLike, mask: NDArray[np.bool_], fill: float) -> NDArray[Any]:
    """Lay values of tokens (n_tokens,) out on their grid (rows, cols); `fill` where there is no token.

    Raises
    ------
    InvalidInputError
        If there are not as many values as True cells.
    """
    tokens = np.asarray(values)
    if tokens.shape != (int(mask.sum()),):
        raise InvalidInputError(f"values must have shape ({int(mask.sum())},), one per token; got {tokens.shape}.")
    grid = np.full(mask.shape, fill, dtype=np.result_type(tokens.dtype, np.min_scalar_type(fill)))
    grid[mask] = tokens
    return grid


def write_map(
    path: str | os.PathLike[str], image: NDArray[Any], geometry: GridGeometry, name: str, provenance: Mapping[str, str]
) -> Path:
    """Write one image at grid resolution as OME-TIFF.

    Parameters
    ----------
    path
        By convention ``*.ome.tif``.
    image
        Shape (rows, cols): float32 scores with NaN outside the tissue, or uint16 concept numbers + 1 with 0 outside.
    geometry
        Of the tokens. A pixel is one stride wide; the centre of the first one is stated in µm as the plane's position.
    name
        What the image shows, the name of its map among it.
    provenance
        Short texts kept in the file; no path belongs here.

    Returns
    -------
    Path
        Where it was written, whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    import tifffile

    geometry.check_shape("image", image.shape)
    row_um, col_um = geometry.scale_um
    row_0, col_0 = geometry.translate_um
    metadata = {
        "axes": "YX",
        "Name": name,
        "Description": "; ".join(f"{key}: {value}" for key, value in provenance.items()),
        "PhysicalSizeX": col_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": row_um,
        "PhysicalSizeYUnit": "µm",
        "Plane": {"PositionX": [col_0], "PositionXUnit": ["µm"], "PositionY": [row_0], "PositionYUnit": ["µm"]},
    }
    with atomic_path(path) as partial:
        tifffile.imwrite(partial, image, ome=True, metadata=metadata, compression="zlib", photometric="minisblack")
    return Path(path)


def write_token_table(
    path: str | os.PathLike[str],
    mask: NDArray[np.bool_],
    geometry: GridGeometry,
    columns: Mapping[str, ArrayLike],
) -> Path:
    """Write one line per token: place on the grid, level-0 box, centre in µm, and the given columns.

    Raises
    ------
    StorageError
        If it cannot be written; nothing is left behind.
    """
    rows, cols = np.nonzero(mask)
    centres = geometry.centre_um(rows, cols)
    values = {name: np.asarray(column) for name, column in columns.items()}
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "col", "row0_px", "col0_px", "width_px", "row_um", "col_um", *values])
        for token, (row, col) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
            row_px, col_px, _, _ = geometry.box(row, col)
            place = [row, col, row_px, col_px, geometry.tile, f"{centres[token, 0]:.3f}", f"{centres[token, 1]:.3f}"]
            writer.writerow([*place, *(repr(column[token].item()) for column in values.values())])
    return Path(path)
