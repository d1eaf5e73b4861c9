"""The classes that one draws in, and what is said of regions; without Qt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from napari_prospector._napari.brush import Stroke, stroked
from napari_prospector._napari.region_classes import (
    classes_of,
    color_of,
    counts,
    with_class,
    with_classes_of,
    with_color,
    with_label,
    with_name,
    without_class,
)
from napari_prospector._napari.region_jobs import counting, joined, reading, told, writing
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import AnnotationClass, Region
from napari_prospector.study.project import Study, StudySlide
from napari_prospector.tokens.geometry import GridGeometry


def square(size: float = 10, at: float = 0, label: str | None = "tumour") -> Region:
    return Region((([[at, at], [at, at + size], [at + size, at + size], [at + size, at]],),), label)


def names(study: Study) -> list[str]:
    return [each.name for each in classes_of(study)]


def test_labels_of_slides_are_classes_and_not_here_is_always_the_last() -> None:
    assert names(Study()) == ["tumour", "normal", "not here"]
    labelled = Study().with_slides([StudySlide(Path("/a"), "luminal"), StudySlide(Path("/b"), "basal")])
    assert names(labelled) == ["basal", "luminal", "not here"]
    assert names(labelled.with_regions("a", [square(label="stroma")])) == ["basal", "luminal", "stroma", "not here"]


def test_every_class_has_a_colour_of_its_own() -> None:
    study = Study()
    for number in range(9):
        study = with_class(study, str(number))
    colors = [each.color for each in classes_of(study)]
    assert len(set(colors)) == len(colors) == 12


def test_a_class_of_a_file_brings_its_colour_unless_the_user_chose_one() -> None:
    red, green = AnnotationClass("tumour", (200, 0, 0)), AnnotationClass("Immune cells", (160, 90, 160))
    study = with_classes_of(Study(), [red, green])
    assert color_of(study.classes, "tumour") == (200, 0, 0)
    assert color_of(study.classes, "Immune cells") == (160, 90, 160)
    assert color_of(study.classes, None) == (200, 0, 0)
    chosen = with_color(study, "tumour", (1, 2, 3))
    assert color_of(with_classes_of(chosen, [red]).classes, "tumour") == (1, 2, 3)


def test_renaming_and_deleting_a_class_reaches_regions_on_all_slides() -> None:
    study = Study().with_regions("a", [square()]).with_regions("b", [square(label="normal"), square()])
    renamed = with_name(study, "tumour", "carcinoma")
    assert [region.label for key in "ab" for region in renamed.regions(key)] == ["carcinoma", "normal", "carcinoma"]
    assert names(renamed) == ["carcinoma", "normal", "not here"]
    deleted = without_class(renamed, "carcinoma")
    assert counts(deleted) == {None: 2, "normal": 1}
    assert names(deleted) == ["normal", "not here"]


def test_what_cannot_be_done_to_classes_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidInputError, match="'tumour' is there already. Choose another name"):
        with_class(Study(), "tumour")
    with pytest.raises(InvalidInputError, match="'normal' is there already. Choose another name"):
        with_name(Study(), "tumour", "normal")
    with pytest.raises(InvalidInputError, match="must keep its name, for heads know it by that"):
        with_name(Study(), "not here", "elsewhere")
    with pytest.raises(InvalidInputError, match="must stay: it marks where attribution is unwanted"):
        without_class(Study(), "not here")


def test_only_the_regions_that_are_meant_get_another_class() -> None:
    one, other = square(), square(at=20)
    study = with_label(Study().with_regions("a", [one, other]), "a", {other.id}, "normal")
    assert [region.label for region in study.regions("a")] == ["tumour", "normal"]
    assert study.regions("a")[0] is one


def test_regions_of_a_file_come_after_those_that_are_here_and_take_the_place_of_their_own() -> None:
    here = (square(), square(at=30))
    same = Region(here[0].polygons, here[0].label, id=here[0].id)
    newer = Region(here[1].polygons, "normal", id=here[1].id)
    new = square(at=50)
    after = joined(here, [new, newer, same])
    assert after == (here[0], newer, new)
    assert after[0] is here[0]
    assert joined(after, [new, newer, same]) == after


def finish(steps: object) -> object:
    """Do a job to its end."""
    generator = steps()  # type: ignore[operator]
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def test_tokens_are_counted_by_class_as_boxes_lie_in_squares() -> None:
    geometry = GridGeometry(rows=5, cols=7, tile=10, stride=10, origin=(0, 0), slide_mpp=0.5)
    mask = np.ones((5, 7), bool)
    mask[0, 0] = False
    regions = [square(30), square(20, at=30, label="normal")]
    # of 3 x 3 tokens one is no tissue; 2 x 2 lie in the other square
    assert finish(counting(regions, geometry, mask)) == Counter({"tumour": 8, "normal": 4})


def test_what_fit_can_learn_from_is_said_in_words() -> None:
    assert told(Counter(), None).startswith("No regions yet.")
    assert told(Counter({"tumour": 1, None: 2000}), None) == "tumour: 1 region; no class: 2,000 regions."
    assert told(Counter({"tumour": 2}), Counter({"tumour": 1})) == "tumour: 2 regions, 1 token."


def test_regions_are_read_and_written_by_jobs(tmp_path: Path) -> None:
    regions = [square(), square(at=40, label="normal")]
    file = finish(writing(tmp_path / "a.geojson", regions, classes_of(Study())))
    found = finish(reading(Path(str(file))))
    assert found.regions == tuple(regions)  # type: ignore[attr-defined]
    assert found.classes == classes_of(Study())[:2]  # type: ignore[attr-defined]


def test_a_brush_joins_a_lasso_does_not_and_an_eraser_takes_from_all_classes() -> None:
    points = np.array([[5.0, 5.0], [5.0, 25.0]])
    here = (square(), square(at=4, label="normal"))
    painted = stroked(here, Stroke("brush", points, 3.0, "tumour"))
    assert [region.id for region in painted] == [region.id for region in here]
    assert painted[0].area_px > here[0].area_px
    assert painted[1] is here[1]
    ring = np.array([[0.0, 0.0], [0.0, 5.0], [5.0, 5.0]])
    assert len(stroked(here, Stroke("lasso", ring, 3.0, "tumour"))) == 3
    erased = stroked(here, Stroke("eraser", points, 3.0, None))
    assert all(after.area_px < before.area_px for before, after in zip(here, erased, strict=True))
    with pytest.raises(InvalidInputError, match="Draw around what is meant, or use the brush"):
        stroked(here, Stroke("lasso", np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), 3.0, "tumour"))
