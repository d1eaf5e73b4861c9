"""What the kernels of a head say of tokens: of the sampled ones, and how large the largest scores are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.classkernels import KERNEL_MAPS, ClassKernels
from napari_prospector.core.concepts import ConceptQuantizer
from napari_prospector.core.crossfit import FittedPart, TrainingSet
from napari_prospector.core.each import each
from napari_prospector.core.graph import TokenGraph, convolve

__all__ = ["COLOR_QUANTILE", "TokenScores", "color_limit", "token_scores"]

COLOR_QUANTILE = 0.99

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TokenScores:
    """What `token_scores` found.

    Attributes
    ----------
    evidence, decision
        Shape (n_parts, n_targets, n_sampled): the maps of the kernels of every part at the sampled tokens; zeros where
        nobody asked for them.
    limits
        Symmetric colour limit of each map: the 99th percentile of absolute scores of all tokens, by the parts that
        speak for them.
    """

    evidence: Floats
    decision: Floats
    limits: dict[str, float]


def token_scores(
    training: TrainingSet, parts: Sequence[FittedPart], radius: int, *, of_sample: bool = True
) -> TokenScores:
    """Draw the maps of the kernels in one pass over the data.

    Parameters
    ----------
    training
        Data; each is asked for once.
    parts
        Fitted on all data, then without each fold.
    radius
        Hops.
    of_sample
        Whether every part is asked about the sampled tokens; if not, only colour limits are found.
    """
    sample, speakers = training.sample, np.empty(len(training.labels), dtype=np.int64)
    speaking = list(enumerate(parts))[1:] or list(enumerate(parts))
    for number, part in speaking:
        speakers[part.spoken_for] = number
    shape = (len(parts), len(training.targets), len(sample.owner))
    drawn = {name: np.zeros(shape) for name in KERNEL_MAPS}
    # a monogram is counted once for each token
    n_tokens = sum(int(part.counts[part.spoken_for, : part.kernels.n_concepts].sum()) for _, part in speaking)
    largest = {name: _Largest(n_tokens * shape[1]) for name in KERNEL_MAPS}
    fitted = [(part.quantizer, part.kernels) for part in parts]

    def own(datum: int) -> tuple[object, ...]:
        counts = [part.counts[datum] for part in parts]
        asked = range(len(parts)) if of_sample else [int(speakers[datum])]
        return counts, int(speakers[datum]), list(asked), sample.places[sample.of_datum(datum)]

    shared = (fitted, radius, next(iter(largest.values())).n_kept)
    stage = "teach" if of_sample else "colour limits"
    for datum, found in each(training.graphs, _scores_of, shared, own, stage=stage, report=training.report):
        for name, (at_places, top) in found.items():
            drawn[name][:, :, sample.of_datum(datum)] = at_places
            largest[name].add(top)
    limits = {name: _as_limit(kept.quantile()) for name, kept in largest.items()}
    return TokenScores(drawn["evidence"], drawn["decision"], limits)


def _scores_of(
    graph: TokenGraph,
    parts: Sequence[tuple[ConceptQuantizer, ClassKernels]],
    radius: int,
    n_top: int,
    counts: Sequence[NDArray[np.int64]],
    speaker: int,
    asked: Sequence[int],
    places: NDArray[np.int64],
) -> dict[str, tuple[Floats, Floats]]:
    """Return for each map the scores (n_parts, n_targets, n_places) of one datum, and the largest of the speaker's."""
    n_targets = len(parts[0][1].evidence)
    found = {name: np.zeros((len(parts), n_targets, len(places))) for name in KERNEL_MAPS}
    top: dict[str, list[Floats]] = {name: [] for name in KERNEL_MAPS}
    for number in asked:
        quantizer, kernels = parts[number]
        concepts = quantizer.predict(graph.embeddings)
        for name in KERNEL_MAPS:
            for target in range(n_targets):
                scores = convolve(graph, concepts, kernels.map_kernel(name, target, counts[number]), radius)
                found[name][number, target] = scores[places]
                if number == speaker:
                    top[name].append(_top(np.abs(scores), n_top))
    return {name: (found[name], np.concatenate(top[name])) for name in KERNEL_MAPS}


def color_limit(scores: Floats) -> float:
    """Return the symmetric colour limit (99th percentile of absolute values) of scores (n_tokens,)."""
    return _as_limit(float(np.quantile(np.abs(scores), COLOR_QUANTILE)))


def _as_limit(quantile: float) -> float:
    """Return a limit that a scale can be drawn on: a map may be 0 nearly everywhere."""
    return quantile if quantile > 0 else 1.0


def _top(values: Floats, n_kept: int) -> Floats:
    """Return the largest of values (n,), in no order."""
    return values if len(values) <= n_kept else np.partition(values, len(values) - n_kept)[-n_kept:]


class _Largest:
    """The quantile of more values than should be held: one in a hundred of them is kept, and the result is exact.

    Parameters
    ----------
    n_values
        How many values there are in all.

    Attributes
    ----------
    n_kept
        How many of the largest are enough.
    """

    def __init__(self, n_values: int) -> None:
        self._place = COLOR_QUANTILE * (n_values - 1)
        self._below = int(np.floor(self._place))
        self.n_kept = n_values - self._below
        self._kept = np.empty(0)

    def add(self, values: Floats) -> None:
        """Take values (n,) in; what was seen before and what comes later may come in any order."""
        self._kept = _top(np.concatenate([self._kept, values]), self.n_kept)

    def quantile(self) -> float:
        """Return what `np.quantile` gives for all values together."""
        ends = np.sort(self._kept)[:2]
        return float(np.quantile(ends, self._place - self._below))
