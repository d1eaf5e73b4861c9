"""The layers of drawn maps in a viewer: found by the slide they belong to, whatever they are called now.

Nothing here keeps a layer; what is gone from the viewer is gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.layers import METADATA_KEY, LayerTuple, provenance, result_layers
from napari_prospector._napari.repaint import recolor_concepts, repaint_map
from napari_prospector._napari.workspace import DrawnMap, workspace_of

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_prospector._napari.job import ProspectResult
    from napari_prospector._napari.sources import Source
    from napari_prospector.core.concept_edits import ConceptEdits

__all__ = [
    "add_result",
    "is_open",
    "layers_on",
    "move_layers",
    "redraw_layers",
    "rename_layers",
    "set_opacity",
    "show_above",
    "show_map",
]

OURS = ("map", "concepts", "above")
"""What is drawn on a slide by a head."""

NAME_DOT = " · "
"""Between the name of a slide and what a layer shows of it."""

# Okabe and Ito's bluish green: on tissue, and on either end of a map's colours, it is neither
OUTLINE = (0.0, 0.62, 0.45, 1.0)
MOST_CELLS = 1_000_000
"""Outlines are drawn on a grid that is up to ten times finer than that of the tokens, within so many cells."""
FINEST = 10


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

    from napari_prospector._napari.live_maps import live_maps_of

    # maps that nothing follows would stay where their slide was
    live_maps_of(viewer, workspace_of(viewer))
    before, placement = layers_on(viewer, source), source.placement(result.geometry)
    for made in result_layers(result, placement, source.name, source.layer.unique_id):
        again = next((layer for layer in before if _is_like(layer, made)), None)
        if again is None:
            viewer.add_layer(AnyLayer.create(*made))
        else:
            before.remove(again)
            _change_into(again, made)
    # last: software OpenGL crashes where layers are taken away, drawn without, and others are added
    for layer in before:
        viewer.layers.remove(layer)
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
        verdict=result.summary(),
        painter=result.painter,
        head_name=result.job.head_name,
    )


def _is_like(layer: Layer, made: LayerTuple) -> bool:
    """Say whether a layer shows the same of the same grid: it is changed in place, and stays as the user set it."""
    old, new = provenance(layer), made[1]["metadata"][METADATA_KEY]
    is_same = all(old.get(name) == new.get(name) for name in ("kind", "map"))
    return is_same and layer.data.shape == made[0].shape and layer.data.dtype == made[0].dtype


def _change_into(layer: Layer, made: LayerTuple) -> None:
    """Give a layer what another run drew; opacity, name, and whether concepts are shown, stay as somebody set them."""
    array, arguments, kind = made
    layer.data = array
    for name in ("metadata", "colormap", "features", "contrast_limits", "visible"):
        if name in arguments and not (name == "visible" and kind == "labels"):
            setattr(layer, name, arguments[name])
    for name in ("scale", "translate", "rotate", "shear", "affine", "units"):
        if name in arguments and not _is_same(getattr(layer, name), arguments[name]):
            setattr(layer, name, arguments[name])


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
        # a layer that somebody gave other cells is theirs
        if name in maps and maps[name].shape == layer.data.shape:
            repaint_map(layer, maps[name])
    for layer in layers_on(viewer, source, "concepts"):
        recolor_concepts(layer, edits)


def set_opacity(viewer: Viewer, source: Source, opacity: float) -> None:
    """Draw all maps of a slide with one opacity, 0 to 1."""
    for layer in layers_on(viewer, source, "map"):
        layer.opacity = opacity


def show_above(viewer: Viewer, drawn: DrawnMap, above: NDArray[np.bool_] | None) -> None:
    """Outline the tokens above a threshold, in a layer of their own that is changed in place.

    Parameters
    ----------
    viewer, drawn
        Where, and the map.
    above
        Shape (rows, cols); None takes the layer away.
    """
    layers = layers_on(viewer, drawn.source, "above")
    if above is None:
        for layer in layers:
            viewer.layers.remove(layer)
        return
    factor = min(FINEST, max(1, math.isqrt(MOST_CELLS // above.size)))
    cells = above.astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    if layers and layers[0].data.shape == cells.shape:
        layers[0].data = cells
        return
    active = viewer.layers.selection.active
    viewer.add_labels(cells, **_above_look(drawn, factor)).contour = 1
    viewer.layers.selection.active = active


def _above_look(drawn: DrawnMap, factor: int) -> dict[str, Any]:
    """Return the keyword arguments of the layer of outlines, whose cells are `factor` times finer than the grid."""
    from napari.utils.colormaps import CyclicLabelColormap

    noted = {"kind": "above", "slide_id": drawn.source.layer.unique_id, "cells_per_token": factor}
    colors = np.array([(0, 0, 0, 0), OUTLINE])
    return {
        "name": f"{drawn.source.name} · above threshold",
        "colormap": CyclicLabelColormap(colors=colors, background_value=0),
        "opacity": 1.0,
        "metadata": {METADATA_KEY: noted},
        **drawn.source.placement(drawn.geometry).of_grid(drawn.geometry, factor),
    }


def move_layers(viewer: Viewer, drawn: DrawnMap) -> None:
    """Put the layers of a drawn map where its slide lies now, after it was moved, scaled or given other units.

    Parameters
    ----------
    viewer
        Where they are.
    drawn
        Says whose they are.
    """
    placement = drawn.source.placement(drawn.geometry)
    for layer in layers_on(viewer, drawn.source):
        placed = placement.of_grid(drawn.geometry, provenance(layer).get("cells_per_token", 1))
        for name, value in placed.items():
            if not _is_same(getattr(layer, name), value):
                setattr(layer, name, value)


def rename_layers(viewer: Viewer, source: Source, old: str) -> None:
    """Name the layers on a slide after it, now that it is called otherwise; what a user named stays.

    Parameters
    ----------
    viewer, source
        The slide, under its new name, and where it is open.
    old
        What it was called.
    """
    for layer in layers_on(viewer, source):
        if layer.name.startswith(f"{old}{NAME_DOT}"):
            layer.name = f"{source.name}{layer.name[len(old) :]}"


def _is_same(one: Any, other: Any) -> bool:
    """Say whether two transforms, or tuples of units, are the same."""
    matrix = getattr(one, "affine_matrix", one)
    return np.array_equal(np.asarray(matrix, dtype=object), np.asarray(other, dtype=object))
