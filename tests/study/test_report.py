from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from napari_prospector.core.graph import chain_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError, MissingFileError
from napari_prospector.study.baselines import MeanPooledLogistic
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.evaluate import evaluate
from napari_prospector.study.report import ReportPicture, write_report

EVIL = "<script>alert('x')</script>\"&"
VOID = {"meta", "img", "line", "circle"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where a tag is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A study in which every name is hostile."""
    folder = tmp_path_factory.mktemp("private-folder")
    generator = np.random.default_rng(0)
    drawn = [generator.normal(size=(23, 5)) + 3 * (i % 2) * (np.arange(23) < 7)[:, None] for i in range(16)]
    graphs = [chain_graph(embeddings) for embeddings in drawn]
    labels = ["normal", f"tumour {EVIL}"] * 8
    truths = [np.arange(23) < 7 * (i % 2) for i in range(16)]
    head = ProspectorHead(n_concepts=4, radius=1, kernel="fold-change", refine=False).fit(graphs[:8], labels[:8])
    head = head.with_edits(head.concept_edits_.rename(0, f"concept {EVIL}"))
    head.card_ = {"remark": EVIL}
    names = [f"slide-{i:02d} {'&' if i % 2 else '<i>'}.svs" for i in range(16)]
    rows = "".join(
        f'"{name}","{label.replace(chr(34), chr(34) * 2)}",secret-patient-{i},{"train" if i < 8 else "test"}\n'
        for i, (name, label) in enumerate(zip(names, labels, strict=True))
    )
    (folder / "cohort.csv").write_text("path,label,group,split\n" + rows, encoding="utf-8")
    regression = MeanPooledLogistic(target=labels[1]).fit(graphs[:8], labels[:8])
    methods = {f"ours {EVIL}": head, "mean-pooled": regression}
    evaluation = evaluate(methods, graphs[8:], labels[8:], truths[8:], names=names[8:], n_boot=101)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((11, 13, 3), np.uint8)))
    return {
        "folder": folder,
        "head": head,
        "evaluation": evaluation,
        "cohort": Cohort.read(folder / "cohort.csv", check_files=False),
        "pictures": [ReportPicture(folder / "pictures" / "a.png", f"caption {EVIL}")],
        "steps": [f"step {EVIL}"],
        "commands": [f"prospect view {EVIL}"],
    }


def write(study: dict[str, Any], **changes: Any) -> Path:
    parts = {**study, "title": f"title {EVIL}", **changes}
    folder = parts.pop("folder")
    return write_report(folder / "report.html", **parts)


def test_the_page_tells_what_how_well_and_how_to_look_closer(study: dict[str, Any]) -> None:
    page = Page(write(study))
    for words in (
        "What was done",
        "step <script>",
        "Look closer in napari",
        "prospect view",
        study["evaluation"].basis,
        "constant",
        "random",
        "prevalence",
        "Model card",
        "concepts: 4 by k-means",
        "cohort.csv: 16 data, 16 groups (patients), none in two splits.",
        "For research use only; not for diagnosis.",
        "slide-08 <i>.svs",
        study["evaluation"].summary()[0]["AP"].split(" [")[0],
    ):
        assert words in page.text, words


def test_strata_probabilities_and_notes_of_an_evaluation_are_on_the_page(study: dict[str, Any]) -> None:
    evaluation = study["evaluation"]
    text = Page(write(study)).text
    (prevalence, dispersion) = evaluation.strata_summary()[0].keys() - {"method", "map"}
    for words in (
        prevalence,
        dispersion,
        "Labels of whole slides",
        evaluation.probability_summary()[0]["Brier"].split(" [")[0],
        *evaluation.notes,
    ):
        assert words in text, words
    seen = Page(write(study, evaluation=replace(evaluation, seen=~evaluation.seen)))
    assert "NOT HELD OUT: 8 of 8 slides" in seen.text
    assert ("li", {"class": "warn"}) in seen.tags


def test_what_comes_from_files_is_escaped(study: dict[str, Any]) -> None:
    path = write(study)
    page = Page(path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in path.read_text(encoding="utf-8")
    assert page.text.count("alert") >= 8


def test_the_page_loads_nothing_and_holds_no_folder_and_no_patient(study: dict[str, Any]) -> None:
    path = write(study)
    sources = [attrs.get("src") or "" for tag, attrs in Page(path).tags if tag == "img"]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import|src=\"/", text)
    assert str(study["folder"]) not in text
    assert "private-folder" not in text
    assert "secret-patient" not in text


def test_pictures_may_lie_beside_the_page(study: dict[str, Any]) -> None:
    page = Page(write(study, embed_images=False))
    assert [attrs["src"] for tag, attrs in page.tags if tag == "img"] == ["pictures/a.png"]


def test_pictures_that_are_missing_or_elsewhere_are_refused(study: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no picture at .*b.png"):
        write(study, pictures=[ReportPicture(tmp_path / "b.png", "")])
    (tmp_path / "b.png").write_bytes(study["pictures"][0].path.read_bytes())
    with pytest.raises(InvalidInputError, match=r"folder of report\.html or below; b\.png does not"):
        write(study, pictures=[ReportPicture(tmp_path / "b.png", "")], embed_images=False)


@pytest.mark.parametrize("left_out", ["head", "evaluation", "cohort", "pictures", "steps", "commands"])
def test_any_part_may_be_left_out(study: dict[str, Any], left_out: str) -> None:
    kept = {key: part for key, part in study.items() if key != left_out}
    Page(write(kept))


def test_an_evaluation_without_known_regions_is_told_without_figures(study: dict[str, Any]) -> None:
    generator = np.random.default_rng(1)
    graphs = [chain_graph(generator.normal(size=(11, 5))) for _ in range(4)]
    labels = ["normal", study["evaluation"].target] * 2
    unknown = evaluate(study["head"], graphs, labels, [None] * 4, n_boot=11)
    page = Page(write(study, evaluation=unknown, cohort=None))
    assert "Means over 0 data" in page.text
    assert "nan" not in page.text
