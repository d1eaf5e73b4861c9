"""The refined map: what a read-out of embeddings finds, taught by labels of data and by the kernel's map.

K concepts throw away what a linear read-out of the embedding keeps. So the kernel is the teacher and a read-out the
student (`readout`); its scores are shared with the neighbours by an amount, chosen by the excess correlation of
out-of-fold maps (`criterion`). Where regions are patches the neighbours know much; where positive tokens lie singly
they know nothing, and the amount that is chosen is 0.

A refined score is a log-ratio: how much more frequent tokens like this one are in data of the class than in the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from napari_prospector.core.criterion import Jury, excess_terms
from napari_prospector.core.crossfit import TrainingSet
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.readout import Readout, ReadoutTrainer, token_features
from napari_prospector.core.sharing import share_scores
from napari_prospector.core.tokenscores import TokenScores

__all__ = ["Refinement", "Refiner", "refine"]

AMOUNTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)


@dataclass(frozen=True)
class Refiner:
    """Draws the refined map: a read-out of the embeddings, shared with the neighbours.

    Attributes
    ----------
    weights
        Shape (n_targets, n_features): of the features that `token_features` gives.
    offset
        Shape (n_targets,).
    amount
        Share of the neighbours in the read-out, 0 … 1.
    n_categories
        Number of categories where embeddings hold category numbers; None for vectors.
    """

    weights: NDArray[np.float64]
    offset: NDArray[np.float64]
    amount: float
    n_categories: int | None = None

    def scores(self, graph: TokenGraph, target: int) -> NDArray[np.float64]:
        """Return the refined map (n_tokens,) of a datum for a target class, a row of `weights`."""
        readout = Readout(self.weights[target], float(self.offset[target]))
        return share_scores(graph, readout.scores(token_features(graph, self.n_categories)), self.amount)


@dataclass(frozen=True)
class Refinement:
    """What `refine` found.

    Attributes
    ----------
    refiner
        Fitted on all data.
    scores
        Shape (n_targets, n_sampled): the refined map of the sampled tokens, out of fold where there are folds.
    evidence, decision
        Shape (n_targets, n_sampled): the maps of the kernels, likewise.
    """

    refiner: Refiner
    scores: NDArray[np.float64]
    evidence: NDArray[np.float64]
    decision: NDArray[np.float64]

    def maps(self) -> dict[str, NDArray[np.float64]]:
        """Return all three by name."""
        return {"evidence": self.evidence, "decision": self.decision, "refined": self.scores}


def refine(
    training: TrainingSet,
    teachers: TokenScores,
    trainers: Sequence[Sequence[ReadoutTrainer]],
    juries: Sequence[Jury],
    n_categories: int | None,
) -> Refinement:
    """Fit read-outs with the kernels as teachers, and choose how much they are shared.

    Parameters
    ----------
    training
        Data, with the rows that read-outs see.
    teachers
        What the kernels say of the sampled tokens.
    trainers
        For each target one trainer for each part, in the order of the kernels.
    juries
        One for each target; empty where nothing can be held out: then nothing is shared.
    n_categories
        Of the features.
    """
    evidence, decision = teachers.evidence, teachers.decision
    rows = training.sample.rows
    assert rows is not None
    readouts = [
        [trainer.readout(evidence[number, target][trainer.space.inside]) for number, trainer in enumerate(own)]
        for target, own in enumerate(trainers)
    ]
    own, around = out_of_fold_readout(training, readouts)
    maps = np.stack([own, around], axis=-1)
    amount = _best_amount(maps, juries, training) if juries else 0.0
    mixed = maps @ np.array([1 - amount, amount])
    scales = [_log_ratio(mixed[t], (training.labels == training.targets[t])[rows.owner]) for t in range(len(mixed))]
    slope, zero = np.array(scales).T
    refiner = Refiner(
        weights=np.stack([slope[t] * own[0].weights for t, own in enumerate(readouts)]),
        offset=slope * np.array([own[0].offset for own in readouts]) + zero,
        amount=amount,
        n_categories=n_categories,
    )
    scores = slope[:, None] * mixed + zero[:, None]
    return Refinement(refiner, scores, out_of_fold(training, evidence), out_of_fold(training, decision))


def out_of_fold(training: TrainingSet, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pick from scores (n_parts, …, n_sampled) those of the part that has not seen the datum: (…, n_sampled)."""
    if training.n_folds == 0:
        return np.asarray(scores[0])
    held = np.empty(scores.shape[1:])
    row_folds = training.folds[training.sample.owner]
    for fold in range(training.n_folds):
        held[..., row_folds == fold] = scores[fold + 1][..., row_folds == fold]
    return held


def out_of_fold_readout(
    training: TrainingSet, readouts: Sequence[Sequence[Readout]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what read-outs say of tokens and of their neighbours, each (n_targets, n_sampled), out of fold."""
    rows = training.sample.rows
    assert rows is not None
    row_folds = training.folds[rows.owner]
    shape = (len(readouts), len(rows.owner))
    own, around = np.empty(shape), np.empty(shape)
    for target, fitted in enumerate(readouts):
        for fold in range(max(training.n_folds, 1)):
            inside = row_folds == fold
            readout = fitted[fold + 1] if training.n_folds else fitted[0]
            own[target, inside] = readout.scores(rows.features[inside])
            around[target, inside] = readout.scores(rows.around[inside])
    return own, around


def _best_amount(maps: NDArray[np.float64], juries: Sequence[Jury], training: TrainingSet) -> float:
    """Return the share of neighbours with the largest excess correlation; the smaller wins a tie.

    `maps` has shape (n_targets, n_sampled, 2): the read-out, and its mean over neighbours.
    """
    moments = [jury.moments(maps[target]) for target, jury in enumerate(juries)]
    excesses = []
    for amount in AMOUNTS:
        mixture = np.array([1 - amount, amount])
        terms = [
            excess_terms(*own, mixture, j.is_target, training.folds) for j, own in zip(juries, moments, strict=True)
        ]
        excesses.append(np.mean([jury.difference(own) for jury, own in zip(juries, terms, strict=True)]))
    return AMOUNTS[int(np.argmax(np.round(excesses, 9)))]


def _log_ratio(scores: NDArray[np.float64], is_target: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and zero by which scores (n,) become log-ratios of frequency between the two kinds of data."""
    spread = max(float(scores.std()), 1e-12)
    model = LogisticRegression(C=1e6, class_weight="balanced").fit(scores[:, None] / spread, is_target)
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:  # out of fold the read-out says nothing; its order is kept, in units of its spread
        return 1 / spread, -float(scores[~is_target].mean()) / spread
    return slope, float(model.intercept_[0])
