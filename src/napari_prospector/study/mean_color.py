"""A check on a cohort: can the mean colour of a slide tell its label? Then a map may show staining, not tissue."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from napari_prospector.core.crossfit import make_folds
from napari_prospector.core.measures import auroc
from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.slides import open_slide

__all__ = ["mean_color", "mean_color_auroc"]

_OVERVIEW_PX = 256
_GLASS = 0.9  # paler pixels of the overview are glass, which says nothing of the tissue


def mean_color(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return the mean red, green and blue (3,), 0 to 1, of the tissue of a slide."""
    with open_slide(path) as slide:
        pixels = slide.thumbnail(_OVERVIEW_PX).reshape(-1, 3) / 255
    tissue = pixels[pixels.mean(axis=1) < _GLASS]
    return np.asarray((tissue if len(tissue) else pixels).mean(axis=0))


def mean_color_auroc(
    paths: Sequence[str | os.PathLike[str]],
    labels: Sequence[Hashable],
    groups: Sequence[Hashable] | None = None,
    random_state: int = 0,
) -> float:
    """Return how well a logistic regression on mean colours tells two classes apart, out of fold.

    Parameters
    ----------
    paths
        Slides.
    labels
        Class of each; two classes.
    groups
        Patient of each; never divided between folds.
    random_state
        Of the folds.

    Returns
    -------
    float
        AUROC; 0.5 is chance, and small cohorts scatter around it.

    Raises
    ------
    InvalidInputError
        If there are not two classes, or nothing can be held out.
    """
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    if len(names) != 2:
        raise InvalidInputError(f"labels must hold two classes; got {names.tolist()}.")
    folds = make_folds(numbers, groups, 5, random_state)
    if folds.max() == 0:
        raise InvalidInputError("each class must come from at least two groups, so that something can be held out.")
    colors = np.array([mean_color(path) for path in paths])
    scores = np.empty(len(colors))
    for fold in np.unique(folds):
        held_out = folds == fold
        scaler = StandardScaler().fit(colors[~held_out])
        model = LogisticRegression().fit(scaler.transform(colors[~held_out]), numbers[~held_out])
        scores[held_out] = model.decision_function(scaler.transform(colors[held_out]))
    return auroc(scores, numbers)
