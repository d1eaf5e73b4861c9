"""One picture written as slides of every format that can be written: levels by every second pixel, lossless or not."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import tifffile
import zarr
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, generate_uid

from napari_prospector.tokens.slides import Slide

# 4 times a prime, so that both levels below are whole
ROWS, COLS, MPP = 212, 316, 0.47
TILE = (64, 48)
SQUARE, SQUARE_COLOUR = (slice(72, 92), slice(200, 228)), (11, 222, 33)
PATIENT, PATIENT_ID, ACCESSION = "Roe^Jane", "PID-4711", "ACC-0815"


def drawn(rows: int = ROWS, cols: int = COLS, seed: int = 0) -> np.ndarray:
    """Draw waves and noise with a square whose sides are multiples of 4."""
    row, col = np.mgrid[:rows, :cols]
    waves = [128 + 90 * np.sin(row / (17 + 3 * i) + col / (21 + 2 * i) + i) for i in range(3)]
    noise = np.random.default_rng(seed).integers(-9, 10, (rows, cols, 3))
    image = np.clip(np.stack(waves, -1) + noise, 0, 254).astype(np.uint8)
    image[SQUARE] = SQUARE_COLOUR
    return image


def levels_of(image: np.ndarray, n_levels: int = 3) -> list[np.ndarray]:
    return [image[:: 2**i, :: 2**i] for i in range(n_levels)]


def read_box(slide: Slide, box: tuple[int, int, int, int, int]) -> np.ndarray:
    """Read a box in whichever process this is called."""
    with slide:
        return slide.read(*box)


# --- TIFF


def write_tiff(path: Path, images: Sequence[np.ndarray], **options: Any) -> Path:
    """Write pages one below the other, as openslide wants them."""
    tiles = {"photometric": "rgb", "tile": TILE, "compression": "zlib", "metadata": None, **options}
    resolution = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        for index, image in enumerate(images):
            writer.write(image, subfiletype=int(index > 0), **tiles, **resolution)
    return path


def write_svs(path: Path, images: Sequence[np.ndarray], **options: Any) -> Path:
    """Write an Aperio SVS with thumbnail, label and macro."""
    tiles = {"photometric": "rgb", "tile": TILE, "compression": "zlib", "metadata": None, **options}
    strips = {"photometric": "rgb", "rowsperstrip": 16, "compression": "lzw", "metadata": None}
    described = f"Aperio Image Library v11.2.1\n{COLS}x{ROWS} (64x48)|AppMag = 20|MPP = {MPP}"
    with tifffile.TiffWriter(path) as writer:
        writer.write(images[0], description=described, **tiles)
        writer.write(images[0][::8, ::8], description="Aperio thumbnail", **strips)
        for image in images[1:]:
            writer.write(image, description="Aperio level", **tiles)
        writer.write(np.full((53, 47, 3), 7, np.uint8), subfiletype=1, description="Aperio\nlabel", **strips)
        writer.write(np.full((59, 97, 3), 9, np.uint8), subfiletype=9, description="Aperio\nmacro", **strips)
    return path


def write_ome_tiff(path: Path, images: Sequence[np.ndarray], **options: Any) -> Path:
    """Write an OME-TIFF whose levels are SubIFDs."""
    tiles = {"photometric": "rgb", "tile": TILE, "compression": "zlib", **options}
    metadata = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(images[0], subifds=len(images) - 1, metadata=metadata, **tiles)
        for image in images[1:]:
            writer.write(image, subfiletype=1, metadata=None, **tiles)
    return path


# --- OME-Zarr


def write_zarr(
    path: Path,
    images: Sequence[np.ndarray],
    version: str = "0.5",
    axes: str = "cyx",
    chunk: dict[str, int] | None = None,
    shards: dict[str, int] | None = None,
    unit: str | None = "micrometer",
    pixel: float = MPP,
    **attributes: Any,
) -> Path:
    """Write an OME-Zarr image; `images` are RGB (rows, cols, 3), or grey (rows, cols) where `axes` has no c."""
    zarr_format: Any = 3 if version == "0.5" else 2
    chunk = {"y": TILE[0], "x": TILE[1], **(chunk or {})}
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    for index, image in enumerate(images):
        stored = image[..., None] if image.ndim == 2 else image
        extents = {"t": 1, "c": stored.shape[2], "z": 1, "y": stored.shape[0], "x": stored.shape[1]}
        kept = [axis for axis in "tczyx" if axis in axes or extents[axis] > 1]
        shape = tuple(extents[axis] for axis in axes)
        array = group.create_array(
            str(index),
            shape=shape,
            chunks=tuple(chunk.get(axis, 1) for axis in axes),
            shards=None if shards is None else tuple(shards.get(axis, 1) for axis in axes),
            dtype="uint8",
            chunk_key_encoding=None if version == "0.5" else {"name": "v2", "separator": "/"},
        )
        assert set(kept) <= set(axes)
        whole = stored.transpose(2, 0, 1).reshape([extents[axis] for axis in "tczyx"])
        order = ["tczyx".index(axis) for axis in axes] + [i for i, axis in enumerate("tczyx") if axis not in axes]
        array[...] = whole.transpose(order).reshape(shape)
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in described:
        if unit and axis["type"] == "space":
            axis["unit"] = unit
    datasets = []
    for index in range(len(images)):
        scale = [pixel * 2**index if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(index), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    multiscales = {"axes": described, "datasets": datasets, "name": "slide"}
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscales], **attributes}
    else:
        group.attrs.update({"multiscales": [multiscales | {"version": version}], **attributes})
    return path


# --- DICOM


def tiles_of(image: np.ndarray, tile: tuple[int, int] = TILE) -> list[np.ndarray]:
    """Cut a picture into tiles row by row, the last ones filled up with black."""
    rows, cols = -(-image.shape[0] // tile[0]), -(-image.shape[1] // tile[1])
    full = np.zeros((rows * tile[0], cols * tile[1], *image.shape[2:]), np.uint8)
    full[: image.shape[0], : image.shape[1]] = image
    return [
        full[row * tile[0] : (row + 1) * tile[0], col * tile[1] : (col + 1) * tile[1]]
        for row in range(rows)
        for col in range(cols)
    ]


ENCODERS: dict[str, tuple[str, str, Any]] = {
    "jpeg": ("1.2.840.10008.1.2.4.50", "YBR_FULL", partial(imagecodecs.jpeg8_encode, level=100, subsampling="444")),
    "jpeg 2000": ("1.2.840.10008.1.2.4.90", "RGB", partial(imagecodecs.jpeg2k_encode, level=0, mct=False)),
    "jpeg 2000 with transform": ("1.2.840.10008.1.2.4.90", "YBR_RCT", partial(imagecodecs.jpeg2k_encode, level=0)),
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", "RGB", imagecodecs.jpegls_encode),
}
"""Transfer syntax, photometric interpretation and encoder of a tile."""


def dicom_dataset(image: np.ndarray, mpp: float | None, flavour: str = "VOLUME", **attributes: Any) -> Dataset:
    """Describe a picture as a VL Whole Slide Microscopy Image, with a patient."""
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    dataset.SOPInstanceUID = generate_uid()
    dataset.ImageType = ["DERIVED", "PRIMARY", flavour, "NONE"]
    dataset.Modality = "SM"
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.DeviceSerialNumber = "Ocular", "Scan 9", "SN-1234567"
    dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = PATIENT, PATIENT_ID, ACCESSION
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.FrameOfReferenceUID = "1.2.3.5"
    dataset.ContainerIdentifier = PATIENT_ID
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.SamplesPerPixel = 1 if image.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if image.ndim == 2 else "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = image.shape[:2]
    dataset.Rows, dataset.Columns = TILE
    dataset.SpecimenLabelInImage = "NO"
    dataset.FocusMethod, dataset.ExtendedDepthOfField = "AUTO", "NO"
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    dataset.TotalPixelMatrixFocalPlanes, dataset.NumberOfOpticalPaths = 1, 1
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 20.0, 40.0
    dataset.TotalPixelMatrixOriginSequence = Items([origin])
    path = Dataset()
    path.OpticalPathIdentifier = "0"
    dataset.OpticalPathSequence = Items([path])
    if mpp is not None:
        measures, groups = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
        groups.PixelMeasuresSequence = Items([measures])
        dataset.SharedFunctionalGroupsSequence = Items([groups])
        dataset.ImagedVolumeHeight, dataset.ImagedVolumeWidth = (side * mpp / 1000 for side in image.shape[:2])
        dataset.ImagedVolumeDepth = 1.0
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def write_dicom(
    path: Path,
    image: np.ndarray,
    mpp: float | None = MPP,
    codec: str | None = None,
    table: str = "basic",
    frames: list[Any] | None = None,
    syntax: str = "1.2.840.10008.1.2.1",
    **attributes: Any,
) -> Path:
    """Write one picture in tiles: uncompressed, or by a codec of `ENCODERS` with a basic, extended or no table."""
    dataset = dicom_dataset(image, mpp, **attributes)
    tiles: list[Any] = tiles_of(image) if frames is None else frames
    if codec:
        syntax, photometric, encode = ENCODERS[codec]
        dataset.PhotometricInterpretation = attributes.get("PhotometricInterpretation", photometric)
        encoded = [tile if isinstance(tile, bytes) else bytes(encode(tile)) for tile in tiles]
        if table == "extended":
            dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
                encoded
            )
        else:
            dataset.PixelData = encapsulate(encoded, has_bot=table == "basic")
        dataset["PixelData"].VR = "OB"
    else:
        dataset.PixelData = b"".join(tile.tobytes() for tile in tiles)
    dataset.NumberOfFrames = len(tiles)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = UID(syntax), dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_series(path: Path, images: Sequence[np.ndarray], mpp: float = MPP, **options: Any) -> Path:
    """Write a folder of a pyramid with label and overview pictures."""
    path.mkdir()
    for index, image in enumerate(images):
        write_dicom(path / f"level-{index}.dcm", image, mpp * 2**index, **options)
    for flavour, grey in (("LABEL", 7), ("OVERVIEW", 9)):
        picture = np.full((53, 47, 3), grey, np.uint8)
        write_dicom(path / f"a-{flavour}.dcm", picture, None, flavour=flavour, SpecimenLabelInImage="YES")
    return path


# --- what only openslide reads


def write_vms(path: Path, image: np.ndarray, mpp: float = MPP) -> Path:
    """Write a Hamamatsu VMS: an index beside a JPEG with restart markers; its sides must be multiples of 8."""
    rows, cols = image.shape[:2]
    pictures = {"picture.jpg": image, "map.jpg": image[::4, ::4], "macro.jpg": np.full((64, 64, 3), 9, np.uint8)}
    for name, pixels in pictures.items():
        options: dict[str, Any] = {"quality": 95, "subsampling": 0, "restart_marker_blocks": 4}
        Image.fromarray(pixels).save(path.parent / f"{path.stem}_{name}", **options)
    lines = ["[Virtual Microscope Specimen]", "NoLayers=1", "NoJpegColumns=1", "NoJpegRows=1", "SourceLens=20"]
    for key, name in (("ImageFile", "picture.jpg"), ("MapFile", "map.jpg"), ("MacroImage", "macro.jpg")):
        lines.append(f"{key}={path.stem}_{name}")
    lines += [f"PhysicalWidth={round(cols * mpp * 1000)}", f"PhysicalHeight={round(rows * mpp * 1000)}"]
    path.write_text("\n".join(lines) + "\n")
    return path


MRXS_TILE = (53, 79)


def write_mrxs(path: Path, images: Sequence[np.ndarray], hole: int | None = None, fill: int = 0xFFFFFF) -> Path:
    """Write a MIRAX slide with PNG tiles: an index picture, and beside it the folder of Slidedat.ini and the data.

    Written after the layout in OpenSlide's documentation. `hole` is a tile of the finest level that was not scanned.
    """
    folder, slide_id = path.with_suffix(""), "A1B2"
    folder.mkdir()
    rows, cols = images[0].shape[0] // MRXS_TILE[0], images[0].shape[1] // MRXS_TILE[1]
    stored, records = bytearray(b"head"), []
    for zoom, image in enumerate(images):
        found = []
        for index, tile in enumerate(tiles_of(image, MRXS_TILE)):
            row, col = divmod(index, cols >> zoom)
            png = io.BytesIO()
            Image.fromarray(tile).save(png, "PNG")
            if zoom or index != hole:
                found.append(((row << zoom) * cols + (col << zoom), len(stored), png.tell(), 0))
            stored += png.getvalue()
        records.append(found)
    (folder / "Data0000.dat").write_bytes(stored)
    head = b"01.02" + slide_id.encode()
    index_file = bytearray(head + bytes(8 + 4 * len(images)))
    struct.pack_into("<i", index_file, len(head), len(head) + 8)
    for zoom, found in enumerate(records):
        struct.pack_into("<i", index_file, len(head) + 8 + 4 * zoom, len(index_file))
        index_file += struct.pack("<4i", 0, len(index_file) + 8, len(found), 0)
        for record in found:
            index_file += struct.pack("<4i", *record)
    struct.pack_into("<i", index_file, len(head) + 4, len(index_file))
    (folder / "Index.dat").write_bytes(index_file + bytes(4))
    (folder / "Slidedat.ini").write_text(_slidedat(slide_id, (rows, cols), len(images), fill), encoding="utf-8-sig")
    Image.fromarray(images[-1]).save(path, format="JPEG")
    return path


def _slidedat(slide_id: str, grid: tuple[int, int], n_levels: int, fill: int) -> str:
    """Return Slidedat.ini."""
    general: dict[str, Any] = {"SLIDE_VERSION": "01.02", "SLIDE_ID": slide_id, "SLIDE_NAME": PATIENT}
    general |= {"IMAGENUMBER_X": grid[1], "IMAGENUMBER_Y": grid[0], "OBJECTIVE_MAGNIFICATION": 20}
    layers: dict[str, Any] = {
        "HIER_COUNT": 1,
        "NONHIER_COUNT": 0,
        "INDEXFILE": "Index.dat",
        "HIER_0_NAME": "Slide zoom level",
    }
    layers |= {"HIER_0_COUNT": n_levels, "HIER_0_SECTION": "LAYER_0"}
    sections: dict[str, dict[str, Any]] = {"GENERAL": {**general, "CameraImageDivisionsPerSide": 1}}
    sections |= {"HIERARCHICAL": layers, "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"}}
    for zoom in range(n_levels):
        layers |= {f"HIER_0_VAL_{zoom}": f"Zoom_{zoom}", f"HIER_0_VAL_{zoom}_SECTION": f"LEVEL_{zoom}"}
        sections[f"LEVEL_{zoom}"] = {
            **{"OVERLAP_X": 0, "OVERLAP_Y": 0, "IMAGE_FORMAT": "PNG", "IMAGE_CONCAT_FACTOR": int(zoom > 0)},
            **{f"MICROMETER_PER_PIXEL_{axis}": MPP * 2**zoom for axis in "XY"},
            **{"DIGITIZER_HEIGHT": MRXS_TILE[0], "DIGITIZER_WIDTH": MRXS_TILE[1], "IMAGE_FILL_COLOR_BGR": fill},
        }
    lines = []
    for name, entries in sections.items():
        lines += [f"[{name}]", *(f"{key}={value}" for key, value in entries.items()), ""]
    return "\n".join(lines)
