"""Map and concept layers as the content of a file, and back: what they show, and exactly where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.layers import (
    METADATA_KEY,
    MICROMETRE,
    LayerTuple,
    layer_name,
    map_look,
)
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.map_file import MICROMETER, ConceptMap, MapFile, Origin, Place, ScoreMap

__all__ = ["content_of_layers", "layers_of_content"]

# what names napari, or its users, call micrometres and pixels by
_MICROMETRES = {MICROMETER, "micrometre", "micron", "um", MICROMETRE}
_PIXELS = {"", "pixel", "px", "dimensionless", "None"}

_KINDS = ("map", "concepts")


def layers_of_content(content: MapFile, file_name: str) -> list[LayerTuple]:
    """Return concepts (hidden where there is a map) and map of a file as layers, as they were when they were drawn.

    Parameters
    ----------
    content
        As read.
    file_name
        After which the layers are called where the file names no slide.

    Returns
    -------
    list of tuple
        Array, keyword arguments, type.
    """
    origin, layers = content.origin, list[LayerTuple]()
    slide = layer_name(origin.slide or file_name)
    noted = {
        "slide": slide,
        "head": origin.head,
        "target": origin.target,
        "encoder": origin.encoder,
        "fingerprint": origin.fingerprint,
        "geometry": origin.geometry,
    }
    if (concepts := content.concepts) is not None:
        arguments = {
            "name": f"{slide} · concepts",
            "visible": content.scores is None,
            "metadata": {METADATA_KEY: {**noted, "kind": "concepts"}},
            **_concept_look(concepts),
            **_arguments(concepts.place),
        }
        layers.append((concepts.labels, arguments, "labels"))
    if (scores := content.scores) is not None:
        arguments = {
            "name": f"{slide} · {scores.map}",
            "metadata": {METADATA_KEY: {**noted, "kind": "map", "map": scores.map, "limit": scores.limit}},
            **map_look(scores.limit),
            **_arguments(scores.place),
        }
        layers.append((scores.values, arguments, "image"))
    return layers


def content_of_layers(layers: Sequence[LayerTuple]) -> MapFile | None:
    """Return what a file of some layers holds; None where none of them is a map or concepts of ours.

    Parameters
    ----------
    layers
        As napari hands them to a writer: one map, its concepts, or both, in any order.

    Raises
    ------
    InvalidInputError
        If a layer is turned, sheared or mirrored, or others than ours are among them.
    MismatchError
        If there are several maps, or map and concepts of different slides.
    """
    kinds = [_noted(layer).get("kind") for layer in layers]
    if not any(kind in _KINDS for kind in kinds):
        return None
    for layer, kind in zip(layers, kinds, strict=True):
        if kind not in _KINDS:
            raise InvalidInputError(
                f"A map's file holds a map and its concepts; {_name(layer)!r} is neither. Select those two layers only."
            )
    for kind in _KINDS:
        if kinds.count(kind) > 1:
            names = ", ".join(repr(_name(layer)) for layer, its in zip(layers, kinds, strict=True) if its == kind)
            raise MismatchError(f"A map's file holds one map and its concepts; got {names}. Save each by itself.")
    found = {kind: layer for kind, layer in zip(kinds, layers, strict=True)}
    slides = [_noted(layer).get("slide") for layer in layers]
    if len(set(slides)) > 1:
        raise MismatchError(
            f"A map's file is of one slide; got layers of {' and '.join(map(repr, slides))}. Save each by itself."
        )
    scores = _scores(found["map"]) if "map" in found else None
    concepts = _concepts(found["concepts"]) if "concepts" in found else None
    return MapFile(scores, concepts, _origin(_noted(found.get("map", layers[0]))))


def _concept_look(concepts: ConceptMap) -> dict[str, Any]:
    """Return how concepts are drawn: in the colours and under the names of the file."""
    from napari.utils.colormaps import CyclicLabelColormap

    assert concepts.colors is not None
    # label 0 is clear
    colors = np.concatenate((np.zeros((1, 4)), concepts.colors / 255))
    return {
        "colormap": CyclicLabelColormap(colors=colors, background_value=0),
        "opacity": 0.6,
        "blending": "translucent",
        "features": {"index": list(range(len(colors))), "concept": ["none", *concepts.names]},
    }


def _scores(layer: LayerTuple) -> ScoreMap:
    """Return the scores of a map layer; their limit is the head's, whatever the colours are set to now."""
    noted = _noted(layer)
    limit = noted.get("limit")
    if limit is None:
        limit = np.abs(layer[1].get("contrast_limits", (0.0, 0.0))).max()
    return ScoreMap(_finest(layer), _place(layer), str(noted.get("map")), float(limit))


