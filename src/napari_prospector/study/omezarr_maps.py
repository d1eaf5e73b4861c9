"""Maps and concepts as OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5), written and read back exactly.

A folder ``NAME.prospect.ome.zarr`` is an image of scores with its concepts in ``labels/concepts``, as NGFF wants
labels; concepts alone are an image of labels. Axes are y and x; the transformations of a level place the centres of its
cells, as `GridGeometry.ngff` does. What NGFF has no word for lies in the attribute "napari_prospector".
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from napari_prospector import __version__
from napari_prospector.errors import FileFormatError, MissingFileError, StorageError
from napari_prospector.study.map_file import ConceptMap, MapFile, Origin, Place, ScoreMap
from napari_prospector.study.map_levels import MEAN, MOST_FREQUENT, label_levels, score_levels
from napari_prospector.tokens.durable import whole_folder
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.segments import DAMAGE

__all__ = ["MAP_ENDING", "is_map_folder", "map_folder_origin", "read_omezarr", "write_omezarr"]

MAP_ENDING = ".prospect.ome.zarr"

_OURS, _FORMAT = "napari_prospector", 1
_CHUNK = 512
_MOST_CELLS = 2**28
_MOST_JSON_BYTES = 64 * 2**20
_DAMAGE = (*DAMAGE, zlib.error)


def write_omezarr(path: str | os.PathLike[str], content: MapFile) -> Path:
    """Write a map, its concepts, or both as OME-Zarr 0.5, with coarser levels down to 256 cells a side.

    Parameters
    ----------
    path
        ``*.prospect.ome.zarr``. A folder of this kind that was written here is replaced; anything else is not.
    content
        What to write. `read_omezarr` gives back its equal.

    Returns
    -------
    Path
        Where it was written, whole or not at all. It holds no path, no time and no name but the slide's.

    Raises
    ------
    StorageError
        If the name ends otherwise, something else is there already, or the system refuses to write: nothing is left.

    Examples
    --------
    >>> import tempfile
    >>> geometry = GridGeometry(rows=5, cols=7, tile=448, stride=448, origin=(0, 0), slide_mpp=0.25)
    >>> scores = ScoreMap(np.zeros((5, 7), np.float32), Place.of_grid(geometry), map="evidence", limit=2.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_omezarr(f"{folder}/case7{MAP_ENDING}", MapFile(scores, origin=Origin(slide="case7.svs")))
    ...     read_omezarr(path).scores.place.translate
    (55.875, 55.875)
    """
    target = Path(path)
    if not target.name.endswith(MAP_ENDING) or target.name == MAP_ENDING:
        raise StorageError(f"A map's folder must be named NAME{MAP_ENDING}; got {target.name}. Name it so.")
    _check_may_be_replaced(target)
    with whole_folder(target) as partial:
        if content.scores is not None:
            levels = score_levels(content.scores.values)
            _write_image(partial, levels, content.scores.place, _score_words(content.scores), _our_words(content))
        if content.concepts is not None:
            inside = content.scores is not None
            folder = partial / "labels" / "concepts" if inside else partial
            words, ours = _concept_words(content.concepts, inside), None if inside else _our_words(content)
            _write_image(folder, label_levels(content.concepts.labels), content.concepts.place, words, ours)
            if inside:
                listed = {"ome": {"version": "0.5", "labels": ["concepts"]}}
                zarr.create_group(LocalStore(partial / "labels"), zarr_format=3, attributes=listed)
    return target


def read_omezarr(path: str | os.PathLike[str]) -> MapFile:
    """Read what `write_omezarr` wrote, at its finest level.

    Raises
    ------
    MissingFileError
        If there is nothing.
    FileFormatError
        If it is no map that was written here, is damaged, or of a newer version.
    StorageError
        If it cannot be read.
    """
    folder = Path(path)
    ours = _our_attributes(folder)
    try:
        concepts_at = folder / "labels" / "concepts" if ours["has_scores"] else folder
        scores = _read_scores(folder, ours) if ours["has_scores"] else None
        concepts = _read_concepts(concepts_at, ours) if ours["has_concepts"] else None
        return MapFile(scores, concepts, _origin(ours))
    except PermissionError as error:
        raise StorageError(f"{folder} cannot be read: {error}. Check its permissions.") from error
    except _DAMAGE as error:
        raise FileFormatError(
            f"{folder.name} is damaged: {error if isinstance(error, FileFormatError) else repr(error)}."
            " Copy it again, or draw the map anew."
        ) from error


def is_map_folder(folder: Path) -> bool:
    """Tell whether a folder says that it is a map written here, sound or not."""
    try:
        return isinstance(_attributes(folder).get(_OURS), dict)
    except (FileFormatError, StorageError):
        return False


def map_folder_origin(path: str | os.PathLike[str]) -> Origin:
    """Return what a map was made from, without reading it.

    Raises
    ------
    MissingFileError, FileFormatError, StorageError
        As `read_omezarr`.
    """
    return _origin(_our_attributes(Path(path)))


def _write_image(
    folder: Path, levels: Iterator[NDArray[Any]], place: Place, words: dict[str, Any], ours: dict[str, Any] | None
) -> None:
    """Write one multiscale image; `words` are what its metadata says besides the levels."""
    datasets = []
    for number, level in enumerate(levels):
        _write_level(folder / str(number), level)
        at = place.coarser(number)
        steps = [
            {"type": "scale", "scale": list(at.scale)},
            {"type": "translation", "translation": list(at.translate)},
        ]
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    axes = [
        {"name": name, "type": "space", **({} if unit is None else {"unit": unit})}
        for name, unit in zip("yx", place.units, strict=True)
    ]
    multiscale = {**words.pop("multiscale"), "axes": axes, "datasets": datasets}
    attributes: dict[str, Any] = {"ome": {"version": "0.5", "multiscales": [multiscale], **words}}
    if ours is not None:
        attributes[_OURS] = ours
    zarr.create_group(LocalStore(folder), zarr_format=3, attributes=attributes)


def _write_level(folder: Path, cells: NDArray[Any]) -> None:
    """Write one level; a chunk that holds nothing takes no place."""
    chunks = tuple(min(_CHUNK, length) for length in cells.shape)
    array = zarr.create_array(
        LocalStore(folder),
        shape=cells.shape,
        dtype=cells.dtype,
        chunks=chunks,
        # of the codecs in zarr's own specification, and free of a clock, which gzip writes
        compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
        fill_value=np.nan if cells.dtype.kind == "f" else 0,
        dimension_names=("y", "x"),
        zarr_format=3,
    )
    array[:] = cells


def _score_words(scores: ScoreMap) -> dict[str, Any]:
    """Return what NGFF says of a map: how its levels were made, and the window of its colours."""
    end = scores.limit or 1.0
    # NaN everywhere: no token at all
    lowest, highest = np.nanmin(scores.values, initial=-end), np.nanmax(scores.values, initial=end)
    window = {"min": float(lowest), "max": float(highest), "start": -end, "end": end}
    channel = {"label": scores.map, "color": "FFFFFF", "active": True, "window": window}
    method = {"description": MEAN, "method": "numpy.nanmean"}
    return {
        "multiscale": {"name": scores.map, "type": "mean", "metadata": method},
        "omero": {"channels": [channel], "rdefs": {"model": "greyscale"}},
    }


def _concept_words(concepts: ConceptMap, inside: bool) -> dict[str, Any]:
    """Return what NGFF says of labels: colours, names, and the image they belong to."""
    assert concepts.colors is not None
    numbered = list(enumerate(zip(concepts.names, concepts.colors.tolist(), strict=True), start=1))
    about: dict[str, Any] = {
        "colors": [{"label-value": label, "rgba": color} for label, (_, color) in numbered],
        "properties": [{"label-value": label, "concept": name} for label, (name, _) in numbered],
    }
    if inside:
        about["source"] = {"image": "../../"}
    method = {"description": MOST_FREQUENT}
    return {"multiscale": {"name": "concepts", "type": "mode", "metadata": method}, "image-label": about}


def _our_words(content: MapFile) -> dict[str, Any]:
    """Return what NGFF has no word for."""
    origin, scores, concepts = content.origin, content.scores, content.concepts
    return {
        "kind": "map",
        "format": _FORMAT,
        "version": __version__,
        "has_scores": scores is not None,
        "has_concepts": concepts is not None,
        "map": None if scores is None else scores.map,
        "limit": None if scores is None else scores.limit,
        "target": origin.target,
        "head": origin.head,
        "encoder": origin.encoder,
        "slide": origin.slide,
        "slide_fingerprint": origin.fingerprint,
        "hidden_concepts": list(origin.hidden),
        "geometry": None if origin.geometry is None else origin.geometry.to_json(),
        "sha256": {
            **({} if scores is None else {"scores": _digest(scores.values)}),
            **({} if concepts is None else {"concepts": _digest(concepts.labels)}),
        },
    }


def _digest(cells: NDArray[Any]) -> str:
    """Return the sha256 of an array, so that a lost chunk, which reads as empty, is noticed."""
    little = np.ascontiguousarray(cells).astype(cells.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(f"{cells.dtype.name} {cells.shape}".encode() + little.data).hexdigest()


def _check_may_be_replaced(target: Path) -> None:
    """Raise `StorageError` if something is at `target` that was not written here."""
    if not os.path.lexists(target):
        return
    strange = ["it"] if target.is_symlink() or not is_map_folder(target) else []
    if not strange:
        labels = target / "labels"
        known = {target: {"zarr.json", "labels"}, labels: {"zarr.json", "concepts"}}
        strange = [
            str(entry.relative_to(target))
            for folder, names in known.items()
            if folder.is_dir()
            for entry in sorted(folder.iterdir())
            if entry.name not in names and not (folder == target and entry.name.isdecimal())
        ]
    if strange:
        raise StorageError(
            f"{target} exists, and {strange[0]} was not written by napari-prospector. Nothing of it is overwritten:"
            " choose another name, or move it away."
        )


def _attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a zarr v3 group; nothing for what is none.

    Raises
    ------
    FileFormatError, StorageError
        Its metadata is no JSON, or cannot be read.
    """
    file = folder / "zarr.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_bytes()) if file.stat().st_size <= _MOST_JSON_BYTES else None
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{folder.name}/zarr.json must be JSON; {error}. Copy it again.") from error
    attributes = content.get("attributes") if isinstance(content, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def _our_attributes(folder: Path) -> dict[str, Any]:
    """Return what `_our_words` wrote, or refuse what is no map."""
    if not folder.exists():
        raise MissingFileError(f"There is no {folder}. Pass a folder NAME{MAP_ENDING}.")
    ours = _attributes(folder).get(_OURS)
    if not isinstance(ours, dict) or ours.get("kind") != "map":
        raise FileFormatError(
            f"{folder.name} must be a map that napari-prospector wrote, a folder NAME{MAP_ENDING}; it is another file."
            " Open it with the program that wrote it, or with napari-ome-zarr."
        )
    if ours.get("format") != _FORMAT:
        raise FileFormatError(
            f"{folder.name} is a map of format {ours.get('format')!r}, written by napari-prospector"
            f" {ours.get('version')}; format {_FORMAT} is read here. Update napari-prospector."
        )
    return ours


def _read_scores(folder: Path, ours: dict[str, Any]) -> ScoreMap:
    """Read the scores of a map."""
    values = _read_finest(folder, ours["sha256"]["scores"], "f")
    return ScoreMap(values, _read_place(folder), str(ours["map"]), ours["limit"])


def _read_concepts(folder: Path, ours: dict[str, Any]) -> ConceptMap:
    """Read the concepts of a map."""
    labels = _read_finest(folder, ours["sha256"]["concepts"], "u")
    about = _attributes(folder)["ome"]["image-label"]
    expected = list(range(1, len(about["properties"]) + 1))
    for part in ("properties", "colors"):
        if [one["label-value"] for one in about[part]] != expected:
            raise FileFormatError(f"the {part} of its labels must be those of labels 1 to {len(expected)}, in order")
    names = [one["concept"] for one in about["properties"]]
    return ConceptMap(labels, _read_place(folder), names, np.array([one["rgba"] for one in about["colors"]], np.uint8))


def _read_finest(folder: Path, digest: str, kind: str) -> NDArray[Any]:
    """Read the finest level, and check that it is as it was written."""
    array: Any = zarr.open_array(LocalStore(folder / "0", read_only=True), mode="r", zarr_format=3)
    if array.ndim != 2 or array.dtype.kind != kind or array.size > _MOST_CELLS:
        raise FileFormatError(f"its finest level cannot be a map: {array.shape}, {array.dtype}")
    cells = np.asarray(array[:])
    if _digest(cells) != digest:
        raise FileFormatError("its values are not those that were written; a part of it is missing or was changed")
    return cells


def _read_place(folder: Path) -> Place:
    """Read where the finest level of an image lies."""
    multiscale = _attributes(folder)["ome"]["multiscales"][0]
    scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
    units = [axis.get("unit") for axis in multiscale["axes"]]
    return Place(tuple(scale["scale"]), tuple(translation["translation"]), (units[0], units[1]))


def _origin(ours: dict[str, Any]) -> Origin:
    """Return what a map was made from."""
    words = {name: ours.get(name) for name in ("slide", "target", "head", "encoder")}
    geometry = ours.get("geometry")
    return Origin(
        **words,
        fingerprint=ours.get("slide_fingerprint"),
        geometry=None if geometry is None else GridGeometry.from_json(geometry),
        hidden=tuple(ours.get("hidden_concepts") or ()),
    )
