"""The layers of drawn maps in a viewer: found by the slide they belong to, whatever they are called now.

Nothing here keeps a layer; what is gone from the viewer is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.layers import provenance, result_layers
from napari_prospector._napari.repaint import recolor_concepts, repaint_map
from napari_prospector._napari.workspace import DrawnMap

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_prospector._napari.job import ProspectResult
    from napari_prospector._napari.sources import Source
    from napari_prospector.core.concept_edits import ConceptEdits

__all__ = ["add_result", "is_open", "layers_on", "move_layers", "redraw_layers", "show_map"]

OURS = ("map", "concepts", "above")
"""What is drawn on a slide by a head."""


def is_open(viewer: Viewer, source: Source) -> bool:
    """Say whether the layer of a slide is still in the viewer."""
    return any(layer is source.layer for layer in viewer.layers)


def layers_on(viewer: Viewer, source: Source, *kinds: str) -> list[Layer]:
    """Return the layers that a head drew on a slide.

    Parameters
    ----------
    viewer
        Where.
    source
        The slide.
    kinds
        ``"map"``, ``"concepts"``, ``"above"``; none means all of them.
    """
    wanted = kinds or OURS
    return [
        layer
        for layer in viewer.layers
        if provenance(layer).get("slide_id") == source.layer.unique_id and provenance(layer).get("kind") in wanted
    ]


def add_result(viewer: Viewer, source: Source, result: ProspectResult) -> DrawnMap:
    """Add the layers of a finished job over its slide, in place of those of an earlier run.

    Parameters
    ----------
    viewer
        Where the slide is open.
    source
        The slide.
    result
        What was found on it.

    Returns
    -------
    DrawnMap
        For `Workspace.keep_map`.
    """
    from napari.layers import Layer as AnyLayer

    for layer in layers_on(viewer, source):
        viewer.layers.remove(layer)
    placement = source.placement(result.geometry)
    for array, arguments, kind in result_layers(result, placement, source.name, source.layer.unique_id):
        viewer.add_layer(AnyLayer.create(array, arguments, kind))
    return DrawnMap(
        source=source,
        tokens=result.tokens,
        geometry=result.geometry,
        mask=result.mask,
        graph=result.graph,
        concepts=result.painter.concepts,
        head=result.job.head,
        probabilities=result.probabilities,
        target=result.target,
        maps=result.maps,
        shown=result.job.map,
        verdict=result.verdict(),
        painter=result.painter,
    )


def show_map(viewer: Viewer, source: Source, name: str) -> None:
    """Show one map of a slide and hide its others.

    Parameters
    ----------
    viewer, source
        The slide and where it is open.
    name
        Of the map; where it is not drawn, all stay as they are.
    """
    maps = layers_on(viewer, source, "map")
    if any(provenance(layer)["map"] == name for layer in maps):
        for layer in maps:
            layer.visible = provenance(layer)["map"] == name


def redraw_layers(viewer: Viewer, source: Source, maps: Mapping[str, NDArray[np.float32]], edits: ConceptEdits) -> None:
    """Show what edits of the concepts made of the maps of a slide; layers that are gone are left out.

    Parameters
    ----------
    viewer, source
        The slide and where it is open.
    maps
        Name to scores (rows, cols); maps that are not among them stay.
    edits
        Names, colours, what is hidden and highlighted.
    """
    for layer in layers_on(viewer, source, "map"):
        name = provenance(layer)["map"]
        if name in maps:
            repaint_map(layer, maps[name])
    for layer in layers_on(viewer, source, "concepts"):
        recolor_concepts(layer, edits)


def move_layers(viewer: Viewer, drawn: DrawnMap) -> None:
    """Put the layers of a drawn map where its slide lies now, after it was moved, scaled or given other units.

    Parameters
    ----------
    viewer
        Where they are.
    drawn
        Says whose they are.
    """
    placed = drawn.source.placement(drawn.geometry).of_grid(drawn.geometry)
    for layer in layers_on(viewer, drawn.source):
        for name, value in placed.items():
            if not _is_same(getattr(layer, name), value):
                setattr(layer, name, value)


def _is_same(one: Any, other: Any) -> bool:
    """Say whether two transforms, or tuples of units, are the same."""
    matrix = getattr(one, "affine_matrix", one)
    return np.array_equal(np.asarray(matrix, dtype=object), np.asarray(other, dtype=object))
