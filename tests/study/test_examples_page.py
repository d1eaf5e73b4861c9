"""The page of concepts: whole, escaped, without folders, and what it says is what was found."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_grids import cohort
from test_examples import finish
from test_report import EVIL, Page

from napari_prospector.core.colors import concept_colors
from napari_prospector.errors import MismatchError, MissingExtraError
from napari_prospector.study.examples import ConceptExamples, typical_tokens
from napari_prospector.study.examples_page import concept_rows, write_examples_page
from napari_prospector.study.pages import page_template
from napari_prospector.tokens.tilepictures import TilePicture, no_picture


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    grids, labels, head = cohort(tmp_path_factory.mktemp("private-folder"))
    _, found = finish(typical_tokens(head, grids, labels, 5))
    rng = np.random.default_rng(0)
    places = [(one.slide, one.row, one.col) for examples in found.examples for one in examples]
    pictures = {place: TilePicture(rng.integers(256, size=(96, 96, 3)).astype(np.uint8)) for place in places}
    pictures[places[0]] = TilePicture(no_picture(), f"case {EVIL} is gone.")
    names = [f"case{number} {EVIL}.svs" for number in range(len(grids))]
    return {"head": head, "found": found, "names": names, "pictures": pictures}


def test_rows_tell_weight_share_and_colour_of_each_concept(study: dict[str, Any]) -> None:
    head, found = study["head"], study["found"]
    rows = concept_rows(head, found)
    assert [max(row.weights) for row in rows] == sorted(head.kernels_.evidence[0][:4], reverse=True)
    for row in rows:
        assert row.weights == (head.kernels_.evidence[0][row.concept],)
        np.testing.assert_allclose(list(row.shares.values()), head.concept_shares_[:, row.concept])
        assert list(row.shares) == ["normal", "tumour"]
        assert row.n_tokens == found.counts[:, row.concept].sum()
        assert row.n_slides == (found.counts[:, row.concept] > 0).sum()
        assert row.examples == found.examples[row.concept]
        rgb = [int(row.color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        np.testing.assert_allclose(rgb, concept_colors(4)[row.concept], atol=1 / 500)
    assert [row.weights_text for row in rows] == [
        f"{row.weights[0]:+.2f}" if abs(row.weights[0]) >= 0.005 else "0.00" for row in rows
    ]
    against = concept_rows(head, found, "normal")
    assert {row.concept: row.weights[0] for row in against} == {row.concept: -row.weights[0] for row in rows}


def test_merged_concepts_are_one_row_and_hidden_ones_are_marked(study: dict[str, Any]) -> None:
    head, found = study["head"], study["found"]
    edited = head.with_edits(head.concept_edits_.rename(1, "stroma").merge([1, 2]).hide(0))
    rows = {row.concept: row for row in concept_rows(edited, found, n_each=3)}
    assert sorted(rows) == [0, 1, 3]
    assert (rows[1].name, rows[1].is_hidden, rows[0].is_hidden) == ("stroma", False, True)
    assert rows[1].weights == tuple(head.kernels_.evidence[0][1:3])
    assert rows[1].n_tokens == found.counts[:, 1:3].sum()
    np.testing.assert_allclose(list(rows[1].shares.values()), head.concept_shares_[:, 1:3].sum(axis=1))
    assert len(rows[1].examples) == 3


def test_the_page_shows_every_tile_and_escapes_every_name(study: dict[str, Any], tmp_path: Path) -> None:
    head = study["head"].with_edits(study["head"].concept_edits_.rename(2, f"c {EVIL}"))
    path = write_examples_page(tmp_path / "page.html", **{**study, "head": head}, title=f"t {EVIL}")
    page, text = Page(path), path.read_text(encoding="utf-8")
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(study["pictures"])
    assert "<script" not in text
    assert not any(tag == "script" for tag, _ in page.tags)
    for words in (f"t {EVIL}", f"c {EVIL}", f"case {EVIL} is gone.", study["names"][3]):
        assert words in page.text
    assert "private-folder" not in text
    assert str(tmp_path) not in text
    assert not re.search(r"(src|href)=\"(?!data:image/jpeg;base64,)", text)


def test_pictures_are_in_the_page_or_beside_it(study: dict[str, Any], tmp_path: Path) -> None:
    inside = Page(write_examples_page(tmp_path / "in.html", **study))
    beside = Page(write_examples_page(tmp_path / "out" / "examples.html", **study, embed_images=False))
    pairs = [[str(a["src"]) for tag, a in page.tags if tag == "img"] for page in (inside, beside)]
    assert len(set(pairs[1])) == len(pairs[1])
    for embedded, file in zip(*pairs, strict=True):
        jpeg = base64.b64decode(embedded.removeprefix("data:image/jpeg;base64,"))
        assert jpeg == (tmp_path / "out" / file).read_bytes()
        assert Image.open(io.BytesIO(jpeg)).size == (96, 96)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["examples.html", "pictures"]


def test_a_tile_says_where_it_is_from_and_which_class(study: dict[str, Any], tmp_path: Path) -> None:
    page = Page(write_examples_page(tmp_path / "page.html", **study))
    (example, *_) = concept_rows(study["head"], study["found"])[0].examples
    first = next(attributes for tag, attributes in page.tags if tag == "img")
    name = study["names"][example.slide]
    assert f"{name}, {example.label}: row {example.row}, column {example.col}; distance" in str(first["alt"])
    figures = [attributes.get("class") for tag, attributes in page.tags if tag == "figure"]
    shown = [one for row in concept_rows(study["head"], study["found"]) for one in row.examples]
    assert [one == "is-target" for one in figures] == [one.label == "tumour" for one in shown]


def test_a_concept_without_tokens_says_so(study: dict[str, Any], tmp_path: Path) -> None:
    found = study["found"]
    empty = ConceptExamples(((), *found.examples[1:]), found.counts, found.labels, found.most_per_slide)
    assert (
        "No token of these slides" in Page(write_examples_page(tmp_path / "p.html", **{**study, "found": empty})).text
    )


def test_what_does_not_belong_together_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    found = study["found"]
    fewer = ConceptExamples(found.examples[:2], found.counts[:, :2], found.labels, 1)
    with pytest.raises(MismatchError, match="of the concepts of this head, 4; got 2"):
        concept_rows(study["head"], fewer)
    with pytest.raises(MismatchError, match="one name for each of 8 slides; got 1"):
        write_examples_page(tmp_path / "p.html", **{**study, "names": ["a"]})
    assert not list(tmp_path.iterdir())


def test_without_jinja_pages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="Pages need jinja2. Install it: pip install jinja2"):
        page_template("examples.html.j2")
