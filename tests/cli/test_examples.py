"""`prospect examples`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_study import Study, write_table

from napari_prospector.core.head import load_head
from napari_prospector.tokens.store import TokenGrid


def test_a_page_shows_the_concepts_of_a_head(study: Study, prospect: Any, tmp_path: Path) -> None:
    page = tmp_path / "out" / "examples.html"
    code, out, _ = prospect("examples", study.head, study.table, "--grids", study.tokens, "-o", page)
    assert code == 0
    assert out.splitlines()[-1] == f"Written: {page}"
    assert out.count(": weight ") == 3
    text = page.read_text(encoding="utf-8")
    assert text.count("<section") == 3
    assert text.count("data:image/jpeg") > 10
    assert "No picture" not in out
    for place in (study.folder, study.folder.parent, tmp_path):
        assert str(place) not in text
    assert [path.name for path in page.parent.iterdir()] == ["examples.html"]


def test_json_tells_what_the_page_shows(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    code, found = prospect_json("examples", study.head, study.table, "-o", tmp_path / "p.html", "--each", "4")
    assert (code, found["problems"]) == (0, [])
    head = load_head(study.head)
    shares = np.array([[row["shares"][name] for name in ("normal", "tumour")] for row in found["concepts"]])
    order = [row["concept"] for row in found["concepts"]]
    np.testing.assert_allclose(shares.T, head.concept_shares_[:, order], atol=1e-9)
    np.testing.assert_allclose([row["weights"][0] for row in found["concepts"]], head.kernels_.evidence[0][order])
    for row in found["concepts"]:
        assert 1 <= len(row["examples"]) <= 4
        for one in row["examples"]:
            with TokenGrid.open(study.tokens / f"{one['slide']}.tokens.zarr") as grid:
                embedding = np.asarray(grid.embeddings[one["row"], one["col"]])
            assert head.quantizer_.predict(embedding[None])[0] == row["concept"]
            assert one["label"] == ("tumour" if int(one["slide"].split()[1][0]) % 2 == 0 else "normal")


@pytest.mark.parametrize(("split", "n_slides"), [("train", 6), ("test", 4), ("all", 10)])
def test_the_rows_that_are_looked_at_can_be_chosen(
    split: str, n_slides: int, study: Study, prospect_json: Any, tmp_path: Path
) -> None:
    code, found = prospect_json("examples", study.head, study.table, "-o", tmp_path / "p.html", "--split", split)
    assert code == 0
    assert sum(row["n_tokens"] for row in found["concepts"]) == 15 * n_slides
    assert f"of {n_slides} slides." in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_a_folder_gets_a_page_with_its_pictures_beside_it(study: Study, prospect: Any, tmp_path: Path) -> None:
    words = ("--size", "64", "--context", "2", "--target", "normal")
    assert prospect("examples", study.head, study.table, "-o", tmp_path / "gallery", *words)[0] == 0
    assert sorted(path.name for path in (tmp_path / "gallery").iterdir()) == ["examples.html", "pictures"]
    text = (tmp_path / "gallery" / "examples.html").read_text(encoding="utf-8")
    assert "data:image" not in text
    assert "speaks for <b>normal</b>" in text
    assert all(f'src="pictures/{path.name}"' in text for path in (tmp_path / "gallery" / "pictures").iterdir())


def test_slides_that_are_gone_are_told_and_the_rest_is_shown(
    study: Study, prospect: Any, prospect_json: Any, tmp_path: Path
) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    for number in (0, 1):
        shutil.copy(study.slide(number), slides)
    # another picture under the name of a slide that was embedded
    shutil.copy(study.slide(4), slides / "slide 2.tif")
    rows = [[f"slides/slide {number}.tif", ("tumour", "normal")[number % 2]] for number in range(4)]
    table = write_table(tmp_path / "cohort.csv", ["path", "label"], [*rows, [study.grid(5), "normal"]])
    words = ("examples", study.head, table, "--grids", study.tokens, "-o", tmp_path / "p.html", "--each", "200")
    code, found = prospect_json(*words)
    assert code == 0
    assert sum(len(row["examples"]) for row in found["concepts"]) == 75
    problems = "\n".join(found["problems"])
    assert "slide 2.tif must be the slide that slide 2.tif.tokens.zarr was made from" in problems
    assert "slide 3.tif is not there any more; there is only its token grid" in problems
    assert "Where slide 5.tif lies is not known" in problems
    assert str(tmp_path) not in problems
    _, out, _ = prospect(*words)
    assert out.count("No picture: ") == 3
    assert str(tmp_path) not in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_slides_must_be_embedded_first(study: Study, prospect: Any, tmp_path: Path) -> None:
    words = ("--grids", tmp_path / "none", "-o", tmp_path / "p.html")
    code, _, err = prospect("examples", study.head, study.table, *words)
    assert code == 1
    assert "There is no token grid slide 0.tif.tokens.zarr" in " ".join(err.split())
    assert not (tmp_path / "p.html").exists()
