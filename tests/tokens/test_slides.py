"""Opening slides: what is read, what is refused and how; pixel sizes; overviews; fingerprints."""

from __future__ import annotations

import contextlib
import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MissingFileError,
    PixelSizeError,
    ProspectorError,
    StorageError,
    UnreadFormatError,
)
from napari_prospector.tokens import slides
from napari_prospector.tokens.slides import Level, Slide, open_slide, stated_pixel_size

ROWS, COLS = 83, 131


def picture(rows: int = ROWS, cols: int = COLS) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, (rows, cols, 3), dtype=np.uint8)


def write_tiff(path: Path, **options: Any) -> Path:
    tifffile.imwrite(path, picture(), **{"photometric": "rgb", "tile": (32, 48), "metadata": None, **options})
    return path


# --- what is opened


@pytest.mark.parametrize(
    ("name", "shape", "n_levels", "format_name", "mpp"),
    [
        ("cmu_small_region.svs", (2967, 2220), 1, "Aperio SVS", 0.499),
        ("tcga_jpeg2000.svs", (3567, 4443), 2, "Aperio SVS", None),
        ("he_levels.tiff", (250, 300), 4, "TIFF", None),
        ("kidney_ihc.tif", (901, 1493), 1, "TIFF", None),
    ],
)
def test_real_slides_open_and_read(
    shared: Path, name: str, shape: tuple[int, int], n_levels: int, format_name: str, mpp: float | None
) -> None:
    path = shared / "data" / "histology" / "slides" / name
    with open_slide(path) as slide:
        assert (slide.name, slide.shape, len(slide.levels), slide.format) == (name, shape, n_levels, format_name)
        assert slide.mpp == mpp
        for index in range(n_levels):
            truth = tifffile.imread(path, series=0, level=index)
            np.testing.assert_array_equal(slide.read(-3, -5, 107, 109, level=index)[3:, 5:][:31, :37], truth[:31, :37])
        assert max(slide.thumbnail(251).shape[:2]) <= 251


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".svs"])
def test_pictures_are_known_by_their_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(picture()).save(path, format="JPEG" if suffix == ".jpg" else "PNG")
    truth = np.asarray(Image.open(path))
    with open_slide(path, mpp=0.5) as slide:
        assert slide.format == ("JPEG" if suffix == ".jpg" else "PNG")
        assert slide.levels == (Level((ROWS, COLS), (1.0, 1.0), (ROWS, COLS)),)
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), truth)
        corner = slide.read(-7, -11, 13, 17)
        assert (corner[:7] == 255).all()
        np.testing.assert_array_equal(corner[7:, 11:], truth[:6, :6])
        corner[:] = 0
        np.testing.assert_array_equal(slide.read(0, 0, 5, 3), truth[:5, :3])


def test_grey_and_transparent_pictures_become_rgb_on_white(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    grey = picture()[..., 0]
    Image.fromarray(grey).save(path)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), np.repeat(grey[..., None], 3, axis=2))
    rgba = np.concatenate([picture(), picture()[..., :1]], axis=2)
    Image.fromarray(rgba).save(path)
    alpha = rgba[..., 3:] / 255
    with open_slide(path) as slide:
        assert np.abs(slide.read(0, 0, ROWS, COLS) - (picture() * alpha + 255 * (1 - alpha))).max() <= 1


# --- what is refused


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"There is no slide .*case7\.svs"):
        open_slide(tmp_path / "case7.svs")
    (tmp_path / "case7.svs").touch()
    with pytest.raises(MissingFileError, match=r"Did you mean 'case7\.svs'\?"):
        open_slide(tmp_path / "case7.tif")
    with pytest.raises(MissingFileError, match=r"There is no slide .*case7\.tif\. Check the path"):
        open_slide(tmp_path / "nowhere" / "case7.tif")
    with pytest.raises(FileFormatError, match="it is a folder. Name the files in it"):
        open_slide(tmp_path)


def test_a_file_that_the_system_cannot_read_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Path, *arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(StorageError, match=r"case7.tif cannot be read: Permission denied"):
        open_slide(tmp_path / "case7.tif")


@pytest.mark.parametrize(
    ("content", "came"),
    [(b"", r"it is empty \(0 bytes\)"), (b"patient,label\n7,tumour\n", "it begins with b'patient,'")],
)
def test_what_is_no_slide_by_its_content_is_refused(tmp_path: Path, content: bytes, came: str) -> None:
    path = tmp_path / "case7.svs"
    path.write_bytes(content)
    with pytest.raises(
        FileFormatError, match=f"case7.svs must be a slide by its content: TIFF .*{came}.*copied as a whole"
    ):
        open_slide(path)


