"""Colours of concepts and of signed maps: the same in napari, in figures and in the report."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError

__all__ = ["concept_colors", "diverging_colors"]

# Okabe and Ito's seven, then by farthest point: each is the colour of medium lightness (CIELAB L 32-88) that keeps
# the largest smallest distance to white, dark grey and all before it, seen normally, by protanopes and by
# deuteranopes (Machado, Oliveira and Fernandes 2009, severity 1).
_CONCEPTS = (
    "0072b2 e69f00 009e73 cc79a7 56b4e9 d55e00 f0e442 0000ff 7766ff 00ee88 884422 1144aa "
    "990077 ff0055 6699ff eebbbb 55ddee ff9955 5522cc 991155 ff6688 557744 aa4411 7733ff "
    "eedd66 664433 ff22cc bb4488 999933 9933cc 66bb99 ccaacc 115555 ff8866 993399 bbddaa "
    "4499dd 6677ee 66eedd 44cc11 ffbb77 6688bb dd6666 005588 777733 991100 eebb44 99ccff"
).split()
_GOLDEN_ANGLE = 0.381966  # of a turn: hues that never come back

# Blue to vermilion through near-white, told apart by every common kind of colour vision.
_DIVERGING = ("053061", "2f7fbf", "9fc9e6", "f7f7f7", "f4b183", "dd6a1f", "7f2a00")


def concept_colors(n_concepts: int) -> NDArray[np.float64]:
    """Return one colour per concept.

    Parameters
    ----------
    n_concepts
        Number of concepts, at least 0.

    Returns
    -------
    NDArray[np.float64]
        Shape (n_concepts, 3): red, green, blue between 0 and 1. The colour of a concept does not depend on how many
        there are. 48 are chosen for colour-blind eyes; from there on hues repeat in other lightness.

    Raises
    ------
    InvalidInputError
        `n_concepts` is negative.

    Examples
    --------
    >>> concept_colors(30)[:3].tolist() == concept_colors(3).tolist()
    True
    """
    if n_concepts < 0:
        raise InvalidInputError(f"n_concepts must be at least 0; got {n_concepts}.")
    chosen = _from_hex(_CONCEPTS[:n_concepts])
    further = [
        colorsys.hls_to_rgb((i * _GOLDEN_ANGLE) % 1, (0.35, 0.5, 0.65)[i % 3], 0.7)
        for i in range(len(_CONCEPTS), n_concepts)
    ]
    return np.concatenate((chosen, np.array(further, dtype=np.float64).reshape(-1, 3)))


def diverging_colors(n_colors: int = 256) -> NDArray[np.float64]:
    """Return the colours of a signed map, from lowest (blue) over zero (near-white) to highest (vermilion).

    Parameters
    ----------
    n_colors
        Number of steps, at least 2; odd numbers have a step for zero itself.

    Returns
    -------
    NDArray[np.float64]
        Shape (n_colors, 3): red, green, blue between 0 and 1.

    Raises
    ------
    InvalidInputError
        Fewer than two colours.
    """
    if n_colors < 2:
        raise InvalidInputError(f"n_colors must be at least 2; got {n_colors}.")
    stops = _from_hex(_DIVERGING)
    place = np.linspace(-1, 1, n_colors)
    channels = [np.interp(place, np.linspace(-1, 1, len(stops)), channel) for channel in stops.T]
    return np.stack(channels, axis=1)


def _from_hex(codes: tuple[str, ...] | list[str]) -> NDArray[np.float64]:
    """Turn hexadecimal colours into (n_colors, 3) between 0 and 1."""
    return np.array([list(bytes.fromhex(code)) for code in codes], dtype=np.float64).reshape(-1, 3) / 255
