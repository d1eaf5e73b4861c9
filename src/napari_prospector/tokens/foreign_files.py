"""The feature files of other tools, each read as its makers document it; `read_foreign` knows them by their content.

To add a tool, add a function to `_READERS`. Where a file does not say what geometry needs, the entry stays None and
whoever imports is asked; nothing is guessed, and nothing is unpickled.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingExtraError, MissingFileError

__all__ = ["ForeignFeatures", "read_foreign"]

_H5_START = b"\x89HDF\r\n\x1a\n"
_EXTRA = "Install it with: pip install 'napari-prospector[features]'"
# STAMP before version 2 counted in pixels of 224 to 256 µm and said so nowhere.
_OLD_STAMP_PX, _OLD_STAMP_UM = 224, 256.0
# What libraries raise on files that do not hold what they should.
_DAMAGE = (KeyError, OSError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class ForeignFeatures:
    """Features of one slide as another tool has left them.

    Attributes
    ----------
    tool
        Which tool's file it is, for people.
    slide_name
        File name of the slide without folder and suffix, as far as the file or its own name tell.
    embeddings
        (n_tiles, n_dims) floats.
    corners
        (n_tiles, 2), (row, col) of the upper left corner of each tile, in `unit`.
    unit
        "px": level-0 pixels; "um": µm.
    tile
        Width of a tile in `unit`; None: the file does not say.
    tile_px
        Width in pixels that the encoder saw; None: the file does not say.
    encoder
        The encoder's name as that tool writes it; None: the file does not say.
    slide_mpp
        µm per level-0 pixel; None: the file does not say.
    """

    tool: str
    slide_name: str
    embeddings: NDArray[Any]
    corners: NDArray[np.float64]
    unit: Literal["px", "um"]
    tile: float | None
    tile_px: int | None
    encoder: str | None
    slide_mpp: float | None = None


def read_foreign(path: Path, encoder: str | None = None) -> ForeignFeatures:
    """Read the features of one slide that another tool has extracted.

    Parameters
    ----------
    path
        A feature file of TRIDENT, CLAM or STAMP (``.h5``), tile embeddings of slide2vec (``.pt``, ``.npz``) with their
        coordinates beside them, a ``*.embeddings.zarr`` of raw2features or a SpatialData zarr of LazySlide.
    encoder
        Which features to take where a file holds several encoders'.

    Raises
    ------
    MissingFileError
        There is nothing at `path`, or what belongs to it is missing.
    FileFormatError
        It is damaged, of no known tool, or holds no coordinates.
    InvalidInputError
        It holds features of several encoders and `encoder` names none of them.
    MissingExtraError
        The extra ``features`` is needed.
    """
    if not path.exists():
        raise MissingFileError(f"There are no features at {path}. Check the path.")
    for knows, reader in _READERS:
        if knows(path):
            found = reader(path, encoder)
            _check(found, path.name)
            return found
    raise FileFormatError(
        f"{path.name} is of no tool that is known: TRIDENT, CLAM, STAMP (.h5), slide2vec (.pt, .npz), raw2features"
        " (*.embeddings.zarr), LazySlide (SpatialData zarr). Import those, or embed the slide."
    )


def _check(found: ForeignFeatures, name: str) -> None:
    """Raise unless there is one finite vector and one place for each tile."""
    embeddings, corners = found.embeddings, found.corners
    if embeddings.ndim != 2 or not embeddings.size or embeddings.dtype.kind != "f":
        raise FileFormatError(
            f"{name} must hold features of shape (n_tiles, n_dims), at least one tile; got {embeddings.dtype}"
            f" {embeddings.shape}. Extract them again."
        )
    if corners.shape != (len(embeddings), 2):
        raise FileFormatError(
            f"{name} must hold one place for each of {len(embeddings)} tiles; its coordinates have the shape"
            f" {corners.shape}. Extract features and coordinates in one run."
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken):
        rows = ", ".join(map(str, broken[:3])) + (", …" if len(broken) > 3 else "")
        raise FileFormatError(
            f"{name} must hold finite features; {len(broken)} of {len(embeddings)} tiles have NaN or infinity (rows"
            f" {rows}). Extract them again, in float32 if they overflowed."
        )


def _is_h5(path: Path) -> bool:
    """Whether a file is HDF5 by its first bytes, or calls itself so."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == _H5_START or path.suffix.lower() in (".h5", ".hdf5")


