"""DICOM files of whole-slide microscopy: what they say about their picture, and where its frames lie.

Of a file's attributes only those in `_ATTRIBUTES` are ever parsed; none of them tells of a patient, a study or a
hospital. See DICOM PS3.3 C.8.12 (Whole Slide Microscopy) and PS3.5 A.4 (encapsulated frames).
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, MissingExtraError, StorageError, UnreadFormatError
from napari_prospector.tokens.scanners import tiff_scanner
from napari_prospector.tokens.segments import DAMAGE, PositionedFile

__all__ = ["Frames", "Instance", "frames_of", "is_dicom", "read_instance", "tile_positions"]

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_ATTRIBUTES = [
    *("SOPClassUID", "ImageType", "Manufacturer", "ManufacturerModelName", "SeriesInstanceUID"),
    *("SOPInstanceUIDOfConcatenationSource", "ConcatenationFrameOffsetNumber", "DimensionOrganizationType"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "ImagedVolumeWidth", "ImagedVolumeHeight", "TotalPixelMatrixColumns", "TotalPixelMatrixRows"),
    *("SpecimenLabelInImage", "TotalPixelMatrixFocalPlanes", "NumberOfOpticalPaths", "SharedFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]
_ITEM, _ENDS = b"\xfe\xff\x00\xe0", (b"\xfe\xff\xdd\xe0", b"")
_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51")  # of a JPEG or JPEG-LS, of a JPEG 2000

_MOST_TILES, _MOST_TILE_PX = 16_000_000, 160_000_000

# pydicom checks values as they are read, by a switch of the whole process
_switch = threading.Lock()


@dataclass(frozen=True)
class Instance:
    """What one file says: sizes are (rows, cols) in pixels, `spacing_um` is the (height, width) of a pixel in µm."""

    path: Path
    series: str = field(repr=False)  # leads to a hospital
    flavour: str
    syntax: str
    shape: tuple[int, int]
    tile: tuple[int, int]
    n_frames: int
    n_samples: int
    photometric: str
    is_planar: bool
    spacing_um: tuple[float | None, float | None]
    scanner: str | None
    source: str | None = field(repr=False)
    first_frame: int
    organization: str
    pixels_at: int
    offsets: bytes

    @property
    def is_encapsulated(self) -> bool:
        """Whether frames are compressed, each in items of its own."""
        return self.syntax not in _UNCOMPRESSED

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tiles along each axis of the whole picture."""
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])


