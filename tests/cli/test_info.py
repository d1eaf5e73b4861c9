from pathlib import Path
from typing import Any

import pytest
from small_study import COLS, N_SLIDES, ROWS, Study

from napari_prospector.core.classkernels import MAPS
from napari_prospector.core.head import load_head


@pytest.fixture(scope="module")
def results(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps and an evaluation."""
    from napari_prospector.cli import main

    folder = tmp_path_factory.mktemp("results")
    words = ["--map", "evidence", "--json"]
    assert main(["map", str(study.head), str(study.grid(8)), "-o", str(folder), *words]) == 0
    words = ["--pictures", "1", "--no-baselines", "--json"]
    assert main(["evaluate", str(study.head), str(study.table), "-o", str(folder), *words]) == 0
    return folder


def test_a_head_a_token_grid_a_cohort_and_a_slide_say_what_they_are(study: Study, prospect_json: Any) -> None:
    kinds = [
        prospect_json("info", path)[1]["kind"] for path in (study.head, study.grid(0), study.table, study.slide(0))
    ]
    assert kinds == ["head", "token grid", "cohort", "slide"]
    _, grid = prospect_json("info", study.grid(0))
    assert grid["counts"]["done"] == ROWS * COLS
    assert grid["encoder"]["name"] == "stain-texture"
    _, cohort = prospect_json("info", study.table)
    assert (cohort["n_data"], cohort["n_truths"], cohort["splits"]) == (N_SLIDES, N_SLIDES, {"train": 6, "test": 4})


def test_a_head_says_which_maps_it_draws_which_is_best_and_how_it_was_chosen(
    study: Study, prospect: Any, prospect_json: Any
) -> None:
    head = load_head(study.head)
    _, found = prospect_json("info", study.head)
    assert (found["maps"], found["best_map"]) == (list(MAPS), head.best_map_)
    assert (found["n_concepts"], found["radius"], found["kernel"]) == (3, head.radius_, head.kernel_)
    assert found["refined_amount"] == head.refiner_.amount
    assert found["selection_sentence"] == head.selection_.sentence()
    assert [row["map"] for row in found["selection_rows"]] == [row["map"] for row in head.selection_.rows()]
    code, out, _ = prospect("info", study.head)
    assert code == 0
    for said in (f"**{head.best_map_}** map", "maps: evidence, decision, refined", head.selection_.sentence()):
        assert said in out
    assert f"neighbours' share {head.refiner_.amount:g}" in out


def test_a_head_without_a_refined_map_says_so(plain_head: Path, prospect: Any, prospect_json: Any) -> None:
    _, found = prospect_json("info", plain_head)
    assert (found["maps"], found["best_map"]) == (["evidence", "decision"], "evidence")
    assert (found["refined_amount"], found["selection_rows"]) == (None, [])
    assert "maps: evidence, decision\n" in prospect("info", plain_head)[1]


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("slide 8.evidence.ome.tif", "map", "evidence for tumour"),
        ("slide 8.concepts.ome.tif", "map", "concepts"),
        ("slide 8.evidence.csv", "token table", "Table of 15 tokens"),
        ("evaluation.csv", "evaluation table", "rows, one per method and map"),
        ("evaluation_data.csv", "evaluation of data", "Evaluation: 4 data"),
        ("evaluation_pairs.csv", "evaluation, differences between methods", "differences between methods, "),
        ("evaluation_strata.csv", "evaluation, average precision by kind of region", "by kind of region, "),
        ("evaluation_probabilities.csv", "evaluation, probabilities of data", "probabilities of data, 4 rows"),
        ("evaluation_reliability.csv", "evaluation, calibration in bins", "calibration in bins, 2 rows"),
        ("evaluation.json", "evaluation", "Evaluation: finding tumour"),
        ("report.html", "report", "Finding tumour on 4 slides"),
    ],
)
def test_every_file_that_is_made_says_what_it_is(
    name: str, kind: str, says: str, results: Path, prospect: Any, prospect_json: Any
) -> None:
    assert prospect_json("info", results / name)[1]["kind"] == kind
    code, out, err = prospect("info", results / name)
    assert (code, err) == (0, "")
    assert says in out


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"hello", "notes.txt is nothing that is known here. prospect info knows heads"),
        ("page.html", b"<title>x</title>", "no report of napari-prospector"),
        ("other.json", b"{}", "no evaluation"),
        ("cut.json", b'{"target": ', "no JSON, or cut short"),
        ("zero.svs", b"", "is empty"),
        ("zero.ome.tif", b"", "is empty"),
        ("latin.csv", b"path,label\n\xe9,a\n", "UTF-8"),
        ("cut.prospector", b"\x00\x01", "not a head file"),
    ],
)
def test_a_wrong_file_is_refused(name: str, content: bytes, reason: str, prospect: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    code, out, err = prospect("info", tmp_path / name)
    assert (code, out) == (1, "")
    assert reason in err


def test_a_folder_that_is_no_token_grid_and_a_missing_file_are_refused(prospect: Any, tmp_path: Path) -> None:
    assert "a folder that is no token grid" in prospect("info", tmp_path)[2]
    assert "There is no" in prospect("info", tmp_path / "x")[2]


def test_an_ome_tiff_that_is_no_map_is_a_slide(prospect_json: Any, tmp_path: Path) -> None:
    import numpy as np
    import tifffile

    path = tmp_path / "slide.ome.tif"
    tifffile.imwrite(path, np.zeros((31, 37, 3), np.uint8), ome=True, photometric="rgb")
    code, found = prospect_json("info", path)
    assert (code, found["kind"], found["shape"]) == (0, "slide", [31, 37])


def test_a_slide_without_a_pixel_size_says_what_to_do(prospect: Any, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (41, 43)).save(tmp_path / "a.png")
    code, out, _ = prospect("info", tmp_path / "a.png")
    assert code == 0
    assert "Pass --mpp" in out


@pytest.fixture
def project(study: Study, tmp_path: Path) -> Path:
    """A project of the cohort, one slide without a label, with a region and a slide that is gone."""
    from napari_prospector.study import project as studies
    from napari_prospector.study.annotations import Region
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.project_files import Project

    rows = [
        studies.StudySlide(row.path, row.label, row.group, row.split, row.mpp, row.truth)
        for row in Cohort.read(study.table)
    ]
    rows += [studies.StudySlide(study.slide(0).with_name("later.tif"))]
    square = ((0.0, 0.0), (0.0, 9.0), (9.0, 9.0))
    kept = studies.Study().with_slides(rows).with_regions(str(study.slide(0)), [Region(((square,),), "tumour")])
    with Project(tmp_path / "mine.prospect-project") as made:
        made.save(kept, {})
    return tmp_path / "mine.prospect-project"


def test_a_project_says_what_is_in_it(project: Path, prospect: Any, prospect_json: Any) -> None:
    _, found = prospect_json("info", project)
    assert (found["kind"], found["n_slides"]) == ("project", N_SLIDES + 1)
    assert found["labels"]["not labelled"] == 1
    assert found["regions"] == {"tumour": 1}
    assert found["missing"] == ["later.tif"]
    code, said, _ = prospect("info", project)
    assert code == 0
    assert f"Project of {N_SLIDES + 1} slides" in said
    assert "regions: 1 on 1 slide: 1 tumour" in said
    assert "not found: later.tif" in said


def test_a_project_stands_for_its_cohort(project: Path, study: Study, prospect_json: Any, tmp_path: Path) -> None:
    from napari_prospector.study.cohort import Cohort

    labels = Cohort.read(study.table).labels
    assert Cohort.read(project).labels == labels
    code, found = prospect_json(
        "evaluate", study.head, project, "-o", tmp_path, "--grids", study.tokens, "--no-baselines", "--pictures", "0"
    )
    assert code == 0, found


def test_a_project_stands_for_its_slides(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    from napari_prospector.study import project as studies
    from napari_prospector.study.project_files import Project

    slides = [studies.StudySlide(study.slide(0)), studies.StudySlide(study.slide(1), tokens=study.grid(1))]
    with Project(tmp_path / "two.prospect-project") as made:
        made.save(studies.Study().with_slides(slides), {})
        words = ["--grids", study.tokens, "--map", "evidence", "-o", tmp_path / "maps"]
        code, found = prospect_json("map", study.head, made.folder, *words)
    assert code == 0, found
    assert len(list((tmp_path / "maps").glob("*.evidence.csv"))) == 2


def test_a_damaged_project_is_refused(project: Path, prospect: Any) -> None:
    (project / "project.json").write_text("{")
    code, _, said = prospect("info", project)
    assert code == 1
    assert "project.json" in said
