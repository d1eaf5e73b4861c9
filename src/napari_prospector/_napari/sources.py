"""The layers that a head can be applied to: slides and token grids, with what is known of each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_prospector._napari.array_slides import layer_pixel_size
from napari_prospector._napari.layers import GRID_ENDING, Placement, provenance
from napari_prospector.errors import ProspectorError

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["Source", "source_of", "sources"]


@dataclass(frozen=True, eq=False)
class Source:
    """A layer that can be prospected.

    Attributes
    ----------
    layer
        The layer.
    kind
        ``"slide"`` or ``"tokens"``.
    path
        Where it was read from; None if from no file that we read: its arrays are the slide then.
    mpp
        Pixel size that its file states, or, of an array, its layer.
    caption
        What the user sees of it.
    """

    layer: Layer
    kind: str
    path: Path | None
    mpp: float | None
    caption: str

    @property
    def key(self) -> str:
        """What names the slide in a study: its path, or the layer where it was read from no file."""
        return f"layer:{self.name}" if self.path is None else os.fspath(self.path)

    @property
    def name(self) -> str:
        """What the layers of its map are named after, as its layer is called now."""
        return str(self.layer.name).removesuffix(GRID_ENDING)

    @property
    def is_array(self) -> bool:
        """Whether the arrays of the layer are all that there is of the slide."""
        return self.kind == "slide" and self.path is None

    def placement(self, geometry: GridGeometry) -> Placement:
        """Return where the slide lies in the viewer now."""
        if self.kind == "tokens":
            return Placement.of_grid_layer(self.layer, geometry)
        return Placement.of_layer(self.layer)


def sources(layers: Iterable[Layer]) -> list[Source]:
    """Return the slides and token grids among some layers, in their order."""
    found = (source_of(layer) for layer in layers)
    return [source for source in found if source is not None]


def source_of(layer: Layer) -> Source | None:
    """Return what is known of a layer; None where it is neither an RGB picture nor a token grid."""
    from napari.layers import Image

    noted = provenance(layer)
    if noted.get("kind") == "tokens":
        return Source(layer, "tokens", noted["path"], None, f"token grid of {noted['encoder']}")
    if noted.get("kind") == "slide":
        return _slide_source(layer, noted["path"], noted["mpp"], noted["shape"])
    if not isinstance(layer, Image) or not layer.rgb or layer.ndim != 2:
        return None
    stated = _stated(layer.source.path) if layer.source.path else None
    if stated is None:
        size = layer_pixel_size(layer)
        finest = layer.data[0] if layer.multiscale else layer.data
        return _slide_source(layer, None, size.mpp, tuple(finest.shape[:2]))
    path, mpp, shape = stated
    return _slide_source(layer, path, mpp, shape)


def _slide_source(layer: Layer, path: Path | None, mpp: float | None, shape: tuple[int, int]) -> Source:
    """Return a slide with its caption."""
    size = "no pixel size" if mpp is None else f"{mpp:.4g} µm per pixel"
    origin = ", an array of no slide file" if path is None else ""
    return Source(layer, "slide", path, mpp, f"{shape[0]:,} × {shape[1]:,} px, {size}{origin}")


@lru_cache(maxsize=64)
def _stated(file: str) -> tuple[Path, float | None, tuple[int, int]] | None:
    """Return (path, pixel size, shape) of a picture that another reader opened; None if we cannot read it."""
    from napari_prospector.tokens.slides import open_slide

    try:
        with open_slide(file) as slide:
            return slide.path, slide.mpp, slide.shape
    except ProspectorError:
        return None
