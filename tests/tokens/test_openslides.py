"""openslide as a reader: the same pixels as ours where both read, its own formats, damage, and the missing extra."""

from __future__ import annotations

import gc
import pickle
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from slide_files import COLS, MPP, ROWS, drawn, levels_of, write_mrxs, write_svs, write_tiff, write_vms

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MissingExtraError,
    StorageError,
    UnreadFormatError,
)
from napari_prospector.tokens.openslides import OpenslideSlide, _background, _scanner
from napari_prospector.tokens.slides import open_slide

IMAGE = drawn()
WHOLE = drawn(256, 384)  # sides that are multiples of 8 at a quarter too


@contextmanager
def without_openslide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "openslide", None)
        yield


# --- the same pixels


@pytest.mark.parametrize("name", ["cmu_small_region.svs", "tcga_jpeg2000.svs"])
def test_both_readers_see_the_same_pixels_in_real_slides(shared: Path, name: str) -> None:
    path = shared / "data" / "histology" / "slides" / name
    with open_slide(path) as ours, OpenslideSlide(path, None) as theirs:
        assert [level.shape for level in theirs.levels] == [level.shape for level in ours.levels]
        assert [level.scale for level in theirs.levels] == [level.scale for level in ours.levels]
        assert (theirs.mpp, theirs.scanner) == (ours.mpp, ours.scanner)
        for index, level in enumerate(ours.levels):
            places = [(0, 0), (level.shape[0] // 2, level.shape[1] // 3), (level.shape[0] - 99, 7)]
            # a pixel of a level is met exactly only where openslide's own factor allows it
            for place in places[:1] if index and theirs._downsamples[index] % 1 else places:
                box = *place, 131, 257, index
                np.testing.assert_array_equal(theirs.read(*box), ours.read(*box))


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "zlib", None])
def test_both_readers_see_the_same_pixels_in_tiff(tmp_path: Path, compression: str | None) -> None:
    path = write_tiff(tmp_path / "s.tif", levels_of(IMAGE), compression=compression)
    with open_slide(path) as ours, OpenslideSlide(path, None) as theirs:
        assert (theirs.format, theirs.mpp) == ("TIFF (openslide)", pytest.approx(ours.mpp, rel=1e-6))
        for index, level in enumerate(ours.levels):
            box = (-3, -5, level.shape[0] + 7, level.shape[1] + 11, index)
            np.testing.assert_array_equal(theirs.read(*box), ours.read(*box))


# --- its own formats


def test_a_hamamatsu_vms_is_read_by_openslide_by_itself(tmp_path: Path) -> None:
    path = write_vms(tmp_path / "case7.vms", WHOLE)
    truth = np.asarray(Image.open(tmp_path / "case7_picture.jpg"))
    with open_slide(path) as slide:
        assert (slide.format, slide.scanner) == ("Hamamatsu (openslide)", "Hamamatsu")
        assert slide.mpp == pytest.approx(MPP, rel=1e-3)
        assert [level.scale for level in slide.levels[:3]] == [(1, 1), (2, 2), (4, 4)]
        np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), truth)
        assert len(slide.fingerprint()) == 64
        with pickle.loads(pickle.dumps(slide)) as arrived:  # noqa: S301 - of our own making
            np.testing.assert_array_equal(arrived.read(11, 13, 67, 71), truth[11:78, 13:84])


def test_the_fingerprint_of_an_index_is_of_the_pixels_beside_it(tmp_path: Path) -> None:
    marks = []
    for folder, image in (("one", WHOLE), ("same", WHOLE), ("other", 255 - WHOLE)):
        (tmp_path / folder).mkdir()
        with open_slide(write_vms(tmp_path / folder / "case7.vms", image)) as slide:
            marks.append(slide.fingerprint())
    assert marks[0] == marks[1] != marks[2]


