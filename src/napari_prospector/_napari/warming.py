"""What napari does only once, and slowly, is done in a thread before the first layer is shown."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

__all__ = ["warm_up"]

_BUILDING = threading.Lock()
_WARMED: list[bool] = []


def warm_up() -> None:
    """Make one small layer of each kind: the first one imports pandas, scipy and pint, seconds in the GUI thread.

    Once, and one thread at a time: napari meanwhile silences warnings, which holds for all threads.
    """
    with _BUILDING:
        if not _WARMED:
            _build_units()
            _make_layers()
            _WARMED.append(True)


def _make_layers() -> None:
    """Make one small layer of each kind."""
    from napari.layers import Layer

    from napari_prospector._napari.layers import Placement, concept_layer, map_layer
    from napari_prospector.tokens.geometry import GridGeometry

    grid, placement = GridGeometry(2, 2, tile=1, stride=1, origin=(0, 0), slide_mpp=1.0), Placement.of_mpp(1.0)
    Layer.create(*concept_layer(np.zeros((2, 2), np.int32), ["warm"], grid, placement, slide=""))
    Layer.create(*map_layer(np.zeros((2, 2)), grid, placement, slide="", map="evidence", limit=1.0))


def _build_units() -> None:
    """Build pint's table of units aside and put it in place whole: another thread would meet it half built."""
    from importlib import import_module

    # napari's, not ours: nothing else here speaks to it
    pint: Any = import_module("pint")

    def is_built() -> bool:
        return not isinstance(pint.application_registry.get(), pint.registry.LazyRegistry)

    if not is_built():
        units = pint.UnitRegistry()
        # unless a layer that was made meanwhile has built it
        if not is_built():
            pint.set_application_registry(units)