def _concepts(layer: LayerTuple) -> ConceptMap:
    """Return the concepts of a layer with their names and colours as they are now."""
    labels, features = _finest(layer), layer[1].get("features")
    named = {} if features is None else dict(zip(features["index"], features["concept"], strict=True))
    n_concepts = max(1, int(labels.max()), *map(int, named))
    names = [str(named.get(label, f"concept {label - 1}")) for label in range(1, n_concepts + 1)]
    colormap = layer[1].get("colormap")
    # not `map` for the colours of ours: napari has single precision there
    own = np.asarray(getattr(colormap, "colors", ()))
    if colormap is None:
        colors = None
    elif len(own) == n_concepts + 1:
        colors = own[1:]
    else:
        colors = colormap.map(np.arange(1, n_concepts + 1))
    rounded = None if colors is None else np.rint(np.asarray(colors) * 255).astype(np.uint8)
    return ConceptMap(labels, _place(layer), names, rounded)


def _origin(noted: dict[str, Any]) -> Origin:
    """Return from what a layer says that it was made."""
    names = ("slide", "target", "head", "encoder")
    slide, target, head, encoder = (None if noted.get(name) is None else str(noted[name]) for name in names)
    return Origin(
        *(slide, target, head, encoder),
        fingerprint=noted.get("fingerprint"),
        geometry=noted.get("geometry"),
    )


def _place(layer: LayerTuple) -> Place:
    """Return where a layer lies now.

    Raises
    ------
    InvalidInputError
        OME-Zarr 0.5 has no way to say it.
    """
    said, name = layer[1], _name(layer)
    units = tuple(_unit(str(unit)) for unit in said.get("units") or ("pixel", "pixel"))
    scale, translate = (
        np.asarray(said.get(what, at), dtype=np.float64) for what, at in (("scale", 1), ("translate", 0))
    )
    scale, translate = np.broadcast_to(scale, 2), np.broadcast_to(translate, 2)
    is_straight = True
    if _moves_further(said):
        scale, translate, is_straight = _composed(said, scale, translate)
    if not is_straight or min(scale) <= 0:
        raise InvalidInputError(
            f"{name!r} is turned, sheared or mirrored; OME-Zarr 0.5 holds positive scales and translations only. Take"
            " that back (rotate, shear, affine and scale of the layer), then save it."
        )
    return Place((scale[0], scale[1]), (translate[0], translate[1]), (units[0], units[1]))


def _moves_further(said: dict[str, Any]) -> bool:
    """Whether a layer has more of a transform than scale and translation."""
    for what, nothing in (("rotate", np.eye(2)), ("shear", 0.0), ("affine", np.eye(3))):
        value = said.get(what)
        if value is not None and not np.array_equal(np.broadcast_to(nothing, np.shape(value)), value):
            return True
    return False


def _composed(
    said: dict[str, Any], scale: NDArray[np.float64], translate: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return scale and translation of a whole transform, and whether that is all of it."""
    from napari.utils.transforms import Affine

    own = Affine(scale=scale, translate=translate, rotate=said.get("rotate"), shear=said.get("shear"), ndim=2)
    outer = np.eye(3) if said.get("affine") is None else np.asarray(said["affine"], dtype=np.float64)
    matrix = outer @ own.affine_matrix
    steps = np.diag(matrix)[:2]
    beside = np.abs(matrix[[0, 1], [1, 0]]).max()
    return steps, matrix[:2, 2], bool(beside <= 1e-9 * np.abs(steps).max())


def _finest(layer: LayerTuple) -> NDArray[Any]:
    """Return the cells of a layer, of the finest level where it has several."""
    cells = layer[0][0] if layer[1].get("multiscale") else layer[0]
    return np.asarray(cells)


def _arguments(place: Place) -> dict[str, Any]:
    """Return the transform of a layer."""
    units = tuple("pixel" if unit is None else MICROMETRE if unit == MICROMETER else unit for unit in place.units)
    return {"scale": place.scale, "translate": place.translate, "units": units}


def _unit(name: str) -> str | None:
    """Return a unit as NGFF spells it; None for pixels."""
    return MICROMETER if name in _MICROMETRES else None if name in _PIXELS else name


def _noted(layer: LayerTuple) -> dict[str, Any]:
    """Return what we noted about a layer; empty for layers that are not ours."""
    noted = (layer[1].get("metadata") or {}).get(METADATA_KEY, {})
    return noted if isinstance(noted, dict) else {}


def _name(layer: LayerTuple) -> str:
    """Return the name of a layer."""
    return str(layer[1].get("name", "a layer"))