def test_an_index_without_its_files_says_which_are_missing(tmp_path: Path) -> None:
    path = write_vms(tmp_path / "case7.vms", WHOLE)
    (tmp_path / "case7_picture.jpg").unlink()
    with pytest.raises(FileFormatError, match="beside the files that it names; case7_picture.jpg is missing. Copy"):
        open_slide(path)
    path = tmp_path / "case7.mrxs"
    Image.fromarray(IMAGE).save(path, format="JPEG")
    with pytest.raises(FileFormatError, match="must lie beside the folder 'case7' with Slidedat.ini.*Copy both"):
        open_slide(path)
    (tmp_path / "case7").mkdir()
    (tmp_path / "case7" / "Slidedat.ini").write_text("[GENERAL]\nSLIDE_ID=7\n")
    with pytest.raises(FileFormatError, match="case7.mrxs cannot be opened by openslide: .*files beside it"):
        open_slide(path)
    path = tmp_path / "empty.vms"
    path.write_text("not an index")
    with pytest.raises(UnreadFormatError, match="empty.vms should be Hamamatsu VMS, and openslide does not know it"):
        open_slide(path)


def test_a_mirax_slide_is_read_with_its_background_where_nothing_was_scanned(tmp_path: Path) -> None:
    path = write_mrxs(tmp_path / "case7.mrxs", levels_of(IMAGE), hole=6, fill=0xE0F0FA)
    wanted = IMAGE.copy()
    wanted[53:106, 158:237] = (0xFA, 0xF0, 0xE0)  # stated as blue, green, red
    with open_slide(path) as slide:
        assert (slide.format, slide.scanner, slide.mpp) == ("MIRAX (openslide)", "3DHISTECH", MPP)
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), wanted)
        assert "Roe" not in repr(slide)
        before = slide.fingerprint()
    with (tmp_path / "case7" / "Data0000.dat").open("ab") as file:
        file.write(b"more")
    with open_slide(path) as slide:
        assert slide.fingerprint() != before


def test_the_data_of_a_mirax_slide_are_sampled(tmp_path: Path) -> None:
    from napari_prospector.tokens.openslides import _companions

    folder = tmp_path / "case7"
    folder.mkdir()
    names = ["Slidedat.ini", "Index.dat", *(f"Data{number:04}.dat" for number in range(11))]
    for name in names:
        (folder / name).touch()
    found = [path.name for path in _companions(tmp_path / "case7.mrxs")]
    assert found == ["Slidedat.ini", "Index.dat", "Data0000.dat", "Data0005.dat", "Data0010.dat"]


def test_a_tiff_of_a_kind_that_we_refuse_goes_to_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_prospector.tokens import tiff

    def refuse(self: Any, path: Path, mpp: float | None) -> None:
        raise UnreadFormatError(f"{path.name} is of a kind that is not read.")

    path = write_tiff(tmp_path / "s.tif", levels_of(IMAGE))
    monkeypatch.setattr(tiff.TiffSlide, "__init__", refuse)
    with open_slide(path) as slide:
        assert isinstance(slide, OpenslideSlide)
    with (
        without_openslide(monkeypatch),
        pytest.raises(UnreadFormatError, match=r'not read\. openslide may read it .*"napari-prospector\[openslide\]"'),
    ):
        open_slide(path)
    flat = tmp_path / "flat.tif"
    tifffile.imwrite(flat, IMAGE)
    with pytest.raises(UnreadFormatError, match=r"flat.tif is of a kind that is not read\.$"):
        open_slide(flat)


def test_a_damaged_tiff_does_not_go_to_openslide(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "s.svs", levels_of(IMAGE))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(FileFormatError, match="truncated") as refusal:
        open_slide(path)
    assert not isinstance(refusal.value, UnreadFormatError)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("case7.mrxs", b"\xff\xd8\xff", "MIRAX"),
        ("case7.vms", b"[Virtual Microscope Specimen]", "Hamamatsu VMS"),
        ("case7.czi", b"ZISRAWFILE" + bytes(200), "Zeiss CZI"),
        ("case7.svslide", b"SQLite format 3\0" + bytes(200), "Sakura SVSLIDE"),
    ],
)
def test_without_openslide_its_formats_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    expected = rf'{name} is {kind}, which is read through openslide: pip install "napari-prospector\[openslide\]"'
    with without_openslide(monkeypatch), pytest.raises(MissingExtraError, match=f"{expected}. Or convert it"):
        open_slide(tmp_path / name)


