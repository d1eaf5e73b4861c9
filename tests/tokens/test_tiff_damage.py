"""TIFFs whose tables or tiles are not what their tags say: refused by name, at opening where that can be seen."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from vendor_files import smooth

from napari_prospector.errors import FileFormatError
from napari_prospector.tokens.slides import open_slide

ROWS, COLS, TILE = 211, 307, (64, 48)
TILES: dict[str, Any] = {"photometric": "rgb", "tile": TILE, "compression": "jpeg", "metadata": None}


def write(path: Path) -> Path:
    tifffile.imwrite(path, smooth(ROWS, COLS), **TILES)
    return path


def overwrite(path: Path, tag: int, index: int, value: int) -> None:
    """Change one number of a table of tiles."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages.first.tags[tag]
        size = found.dataformat[-1]
        place = found.valueoffset + index * struct.calcsize(size)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack(f"<{size}", value))


@pytest.mark.parametrize("offset", [10_000_000, 2**32 - 1])
def test_a_tile_beyond_the_end_of_the_file_is_named_at_opening(tmp_path: Path, offset: int) -> None:
    path = write(tmp_path / "scan.tif")
    overwrite(path, 324, 9, offset)
    with pytest.raises(FileFormatError, match=rf"level 0, tile \(row 1, col 2\) should have .* from byte {offset}"):
        open_slide(path)


def test_a_tile_that_would_end_behind_the_file_is_named_at_opening(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.tif")
    overwrite(path, 325, 27, 60_000)
    with pytest.raises(FileFormatError, match=r"tile \(row 3, col 6\) should have 60000 bytes.*truncated"):
        open_slide(path)


def test_a_table_that_is_too_short_for_the_tiles_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.tif")
    with tifffile.TiffFile(path) as tiff:
        width = tiff.pages.first.tags[256]
    with path.open("r+b") as file:
        file.seek(width.valueoffset)
        file.write(struct.pack(f"<{width.dataformat[-1]}", COLS * 3))
    with pytest.raises(FileFormatError, match="level 0 needs 80 tiles; its table names 28"):
        open_slide(path)


@pytest.mark.parametrize(("shape", "came"), [((32, 48, 3), r"\(32, 48, 3\)"), ((80, 48, 3), r"\(80, 48, 3\)")])
def test_a_jpeg_of_another_size_than_its_tile_is_damage(tmp_path: Path, shape: tuple[int, ...], came: str) -> None:
    encoded = imagecodecs.jpeg8_encode(np.full(shape, 99, np.uint8), 90)
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, iter([encoded] * 28), shape=(ROWS, COLS, 3), dtype=np.uint8, **TILES)
    with open_slide(path) as slide, pytest.raises(FileFormatError, match=rf"it holds {came} instead of \(64, 48, 3\)"):
        slide.read(0, 0, 9, 9)


def test_pixels_that_lie_in_another_file_are_refused(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{COLS}" SizeY="{ROWS}" SizeC="3" SizeZ="1"'
        ' SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"><UUID'
        ' FileName="other.ome.tif">urn:uuid:00000000-0000-0000-0000-000000000002</UUID></TiffData></Pixels></Image>'
        "</OME>"
    )
    for name in ("other.ome.tif", "first.ome.tif"):
        tifffile.imwrite(
            tmp_path / name, smooth(ROWS, COLS), photometric="rgb", description=xml, metadata=None, ome=False
        )
    with pytest.raises(FileFormatError, match="first.ome.tif must hold its own pixels; they lie in another file"):
        open_slide(tmp_path / "first.ome.tif")
