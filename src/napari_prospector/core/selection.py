"""Choose the settings of a head by cross-validation over data; no truth of a token is ever looked at.

Concepts are fitted inside each fold, once per K; tokens are assigned and counted once for all folds, K and radii;
everything else works on count tables, where thresholds cost a mask. Hence the paper's whole grid (method.md) takes
minutes where one setting takes seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.calibration import cross_fitted_probability
from napari_prospector.core.concepts import ConceptQuantizer
from napari_prospector.core.crossfit import Report, count_tables, make_folds, sample_tokens
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.kernels import block_totals, fit_linear, fold_change
from napari_prospector.core.labels import class_labels
from napari_prospector.core.measures import auroc
from napari_prospector.errors import InvalidInputError

__all__ = ["PAPER_GRID", "Candidate", "Grid", "GridSelection", "select_head"]


LEAST_PROBABILITY = 1e-9


@dataclass(frozen=True)
class Grid:
    """Settings to try; every combination that makes sense is tried.

    Attributes
    ----------
    n_concepts, radius
        As in `ProspectorHead`.
    alpha, tau
        Thresholds of the fold-change kernel; an empty tuple leaves that kernel out.
    l1_ratio
        Of the linear kernel; an empty tuple leaves that kernel out.
    """

    n_concepts: tuple[int, ...] = (10, 15, 20, 25, 30)
    radius: tuple[int, ...] = (0, 1, 2, 4, 8)
    alpha: tuple[float | None, ...] = (0.01, 0.025, 0.05, None)
    tau: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    l1_ratio: tuple[float, ...] = (0.0, 0.5, 1.0)

    def __post_init__(self) -> None:
        """Refuse a grid that holds no setting."""
        if not self.n_concepts or not self.radius or not (self.l1_ratio or (self.alpha and self.tau)):
            raise InvalidInputError(f"a grid must hold at least one setting; got {self}.")


PAPER_GRID = Grid()
"""The grid of the paper's tables (method.md), and the linear kernel beside it."""


@dataclass(frozen=True)
class Candidate:
    """One setting and how it did on data that it had not seen.

    Attributes
    ----------
    n_concepts, radius, kernel, alpha, tau, l1_ratio
        The setting; ``alpha`` and ``tau`` mean nothing for the linear kernel, ``l1_ratio`` nothing for the other.
    log_loss
        Mean over data of -ln(probability of the right class), probabilities calibrated out of fold; ln 2 = 0.693 is
        a coin. The criterion: unlike AUROC it does not saturate as soon as the classes are told apart.
    auroc, auroc_low, auroc_high
        Out of fold, with a 95 % interval (Hanley and McNeil 1982). Like `log_loss` NaN until it is known; two
        candidates are one if their settings are.
    """

    n_concepts: int
    radius: int
    kernel: str
    alpha: float | None
    tau: float
    l1_ratio: float
    log_loss: float = field(default=float("nan"), compare=False)
    auroc: float = field(default=float("nan"), compare=False)
    auroc_low: float = field(default=float("nan"), compare=False)
    auroc_high: float = field(default=float("nan"), compare=False)

    @property
    def parameters(self) -> dict[str, Any]:
        """The setting as keywords of `ProspectorHead`."""
        return {name: getattr(self, name) for name in ("n_concepts", "radius", "kernel", "alpha", "tau", "l1_ratio")}


@dataclass(frozen=True)
class GridSelection:
    """The head that was chosen and all that was tried.

    Attributes
    ----------
    head
        Fitted on all data with the chosen setting.
    table
        Every setting tried, best first.
    """

    head: ProspectorHead
    table: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The setting of the head."""
        return self.table[0]

    def sentence(self) -> str:
        """Say what was chosen and how sure that is."""
        best = self.chosen
        near = sum(other.log_loss - best.log_loss < 0.01 for other in self.table[1:])
        thresholds = f"l1_ratio={best.l1_ratio}" if best.kernel == "linear" else f"alpha={best.alpha}, tau={best.tau}"
        return (
            f"Chose {best.n_concepts} concepts, radius {best.radius}, {best.kernel} kernel ({thresholds}) out of "
            f"{len(self.table)} settings: out of fold AUROC {best.auroc:.3f} [{best.auroc_low:.3f}, "
            f"{best.auroc_high:.3f}], log-loss {best.log_loss:.3f}; {near} other settings are within 0.01 of it."
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain dictionaries, best first."""
        return [asdict(candidate) for candidate in self.table]


