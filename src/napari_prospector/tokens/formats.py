"""Which reader a file or a folder belongs to: known by content, then by suffix."""

from __future__ import annotations

import difflib
from pathlib import Path

from napari_prospector.errors import (
    FileFormatError,
    MissingExtraError,
    MissingFileError,
    StorageError,
    UnreadFormatError,
)
from napari_prospector.tokens.slides import Slide

__all__ = ["READ", "SLIDE_SUFFIXES", "is_slide_folder", "slide_at"]

READ = (
    "TIFF (SVS, OME-TIFF and others), OME-Zarr 0.4 and 0.5, DICOM, PNG and JPEG, and through openslide MRXS, VMS, VMU,"
    " CZI and SVSLIDE"
)
"""What is read, for messages."""

SLIDE_SUFFIXES = frozenset(
    (
        ".bif .btf .czi .dcm .isyntax .jpeg .jpg .mrxs .ndpi .ome .png .qptiff .scn .svs .svslide .tif .tiff .vms .vmu"
        " .vsi .zarr"
    ).split()
)
"""What names of slides end in, in lower case, whether they are read or not."""

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_N_FIRST_BYTES = 132
# An index, whose content looks like a picture or a text.
_INDEX_SUFFIXES = {".mrxs": "MIRAX", ".vms": "Hamamatsu VMS", ".vmu": "Hamamatsu VMU"}
# What openslide alone reads, by its first bytes.
_OPENSLIDE_STARTS = {b"ZISRAWFILE": "Zeiss CZI", b"SQLite format 3": "Sakura SVSLIDE"}
# What nobody here reads, and which program converts it.
_CONVERTED = {
    ".ets": ("a part of an Olympus VSI slide", "QuPath or bfconvert (give it the .vsi)"),
    ".isyntax": ("Philips iSyntax", "isyntax2raw and raw2ometiff"),
    ".lif": ("Leica LIF", "bfconvert"),
    ".nd2": ("Nikon ND2", "bfconvert"),
    ".ndpis": ("a set of Hamamatsu NDPI files", "QuPath, or name one of its .ndpi files"),
    ".oir": ("Olympus OIR", "bfconvert"),
    ".vsi": ("Olympus VSI", "QuPath or bfconvert"),
    ".zip": ("an archive", "unpacking it"),
}


def slide_at(path: Path, mpp: float | None) -> Slide:
    """Open the slide at an absolute path; see `open_slide`."""
    if path.is_dir():
        return _in_folder(path, mpp)
    start = _first_bytes(path)
    suffix = path.suffix.lower()
    if start[128:132] == b"DICM":
        from napari_prospector.tokens.dicom import DicomSlide

        return DicomSlide(path, mpp)
    if suffix in _INDEX_SUFFIXES:
        return _by_openslide(path, mpp, _INDEX_SUFFIXES[suffix])
    if suffix in _CONVERTED:
        kind, way = _CONVERTED[suffix]
        raise UnreadFormatError(
            f"{path.name} must be {READ}; {kind} is not read. Convert it to a pyramidal OME-TIFF with {way}."
            if suffix != ".zip"
            else f"{path.name} must be {READ}; it is an archive. Unpack it first."
        )
    if start.startswith(_TIFF_STARTS):
        return _tiff(path, mpp)
    if picture := _picture_format(start):
        from napari_prospector.tokens.images import ImageSlide

        return ImageSlide(path, picture, mpp)
    return _unknown(path, mpp, start)


