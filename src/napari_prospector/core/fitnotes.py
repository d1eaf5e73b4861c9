"""Before and after fitting a head: which parameters cannot be meant, and what to know before trusting the result."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from napari_prospector.core.calibration import CALIBRATED_FROM
from napari_prospector.core.kernels import KERNELS
from napari_prospector.errors import InvalidInputError, ProspectorWarning

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["check_parameters", "fit_notes"]


def check_parameters(head: ProspectorHead) -> None:
    """Refuse parameters of a head that cannot be meant.

    Raises
    ------
    InvalidInputError
        If there is such a one.
    """
    if head.kernel not in (*KERNELS, "auto"):
        raise InvalidInputError(f"kernel must be 'fold-change', 'linear' or 'auto'; got {head.kernel!r}.")
    if head.refine not in (True, False):
        raise InvalidInputError(f"refine must be True or False; got {head.refine!r}.")
    for name, lowest in (("n_concepts", 1), ("radius", 0), ("n_folds", 2), ("max_sample", 1)):
        value = getattr(head, name)
        if name in ("n_concepts", "radius") and value == "auto":
            continue
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < lowest:
            choice = " or 'auto'" if name in ("n_concepts", "radius") else ""
            raise InvalidInputError(f"{name} must be a whole number of at least {lowest}{choice}; got {value!r}.")


def fit_notes(head: ProspectorHead, *, is_out_of_fold: bool) -> tuple[str, ...]:
    """Return the notes of a head, a sentence each, and warn where its evidence map is blank.

    Parameters
    ----------
    head
        Fitted and calibrated.
    is_out_of_fold
        Whether anything could be held out.
    """
    notes = []
    smallest = min(head.n_data_.values())
    if not is_out_of_fold:
        notes.append(
            "A class comes from a single group, so nothing could be held out: colour limits and probabilities "
            "rest on data that the head has seen."
        )
    if any(scale.slope == 0 for scale in head.platt_):
        notes.append(
            "Out of fold the scores of whole data do not tell a class from the rest, so its probability is its "
            "share of the data."
        )
    if not head.is_calibrated_:
        notes.append(
            f"Probabilities are not calibrated: the smallest class has {smallest} data, {CALIBRATED_FROM} are needed."
        )
    if not all(kernel.any() for kernel in head.kernels_.evidence):
        text = (
            f"No feature passed alpha={head.alpha} and tau={head.tau}, so the evidence map is blank. With few data "
            "no test can reach significance: set alpha=None, lower tau, or add data."
        )
        notes.append(text)
        warnings.warn(text, ProspectorWarning, stacklevel=3)
    return tuple(notes)
