"""What napari calls when layers are saved: one function per format.

A writer gets layers as tuples and returns the paths that it wrote; none for layers that are not ours, which napari
then says. What cannot be written is refused with the reason.
"""

from __future__ import annotations

from typing import Any

from napari_prospector._napari.layers import METADATA_KEY, LayerTuple
from napari_prospector._napari.saved_maps import content_of_layers

__all__ = ["write_omezarr_layers", "write_regions_layer"]


def write_omezarr_layers(path: str, layers: list[LayerTuple]) -> list[str]:
    """Write a map layer, its concepts, or both as OME-Zarr 0.5, ``*.prospect.ome.zarr``.

    Raises
    ------
    InvalidInputError, MismatchError
        If these layers cannot be one file.
    StorageError
        If it cannot be written; nothing is left behind, and nothing of others is overwritten.
    """
    from napari_prospector._napari.waiting import beside_window

    content = content_of_layers(layers)
    if content is None:
        return []

    def write() -> str:
        from napari_prospector.study.omezarr_maps import write_omezarr

        return str(write_omezarr(path, content))

    return [beside_window(write)]


def write_regions_layer(path: str, shapes: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the regions of a layer of *Annotate* as GeoJSON, exact as the study has them; other Shapes are not ours.

    Raises
    ------
    InvalidInputError
        The layer's regions are not among those of the viewer.
    StorageError
        If the file cannot be written.
    """
    import napari

    from napari_prospector._napari.annotator import annotator_of
    from napari_prospector._napari.waiting import beside_window
    from napari_prospector._napari.workspace import workspace_of
    from napari_prospector.errors import InvalidInputError

    noted = attributes.get("metadata", {}).get(METADATA_KEY, {})
    if noted.get("kind") != "annotations":
        return []
    viewer = napari.current_viewer()
    if viewer is None:
        raise InvalidInputError("Regions must be saved from the viewer that shows them; no viewer is open.")
    annotator = annotator_of(viewer)
    annotator.settle()
    regions, classes = workspace_of(viewer).study.regions(noted["key"]), annotator.classes

    def write() -> str:
        from napari_prospector.study.geojson import write_geojson

        return str(write_geojson(path, regions, classes))

    return [beside_window(write)]