def _read_h5(path: Path, encoder: str | None) -> ForeignFeatures:
    """Read a feature file of TRIDENT, CLAM or STAMP, told apart by the names in it."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(f"{path.name} is read with h5py, which is not installed. {_EXTRA}") from error
    with _damage(path), h5py.File(path, "r") as file:
        names = set(file)
        if "coords" not in names:
            raise FileFormatError(
                f"{path.name} must hold coordinates beside its features; it holds {sorted(names)}. Pass the .h5 with"
                " the dataset 'coords'."
            )
        if "feats" in names:
            return _stamp(path, np.asarray(file["feats"]), np.asarray(file["coords"]), dict(file.attrs))
        if "features" not in names:
            raise FileFormatError(
                f"{path.name} must hold the dataset 'features' (TRIDENT, CLAM) or 'feats' (STAMP); it holds"
                f" {sorted(names)}. Pass the file of features, not the one of coordinates alone."
            )
        embeddings, coords = np.asarray(file["features"]), np.asarray(file["coords"])
        said = dict(file["coords"].attrs)
        stated = file["features"].attrs.get("encoder")
    # a batch axis of one, as some versions write it
    embeddings = embeddings[0] if embeddings.ndim == 3 and len(embeddings) == 1 else embeddings
    name = None if stated in (None, "None") else str(stated)
    if "patch_size_level0" in said:
        sizes = float(said["patch_size_level0"]), int(said["patch_size"])
        return ForeignFeatures("TRIDENT", path.stem, embeddings, _rows_first(coords), "px", *sizes, name)
    tile, tile_px = _clam_sizes(path, said)
    return ForeignFeatures("CLAM", path.stem, embeddings, _rows_first(coords), "px", tile, tile_px, name)


def _clam_sizes(path: Path, said: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Return the width of a tile in level-0 pixels and in its own, from CLAM's file of coordinates if need be.

    Its file of features tells no size; ``patches/NAME.h5`` does, in the folder of results or beside ``h5_files``.
    """
    import h5py

    for place in (path.parent / "patches" / path.name, path.parent.parent / "patches" / path.name):
        if "patch_size" not in said and place.is_file():
            with _damage(place), h5py.File(place, "r") as file:
                said = dict(file["coords"].attrs)
    if "patch_size" not in said:
        return None, None
    if "downsample" not in said:
        # level 0 needs no factor; for another level there is none to be had
        at_level0 = int(said.get("patch_level", 0)) == 0
        return (float(said["patch_size"]), int(said["patch_size"])) if at_level0 else (None, int(said["patch_size"]))
    factor = float(np.mean(said["downsample"]))
    return float(said["patch_size"]) * factor, int(said["patch_size"])


def _stamp(path: Path, features: NDArray[Any], coords: NDArray[Any], said: Mapping[str, Any]) -> ForeignFeatures:
    """Read STAMP's features: places in µm from version 2 on, in units of 256/224 µm before."""
    name = str(said["extractor"]) if "extractor" in said else None
    tile_px = int(said["tile_size_px"]) if "tile_size_px" in said else None
    corners = _rows_first(coords)
    if said.get("unit") == "um" or "tile_size_um" in said:
        size = said.get("tile_size_um", said.get("tile_size"))
        tile = None if size is None else float(size)
        return ForeignFeatures("STAMP", path.stem, features, corners, "um", tile, tile_px, name)
    if round(float(said.get("tile_size", 0))) != _OLD_STAMP_PX:
        raise FileFormatError(
            f"{path.name} must say its unit and tile size (attributes unit, tile_size_um); it says"
            f" {sorted(map(str, said))}. Extract it again with STAMP 2."
        )
    corners = corners / _OLD_STAMP_PX * _OLD_STAMP_UM
    return ForeignFeatures("STAMP 1", path.stem, features, corners, "um", _OLD_STAMP_UM, _OLD_STAMP_PX, name)


def _is_slide2vec(path: Path) -> bool:
    """Whether a file can be tile embeddings of slide2vec."""
    return path.is_file() and path.suffix.lower() in (".pt", ".npz")


