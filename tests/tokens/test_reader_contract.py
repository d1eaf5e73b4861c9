"""What every reader of slides keeps, whatever the format: one picture, written as each, is the same slide."""

from __future__ import annotations

import math
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from slide_files import (
    MPP,
    SQUARE,
    SQUARE_COLOUR,
    drawn,
    levels_of,
    read_box,
    write_dicom,
    write_mrxs,
    write_ome_tiff,
    write_series,
    write_svs,
    write_tiff,
    write_zarr,
)
from vendor_files import Written, write_bif, write_ndpi, write_philips, write_qptiff, write_scn

from napari_prospector.errors import InvalidInputError, PixelSizeError
from napari_prospector.tokens.openslides import OpenslideSlide
from napari_prospector.tokens.slides import Slide, open_slide

LEVELS = levels_of(drawn())
SHARDS = {"c": 3, "y": 128, "x": 144}


def write_png(path: Path, images: Any) -> Path:
    Image.fromarray(images[0]).save(path, dpi=(25400 / MPP, 25400 / MPP))
    return path


def by_openslide(path: Path, mpp: float | None = None) -> Slide:
    return OpenslideSlide(path, mpp)


@dataclass(frozen=True)
class Kind:
    """How a format is written and opened; `error` is how far its pixels may be off, `n_levels` how many it keeps.

    What a maker's layout holds is told by its writer, `vendor`, instead.
    """

    name: str
    write: Callable[[Path, Any], Path] = lambda path, images: path
    open: Callable[..., Slide] = open_slide
    error: int = 0
    n_levels: int = 3
    vendor: Callable[[Path], Written] | None = None


@dataclass(frozen=True)
class Made:
    """A slide on disk and what it must hold."""

    path: Path
    levels: tuple[np.ndarray, ...]
    scales: tuple[float, ...]
    mpp: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.levels[0].shape[0], self.levels[0].shape[1]


def make(kind: Kind, folder: Path) -> Made:
    if kind.vendor:
        written = kind.vendor(folder / kind.name)
        return Made(written.path, written.levels, written.scales, written.mpp)
    path = kind.write(folder / kind.name, LEVELS)
    return Made(path, tuple(LEVELS[: kind.n_levels]), (1.0, 2.0, 4.0)[: kind.n_levels], MPP)


def jpeg(writer: Callable[..., Path]) -> Callable[[Path, Any], Path]:
    options = {"compression": "jpeg", "compressionargs": {"level": 100}, "subsampling": (1, 1)}
    return lambda path, images: writer(path, images, **options)