def is_slide_folder(folder: Path) -> bool:
    """Tell whether a folder is an OME-Zarr slide, or holds DICOM files; nothing of it is opened further."""
    from napari_prospector.tokens.dicomfile import is_dicom
    from napari_prospector.tokens.ngff import is_image, is_zarr

    if is_zarr(folder):
        return is_image(folder)
    return any(is_dicom(file) for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def _in_folder(path: Path, mpp: float | None) -> Slide:
    """Open an OME-Zarr folder or the DICOM series in a folder."""
    from napari_prospector.tokens.dicomfile import is_dicom
    from napari_prospector.tokens.ngff import is_zarr

    if is_zarr(path):
        from napari_prospector.tokens.omezarr import OmeZarrSlide

        return OmeZarrSlide(path, mpp)
    try:
        files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}. Check its permissions and its disk.") from error
    if any(is_dicom(file) for file in files):
        from napari_prospector.tokens.dicom import DicomSlide

        others = sorted(file.name for file in files if file.suffix.lower() in SLIDE_SUFFIXES - {".dcm"})
        if others:
            raise FileFormatError(
                f"{path.name} must hold the files of one DICOM series to be a slide; it holds {others[0]!r} too. Name"
                " the slides one by one."
            )
        return DicomSlide(path, mpp)
    raise FileFormatError(
        f"{path.name} must be a slide; it is a folder. Name the files in it. Of folders, only OME-Zarr (*.ome.zarr) and"
        " those that hold the files of one DICOM series are slides."
    )


def _tiff(path: Path, mpp: float | None) -> Slide:
    """Open a TIFF, through openslide where the reader does not know its kind, compression or colours."""
    from napari_prospector.tokens.openslides import OpenslideSlide, is_known_to_openslide
    from napari_prospector.tokens.tiff import TiffSlide

    try:
        return TiffSlide(path, mpp)
    except UnreadFormatError as refusal:
        is_known = is_known_to_openslide(path)
        if is_known:
            return OpenslideSlide(path, mpp)
        if is_known is None:
            raise UnreadFormatError(
                f'{refusal} openslide may read it as it is: pip install "napari-prospector[openslide]".'
            ) from refusal
        raise


def _by_openslide(path: Path, mpp: float | None, kind: str) -> Slide:
    """Open what only openslide reads, or say how it is installed."""
    from napari_prospector.tokens.openslides import OpenslideSlide

    try:
        return OpenslideSlide(path, mpp)
    except MissingExtraError as error:
        raise MissingExtraError(
            f'{path.name} is {kind}, which is read through openslide: pip install "napari-prospector[openslide]". Or'
            " convert it to a pyramidal OME-TIFF with QuPath or bfconvert."
        ) from error
    except UnreadFormatError as error:
        raise UnreadFormatError(
            f"{path.name} should be {kind}, and openslide does not know it. Check that it was copied with all files"
            " beside it, or convert it to a pyramidal OME-TIFF with QuPath or bfconvert."
        ) from error


def _unknown(path: Path, mpp: float | None, start: bytes) -> Slide:
    """Open what openslide knows, or say what the file is not."""
    from napari_prospector.tokens.openslides import OpenslideSlide, is_known_to_openslide

    for first, kind in _OPENSLIDE_STARTS.items():
        if start.startswith(first) and path.suffix.lower() in SLIDE_SUFFIXES:
            return _by_openslide(path, mpp, kind)
    if start and is_known_to_openslide(path):
        return OpenslideSlide(path, mpp)
    came = f"begins with {start[:8]!r}" if start else "is empty (0 bytes)"
    raise FileFormatError(
        f"{path.name} must be a slide by its content: {READ}; it {came}. Check that the file was copied as a whole and"
        " is a slide; other formats must be converted, for example with QuPath or bfconvert."
    )


def _picture_format(start: bytes) -> str | None:
    """Return "PNG" or "JPEG" if a file begins so."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    return "JPEG" if start.startswith(b"\xff\xd8\xff") else None


def _first_bytes(path: Path) -> bytes:
    """Return what is enough to know a format by."""
    try:
        with path.open("rb") as file:
            return file.read(_N_FIRST_BYTES)
    except FileNotFoundError as error:
        raise MissingFileError(
            f"There is no slide {path}. {_close_names(path)}Check the path; relative ones start at {Path.cwd()}."
        ) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}. Check its permissions and its disk.") from error


def _close_names(path: Path) -> str:
    """Return a question with names beside the path that are nearly its own; "" where there are none."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=3)
    return f"Did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