def _read_slide2vec(path: Path, encoder: str | None) -> ForeignFeatures:
    """Read ``tile_embeddings/NAME.pt`` (or .npz) with its ``.meta.json``, and ``tiles/NAME.coordinates.npz``."""
    embeddings, order = _tensor(path) if path.suffix.lower() == ".pt" else _archive(path)
    places = _coordinates_of(path)
    with _damage(places), np.load(places, allow_pickle=False) as archive:
        corners = np.stack([archive["y"], archive["x"]], axis=1).astype(np.float64)
        if order is not None and "tile_index" in archive:
            by_index = {int(index): row for row, index in enumerate(archive["tile_index"])}
            corners = corners[[by_index[int(index)] for index in order]]
    said = _json_beside(path.with_suffix(".meta.json"))
    about = _json_beside(places.with_name(places.name.removesuffix(".npz") + ".meta.json"))
    tiling, slide = about.get("tiling") or {}, about.get("slide") or {}
    tile = said.get("tile_size_lv0", tiling.get("tile_size_lv0"))
    tile_px = said.get("encoder_input_size_px") or said.get("requested_tile_size_px")
    tile_px = tile_px or tiling.get("requested_tile_size_px")
    return ForeignFeatures(
        tool="slide2vec",
        slide_name=str(said.get("sample_id", path.stem)),
        embeddings=embeddings,
        corners=corners,
        unit="px",
        tile=None if tile is None else float(tile),
        tile_px=None if tile_px is None else int(tile_px),
        encoder=said.get("encoder_name"),
        slide_mpp=slide.get("base_spacing_um"),
    )


def _tensor(path: Path) -> tuple[NDArray[Any], None]:
    """Read a file that holds one tensor and nothing else."""
    import torch

    unpickling_error: type[Exception] = vars(torch.serialization)["pickle"].UnpicklingError
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (*_DAMAGE, EOFError, unpickling_error) as error:
        raise FileFormatError(
            f"{path.name} is damaged, or holds more than a tensor and is not opened for safety: {error}"
        ) from error
    if not isinstance(found, torch.Tensor):
        raise FileFormatError(f"{path.name} must hold one tensor of features; it holds a {type(found).__name__}.")
    return np.asarray(found.to(torch.float32) if found.dtype == torch.bfloat16 else found), None


