import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from small_study import COLS, MPP, ROWS, TILE, Study, draw, write_table

from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import FAILED, TokenGrid


def test_slides_become_finished_token_grids_and_a_second_run_changes_nothing(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    words = ("embed", study.slide(0), study.slide(1), "-o", tmp_path / "t é", "--tissue", "all")
    code, out, err = prospect(*words)
    assert code == 0
    assert f"slide 0.tif: {ROWS * COLS} tokens" in out
    grids = sorted((tmp_path / "t é").iterdir())
    before = {path: path.stat().st_mtime_ns for grid in grids for path in grid.rglob("*")}
    assert prospect(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for grid in grids for path in grid.rglob("*")} == before


def test_json_tells_encoder_and_every_slide(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    zero = tmp_path / "zero.tif"
    zero.touch()
    code, found = prospect_json("embed", study.slide(0), zero, "-o", study.tokens, "--tissue", "all")
    assert code == 3
    assert found["encoder"]["name"] == "stain-texture"
    assert [(row["slide"], row["done"], row["error"] is None) for row in found["slides"]] == [
        ("slide 0.tif", ROWS * COLS, True),
        ("zero.tif", 0, False),
    ]


def _truncated(study: Study, folder: Path) -> Path:
    path = folder / "truncated.tif"
    path.write_bytes(study.slide(0).read_bytes()[:-30_000])
    return path


def _empty(study: Study, folder: Path) -> Path:
    path = folder / "zero.tif"
    path.touch()
    return path


def _text(study: Study, folder: Path) -> Path:
    path = folder / "text.svs"
    path.write_text("no slide")
    return path


def _white(study: Study, folder: Path) -> Path:
    return write_pyramid(folder / "white.tif", np.full((701, 503, 3), 244, np.uint8), MPP)


def _missing(study: Study, folder: Path) -> Path:
    return folder / "nowhere.svs"


def _folder(study: Study, folder: Path) -> Path:
    return study.folder / "slides"


def _without_pixel_size(study: Study, folder: Path) -> Path:
    from PIL import Image

    path = folder / "plain.png"
    Image.fromarray(draw(1, np.zeros((ROWS, COLS), bool))).save(path)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_truncated, "truncated"),
        (_empty, "is empty"),
        (_text, "by its content"),
        (_white, "must show tissue"),
        (_missing, "There is no slide"),
        (_folder, "it is a folder"),
        (_without_pixel_size, "states no pixel size. Pass mpp="),
    ],
)
def test_a_slide_that_cannot_be_embedded_is_refused_and_nothing_is_left(
    make: Any, reason: str, study: Study, prospect: Any, tmp_path: Path
) -> None:
    code, out, err = prospect("embed", make(study, tmp_path), "-o", tmp_path / "tokens")
    assert code == 1
    assert out == ""
    assert "Error: " in err
    assert reason in err
    assert "Traceback" not in err
    assert list((tmp_path / "tokens").iterdir()) == []


