"""What napari calls when a file is dropped on the viewer: slides, token grids, heads, cohort tables, maps.

A reader returns None for what is not ours, so that napari asks another plugin. It does so for files whose name
is everybody's (`*.tif`, `*.zarr`); what is ours by its name is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari_prospector._napari.layers import LayerTuple, grid_layers, slide_layer
from napari_prospector.errors import ProspectorError

__all__ = [
    "get_cohort_reader",
    "get_grid_reader",
    "get_head_reader",
    "get_map_reader",
    "get_regions_reader",
    "get_slide_reader",
]

Paths = str | Sequence[str]
Reader = Callable[[Paths], list[LayerTuple]]

# what is not only slides
EVERYBODYS = {".btf", ".czi", ".dcm", ".tif", ".tiff", ".zarr"}
# a plain TIFF of this many pixels a side is a slide, whatever else it lacks
SLIDE_FROM_PX = 4096
# what napari's convention says for "read, and there is no layer"
NO_LAYER: LayerTuple = (None,)  # type: ignore[assignment]


def get_slide_reader(path: Paths) -> Reader | None:
    """Return a reader if `path` is a slide; TIFF, zarr, DICOM and CZI of another kind are left to others."""
    file = _single(path)
    if file is None or not file.exists() or file.name.endswith(".tokens.zarr"):
        return None
    if _is_map(file):
        return None
    if (file.is_dir() or file.suffix.lower() in EVERYBODYS) and not _looks_like_slide(file):
        return None
    return read_slide


def read_slide(path: Paths) -> list[LayerTuple]:
    """Return the layer of a slide; says so where the file states no pixel size."""
    from napari.utils.notifications import show_warning

    from napari_prospector._napari.waiting import beside_window
    from napari_prospector.tokens.slides import open_slide

    file = _single(path)
    assert file is not None
    slide = beside_window(lambda: open_slide(file))
    if slide.mpp is None:
        show_warning(f"{slide.mpp_problem} It is shown in pixels. Fill in 'Pixel size' before a head is applied.")
    return [slide_layer(slide)]


def get_grid_reader(path: Paths) -> Reader | None:
    """Return a reader if `path` is a token grid, a folder ``*.tokens.zarr``."""
    folder = _single(path)
    if folder is None or not folder.is_dir() or not folder.name.endswith(".tokens.zarr"):
        return None
    return read_grid


def read_grid(path: Paths) -> list[LayerTuple]:
    """Return the layers of a token grid."""
    from napari_prospector.tokens.store import TokenGrid

    folder = _single(path)
    assert folder is not None
    return grid_layers(TokenGrid.open(folder), folder)


def get_map_reader(path: Paths) -> Reader | None:
    """Return a reader if `path` is a map with its concepts, a folder ``*.prospect.ome.zarr``."""
    folder = _single(path)
    return read_map if folder is not None and _is_map(folder) else None


def read_map(path: Paths) -> list[LayerTuple]:
    """Return the layers of a map and its concepts, where they were when they were saved."""
    from napari_prospector._napari.saved_maps import layers_of_content
    from napari_prospector._napari.waiting import beside_window
    from napari_prospector.study.omezarr_maps import MAP_ENDING, read_omezarr

    folder = _single(path)
    assert folder is not None
    return layers_of_content(beside_window(lambda: read_omezarr(folder)), folder.name.removesuffix(MAP_ENDING))


def get_head_reader(path: Paths) -> Reader | None:
    """Return a reader if `path` is a head file, ``*.prospector``."""
    file = _single(path)
    return None if file is None or file.suffix != ".prospector" else read_head


def read_head(path: Paths) -> list[LayerTuple]:
    """Open the panel with this head; a head is no layer, so none is returned."""
    import napari

    from napari_prospector._napari.panel import show_panel
    from napari_prospector.core.headfile import read_head_file

    file = _single(path)
    assert file is not None
    read_head_file(file)
    viewer = napari.current_viewer()
    if viewer is not None:
        show_panel(viewer).choose_head(file)
    return [NO_LAYER]


def get_cohort_reader(path: Paths) -> Reader | None:
    """Return a reader if `path` is a cohort table, CSV with the columns path and label; other tables are not ours."""
    from napari_prospector._napari.find_slides import is_cohort_table

    file = _single(path)
    return read_cohort if file is not None and file.suffix.lower() == ".csv" and is_cohort_table(file) else None


def read_cohort(path: Paths) -> list[LayerTuple]:
    """Add the slides of a table to the study; a cohort is no layer, so none is returned."""
    import napari

    from napari_prospector._napari.slides_widget import show_slides

    file, viewer = _single(path), napari.current_viewer()
    assert file is not None
    if viewer is not None:
        show_slides(viewer).add([file])
    return [NO_LAYER]


def get_regions_reader(path: Paths) -> Reader | None:
    """Return a reader if `path` holds regions, ``*.geojson``."""
    file = _single(path)
    return None if file is None or file.suffix.lower() != ".geojson" else read_regions


def read_regions(path: Paths) -> list[LayerTuple]:
    """Have *Annotate* add the regions to the slide at hand; their layer is its own, so none is returned."""
    import napari

    from napari_prospector._napari.annotate_widget import show_annotate

    file = _single(path)
    assert file is not None
    viewer = napari.current_viewer()
    if viewer is not None:
        show_annotate(viewer).import_file(file)
    return [NO_LAYER]


def _single(path: Paths) -> Path | None:
    """Return the one path that came; a stack of several is not ours."""
    if isinstance(path, str):
        return Path(path)
    return Path(path[0]) if len(path) == 1 else None


def _is_map(folder: Path) -> bool:
    """Whether a folder is a map that was written here, by its name or, where it was renamed, by what it says."""
    from napari_prospector.study.omezarr_maps import MAP_ENDING, is_map_folder

    return folder.is_dir() and (folder.name.endswith(MAP_ENDING) or is_map_folder(folder))


def _looks_like_slide(file: Path) -> bool:
    """Whether a file is more than a picture that we can read: it has levels, states a pixel size, or is large."""
    from napari_prospector.tokens.slides import open_slide

    try:
        with open_slide(file) as slide:
            return len(slide.levels) > 1 or slide.mpp is not None or max(slide.shape) >= SLIDE_FROM_PX
    except ProspectorError:
        return False
