"""DICOM slides: layouts, codecs, privacy, damage; against the picture that was written, and against wsidicom."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import wsidicom
from embed_fakes import FakeEncoder
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from slide_files import (
    ACCESSION,
    COLS,
    ENCODERS,
    MPP,
    PATIENT,
    PATIENT_ID,
    ROWS,
    TILE,
    drawn,
    levels_of,
    tiles_of,
    write_dicom,
    write_series,
)

from napari_prospector.errors import FileFormatError, MissingExtraError, ProspectorError, UnreadFormatError
from napari_prospector.tokens.embed import embed_slide
from napari_prospector.tokens.encoders import load_encoder
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.store import TokenGrid

IMAGE = drawn()
GRID = (4, 7)


def read_all(path: Path, **options: Any) -> np.ndarray:
    with open_slide(path, **options) as slide:
        return slide.read(0, 0, *slide.shape)


# --- the real file


def test_a_real_slide_opens_reads_and_embeds(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "histology" / "slides" / "small_dicom.dcm"
    with open_slide(path, mpp=0.5) as slide:
        assert (slide.name, slide.shape, len(slide.levels)) == ("small_dicom.dcm", (2638, 3236), 1)
        # no tag says that its tiles run down the columns; black filling at the lower edge would lie within
        assert slide.format == "DICOM (order of tiles found by their seams)"
        assert slide.thumbnail(300)[:-2, :-2].min(axis=2).mean() > 120
        steps = list(embed_slide(slide, load_encoder("stain-texture"), tmp_path / "real.tokens.zarr"))
        assert steps[-1].done == steps[-1].total > 0
        assert steps[-1].failed == 0
    with open_slide(path) as slide:
        assert slide.mpp_problem == (
            "small_dicom.dcm states pixels of 5.686 x 4.635 µm (row, col), which are not square."
        )


def test_the_tiles_of_a_real_slide_are_those_that_pydicom_decodes(shared: Path) -> None:
    path = shared / "data" / "histology" / "slides" / "small_dicom.dcm"
    dataset = pydicom.dcmread(path)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=42))
    with open_slide(path, mpp=4.6) as slide:
        for number in (0, 1, 5, 6, 17, 41):
            row, col = number % 6 * 500, number // 6 * 500
            height, width = min(500, 2638 - row), min(500, 3236 - col)
            truth = imagecodecs.jpeg8_decode(frames[number])[:height, :width]
            np.testing.assert_array_equal(slide.read(row, col, height, width), truth)


# --- layouts and codecs


@pytest.mark.parametrize("table", ["basic", "extended", "none"])
@pytest.mark.parametrize("codec", ENCODERS)
def test_every_codec_and_table_gives_the_picture(tmp_path: Path, codec: str, table: str) -> None:
    off = np.abs(read_all(write_dicom(tmp_path / "s.dcm", IMAGE, codec=codec, table=table)).astype(int) - IMAGE)
    assert off.max() <= (4 if codec == "jpeg" else 0)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_uncompressed_pixels_of_either_encoding_and_configuration(tmp_path: Path, syntax: str) -> None:
    np.testing.assert_array_equal(read_all(write_dicom(tmp_path / "s.dcm", IMAGE, syntax=syntax)), IMAGE)
    planes = [np.ascontiguousarray(np.moveaxis(tile, -1, 0)) for tile in tiles_of(IMAGE)]
    path = write_dicom(tmp_path / "planes.dcm", IMAGE, syntax=syntax, frames=planes, PlanarConfiguration=1)
    np.testing.assert_array_equal(read_all(path), IMAGE)


def test_run_lengths_are_read(tmp_path: Path) -> None:
    from pydicom.pixels.encoders.native import _encode_frame

    class Runner:
        def get_option(self, name: str, default: Any = None) -> Any:
            return {
                "rows": TILE[0],
                "columns": TILE[1],
                "samples_per_pixel": 3,
                "bits_allocated": 8,
                "byteorder": "<",
            }[name]

        def __getattr__(self, name: str) -> Any:
            return self.get_option(name)

    frames = [bytes(_encode_frame(tile.tobytes(), Runner())) for tile in tiles_of(IMAGE)]  # type: ignore[arg-type]
    ENCODERS["rle"] = ("1.2.840.10008.1.2.5", "RGB", None)
    try:
        path = write_dicom(tmp_path / "s.dcm", IMAGE, codec="rle", frames=frames)
    finally:
        del ENCODERS["rle"]
    np.testing.assert_array_equal(read_all(path), IMAGE)


def test_grey_and_inverted_grey_become_rgb(tmp_path: Path) -> None:
    grey = IMAGE[..., 1]
    path = write_dicom(tmp_path / "s.dcm", grey)
    np.testing.assert_array_equal(read_all(path), np.repeat(grey[..., None], 3, axis=2))
    path = write_dicom(tmp_path / "s.dcm", grey, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_all(path), np.repeat(255 - grey[..., None], 3, axis=2))


def test_luma_and_chroma_that_no_decoder_turns_are_turned(tmp_path: Path) -> None:
    red, green, blue = np.moveaxis(IMAGE.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    ycbcr = np.stack([luma, 128 + (blue - luma) * 0.564, 128 + (red - luma) * 0.713], -1).round().clip(0, 255)
    path = write_dicom(tmp_path / "s.dcm", ycbcr.astype(np.uint8), PhotometricInterpretation="YBR_FULL")
    assert np.abs(read_all(path).astype(int) - IMAGE).max() <= 2


@pytest.mark.parametrize(
    ("stored", "marker", "stated"), [("RGB", True, "YBR_FULL_422"), ("RGB", False, "RGB"), ("YCBCR", True, "RGB")]
)
def test_the_colours_of_a_jpeg_are_those_of_its_marker_else_of_the_file(
    tmp_path: Path, stored: str, marker: bool, stated: str
) -> None:
    frames = []
    for tile in tiles_of(IMAGE):
        options = {"colorspace": "RGB", "outcolorspace": stored, "level": 100, "subsampling": "444"}
        frame = bytes(imagecodecs.jpeg8_encode(tile, **options))
        if not marker:
            place = frame.index(b"\xff\xee")  # Adobe's
            frame = frame[:place] + frame[place + 2 + int.from_bytes(frame[place + 2 : place + 4], "big") :]
        frames.append(frame)
    path = write_dicom(tmp_path / "s.dcm", IMAGE, codec="jpeg", frames=frames, PhotometricInterpretation=stated)
    assert np.abs(read_all(path).astype(int) - IMAGE).max() <= 4


def sparse(places: list[tuple[int, int]]) -> dict[str, Any]:
    """Return the attributes of tiles at (row, col) pixels, counted from 1 in the file."""
    items = []
    for row, col in places:
        position, groups = Dataset(), Dataset()
        position.RowPositionInTotalImagePixelMatrix, position.ColumnPositionInTotalImagePixelMatrix = row + 1, col + 1
        groups.PlanePositionSlideSequence = Items([position])
        items.append(groups)
    return {"DimensionOrganizationType": "TILED_SPARSE", "PerFrameFunctionalGroupsSequence": Items(items)}


def test_sparse_tiles_lie_where_they_say_and_the_rest_is_white(tmp_path: Path) -> None:
    tiles = tiles_of(IMAGE)
    places = [(row * TILE[0], col * TILE[1]) for row in range(GRID[0]) for col in range(GRID[1])]
    kept = [27, 3, 11, 0, 19]
    attributes = sparse([places[i] for i in kept])
    path = write_dicom(tmp_path / "s.dcm", IMAGE, frames=[tiles[i] for i in kept], codec="jpeg 2000", **attributes)
    wanted = np.full_like(IMAGE, 255)
    for i in kept:
        box = tuple(slice(start, start + side) for start, side in zip(places[i], TILE, strict=True))
        wanted[box] = IMAGE[box]
    np.testing.assert_array_equal(read_all(path), wanted)
    # the same, of a file that does not name its organization
    attributes["DimensionOrganizationType"] = None
    path = write_dicom(tmp_path / "s.dcm", IMAGE, frames=[tiles[i] for i in kept], codec="jpeg 2000", **attributes)
    np.testing.assert_array_equal(read_all(path), wanted)


@pytest.mark.parametrize("columns", [False, True])
def test_the_order_of_tiles_that_no_tag_tells_is_found_by_their_seams(tmp_path: Path, columns: bool) -> None:
    row, col = np.mgrid[:ROWS, :COLS]
    smooth = np.stack([row, col * 255 // COLS, 255 - row], -1).astype(np.uint8)
    tiles = tiles_of(smooth)
    order = np.arange(28).reshape(GRID).T.ravel() if columns else np.arange(28)
    frames = [tiles[i] for i in order]
    path = write_dicom(tmp_path / "s.dcm", smooth, frames=frames, DimensionOrganizationType=None)
    np.testing.assert_array_equal(read_all(path), smooth)


def test_a_picture_in_several_files_is_one_level(tmp_path: Path) -> None:
    tiles, folder = tiles_of(IMAGE), tmp_path / "series"
    folder.mkdir()
    parts = {"b.dcm": (0, 11), "a.dcm": (11, 13), "c.dcm": (13, 28)}
    for name, (first, stop) in parts.items():
        attributes = {"SOPInstanceUIDOfConcatenationSource": "1.2.9", "ConcatenationFrameOffsetNumber": first}
        write_dicom(folder / name, IMAGE, frames=tiles[first:stop], codec="jpeg-ls", **attributes)
    np.testing.assert_array_equal(read_all(folder), IMAGE)
    (folder / "a.dcm").unlink()
    with pytest.raises(FileFormatError, match=r"must hold 4 x 7 tiles; 26 are found, in 2 files. A file of the series"):
        open_slide(folder)


def test_wsidicom_reads_the_same_pixels_from_the_same_folder(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", levels_of(IMAGE), codec="jpeg")
    with wsidicom.WsiDicom.open(folder) as other, open_slide(folder) as slide:
        assert [(level.size.height, level.size.width) for level in other.levels] == [i.shape for i in slide.levels]
        assert slide.mpp == pytest.approx(other.levels[0].mpp.width)
        for index, level in enumerate(slide.levels):
            box = slide.read(11, 13, 37, 41, level=index)
            theirs = np.asarray(other.read_region((13, 11), other.levels[index].level, (41, 37)))[..., :3]
            assert np.abs(box.astype(int) - theirs).max() <= 1, level


# --- what is said


@pytest.mark.parametrize(
    ("attributes", "mpp"),
    [
        ({}, MPP),
        ({"SharedFunctionalGroupsSequence": None}, MPP),
        ({"SharedFunctionalGroupsSequence": None, "ImagedVolumeWidth": None}, MPP),
        (dict.fromkeys(("SharedFunctionalGroupsSequence", "ImagedVolumeWidth", "ImagedVolumeHeight")), None),
        ({"SharedFunctionalGroupsSequence": None, "ImagedVolumeWidth": 0.0, "ImagedVolumeHeight": 0.0}, None),
    ],
)
def test_the_pixel_size_is_the_spacing_else_the_size_of_what_was_imaged(
    tmp_path: Path, attributes: dict[str, Any], mpp: float | None
) -> None:
    with open_slide(write_dicom(tmp_path / "s.dcm", IMAGE, **attributes)) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-5))


def test_nothing_that_leads_to_a_patient_leaves_the_file(tmp_path: Path) -> None:
    folder, store = write_series(tmp_path / "series", levels_of(IMAGE)), tmp_path / "s.tokens.zarr"
    said = []
    with open_slide(folder) as slide:
        assert slide.scanner == "Ocular Scan 9"
        said += [repr(slide), json.dumps(slide.__dict__, default=repr)]
        said += [repr(step) for step in embed_slide(slide, FakeEncoder(), store)]
    with TokenGrid.open(store) as grid:
        said.append(json.dumps(dict(grid.attrs)))
    said += [path.read_bytes().decode("latin-1") for path in store.rglob("*") if path.is_file()]
    (folder / "level-0.dcm").write_bytes((folder / "level-0.dcm").read_bytes()[:-5000])
    with pytest.raises(ProspectorError) as refusal:
        open_slide(folder)
    said.append(str(refusal.value))
    secrets = (*PATIENT.split("^"), PATIENT_ID, ACCESSION, "SN-1234567", "1.2.3")
    assert [(secret, text[:200]) for secret in secrets for text in said if secret in text] == []


def test_label_and_overview_are_refused_and_the_volume_asked_for(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", levels_of(IMAGE))
    with pytest.raises(UnreadFormatError, match="must hold a VOLUME image.*it holds: label. .*Name the volume file"):
        open_slide(folder / "a-LABEL.dcm")
    for path in folder.glob("level-*.dcm"):
        path.unlink()
    with pytest.raises(UnreadFormatError, match="it holds: label, overview. Such images may show a patient's name"):
        open_slide(folder)
    for shows, kind in (("YES", "overview"), (None, "unknown")):
        path = write_dicom(tmp_path / "s.dcm", IMAGE, ImageType=None, SpecimenLabelInImage=shows)
        with pytest.raises(UnreadFormatError, match=f"it holds: {kind}"):
            open_slide(path)
    np.testing.assert_array_equal(read_all(write_dicom(tmp_path / "s.dcm", IMAGE, ImageType=None)), IMAGE)


# --- folders


def test_names_and_strangers_in_a_folder_do_not_matter(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", levels_of(IMAGE))
    with open_slide(folder) as slide:
        mark = slide.fingerprint()
    for number, path in enumerate(sorted(folder.glob("level-*.dcm"), reverse=True)):
        path.rename(folder / f"IM{number:06}")
    (folder / "a-LABEL.dcm").unlink()
    (folder / "notes.txt").write_text("not DICOM")
    (folder / ".hidden.dcm").write_bytes(b"x")
    annotations = write_dicom(folder / "annotations.dcm", IMAGE, SOPClassUID="1.2.840.10008.5.1.4.1.1.91.1")
    with open_slide(folder) as slide:
        assert slide.fingerprint() == mark
        assert len(slide.levels) == 3
    with pytest.raises(UnreadFormatError, match="annotations.dcm must be a VL Whole Slide Microscopy Image"):
        open_slide(annotations)


def test_a_folder_of_two_slides_or_of_two_planes_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", levels_of(IMAGE))
    write_dicom(folder / "focus.dcm", IMAGE)
    with pytest.raises(UnreadFormatError, match=r"one picture of each size; it holds two of \(212, 316\) px"):
        open_slide(folder)
    write_dicom(folder / "focus.dcm", IMAGE, SeriesInstanceUID="1.2.3.9")
    with pytest.raises(UnreadFormatError, match="must hold one slide; it holds 2 DICOM series. Put each into a folder"):
        open_slide(folder)


def test_a_picture_of_other_proportions_is_no_level(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", levels_of(IMAGE))
    write_dicom(folder / "strip.dcm", IMAGE[:50])
    with open_slide(folder) as slide:
        assert len(slide.levels) == 3


# --- what is refused, and damage


@pytest.mark.parametrize(
    ("attributes", "came"),
    [
        ({"TotalPixelMatrixFocalPlanes": 3}, "3 focal planes, 1 optical paths"),
        ({"NumberOfOpticalPaths": 4}, "1 focal planes, 4 optical paths"),
        ({"BitsAllocated": 16}, "3 samples of 16 bits"),
        ({"SamplesPerPixel": 4}, "4 samples of 8 bits"),
    ],
)
def test_pixels_that_are_no_picture_are_refused(tmp_path: Path, attributes: dict[str, Any], came: str) -> None:
    path = write_dicom(tmp_path / "s.dcm", IMAGE, **attributes)
    with pytest.raises(UnreadFormatError, match=f"s.dcm must be one plane of 8-bit RGB or grey pixels; got .*{came}"):
        open_slide(path)


def test_compressions_and_layouts_that_are_not_read_are_named(tmp_path: Path) -> None:
    ENCODERS["movie"] = ("1.2.840.10008.1.2.4.100", "RGB", lambda tile: b"\0\0\1\xb3" + bytes(8))
    try:
        path = write_dicom(tmp_path / "movie.dcm", IMAGE, codec="movie")
    finally:
        del ENCODERS["movie"]
    with pytest.raises(UnreadFormatError, match=r"not read \(transfer syntax 1.2.840.10008.1.2.4.100\). Export it as"):
        open_slide(path)
    path = write_dicom(tmp_path / "half.dcm", IMAGE, PhotometricInterpretation="YBR_FULL_422")
    with pytest.raises(UnreadFormatError, match="half.dcm must hold whole pixels; they are YBR_FULL_422"):
        open_slide(path)
    path = write_dicom(tmp_path / "between.dcm", IMAGE, frames=tiles_of(IMAGE)[:1], **sparse([(3, 0)]))
    with pytest.raises(UnreadFormatError, match=r"tiles side by side; one begins at pixel \(3, 0\), and tiles have 64"):
        open_slide(path)


@pytest.mark.parametrize("codec", [None, "jpeg", "jpeg 2000"])
@pytest.mark.parametrize("table", ["basic", "none"])
def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path: Path, codec: str | None, table: str) -> None:
    path = write_dicom(tmp_path / "s.dcm", IMAGE, codec=codec, table=table)
    content = path.read_bytes()
    for length in (140, 700, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"s\.dcm .*([Cc]opy it again|export it anew)"):
            open_slide(path)


@pytest.mark.parametrize("codec", ["jpeg", "jpeg 2000", "jpeg-ls"])
def test_a_damaged_tile_is_named_and_the_others_are_read(tmp_path: Path, codec: str) -> None:
    encoded = [bytes(ENCODERS[codec][2](tile)) for tile in tiles_of(IMAGE)]
    encoded[9] = encoded[9][: len(encoded[9]) // 3] if codec == "jpeg" else bytes(len(encoded[9]))
    path = write_dicom(tmp_path / "s.dcm", IMAGE, codec=codec, frames=encoded)
    with open_slide(path) as slide:
        with pytest.raises(FileFormatError, match=r"s\.dcm: level 0, tile \(row 1, col 2\) cannot be decoded"):
            slide.read(0, 0, ROWS, COLS)
        assert np.abs(slide.read(0, 0, 64, COLS).astype(int) - IMAGE[:64]).max() <= 4


def test_sizes_that_would_not_fit_in_memory_are_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "s.dcm", IMAGE, TotalPixelMatrixRows=2**31, TotalPixelMatrixColumns=2**31)
    with pytest.raises(UnreadFormatError, match="up to 16,000,000 tiles of up to 160,000,000 px; it has"):
        open_slide(path)
    path = write_dicom(tmp_path / "s.dcm", IMAGE, TotalPixelMatrixRows=100_000, TotalPixelMatrixColumns=100_000)
    content = path.read_bytes().replace(b"IS\x02\x0028", b"IS\x02\x0099")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="should have 99 tiles of 9216 bytes; it has .* in all. It is truncated"):
        open_slide(path)


def test_a_file_that_lacks_what_a_picture_needs_is_refused(tmp_path: Path) -> None:
    for name in ("TotalPixelMatrixRows", "Columns", "PhotometricInterpretation"):
        path = write_dicom(tmp_path / "s.dcm", IMAGE, **{name: None})
        with pytest.raises(FileFormatError, match="s.dcm lacks an attribute of a picture in tiles"):
            open_slide(path)
    path = write_dicom(tmp_path / "s.dcm", IMAGE, TotalPixelMatrixRows=0)
    with pytest.raises(FileFormatError, match=r"s.dcm must hold pixels; it has \(0, 316\)"):
        open_slide(path)
    path = write_dicom(tmp_path / "s.dcm", IMAGE, DimensionOrganizationType="TILED_SPARSE")
    with pytest.raises(FileFormatError, match="s.dcm does not say where its tiles lie"):
        open_slide(path)
    path = write_dicom(tmp_path / "s.dcm", IMAGE, **sparse([(0, 0)]))
    with pytest.raises(FileFormatError, match="has 28 tiles and places for 1"):
        open_slide(path)


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "s.dcm", IMAGE)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r'DICOM slides need pydicom: pip install "napari-prospector\[dicom\]"'):
        open_slide(path)


def test_opening_leaves_pydicom_as_strict_as_it_was(tmp_path: Path) -> None:
    before = pydicom.config.settings.reading_validation_mode
    read_all(write_dicom(tmp_path / "s.dcm", IMAGE))
    shutil.copy(tmp_path / "s.dcm", tmp_path / "t.dcm")
    (tmp_path / "t.dcm").write_bytes((tmp_path / "t.dcm").read_bytes()[:300])
    with pytest.raises(FileFormatError):
        open_slide(tmp_path / "t.dcm")
    assert pydicom.config.settings.reading_validation_mode == before
