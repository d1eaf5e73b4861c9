"""The quality of the tiles of a token grid: measures as stored, and the flags that thresholds make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.gridfile import damage, open_array
from napari_prospector.tokens.quality import Rules, flag_bits, flagged, resolved

__all__ = ["GridQuality", "open_quality"]


@dataclass(frozen=True, eq=False)
class GridQuality:
    """The quality of the tiles of one token grid; `TokenGrid.quality` gives it.

    Parameters
    ----------
    path
        The store.
    attrs
        Its attributes.
    array
        (rows, cols, n_measures) on disk; None where tiles were not measured.
    """

    path: Path
    attrs: Mapping[str, Any]
    array: zarr.Array[Any] | None

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures; none where tiles were not measured. Measure i is bit i of `flags`."""
        return tuple((self.attrs.get("quality") or {}).get("measures", ()))

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each flag, by measure; `TokenGrid.set_thresholds` changes them."""
        return dict((self.attrs.get("quality") or {}).get("thresholds", {}))

    @property
    def values(self) -> NDArray[np.float32]:
        """(rows, cols, n_measures): how bad each finished tile is, 0 to 1; NaN where that was not measured.

        Raises
        ------
        InvalidInputError
            Tiles were not measured.
        FileFormatError
            The array is damaged.
        """
        array = self._measured()
        with damage(self.path, "the array quality"):
            return np.asarray(array[:], dtype=np.float32)

    def _measured(self) -> zarr.Array[Any]:
        """Return the array, or refuse."""
        if self.array is None:
            raise InvalidInputError(
                f"{self.path.name} must hold quality measures for this; it was made without, by an earlier version or"
                " from another tool's features. Embed the slide again with overwrite=True (--overwrite), or leave no"
                " flags out."
            )
        return self.array

    def flags(self, thresholds: Mapping[str, float] | None = None) -> NDArray[np.uint8]:
        """Return (rows, cols), the flags as bits: bit i where measure i is above its threshold.

        Parameters
        ----------
        thresholds
            By measure; those that are left out, or all with None, are the store's own.

        Raises
        ------
        UnknownNameError
            A threshold is for no measure of this store.
        InvalidInputError
            A threshold is not a number of 0 to 1, or tiles were not measured.
        """
        values, own = self.values, self.thresholds
        return flag_bits(values, self.measures, own | resolved(thresholds or {}, own))

    def check(self, rules: Rules) -> None:
        """Raise unless the flags that `rules` name can be left out; see `TokenGrid.usable`."""
        if rules:
            self._measured()
            resolved(rules, self.thresholds)

    def flagged(self, rules: Rules) -> NDArray[np.bool_]:
        """Return (rows, cols): where at least one of the named flags is; `rules` as for `TokenGrid.usable`."""
        values = self.values
        chosen = resolved(rules, self.thresholds)
        return flagged(flag_bits(values, self.measures, chosen), self.measures, chosen)

    def shares(self, done: NDArray[np.bool_], thresholds: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return the share of finished tokens (`TokenGrid.mask`) with each flag, 0 to 1, and with any ("any")."""
        bits = self.flags(thresholds)[done]
        n_done = max(1, bits.size)
        shares = {name: int((bits >> i & 1).sum()) / n_done for i, name in enumerate(self.measures)}
        return {**shares, "any": int((bits != 0).sum()) / n_done}

    def with_thresholds(self, thresholds: Mapping[str, float]) -> dict[str, Any]:
        """Return the store's attribute "quality" with other thresholds; raises as `flags`."""
        self._measured()
        own = self.thresholds
        return dict(self.attrs["quality"]) | {"thresholds": own | resolved(thresholds, own)}


def open_quality(path: Path, attrs: Mapping[str, Any], read_only: bool) -> zarr.Array[Any] | None:
    """Open the array of quality measures; None where none are taken. A caller wraps this in `damage`."""
    if not attrs.get("quality"):
        return None
    array = open_array(path, "quality", read_only)
    geometry = attrs["geometry"]
    shape = (geometry["rows"], geometry["cols"], len(attrs["quality"]["measures"]))
    if array.shape != shape:
        raise ValueError(f"quality of shape {array.shape}, not {shape}")
    return array
