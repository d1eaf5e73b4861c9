"""The classes that regions are drawn in: those of the study, those of its labels, and "not here"; without Qt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from types import MappingProxyType

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import NOT_HERE, AnnotationClass, default_color
from napari_prospector.study.project import Study

__all__ = [
    "UNCLASSIFIED",
    "classes_of",
    "color_of",
    "counts",
    "with_class",
    "with_classes_of",
    "with_color",
    "with_label",
    "without_class",
    "with_name",
]

FIRST_CLASSES = ("tumour", "normal")
UNCLASSIFIED = (200, 0, 0)
"""Colour of regions without a class, as in QuPath."""


def classes_of(study: Study) -> tuple[AnnotationClass, ...]:
    """Return the classes that one can draw in: the study's, those of slides' labels, and "not here" at the end.

    Parameters
    ----------
    study
        Where neither classes nor labels are there yet, "tumour" and "normal" are offered.

    Returns
    -------
    tuple
        Each name once, each with a colour.
    """
    used = (region.label for regions in study.annotations.values() for region in regions if region.label)
    known = {each.name: each for each in study.classes}
    offered = study.labels if known or study.labels else FIRST_CLASSES
    for name in (*offered, *used):
        if name not in known and name != NOT_HERE:
            known[name] = _new_class(name, known.values())
    not_here = known.pop(NOT_HERE, None) or _new_class(NOT_HERE, known.values())
    return (*known.values(), not_here)


def _new_class(name: str, others: Iterable[AnnotationClass]) -> AnnotationClass:
    """Return a class in a colour that no other has."""
    return AnnotationClass(name, default_color(name, [other.color for other in others]))


def color_of(classes: Iterable[AnnotationClass], label: str | None) -> tuple[int, int, int]:
    """Return the colour of the regions of a class."""
    return next((each.color for each in classes if each.name == label), UNCLASSIFIED)


def counts(study: Study, key: str | None = None) -> Counter[str | None]:
    """Return the number of regions of each class: on one slide, or on all."""
    chosen = study.annotations.values() if key is None else [study.regions(key)]
    return Counter(region.label for regions in chosen for region in regions)


def with_class(study: Study, name: str) -> Study:
    """Add a class.

    Raises
    ------
    InvalidInputError
        There is such a class already, or the name is empty.
    """
    classes = classes_of(study)
    if any(each.name == name for each in classes):
        raise InvalidInputError(f"The name of a class must be new; {name!r} is there already. Choose another name.")
    return replace(study, classes=(*classes[:-1], _new_class(name, classes), classes[-1]))


def with_name(study: Study, old: str, new: str) -> Study:
    """Rename a class, and with it the class of its regions on all slides; labels of slides stay.

    Raises
    ------
    InvalidInputError
        There is a class of the new name already, the new name is empty, or the class is "not here".
    """
    classes = classes_of(study)
    if old == NOT_HERE:
        raise InvalidInputError(f"The class {NOT_HERE!r} must keep its name, for heads know it by that. Add another.")
    if any(each.name == new for each in classes):
        raise InvalidInputError(f"The name of a class must be new; {new!r} is there already. Choose another name.")
    renamed = tuple(replace(each, name=new) if each.name == old else each for each in classes)
    return replace(_relabelled(study, old, new), classes=renamed)


def with_color(study: Study, name: str, color: tuple[int, int, int]) -> Study:
    """Give a class another colour."""
    classes = (replace(each, color=color) if each.name == name else each for each in classes_of(study))
    return replace(study, classes=tuple(classes))


def without_class(study: Study, name: str) -> Study:
    """Delete a class; its regions stay, on all slides, without a class.

    Raises
    ------
    InvalidInputError
        The class is "not here".
    """
    if name == NOT_HERE:
        raise InvalidInputError(f"The class {NOT_HERE!r} must stay: it marks where attribution is unwanted.")
    classes = tuple(each for each in classes_of(study) if each.name != name)
    return replace(_relabelled(study, name, None), classes=classes)


def _relabelled(study: Study, old: str, new: str | None) -> Study:
    """Give all regions of a class another one."""
    annotations = {
        key: tuple(replace(region, label=new) if region.label == old else region for region in regions)
        for key, regions in study.annotations.items()
    }
    return replace(study, annotations=MappingProxyType(annotations))


def with_label(study: Study, key: str, ids: Collection[str], label: str | None) -> Study:
    """Give regions of a slide, by their ids, a class."""
    regions = (replace(region, label=label) if region.id in ids else region for region in study.regions(key))
    return with_classes_of(study.with_regions(key, regions))


def with_classes_of(study: Study, classes: Iterable[AnnotationClass] = ()) -> Study:
    """Keep the classes that one can draw in as classes of the study, and add those of a file, in their own colours."""
    before = {each.name for each in study.classes}
    given = {each.name: each for each in classes}
    # what nobody has chosen a colour for takes that of the file
    own = (each if each.name in before else given.get(each.name, each) for each in classes_of(study))
    known = {each.name: each for each in own}
    not_here = known.pop(NOT_HERE)
    return replace(study, classes=(*(known | {n: c for n, c in given.items() if n not in known}).values(), not_here))