def test_a_broken_slide_does_not_stop_the_others(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, out, err = prospect("embed", _text(study, tmp_path), study.slide(1), "-o", tmp_path / "t", "--tissue", "all")
    assert code == 3
    assert "1 of 2 slides are not whole" in err
    assert TokenGrid.open(tmp_path / "t" / "slide 1.tif.tokens.zarr").is_complete


def test_mpp_is_the_pixel_size_that_a_slide_does_not_state(study: Study, prospect: Any, tmp_path: Path) -> None:
    plain = _without_pixel_size(study, tmp_path)
    assert prospect("embed", plain, "-o", tmp_path / "t", "--tissue", "all", "--mpp", str(MPP))[0] == 0
    assert TokenGrid.open(tmp_path / "t" / "plain.png.tokens.zarr").geometry.tile == TILE


def test_a_cohort_goes_alone_and_two_slides_of_one_name_are_refused(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    code, _, err = prospect("embed", study.table, study.slide(0), "-o", tmp_path)
    assert code == 1
    assert "slide files or one cohort table" in err
    twin = tmp_path / study.slide(0).name
    shutil.copy(study.slide(1), twin)
    code, _, err = prospect("embed", study.slide(0), twin, "-o", tmp_path)
    assert code == 1
    assert "have one name" in err


def test_another_slide_of_the_same_name_is_not_taken_for_embedded(study: Study, prospect: Any, tmp_path: Path) -> None:
    shutil.copy(study.slide(1), tmp_path / "slide 0.tif")
    table = write_table(tmp_path / "c.csv", ["path", "label"], [["slide 0.tif", "a"], [str(study.slide(2)), "b"]])
    code, _, err = prospect("fit", table, "-o", tmp_path / "h.prospector", "--grids", study.tokens)
    assert code == 1
    assert "was made from another slide" in err


@pytest.mark.parametrize("words", [("--model-args", "img_size"), ("--encoder", "stain-textur")])
def test_a_wrong_encoder_is_refused(words: tuple[str, ...], study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect("embed", study.slide(0), "-o", tmp_path, *words)
    assert code == 1
    assert "NAME=VALUE" in err or "Close names: 'stain-texture'" in err


def test_ctrl_c_leaves_a_sound_store_and_the_same_command_goes_on(study: Study, prospect: Any, tmp_path: Path) -> None:
    nests = np.ones((ROWS, COLS), bool)
    big = np.tile(draw(3, nests), (5, 5, 1))
    slide = write_pyramid(tmp_path / "big.tif", big, MPP)
    words = ["embed", str(slide), "-o", str(tmp_path / "t"), "--tissue", "all"]
    # a shell that starts these tests in the background has SIGINT ignored, for their children too
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from napari_prospector.cli import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)
    store = tmp_path / "t" / "big.tif.tokens.zarr"
    deadline = time.monotonic() + 120
    while not (store / "zarr.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Interrupted. What was finished is kept" in err
    assert "Traceback" not in err
    assert not TokenGrid.open(store).is_complete
    assert prospect(*words)[0] == 0
    assert TokenGrid.open(store).counts()["done"] == 5 * ROWS * 5 * COLS
    assert not list(store.rglob("*.partial"))


def test_a_corrupt_tile_of_the_file_fails_is_told_and_succeeds_once_the_file_is_whole(
    prospect: Any, tmp_path: Path
) -> None:
    image = np.random.default_rng(5).integers(0, 200, (5 * TILE, 7 * TILE, 3), dtype=np.uint8)
    slide = write_pyramid(tmp_path / "noise.tif", image, MPP, tile_px=128)
    words = ("embed", slide, "--tissue", "all", "-o")
    assert prospect(*words, tmp_path / "whole")[0] == 0
    whole = slide.read_bytes()
    with tifffile.TiffFile(slide) as file:
        places = list(zip(file.pages[0].dataoffsets, file.pages[0].databytecounts, strict=True))
    # a slide is known by samples of its content, which must stay: 16 of 64 KiB
    step = (len(whole) - 2**16) // 15
    offset, size = next(
        (place, n) for place, n in places[20:] if place % step > 2**16 and place // step == (place + n) // step
    )
    slide.write_bytes(whole[:offset] + bytes(size - 2) + b"\xff\xd9" + whole[offset + size :])
    code, out, err = prospect(*words, tmp_path / "t")
    assert code == 3
    failed = int(re.search(r"(\d+) tiles failed", out)[1])
    assert 1 <= failed <= 4
    assert len(re.findall(r"tile \(\d+, \d+\) failed: noise\.tif: level 0, tile .* cannot be decoded", err)) == failed
    store = tmp_path / "t" / "noise.tif.tokens.zarr"
    grid = TokenGrid.open(store)
    assert grid.counts()["failed"] == failed
    assert np.isnan(np.asarray(grid.embeddings[:])[grid.state == FAILED]).all()
    code, out, _ = prospect(*words, tmp_path / "t")
    assert (code, f"{failed} tiles failed" in out) == (3, True)
    slide.write_bytes(whole)
    assert prospect(*words, tmp_path / "t", "--retry-failed")[0] == 0
    undamaged = tmp_path / "whole" / "noise.tif.tokens.zarr"
    for file in undamaged.rglob("*"):
        # zarr.json remembers the stain, which was looked at when some tiles could not be read
        if file.is_file() and file != undamaged / "zarr.json":
            assert (store / file.relative_to(undamaged)).read_bytes() == file.read_bytes()


def test_an_estimate_says_tiles_time_and_size_and_leaves_nothing(study: Study, prospect: Any, tmp_path: Path) -> None:
    words = ("embed", study.table, "--estimate", "--tissue", "all", "-o", tmp_path / "t")
    code, out, _ = prospect(*words)
    assert code == 0
    assert "slide 0.tif" in out
    assert "tokens/s" in out
    assert "Nothing was kept or downloaded" in out
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_as_json_needs_no_folder_and_no_weights(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    zero = tmp_path / "zero.tif"
    zero.touch()
    words = ("--encoder", "timm:test_vit", "--tile-px", "96", "--tile-mpp", "1.0", "--device", "cpu")
    code, found = prospect_json("embed", study.slide(0), zero, "--estimate", "--tissue", "all", *words)
    assert code == 3
    assert found["is_untrained"]
    assert found["total"]["n_tiles"] == found["slides"][0]["n_tiles"] > 0
    assert "is empty" in found["slides"][1]["error"]


def test_without_a_folder_nothing_is_embedded(study: Study, prospect: Any) -> None:
    code, _, err = prospect("embed", study.slide(0))
    assert code == 2
    assert "Missing option '-o'" in err


@pytest.mark.filterwarnings("default::napari_prospector.errors.ProspectorWarning")
def test_a_corrupt_tile_of_a_file_without_pyramid_fails_alone(prospect: Any, tmp_path: Path) -> None:
    image = np.random.default_rng(7).integers(0, 200, (5 * TILE, 7 * TILE, 3), dtype=np.uint8)
    slide = tmp_path / "flat.tif"
    tifffile.imwrite(slide, image, tile=(128, 128), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(slide) as file:
        offset, size = file.pages[0].dataoffsets[30], file.pages[0].databytecounts[30]
    content = slide.read_bytes()
    slide.write_bytes(content[:offset] + bytes(size - 2) + b"\xff\xd9" + content[offset + size :])
    code, out, err = prospect("embed", slide, "-o", tmp_path / "t", "--mpp", MPP)
    assert code == 3
    assert "flat.tif is damaged in 1 places; overviews show them grey" in err
    grid = TokenGrid.open(tmp_path / "t" / "flat.tif.tokens.zarr")
    counts = grid.counts()
    assert 1 <= counts["failed"] <= 4
    assert counts["done"] + counts["failed"] == 5 * 7
    assert f"{counts['failed']} tiles failed" in out
