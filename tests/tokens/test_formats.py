"""Which reader a path gets, by content and by name; and that the page of formats says the same."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slide_files import drawn, levels_of, write_dicom, write_series, write_svs, write_zarr

from napari_prospector.errors import FileFormatError, MissingFileError, ProspectorError, StorageError
from napari_prospector.tokens.formats import READ, SLIDE_SUFFIXES, is_slide_folder
from napari_prospector.tokens.slides import open_slide

IMAGE = drawn()
PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("name", ["case7", "case7.tif", "case7.czi", "case7.svs"])
def test_the_content_counts_and_not_the_name(tmp_path: Path, name: str) -> None:
    with open_slide(write_dicom(tmp_path / name, IMAGE)) as slide:
        assert slide.format == "DICOM"
    with open_slide(write_svs(tmp_path / name, levels_of(IMAGE))) as slide:
        assert slide.format == "Aperio SVS"
    Image.fromarray(IMAGE).save(tmp_path / name, format="PNG")
    with open_slide(tmp_path / name) as slide:
        assert slide.format == "PNG"


def test_a_folder_is_known_by_what_it_holds(tmp_path: Path) -> None:
    with open_slide(write_series(tmp_path / "series", levels_of(IMAGE))) as slide:
        assert slide.format == "DICOM"
    with open_slide(write_zarr(tmp_path / "no suffix", levels_of(IMAGE))) as slide:
        assert slide.format == "OME-Zarr 0.5"
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "case7.svs").touch()
    with pytest.raises(
        FileFormatError, match=r"scans must be a slide; it is a folder. Name the files in it. Of folders"
    ):
        open_slide(tmp_path / "scans")
    found = {name: is_slide_folder(tmp_path / name) for name in ("series", "no suffix", "scans")}
    assert found == {"series": True, "no suffix": True, "scans": False}
    (tmp_path / "no suffix" / "zarr.json").write_text("{")
    assert not is_slide_folder(tmp_path / "no suffix")


def test_a_folder_that_the_system_cannot_read_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", failing)
    with pytest.raises(StorageError, match="cannot be read: Permission denied"):
        open_slide(tmp_path)


@pytest.mark.parametrize("path", ["https://example.org/case7.ome.zarr", "s3://bucket/case7.svs"])
def test_an_address_is_a_path_that_is_not_there(path: str) -> None:
    with pytest.raises(MissingFileError, match="There is no slide"):
        open_slide(path)


@given(st.binary(max_size=300), st.sampled_from([*sorted(SLIDE_SUFFIXES), ".txt", ""]))
def test_any_content_under_any_name_is_refused_in_our_own_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"case7{suffix}"
    path.write_bytes(content)
    with pytest.raises(ProspectorError, match="case7"):
        open_slide(path)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # it tells what it makes of the damage
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_a_damaged_head_of_dicom_never_ends_in_a_stranger_error(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_bytes: int
) -> None:
    path = write_dicom(tmp_path_factory.mktemp("damaged") / "case7.dcm", IMAGE[:64, :96], codec="jpeg")
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    for place in generator.integers(132, min(1500, len(content)), n_bytes):
        content[place] = generator.integers(256)
    path.write_bytes(content)
    try:
        with open_slide(path) as slide:
            slide.read(0, 0, *np.minimum(slide.shape, 200))
    except ProspectorError:
        pass


def test_the_page_names_what_is_read_and_what_is_not() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for word in re.findall(r"[A-Z][A-Za-z-]*[A-Z][A-Za-z]*", READ):
        assert word in text, word
    for suffix in ("iSyntax", "VSI", "OIR", "ND2", "LIF", "NDPIS", ".zip"):
        assert suffix in text


def test_a_folder_of_several_slides_is_no_dicom_series_though_one_of_them_is_dicom(tmp_path: Path) -> None:
    write_series(tmp_path / "scans", levels_of(IMAGE))
    (tmp_path / "scans" / "case7.svs").touch()
    with pytest.raises(FileFormatError, match=r"one DICOM series to be a slide; it holds 'case7\.svs' too"):
        open_slide(tmp_path / "scans")
