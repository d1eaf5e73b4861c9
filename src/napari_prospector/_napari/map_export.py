"""What is drawn on a slide as files that other programs open: maps as OME-Zarr, contours as GeoJSON, tokens as a table.

Pure: a frozen request, the files that it would write, and a generator that writes them in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector._napari.progress import JobProgress, Steps

if TYPE_CHECKING:
    from napari_prospector._napari.job import ProspectResult
    from napari_prospector._napari.workspace import DrawnMap
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["ExportRequest", "MapContent", "export_files", "export_map"]

MAP_ENDING = ".prospect.ome.zarr"  # of study.omezarr_maps, which imports zarr


@dataclass(frozen=True, eq=False)
class MapContent:
    """The maps of a slide, whether it is open or not.

    Attributes
    ----------
    name
        What files are to be called.
    tokens
        Folder of the token grid.
    geometry, mask, concepts, maps, head, target
        As in `DrawnMap`.
    """

    name: str
    tokens: Path
    geometry: GridGeometry
    mask: NDArray[np.bool_]
    concepts: NDArray[np.int32]
    maps: Mapping[str, NDArray[np.float32]]
    head: ProspectorHead
    target: str

    @classmethod
    def of_drawn(cls, drawn: DrawnMap) -> MapContent:
        """Take what is drawn on a slide that is open, under the name of its layer."""
        known = drawn.tokens, drawn.geometry, drawn.mask, drawn.concepts, drawn.maps, drawn.head, drawn.target
        return cls(drawn.source.name, *known)

    @classmethod
    def of_result(cls, name: str, result: ProspectResult) -> MapContent:
        """Take what a job found."""
        known = result.tokens, result.geometry, result.mask, result.painter.concepts, result.maps
        return cls(name, *known, result.job.head, result.target)


@dataclass(frozen=True, eq=False)
class ExportRequest:
    """What to write.

    Attributes
    ----------
    drawn
        The maps of a slide.
    head_name
        File name of their head.
    folder
        Where to write.
    map
        Whose contours.
    threshold
        Of the contours, in the unit of the map.
    tolerance_um
        How far simplified contours may be from exact ones; 0 keeps them along the borders of tokens.
    maps, contours, table
        Whether to write all maps with the concepts, the contours, and a line for each token.
    """

    drawn: MapContent
    head_name: str
    folder: Path
    map: str
    threshold: float = 0.0
    tolerance_um: float = 0.0
    maps: bool = True
    contours: bool = True
    table: bool = False

    @property
    def stem(self) -> str:
        """What all files begin with: the name of the slide, without what no file may be called."""
        return "".join("-" if letter in '<>:"/\\|?*\0' or letter < " " else letter for letter in self.drawn.name)


def export_files(request: ExportRequest) -> list[Path]:
    """Return the files and folders that a request writes, in their order."""
    files = [f"{request.stem}.{name}{MAP_ENDING}" for name in request.drawn.maps] if request.maps else []
    if request.contours:
        files.append(f"{request.stem}.{request.map}.geojson")
    if request.table:
        files.append(f"{request.stem}.tokens.csv")
    return [request.folder / file for file in files]


def export_map(request: ExportRequest) -> Steps[list[Path]]:
    """Write what was asked for; each file is there whole or not at all, and none of them holds a path.

    Parameters
    ----------
    request
        What to write; files of the same slide that are there already are replaced.

    Yields
    ------
    JobProgress
        n of N files.

    Returns
    -------
    list of Path
        As `export_files`.

    Raises
    ------
    ProspectorError
        If a file cannot be written, or shows another slide already.
    """
    from napari_prospector.study.map_owner import check_slide_of_maps

    files, written = export_files(request), []
    yield JobProgress("Writing", 0, len(files))
    origin = _origin(request)
    folders = [file for file in files if file.name.endswith(MAP_ENDING)]
    check_slide_of_maps(folders, str(origin.slide), str(origin.fingerprint))
    for file in files:
        if file.name.endswith(MAP_ENDING):
            _write_zarr(request, file, origin)
        elif file.suffix == ".geojson":
            _write_contours(request, file)
        else:
            _write_table(request, file)
        written.append(file)
        yield JobProgress("Writing", len(written), len(files))
    return written


def _origin(request: ExportRequest) -> Any:
    """Return from what the maps were made, as their files say it."""
    from napari_prospector._napari.request import encoder_of
    from napari_prospector.study.map_file import Origin
    from napari_prospector.tokens.store import TokenGrid

    drawn = request.drawn
    with TokenGrid.open(drawn.tokens) as grid:
        slide, fingerprint = str(grid.attrs["slide_name"]), str(grid.attrs["slide_fingerprint"])
    encoder = encoder_of(drawn.head).get("name")
    hidden = tuple(sorted(drawn.head.concept_edits_.hidden))
    return Origin(slide, drawn.target, request.head_name, encoder, fingerprint, drawn.geometry, hidden)


def _write_zarr(request: ExportRequest, file: Path, origin: Any) -> None:
    """Write one map with the concepts; merged ones have the number of their representative."""
    from napari_prospector.study.exchange import on_grid
    from napari_prospector.study.map_file import ConceptMap, MapFile, Place, ScoreMap
    from napari_prospector.study.omezarr_maps import write_omezarr

    drawn, place = request.drawn, Place.of_grid(request.drawn.geometry)
    name = file.name.removesuffix(MAP_ENDING).rpartition(".")[2]
    merged = drawn.head.concept_edits_.merged(drawn.concepts)
    scores = ScoreMap(drawn.maps[name], place, name, float(drawn.head.color_limits_[name]))
    concepts = ConceptMap(on_grid(merged + 1, drawn.mask, 0), place, drawn.head.concept_names_)
    write_omezarr(file, MapFile(scores, concepts, origin))


def _write_contours(request: ExportRequest, file: Path) -> None:
    """Write the regions above the threshold, holes kept, the strongest first."""
    from napari_prospector.study.geojson import write_geojson
    from napari_prospector.study.outlines import threshold_regions

    drawn = request.drawn
    found = threshold_regions(
        drawn.maps[request.map], request.threshold, drawn.geometry, drawn.target, request.tolerance_um
    )
    write_geojson(file, [scored.region for scored in found])


def _write_table(request: ExportRequest, file: Path) -> None:
    """Write a line for each token: its place, all maps, its concept."""
    from napari_prospector.study.exchange import write_token_table

    drawn = request.drawn
    merged = drawn.head.concept_edits_.merged(drawn.concepts)
    columns: dict[str, ArrayLike] = {name: scores[drawn.mask] for name, scores in drawn.maps.items()}
    columns |= {"concept": merged, "concept_name": np.asarray(drawn.head.concept_edits_.names)[merged]}
    write_token_table(file, drawn.mask, drawn.geometry, columns)