@dataclass(frozen=True, eq=False)
class Frames:
    """Where the frames of a file lie: the first byte of each, and the byte behind it (0: not known)."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    is_encapsulated: bool

    def read(self, file: PositionedFile, index: int) -> bytes:
        """Return one frame, its fragments joined."""
        start, end = int(self.starts[index]), int(self.ends[index])
        if not self.is_encapsulated:
            return file.read(start, end - start)
        # the last frame ends where its items do
        content = file.read(start, end - start) if end else _items(file, start)
        fragments, place = [], 0
        while content[place : place + 4] == _ITEM:
            (length,) = struct.unpack_from("<L", content, place + 4)
            fragments.append(content[place + 8 : place + 8 + length])
            place += 8 + length
        if not fragments or place > len(content):
            raise ValueError(f"its frame at byte {start} has no sound item")
        return b"".join(fragments)


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def import_pydicom() -> Any:
    """Return pydicom, or say how it is installed."""
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError('DICOM slides need pydicom: pip install "napari-prospector[dicom]".') from error
    return pydicom


def read_instance(path: Path) -> Instance:
    """Read what a file says about its picture; its pixels are not read.

    Raises
    ------
    FileFormatError
        The file is damaged, or lacks what a picture in tiles needs.
    UnreadFormatError
        It is no whole-slide image, or its pixels are not 8-bit RGB or grey.
    MissingExtraError
        pydicom is not installed.
    """
    dataset, place = _parsed(path, _ATTRIBUTES)
    if "SOPClassUID" not in dataset:
        raise FileFormatError(
            f"{path.name} is a damaged or truncated DICOM file: it does not say its kind. Copy it again."
        )
    if str(dataset.SOPClassUID) != _WHOLE_SLIDE:
        raise UnreadFormatError(
            f"{path.name} must be a VL Whole Slide Microscopy Image; it is another kind of DICOM file."
            " Name the file, or the folder, of the slide."
        )
    try:
        instance = _instance(path, dataset, place)
    except (*DAMAGE, KeyError) as error:
        if isinstance(error, FileFormatError):
            raise
        # no text of the error: it may quote the file
        raise FileFormatError(
            f"{path.name} lacks an attribute of a picture in tiles, or holds a damaged one ({type(error).__name__})."
            " Copy it again, or export it anew."
        ) from error
    if min(*instance.shape, *instance.tile, instance.n_frames) < 1:
        raise FileFormatError(f"{path.name} must hold pixels; it has {instance.shape} in all. Copy it again.")
    if instance.grid[0] * instance.grid[1] > _MOST_TILES or instance.tile[0] * instance.tile[1] > _MOST_TILE_PX:
        raise UnreadFormatError(
            f"{path.name} must be stored in up to {_MOST_TILES:,} tiles of up to {_MOST_TILE_PX:,} px; it has"
            f" {instance.shape} px in tiles of {instance.tile}. Export it in tiles of 512 x 512."
        )
    return instance


def _parsed(path: Path, attributes: list[str]) -> tuple[Any, int]:
    """Parse some attributes of a file; return them and the byte at which its pixels begin."""
    pydicom = import_pydicom()
    settings = pydicom.config.settings
    with _switch:
        before = settings.reading_validation_mode
        settings.reading_validation_mode = pydicom.config.IGNORE
        try:
            with path.open("rb") as file:
                dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=attributes)
                dataset.walk(lambda _dataset, _element: None)  # converts every value while the switch is set
                return dataset, file.tell()
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error
        except (*DAMAGE, pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException) as error:
            raise FileFormatError(
                f"{path.name} is a damaged or truncated DICOM file ({type(error).__name__}). Copy it again."
            ) from error
        finally:
            settings.reading_validation_mode = before


def _instance(path: Path, dataset: Any, place: int) -> Instance:
    """Turn attributes into an instance, or refuse its pixels."""
    kinds = [str(kind).upper() for kind in dataset.get("ImageType") or ()]
    has_label = str(dataset.get("SpecimenLabelInImage", "")).upper()
    # without a kind, only a file that promises to show no label is taken for the tissue
    flavour = kinds[2] if len(kinds) > 2 else {"NO": "VOLUME", "YES": "OVERVIEW"}.get(has_label, "unknown")
    planes = int(dataset.get("TotalPixelMatrixFocalPlanes") or 1), int(dataset.get("NumberOfOpticalPaths") or 1)
    n_samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    if max(planes) > 1 or n_samples not in (1, 3) or bits != 8:
        raise UnreadFormatError(
            f"{path.name} must be one plane of 8-bit RGB or grey pixels; got {planes[0]} focal planes, {planes[1]}"
            f" optical paths, {n_samples} samples of {bits} bits. Export one plane as 8-bit RGB."
        )
    shape = int(dataset.TotalPixelMatrixRows), int(dataset.TotalPixelMatrixColumns)
    return Instance(
        path=path,
        series=str(dataset.get("SeriesInstanceUID", "")),
        flavour=flavour,
        syntax=str(dataset.file_meta.TransferSyntaxUID),
        shape=shape,
        tile=(int(dataset.Rows), int(dataset.Columns)),
        n_frames=int(dataset.get("NumberOfFrames") or 1),
        n_samples=n_samples,
        photometric=str(dataset.PhotometricInterpretation),
        is_planar=n_samples > 1 and int(dataset.get("PlanarConfiguration") or 0) == 1,
        spacing_um=_spacing(dataset, shape),
        scanner=tiff_scanner(dataset.get("Manufacturer"), dataset.get("ManufacturerModelName")),
        source=str(dataset.get("SOPInstanceUIDOfConcatenationSource") or "") or None,
        first_frame=int(dataset.get("ConcatenationFrameOffsetNumber") or 0),
        organization=str(dataset.get("DimensionOrganizationType", "")).upper(),
        pixels_at=place,
        offsets=bytes(dataset.get("ExtendedOffsetTable") or b""),
    )


def _spacing(dataset: Any, shape: tuple[int, int]) -> tuple[float | None, float | None]:
    """Return the (height, width) of a pixel in µm: as stated, else from the size of what was imaged, in mm."""
    for groups in dataset.get("SharedFunctionalGroupsSequence") or ():
        for measures in groups.get("PixelMeasuresSequence") or ():
            spacing = measures.get("PixelSpacing")
            if spacing and len(spacing) == 2:
                return float(spacing[0]) * 1000, float(spacing[1]) * 1000
    sides = [dataset.get("ImagedVolumeHeight"), dataset.get("ImagedVolumeWidth")]
    widths = [float(side) * 1000 / pixels if side else None for side, pixels in zip(sides, shape, strict=True)]
    return widths[0], widths[1]


def tile_positions(instance: Instance) -> list[tuple[int, int]]:
    """Return the (row, col) in the grid of tiles of each frame, [] if a file lists them nowhere and need not.

    Raises
    ------
    UnreadFormatError
        A tile lies between the places of the grid.
    FileFormatError
        The list is damaged.
    """
    dataset, _ = _parsed(instance.path, ["PerFrameFunctionalGroupsSequence"])
    name, (height, width) = instance.path.name, instance.tile
    if "PerFrameFunctionalGroupsSequence" not in dataset and instance.organization != "TILED_SPARSE":
        return []
    places = []
    try:
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            position = groups.PlanePositionSlideSequence[0]
            row = int(position.RowPositionInTotalImagePixelMatrix) - 1
            col = int(position.ColumnPositionInTotalImagePixelMatrix) - 1
            if row % height or col % width:
                raise UnreadFormatError(
                    f"{name} must hold tiles side by side; one begins at pixel ({row}, {col}), and tiles have"
                    f" {height} x {width}. Export it anew, fully tiled."
                )
            places.append((row // height, col // width))
    except (*DAMAGE, KeyError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(
            f"{name} does not say where its tiles lie ({type(error).__name__}). Copy it again, or export it anew."
        ) from error
    if len(places) != instance.n_frames or min(min(place) for place in places) < 0:
        raise FileFormatError(f"{name} has {instance.n_frames} tiles and places for {len(places)}. Copy it again.")
    return places


def frames_of(instance: Instance, file: PositionedFile) -> Frames:
    """Find the frames of a file: by its tables, else item by item.

    Raises
    ------
    FileFormatError
        There are fewer than the file says, or the last ends behind the end of the file.
    """
    name, n_frames = instance.path.name, instance.n_frames
    try:
        head = file.read(instance.pixels_at, 12)
        if head[:4] != b"\xe0\x7f\x10\x00":
            raise FileFormatError(f"{name} must hold pixels; it ends before them. Copy it again.")
        if not instance.is_encapsulated:
            is_explicit = instance.syntax != _UNCOMPRESSED[0]
            size = instance.tile[0] * instance.tile[1] * instance.n_samples
            if n_frames > file.size // size:
                raise FileFormatError(
                    f"{name} should have {n_frames} tiles of {size} bytes; it has {file.size} in all. It is truncated;"
                    " copy it again."
                )
            starts = instance.pixels_at + (12 if is_explicit else 8) + size * np.arange(n_frames, dtype=np.int64)
            frames = Frames(starts, starts + size, False)
        else:
            frames = _encapsulated(instance, file)
    except struct.error as error:
        raise FileFormatError(f"{name} is cut short in its list of tiles. Copy it again.") from error
    late = max(int(frames.starts.max()), int(frames.ends.max()))
    if late > file.size or (np.diff(frames.starts) <= 0).any():
        raise FileFormatError(
            f"{name} should have a tile at byte {late}; it has {file.size} in all. It is truncated; copy it again."
        )
    return frames


def _encapsulated(instance: Instance, file: PositionedFile) -> Frames:
    """Find the frames of compressed pixels: by the extended table, the basic one, or their items."""
    begin = instance.pixels_at + 12
    (table_size,) = struct.unpack_from("<L", file.read(begin, 8), 4)
    first = begin + 8 + table_size
    n_frames = instance.n_frames
    if len(instance.offsets) == 8 * n_frames:
        starts = first + np.frombuffer(instance.offsets, "<u8").astype(np.int64)
    elif table_size == 4 * n_frames:
        starts = first + np.frombuffer(file.read(begin + 8, table_size), "<u4").astype(np.int64)
    else:
        starts = _walked(instance, file, first)
    return Frames(starts, np.append(starts[1:], 0), True)


def _walked(instance: Instance, file: PositionedFile, place: int) -> NDArray[np.int64]:
    """Return the first byte of each frame by going from item to item."""
    items, begins = [], []
    while place + 8 <= file.size:
        head = file.read(place, min(12, file.size - place))
        if head[:4] != _ITEM:
            break
        items.append(place)
        begins.append(head[8:].startswith(_STARTS))
        place += 8 + int(struct.unpack_from("<L", head, 4)[0])
    if len(items) != instance.n_frames:
        items = [item for item, is_first in zip(items, begins, strict=True) if is_first]
    if len(items) != instance.n_frames or place > file.size:
        raise FileFormatError(
            f"{instance.path.name} should have {instance.n_frames} tiles; {len(items)} are found. It is truncated;"
            " copy it again."
        )
    return np.array(items, np.int64)


def _items(file: PositionedFile, place: int) -> bytes:
    """Return all items from a byte on, up to the end of the sequence."""
    content = []
    while place < file.size:
        head = file.read(place, min(8, file.size - place))
        if head[:4] in _ENDS or len(head) < 8:
            break
        if head[:4] != _ITEM:
            raise ValueError(f"there is no item at byte {place}")
        size = 8 + int(struct.unpack_from("<L", head, 4)[0])
        content.append(file.read(place, size))
        place += size
    return b"".join(content)
