"""What an evaluation found: rows of measures, strata, probabilities, and the sentences that belong to them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.metrics import Interval, Localization, LocalizationRow, RegionStatistics
from napari_prospector.core.reliability import FEWEST_IN_BIN, Reliability
from napari_prospector.study import evaluation_tables as tables
from napari_prospector.study.strata import FEWEST_IN_STRATUM, MOST_STRATA, STRATA_OF, Stratum

__all__ = ["DatumProbabilities", "Evaluation", "EvaluationRow"]

_FEW_GROUPS = 10


@dataclass(frozen=True)
class EvaluationRow:
    """One method and map, or one of the rows to compare with.

    Attributes
    ----------
    key
        The row's name in `Evaluation.localization`.
    method, map
        As in the table; `map` is "" for the rows *constant*, *random*, *prevalence*.
    localization
        Its measures.
    difference
        Mean AP of the first row minus this row's, with its paired interval.
    reliability
        Of its probabilities of whole data; None if it gives none. *prevalence* gives every datum the share of the
        class among the data.
    is_best
        Whether the head draws this map unless told otherwise.
    n_parameters
        Learned numbers; None for the rows to compare with.
    fit_seconds, map_seconds
        Time that learning took, where it is known, and that the maps of all data took; NaN where there is none.
    """

    key: str
    method: str
    map: str
    localization: LocalizationRow
    difference: Interval
    reliability: Reliability | None = None
    is_best: bool = False
    n_parameters: int | None = None
    fit_seconds: float = math.nan
    map_seconds: float = math.nan

    @property
    def datum_auroc(self) -> float:
        """AUROC of the probabilities of whole data; NaN if there are none."""
        return self.reliability.auroc.value if self.reliability else math.nan

    @property
    def brier(self) -> float:
        """Brier score of the probabilities of whole data; NaN if there are none."""
        return self.reliability.brier.value if self.reliability else math.nan


@dataclass(frozen=True)
class DatumProbabilities:
    """What methods say about whole data.

    Attributes
    ----------
    datum
        "slide" or "group": what a datum is.
    names, labels
        Of the data.
    by_method
        Method → probability of the class to find, (n_data,).
    """

    datum: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    by_method: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    target
        The class to find.
    rows
        Methods and maps in the order given, the best map of a head before its others; then *constant*, *random*,
        *prevalence*.
    localization
        The measures of every slide.
    names, labels
        Of the slides.
    regions
        Truth of each slide as regions; None where it is not known.
    level
        Of the intervals.
    strata
        Average precision by prevalence and by dispersion of the region.
    probabilities
        Of whole data, which may be patients.
    seen
        Shape (n_slides,), whether a method has learned from the slide or from its patient.
    remarks
        What else a reader should know of the data.
    """

    target: str
    rows: tuple[EvaluationRow, ...]
    localization: Localization
    names: tuple[str, ...]
    labels: tuple[str, ...]
    regions: tuple[RegionStatistics | None, ...]
    level: float
    strata: tuple[Stratum, ...]
    probabilities: DatumProbabilities
    seen: NDArray[np.bool_]
    remarks: tuple[str, ...] = ()

    @property
    def basis(self) -> str:
        """Say in a sentence what the figures rest on."""
        found = self.localization
        few = " So few groups make the intervals too narrow." if found.n_groups < _FEW_GROUPS else ""
        return (
            f"Means over {found.n_counted} data of {self.target!r} with a known region, from {found.n_groups} groups,"
            f" out of {len(self.names)} data; {self.level:.0%} bootstrap intervals over groups.{few}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what a reader should know before believing the figures."""
        own = (*self._note_of_seen(), *self._notes_of_strata(), *self._notes_of_probabilities())
        return (*own, *self.remarks)

    def _note_of_seen(self) -> Iterator[str]:
        """Warn where it was measured on what was learned from."""
        if self.seen.any():
            yield (
                f"NOT HELD OUT: {int(self.seen.sum())} of {len(self.names)} slides, or other slides of their patients,"
                " were learned from. These figures say nothing about new slides."
            )

    def _notes_of_strata(self) -> Iterator[str]:
        """Say where there are fewer strata than thirds, and why."""
        n_counted, n_needed = self.localization.n_counted, 2 * FEWEST_IN_STRATUM
        if n_counted < n_needed:
            yield (
                f"{n_counted} data are too few to tell small from large regions, or compact from scattered ones;"
                f" {n_needed} are needed."
            )
            return
        for by in STRATA_OF:
            n_strata = sum(stratum.by == by for stratum in self.strata)
            if n_strata < MOST_STRATA:
                yield (
                    f"By {by} data make {n_strata} part{'s' if n_strata > 1 else ''} instead of {MOST_STRATA}: a part"
                    f" must hold at least {FEWEST_IN_STRATUM}, and equal ones stay together."
                )

    def _notes_of_probabilities(self) -> Iterator[str]:
        """Say what few data tell of calibration, and what a datum is."""
        said = self.probabilities
        if said.datum == "group":
            yield f"Labels are judged over {len(said.names)} patients, the slides of each as one; maps are of slides."
        judged = [row.reliability for row in self.rows if row.reliability is not None and row.map]
        if not judged:
            return
        if judged[0].n_data < 2 * FEWEST_IN_BIN:
            yield f"{judged[0].n_data} data are too few for a calibration error; {2 * FEWEST_IN_BIN} are needed."
        else:
            yield (
                f"A calibration error is never 0: with {judged[0].n_data} data perfect probabilities like those of the"
                f" first row would show {judged[0].perfect_calibration_error:.3f} on average."
            )

    def summary(self) -> list[dict[str, str]]:
        """Return the table to show: a dict of column → text per row, AP first."""
        return [tables.summary_of(row) for row in self.rows]

    def probability_summary(self) -> list[dict[str, str]]:
        """Return what to show of the probabilities of whole data, one dict per method."""
        return [tables.probability_summary_of(row) for row in tables.first_of_methods(self)]

    def strata_summary(self) -> list[dict[str, str]]:
        """Return AP by stratum to show, one dict per row; no dict where there is no stratum."""
        return tables.strata_summary(self)

    def table(self) -> list[dict[str, Any]]:
        """Return all figures: a dict of column → value per row. Bounds are in columns ``…_low`` and ``…_high``."""
        return [tables.figures_of(row) for row in self.rows]

    def data_table(self) -> list[dict[str, Any]]:
        """Return one dict per slide: its regions, and AP, AUROC and AUPRC of every row."""
        return tables.data_table(self)

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write all tables as CSV and as one JSON file, and the figure.

        Parameters
        ----------
        folder
            Gets ``evaluation.csv`` (methods), ``evaluation_data.csv`` (slides), ``evaluation_pairs.csv`` (differences
            between methods), ``evaluation_strata.csv``, ``evaluation_probabilities.csv`` (whole data),
            ``evaluation_reliability.csv`` (bins), ``evaluation.json`` with all of them, and ``evaluation.png``.

        Returns
        -------
        list of Path
            What was written; each file appears whole or not at all.

        Raises
        ------
        StorageError
            A file cannot be written.
        MissingExtraError
            matplotlib is not installed.
        """
        from napari_prospector.study.evaluation_figure import draw_evaluation

        return [*tables.write_tables(self, folder), draw_evaluation(Path(folder) / "evaluation.png", self)]
