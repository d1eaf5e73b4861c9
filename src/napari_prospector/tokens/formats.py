"""Which reader a file or a folder belongs to: known by content, then by suffix."""

from __future__ import annotations

import difflib
from pathlib import Path

from napari_prospector.errors import FileFormatError, MissingFileError, StorageError
from napari_prospector.tokens.slides import Slide

__all__ = ["slide_at"]

# Slides whose content looks like something else, or like nothing known.
_UNREAD_SUFFIXES = {
    ".czi": "Zeiss CZI",
    ".dcm": "DICOM",
    ".isyntax": "Philips iSyntax",
    ".mrxs": "MIRAX",
    ".vms": "Hamamatsu VMS",
    ".vmu": "Hamamatsu VMU",
    ".vsi": "Olympus VSI",
}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def slide_at(path: Path, mpp: float | None) -> Slide:
    """Open the slide at an absolute path; see `open_slide`."""
    start = _first_bytes(path)
    suffix = path.suffix.lower()
    if start[128:132] == b"DICM" or suffix in _UNREAD_SUFFIXES:
        kind = "DICOM" if start[128:132] == b"DICM" else _UNREAD_SUFFIXES[suffix]
        raise FileFormatError(
            f"{path.name} must be a TIFF (SVS, OME-TIFF, ...), PNG or JPEG; {kind} is not read yet."
            " Convert it to a pyramidal OME-TIFF, for example with QuPath or bfconvert."
        )
    if start.startswith(_TIFF_STARTS):
        from napari_prospector.tokens.tiff import TiffSlide

        return TiffSlide(path, mpp)
    if picture := _picture_format(start):
        from napari_prospector.tokens.images import ImageSlide

        return ImageSlide(path, picture, mpp)
    came = f"begins with {start[:8]!r}" if start else "is empty (0 bytes)"
    raise FileFormatError(
        f"{path.name} must be a TIFF (SVS, OME-TIFF, ...), PNG or JPEG by its content; it {came}."
        " Check that the file was copied as a whole and is a slide."
    )


def _picture_format(start: bytes) -> str | None:
    """Return "PNG" or "JPEG" if a file begins so."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    return "JPEG" if start.startswith(b"\xff\xd8\xff") else None


def _first_bytes(path: Path) -> bytes:
    """Return what is enough to know a format by."""
    if path.is_dir():
        raise FileFormatError(f"{path.name} must be a slide file; it is a folder. Name the files in it.")
    try:
        with path.open("rb") as file:
            return file.read(132)
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
