"""What a cohort mixes that is no disease: scanners and stains, above all where they go along with the label.

A head learns whatever tells the labels apart. Where all tumours were scanned elsewhere, that is the scanner.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from napari_prospector.core.bootstrap import group_codes
from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.staining import StainEstimate

__all__ = ["ANGLE_DEGREES", "STRENGTH_RATIO", "Mixture", "association", "describe_mixtures", "stain_spread"]

ANGLE_DEGREES = 20.0
"""A cohort mixes stains if the vectors of a stain are farther apart than this in one pair of slides in ten."""

STRENGTH_RATIO = 2.0
"""Or if a stain takes so many times as strongly in the tenth slide from the top as in the tenth from below.

Both set by hand. For hematoxylin, slides that are stitched each from a few patients of one data set reach 12 to 17
degrees and 1.3 to 1.8 where the patients are stained alike (high-grade), 17 to 37 degrees and 1.5 to 3.3 where they are
not (the other tasks); if each came from a laboratory of its own, 26 to 43 degrees and 2.1 to 3.1 (`spread` in
`benchmarks/results/stain_normalization.json`).
"""

# Of a permutation test; a scanner that tells every label right counts already from three slides of each.
_MOST_P, _MOST_P_OF_ALL = 0.01, 0.2
_N_PERMUTATIONS = 1999
_MOST_SCANNERS = 5
_STAINS = ("hematoxylin", "eosin")


@dataclasses.dataclass(frozen=True)
class Mixture:
    """How strongly something goes along with a label.

    Attributes
    ----------
    value
        What measures it, 0.5 to 1: the AUROC at which one number of the stain tells one label from the rest, or the
        share of data whose label is the most frequent one of their scanner.
    p_value
        Share of random permutations of the labels that reach it.
    which
        The number that does, by index.
    """

    value: float
    p_value: float
    which: int


def describe_mixtures(
    scanners: Sequence[str | None],
    stains: Sequence[Mapping[str, Any] | None],
    columns: Mapping[str, Sequence[Hashable]] | None = None,
    groups: Sequence[object] | None = None,
    normalized: str | None = None,
) -> tuple[str, ...]:
    """Tell what a cohort mixes.

    Parameters
    ----------
    scanners
        Of each slide, as its file states it.
    stains
        Of each slide, as `stain_record` says; None where nobody looked.
    columns
        What must not go along with scanner or stain, by what sentences call it: such as ``{"label": labels}``. One
        entry for each slide.
    groups
        The patient of each slide, None where it is one alone. Patients are permuted, not slides.
    normalized
        How the stain was normalized before embedding.

    Returns
    -------
    tuple of str
        Sentences; none where there is nothing to tell.

    Raises
    ------
    InvalidInputError
        There is not one entry for each slide.
    """
    n_slides = len(scanners)
    for name, entries in {"stains": stains, **(columns or {})}.items():
        if len(entries) != n_slides:
            raise InvalidInputError(f"{name} must hold one entry for each of {n_slides} slides; got {len(entries)}.")
    units = group_codes(groups, n_slides).tolist()
    sentences = _scanner_sentences(scanners, columns or {}, units)
    known = [i for i, stain in enumerate(stains) if stain and stain.get("vectors")]
    if any(stains) and len(known) < n_slides:
        sentences.append(f"How {n_slides - len(known)} of {n_slides} slides are stained is not known.")
    if len(known) > 1:
        estimates = [StainEstimate.from_json(stains[i] or {}) for i in known]
        chosen = {name: [entries[i] for i in known] for name, entries in (columns or {}).items()}
        sentences += _stain_sentences(estimates, chosen, [units[i] for i in known], normalized)
    return tuple(sentences)


def stain_spread(estimates: Sequence[StainEstimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much stains differ between slides.

    Parameters
    ----------
    estimates
        One for each slide, at least two.

    Returns
    -------
    angles : ndarray
        Shape (2,): degrees between the vectors of two slides, 90th percentile over pairs, for hematoxylin and for
        eosin.
    ratios : ndarray
        Shape (2,): 90th over 10th percentile of their strengths.
    """
    vectors = np.array([estimate.vectors for estimate in estimates])
    cosines = np.einsum("isc,jsc->ijs", vectors, vectors)[np.triu_indices(len(vectors), 1)]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    low, high = np.percentile([estimate.strengths for estimate in estimates], [10, 90], axis=0)
    return np.percentile(angles, 90, axis=0), high / low


def association(
    numbers: ArrayLike, labels: Sequence[Hashable], groups: Sequence[object] | None = None, seed: int = 0
) -> Mixture | None:
    """Measure how well single numbers of data tell their labels apart, with a permutation test.

    The largest AUROC over all numbers and labels, each label against the rest and either way round, is compared with
    the largest of each permutation, so that trying many numbers is paid for.

    Parameters
    ----------
    numbers
        Shape (n_data, n_numbers).
    labels
        Of each datum.
    groups
        The patient of each datum; slides of one patient and label become one datum, their mean.
    seed
        Of the permutations.

    Returns
    -------
    Mixture or None
        None where fewer than two labels have two data each.
    """
    values, names = _by_unit(np.asarray(numbers, np.float64), labels, group_codes(groups, len(labels)).tolist())
    # the AUROC of a single datum is 1 by chance too often to say anything
    told = [name for name, count in Counter(names).items() if count >= 2]
    if len(told) < 2:
        return None
    is_label = np.array([[name == other for name in names] for other in told], np.float64)
    sizes = is_label.sum(axis=1)
    ranks = rankdata(values, axis=0)
    rng = np.random.default_rng(seed)
    shuffled = [np.arange(len(names)), *(rng.permutation(len(names)) for _ in range(_N_PERMUTATIONS))]
    n_pairs = (sizes * (len(names) - sizes))[:, None]
    best = np.empty(len(shuffled))
    which = 0
    for i, places in enumerate(shuffled):
        aurocs = (is_label[:, places] @ ranks - (sizes * (sizes + 1) / 2)[:, None]) / n_pairs
        extremes = np.maximum(aurocs, 1 - aurocs)
        best[i] = extremes.max()
        which = int(extremes.max(axis=0).argmax()) if i == 0 else which
    return Mixture(float(best[0]), float((best >= best[0] - 1e-9).mean()), which)