@pytest.mark.parametrize(
    ("suffix", "way"),
    [
        (
            ".isyntax",
            "Philips iSyntax is not read. Convert it to a pyramidal OME-TIFF with isyntax2raw and raw2ometiff",
        ),
        (".VSI", "Olympus VSI is not read. Convert it to a pyramidal OME-TIFF with QuPath or bfconvert"),
        (".zip", "it is an archive. Unpack it first"),
    ],
)
def test_formats_that_nobody_here_reads_are_named_with_the_way_out(tmp_path: Path, suffix: str, way: str) -> None:
    path = tmp_path / f"case7{suffix}"
    path.write_bytes(b"whatever it is, it is long enough to be looked at")
    with pytest.raises(UnreadFormatError, match=f"case7{suffix} must be TIFF .* OME-Zarr .*DICOM.*{way}"):
        open_slide(path)


def png_of(rows: int, cols: int) -> bytes:
    """Return the head of a PNG that promises a size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", cols, rows, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return head + struct.pack(">I", 1 << 20) + b"IDAT"


@pytest.mark.parametrize("rows", [9_000, 10_000, 200_000])
def test_a_picture_too_large_for_memory_is_refused_before_decoding(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(rows, 9_001))
    with pytest.raises(FileFormatError, match="may have 80,000,000 pixels.*Convert it to a tiled"):
        open_slide(path)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_a_truncated_picture_is_refused(tmp_path: Path, format_name: str) -> None:
    path = tmp_path / "picture"
    Image.fromarray(picture()).save(path, format=format_name)
    content = path.read_bytes()
    for length in (20, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=f"picture is a damaged {format_name}.*Copy it again"):
            open_slide(path).read(0, 0, 1, 1)


def test_a_picture_of_other_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ink.jpg"
    Image.fromarray(picture()).convert("CMYK").save(path)
    with pytest.raises(FileFormatError, match="ink.jpg must hold 8-bit grey or RGB pixels; got CMYK"):
        open_slide(path)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_a_damaged_head_never_ends_in_a_stranger_error(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_bytes: int
) -> None:
    path = write_tiff(tmp_path_factory.mktemp("damaged") / "case7.tif", compression="jpeg")
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    for place in generator.integers(4, 400, n_bytes):
        content[place] = generator.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(ProspectorError), open_slide(path) as slide:
        slide.read(0, 0, *np.minimum(slide.shape, 200))


def test_reads_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "case7.tif")) as slide:
        for level in (-1, 1):
            with pytest.raises(InvalidInputError, match=f"level must be in 0-0 for case7.tif; got {level}"):
                slide.read(0, 0, 5, 7, level=level)
        with pytest.raises(InvalidInputError, match="height and width must be at least 1; got 0 x 7"):
            slide.read(0, 0, 0, 7)
        with pytest.raises(TypeError):
            slide.read(0.5, 0, 5, 7)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="downsample must be at least 1; got 0.5"):
            slide.overview(0.5)
        with pytest.raises(InvalidInputError, match="max_px must be at least 1; got 0"):
            slide.thumbnail(0)


def test_a_closed_picture_says_so(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "case7.png")
    slide = open_slide(tmp_path / "case7.png")
    slide.close()
    with pytest.raises(InvalidInputError, match="case7.png is closed"):
        slide.read(0, 0, 1, 1)


# --- pixel size


def ome(**sizes: Any) -> dict[str, Any]:
    return {"metadata": {"axes": "YXS", **sizes}, "ome": True}


def tags(width: float, unit: str, height: float | None = None) -> dict[str, Any]:
    return {"resolution": (1 / width, 1 / (height or width)), "resolutionunit": unit}


def aperio(stated: str) -> dict[str, Any]:
    return {"description": f"Aperio Image Library v11\n131x83|AppMag = 40|{stated}", "compression": "jpeg"}


@pytest.mark.parametrize(
    ("options", "mpp", "problem"),
    [
        (aperio("MPP = 0.2527"), 0.2527, None),
        (aperio("MPP = 0,2527|Left = 1"), 0.2527, None),
        (aperio("Filename = 7"), None, "states no pixel size"),
        (aperio("MPP = 0.0"), None, "states a pixel size of 0 µm, outside of 0.05-20 µm"),
        (ome(PhysicalSizeX=0.25, PhysicalSizeY=0.26), 0.255, None),
        (ome(PhysicalSizeX=250, PhysicalSizeXUnit="nm", PhysicalSizeY=0.00025, PhysicalSizeYUnit="mm"), 0.25, None),
        (ome(PhysicalSizeX=0.5), 0.5, None),
        (ome(PhysicalSizeX=0.25, PhysicalSizeY=0.5), None, "states pixels of 0.5 x 0.25 µm .*not square"),
        (ome(PhysicalSizeX=0.25, PhysicalSizeXUnit="pixel"), None, "states no pixel size"),
        (ome(), None, "states no pixel size"),
        (tags(0.5e-4, "CENTIMETER"), 0.5, None),
        (tags(0.25 / 25400, "INCH"), 0.25, None),
        (tags(1 / 72, "INCH"), None, r"states a pixel size of 352.8 µm, outside of 0.05-20 µm"),
        (tags(0.25e-4, "CENTIMETER", 30e-4), None, r"states a pixel size of 30 x 0.25 µm \(row, col\), outside of"),
        (tags(0.5, "NONE"), None, "states no pixel size"),
        ({}, None, "states no pixel size"),
        ({"imagej": True, "tile": None, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25, None),
        ({"imagej": True, "tile": None, "resolution": (4, 4), "metadata": {"unit": "bottle"}}, None, "states no"),
    ],
)
def test_the_pixel_size_is_read_or_the_problem_told(
    tmp_path: Path, options: dict[str, Any], mpp: float | None, problem: str | None
) -> None:
    path = write_tiff(tmp_path / "case7.tif", **options)
    with open_slide(path) as slide:
        if mpp is not None:
            assert slide.mpp == pytest.approx(mpp, rel=1e-6)
            assert slide.mpp_problem is None
            assert slide.require_mpp() == slide.mpp
        else:
            assert slide.mpp is None
            assert slide.mpp_problem is not None
            with pytest.raises(PixelSizeError, match=f"case7.tif {problem}.*Pass mpp=…, .*column mpp of the cohort"):
                slide.require_mpp()
    with open_slide(path, mpp=0.75) as slide:
        assert (slide.mpp, slide.mpp_problem, slide.require_mpp()) == (0.75, None, 0.75)


def test_a_real_absurd_pixel_size_is_quoted(shared: Path) -> None:
    with open_slide(shared / "data" / "histology" / "slides" / "he_levels.tiff") as slide:
        assert slide.mpp_problem == "he_levels.tiff states a pixel size of 352.9 µm, outside of 0.05-20 µm."


def test_the_dots_of_a_picture_count_only_if_they_can_be(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "screen.png", dpi=(300, 300))
    Image.fromarray(picture()).save(tmp_path / "slide.png", dpi=(50_800, 50_800))
    with open_slide(tmp_path / "screen.png") as slide:
        assert slide.mpp_problem == "screen.png states a pixel size of 84.67 µm, outside of 0.05-20 µm."
    with open_slide(tmp_path / "slide.png") as slide:
        assert slide.mpp == pytest.approx(0.5)


@pytest.mark.parametrize("mpp", [0.049, 20.1, math.nan, math.inf, -1, True, "0.5"])
def test_an_impossible_pixel_size_is_not_accepted_from_anyone(tmp_path: Path, mpp: Any) -> None:
    with pytest.raises(PixelSizeError, match=r"mpp must be .* 0.05-20; got"):
        open_slide(write_tiff(tmp_path / "case7.tif"), mpp=mpp)


def test_a_size_stated_for_one_axis_counts_for_both() -> None:
    assert stated_pixel_size(None, 0.5) == stated_pixel_size(0.5, None) == stated_pixel_size(0.5, 0.5)
    assert stated_pixel_size(0.5, 0.52).mpp == 0.51
    assert stated_pixel_size(0.5, 0.53).mpp is None


# --- levels and overviews


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((8228, 11500), (4.0, 4.0)),  # 32914 rows: a quarter of them rounded down
        ((2057, 2875), (16.0, 16.0)),
        ((514, 718), (64.0, 64.0)),
        ((515, 719), (64.0, 64.0)),
        ((10000, 14000), (3.2914, 46000 / 14000)),
    ],
)
def test_a_level_has_a_whole_factor_where_its_size_allows_it(
    shape: tuple[int, int], scale: tuple[float, float]
) -> None:
    assert Level.below((32914, 46000), shape, (256, 256)).scale == scale


class Drawn(Slide):
    """A slide in memory, with levels by averaging."""

    def __init__(self, image: np.ndarray, steps: tuple[int, ...], chunk: tuple[int, int]) -> None:
        self.images = [image[: len(image) // s * s][::s, : image.shape[1] // s * s][:, ::s] for s in steps]
        levels = tuple(Level.below(image.shape[:2], i.shape[:2], chunk) for i in self.images)
        super().__init__(Path("drawn.tif"), "drawn", levels, stated_pixel_size(0.5, 0.5), None)
        self.largest = 0

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> np.ndarray:
        self.largest = max(self.largest, (row1 - row0) * (col1 - col0))
        return self.images[level][row0:row1, col0:col1].copy()

    def close(self) -> None:
        """Keep everything."""


def mean_of_squares(image: np.ndarray, factor: int) -> np.ndarray:
    """Average squares one by one, halves rounded up."""
    shape = -(-image.shape[0] // factor), -(-image.shape[1] // factor)
    means = np.empty((*shape, 3))
    for row in range(shape[0]):
        for col in range(shape[1]):
            square = image[row * factor : (row + 1) * factor, col * factor : (col + 1) * factor]
            means[row, col] = square.reshape(-1, 3).mean(axis=0)
    return np.floor(means + 0.5 + 1e-9)


@pytest.mark.parametrize("factor", [1, 3, 7, 16, 19, 200])
@pytest.mark.parametrize("chunk", [(16, 24), (13, 307), (211, 307)])
def test_an_overview_is_the_mean_of_squares_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, factor: int, chunk: tuple[int, int]
) -> None:
    monkeypatch.setattr(slides, "_BLOCK_PX", 40)
    monkeypatch.setattr(slides, "_BLOCK_BYTES", 30_000)
    image = picture(211, 307)
    image[:100] = 255
    slide = Drawn(image, (1,), chunk)
    shrunk, scale = slide.overview(factor + 0.4)
    assert scale == (factor, factor)
    np.testing.assert_array_equal(shrunk, mean_of_squares(image, factor))
    if factor == 16 and chunk[1] < 307:
        assert slide.largest <= 80 * 80


def test_an_overview_starts_from_the_coarsest_level_that_is_fine_enough() -> None:
    slide = Drawn(picture(211, 307), (1, 4, 16), (32, 32))
    assert [slide.level_for(d) for d in (0.5, 1, 3.9, 4, 15, 16, 500)] == [0, 0, 0, 1, 1, 2, 2]
    shrunk, scale = slide.overview(9)
    assert scale == (8, 8)
    np.testing.assert_array_equal(shrunk, mean_of_squares(slide.images[1], 2))


@pytest.mark.parametrize("max_px", [1, 5, 18, 19, 76, 100, 306, 307, 900])
def test_a_thumbnail_fits_its_box_and_is_not_needlessly_small(max_px: int) -> None:
    slide = Drawn(picture(211, 307), (1, 4, 16), (32, 32))
    longest = max(slide.thumbnail(max_px).shape[:2])
    assert min(max_px, 307) / 2 - 1 <= longest <= max_px


# --- identity


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_slide_travels_by_its_path_and_keeps_the_pixel_size(tmp_path: Path, suffix: str, monkeypatch: Any) -> None:
    path = tmp_path / f"case7{suffix}"
    Image.fromarray(picture()).save(path)
    monkeypatch.chdir(tmp_path)
    with open_slide(path.name, mpp=0.5) as slide:
        sent = pickle.dumps(slide)
    monkeypatch.chdir("/")
    assert len(sent) < 1000
    with pickle.loads(sent) as arrived:  # noqa: S301 - of our own making
        assert (arrived.path, arrived.mpp) == (path, 0.5)
        np.testing.assert_array_equal(arrived.read(0, 0, ROWS, COLS), picture())


def test_a_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    first = write_tiff(tmp_path / "case7.tif", compression="zlib")
    content = first.read_bytes()

    def fingerprint(changed: bytes, name: str = "other.tif") -> str:
        (tmp_path / name).write_bytes(changed)
        with open_slide(tmp_path / name) as slide:
            return slide.fingerprint()

    mark = fingerprint(content, "moved.tif")
    with open_slide(first, mpp=2) as slide:
        assert slide.fingerprint() == mark
    assert len(bytes.fromhex(mark)) == 32
    assert len({mark, fingerprint(content + b"\0"), fingerprint(content[:-1] + b"\7")}) == 3


def test_the_fingerprint_of_a_large_file_reads_samples_from_head_to_tail(tmp_path: Path) -> None:
    size = 40_000_000
    in_a_sample = 7 * ((size - 65_536) // 15) + 30_000
    marks = []
    for place in (None, in_a_sample, size - 1, in_a_sample + 900_000):
        path = write_tiff(tmp_path / "case7.tif", compression="zlib")
        with path.open("r+b") as file:
            file.truncate(size)
            if place is not None:
                file.seek(place)
                file.write(b"\7")
        with open_slide(path) as slide:
            marks.append(slide.fingerprint())
    assert len(set(marks[:3])) == 3
    assert marks[3] == marks[0]