def select_head(
    graphs: Sequence[TokenGraph],
    labels: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    grid: Grid = PAPER_GRID,
    report: Report | None = None,
    **fixed: Any,
) -> GridSelection:
    """Try every setting of a grid by cross-validation and fit the best on all data.

    Parameters
    ----------
    graphs, labels, groups, report
        As in `ProspectorHead.fit`.
    grid
        Settings to try.
    fixed
        Further keywords of `ProspectorHead`, the same for all settings (``random_state``, ``n_folds``, ``geometry``…).

    Returns
    -------
    GridSelection
        The same for the same input and `random_state`. Settings that tie are ordered by fewer concepts, then smaller
        radius.

    Raises
    ------
    InvalidInputError
        As `ProspectorHead.fit`; or if a class comes from one group only, so that nothing can be held out.
    """
    template = ProspectorHead(**fixed)
    known = class_labels(graphs, labels, groups, template.positive)
    numbers, targets = known.numbers, known.targets
    folds = make_folds(numbers, groups, template.n_folds, template.random_state)
    if folds.max() == 0:
        raise InvalidInputError(
            "each class must come from at least two groups (patients) for cross-validation; one class comes from one. "
            "Add data of another group, or fit a fixed setting with ProspectorHead(...).fit."
        )
    quantizers, tables = _all_tables(graphs, folds, grid, template, report)
    scores: dict[Candidate, NDArray[np.float64]] = {}
    steps = list(itertools.product(range(folds.max() + 1), enumerate(grid.n_concepts), grid.radius))
    for done, (fold, (place, n_concepts), radius) in enumerate(steps):
        number = fold * len(grid.n_concepts) + place
        counts = tables[number, radius].astype(np.float64)
        for column, target in enumerate(targets):
            is_target = (numbers == target).astype(np.int64)
            fold_scores = _fold_scores(counts, is_target, folds != fold, quantizers[number].n_concepts_, grid)
            for setting, values in fold_scores:
                candidate = Candidate(n_concepts, radius, **setting)
                held = scores.setdefault(candidate, np.full((len(numbers), len(targets)), np.nan))
                held[folds == fold, column] = values
        if report is not None:
            report("fit kernels", done + 1, len(steps))
    judged = [_judge(candidate, values, numbers, targets, folds) for candidate, values in scores.items()]
    judged.sort(
        key=lambda one: (round(one.log_loss, 6), one.n_concepts, one.radius, one.kernel, str(one.alpha), one.tau)
    )
    head = ProspectorHead(**{**fixed, **judged[0].parameters}).fit(graphs, labels, groups, report)
    return GridSelection(head, tuple(judged))


def _all_tables(
    graphs: Sequence[TokenGraph],
    folds: NDArray[np.int64],
    grid: Grid,
    template: ProspectorHead,
    report: Report | None,
) -> tuple[list[ConceptQuantizer], dict[tuple[int, int], NDArray[np.int64]]]:
    """Fit the concepts of every fold and K and count all data under each of them; folds vary slowest."""
    parameters = template.fit_settings().quantizer
    sample = sample_tokens(graphs, template.max_sample, template.random_state, report)
    wanted = list(itertools.product(range(int(folds.max()) + 1), grid.n_concepts))
    quantizers = []
    for fold, n_concepts in wanted:
        quantizers.append(sample.fit_quantizer({**parameters, "n_concepts": n_concepts}, folds != fold))
        if report is not None:
            report("find concepts", len(quantizers), len(wanted))
    return quantizers, count_tables(graphs, quantizers, grid.radius, report)


def _fold_scores(
    counts: NDArray[np.float64],
    is_target: NDArray[np.int64],
    training: NDArray[np.bool_],
    n_concepts: int,
    grid: Grid,
) -> Iterator[tuple[Mapping[str, Any], NDArray[np.float64]]]:
    """Yield every kernel of the grid with the scores (n_held_out,) it gives to the data it was not fitted on."""
    held_out = counts[~training]
    if grid.alpha and grid.tau:
        change = fold_change(counts[training], is_target[training], n_concepts=n_concepts)
        per_token = held_out / np.maximum(held_out[:, :n_concepts].sum(axis=1, keepdims=True), 1)
        for alpha, tau in itertools.product(grid.alpha, grid.tau):
            setting = {"kernel": "fold-change", "alpha": alpha, "tau": tau, "l1_ratio": 0.5}
            yield setting, per_token @ change.kernel(alpha, tau)
    for l1_ratio in grid.l1_ratio:
        linear = fit_linear(counts[training], is_target[training], l1_ratio=l1_ratio, n_concepts=n_concepts)
        setting = {"kernel": "linear", "alpha": None, "tau": 0.0, "l1_ratio": l1_ratio}
        yield setting, held_out / block_totals(held_out, n_concepts) @ linear.weights + linear.intercept


def _judge(
    candidate: Candidate,
    scores: NDArray[np.float64],
    numbers: NDArray[np.int64],
    targets: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> Candidate:
    """Fill in how a candidate did, from its out-of-fold scores (n_data, n_targets); classes count alike."""
    losses, areas, halves = [], [], []
    for column, target in enumerate(targets):
        is_target = numbers == target
        probability = cross_fitted_probability(scores[:, column], is_target, folds)
        # a scale fitted on few data that separate perfectly can give a certainty, whose loss must stay finite
        right = np.clip(np.where(is_target, probability, 1 - probability), LEAST_PROBABILITY, 1.0)
        losses.append(-np.mean(np.log(right)))
        areas.append(auroc(scores[:, column], is_target))
        halves.append(1.96 * _auroc_error(areas[-1], int(is_target.sum()), int((~is_target).sum())))
    area, half = float(np.mean(areas)), float(np.mean(halves))
    return replace(
        candidate,
        log_loss=float(np.mean(losses)),
        auroc=area,
        auroc_low=max(area - half, 0.0),
        auroc_high=min(area + half, 1.0),
    )


def _auroc_error(area: float, n_positive: int, n_negative: int) -> float:
    """Return the standard error of an AUROC (Hanley and McNeil, Radiology 143, 1982)."""
    # at 0 and 1 their formula gives 0, as if a perfect score were certain: half a pair short of it is used
    area = float(np.clip(area, 0.5 / (n_positive * n_negative), 1 - 0.5 / (n_positive * n_negative)))
    q_1, q_2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n_positive - 1) * (q_1 - area**2) + (n_negative - 1) * (q_2 - area**2)
    return float(np.sqrt(variance / (n_positive * n_negative)))
