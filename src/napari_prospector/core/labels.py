"""Labels of data: checked, numbered, and the class among them that maps look for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.core.graph import TokenGraph

__all__ = ["FEWEST_PER_CLASS", "NEGATIVE_NAMES", "ClassLabels", "class_labels", "positive_label"]

FEWEST_PER_CLASS = 3

# with two classes, the one whose name says "nothing found" is not the one to look for
NEGATIVE_NAMES = {"normal", "negative", "neg", "benign", "control", "healthy", "none", "no", "false", "0", "-1"}


@dataclass(frozen=True)
class ClassLabels:
    """The labels of a cohort.

    Attributes
    ----------
    classes
        The labels that occur, sorted.
    numbers
        Shape (n_data,): the class number of each datum.
    target
        The class that maps look for; None with more than two classes.
    targets
        Shape (n_targets,), class numbers: the target, or all classes where there are more than two.
    """

    classes: NDArray[Any]
    numbers: NDArray[np.int64]
    target: Any
    targets: NDArray[np.int64]


def class_labels(
    graphs: Sequence[TokenGraph], labels: ArrayLike, groups: Sequence[Hashable] | None, positive: Hashable | None
) -> ClassLabels:
    """Check labels and number them.

    Raises
    ------
    InvalidInputError
        If lengths disagree, there are fewer than two classes or fewer than 3 data of one, or `positive` is no label.
    """
    names = np.asarray(labels)
    if names.ndim != 1 or len(names) != len(graphs) or (groups is not None and len(groups) != len(graphs)):
        n_groups = "" if groups is None else f" and {len(groups)} groups"
        raise InvalidInputError(
            f"labels (and groups) must have one entry per datum; got {len(graphs)} data, labels of shape "
            f"{names.shape}{n_groups}."
        )
    classes, numbers = np.unique(names, return_inverse=True)
    sizes = np.bincount(numbers)
    if len(classes) < 2:
        raise InvalidInputError(
            f"labels must hold at least two classes; got only {classes.tolist()}. Add data of another class."
        )
    if sizes.min() < FEWEST_PER_CLASS:
        scarce = classes[sizes.argmin()]
        raise InvalidInputError(
            f"each class needs at least {FEWEST_PER_CLASS} data; class {str(scarce)!r} has {sizes.min()}. Add data."
        )
    if len(classes) > 2:
        return ClassLabels(classes, numbers, None, np.arange(len(classes)))
    target = positive_label(classes.tolist(), positive)
    return ClassLabels(classes, numbers, target, np.flatnonzero(classes == target))


def positive_label(names: Sequence[Any], positive: Hashable | None = None) -> Any:
    """Choose which of two classes the maps look for.

    Parameters
    ----------
    names
        Both, sorted.
    positive
        The one that is wanted; None: the one that is not named like a negative, else the last.

    Raises
    ------
    InvalidInputError
        `positive` is none of them.
    """
    if positive is not None:
        if positive not in names:
            raise InvalidInputError(f"positive must be one of the labels {list(names)}; got {positive!r}.")
        return positive
    hopeful = [name for name in names if str(name).strip().lower() not in NEGATIVE_NAMES]
    return hopeful[0] if len(hopeful) == 1 else names[-1]
