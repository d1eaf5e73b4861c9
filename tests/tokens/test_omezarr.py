"""OME-Zarr against the picture that was written: axes, versions, scales, gaps, damage, and what is no slide."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from slide_files import COLS, MPP, ROWS, drawn, levels_of, write_zarr

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    ProspectorError,
    StorageError,
    UnreadFormatError,
)
from napari_prospector.tokens.slides import open_slide

IMAGE = drawn()
LEVELS = levels_of(IMAGE)
MISSING_CHUNKS = {"0.4": "0/0/1/2", "0.5": "0/c/0/1/2"}


def metadata_of(path: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Return the file of a group's metadata, its content, and the OME attributes in it."""
    if (path / "zarr.json").is_file():
        content = json.loads((path / "zarr.json").read_text())
        return path / "zarr.json", content, content["attributes"]["ome"]
    content = json.loads((path / ".zattrs").read_text())
    return path / ".zattrs", content, content


def change(path: Path, **attributes: Any) -> Path:
    """Change the first multiscale of a group."""
    file, content, ome = metadata_of(path)
    ome["multiscales"][0].update(attributes)
    file.write_text(json.dumps(content))
    return path


def write_levels(path: Path, *transformations: list[dict[str, Any]], images: Any = LEVELS, **options: Any) -> Path:
    """Write a slide and replace the transformations of its levels."""
    write_zarr(path, images, **options)
    steps = zip(range(len(images)), transformations, strict=True)
    return change(path, datasets=[{"path": str(i), "coordinateTransformations": step} for i, step in steps])


def scale(*numbers: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(numbers)}


def shift(*numbers: float) -> dict[str, Any]:
    return {"type": "translation", "translation": list(numbers)}


# --- what is read


@pytest.mark.parametrize("axes", ["cyx", "tczyx", "czyx", "zcyx", "tcyx", "yxc", "zyxc", "xyc"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_any_order_of_axes_is_read(tmp_path: Path, axes: str, version: str) -> None:
    path = write_zarr(tmp_path / "s.zarr", LEVELS, version, axes)
    with open_slide(path) as slide:
        assert slide.format == f"OME-Zarr {version}"
        for index, image in enumerate(LEVELS):
            np.testing.assert_array_equal(slide.read(0, 0, *image.shape[:2], level=index), image)


@pytest.mark.parametrize("axes", ["yx", "cyx"])
def test_grey_becomes_rgb(tmp_path: Path, axes: str) -> None:
    with open_slide(write_zarr(tmp_path / "s.zarr", [IMAGE[..., 1]], axes=axes)) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), np.repeat(IMAGE[..., 1:2], 3, axis=2))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("listed", [None, ["1", "0"]])
def test_the_first_image_of_bioformats2raw_is_the_slide(tmp_path: Path, version: str, listed: list[str] | None) -> None:
    path, first = tmp_path / "s.zarr", "0" if listed is None else listed[0]
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    layout: dict[str, Any] = {"bioformats2raw.layout": 3}
    group.attrs.update({"ome": {"version": "0.5", **layout}} if version == "0.5" else layout)
    ome = group.create_group("OME")
    if listed:
        ome.attrs.update({"ome": {"series": listed}} if version == "0.5" else {"series": listed})
    write_zarr(path / first, LEVELS, version)
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    described = '<Instrument><Microscope Manufacturer="Ocular" Model="Scan 9"/></Instrument>'
    (path / "OME" / "METADATA.ome.xml").write_text(f'<OME xmlns="{namespace}">{described}</OME>')
    with open_slide(path) as slide:
        assert (slide.name, slide.shape, slide.scanner) == ("s.zarr", (ROWS, COLS), "Ocular Scan 9")
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), IMAGE)


def test_channels_that_are_red_green_and_blue_are_a_picture(tmp_path: Path) -> None:
    colours = [{"color": colour} for colour in ("FF0000", "00FF00", "0000FF")]
    with open_slide(write_zarr(tmp_path / "s.zarr", LEVELS, omero={"channels": colours})) as slide:
        assert len(slide.levels) == 3