def _scanner_sentences(
    scanners: Sequence[str | None], columns: Mapping[str, Sequence[Hashable]], units: Sequence[int]
) -> list[str]:
    """Tell which scanners are mixed, and what they go along with."""
    counts = Counter(scanners)
    if len(counts) < 2:
        return []
    names = sorted((name for name in counts if name), key=lambda name: (-counts[name], name))
    listed = [f"{counts[name]} slides by {name}" for name in names[:_MOST_SCANNERS]]
    if rest := sum(counts[name] for name in names[_MOST_SCANNERS:]):
        listed.append(f"{rest} by {len(names) - _MOST_SCANNERS} others")
    if counts[None]:
        listed.append(f"{counts[None]} do not state theirs")
    sentences = [f"Scanners {'are' if len(names) > 1 else 'may be'} mixed: {', '.join(listed)}."]
    for column, entries in columns.items():
        found = _scanner_association(scanners, entries, units)
        if found is not None and found.p_value <= (_MOST_P if found.value < 1 else _MOST_P_OF_ALL):
            sentences.append(
                f"The scanner goes along with the {column}: by the scanner alone, {found.value:.0%} of the slides are"
                f" told right (p = {found.p_value:.2g}). {_advice(column, 'scanner')}"
            )
    return sentences


def _scanner_association(
    scanners: Sequence[str | None], labels: Sequence[Hashable], units: Sequence[int]
) -> Mixture | None:
    """Measure how well the scanner tells the label, with a permutation test over patients."""
    pairs = sorted({*zip(units, scanners, labels, strict=True)}, key=str)
    if len({label for *_, label in pairs}) < 2:
        return None
    rows = _codes([scanner for _, scanner, _ in pairs])
    columns = _codes([label for *_, label in pairs])
    rng = np.random.default_rng(0)
    shares = []
    for i in range(_N_PERMUTATIONS + 1):
        table = np.zeros((rows.max() + 1, columns.max() + 1))
        np.add.at(table, (rows, columns if i == 0 else rng.permutation(columns)), 1)
        shares.append(table.max(axis=1).sum() / len(pairs))
    return Mixture(shares[0], float(np.mean(np.array(shares) >= shares[0] - 1e-9)), 0)


def _stain_sentences(
    estimates: Sequence[StainEstimate],
    columns: Mapping[str, Sequence[Hashable]],
    units: Sequence[int],
    normalized: str | None,
) -> list[str]:
    """Tell how much stains differ, and what they go along with."""
    angles, ratios = stain_spread(estimates)
    differ = [
        f"in one pair of slides in ten, the hue of {name} is {angle:.0f}° apart"
        for name, angle in zip(_STAINS, angles, strict=True)
        if angle > ANGLE_DEGREES
    ]
    differ += [
        f"{name} takes {ratio:.1f} times as strongly in the darkest as in the palest tenth"
        for name, ratio in zip(_STAINS, ratios, strict=True)
        if ratio > STRENGTH_RATIO
    ]
    done = f" Tiles were normalized ({normalized}) before embedding." if normalized else ""
    sentences = [f"Stains are mixed: {', '.join(differ)}.{done}"] if differ else []
    numbers = [(*np.ravel(one.vectors), *one.strengths, *one.light) for one in estimates]
    names = [*(f"the hue of {name}" for name in _STAINS for _ in range(3)), *(f"how {name} takes" for name in _STAINS)]
    names += ["the light"] * 3
    for column, entries in columns.items():
        found = association(numbers, entries, units)
        if found is not None and found.p_value <= _MOST_P:
            sentences.append(
                f"The stain goes along with the {column}: {names[found.which]} alone tells it with an AUROC of"
                f" {found.value:.2f} (p = {found.p_value:.2g}). {_advice(column, 'stain')}{done}"
            )
    return sentences


def _advice(column: str, what: str) -> str:
    """Say what follows."""
    if column == "split":
        return f"Figures of the test slides then tell of slides of another {what}."
    return f"Maps may show the {what} and not what was looked for: check with slides of one {what}."


def _by_unit(
    values: NDArray[np.float64], labels: Sequence[Hashable], units: Sequence[int]
) -> tuple[NDArray[np.float64], list[Hashable]]:
    """Return numbers (n_units, n_numbers) and labels of patients: means over their slides of one label."""
    members: dict[tuple[int, Hashable], list[int]] = {}
    for i, (unit, label) in enumerate(zip(units, labels, strict=True)):
        members.setdefault((unit, label), []).append(i)
    return np.array([values[own].mean(axis=0) for own in members.values()]), [label for _, label in members]


def _codes(entries: Sequence[Hashable]) -> NDArray[np.int64]:
    """Give each entry a number."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(entry, len(numbers)) for entry in entries], np.int64)
