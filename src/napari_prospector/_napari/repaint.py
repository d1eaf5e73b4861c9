"""Change layers that are shown: scores of a map, colours and names of concepts, without making layers anew.

What napari does was measured (`benchmarks/layers.py`). Setting ``layer.data`` to a new array of the same shape costs a
few milliseconds more than filling the old one and calling ``refresh``, and it tells listeners; so it is done. A layer
of a million cells uploads and draws as one texture about as fast as a pyramid of it does, so maps have no levels.
Colours of concepts change by the colormap alone; the labels stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import MismatchError

if TYPE_CHECKING:
    from napari_prospector.core.concept_edits import ConceptEdits

__all__ = ["concept_colormap", "concept_features", "label_colors", "recolor_concepts", "repaint_map"]

_PALE = 0.12
"""Opacity of concepts that are not highlighted while others are."""


def label_colors(edits: ConceptEdits) -> NDArray[np.float64]:
    """Return the colours of labels: clear for label 0, then those of the concepts.

    Parameters
    ----------
    edits
        Merged concepts have one colour; hidden ones are clear; while some are highlighted the others are pale.

    Returns
    -------
    NDArray[np.float64]
        Shape (K + 1, 4): red, green, blue, opacity from 0 to 1.
    """
    opacity = np.ones(edits.n_concepts)
    if edits.highlighted:
        opacity[:] = _PALE
        opacity[list(edits.highlighted)] = 1
    opacity[list(edits.hidden)] = 0
    return np.vstack((np.zeros(4), np.column_stack((edits.colors(), opacity))))


def concept_colormap(edits: ConceptEdits) -> Any:
    """Return `label_colors` as napari has colours of labels.

    Cyclic, because a direct one makes napari compile for seconds, in the GUI thread, when it is first shown.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    return CyclicLabelColormap(colors=label_colors(edits), background_value=0)


def concept_features(edits: ConceptEdits) -> dict[str, list[Any]]:
    """Return what napari says of a label under the pointer: the name of the concept, and that it is hidden."""
    said = [f"{name} (hidden)" if concept in edits.hidden else name for concept, name in enumerate(edits.shown_names)]
    return {"index": list(range(edits.n_concepts + 1)), "concept": ["none", *said]}


def recolor_concepts(layer: Any, edits: ConceptEdits) -> None:
    """Show edits in a concept layer: by its colours and names alone.

    Parameters
    ----------
    layer
        Labels, made by `concept_layer`.
    edits
        Of as many concepts as the layer was made with.
    """
    layer.colormap = concept_colormap(edits)
    layer.features = concept_features(edits)


def repaint_map(layer: Any, scores: NDArray[np.float32]) -> None:
    """Show other scores in a map layer; colours and limits stay.

    Parameters
    ----------
    layer
        Image, made by `map_layer`.
    scores
        Shape (rows, cols), as the layer's.

    Raises
    ------
    MismatchError
        If the shape is another.
    """
    if scores.shape != layer.data.shape:
        raise MismatchError(
            f"scores must have the shape of the layer {layer.name!r}, {layer.data.shape}; got {scores.shape}. "
            "Add the map as a new layer."
        )
    layer.data = scores