@pytest.mark.parametrize(
    ("unit", "pixel", "mpp"),
    [
        ("micrometer", 0.25, 0.25),
        ("nanometer", 250.0, 0.25),
        ("millimeter", 0.00025, 0.25),
        ("angstrom", 2500.0, 0.25),
        (None, 1.0, None),
        ("parsec", 0.25, None),
        ("second", 0.25, None),
    ],
)
def test_the_pixel_size_is_the_scale_in_its_unit(
    tmp_path: Path, unit: str | None, pixel: float, mpp: float | None
) -> None:
    with open_slide(write_zarr(tmp_path / "s.zarr", LEVELS, unit=unit, pixel=pixel)) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp))
        assert (slide.mpp_problem is None) == (mpp is not None)


def test_the_transformation_of_all_levels_counts_too(tmp_path: Path) -> None:
    path = change(write_zarr(tmp_path / "s.zarr", LEVELS), coordinateTransformations=[scale(1, 0.5, 0.5)])
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(MPP / 2)
        assert [level.scale for level in slide.levels] == [(1, 1), (2, 2), (4, 4)]


def test_levels_have_the_scale_that_they_state_where_their_size_agrees(tmp_path: Path) -> None:
    # 212 / 71 is 2.99, and 316 / 105 is 3.01: the writer says 2.98 and 3.0
    small = IMAGE[::3, ::3][:71, :105]
    stated = [[scale(1, 1, 1)], [scale(1, 2.98, 3.0)]]
    with open_slide(write_levels(tmp_path / "s.zarr", *stated, images=[IMAGE, small])) as slide:
        assert slide.levels[1].scale == (2.98, 3.0)


@pytest.mark.parametrize("steps", [[scale(1, 0.5, 0.5)], [], [{"type": "identity"}], [scale(1, 0, 0)]])
def test_a_scale_that_cannot_be_meant_gives_way_to_the_size(tmp_path: Path, steps: list[dict[str, Any]]) -> None:
    first = [scale(1, 0.5, 0.5)]
    with open_slide(write_levels(tmp_path / "s.zarr", first, steps, images=LEVELS[:2])) as slide:
        assert slide.levels[1].scale == (2.0, 2.0)


def test_a_level_that_begins_elsewhere_is_left_out(tmp_path: Path) -> None:
    # the second as averaging 2 x 2 pixels places it; the third is off by 40 pixels of level 0
    steps = [[scale(1, 1, 1)], [scale(1, 2, 2), shift(0, 0.5, 0.5)], [scale(1, 4, 4), shift(0, 40, 1.5)]]
    with open_slide(write_levels(tmp_path / "s.zarr", *steps)) as slide:
        assert [level.shape for level in slide.levels] == [(ROWS, COLS), (106, 158)]


# --- gaps and damage


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_chunks_that_are_missing_hold_the_fill_value(tmp_path: Path, version: str) -> None:
    path = write_zarr(tmp_path / "s.zarr", LEVELS, version, chunk={"c": 3})
    (path / MISSING_CHUNKS[version]).unlink()
    wanted = IMAGE.copy()
    wanted[64:128, 96:144] = 0
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, ROWS, COLS), wanted)


