"""Writes the files of other tools in the layouts that their makers document, for the tests of importing them.

Layouts: TRIDENT `trident/IO.py` (coords_to_h5, save_h5) and `WSI.extract_patch_features`; CLAM `extract_features_fp.py`
and `wsi_core/WholeSlideImage.py` (process_contour); STAMP `preprocessing/__init__.py` and `modeling/data.py`
(get_coords); slide2vec `docs/output-layout.rst`; raw2features `docs/SPEC.md`, schema 0.1; LazySlide: what wsidata 0.12
with spatialdata 0.7 wrote for a slide.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE, TILE_PX, MPP, N_DIMS = 448, 224, 0.25, 7
# (row, col) of tiles: an L, off the slide's corner
CELLS = np.array([[2, 1], [3, 1], [3, 2], [3, 4], [5, 1]])
ORIGIN = np.array([13, 29])
CORNERS = ORIGIN + CELLS * TILE
XY = CORNERS[:, ::-1]


def features(dtype: str = "float32") -> NDArray[Any]:
    """One vector a tile that tells which tile it is."""
    return (np.arange(len(CELLS))[:, None] + np.arange(N_DIMS) / 16).astype(dtype)


def trident(path: Path, coords: NDArray[Any] = XY, shift: float = 0, **said: Any) -> Path:
    """Write features of TRIDENT; `shift` is added to all of them."""
    import h5py

    facts = {"patch_size": TILE_PX, "patch_size_level0": TILE, "level0_magnification": 40, "target_magnification": 20}
    with h5py.File(path, "w") as file:
        file["features"] = features() + np.float32(shift)
        file["features"].attrs.update({"name": path.stem, "savetodir": "/secret/place", "encoder": "uni_v1"})
        file["coords"] = coords.astype(np.int64)
        file["coords"].attrs.update({**facts, "overlap": 0, "name": path.stem, **said})
    return path


def clam(folder: Path, with_patches: bool) -> Path:
    import h5py

    (folder / "h5_files").mkdir(parents=True)
    (folder / "patches").mkdir()
    path = folder / "h5_files" / "case7.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features(), XY.astype(np.int32)
    if with_patches:
        with h5py.File(folder / "patches" / "case7.h5", "w") as file:
            file["coords"] = XY.astype(np.int32)
            file["coords"].attrs.update({"patch_size": TILE_PX, "patch_level": 1, "downsample": (2.0, 2.0)})
    return path


def stamp(path: Path, **said: Any) -> Path:
    import h5py

    facts = {"unit": "um", "tile_size_um": TILE * MPP, "tile_size_px": TILE_PX, "extractor": "uni2"}
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = features("float16"), (XY * MPP).astype(np.float32)
        file.attrs.update({**facts, "stamp_version": "2.4.0", "feat_type": "tile", **said})
    return path


def old_stamp(path: Path) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = features("float16"), (XY / TILE * 224).astype(np.float32)
        file.attrs["tile_size"] = 224
    return path


def slide2vec(folder: Path, kind: str, shuffled: bool = False) -> Path:
    import torch

    (folder / "tile_embeddings").mkdir(parents=True)
    (folder / "tiles").mkdir()
    order = np.arange(len(XY))[::-1] if shuffled else np.arange(len(XY))
    path = folder / "tile_embeddings" / f"case7.{kind}"
    if kind == "pt":
        torch.save(torch.from_numpy(features()), path)
    else:
        np.savez_compressed(path, features=features()[order], tile_index=order)
    said = {"sample_id": "case7", "artifact_type": "tile_embeddings", "encoder_name": "prost40m"}
    said |= {"requested_tile_size_px": TILE_PX, "tile_size_lv0": TILE, "image_path": "/secret/case7.svs"}
    path.with_suffix(".meta.json").write_text(json.dumps(said))
    places = folder / "tiles" / "case7.coordinates"
    np.savez(f"{places}.npz", x=XY[:, 0], y=XY[:, 1], tile_index=np.arange(len(XY)), tissue_fractions=np.ones(len(XY)))
    about = {"slide": {"base_spacing_um": MPP}, "tiling": {"tile_size_lv0": TILE, "requested_tile_size_px": TILE_PX}}
    Path(f"{places}.meta.json").write_text(json.dumps(about))
    return path


def raw2features(path: Path, models: tuple[str, ...] = ("uni",), zarr_format: Any = 2) -> Path:
    import zarr

    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    source = {"uri": "file:///secret/case7.zarr", "slide_id": "case7", "mpp_level0": MPP}
    patching = {"target_mpp": 0.5, "patch_px": TILE_PX, "level0_patch": TILE, "level0_step": TILE}
    root.attrs["raw2features"] = {"schema_version": "0.1", "source": source}
    grid = root.create_group("grids").create_group("mpp0.5_px224")
    grid.attrs["raw2features"] = {"schema_version": "0.1", "source": source, "patching": patching}
    grid.create_array("coords", shape=XY.shape, dtype="int32")[:] = XY
    held = grid.create_group("features")
    for number, model in enumerate(models):
        held.create_array(model, shape=features().shape, dtype="float16")[:] = features("float16") + 64 * number
    return path


def lazyslide(path: Path, tables: tuple[str, ...] = ("resnet50",)) -> Path:
    import pyarrow as pa
    import zarr
    from pyarrow import parquet

    root = zarr.open_group(path, mode="w", zarr_format=3)
    spec = {"height": TILE_PX, "width": TILE_PX, "stride_height": TILE_PX, "stride_width": TILE_PX, "mpp": 0.5}
    root.attrs["spatialdata_attrs"] = {"version": "0.2", "spatialdata_software_version": "0.7.3"}
    root.attrs["slide_properties"] = {"mpp": MPP, "shape": [4000, 5000], "raw": '{"openslide.comment": "secret"}'}
    root.attrs["tile_spec"] = {"tiles": spec | {"ops_level": 0, "ops_downsample": 2.0, "base_downsample": 2.0}}
    held = root.create_group("tables")
    order = np.arange(len(XY))[::-1]
    for name in tables:
        table = held.create_group(f"{name}_tiles")
        table.attrs.update({"encoding-type": "anndata", "region": "tiles", "region_key": "library_id"})
        table.attrs["instance_key"] = "tile_id"
        table.create_array("X", shape=features().shape, dtype="float32")[:] = features()[order]
        table.create_group("obs").create_array("tile_id", shape=(len(XY),), dtype="int64")[:] = order
    shapes = path / "shapes" / "tiles"
    root.create_group("shapes").create_group("tiles")
    columns = {"tile_id": np.arange(len(XY)), "x": XY[:, 0], "y": XY[:, 1], "geometry": [b""] * len(XY)}
    parquet.write_table(pa.table(columns), shapes / "shapes.parquet")
    return path
