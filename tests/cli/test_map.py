import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from small_study import COLS, ROWS, Study, write_table

from napari_prospector.cli.map import map_slides
from napari_prospector.cli.view import view
from napari_prospector.core.classkernels import MAPS
from napari_prospector.core.head import load_head
from napari_prospector.study.geojson import read_geojson
from napari_prospector.study.omezarr_maps import read_omezarr
from napari_prospector.study.region_tokens import tokens_of
from napari_prospector.tokens.store import TokenGrid


def test_a_slide_gets_scores_concepts_table_and_picture(study: Study, prospect: Any, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "ma ps", "--grids", study.tokens, "--map", "evidence")
    code, out, _ = prospect("map", study.head, study.slide(8), *words)
    assert code == 0
    assert out.startswith("slide 8.tif, evidence for tumour: ")
    names = [f"slide 8.{what}" for what in ("concepts.ome.tif", "evidence.csv", "evidence.ome.tif", "evidence.png")]
    assert sorted(path.name for path in (tmp_path / "ma ps").iterdir()) == names
    assert all(name in out for name in names)
    scores = tifffile.imread(tmp_path / "ma ps" / "slide 8.evidence.ome.tif")
    assert scores.shape == (ROWS, COLS)
    with (tmp_path / "ma ps" / "slide 8.evidence.csv").open(encoding="utf-8") as stream:
        told = [float(row["evidence"]) for row in csv.DictReader(stream)]
    np.testing.assert_allclose(scores.ravel(), told, rtol=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_every_map_of_a_head_is_drawn_as_the_head_draws_it_and_says_which_it_is(
    name: str, study: Study, prospect_json: Any, tmp_path: Path
) -> None:
    code, found = prospect_json("map", study.head, study.grid(8), "-o", tmp_path, "--map", name)
    assert code == 0
    assert [row["map"] for row in found["maps"]] == [name]
    with tifffile.TiffFile(tmp_path / f"slide 8.{name}.ome.tif") as tiff:
        assert f"{name} for tumour" in tiff.ome_metadata
        drawn = tiff.asarray()
    with TokenGrid.open(study.grid(8)) as grid:
        scores = load_head(study.head).prospect(grid.graph(), name)
    np.testing.assert_allclose(drawn.ravel(), scores, rtol=1e-6)
    assert (tmp_path / f"slide 8.{name}.png").is_file()


@pytest.mark.parametrize("is_plain", [False, True])
def test_without_a_name_the_best_map_of_the_head_is_drawn(
    is_plain: bool, study: Study, plain_head: Path, prospect: Any, tmp_path: Path
) -> None:
    path = plain_head if is_plain else study.head
    best = load_head(path).best_map_
    code, out, _ = prospect("map", path, study.grid(8), "-o", tmp_path)
    assert code == 0
    assert f", {best} for tumour: " in out
    assert (tmp_path / f"slide 8.{best}.ome.tif").is_file()


def test_a_map_that_the_head_does_not_draw_is_refused_before_anything_is_made(
    study: Study, plain_head: Path, prospect: Any, tmp_path: Path
) -> None:
    code, out, err = prospect("map", plain_head, study.slide(0), "-o", tmp_path / "m", "--map", "refined")
    assert (code, out) == (1, "")
    assert "This head draws no refined map, only evidence and decision. Pass --map evidence" in err
    assert not (tmp_path / "m").exists()


def test_the_command_line_offers_the_maps_of_the_core() -> None:
    for command in (map_slides, view):
        (option,) = [option for option in command.params if option.name == "map_name"]
        assert tuple(option.type.choices) == MAPS
        assert "Default: the head's own best" in option.help


def test_a_token_grid_may_stand_for_its_slide(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    code, found = prospect_json("map", study.head, study.grid(9), "-o", tmp_path, "--map", "decision")
    assert code == 0
    assert found["errors"] == {}
    assert [row["map"] for row in found["maps"]] == ["decision"]
    assert 0 <= found["maps"][0]["probability"] <= 1


def test_a_slide_without_a_token_grid_is_embedded_first(study: Study, prospect: Any, tmp_path: Path) -> None:
    assert prospect("map", study.head, study.slide(0), "-o", tmp_path)[0] == 0
    assert (tmp_path / "tokens" / "slide 0.tif.tokens.zarr").is_dir()


def test_a_broken_slide_does_not_stop_the_others(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    (tmp_path / "zero.tif").touch()
    code, found = prospect_json("map", study.head, study.grid(9), tmp_path / "zero.tif", "-o", tmp_path / "m")
    assert code == 3
    assert "is empty" in found["errors"]["zero.tif"]
    assert len(found["maps"]) == 1


def test_a_head_of_many_classes_wants_a_target(study: Study, prospect: Any, prospect_json: Any, tmp_path: Path) -> None:
    rows = [[study.grid(number), "abc"[number % 3]] for number in range(9)]
    table = write_table(tmp_path / "three.csv", ["path", "label"], rows)
    head = tmp_path / "three.prospector"
    assert prospect("fit", table, "-o", head, "--n-concepts", "2")[0] == 0
    code, _, err = prospect("map", head, study.grid(0), "-o", tmp_path / "m")
    assert code == 1
    assert "Pass --target, one of a, b, c" in err
    code, found = prospect_json("map", head, study.grid(0), "-o", tmp_path / "m", "--target", "b")
    assert code == 0
    assert found["maps"][0]["target"] == "b"
    code, _, err = prospect("map", head, study.grid(0), "-o", tmp_path / "m", "--target", "d")
    assert code == 1
    assert "--target must be one of a, b, c; got 'd'" in err


def _cut(head: bytes) -> bytes:
    return head[:5000]


def _flipped(head: bytes) -> bytes:
    return head[:-3] + bytes(byte ^ 0xFF for byte in head[-3:])


def _nothing(head: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("spoil", [_cut, _flipped, _nothing])
def test_a_damaged_head_is_refused(spoil: Any, study: Study, prospect: Any, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.prospector"
    damaged.write_bytes(spoil(study.head.read_bytes()))
    code, _, err = prospect("map", damaged, study.grid(0), "-o", tmp_path / "m")
    assert code == 1
    assert "damaged" in err
    assert not (tmp_path / "m").exists()


def test_a_head_of_another_encoder_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    head = load_head(study.head)
    other = {**head.card_["encoder"], "name": "mobilenetv2_100"}
    head.save(tmp_path / "other.prospector", {"encoder": other})
    code, _, err = prospect("map", tmp_path / "other.prospector", study.grid(0), "-o", tmp_path / "m")
    assert code == 1
    assert "This head was fitted on 'mobilenetv2_100'" in err
    assert not list((tmp_path / "m").iterdir())


def test_maps_of_one_name_are_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    twin = tmp_path / "slide 0.png"
    shutil.copy(study.slide(1), twin)
    code, _, err = prospect("map", study.head, study.slide(0), twin, "-o", tmp_path)
    assert code == 1
    assert "have one name" in err


def test_no_file_that_may_be_shared_tells_where_it_was_made(study: Study, prospect: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prospect("map", study.head, study.slide(8), "-o", out, "--grids", study.tokens)[0] == 0
    assert prospect("evaluate", study.head, study.table, "-o", out / "evaluation", "--pictures", "2")[0] == 0
    files = [study.head, *(path for folder in (study.tokens, out) for path in folder.rglob("*") if path.is_file())]
    assert len(files) > 20
    places = [str(folder).encode() for folder in (study.folder, study.folder.parent, tmp_path, Path.home())]
    telling = [file for file in files for place in places if place in file.read_bytes()]
    assert telling == []


def test_a_grid_that_was_made_with_another_pixel_size_is_not_taken(study: Study, prospect: Any, tmp_path: Path) -> None:
    words = ("-o", tmp_path, "--grids", study.tokens)
    code, _, err = prospect("map", study.head, study.slide(8), *words, "--mpp", "1.0")
    assert code == 1
    assert "was made with 0.5 µm per level-0 pixel, and slide 8.tif comes with 1." in " ".join(err.split())


def test_a_map_is_written_as_ome_zarr_too_and_info_says_what_it_is(
    study: Study, prospect: Any, prospect_json: Any, tmp_path: Path
) -> None:
    words = (study.head, study.grid(8), "-o", tmp_path, "--map", "decision", "--ome-zarr")
    code, found = prospect_json("map", *words)
    assert code == 0
    path = tmp_path / "slide 8.decision.prospect.ome.zarr"
    assert str(path) in found["maps"][0]["files"]
    shown = read_omezarr(path)
    np.testing.assert_array_equal(shown.scores.values, tifffile.imread(tmp_path / "slide 8.decision.ome.tif"))
    assert shown.origin.head == study.head.stem
    code, out, _ = prospect("info", path)
    assert code == 0
    assert out.splitlines()[0].startswith("Map of slide slide 8.tif: decision for tumour, ")
    assert f"{ROWS} × {COLS} tokens of 112 µm; encoder: " in out
    code, said = prospect_json("info", path)
    assert (code, said["kind"], said["map"], said["slide"]) == (0, "map", "decision", "slide 8.tif")
    assert "ome.zarr" not in prospect("map", study.head, study.grid(9), "-o", tmp_path / "n")[1]


def test_by_two_commands_slides_of_one_name_do_not_overwrite_each_other(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    shutil.copy(study.slide(9), tmp_path / "slide 8.tif")
    assert prospect("map", study.head, study.grid(8), "-o", tmp_path / "m")[0] == 0
    before = {file: file.read_bytes() for file in (tmp_path / "m").iterdir()}
    code, _, err = prospect(
        "map", study.head, tmp_path / "slide 8.tif", "-o", tmp_path / "m", "--grids", tmp_path / "g"
    )
    assert code == 1
    assert "shows another slide of that name, slide 8.tif" in err
    assert before == {file: file.read_bytes() for file in (tmp_path / "m").iterdir()}


def test_regions_are_written_as_geojson_with_their_scores(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    words = (study.head, study.grid(8), "-o", tmp_path, "--map", "evidence", "--geojson")
    code, found = prospect_json("map", *words, "--threshold", "0", "--simplify", "20")
    assert code == 0
    path = tmp_path / "slide 8.evidence.geojson"
    assert str(path) in found["maps"][0]["files"]
    with TokenGrid.open(study.grid(8)) as grid:
        scores, geometry = load_head(study.head).prospect(grid.graph(), "evidence"), grid.geometry
    above = scores.reshape(ROWS, COLS) > 0
    regions = read_geojson(path).regions
    assert np.array_equal(tokens_of(regions, geometry) >= 0, above)
    assert {region.label for region in regions} == {"tumour"}
    assert regions[0].name == "evidence 1"
    measured = [region.extra["properties"]["measurements"] for region in regions]
    assert sum(row["Tokens"] for row in measured) == above.sum()
    assert max(row["Max score"] for row in measured) == scores.max()
    about = json.loads(path.read_text())["prospector"]
    assert (about["map"], about["threshold"], about["simplify_um"]) == ("evidence", 0.0, 20.0)
    assert about["slide"] == "slide 8.tif"


def test_without_a_threshold_regions_are_cut_at_half_of_the_colour_limit(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    head = load_head(study.head)
    for words in ((), ("--threshold", "auto")):
        assert prospect("map", study.head, study.grid(8), "-o", tmp_path, "--geojson", *words)[0] == 0
        about = json.loads((tmp_path / f"slide 8.{head.best_map_}.geojson").read_text())["prospector"]
        assert about["threshold"] == head.color_limits_[head.best_map_] / 2
    before = (tmp_path / f"slide 8.{head.best_map_}.geojson").read_bytes()
    assert prospect("map", study.head, study.grid(8), "-o", tmp_path, "--geojson")[0] == 0
    assert before == (tmp_path / f"slide 8.{head.best_map_}.geojson").read_bytes()


def test_how_regions_are_outlined_is_checked_before_anything_is_read(prospect: Any, tmp_path: Path) -> None:
    words = ("map", "no.prospector", "no.svs", "-o", tmp_path / "m")
    for more, sentence in (
        (("--threshold", "1"), "say how regions are outlined: pass --geojson as well"),
        (("--simplify", "1"), "say how regions are outlined: pass --geojson as well"),
        (("--geojson", "--threshold", "high"), "--threshold must be a score, or auto; got 'high'"),
        (("--geojson", "--threshold", "nan"), "threshold must be a finite score, or None; got nan"),
        (("--geojson", "--simplify", "-1"), "-1"),
    ):
        code, _, err = prospect(*words, *more)
        assert code in {1, 2}
        assert sentence in " ".join(err.split())
