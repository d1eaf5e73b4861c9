"""Where the makers of scanners put the main image in a TIFF: Hamamatsu, Leica, Philips, Ventana and PerkinElmer.

Each function below knows one maker's layout and finds the pages of the main image, their true sizes and places, the
pixel size that the maker states, and the scanner. Labels and macro pictures, which may name the patient, are never
among them. The layouts are those that OpenSlide and tifffile document. None of the five was tried on a file of a real
scanner; the tests write files with their tags, and where OpenSlide knows such a file the pixels are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from napari_prospector.errors import FileFormatError, UnreadFormatError
from napari_prospector.tokens.scanners import device_scanner, tiff_scanner
from napari_prospector.tokens.slides import PixelSize, stated_pixel_size
from napari_prospector.tokens.tiff_leica import leica_pyramid
from napari_prospector.tokens.tiff_pages import page_resolution, page_shape
from napari_prospector.tokens.tiff_pyramid import LevelPages, Pyramid, is_level_below
from napari_prospector.tokens.tiff_ventana import ventana_pyramid

__all__ = ["vendor_pyramid"]

# Hamamatsu's own tags.
_LENS, _FOCAL_PLANE, _SERIAL = 65421, 65424, 65442


def vendor_pyramid(tiff: Any, name: str) -> Pyramid | None:
    """Return the main image of a file of one of the makers; None for all other TIFFs.

    Parameters
    ----------
    tiff
        tifffile's open file.
    name
        The file's, for errors.

    Raises
    ------
    FileFormatError
        The file's own description of itself is damaged, or it holds fluorescence.
    UnreadFormatError
        Tiles that overlap, or another layout that OpenSlide may read.
    """
    first = tiff.pages.first
    if first.is_ndpi:
        return _hamamatsu(tiff, name)
    if first.is_scn:
        return leica_pyramid(tiff, name)
    if first.software.startswith("Philips") and "<DataObject" in first.description:
        return _philips(tiff, name)
    if first.is_bif:
        return ventana_pyramid(tiff, name)
    if first.is_qpi:
        return _perkin_elmer(tiff, name)
    if first.software.startswith("MedScan"):
        raise UnreadFormatError(
            f"{name} is a Trestle TIFF, whose tiles overlap; it must be read through OpenSlide."
            " Install it with pip install napari-prospector[openslide], or convert the slide to an OME-TIFF."
        )
    return None


def _hamamatsu(tiff: Any, name: str) -> Pyramid:
    """NDPI: pages with a lens are levels, of one focal plane; a lens of -1 is the macro picture, -2 a map."""
    lenses = [(page, page.tags.valueof(_LENS)) for page in tiff.pages]
    scans = [(page, float(lens), page.tags.valueof(_FOCAL_PLANE, 0)) for page, lens in lenses if lens and lens > 0]
    if not scans:
        raise FileFormatError(f"{name} must hold a scan; none of its {len(lenses)} images has a lens. Copy it again.")
    # the plane in focus is 0; a file without it begins with its main one
    plane = 0 if any(z == 0 for _, _, z in scans) else scans[0][2]
    kept: list[tuple[Any, float]] = []
    for page, lens, z in scans:
        if z == plane and (not kept or is_level_below(page, kept[-1][0], kept[0][0])):
            kept.append((page, lens))
    first, lens0 = kept[0]
    levels = tuple(LevelPages.of(page, page_shape(page), _whole(lens0 / lens, first, page)) for page, lens in kept)
    scanner = device_scanner(first.tags.valueof(271), first.tags.valueof(272), first.tags.valueof(_SERIAL))
    return Pyramid("Hamamatsu NDPI", levels, page_resolution(first), scanner)


def _whole(factor: float, first: Any, page: Any) -> float | None:
    """Return a factor between two pages if it is a whole number and their sizes agree with it within 2 %."""
    whole = round(factor)
    sizes = zip(page_shape(first), page_shape(page), strict=True)
    fits = (abs(full / small / factor - 1) < 0.02 for full, small in sizes)
    return float(whole) if abs(factor - whole) < 0.01 * factor and all(fits) else None


def _philips(tiff: Any, name: str) -> Pyramid:
    """Philips: tiled pages are levels, each padded to whole tiles; the XML tells how far apart their pixels are."""
    first = tiff.pages.first
    root = _xml(first.description)
    pages = [page for page in tiff.pages if page.is_tiled and not page.description.startswith(("Label", "Macro"))]
    if not pages:
        raise FileFormatError(f"{name} must hold the scan in tiles; none of its images is tiled. Copy it again.")
    wsi = None if root is None else _philips_scan(root)
    spacings = [] if wsi is None else list(_spacings(wsi))
    if len(spacings) == len(pages):
        row0, col0 = spacings[0]
        scales = [float(max(1, round((row / row0 + col / col0) / 2))) for row, col in spacings]
    else:
        # every level halves the one before; the padding cannot hide which power of two it is
        scales = [2.0 ** round(math.log2(page_shape(pages[0])[1] / page_shape(page)[1])) for page in pages]
    rows, cols = page_shape(pages[0])
    levels: list[LevelPages] = []
    for page, scale in zip(pages, scales, strict=True):
        if not levels or scale > (levels[-1].scale or 1.0):
            stored = page_shape(page)
            shape = min(stored[0], max(1, int(rows // scale))), min(stored[1], max(1, int(cols // scale)))
            levels.append(LevelPages.of(page, shape, scale))
    stated = _philips_pixel_size(spacings, wsi)
    names = {node.get("Name", ""): node.text or "" for node in (() if root is None else root.findall("Attribute"))}
    scanner = device_scanner(
        names.get("DICOM_MANUFACTURER"),
        names.get("DICOM_MANUFACTURERS_MODEL_NAME"),
        names.get("DICOM_DEVICE_SERIAL_NUMBER"),
    )
    return Pyramid("Philips TIFF", tuple(levels), stated, scanner)


def _philips_scan(root: ElementTree.Element) -> ElementTree.Element:
    """Return the description of the scan, not of label or macro picture."""
    for image in root.iter("DataObject"):
        kinds = [node.text for node in image.findall("Attribute") if node.get("Name") == "PIM_DP_IMAGE_TYPE"]
        if "WSI" in kinds:
            return image
    return root


def _spacings(scan: ElementTree.Element) -> Iterator[tuple[float, float]]:
    """Yield the (row, col) distance of pixels in mm, level by level."""
    for level in scan.iter("DataObject"):
        if level.get("ObjectType") == "PixelDataRepresentation":
            for node in level.findall("Attribute"):
                if node.get("Name") == "DICOM_PIXEL_SPACING" and (spacing := _pair(node.text)):
                    yield spacing


def _philips_pixel_size(spacings: list[tuple[float, float]], scan: ElementTree.Element | None) -> PixelSize:
    """Return what the XML says of the finest level, or of the scan as a whole."""
    if scan is not None and not spacings:
        own = [_pair(node.text) for node in scan.findall("Attribute") if node.get("Name") == "DICOM_PIXEL_SPACING"]
        spacings = [spacing for spacing in own if spacing]
    return stated_pixel_size(*(1000 * side for side in spacings[0])) if spacings else stated_pixel_size(None, None)


def _pair(text: str | None) -> tuple[float, float] | None:
    """Read '"0.000250" "0.000250"'; None where it is no pair of positive numbers."""
    try:
        row, col = (float(word) for word in (text or "").replace('"', " ").split())
    except ValueError:
        return None
    return (row, col) if row > 0 and col > 0 else None


def _perkin_elmer(tiff: Any, name: str) -> Pyramid:
    """QPTIFF: each page tells in XML which image it is; fluorescence has as many of each level as channels."""
    first = tiff.pages.first
    scans: list[Any] = []
    for index, page in enumerate(tiff.pages):
        root = _xml(page.description)
        kind = "" if root is None else (root.findtext("ImageType") or "").strip()
        if kind in ("FullResolution", "ReducedResolution") or (index == 0 and not kind):
            scans.append(page)
    full = [page for page in scans if page_shape(page) == page_shape(first)]
    if len(full) != 1 or first.samplesperpixel != 3:
        # not `UnreadFormatError`: OpenSlide would show the first channel as if it were a slide
        raise FileFormatError(
            f"{name} must be a brightfield QPTIFF, one RGB image; it holds {len(full)} channels of"
            f" {first.samplesperpixel} samples, as fluorescence has them. Export one plane as 8-bit RGB."
        )
    kept: list[Any] = []
    for page in scans:
        if not kept or is_level_below(page, kept[-1], kept[0]):
            kept.append(page)
    levels = tuple(LevelPages.of(page, page_shape(page)) for page in kept)
    scanner = tiff_scanner(first.tags.valueof(271), first.tags.valueof(272)) or "PerkinElmer"
    return Pyramid("PerkinElmer QPTIFF", levels, page_resolution(first), scanner)


def _xml(text: str) -> ElementTree.Element | None:
    """Parse a page's description; None where it is no XML, or a damaged one."""
    try:
        return ElementTree.fromstring(text.strip().lstrip("\ufeff")) if text else None
    except ElementTree.ParseError:
        return None
