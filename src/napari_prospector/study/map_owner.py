"""Of which slide the maps in a folder are, so that those of another slide of the same name are not overwritten."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_prospector.errors import FileFormatError, StorageError

__all__ = ["FINGERPRINT", "check_slide_of_maps", "map_words"]

# how an OME-TIFF's description calls the fingerprint of its slide
FINGERPRINT = "slide fingerprint"


def map_words(file: Path) -> dict[str, Any] | None:
    """Return what an OME-TIFF says of itself if it is a map that was written here, None if it is not.

    Returns
    -------
    dict or None
        The entries of its provenance; "shows", its name; "shape", (rows, cols); "token_um", the width of a cell in µm.
    """
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            record = tifffile.xml2dict(tiff.ome_metadata or "<OME/>").get("OME") or {}
            shape = list(tiff.pages[0].shape)
    except (tifffile.TiffFileError, ValueError, OSError):
        return None
    image = record.get("Image")
    if not isinstance(image, dict) or not str(image.get("Description", "")).startswith("map: "):
        return None
    said = dict(part.split(": ", 1) for part in image["Description"].split("; ") if ": " in part)
    token_um = float(image.get("Pixels", {}).get("PhysicalSizeX", 0))
    return {**said, "shows": image.get("Name", ""), "shape": shape, "token_um": token_um}


def check_slide_of_maps(files: Iterable[Path], slide: str, fingerprint: str) -> None:
    """Raise `StorageError` if one of some maps to be written is there already and shows another slide.

    Parameters
    ----------
    files
        OME-TIFF or OME-Zarr, there or not.
    slide, fingerprint
        Of the slide that they shall show. Maps of before fingerprints were kept are told apart by the name.

    Raises
    ------
    StorageError
        With the name of the other slide.
    """
    for file in files:
        if not file.exists():
            continue
        name, content = _slide_of(file)
        if (content and content != fingerprint) or (not content and name and name != slide):
            other = f"another slide of that name, {name}" if name == slide else f"another slide, {name}"
            raise StorageError(
                f"{file} shows {other}, and would be overwritten by the map of {slide}. Choose another folder for the"
                " maps of this slide, or move that file away."
            )


def _slide_of(file: Path) -> tuple[str | None, str | None]:
    """Return name and fingerprint of the slide that a map shows, as far as it says so."""
    if not file.is_dir():
        said = map_words(file) or {}
        return said.get("slide"), said.get(FINGERPRINT)
    from napari_prospector.study.omezarr_maps import map_folder_origin

    try:
        origin = map_folder_origin(file)
    except FileFormatError:
        return None, None
    return origin.slide, origin.fingerprint
