"""A slide of the cohort into the viewer: read in a thread, shown, or brought to the front where it is open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prospector._napari.layers import LayerTuple, Placement, grid_layers, provenance, slide_layer
from napari_prospector._napari.progress import JobProgress, Steps
from napari_prospector._napari.warming import warm_up
from napari_prospector.study.cohort import TOKENS_SUFFIX
from napari_prospector.study.project import StudySlide

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer
    from qtpy.QtGui import QImage

    from napari_prospector._napari.sources import Source

__all__ = ["add_layers", "bring_to_front", "open_source", "picture", "read_grid", "read_slide"]


def read_slide(slide: StudySlide) -> Callable[[], Steps[list[LayerTuple]]]:
    """Return what reads the layers of a slide, or of a row that is a token grid."""

    def steps() -> Steps[list[LayerTuple]]:
        from napari_prospector.tokens.slides import open_slide
        from napari_prospector.tokens.store import TokenGrid

        yield JobProgress(f"Opening {slide.path.name}")
        if slide.path.name.endswith(TOKENS_SUFFIX):
            return grid_layers(TokenGrid.open(slide.path), slide.path)
        layer = slide_layer(open_slide(slide.path, mpp=slide.mpp))
        warm_up()
        return [layer]

    return steps


def read_grid(tokens: Path, source: Source) -> Callable[[], Steps[list[LayerTuple]]]:
    """Return what reads the layers of a token grid, to lie on the slide that it was made from."""
    placement, slide_id = Placement.of_layer(source.layer), source.layer.unique_id

    def steps() -> Steps[list[LayerTuple]]:
        from napari_prospector._napari.layers import METADATA_KEY
        from napari_prospector.tokens.store import TokenGrid

        yield JobProgress(f"Opening {tokens.name}")
        layers = grid_layers(TokenGrid.open(tokens), tokens, placement)
        for _, arguments, _ in layers:
            arguments["metadata"][METADATA_KEY]["slide_id"] = slide_id
        return layers

    return steps


def add_layers(viewer: Viewer, layers: list[LayerTuple]) -> list[Layer]:
    """Add what was read to a viewer, in place of layers of the same name and file."""
    from napari.layers import Layer as AnyLayer

    added = []
    for array, arguments, kind in layers:
        noted = arguments["metadata"]["napari_prospector"]
        for old in [layer for layer in viewer.layers if _is_same(provenance(layer), noted)]:
            viewer.layers.remove(old)
        added.append(viewer.add_layer(AnyLayer.create(array, arguments, kind)))
    return added


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two layers show the same of the same file."""
    return all(one.get(name) == other.get(name) for name in ("kind", "path", "slide_id")) and "kind" in one


def open_source(sources: list[Source], path: Path) -> Source | None:
    """Return the open layer of a file; None where it is not open."""
    return next((source for source in sources if source.path == path), None)


def bring_to_front(viewer: Viewer, layer: Layer) -> None:
    """Show a slide above all others, with what lies on it, and take it in hand."""
    own = [other for other in viewer.layers if other is layer or provenance(other).get("slide_id") == layer.unique_id]
    layer.visible = True
    indices = [number for number, other in enumerate(viewer.layers) if any(other is one for one in own)]
    n_layers = len(viewer.layers)
    if indices != list(range(n_layers - len(indices), n_layers)):
        viewer.layers.move_multiple(indices, n_layers)
    viewer.layers.selection.active = layer


def picture(slide: StudySlide, most_px: int) -> QImage | None:
    """Return a slide as a small picture for Qt; None where it has none."""
    from qtpy.QtGui import QImage

    from napari_prospector.errors import ProspectorError
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.tilepictures import slide_thumbnail

    if slide.path.name.endswith(TOKENS_SUFFIX):
        return None
    try:
        with open_slide(slide.path) as opened:
            pixels = np.ascontiguousarray(slide_thumbnail(opened, most_px))
    except ProspectorError:
        return None
    rows, cols = pixels.shape[:2]
    # the copy owns its pixels
    return QImage(pixels.tobytes(), cols, rows, 3 * cols, QImage.Format.Format_RGB888).copy()
