"""Files in the layouts of five makers: right pixels, levels, pixel size and scanner; never label or macro picture.

No file of a real scanner is at hand but Aperio's. What `vendor_files` writes follows the documented layouts; OpenSlide,
where it recognizes a file, is the independent judge of it.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vendor_files as vendors
from vendor_files import Written

from napari_prospector.errors import FileFormatError, UnreadFormatError
from napari_prospector.tokens import segments
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.tiff import TiffSlide

WRITERS: dict[str, Callable[[Path], Written]] = {
    "ndpi": lambda folder: vendors.write_ndpi(folder / "scan.ndpi"),
    "scn": lambda folder: vendors.write_scn(folder / "scan.scn"),
    "philips": lambda folder: vendors.write_philips(folder / "scan.tiff"),
    "bif": lambda folder: vendors.write_bif(folder / "scan.bif"),
    "qptiff": lambda folder: vendors.write_qptiff(folder / "scan.qptiff"),
}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    return WRITERS[request.param](tmp_path)


def test_levels_sizes_scanner_and_pixels_are_those_that_were_written(written: Written) -> None:
    with open_slide(written.path) as slide:
        assert slide.format == written.format
        assert slide.mpp == pytest.approx(written.mpp, rel=1e-3)
        assert slide.scanner == written.scanner
        assert [level.shape for level in slide.levels] == [pixels.shape[:2] for pixels in written.levels]
        assert [level.scale for level in slide.levels] == [(scale, scale) for scale in written.scales]
        for index, pixels in enumerate(written.levels):
            np.testing.assert_array_equal(slide.read(0, 0, *pixels.shape[:2], level=index), pixels)


def test_any_box_is_that_box_of_the_whole(written: Written) -> None:
    rng = np.random.default_rng(13)
    with open_slide(written.path) as slide:
        for _ in range(40):
            index = int(rng.integers(len(written.levels)))
            canvas = np.pad(written.levels[index], ((300, 300), (300, 300), (0, 0)), constant_values=255)
            row, col = (int(rng.integers(-90, extent)) for extent in written.levels[index].shape[:2])
            height, width = (int(side) for side in rng.integers(1, 211, 2))
            wanted = canvas[300 + row : 300 + row + height, 300 + col : 300 + col + width]
            np.testing.assert_array_equal(slide.read(row, col, height, width, level=index), wanted)


def test_label_and_macro_picture_are_never_read(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    import tifffile

    private: set[int] = set()
    with tifffile.TiffFile(written.path) as tiff:
        for page in tiff.pages:
            if np.isin(np.median(page.asarray()), (vendors.LABEL, vendors.MACRO)):
                private |= set(page.dataoffsets)
    assert private
    places: set[int] = set()
    read, lock = segments.PositionedFile.read, threading.Lock()

    def watched(self: segments.PositionedFile, offset: int, size: int) -> bytes:
        with lock:
            places.add(offset)
        return read(self, offset, size)

    monkeypatch.setattr(segments.PositionedFile, "read", watched)
    with open_slide(written.path) as slide:
        for index, level in enumerate(slide.levels):
            slide.read(0, 0, *level.shape, level=index)
        slide.thumbnail(101)
    assert places
    assert not places & private


def test_threads_and_pickles_agree(written: Written) -> None:
    with open_slide(written.path, mpp=0.5) as slide:
        arrived = pickle.loads(pickle.dumps(slide))  # noqa: S301 - of our own making
    boxes = [(row, col, 67, 71) for row in range(-20, 211, 61) for col in range(-20, 307, 83)]
    with arrived, open_slide(written.path) as slide, ThreadPoolExecutor(8) as pool:
        assert arrived.mpp == 0.5
        for region, box in zip(pool.map(lambda box: arrived.read(*box), boxes), boxes, strict=True):
            np.testing.assert_array_equal(region, slide.read(*box))


def on_white(rgba: Any) -> np.ndarray:
    """What OpenSlide left transparent becomes white; nothing here is half transparent."""
    pixels = np.asarray(rgba)
    return np.where(pixels[..., 3:] == 0, 255, pixels[..., :3])


@pytest.mark.parametrize("kind", ["ndpi", "scn", "philips", "bif"])
def test_openslide_sees_the_same_levels_and_pixels(kind: str, tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    written = WRITERS[kind](tmp_path)
    rng = np.random.default_rng(17)
    with open_slide(written.path) as slide, openslide.OpenSlide(str(written.path)) as other:
        vendor = other.properties["openslide.vendor"]
        assert vendor == {"ndpi": "hamamatsu", "scn": "leica", "philips": "philips", "bif": "ventana"}[kind]
        assert slide.mpp == pytest.approx(float(other.properties["openslide.mpp-x"]), rel=1e-3)
        for index, level in enumerate(slide.levels):
            # of Hamamatsu's, OpenSlide makes more levels than there are
            place = min(range(other.level_count), key=lambda i: abs(other.level_downsamples[i] - level.downsample))
            assert other.level_dimensions[place] == level.shape[::-1]
            whole = on_white(other.read_region((0, 0), place, level.shape[::-1]))
            np.testing.assert_array_equal(slide.read(0, 0, *level.shape, level=index), whole)
            for _ in range(9):
                row, col = (int(rng.integers(extent)) for extent in level.shape)
                corner = int(col * level.scale[1]), int(row * level.scale[0])
                theirs = on_white(other.read_region(corner, place, (71, 67)))
                np.testing.assert_array_equal(slide.read(row, col, 67, 71, level=index), theirs)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(211, 613), (213, 503), (208, 512)])
def test_each_piece_of_a_hamamatsu_jpeg_reads_as_if_it_stood_alone(
    tmp_path: Path, subsampling: str, size: tuple[int, int]
) -> None:
    written = vendors.write_ndpi(tmp_path / "scan.ndpi", size=size, subsampling=subsampling)
    with open_slide(written.path) as slide:
        assert slide.shape == size
        for index, pixels in enumerate(written.levels):
            np.testing.assert_array_equal(slide.read(0, 0, *pixels.shape[:2], level=index), pixels)


def test_a_hamamatsu_file_beyond_4_gb_keeps_its_offsets(tmp_path: Path) -> None:
    hole = 2**32 + 12_345_678
    written = vendors.write_ndpi(tmp_path / "large.ndpi", hole=hole)
    assert written.path.stat().st_size > hole
    with open_slide(written.path) as slide:
        for index, pixels in enumerate(written.levels):
            np.testing.assert_array_equal(slide.read(0, 0, *pixels.shape[:2], level=index), pixels)


def test_a_hamamatsu_file_is_known_by_its_tags_not_by_its_suffix(tmp_path: Path) -> None:
    written = vendors.write_ndpi(tmp_path / "renamed.tif")
    with open_slide(written.path) as slide:
        assert slide.format == "Hamamatsu NDPI"
        np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), written.levels[0])


def test_a_hamamatsu_piece_that_does_not_end_is_named(tmp_path: Path) -> None:
    written = vendors.write_ndpi(tmp_path / "scan.ndpi")
    content = written.path.read_bytes()
    restart = content.index(b"\xff\xd0")
    written.path.write_bytes(content[:restart] + b"\0\0" + content[restart + 2 :])
    with open_slide(written.path) as slide, pytest.raises(FileFormatError, match=r"row 0, col 0\) is cut short"):
        slide.read(0, 0, 8, 8)


def test_hamamatsu_without_a_lens_is_refused(tmp_path: Path) -> None:
    written = vendors.write_ndpi(tmp_path / "scan.ndpi")
    content = written.path.read_bytes()
    lens = np.float32([20, 10, 5]).tobytes()
    for place in range(3):
        value = lens[4 * place : 4 * place + 4]
        content = content.replace(b"\x8d\xff\x0b\0\x01\0\0\0" + value, b"\x8d\xff\x0b\0\x01\0\0\0" + bytes(4))
    written.path.write_bytes(content)
    with pytest.raises(FileFormatError, match="none of its 6 images has a lens"):
        open_slide(written.path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"light": "fluorescence"}, "must hold a brightfield scan beside its macro picture.*brightfield, fluorescence"),
        ({"objectives": (20, 40)}, "areas of one objective; their pixels are 0.25, 0.125 µm wide"),
    ],
)
def test_leica_areas_that_are_no_one_slide_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    written = vendors.write_scn(tmp_path / "scan.scn", **options)
    with pytest.raises(FileFormatError, match=said):
        open_slide(written.path)


@pytest.mark.parametrize(
    ("old", "new"), [(b"<collection", b"<collexxxxx"), (b' ifd="', b' xxx="'), (b'sizeX="', b'sizeQ="')]
)
def test_a_damaged_description_of_a_leica_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    written = vendors.write_scn(tmp_path / "scan.scn")
    content = written.path.read_bytes()
    written.path.write_bytes(content.replace(old, new))
    with pytest.raises(FileFormatError, match="must say in XML what its images are.*Copy it again"):
        open_slide(written.path)


def test_a_leica_page_that_is_not_there_is_damage(tmp_path: Path) -> None:
    written = vendors.write_scn(tmp_path / "scan.scn")
    written.path.write_bytes(written.path.read_bytes().replace(b'ifd="6"', b'ifd="9"'))
    with pytest.raises(FileFormatError, match="damaged or truncated"):
        open_slide(written.path)


def test_philips_levels_that_the_xml_does_not_count_are_powers_of_two(tmp_path: Path) -> None:
    written = vendors.write_philips(tmp_path / "scan.tiff", spacings=2)
    with open_slide(written.path) as slide:
        assert [level.downsample for level in slide.levels] == [1, 2, 4, 8]
        assert slide.mpp == pytest.approx(vendors.MPP)
        for index, pixels in enumerate(written.levels):
            np.testing.assert_array_equal(slide.read(0, 0, *pixels.shape[:2], level=index), pixels)


def test_a_philips_without_spacings_has_the_pixel_size_of_its_scan(tmp_path: Path) -> None:
    written = vendors.write_philips(tmp_path / "scan.tiff", spacings=0)
    with open_slide(written.path) as slide:
        assert slide.mpp == pytest.approx(vendors.MPP)


@pytest.mark.parametrize("xml", [b"<DataObjecz", b'"DPUfsImport"'])
def test_a_philips_whose_xml_is_damaged_states_no_pixel_size_but_still_reads(tmp_path: Path, xml: bytes) -> None:
    written = vendors.write_philips(tmp_path / "scan.tiff")
    content = written.path.read_bytes()
    written.path.write_bytes(content.replace(b"</DataObject></Array></Attribute></DataObject>", b"<" * 46))
    with open_slide(written.path) as slide:
        assert slide.format == "Philips TIFF"
        assert slide.mpp_problem == "scan.tiff states no pixel size."
        np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), written.levels[0])


def test_an_absurd_pixel_size_of_a_philips_is_told(tmp_path: Path) -> None:
    with open_slide(vendors.write_philips(tmp_path / "scan.tiff", mpp=250.0).path) as slide:
        assert slide.mpp is None
        assert slide.mpp_problem is not None
        assert "states a pixel size of 250 µm, outside of 0.05-20 µm" in slide.mpp_problem


def test_many_missing_tiles_of_a_philips_are_white(tmp_path: Path) -> None:
    written = vendors.write_philips(tmp_path / "scan.tiff", missing=50)
    with open_slide(written.path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), written.levels[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overlap": (3, 26)}, r"overlap by up to 3 x 26 px \(row, col\). Read it through OpenSlide: pip install"),
        ({"overlap": (0, 1)}, "overlap by up to 0 x 1 px"),
        ({"place": (0, 64)}, "areas that lie where they are stored; these do not. Read it through OpenSlide"),
        ({"z_layers": 3}, "must hold one focal plane; got 3"),
    ],
)
def test_ventana_tiles_that_do_not_lie_as_stored_are_refused(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    written = vendors.write_bif(tmp_path / "scan.bif", **options)
    with pytest.raises(UnreadFormatError, match=said):
        TiffSlide(written.path, None)


def test_ventana_tiles_that_overlap_are_joined_by_openslide_where_it_is_installed(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    written = vendors.write_bif(tmp_path / "scan.bif", overlap=(4, 8))
    with open_slide(written.path) as slide, openslide.OpenSlide(str(written.path)) as other:
        assert slide.shape == other.dimensions[::-1] != written.levels[0].shape[:2]
        assert slide.mpp == vendors.MPP


def test_ventana_tiffs_that_name_no_areas_and_areas_that_were_not_scanned_are_read(tmp_path: Path) -> None:
    for written in (
        vendors.write_bif(tmp_path / "plain.tif", says=False),
        vendors.write_bif(tmp_path / "none.bif", overlap=(5, 5), scanned=0),
    ):
        with open_slide(written.path) as slide:
            np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), written.levels[0])


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        (b"<EncodeInfo", b"<EncodeInf<", UnreadFormatError, "must say in XML how its tiles meet"),
        (b"level=", b"lovel=", FileFormatError, "described as levels; none of its 5 is"),
    ],
)
def test_a_damaged_ventana_is_refused(
    tmp_path: Path, old: bytes, new: bytes, error: type[FileFormatError], said: str
) -> None:
    written = vendors.write_bif(tmp_path / "scan.bif")
    written.path.write_bytes(written.path.read_bytes().replace(old, new))
    with pytest.raises(error, match=said):
        TiffSlide(written.path, None)


def test_fluorescence_in_a_qptiff_is_refused(tmp_path: Path) -> None:
    written = vendors.write_qptiff(tmp_path / "scan.qptiff", channels=5)
    with pytest.raises(FileFormatError, match="brightfield QPTIFF.*holds 5 channels of 1 samples, as fluorescence"):
        open_slide(written.path)


def test_overlapping_trestle_tiles_are_left_to_openslide(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, vendors.smooth(67, 71), photometric="rgb", software="MedScan", metadata=None)
    with pytest.raises(UnreadFormatError, match="Trestle TIFF, whose tiles overlap; it must be read through OpenSlide"):
        open_slide(path)


@pytest.mark.parametrize("share", [0.002, 0.1, 0.5, 0.9])
def test_a_truncated_file_of_any_maker_is_refused(written: Written, share: float) -> None:
    content = written.path.read_bytes()
    written.path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileFormatError, match=r"truncated|damaged|[Cc]opy it again"):
        open_slide(written.path)


def test_a_philips_without_tiles_is_refused(tmp_path: Path) -> None:
    import tifffile

    written = vendors.write_philips(tmp_path / "scan.tiff")
    with tifffile.TiffFile(written.path) as tiff:
        description, software = tiff.pages.first.description, tiff.pages.first.software
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None, "software": software}
    tifffile.imwrite(tmp_path / "flat.tiff", vendors.smooth(67, 71), description=description, **options)
    with pytest.raises(FileFormatError, match="flat.tiff must hold the scan in tiles; none of its images is tiled"):
        open_slide(tmp_path / "flat.tiff")
