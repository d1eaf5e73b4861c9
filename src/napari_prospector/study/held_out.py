"""Which slides a head has learned from, so that nobody measures it on them unawares."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import MismatchError

__all__ = ["seen_slides", "slide_marks"]

_MARK_DIGITS = 16


def slide_marks(contents: Sequence[str]) -> tuple[str, ...]:
    """Return a mark of each slide, for a head to remember: 16 hexadecimal digits, from which nothing can be read.

    Parameters
    ----------
    contents
        A fingerprint of the content of each slide; a slide that was renamed or moved keeps its own.
    """
    return tuple(hashlib.sha256(content.encode()).hexdigest()[:_MARK_DIGITS] for content in contents)


def seen_slides(
    learned: Collection[str], contents: Sequence[str], groups: Sequence[Hashable] | None = None
) -> NDArray[np.bool_]:
    """Say which slides are no news to a head: those that it learned from, and other slides of their patients.

    Parameters
    ----------
    learned
        The marks of the slides that it learned from.
    contents
        Fingerprint of each slide.
    groups
        Patient of each slide; None: not known.

    Returns
    -------
    NDArray[np.bool_]
        Shape (n_slides,).

    Raises
    ------
    MismatchError
        Lengths differ.
    """
    known = set(learned)
    own = [mark in known for mark in slide_marks(contents)]
    if groups is None:
        return np.array(own, dtype=bool)
    if len(groups) != len(own):
        raise MismatchError(f"groups must hold one entry for each of {len(own)} slides; got {len(groups)}.")
    patients = {group for group, is_known in zip(groups, own, strict=True) if is_known}
    return np.array([group in patients for group in groups], dtype=bool)
