"""What napari calls when layers are saved: one function per format.

A writer gets layers as tuples and returns the paths that it wrote; none for layers that are not ours, which napari
then says. What cannot be written is refused with the reason.
"""

from __future__ import annotations

from napari_prospector._napari.layers import LayerTuple
from napari_prospector._napari.saved_maps import content_of_layers

__all__ = ["write_omezarr_layers"]


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
