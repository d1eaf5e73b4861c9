"""Pictures of tokens: the pixels that the encoder got, from the right slide, or a sentence why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import slide_files
from embed_fakes import FakeSlide, speckled

from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, MissingFileError
from napari_prospector.tokens import tilepictures
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.slides import Slide, open_slide
from napari_prospector.tokens.store import TokenGrid
from napari_prospector.tokens.tilepictures import (
    TilePictures,
    no_picture,
    open_slide_of,
    slide_thumbnail,
    tile_picture,
    tile_pictures,
)
from napari_prospector.tokens.tilereader import TileReader

CARD = {"name": "toy", "n_dims": 3, "weights_sha256": "ab", "tile_px": 24, "mpp": 0.94}


@pytest.mark.parametrize("stride_px", [None, 7])
@pytest.mark.parametrize("tile_mpp", [0.25, 0.5, 0.8])
def test_at_the_encoders_size_a_picture_is_what_the_encoder_saw(tile_mpp: float, stride_px: int | None) -> None:
    slide = FakeSlide(speckled(), mpp=0.25, factors=(1, 2, 4))
    geometry = GridGeometry.cover(slide.shape, 0.25, 16, tile_mpp, stride_px)
    tokens = np.argwhere(np.ones(geometry.shape, bool))[::5]
    seen = {tuple(token): TileReader(slide, geometry).read(token[None]).pixels[0] for token in tokens}
    for (row, col), pixels in seen.items():
        np.testing.assert_array_equal(tile_picture(slide, geometry, row, col, size_px=16), pixels)


@pytest.mark.parametrize(("size_px", "level"), [(32, 0), (31, 0), (16, 1), (9, 1), (8, 2), (3, 2)])
def test_a_small_picture_is_read_from_the_coarsest_level_that_holds_it(size_px: int, level: int) -> None:
    slide = FakeSlide(speckled(), mpp=0.25, factors=(1, 2, 4))
    geometry = GridGeometry.cover(slide.shape, 0.25, 16, 0.5)
    assert tile_picture(slide, geometry, 2, 1, size_px=size_px).shape == (size_px, size_px, 3)
    assert {read[-1] for read in slide.reads} == {level}


@pytest.mark.parametrize("context", [1.0, 1.5, 3.0, 0.5])
def test_surroundings_lie_round_the_centre_and_are_white_outside(context: float) -> None:
    image = speckled()
    slide, geometry = FakeSlide(image), GridGeometry.cover(image.shape[:2], 0.5, 16, 0.5)
    side = round(16 * context)
    margin = (side - 16) // 2
    padded = np.pad(image, ((32, 64), (32, 64), (0, 0)), constant_values=255)
    for row, col in [(0, 0), (3, 5), (geometry.rows - 1, geometry.cols - 1)]:
        top, left = 32 + 16 * row - margin, 32 + 16 * col - margin
        expected = padded[top : top + side, left : left + side]
        np.testing.assert_array_equal(tile_picture(slide, geometry, row, col, context, side), expected)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"row": 99}, r"lie in a grid of 11 x 13 tokens; got \(99, 0\)"),
        ({"col": -1}, r"got \(0, -1\)"),
        ({"context": 0}, "context must be a number above 0, in widths of the tile; got 0"),
        ({"context": True}, "context must be a number above 0"),
        ({"size_px": 0}, "size_px must be a whole number from 1 to 4096; got 0"),
        ({"size_px": 2.5}, "size_px must be a whole number"),
        ({"context": 300.0}, "which has no coarse level to read 300 widths of a tile from"),
    ],
)
def test_impossible_pictures_are_refused(wrong: dict[str, float], why: str) -> None:
    image = speckled()
    slide, geometry = FakeSlide(image), GridGeometry.cover(image.shape[:2], 0.5, 16, 0.5)
    with pytest.raises(InvalidInputError, match=why):
        tile_picture(slide, geometry, **{"row": 0, "col": 0, **wrong})


def test_a_damaged_tile_is_refused_alone_and_hatched_among_others() -> None:
    slide = FakeSlide(speckled())
    geometry = GridGeometry.cover(slide.shape, 0.5, 16, 0.5)
    slide.damaged = [(2 * 16 + 5, 3 * 16 + 5)]
    with pytest.raises(FileFormatError, match="cannot be decoded"):
        tile_picture(slide, geometry, 2, 3)
    found = dict(tile_pictures(slide, geometry, [(2, 3), (1, 1)], size_px=16))
    assert found[1].problem is None
    assert "cannot be decoded" in str(found[0].problem)
    np.testing.assert_array_equal(found[0].pixels, no_picture(16))


def test_many_tiles_are_read_in_the_order_of_the_file_and_told_by_their_place() -> None:
    slide = FakeSlide(speckled())
    geometry = GridGeometry.cover(slide.shape, 0.5, 16, 0.5)
    tokens = [(5, 1), (0, 7), (5, 0), (0, 2)]
    found = list(tile_pictures(slide, geometry, tokens, size_px=16))
    assert [index for index, _ in found] == [3, 1, 2, 0]
    assert [read[:2] for read in slide.reads] == [(0, 32), (0, 112), (80, 0), (80, 16)]
    for index, picture in found:
        np.testing.assert_array_equal(picture.pixels, tile_picture(slide, geometry, *tokens[index], size_px=16))


def test_no_picture_is_light_and_no_tissue() -> None:
    pixels = no_picture(41)
    assert (pixels.shape, pixels.dtype) == ((41, 41, 3), np.uint8)
    assert pixels.min() > 200
    assert len(np.unique(pixels)) == 2


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "private"
    folder.mkdir()
    levels = [slide_files.levels_of(slide_files.drawn(seed=seed)) for seed in range(3)]
    return [slide_files.write_tiff(folder / f"case{seed}.tif", images) for seed, images in enumerate(levels)]


def grid_of(path: Path, out: Path) -> TokenGrid:
    with open_slide(path) as slide:
        geometry = GridGeometry.cover(slide.shape, slide.require_mpp(), 24, 2 * slide.require_mpp())
        TokenGrid.create(out, geometry, CARD, slide.name, slide.fingerprint(), slide.shape).close()
    return TokenGrid.open(out)


@pytest.fixture
def grids(slides: list[Path], tmp_path: Path) -> list[TokenGrid]:
    return [grid_of(path, tmp_path / "tokens" / f"{path.name}.tokens.zarr") for path in slides]


def test_a_grid_takes_its_own_slide_wherever_that_lies(grids: list[TokenGrid], slides: list[Path]) -> None:
    moved = slides[0].with_name("renamed.tif")
    shutil.move(slides[0], moved)
    with open_slide_of(grids[0], moved) as slide:
        assert slide.name == "renamed.tif"


def test_a_slide_that_is_another_is_refused(grids: list[TokenGrid], slides: list[Path]) -> None:
    with pytest.raises(MismatchError, match="case1.tif must be the slide that case0.tif.tokens.zarr was made from"):
        open_slide_of(grids[0], slides[1])


def test_a_slide_that_is_gone_or_unknown_is_told(grids: list[TokenGrid], slides: list[Path]) -> None:
    slides[0].unlink()
    with pytest.raises(MissingFileError, match="case0.tif is not there any more; there is only its token grid"):
        open_slide_of(grids[0], slides[0])
    with pytest.raises(MissingFileError, match="Where case0.tif lies is not known"):
        open_slide_of(grids[0], None)


def test_pictures_of_many_slides_open_each_once_and_are_kept(
    grids: list[TokenGrid], slides: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Slide] = []
    closed: list[str] = []

    def watched(path: Path, mpp: float | None = None) -> Slide:
        slide = open_slide(path, mpp)
        close = slide.close

        def closing() -> None:
            closed.append(slide.name)
            close()

        slide.close = closing  # type: ignore[method-assign]
        opened.append(slide)
        return slide

    monkeypatch.setattr(tilepictures, "open_slide", watched)
    pictures = TilePictures(grids, slides, size_px=24)
    places = [(2, 0, 1), (0, 3, 2), (2, 1, 1), (0, 0, 0), (2, 0, 1)]
    found = dict(pictures.pictures(places))
    assert sorted(found) == list(range(5))
    assert [slide.name for slide in opened] == closed == ["case0.tif", "case2.tif"]
    for index, (number, row, col) in enumerate(places):
        with open_slide(slides[number]) as slide:
            expected = tile_picture(slide, grids[number].geometry, row, col, size_px=24)
        np.testing.assert_array_equal(found[index].pixels, expected)
    assert pictures.picture(2, 1, 1) is found[2]
    assert len(opened) == 2


def test_no_more_pictures_are_kept_than_were_allowed_and_those_wanted_last(
    grids: list[TokenGrid], slides: list[Path]
) -> None:
    pictures = TilePictures(grids, slides, most_kept=2)
    first, second = pictures.picture(0, 0, 0), pictures.picture(0, 0, 1)
    assert pictures.picture(0, 0, 0) is first
    pictures.picture(0, 0, 2)
    assert pictures.picture(0, 0, 0) is first
    assert pictures.picture(0, 0, 1) is not second


def test_a_slide_that_cannot_be_shown_does_not_hide_the_others_and_no_folder_is_told(
    grids: list[TokenGrid], slides: list[Path]
) -> None:
    slides[2].write_bytes(slides[2].read_bytes()[:500])
    pictures = TilePictures(grids, [slides[0], None, slides[2]])
    found = dict(pictures.pictures([(1, 0, 0), (2, 0, 0), (0, 0, 0)]))
    assert found[2].problem is None
    assert "Where case1.tif lies is not known" in str(found[0].problem)
    assert "case2.tif" in str(found[1].problem)
    assert "private" not in str(found[1].problem)
    np.testing.assert_array_equal(found[0].pixels, no_picture(96))
    # it may be brought back: nothing of this is kept
    shutil.copy(slides[0], slides[2].with_name("copy.tif"))
    again = TilePictures(grids, [slides[2].with_name("copy.tif"), None, None])
    assert again.picture(0, 0, 0).problem is None


def test_wrong_numbers_and_lengths_are_refused(grids: list[TokenGrid], slides: list[Path]) -> None:
    pictures = TilePictures(grids, slides)
    with pytest.raises(InvalidInputError, match="slide must be a number from 0 to 2; got 3"):
        pictures.picture(3, 0, 0)
    with pytest.raises(InvalidInputError, match="row and col must lie in a grid"):
        pictures.picture(0, 99, 0)
    with pytest.raises(MismatchError, match="one entry for each slide; got 3, 1 and 3"):
        TilePictures(grids, slides[:1])


@pytest.mark.parametrize("most_px", [160, 53, 1])
def test_a_thumbnail_keeps_the_proportions(most_px: int) -> None:
    slide = FakeSlide(speckled(), factors=(1, 2, 4))
    image = slide_thumbnail(slide, most_px)
    rows, cols = slide.shape
    assert image.shape == (max(1, round(most_px * rows / cols)), most_px, 3)
    np.testing.assert_allclose(image.mean((0, 1)), slide.images[0].mean((0, 1)), atol=3)


def test_a_thumbnail_of_a_small_slide_is_the_slide() -> None:
    slide = FakeSlide(speckled())
    np.testing.assert_array_equal(slide_thumbnail(slide, 4000), slide.images[0])


def test_a_thumbnail_reads_a_coarse_level_alone() -> None:
    slide = FakeSlide(speckled(), factors=(1, 2, 4))
    slide_thumbnail(slide, 25)
    assert {read[-1] for read in slide.reads} == {2}


def test_a_thumbnail_of_no_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="most_px must be a whole number from 1 to 4096; got 0"):
        slide_thumbnail(FakeSlide(speckled()), 0)


def test_a_thumbnail_never_shows_the_label(tmp_path: Path) -> None:
    path = slide_files.write_series(tmp_path / "series", slide_files.levels_of(slide_files.drawn()))
    with open_slide(path) as slide:
        image = slide_thumbnail(slide, 40)
    assert image.shape[:2] == (27, 40)
    assert not np.isin(image, (7, 9)).all(axis=2).any()


def test_patches_are_shown_with_what_is_beside_them(slides: list[Path], tmp_path: Path) -> None:
    with open_slide(slides[0]) as slide:
        tiles = GridGeometry(3, 5, tile=48, stride=48, origin=(0, 0), slide_mpp=slide.require_mpp(), tile_px=24)
        patches = GridGeometry(9, 15, tile=16, stride=16, origin=(0, 0), slide_mpp=slide.require_mpp(), tile_px=8)
        out = tmp_path / "patches.tokens.zarr"
        place = out, patches, CARD, slide.name, slide.fingerprint(), slide.shape
        TokenGrid.create(*place, tiles=tiles).close()
        expected = {context: tile_picture(slide, patches, 4, 7, context, 48) for context in (1.0, 3.0)}
    grid = TokenGrid.open(out)
    for context, shown in ((None, 3.0), (1.0, 1.0)):
        pictures = TilePictures([grid], [slides[0]], context=context, size_px=48)
        np.testing.assert_array_equal(pictures.picture(0, 4, 7).pixels, expected[shown])
