"""Flags of tiles that are not good to look at: pen, blur, fold, bubble; from measures that are stored with the tokens.

A measure is a number from 0 to 1, the greater the worse (`tilequality` says how it is taken). A flag is a
measure above its threshold, so that thresholds can be changed without reading the slide again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError, UnknownNameError

__all__ = [
    "COLOURS",
    "MEASURES",
    "THRESHOLDS",
    "Rules",
    "as_mapping",
    "flag_bits",
    "flagged",
    "parse_rules",
    "resolved",
]

MEASURES = ("pen", "blur", "fold", "bubble")
"""What is measured; measure i is bit ``1 << i`` of a flag."""

THRESHOLDS: Mapping[str, float] = {"pen": 0.04, "blur": 0.9, "fold": 0.03, "bubble": 0.02}
"""Measures above are flagged; chosen on planted artefacts (docs/quality.md)."""

COLOURS = ((0.0, 0.45, 0.7), (0.9, 0.6, 0.0), (0.8, 0.47, 0.65), (0.34, 0.71, 0.91))
"""Red, green and blue of each flag in pictures and layers: of Okabe and Ito, told apart with any colour vision."""

Rules = Iterable[str] | Mapping[str, float | None]
"""Flags to leave out: names, or names with thresholds of their own (None: the store's)."""


def resolved(rules: Rules, thresholds: Mapping[str, float]) -> dict[str, float]:
    """Return the threshold of each flag that is named.

    Parameters
    ----------
    rules
        Names of flags, or names with thresholds; None stands for the one in `thresholds`.
    thresholds
        Of the store, by name of measure.

    Raises
    ------
    UnknownNameError
        A name is no measure of these.
    InvalidInputError
        A threshold is not a number of 0 to 1.
    """
    found: dict[str, float] = {}
    for name, given in as_mapping(rules).items():
        if name not in thresholds:
            raise UnknownNameError(f"Quality flag {name!r} is unknown. Known are {', '.join(map(repr, thresholds))}.")
        threshold = float(thresholds[name] if given is None else given)
        if not 0 <= threshold <= 1:
            raise InvalidInputError(f"The threshold of {name} must be a number, 0 to 1; got {threshold!r}.")
        found[name] = threshold
    return found


def parse_rules(words: Iterable[str]) -> dict[str, float | None]:
    """Read ``pen,blur=0.6`` as a command line gives it: names, with a threshold or without.

    Raises
    ------
    UnknownNameError
        A name is no flag.
    InvalidInputError
        What follows the equals sign is no number of 0 to 1.

    Examples
    --------
    >>> parse_rules(["pen,blur=0.6"])
    {'pen': None, 'blur': 0.6}
    """
    rules: dict[str, float | None] = {}
    for word in (part.strip() for words_of in words for part in words_of.split(",")):
        name, equals, value = word.partition("=")
        if not name:
            continue
        try:
            rules[name] = float(value) if equals else None
        except ValueError:
            raise InvalidInputError(f"The threshold of {name} must be a number, 0 to 1; got {value!r}.") from None
    resolved(rules, THRESHOLDS)
    return rules


def flag_bits(
    values: NDArray[np.float32], measures: tuple[str, ...], thresholds: Mapping[str, float]
) -> NDArray[np.uint8]:
    """Return the flags of tokens as bits: bit i where measure i is above its threshold.

    Parameters
    ----------
    values
        (..., n_measures), NaN where nothing was measured: never flagged.
    measures
        Their names.
    thresholds
        By name; a measure without one is not flagged.

    Returns
    -------
    ndarray
        (...), uint8.
    """
    bits = np.zeros(values.shape[:-1], np.uint8)
    for i, name in enumerate(measures):
        if name in thresholds:
            bits |= (values[..., i] > thresholds[name]).astype(np.uint8) << np.uint8(i)
    return bits


def flagged(bits: NDArray[np.uint8], measures: tuple[str, ...], names: Iterable[str]) -> NDArray[np.bool_]:
    """Return where at least one of the named flags is set in `bits`, of any shape."""
    wanted = sum(1 << measures.index(name) for name in set(names))
    return np.asarray(bits & np.uint8(wanted) != 0)


def as_mapping(rules: Rules) -> dict[str, float | None]:
    """Return names of flags with thresholds, None where the store's own holds; JSON types.

    Raises
    ------
    InvalidInputError
        It is a single word, which would be taken letter by letter.
    """
    if isinstance(rules, str):
        raise InvalidInputError(f"Quality flags must be a list of names, such as ['pen', 'blur']; got {rules!r}.")
    return dict(rules) if isinstance(rules, Mapping) else dict.fromkeys(rules)