def _archive(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Read features, and which tile each row is where that is told."""
    with _damage(path), np.load(path, allow_pickle=False) as archive:
        return archive["features"], archive["tile_index"] if "tile_index" in archive else None


def _coordinates_of(path: Path) -> Path:
    """Find slide2vec's coordinates of a file of embeddings, which may lie in a folder a class."""
    folders = list(path.parents)
    root = next((folder for folder in folders if folder.name == "tile_embeddings"), None)
    name = f"{path.stem}.coordinates.npz"
    candidates = [path.with_name(name)]
    if root is not None:
        candidates.insert(0, root.parent / "tiles" / path.parent.relative_to(root) / name)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise MissingFileError(
        f"{path.name} holds features and no coordinates, and there is no {name} in ../tiles or beside it. Keep the"
        " folders tile_embeddings and tiles together, or pass the .h5 where the tool writes one."
    )


def _json_beside(path: Path) -> dict[str, Any]:
    """Read a file of facts, if there is one."""
    if not path.is_file():
        return {}
    with _damage(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _zarr_says(path: Path, entry: str) -> bool:
    """Whether a folder is a zarr group with an entry in its attributes."""
    if not path.is_dir():
        return False
    for metadata, key in (("zarr.json", "attributes"), (".zattrs", None)):
        if (path / metadata).is_file():
            found = _json_beside(path / metadata)
            return entry in (found if key is None else found.get(key, {}))
    return False


def _is_raw2features(path: Path) -> bool:
    """Whether a folder is a raw2features store."""
    return _zarr_says(path, "raw2features")


def _read_raw2features(path: Path, encoder: str | None) -> ForeignFeatures:
    """Read a store of raw2features, format 0.1: ``grids/KEY/`` with ``coords`` and ``features/MODEL``."""
    import zarr

    with _damage(path):
        root = zarr.open_group(path, mode="r")
        places = {
            f"{key}/{model}": (key, model)
            for key, grid in _groups(root["grids"])
            for model, _ in _group(grid, "features").arrays()
        }
        chosen = {label: place for label, place in places.items() if encoder in (None, place[1], label)}
        key, model = chosen[_only(path, encoder, chosen, places)]
        grid = _group(root, f"grids/{key}")
        header: Mapping[str, Any] = grid.attrs["raw2features"]
        patching, source = header["patching"], header["source"]
        return ForeignFeatures(
            tool="raw2features",
            slide_name=str(source.get("slide_id", path.name.removesuffix(".embeddings.zarr"))),
            embeddings=_array(grid, f"features/{model}"),
            corners=_rows_first(_array(grid, "coords")),
            unit="px",
            tile=float(patching["level0_patch"]),
            tile_px=int(patching["patch_px"]),
            encoder=model,
            slide_mpp=source.get("mpp_level0"),
        )


def _is_spatialdata(path: Path) -> bool:
    """Whether a folder is a SpatialData zarr."""
    return _zarr_says(path, "spatialdata_attrs")


def _read_lazyslide(path: Path, encoder: str | None) -> ForeignFeatures:
    """Read a SpatialData zarr of LazySlide: a table of features for a region of tiles, whose corners are in Parquet."""
    import zarr

    with _damage(path):
        root = zarr.open_group(path, mode="r")
        said: Mapping[str, Any] = dict(root.attrs)
        specs: Mapping[str, Any] = said.get("tile_spec") or {}
        tables = {name: table for name, table in _groups(root["tables"]) if table.attrs.get("region") in specs}
        chosen = [
            name for name in tables if encoder in (None, name, name.removesuffix(f"_{tables[name].attrs['region']}"))
        ]
        name = _only(path, encoder, chosen, tables)
        table, region = tables[name], str(tables[name].attrs["region"])
        spec = specs[region]
        index = _array(table, f"obs/{table.attrs.get('instance_key', 'tile_id')}").astype(np.int64)
        slide: Mapping[str, Any] = said.get("slide_properties") or {}
        return ForeignFeatures(
            tool="LazySlide",
            slide_name=path.name.removesuffix(".zarr"),
            embeddings=_array(table, "X"),
            corners=_corners_in_parquet(path / "shapes" / region / "shapes.parquet", index),
            unit="px",
            tile=float(int(spec["width"] * spec["base_downsample"])),
            tile_px=int(spec["width"]),
            encoder=name.removesuffix(f"_{region}"),
            slide_mpp=slide.get("mpp"),
        )


def _corners_in_parquet(path: Path, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the corners (row, col) of the tiles of these numbers."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(f"{path.name} is read with pyarrow, which is not installed. {_EXTRA}") from error
    if not path.is_file():
        raise MissingFileError(f"There are no tiles at {path}; the table of features needs them. Copy the store whole.")
    table = parquet.read_table(path, columns=["tile_id", "x", "y"])
    numbers, xs, ys = (np.asarray(table.column(name)) for name in ("tile_id", "x", "y"))
    rows = {int(number): row for row, number in enumerate(numbers)}
    order = [rows[int(number)] for number in index]
    return np.stack([ys[order], xs[order]], axis=1).astype(np.float64)


def _only(path: Path, encoder: str | None, chosen: Any, known: Mapping[str, Any]) -> str:
    """Return the one set of features that is meant."""
    if not known:
        raise FileFormatError(f"{path.name} holds no features of tiles. Extract them first.")
    if len(chosen) != 1:
        wish = "holds several sets of features" if encoder is None else f"has not just one set for {encoder!r}"
        raise InvalidInputError(f"{path.name} {wish}; it has {', '.join(sorted(known))}. Name one as the encoder.")
    return str(next(iter(chosen)))


def _rows_first(coords: NDArray[Any]) -> NDArray[np.float64]:
    """Turn (x, y) into (row, col); what has another shape is refused by `_check`."""
    places = np.asarray(coords, np.float64)
    return places[:, ::-1] if places.ndim == 2 else places


def _groups(parent: Any) -> Iterator[tuple[str, Any]]:
    """Yield the groups in a zarr group by name."""
    yield from sorted(parent.groups())


def _group(parent: Any, path: str) -> Any:
    """Return a zarr group, typed loosely: foreign stores hold what they hold."""
    return parent[path]


def _array(parent: Any, path: str) -> NDArray[Any]:
    """Read a zarr array whole."""
    return np.asarray(parent[path][:])


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what a damaged file makes of reading it into a `FileFormatError`."""
    try:
        yield
    except (FileFormatError, InvalidInputError, MissingExtraError, MissingFileError):
        raise
    except _DAMAGE as error:
        raise FileFormatError(
            f"{path.name} does not hold what its maker documents, or is damaged: {error!r}. Copy or extract it again."
        ) from error


_READERS: tuple[tuple[Callable[[Path], bool], Callable[[Path, str | None], ForeignFeatures]], ...] = (
    (_is_h5, _read_h5),
    (_is_slide2vec, _read_slide2vec),
    (_is_raw2features, _read_raw2features),
    (_is_spatialdata, _read_lazyslide),
)
