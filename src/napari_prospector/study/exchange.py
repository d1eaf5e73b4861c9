"""Maps as files that other programs open: OME-TIFF in µm, and a table of tokens."""

from __future__ import annotations

import csv
import hashlib
import os
import uuid
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.contours import Contours, write_contours
from napari_prospector.study.map_file import ConceptMap, MapFile, Origin, Place, ScoreMap
from napari_prospector.study.map_owner import FINGERPRINT, check_slide_of_maps
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.pyramid import atomic_path
from napari_prospector.tokens.store import TokenGrid

__all__ = ["SlideMap", "on_grid", "write_map", "write_slide_map", "write_token_table"]


@dataclass(frozen=True)
class SlideMap:
    """What was written of one slide.

    Attributes
    ----------
    name
        Of the slide, without extension.
    map, target
        Which map, and the class that it looks for.
    probability
        Of that class, for the whole slide.
    files
        Scores, concepts, table; then the OME-Zarr and the GeoJSON if there are some.
    """

    name: str
    map: str
    target: str
    probability: float
    files: tuple[Path, ...]


def write_slide_map(
    folder: str | os.PathLike[str],
    head: ProspectorHead,
    store: str | os.PathLike[str],
    map_name: str | None = None,
    target: Hashable | None = None,
    *,
    head_name: str | None = None,
    ome_zarr: bool = False,
    contours: Contours | None = None,
) -> SlideMap:
    """Apply a head to a token grid and write its map: scores and concepts as OME-TIFF, and a table of tokens.

    Parameters
    ----------
    folder
        Where ``NAME.MAP.ome.tif``, ``NAME.concepts.ome.tif`` and ``NAME.MAP.csv`` go. Merged concepts have the number
        and the name of their representative in all of them.
    head
        Fitted on the grid's encoder.
    store
        Token grid, finished.
    map_name, target
        As in `ProspectorHead.prospect`; all files are named after the map, or say which it is.
    head_name
        What the files shall call the head.
    ome_zarr
        Write ``NAME.MAP.prospect.ome.zarr`` too, the map with its concepts (`write_omezarr`).
    contours
        Write ``NAME.MAP.geojson`` too, the regions that score above a threshold (`write_contours`).

    Raises
    ------
    InvalidInputError
        If the head draws no such map, or does not know the target.
    MismatchError
        If the head was fitted on another encoder, weights or tile size.
    StorageError
        If a file cannot be written, or shows another slide already; each is there whole or not at all.
    """
    out, looked_for = Path(folder), head.target_ if target is None else target
    with TokenGrid.open(store, without=head.card_.get("without", {})) as grid:
        head.check_encoder(grid.tokens_card)
        graph, mask, geometry = grid.graph(), grid.mask, grid.geometry
        slide, fingerprint = str(grid.attrs["slide_name"]), str(grid.attrs["slide_fingerprint"])
    map_name = head.best_map_ if map_name is None else map_name
    scores, concepts = head.prospect(graph, map_name, target), head.concept_edits_.merged(head.concepts(graph))
    encoder = (head.card_.get("encoder") or {}).get("name")
    hidden = tuple(sorted(head.concept_edits_.hidden))
    origin = Origin(slide, str(looked_for), head_name, encoder, fingerprint, geometry, hidden)
    shown = MapFile(
        ScoreMap(on_grid(scores, mask, np.nan), Place.of_grid(geometry), map_name, head.color_limits_[map_name]),
        ConceptMap(on_grid(concepts + 1, mask, 0), Place.of_grid(geometry), head.concept_names_),
        origin,
    )
    name = Path(slide).stem
    files = _write_files(out / name, shown, ome_zarr)
    table = out / f"{name}.{map_name}.csv"
    names = np.asarray(head.concept_edits_.names)[concepts]
    columns: dict[str, ArrayLike] = {map_name: scores, "concept": concepts, "concept_name": names}
    files.insert(2, write_token_table(table, mask, geometry, columns))
    if contours is not None:
        about = {"slide": slide, "head": head_name, "encoder": encoder}
        cut = (str(looked_for), contours, head.color_limits_[map_name], map_name, about)
        files.append(write_contours(out / f"{name}.{map_name}.geojson", on_grid(scores, mask, np.nan), geometry, *cut))
    probability = head.predict_proba([graph])[0, head.classes_.tolist().index(looked_for)]
    return SlideMap(name, map_name, str(looked_for), float(probability), tuple(files))


def _write_files(path: Path, shown: MapFile, ome_zarr: bool) -> list[Path]:
    """Write scores and concepts as files whose names begin as `path` does."""
    from napari_prospector.study.omezarr_maps import MAP_ENDING, write_omezarr

    scores, concepts, origin = shown.scores, shown.concepts, shown.origin
    assert scores is not None
    assert concepts is not None
    assert origin.geometry is not None
    tiffs = [path.with_name(f"{path.name}.{layer}.ome.tif") for layer in (scores.map, "concepts")]
    folder = path.with_name(f"{path.name}.{scores.map}{MAP_ENDING}")
    check_slide_of_maps([*tiffs, *([folder] * ome_zarr)], str(origin.slide), str(origin.fingerprint))
    provenance = {
        "map": scores.map,
        "looks for": str(origin.target),
        "slide": str(origin.slide),
        "encoder": origin.encoder or "",
        FINGERPRINT: str(origin.fingerprint),
        **({"hidden concepts": ", ".join(map(str, origin.hidden))} if origin.hidden else {}),
    }
    title = f"{scores.map} for {origin.target}"
    return [
        write_map(tiffs[0], scores.values, origin.geometry, title, provenance),
        write_map(tiffs[1], concepts.labels.astype(np.uint16), origin.geometry, "concepts", provenance),
        *([write_omezarr(folder, shown)] if ome_zarr else []),
    ]


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
    content = hashlib.sha256(np.ascontiguousarray(image).tobytes() + repr((name, row_um, row_0, col_0)).encode())
    metadata = {
        # of the content: by default it would hold this machine's address and the clock
        "UUID": str(uuid.UUID(content.hexdigest()[:32])),
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

    Numbers are written so that reading them gives the same; text as it is.

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
            writer.writerow([*place, *(_cell(column[token].item()) for column in values.values())])
    return Path(path)


def _cell(value: object) -> str:
    """Return what stands for a value in a table."""
    return value if isinstance(value, str) else repr(value)
