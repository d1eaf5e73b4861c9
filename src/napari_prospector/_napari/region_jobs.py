"""Work on regions that takes longer than a blink, as generators for a thread: reading, writing, counting tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.progress import JobProgress, Steps
from napari_prospector.study.annotations import AnnotationClass, Annotations, Region

if TYPE_CHECKING:
    from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["counting", "joined", "reading", "told", "writing"]


def reading(path: Path) -> Callable[[], Steps[Annotations]]:
    """Return what reads the regions of a GeoJSON file."""

    def steps() -> Steps[Annotations]:
        from napari_prospector.study.geojson import read_geojson

        yield JobProgress(f"Reading {path.name}")
        return read_geojson(path)

    return steps


def writing(path: Path, regions: Iterable[Region], classes: Iterable[AnnotationClass]) -> Callable[[], Steps[Path]]:
    """Return what writes regions to a GeoJSON file."""

    def steps() -> Steps[Path]:
        from napari_prospector.study.geojson import write_geojson

        yield JobProgress(f"Writing {path.name}")
        return write_geojson(path, regions, classes)

    return steps


def counting(
    regions: Sequence[Region], geometry: GridGeometry, mask: NDArray[np.bool_]
) -> Callable[[], Steps[Counter[str | None]]]:
    """Return what counts the tokens of each class, as `study.region_tokens` gives them to regions."""

    def steps() -> Steps[Counter[str | None]]:
        from napari_prospector.study.region_tokens import tokens_of

        yield JobProgress("Counting tokens")
        owners = tokens_of(regions, geometry)[mask]
        numbers, n_tokens = np.unique(owners[owners >= 0], return_counts=True)
        found: Counter[str | None] = Counter()
        for number, n in zip(numbers.tolist(), n_tokens.tolist(), strict=True):
            found[regions[number].label] += n
        return found

    return steps


def joined(here: Sequence[Region], read: Sequence[Region]) -> tuple[Region, ...]:
    """Add regions of a file to those of a slide; one that has the id of a region here takes its place."""
    new = {region.id: region for region in read}
    known = {region.id for region in here}
    kept = (new.get(region.id, region) for region in here)
    # a region that is equal stays the object that is drawn already
    same = (old if old == now else now for old, now in zip(here, kept, strict=True))
    return (*same, *(region for key, region in new.items() if key not in known))


def told(counts: Counter[str | None], tokens: Counter[str | None] | None) -> str:
    """Say how many regions, and tokens, of each class a head could be fitted from."""
    if not counts:
        return "No regions yet. Draw regions of two classes or more, and Fit can learn from them."
    parts = []
    for label, n_regions in counts.items():
        word = "region" if n_regions == 1 else "regions"
        inside = "" if tokens is None else f", {tokens[label]:,} {'token' if tokens[label] == 1 else 'tokens'}"
        parts.append(f"{label or 'no class'}: {n_regions:,} {word}{inside}")
    return "; ".join(parts) + "."
