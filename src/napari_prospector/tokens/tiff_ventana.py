"""Ventana BIF (Roche): levels whose tiles may overlap on the glass.

The tiles of most files overlap by some pixels that the XML tells, and their areas lie where it says. Joined as they are
stored, tissue would stand twice along every seam, so such a file is left to OpenSlide; only files whose tiles meet
exactly, and Ventana's TIFFs, which have no such XML, are read here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from napari_prospector.errors import FileFormatError, UnreadFormatError
from napari_prospector.tokens.scanners import device_scanner
from napari_prospector.tokens.slides import PixelSize, stated_pixel_size
from napari_prospector.tokens.tiff_pages import page_shape
from napari_prospector.tokens.tiff_pyramid import LevelPages, Pyramid

__all__ = ["ventana_pyramid"]

_XMP = 700


def ventana_pyramid(tiff: Any, name: str) -> Pyramid:
    """Return the levels of a Ventana BIF whose tiles do not overlap.

    Parameters
    ----------
    tiff
        tifffile's open file.
    name
        The file's, for errors.

    Raises
    ------
    FileFormatError
        The file holds no level.
    UnreadFormatError
        Tiles overlap, areas lie elsewhere than they are stored, or there are several focal planes.
    """
    found = [(page, fields) for page in tiff.pages if "level" in (fields := _fields(page.description))]
    found.sort(key=lambda each: each[1]["level"])
    if not found:
        raise FileFormatError(
            f"{name} must hold images that are described as levels; none of its {len(tiff.pages)} is. Copy it again."
        )
    scan = _scan(tiff)
    if int(scan.get("Z-layers", 1)) > 1:
        raise UnreadFormatError(
            f"{name} must hold one focal plane; got {scan['Z-layers']}. Export one plane as 8-bit RGB."
        )
    first, finest = found[0]
    _check_tiles(first, name)
    rows, cols = page_shape(first)
    levels: list[LevelPages] = []
    for page, fields in found:
        scale = finest.get("mag", 0.0) / fields.get("mag", math.inf)
        scale = scale if scale >= 1 else 2.0 ** fields["level"]
        stored = page_shape(page)
        # tiles of the coarse levels are padded
        shape = min(stored[0], math.ceil(rows / scale)), min(stored[1], math.ceil(cols / scale))
        levels.append(LevelPages.of(page, shape, scale))
    scanner = device_scanner("Ventana", scan.get("ScannerModel", "iScan"), scan.get("UnitNumber"))
    return Pyramid("Ventana BIF", tuple(levels), _pixel_size(scan), scanner)


def _fields(description: str) -> dict[str, float]:
    """Read "level=0 mag=20 quality=95"."""
    return {key: float(value) for key, value in re.findall(r"\b(level|mag)\s*=\s*(\d+(?:\.\d+)?)", description)}


def _scan(tiff: Any) -> dict[str, str]:
    """Return the attributes of the scan, which the XML of the first page that has them tells."""
    for page in tiff.pages:
        root = _xmp(page)
        node = None if root is None else next(root.iter("iScan"), None)
        if node is not None:
            return node.attrib
    return {}


def _xmp(page: Any) -> ElementTree.Element | None:
    """Parse the XML in a page's tag XMP; None where there is none, or a damaged one."""
    packet = page.tags.valueof(_XMP)
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet
    try:
        return ElementTree.fromstring(text.strip("\0 \r\n\t\ufeff")) if isinstance(text, str) else None
    except ElementTree.ParseError:
        return None


def _check_tiles(page: Any, name: str) -> None:
    """Raise `UnreadFormatError` unless all tiles of the finest level lie where they are stored."""
    way_out = (
        " Read it through OpenSlide: pip install napari-prospector[openslide]. Or convert it to a pyramidal OME-TIFF,"
        " for example with QuPath."
    )
    if page.tags.valueof(_XMP) is None:
        return
    root = _xmp(page)
    areas = [] if root is None else list(root.iter("ImageInfo"))
    origins = [] if root is None else [node for origin in root.iter("AoiOrigin") for node in origin]
    if not areas or len(areas) != len(origins):
        raise UnreadFormatError(f"{name} must say in XML how its tiles meet; that cannot be read.{way_out}")
    scanned = [each for each in zip(areas, origins, strict=True) if each[0].get("AOIScanned", "1") != "0"]
    overlaps = [
        (float(joint.get("OverlapY", 0)), float(joint.get("OverlapX", 0)))
        for area, _ in scanned
        for joint in area.iter("TileJointInfo")
    ]
    if any(overlap != (0, 0) for overlap in overlaps):
        most = tuple(int(max(each[axis] for each in overlaps)) for axis in (0, 1))
        raise UnreadFormatError(
            f"{name} must hold tiles that meet exactly; those of this Ventana BIF overlap by up to {most[0]} x"
            f" {most[1]} px (row, col).{way_out}"
        )
    if any(place != stored for place, stored in _places(scanned)):
        raise UnreadFormatError(f"{name} must hold areas that lie where they are stored; these do not.{way_out}")


def _places(
    scanned: list[tuple[ElementTree.Element, ElementTree.Element]],
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where each area lies and where it is stored, (row, col) of its upper left pixel; rows count from below."""
    heights = [int(area.attrib["NumRows"]) * int(area.attrib["Height"]) for area, _ in scanned]
    lows = [int(float(area.attrib["Pos-Y"])) for area, _ in scanned]
    top = max((low + height for low, height in zip(lows, heights, strict=True)), default=0)
    for (area, origin), low, height in zip(scanned, lows, heights, strict=True):
        yield (
            (top - low - height, int(float(area.attrib["Pos-X"]))),
            (int(origin.attrib["OriginY"]), int(origin.attrib["OriginX"])),
        )


def _pixel_size(scan: dict[str, str]) -> PixelSize:
    """Return the width of a pixel that the scan states, in µm."""
    try:
        width = float(scan["ScanRes"].replace(",", "."))
    except (KeyError, ValueError):
        width = None
    return stated_pixel_size(width, width)
