"""How well small and large, compact and scattered regions are found: data in thirds of prevalence and of dispersion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.metrics import Interval, Localization, RegionStatistics
from napari_prospector.core.parts import equal_parts

__all__ = ["FEWEST_IN_STRATUM", "MOST_STRATA", "STRATA_OF", "Stratum", "strata"]

STRATA_OF = ("prevalence", "dispersion")
MOST_STRATA = 3
FEWEST_IN_STRATUM = 4


@dataclass(frozen=True)
class Stratum:
    """Counted data whose regions are alike in one respect.

    Attributes
    ----------
    by
        "prevalence" or "dispersion" of the region.
    number, n_strata
        Which of how many, 0 holds the smallest values.
    low, high
        Smallest and largest value.
    n_data, n_groups
        Data, and groups (patients) among them: what the intervals rest on.
    ap
        Row of the localization → mean average precision.
    """

    by: str
    number: int
    n_strata: int
    low: float
    high: float
    n_data: int
    n_groups: int
    ap: dict[str, Interval]

    @property
    def name(self) -> str:
        """Say which third (half) it is; "all" where there is one."""
        names = {1: ("all",), 2: ("low", "high"), 3: ("low", "middle", "high")}
        return names[self.n_strata][self.number]

    @property
    def span(self) -> str:
        """Write the values that it covers: a share in per cent, a dispersion as a number."""
        scale, unit = (100, " %") if self.by == "prevalence" else (1, "")
        low, high = (f"{scale * value:.2g}" for value in (self.low, self.high))
        return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def strata(found: Localization, regions: Sequence[RegionStatistics | None]) -> tuple[Stratum, ...]:
    """Cut the counted data into thirds of prevalence, and again into thirds of dispersion.

    Parameters
    ----------
    found
        The measures of all data.
    regions
        Truth of each datum as regions; None where it is not known.

    Returns
    -------
    tuple of Stratum
        By prevalence, then by dispersion, each from low to high. Halves, or all data as one, where a third would hold
        fewer than `FEWEST_IN_STRATUM` data; none without counted data. Data of equal value stay together.
    """
    return tuple(stratum for by in STRATA_OF for stratum in _strata_of(found, regions, by))


def _strata_of(found: Localization, regions: Sequence[RegionStatistics | None], by: str) -> list[Stratum]:
    """Return the strata of one property."""
    places = np.flatnonzero(found.counted)
    values = np.array([getattr(region, by) for region, counts in zip(regions, found.counted, strict=True) if counts])
    part = equal_parts(values, MOST_STRATA, FEWEST_IN_STRATUM)
    n_strata = int(part.max(initial=-1)) + 1
    return [
        _stratum(found, places[part == number], values[part == number], by, number, n_strata)
        for number in range(n_strata)
    ]


def _stratum(
    found: Localization,
    places: NDArray[np.int64],
    values: NDArray[np.float64],
    by: str,
    number: int,
    n_strata: int,
) -> Stratum:
    """Measure the data at places (n_members,), whose values (n_members,) are those of one stratum."""
    members = np.zeros(found.counted.size, dtype=bool)
    members[places] = True
    return Stratum(
        by=by,
        number=number,
        n_strata=n_strata,
        low=float(values.min()),
        high=float(values.max()),
        n_data=places.size,
        n_groups=int(np.unique(found.groups[places]).size),
        ap={row: found.mean_over(members, row) for row in found.rows},
    )