@pytest.mark.parametrize(("version", "shards"), [("0.4", None), ("0.5", None), ("0.5", {"c": 3, "y": 64, "x": 96})])
def test_a_damaged_chunk_is_named_and_the_others_are_read(
    tmp_path: Path, version: str, shards: dict[str, int] | None
) -> None:
    path = write_zarr(tmp_path / "s.zarr", LEVELS, version, chunk={"c": 3}, shards=shards)
    file = path / ("0/c/0/1/1" if shards else MISSING_CHUNKS[version])
    content = bytearray(file.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    file.write_bytes(content[: len(content) if shards else len(content) // 2])
    with open_slide(path) as slide:
        with pytest.raises(FileFormatError, match=r"s\.zarr: level 0, chunk \(row 1, col 2\) of array '0' cannot be"):
            slide.read(0, 0, ROWS, COLS)
        np.testing.assert_array_equal(slide.read(0, 0, 64, COLS), IMAGE[:64])
        np.testing.assert_array_equal(slide.read(0, 0, 106, 158, level=1), LEVELS[1])


def test_a_disk_that_went_away_is_not_read_as_fill_values(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "s.zarr", LEVELS)
    with open_slide(path) as slide:
        shutil.move(path, tmp_path / "elsewhere.zarr")
        with pytest.raises(StorageError, match="zarr.json is gone. Check that the disk"):
            slide.read(0, 0, 7, 11)


@pytest.mark.parametrize("content", ["{", "[]", '{"zarr_format": 3, "node_type": "group", "attributes": {"ome": '])
def test_metadata_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    path = write_zarr(tmp_path / "s.zarr", LEVELS)
    (path / "zarr.json").write_text(content)
    with pytest.raises(FileFormatError, match="s.zarr/zarr.json must .*copy it again"):
        open_slide(path)


@pytest.mark.parametrize("key", ["datasets", "axes"])
def test_incomplete_metadata_never_ends_in_a_stranger_error(tmp_path: Path, key: str) -> None:
    values: list[Any] = [None, [], {}, "x", [{}], [7], [{"path": "nowhere"}], [{"name": "y"}, {"name": "y"}]]
    for number, value in enumerate(values):
        path = change(write_zarr(tmp_path / f"{number}.zarr", LEVELS[:1]), **{key: value})
        with pytest.raises(FileFormatError, match=f"{number}.zarr"):
            open_slide(path)


def test_a_level_whose_array_is_damaged_is_refused(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "s.zarr", LEVELS)
    (path / "1" / "zarr.json").write_text("{}")
    with pytest.raises(ProspectorError, match=r"s\.zarr: level '1' cannot be opened"):
        open_slide(path)
    (path / "1" / "zarr.json").unlink()
    with pytest.raises(FileFormatError, match=r"must hold the level '1' that it lists; it is missing"):
        open_slide(path)


# --- what is no slide


def test_a_folder_that_is_no_ome_zarr_says_what_it_is(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w")
    group.create_array("0", shape=(3, 5, 7), dtype="uint8")
    for name, came in ((".", "a zarr folder without multiscales"), ("0", "a zarr folder without multiscales")):
        with pytest.raises(FileFormatError, match=f"must be an OME-Zarr image; it is {came}"):
            open_slide(tmp_path / "s.zarr" / name)
    group.attrs["ome"] = {"version": "0.5", "plate": {}}
    with pytest.raises(FileFormatError, match="it is a plate of many images. Name the folder of one image"):
        open_slide(tmp_path / "s.zarr")
    shutil.move(tmp_path / "s.zarr" / "0", tmp_path / "s.tokens.zarr")
    with pytest.raises(FileFormatError, match="it is a token grid, which was made from a slide. Name the slide"):
        open_slide(tmp_path / "s.tokens.zarr")


def test_pixels_that_are_no_picture_are_refused(tmp_path: Path) -> None:
    two = np.stack([IMAGE[..., 0], IMAGE[..., 1]], axis=-1)
    with pytest.raises(UnreadFormatError, match=r"c = 3 or 1, uint8\); got c = 2, uint8. Export it as 8-bit RGB"):
        open_slide(write_zarr(tmp_path / "two.zarr", [two]))
    path = write_zarr(tmp_path / "wide.zarr", [IMAGE])
    zarr.open_group(str(path)).create_array("0", shape=(3, ROWS, COLS), dtype="uint16", overwrite=True)
    with pytest.raises(UnreadFormatError, match="got c = 3, uint16"):
        open_slide(path)
    path = write_zarr(tmp_path / "deep.zarr", [IMAGE], axes="czyx")
    zarr.open_group(str(path)).create_array("0", shape=(3, 5, 7, 11), dtype="uint8", overwrite=True)
    with pytest.raises(UnreadFormatError, match="must be one plane; got .*'z': 5.*Export one plane"):
        open_slide(path)
    colours = [{"color": colour} for colour in ("0000FF", "00FF00", "FF0000")]
    with pytest.raises(UnreadFormatError, match="shown in the colours 0000FF, 00FF00, FF0000, as fluorescence is"):
        open_slide(write_zarr(tmp_path / "stains.zarr", [IMAGE], omero={"channels": colours}))
    path = write_zarr(tmp_path / "flat.zarr", [IMAGE])
    zarr.open_group(str(path)).create_array("0", shape=(3, ROWS), dtype="uint8", overwrite=True)
    with pytest.raises(FileFormatError, match=r"must have the axes c, y, x; its shape is \(3, 212\)"):
        open_slide(path)


def test_a_chunk_that_would_not_fit_in_memory_is_refused(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "s.zarr", [IMAGE])
    extent = (3, 20_011, 20_021)
    zarr.open_group(str(path)).create_array("0", shape=extent, chunks=extent, dtype="uint8", overwrite=True)
    with pytest.raises(UnreadFormatError, match="chunks of at most 512 MB; one has .*Write it anew in chunks"):
        open_slide(path)


def test_other_versions_are_refused(tmp_path: Path) -> None:
    for version in ("0.1", "0.6.dev1"):
        path = change(write_zarr(tmp_path / f"{version}.zarr", [IMAGE], "0.4"), version=version)
        with pytest.raises(UnreadFormatError, match=f"must be OME-Zarr 0.4 or 0.5; it is of version {version}"):
            open_slide(path)
    path = change(write_zarr(tmp_path / "names.zarr", [IMAGE], "0.4"), axes=["c", "y", "x"])
    with pytest.raises(UnreadFormatError, match="must be OME-Zarr 0.4 or 0.5"):
        open_slide(path)
    axes = [{"name": name} for name in ("c", "y", "w")]
    with pytest.raises(UnreadFormatError, match="must have the axes y and x, and of t, c, z any; got c, y, w"):
        open_slide(change(write_zarr(tmp_path / "w.zarr", [IMAGE]), axes=axes))


@pytest.mark.parametrize(
    "place", ["../other.zarr/0", "/etc", "https://example.org/slide.zarr/0", "s3://bucket/0", "..\\x"]
)
def test_pixels_are_never_looked_for_outside_of_the_folder(tmp_path: Path, place: str) -> None:
    write_zarr(tmp_path / "other.zarr", [IMAGE])
    path = change(write_zarr(tmp_path / "s.zarr", [IMAGE]), datasets=[{"path": place}])
    with pytest.raises(FileFormatError, match="s.zarr must hold its own pixels; they lie at"):
        open_slide(path)


# --- identity


def test_the_fingerprint_sees_pixels_and_geometry_but_not_names_and_labels(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "s.zarr", LEVELS)

    def mark() -> str:
        with open_slide(path) as slide:
            return slide.fingerprint()

    first = mark()
    change(path, name="renamed")
    zarr.open_group(str(path), mode="r+").create_group("labels")
    (path / ".DS_Store").touch()
    assert mark() == first
    (path / "0/c/0/0/0").write_bytes((path / "0/c/1/0/0").read_bytes())
    second = mark()
    (path / "2/c/0/0/0").unlink()
    assert len({first, second, mark()}) == 3


def test_the_fingerprint_of_a_slide_of_many_chunks_reads_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_prospector.tokens import omezarr

    read: list[Path] = []
    monkeypatch.setattr(omezarr, "file_fingerprint", lambda path, n_samples: read.append(path) or "mark")
    with open_slide(write_zarr(tmp_path / "s.zarr", LEVELS, chunk={"y": 8, "x": 8})) as slide:
        slide.fingerprint()
    assert len(read) == 2 * 3 * 16
    assert {path.relative_to(tmp_path / "s.zarr").parts[0] for path in read} == {"0", "2"}


def test_a_closed_slide_keeps_nothing(tmp_path: Path) -> None:
    slide: Any = open_slide(write_zarr(tmp_path / "s.zarr", LEVELS))
    slide.read(3, 5, 67, 71)
    assert slide._cache._segments
    slide.close()
    assert not slide._cache._segments
    with pytest.raises(InvalidInputError, match="s.zarr is closed"):
        slide.read(0, 0, 1, 1)
