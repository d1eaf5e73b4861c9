"""Pixel for pixel what OpenSlide reads, on every file that both read: all levels, random boxes, boxes across edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from vendor_files import smooth

from napari_prospector.tokens.slides import open_slide

openslide = pytest.importorskip("openslide")

# of whole factors: between pixels of a coarse level, OpenSlide would interpolate
ROWS, COLS = 508, 740
APERIO = "Aperio Image Library v11.2.1\n740x508 (96x64) JPEG/RGB Q=80|AppMag = 20|MPP = 0.4990"
RGB_JPEG = {"compression": "jpeg", "photometric": "rgb"}
JPEG_2000 = {"photometric": "rgb", "compression": 33005}

LAYOUTS: dict[str, dict[str, Any]] = {
    "JPEG 4:2:0": {**RGB_JPEG, "subsampling": (2, 2)},
    "JPEG 4:2:2": {**RGB_JPEG, "subsampling": (2, 1)},
    "JPEG 4:4:4": {**RGB_JPEG, "subsampling": (1, 1)},
    "JPEG 4:2:0 of low quality": {**RGB_JPEG, "subsampling": (2, 2), "compressionargs": {"level": 30}},
    "JPEG of RGB": {"rgb": True},
    "JPEG of grey": {"photometric": "minisblack", "compression": "jpeg"},
    "JPEG 2000 of RGB": JPEG_2000,
    "JPEG 2000 of RGB, lossy": {**JPEG_2000, "compressionargs": {"level": 40}},
    "JPEG 2000 of YCbCr": {"ycbcr": True},
    "LZW": {"photometric": "rgb", "compression": "lzw"},
    "LZW with predictor": {"photometric": "rgb", "compression": "lzw", "predictor": True},
    "deflate": {"photometric": "rgb", "compression": "zlib"},
    "uncompressed": {"photometric": "rgb"},
}


def encoded_tiles(image: np.ndarray, tile: tuple[int, int], kind: str) -> list[bytes]:
    """Tiles as Aperio writes them: RGB in JPEG without a mark, or luma and chroma in JPEG 2000 without a mark."""
    padded = np.pad(image, ((0, -image.shape[0] % tile[0]), (0, -image.shape[1] % tile[1]), (0, 0)), mode="edge")
    tiles = []
    for row in range(0, padded.shape[0], tile[0]):
        for col in range(0, padded.shape[1], tile[1]):
            part = np.ascontiguousarray(padded[row : row + tile[0], col : col + tile[1]])
            if kind == "rgb":
                tiles.append(imagecodecs.jpeg8_encode(part, 80, colorspace="RGB", outcolorspace="RGB"))
            else:
                tiles.append(imagecodecs.jpeg2k_encode(part, level=0, mct=False, codecformat="j2k"))
    return tiles


def write(path: Path, layout: dict[str, Any]) -> Path:
    """Write three levels, with Aperio's description where the suffix is its own."""
    image, tile = smooth(ROWS, COLS), (64, 96)
    options = {"metadata": None, "tile": tile, **layout}
    kind = next((kind for kind in ("rgb", "ycbcr") if options.pop(kind, False)), "")
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2, 4):
            part: Any = np.ascontiguousarray(image[::step, ::step])
            settings: dict[str, Any] = {"subfiletype": 0 if step == 1 or path.suffix == ".svs" else 1}
            if path.suffix == ".svs":
                settings["description"] = APERIO
            if kind:
                compression = {"rgb": "jpeg", "ycbcr": 33003}[kind]
                settings |= {"shape": part.shape, "dtype": np.uint8, "compression": compression, "photometric": "rgb"}
                settings |= {"compressionargs": {"outcolorspace": "rgb"}} if kind == "rgb" else {}
                part = iter(encoded_tiles(part, tile, kind))
            elif options.get("photometric") == "minisblack":
                part = np.ascontiguousarray(part[..., 0])
            writer.write(part, **options, **settings)
            if path.suffix == ".svs" and step == 1:
                thumbnail = np.full((31, 45, 3), 7, np.uint8)
                writer.write(thumbnail, photometric="rgb", rowsperstrip=16, compression="lzw", metadata=None)
    return path


def assert_agree(path: Path, n_boxes: int = 30) -> None:
    """Compare all levels as a whole, and boxes of any place and size, with OpenSlide."""
    rng = np.random.default_rng(23)
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as other:
        assert [level.shape[::-1] for level in slide.levels] == list(other.level_dimensions)
        for index, level in enumerate(slide.levels):
            whole = np.asarray(other.read_region((0, 0), index, level.shape[::-1]))
            assert (whole[..., 3] == 255).all()
            np.testing.assert_array_equal(slide.read(0, 0, *level.shape, level=index), whole[..., :3])
            step = round(other.level_downsamples[index])
            is_whole = other.level_downsamples[index] == step
            for _ in range(n_boxes):
                row, col = (int(rng.integers(-40, extent + 10)) if is_whole else 0 for extent in level.shape)
                height, width = (int(side) for side in rng.integers(1, 301, 2))
                rgba = np.asarray(other.read_region((col * step, row * step), index, (width, height)))
                theirs = np.where(rgba[..., 3:] == 0, 255, rgba[..., :3])
                np.testing.assert_array_equal(slide.read(row, col, height, width, level=index), theirs)


# JPEG 2000 is Aperio's alone
FILES = [(layout, suffix) for layout in LAYOUTS for suffix in (".svs", ".tif") if "2000" not in layout]
FILES += [(layout, ".svs") for layout in LAYOUTS if "2000" in layout]


@pytest.mark.parametrize(("layout", "suffix"), FILES)
def test_a_written_file_reads_as_openslide_reads_it(tmp_path: Path, layout: str, suffix: str) -> None:
    path = write(tmp_path / f"scan{suffix}", LAYOUTS[layout])
    assert openslide.OpenSlide.detect_format(str(path)) == {".svs": "aperio", ".tif": "generic-tiff"}[suffix]
    assert_agree(path)


@pytest.mark.parametrize("name", ["cmu_small_region.svs", "tcga_jpeg2000.svs", "he_levels.tiff"])
def test_a_real_file_reads_as_openslide_reads_it(shared: Path, name: str) -> None:
    path = shared / "data" / "histology" / "slides" / name
    assert_agree(path, n_boxes=12)
