"""How well a head tells data that it has not seen, as a number with its interval and as a plain sentence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.bootstrap import Interval, group_codes, resample
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError

__all__ = ["Verdict", "out_of_fold_verdict"]

N_BOOT = 1000
FEW_GROUPS = 10


@dataclass(frozen=True)
class Verdict:
    """How well whole data were told apart, each by parts of the head that had not seen it.

    Attributes
    ----------
    auroc
        With a 95 % interval over groups; with more than two classes the mean of each against the rest. NaN where
        nothing could be held out.
    target
        What was told from the rest; None with more than two classes.
    n_data, n_groups
        What it rests on.
    """

    auroc: Interval
    target: str | None
    n_data: int
    n_groups: int

    def sentence(self, datum: str = "slide") -> str:
        """Say it in one or two sentences.

        Parameters
        ----------
        datum
            What one datum is called.
        """
        if np.isnan(self.auroc.value):
            return (
                f"Nothing could be held out of {self.n_data} {datum}s, so nobody knows how well the classes are told."
            )
        what = "the classes" if self.target is None else repr(self.target)
        told = _words(self.auroc).format(f"{what} from the rest")
        text = f"In {datum}s that it has not seen, the head {told}: AUROC {self.auroc.value:.2f}"
        if not np.isnan(self.auroc.low):
            text += f" [{self.auroc.low:.2f}, {self.auroc.high:.2f}]"
        text += f" ({self.n_data} {datum}s, {self.n_groups} patients or groups)."
        if self.n_groups < FEW_GROUPS:
            text += " That is few: the true value may lie well outside of the interval."
        return text

    def to_card(self) -> dict[str, Any]:
        """Return it in types of JSON, which has no NaN."""
        ends = [None if np.isnan(end) else round(float(end), 6) for end in self.auroc]
        return {"auroc": ends, "target": self.target, "n_data": self.n_data, "n_groups": self.n_groups}

    @classmethod
    def of_card(cls, card: dict[str, Any]) -> Verdict:
        """Undo `to_card`."""
        ends = Interval(*(np.nan if end is None else end for end in card["auroc"]))
        return cls(ends, card["target"], card["n_data"], card["n_groups"])


def out_of_fold_verdict(
    head: ProspectorHead, labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
) -> Verdict:
    """Judge a head that was just fitted by the scores of data that each part of it had not seen.

    Parameters
    ----------
    head
        Fitted, on these data in this order.
    labels, groups
        As it was fitted with.

    Raises
    ------
    InvalidInputError
        There is not one label for each datum that the head was fitted on.
    """
    scores = head.out_of_fold_scores_
    if len(labels) != len(scores):
        raise InvalidInputError(
            f"labels must hold one for each of {len(scores)} data that the head was fitted on; got {len(labels)}."
        )
    codes = group_codes(groups, len(labels))
    binary = len(head.classes_) == 2
    targets = [head.target_] if binary else head.classes_.tolist()
    known = np.asarray([str(label) for label in labels])
    found = (
        [_auroc(scores[:, i], known == str(target), codes) for i, target in enumerate(targets)]
        if head.brier_ is not None
        else [np.full(N_BOOT + 1, np.nan)]
    )
    mean = np.mean(found, axis=0)
    low, high = (np.nan, np.nan) if np.isnan(mean[1:]).all() else np.nanquantile(mean[1:], (0.025, 0.975))
    target = str(head.target_) if binary else None
    return Verdict(Interval(float(mean[0]), float(low), float(high)), target, len(labels), len(set(codes.tolist())))


def _auroc(scores: NDArray[np.float64], is_target: NDArray[np.bool_], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the AUROC, then that of each bootstrap replicate; NaN where a replicate lacks a class."""
    weights = np.vstack([np.ones(len(scores)), resample(codes, N_BOOT)])
    positive, negative = scores[is_target, None], scores[None, ~is_target]
    wins = (positive > negative) + 0.5 * (positive == negative)
    above, below = weights[:, is_target], weights[:, ~is_target]
    pairs = above.sum(axis=1) * below.sum(axis=1)
    won = ((above @ wins) * below).sum(axis=1)
    return np.asarray(np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0))


def _words(auroc: Interval) -> str:
    """Return how an AUROC reads, from its interval where there is one."""
    sure = auroc.value if np.isnan(auroc.low) else auroc.low
    if auroc.value < 0.6 or sure <= 0.5:
        return "does not reliably tell {}"
    if sure > 0.9:
        return "tells {} very well"
    return "tells {} well" if sure > 0.75 else "tells {} to some degree"