KINDS = {
    "tiff": Kind("s.tif", write_tiff),
    "svs": Kind("s.svs", write_svs),
    "svs jpeg": Kind("s.svs", jpeg(write_svs), error=4),
    "ome-tiff": Kind("s.ome.tif", write_ome_tiff),
    "png": Kind("s.png", write_png, n_levels=1),
    "ome-zarr 0.4": Kind("s.ome.zarr", lambda path, images: write_zarr(path, images, "0.4")),
    "ome-zarr 0.4 tczyx": Kind("s.zarr", lambda path, images: write_zarr(path, images, "0.4", "tczyx", {"c": 3})),
    "ome-zarr 0.5": Kind("s.ome.zarr", write_zarr),
    "ome-zarr 0.5 sharded": Kind("s.ome.zarr", lambda path, images: write_zarr(path, images, shards=SHARDS)),
    "dicom": Kind("series", write_series),
    "dicom jpeg 2000": Kind("series", lambda path, images: write_series(path, images, codec="jpeg 2000")),
    "dicom jpeg": Kind("series", lambda path, images: write_series(path, images, codec="jpeg"), error=4),
    "dicom file": Kind("s.dcm", lambda path, images: write_dicom(path, images[0]), n_levels=1),
    "openslide": Kind("s.tif", write_tiff, by_openslide),
    "openslide svs": Kind("s.svs", jpeg(write_svs), by_openslide, error=4),
    "mirax": Kind("s.mrxs", write_mrxs),
    "ndpi": Kind("s.ndpi", vendor=write_ndpi),
    "scn": Kind("s.scn", vendor=write_scn),
    "philips": Kind("s.tiff", vendor=write_philips),
    "bif": Kind("s.bif", vendor=write_bif),
    "qptiff": Kind("s.qptiff", vendor=write_qptiff),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def made(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(kind, tmp_path_factory.mktemp("slide"))


@pytest.fixture(scope="module")
def path(made: Made) -> Path:
    return made.path


@pytest.fixture
def slide(kind: Kind, path: Path) -> Iterator[Slide]:
    with kind.open(path) as opened:
        yield opened


def assert_close(found: np.ndarray, wanted: np.ndarray, error: int) -> None:
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    off = np.abs(found.astype(int) - wanted)
    assert off.max() <= error
    assert off.mean() <= error / 5


def test_its_levels_have_the_sizes_and_exact_scales_of_the_picture(slide: Slide, made: Made) -> None:
    assert slide.shape == made.shape
    assert [level.shape for level in slide.levels] == [image.shape[:2] for image in made.levels]
    assert [level.scale for level in slide.levels] == [(scale, scale) for scale in made.scales]
    assert all(side > 0 for level in slide.levels for side in level.chunk)
    assert made.path.name in repr(slide)


def test_its_pixels_are_those_of_the_picture(slide: Slide, kind: Kind, made: Made) -> None:
    for index, image in enumerate(made.levels):
        assert_close(slide.read(0, 0, *image.shape[:2], level=index), image, kind.error)


def test_a_planted_square_is_at_its_place_in_every_level(slide: Slide, kind: Kind) -> None:
    for index in range(0 if kind.vendor else kind.n_levels):
        step = 2**index
        rows, cols = (slice(side.start // step, side.stop // step) for side in SQUARE)
        around = slide.read(
            rows.start - 2, cols.start - 3, rows.stop - rows.start + 4, 6 + cols.stop - cols.start, index
        )
        is_square = np.abs(around.astype(int) - SQUARE_COLOUR).max(axis=2) <= kind.error
        wanted = np.zeros(is_square.shape, bool)
        wanted[2:-2, 3:-3] = True
        assert (is_square == wanted).all()


def test_what_lies_outside_is_white(slide: Slide, kind: Kind, made: Made) -> None:
    for index, image in enumerate(made.levels):
        rows, cols = image.shape[:2]
        box = slide.read(-5, -7, rows + 16, cols + 20, index)
        assert_close(box[5 : 5 + rows, 7 : 7 + cols], image, kind.error)
        box[5 : 5 + rows, 7 : 7 + cols] = 255
        assert (box == 255).all()
        assert (slide.read(rows, 3, 11, 13, index) == 255).all()
        assert (slide.read(-11, -13, 11, 13, index) == 255).all()


def test_boxes_that_touch_tiles_anyhow_are_cut_from_the_whole(slide: Slide) -> None:
    generator = np.random.default_rng(7)
    for index in range(len(slide.levels)):
        whole = slide.read(0, 0, *slide.levels[index].shape, level=index)
        for _ in range(19):
            row, col = (int(generator.integers(side)) for side in whole.shape[:2])
            height, width = int(generator.integers(1, 99)), int(generator.integers(1, 99))
            cut = whole[row : row + height, col : col + width]
            np.testing.assert_array_equal(slide.read(row, col, *cut.shape[:2], level=index), cut)


def test_a_box_belongs_to_the_caller(slide: Slide) -> None:
    before = slide.read(3, 5, 67, 71)
    slide.read(3, 5, 67, 71)[:] = 0
    np.testing.assert_array_equal(slide.read(3, 5, 67, 71), before)


def test_a_level_that_is_not_there_is_refused(slide: Slide, made: Made) -> None:
    n_levels = len(made.levels)
    for level in (-1, n_levels):
        with pytest.raises(InvalidInputError, match=f"level must be in 0-{n_levels - 1}.*got {level}"):
            slide.read(0, 0, 1, 1, level)


def test_eight_threads_read_what_one_reads(kind: Kind, made: Made, path: Path) -> None:
    levels = range(len(made.levels))
    boxes = [(row, col, 53, 59, level) for level in levels for row in (0, 17) for col in range(0, 80, 9)]
    with kind.open(path) as alone:
        wanted = [alone.read(*box) for box in boxes]
    with kind.open(path) as shared, ThreadPoolExecutor(8) as pool:
        for found, one in zip(pool.map(lambda box: shared.read(*box), boxes), wanted, strict=True):
            np.testing.assert_array_equal(found, one)


def test_it_travels_by_its_path_and_is_the_same_where_it_arrives(kind: Kind, path: Path) -> None:
    with kind.open(path, mpp=0.91) as slide:
        sent = pickle.dumps(slide)
        with pickle.loads(sent) as arrived:  # noqa: S301 - of our own making
            assert len(sent) < 1000
            assert type(arrived) is type(slide)
            assert (arrived.path, arrived.mpp, arrived.levels) == (path, 0.91, slide.levels)
            assert arrived.fingerprint() == slide.fingerprint()
            np.testing.assert_array_equal(arrived.read(31, 37, 41, 43), slide.read(31, 37, 41, 43))


def test_a_closed_slide_says_so(kind: Kind, path: Path) -> None:
    slide = kind.open(path)
    whole = (0, 0, *slide.shape)
    slide.read(*whole)
    slide.close()
    with pytest.raises(InvalidInputError, match=f"{path.name} is closed. Open it again"):
        slide.read(*whole)
    slide.close()


def test_its_pixel_size_is_read_and_the_callers_wins(kind: Kind, made: Made, path: Path) -> None:
    with kind.open(path) as slide:
        assert slide.require_mpp() == pytest.approx(made.mpp, rel=1e-3)
    with kind.open(path, mpp=0.91) as slide:
        assert slide.require_mpp() == 0.91


@pytest.mark.parametrize("mpp", [0, 1000, math.nan])
def test_an_impossible_pixel_size_is_refused(kind: Kind, path: Path, mpp: float) -> None:
    with pytest.raises(PixelSizeError, match="mpp must be"):
        open_slide(path, mpp=mpp)


def test_its_fingerprint_is_of_the_content_not_of_the_place(kind: Kind, path: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "elsewhere" / path.name, tmp_path / path.name
    moved.parent.mkdir()
    # a MIRAX slide is a file and a folder beside it
    for part in {part for part in (path, path.with_suffix("")) if part.exists()}:
        (shutil.copytree if part.is_dir() else shutil.copy)(part, moved.parent / part.name)
    if kind.vendor:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        other.write_bytes(content)
    else:
        changed = drawn()
        changed[100:140, 100:140] = 0
        kind.write(other, levels_of(changed))
    marks = []
    for place in (path, moved, other):
        with kind.open(place) as slide:
            marks.append(slide.fingerprint())
    assert marks[0] == marks[1] != marks[2]
    assert len(bytes.fromhex(marks[0])) == 32


def test_its_cache_is_bounded(kind: Kind, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kind.open(path) as slide:
        cache = getattr(slide, "_cache", None)
        if cache is None:  # the picture itself, and openslide, which is told its bound
            return
        whole = (0, 0, *slide.shape)
        wanted = slide.read(*whole)
        # larger than any piece, smaller than the picture
        bound = max(level.chunk[0] * level.chunk[1] for level in slide.levels) * 3 + 1
        monkeypatch.setattr(cache, "_most_bytes", bound)
        cache.clear()
        for _ in range(2):
            np.testing.assert_array_equal(slide.read(*whole), wanted)
            assert sum(segment.nbytes for segment in cache._segments.values()) <= bound


def test_label_and_macro_are_out_of_reach(slide: Slide, made: Made) -> None:
    """They are drawn in one dark grey each; nothing of the slide is."""
    for index, level in enumerate(slide.levels):
        pixels = slide.read(0, 0, *level.shape, level=index)
        assert not ((pixels == 7).all(axis=2) | (pixels == 9).all(axis=2)).any()
    assert {level.shape for level in slide.levels} == {image.shape[:2] for image in made.levels}


def test_other_processes_read_what_this_one_reads(tmp_path: Path) -> None:
    names = ("ome-zarr 0.5 sharded", "dicom jpeg", "openslide", "mirax", "ndpi")
    kinds = [KINDS[name] for name in names]
    for name in names:
        (tmp_path / name).mkdir()
    slides = [kind.open(make(kind, tmp_path / name).path) for name, kind in zip(names, kinds, strict=True)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(read_box, slide, (-3, 31, 61, 67, 1)) for slide in slides]
        for slide, job in zip(slides, jobs, strict=True):
            np.testing.assert_array_equal(job.result(), slide.read(-3, 31, 61, 67, 1))
            slide.close()
