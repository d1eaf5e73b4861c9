"""Every layout of TIFF against tifffile, and against openslide where it reads the file; damage, and privacy."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.errors import FileFormatError, InvalidInputError, StorageError
from napari_prospector.tokens import segments, tiff, tiff_pages
from napari_prospector.tokens.slides import open_slide

ROWS, COLS = 211, 307
APERIO = "Aperio Image Library v11.2.1\n307x211 (64x48) JPEG/RGB Q=80|AppMag = 20|MPP = 0.4990"


def picture(rows: int = ROWS, cols: int = COLS, seed: int = 0) -> np.ndarray:
    """Smooth colours, so that JPEG is kind to them, with a little noise, so that no two places are alike."""
    row, col = np.mgrid[:rows, :cols]
    waves = [128 + 90 * np.sin(row / (7 + 3 * i) + col / (11 + 2 * i) + i) for i in range(3)]
    noise = np.random.default_rng(seed).integers(-9, 10, (rows, cols, 3))
    return np.clip(np.stack(waves, -1) + noise, 0, 254).astype(np.uint8)


def write_pyramid(path: Path, image: np.ndarray, subifds: bool = False, **options: Any) -> Path:
    """Write three levels, by every second pixel."""
    options = {"photometric": "rgb", "tile": (64, 48), **options}
    with tifffile.TiffWriter(path, ome=path.name.endswith(".ome.tif")) as writer:
        writer.write(image, subifds=2 if subifds else None, **options)
        for step in (2, 4):
            writer.write(image[::step, ::step], subfiletype=1, **{**options, "metadata": None})
    return path


def write_svs(path: Path, image: np.ndarray, description: str = APERIO, **options: Any) -> Path:
    """Write what a scanner writes: baseline, thumbnail, a smaller level, label and macro."""
    tiles = {"photometric": "rgb", "tile": (64, 48), "compression": "jpeg", "metadata": None, **options}
    strips = {"photometric": "rgb", "rowsperstrip": 16, "compression": "lzw", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, description=description, **tiles)
        writer.write(image[::8, ::8], description="Aperio thumbnail", **strips)
        writer.write(image[::4, ::4], description="Aperio level", **tiles)
        writer.write(np.full((53, 47, 3), 7, np.uint8), subfiletype=1, description="Aperio\nlabel", **strips)
        writer.write(np.full((59, 97, 3), 9, np.uint8), subfiletype=9, description="Aperio\nmacro", **strips)
    return path


def planar(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


FLAT = {
    "tiles jpeg": {"tile": (64, 48), "compression": "jpeg"},
    "tiles jpeg without subsampling": {"tile": (64, 48), "compression": "jpeg", "subsampling": (1, 1)},
    "tiles jpeg 2000": {"tile": (64, 48), "compression": "jpeg2000"},
    "tiles aperio jpeg 2000": {"tile": (64, 48), "compression": 33005},
    "tiles deflate with predictor": {"tile": (64, 48), "compression": "zlib", "predictor": True},
    "tiles webp": {"tile": (64, 48), "compression": "webp"},
    "tiles uncompressed": {"tile": (64, 48)},
    "strips lzw": {"rowsperstrip": 13, "compression": "lzw"},
    "strips jpeg": {"rowsperstrip": 16, "compression": "jpeg"},
    "strips uncompressed": {"rowsperstrip": 13},
    "one strip uncompressed": {"rowsperstrip": ROWS},
    "one strip deflate": {"rowsperstrip": ROWS, "compression": "zlib"},
    "strips big endian": {"rowsperstrip": 17, "byteorder": ">"},
    "big tiff": {"tile": (64, 48), "compression": "jpeg", "bigtiff": True},
}


@pytest.mark.parametrize("layout", FLAT)
def test_a_flat_file_reads_as_tifffile_reads_it(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", **FLAT[layout])
    truth = tifffile.imread(path)
    with open_slide(path) as slide:
        assert slide.shape == (ROWS, COLS)
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), truth)
        np.testing.assert_array_equal(slide.read(37, 41, 89, 101), truth[37:126, 41:142])


@pytest.mark.parametrize("extra", [{"tile": (64, 48), "compression": "zlib"}, {"rowsperstrip": 19}])
def test_planes_that_are_stored_apart_come_together(tmp_path: Path, extra: dict[str, Any]) -> None:
    tifffile.imwrite(
        tmp_path / "planes.tif", planar(picture()), photometric="rgb", planarconfig="separate", metadata=None, **extra
    )
    with open_slide(tmp_path / "planes.tif") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), picture())


PYRAMIDS: dict[str, Callable[[Path], Path]] = {
    "pages": lambda folder: write_pyramid(folder / "pages.tif", picture(), compression="jpeg", metadata=None),
    "sub ifds": lambda folder: write_pyramid(folder / "sub.tif", picture(), subifds=True, compression="zlib"),
    "ome": lambda folder: write_pyramid(
        folder / "sub.ome.tif", picture(), subifds=True, compression="jpeg", metadata={"axes": "YXS"}
    ),
    "svs": lambda folder: write_svs(folder / "scan.svs", picture()),
}


@pytest.mark.parametrize("kind", PYRAMIDS)
def test_every_level_reads_as_tifffile_reads_it(tmp_path: Path, kind: str) -> None:
    path = PYRAMIDS[kind](tmp_path)
    with tifffile.TiffFile(path) as file:
        truth = [level.asarray() for level in file.series[0].levels]
    with open_slide(path) as slide:
        assert len(slide.levels) == len(truth) == (2 if kind == "svs" else 3)
        assert [level.downsample for level in slide.levels] == ([1, 4] if kind == "svs" else [1, 2, 4])
        for index, pixels in enumerate(truth):
            np.testing.assert_array_equal(slide.read(0, 0, *slide.levels[index].shape, level=index), pixels)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_svs(tmp_path_factory.mktemp("scan") / "scan.svs", picture())


corners = st.integers(-90, 350)
sides = st.integers(1, 350)


@given(corners, corners, sides, sides, st.integers(0, 1))
def test_any_region_is_that_region_of_the_whole_on_white(
    scan: Path, row: int, col: int, height: int, width: int, level: int
) -> None:
    whole = tifffile.imread(scan, level=level)
    margin = 800
    canvas = np.pad(whole, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)
    with open_slide(scan) as slide:
        region = slide.read(row, col, height, width, level)
    assert region.flags.writeable
    np.testing.assert_array_equal(
        region, canvas[margin + row : margin + row + height, margin + col : margin + col + width]
    )


def test_pixels_are_those_of_openslide(scan: Path) -> None:
    openslide = pytest.importorskip("openslide")
    with open_slide(scan) as slide, openslide.OpenSlide(str(scan)) as other:
        for level, shape in enumerate([(ROWS, COLS), (53, 77)]):
            pixels = np.asarray(other.read_region((0, 0), level, shape[::-1]))[..., :3]
            np.testing.assert_array_equal(slide.read(0, 0, *shape, level=level), pixels)


@pytest.mark.parametrize("name", ["cmu_small_region.svs", "tcga_jpeg2000.svs"])
def test_pixels_of_real_slides_are_those_of_openslide(shared: Path, name: str) -> None:
    openslide = pytest.importorskip("openslide")
    path = shared / "data" / "histology" / "slides" / name
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as other:
        assert [level.shape[::-1] for level in slide.levels] == list(other.level_dimensions)
        for index, level in enumerate(slide.levels):
            pixels = np.asarray(other.read_region((0, 0), index, level.shape[::-1]))[..., :3]
            np.testing.assert_array_equal(slide.read(0, 0, *level.shape, level=index), pixels)


def test_luma_and_chroma_of_aperio_jpeg_2000_become_the_rgb_of_openslide(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    cr, cb = np.mgrid[:256, :256]
    ycbcr = np.stack([np.full_like(cb, 131), cb, cr], -1).astype(np.uint8)
    encoded = imagecodecs.jpeg2k_encode(ycbcr, level=0, mct=False, codecformat="j2k")
    options: dict[str, Any] = {"compression": 33003, "photometric": "ycbcr", "subsampling": (1, 1), "metadata": None}
    path = tmp_path / "ycbcr.svs"
    tifffile.imwrite(
        path, iter([encoded]), shape=ycbcr.shape, dtype=np.uint8, tile=(256, 256), description=APERIO, **options
    )
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as other:
        pixels = np.asarray(other.read_region((0, 0), 0, (256, 256)))[..., :3]
        np.testing.assert_array_equal(slide.read(0, 0, 256, 256), pixels)


@pytest.mark.parametrize("compression", [None, "jpeg", "zlib"])
def test_a_tile_that_the_scanner_left_out_is_white(tmp_path: Path, compression: str | None) -> None:
    def tiles() -> Iterator[np.ndarray | None]:
        for index in range(15):
            yield None if index == 7 else np.full((32, 48, 3), 10 * index, np.uint8)

    path = tmp_path / "sparse.tif"
    options: dict[str, Any] = {"tile": (32, 48), "compression": compression, "photometric": "rgb"}
    tifffile.imwrite(path, tiles(), shape=(89, 239, 3), dtype=np.uint8, **options)
    with open_slide(path) as slide:
        pixels = slide.read(0, 0, 89, 239)
    assert (pixels[32:64, 96:144] == 255).all()
    assert (pixels[:32, 96:144] < 40).all()


def test_grey_becomes_rgb_and_inverted_grey_is_turned(tmp_path: Path) -> None:
    grey = picture()[..., 0]
    for photometric, wanted in (("minisblack", grey), ("miniswhite", 255 - grey)):
        tifffile.imwrite(tmp_path / "grey.tif", grey, photometric=photometric, tile=(64, 48), compression="zlib")
        with open_slide(tmp_path / "grey.tif") as slide:
            np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), np.repeat(wanted[..., None], 3, axis=2))


def test_sixteen_bits_are_scaled_by_their_full_range(tmp_path: Path) -> None:
    wide = np.arange(101 * 211 * 3, dtype=np.uint32).reshape(101, 211, 3).astype(np.uint16)
    for layout in ({"tile": (64, 48), "compression": "zlib"}, {"rowsperstrip": 7}, {"byteorder": ">"}):
        tifffile.imwrite(tmp_path / "wide.tif", wide, photometric="rgb", **layout)
        with open_slide(tmp_path / "wide.tif") as slide:
            np.testing.assert_array_equal(slide.read(0, 0, 101, 211), np.rint(wide / 65535 * 255))


@pytest.mark.parametrize(("kind", "premultiplied"), [("unassalpha", False), ("assocalpha", True)])
def test_what_is_transparent_lies_on_white(tmp_path: Path, kind: str, premultiplied: bool) -> None:
    alpha = np.random.default_rng(3).integers(0, 256, (ROWS, COLS, 1))
    colours = picture() * (alpha / 255) if premultiplied else picture()
    rgba = np.concatenate([np.rint(colours), alpha], -1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=[kind], tile=(64, 48), compression="lzw")
    with open_slide(tmp_path / "a.tif") as slide:
        pixels = slide.read(0, 0, ROWS, COLS)
    wanted = picture() * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(pixels - wanted).max() <= (1.01 if premultiplied else 0.5)


@pytest.mark.parametrize(
    ("pixels", "options", "came"),
    [
        (picture()[..., 0].astype(np.uint16), {}, "16 bits"),
        (picture().astype(np.float32), {"photometric": "rgb"}, "float32"),
        (picture() > 99, {"photometric": "rgb"}, "bool"),
        (np.zeros((ROWS, COLS, 4), np.uint8), {"photometric": "separated"}, "4 samples"),
        (np.zeros((5, ROWS, COLS), np.uint8), {"photometric": "minisblack"}, "Q = 5"),
    ],
)
def test_pixels_that_are_not_a_slides_are_refused(
    tmp_path: Path, pixels: np.ndarray, options: dict[str, Any], came: str
) -> None:
    tifffile.imwrite(tmp_path / "odd.tif", pixels, **options)
    with pytest.raises(FileFormatError, match=f"odd.tif must .*{came}.*8-bit RGB"):
        open_slide(tmp_path / "odd.tif")


def test_a_strip_that_would_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "s.tif", picture(), photometric="rgb", rowsperstrip=ROWS, compression="zlib")
    monkeypatch.setattr(tiff_pages, "_MOST_SEGMENT_BYTES", ROWS * COLS * 3 - 1)
    with pytest.raises(FileFormatError, match=f"{ROWS} x {COLS} px. Convert it to a tiled, pyramidal TIFF"):
        open_slide(tmp_path / "s.tif")


def test_a_kind_of_tiff_that_was_never_tried_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "v.tif", picture(), photometric="rgb", metadata=None)
    monkeypatch.setattr(tiff, "_FORMATS", {})
    with pytest.raises(FileFormatError, match="'uniform', is not read yet. Convert it"):
        open_slide(tmp_path / "v.tif")


@pytest.mark.parametrize("share", [0.002, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["svs", "ome"])
def test_a_truncated_file_is_refused_at_opening(tmp_path: Path, kind: str, share: float) -> None:
    path = PYRAMIDS[kind](tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileFormatError, match=r"truncated|damaged"):
        open_slide(path)


def test_a_truncated_file_of_raw_rows_names_the_strip(tmp_path: Path) -> None:
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", rowsperstrip=13, metadata=None)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match="level 0, strip 16 ends at byte .* truncated"):
        open_slide(path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda tile: tile[:-200] + bytes(200), "is cut short: its JPEG has no end"),
        (lambda tile: bytes(len(tile)), "is cut short"),
        (lambda tile: b"\0" * (len(tile) - 2) + b"\xff\xd9", "cannot be decoded"),
    ],
)
def test_a_damaged_tile_is_named_and_its_neighbours_still_read(
    tmp_path: Path, harm: Callable[[bytes], bytes], said: str
) -> None:
    path = write_svs(tmp_path / "scan.svs", picture())
    truth = tifffile.imread(path, level=0)
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[9], file.pages[0].databytecounts[9]
    content = path.read_bytes()
    path.write_bytes(content[:offset] + harm(content[offset : offset + size]) + content[offset + size :])
    with open_slide(path) as slide:
        with pytest.raises(FileFormatError, match=rf"scan.svs: level 0, tile \(row 1, col 2\) {said}"):
            slide.read(64, 96, 1, 1)
        np.testing.assert_array_equal(slide.read(0, 0, 64, COLS), truth[:64])


def test_many_threads_read_what_one_reads(scan: Path) -> None:
    boxes = [(row, col) for row in range(-20, 211, 23) for col in range(-20, 307, 29)]
    with open_slide(scan) as slide:
        wanted = [slide.read(row, col, 67, 71) for row, col in boxes]
    with open_slide(scan) as slide, ThreadPoolExecutor(8) as pool:
        for region, truth in zip(pool.map(lambda box: slide.read(*box, 67, 71), boxes), wanted, strict=True):
            np.testing.assert_array_equal(region, truth)


def test_without_positioned_reads_threads_still_agree(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = tifffile.imread(scan, level=0)
    monkeypatch.delattr(os, "pread")
    with open_slide(scan) as slide, ThreadPoolExecutor(8) as pool:
        for row, line in enumerate(pool.map(lambda row: slide.read(row, 0, 1, COLS), range(ROWS))):
            np.testing.assert_array_equal(line[0], truth[row])


def test_the_cache_keeps_the_last_used_within_its_bytes() -> None:
    cache = segments.SegmentCache(3 * 5 * 7 * 3)
    tiles = [np.full((5, 7, 3), index, np.uint8) for index in range(5)]
    for index in range(3):
        cache.put((0, 0, index), tiles[index])
    assert cache.get((0, 0, 0)) is tiles[0]
    cache.put((0, 0, 3), tiles[3])
    assert cache.get((0, 0, 1)) is None
    assert cache.get((0, 0, 0)) is tiles[0]
    huge = np.zeros((50, 70, 3), np.uint8)
    cache.put((1, 0, 0), huge)
    assert cache.get((1, 0, 0)) is huge
    assert cache.get((0, 0, 0)) is None
    cache.put((0, 0, 4), tiles[4])
    assert cache.get((1, 0, 0)) is None


def test_a_region_cannot_change_the_cache(scan: Path) -> None:
    with open_slide(scan) as slide:
        first = slide.read(0, 0, 64, 48)
        kept = first.copy()
        first[:] = 0
        np.testing.assert_array_equal(slide.read(0, 0, 64, 48), kept)


def test_label_and_macro_are_never_read(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tifffile.TiffFile(scan) as file:
        private = {offset for page in file.pages[3:] for offset in page.dataoffsets}
        private |= set(file.pages[1].dataoffsets)
        assert {page.subfiletype for page in file.pages[3:]} == {1, 9}
    places: set[int] = set()
    read, lock = segments.PositionedFile.read, threading.Lock()

    def watched(self: segments.PositionedFile, offset: int, size: int) -> bytes:
        with lock:
            places.add(offset)
        return read(self, offset, size)

    monkeypatch.setattr(segments.PositionedFile, "read", watched)
    with open_slide(scan) as slide:
        for index, level in enumerate(slide.levels):
            assert not np.isin(slide.read(0, 0, *level.shape, level=index), (7, 9)).all(axis=2).any()
        slide.thumbnail(13)
    assert len(places) == 4 * 7 + 1 * 2
    assert not places & private


def test_a_closed_slide_says_so(scan: Path) -> None:
    slide = open_slide(scan)
    slide.read(0, 0, 1, 1)
    slide.close()
    with pytest.raises(InvalidInputError, match="scan.svs is closed. Open it again"):
        slide.read(0, 0, 1, 1)


def test_a_file_that_shrinks_or_fails_while_open_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_svs(tmp_path / "scan.svs", picture())
    with open_slide(path) as slide:
        os.truncate(path, 700)
        with pytest.raises(FileFormatError, match="scan.svs ends inside of a tile"):
            slide.read(128, 0, 9, 9)

        def failing(self: segments.PositionedFile, offset: int, size: int) -> bytes:
            raise OSError("input/output error")

        monkeypatch.setattr(segments.PositionedFile, "_read", failing)
        with pytest.raises(StorageError, match="cannot be read at byte .*input/output error"):
            slide.read(128, 0, 9, 9)