def test_a_czi_that_openslide_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "case7.czi").write_bytes(b"ZISRAWFILE" + bytes(2000))
    with pytest.raises(FileFormatError, match=r"case7\.czi (should be Zeiss CZI|cannot be opened by openslide)"):
        open_slide(tmp_path / "case7.czi")


# --- colours and properties


def test_what_is_transparent_lies_on_the_background_of_the_slide(tmp_path: Path) -> None:
    with OpenslideSlide(write_tiff(tmp_path / "s.tif", levels_of(IMAGE)), None) as slide:
        rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [10, 20, 30, 51]]], np.uint8)
        assert slide._rgb(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [206, 208, 210]]]
        slide._background = _background({"openslide.background-color": "0102FF"})
        assert slide._rgb(rgba)[0, 1].tolist() == [1, 2, 255]
    for stated in ("", "xyzxyz", "12"):
        assert _background({"openslide.background-color": stated}).tolist() == [255, 255, 255]


def test_scanners_are_named_by_maker_and_model() -> None:
    assert _scanner({"openslide.vendor": "mirax"}) == "3DHISTECH"
    assert _scanner({"openslide.vendor": "hamamatsu", "tiff.Make": "Hamamatsu", "tiff.Model": "C9600-12"}) == (
        "Hamamatsu C9600-12"
    )
    assert _scanner({"openslide.vendor": "generic-tiff"}) is None


# --- damage, threads, closing


def damaged(tmp_path: Path) -> Path:
    """Write a TIFF of which one tile is no JPEG any more."""
    path = write_tiff(tmp_path / "s.tif", levels_of(IMAGE), compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        offset, size = page.dataoffsets[9], page.databytecounts[9]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
    return path


def test_a_damaged_tile_does_not_spoil_the_others(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    with OpenslideSlide(path, None) as slide:
        wanted = slide.read(0, 0, 64, COLS)
        for _ in range(3):
            with pytest.raises(
                FileFormatError, match=r"s\.tif: level 0, rows 0-211, cols 0-315 cannot be read: .*copy"
            ):
                slide.read(0, 0, ROWS, COLS)
            np.testing.assert_array_equal(slide.read(0, 0, 64, COLS), wanted)


def test_a_damaged_tile_does_not_spoil_what_other_threads_read(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    with OpenslideSlide(path, None) as slide:
        wanted = slide.read(0, 0, 64, COLS)

        def read(number: int) -> bool:
            if number % 3 == 0:
                with pytest.raises(FileFormatError, match="cannot be read"):
                    slide.read(60, 90, 70, 60)
                return True
            return bool((slide.read(0, 0, 64, COLS) == wanted).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(60)))


def test_a_file_that_went_away_after_damage_says_so(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    with OpenslideSlide(path, None) as slide:
        path.rename(tmp_path / "elsewhere.tif")
        with pytest.raises((FileFormatError, StorageError), match=r"s\.tif"):
            slide.read(0, 0, ROWS, COLS)


def test_closing_while_others_read_is_safe(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "s.tif", levels_of(IMAGE))
    slide = OpenslideSlide(path, None)
    started = threading.Barrier(5)

    def read() -> str:
        started.wait()
        try:
            for _ in range(50):
                slide.read(0, 0, ROWS, COLS)
        except InvalidInputError as error:
            return str(error)
        return "read"

    with ThreadPoolExecutor(4) as pool:
        outcomes = [pool.submit(read) for _ in range(4)]
        started.wait()
        slide.close()
        assert {outcome.result() for outcome in outcomes} <= {"read", "s.tif is closed. Open it again with open_slide."}
    gc.collect()
    shutil.rmtree(tmp_path)


def test_large_boxes_come_band_by_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_prospector.tokens import openslides

    monkeypatch.setattr(openslides, "_MOST_READ_PX", 1000)
    sizes = []
    with OpenslideSlide(write_tiff(tmp_path / "s.tif", levels_of(IMAGE)), None) as slide:
        read = openslide.OpenSlide.read_region
        monkeypatch.setattr(
            openslide.OpenSlide,
            "read_region",
            lambda self, place, level, size: sizes.append(size) or read(self, place, level, size),
        )
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), IMAGE)
    assert max(cols * rows for cols, rows in sizes) <= 1000
