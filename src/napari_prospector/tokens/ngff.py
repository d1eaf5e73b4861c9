"""What the metadata of an OME-Zarr folder says: where its levels lie, how wide a pixel is, whether it is a slide.

Versions 0.4 (zarr format 2) and 0.5 (zarr format 3) of https://ngff.openmicroscopy.org. Only JSON files in the folder
itself are read; an address in them is never followed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from napari_prospector.errors import FileFormatError, StorageError, UnreadFormatError

__all__ = ["Image", "find_image", "is_image", "is_zarr"]

_VERSIONS = ("0.4", "0.5")
_UNITS_UM = {
    **dict.fromkeys(("micrometer", "micrometre", "micron", "um", "µm", "μm"), 1.0),  # two Unicode letters, one look
    **{"angstrom": 1e-4, "picometer": 1e-6, "nanometer": 1e-3, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6},
    **{"nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0},
}
_RED_GREEN_BLUE = ["FF0000", "00FF00", "0000FF"]


@dataclass(frozen=True)
class Image:
    """One multiscale image of an OME-Zarr folder.

    Parameters
    ----------
    folder
        The group that holds the levels.
    version
        "0.4" or "0.5".
    axes
        Names of the axes, in the order of the arrays.
    paths
        Folder of each level, finest first, relative to `folder`.
    scales
        For each level, what its transformations give for each axis in units of the axis; None where they say nothing.
    offsets
        Likewise the translation of its first pixel.
    units_um
        µm of the unit of each axis; None where it has none, or one that is no length.
    """

    folder: Path
    version: str
    axes: tuple[str, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, ...] | None, ...]
    offsets: tuple[tuple[float, ...], ...]
    units_um: tuple[float | None, ...]

    def pixel_um(self, axis: str) -> float | None:
        """Return the extent of a level-0 pixel along an axis in µm, None where it is not stated."""
        place = self.axes.index(axis)
        unit, scale = self.units_um[place], self.scales[0]
        return None if unit is None or scale is None else scale[place] * unit


def is_zarr(folder: Path) -> bool:
    """Tell whether a folder is a zarr group or array of either format."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))


def is_image(folder: Path) -> bool:
    """Tell whether a zarr folder says that it is an OME-Zarr image, sound or not."""
    try:
        attributes = _attributes(folder)
    except (FileFormatError, StorageError):
        return False
    return "multiscales" in attributes or "bioformats2raw.layout" in attributes


def find_image(folder: Path) -> Image:
    """Read the metadata of an OME-Zarr folder, or of the first image of one with the layout of bioformats2raw.

    Raises
    ------
    FileFormatError
        It is no OME-Zarr image, or its metadata is damaged.
    UnreadFormatError
        It is of another version, or no flat RGB or grey picture.
    """
    name = folder.name
    attributes = _attributes(folder)
    if "multiscales" not in attributes and "bioformats2raw.layout" in attributes:
        folder = folder / _first_series(folder)
        attributes = _attributes(folder)
    if "multiscales" not in attributes:
        raise FileFormatError(f"{name} must be an OME-Zarr image; it is {_what_it_is(name, attributes)}.")
    if "image-label" in attributes:
        raise UnreadFormatError(f"{name} must hold a picture; it holds labels. Name the image that they belong to.")
    try:
        return _image(folder, name, attributes)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(
            f"{name} is a damaged OME-Zarr: its multiscales metadata is incomplete ({error!r}). Copy it again."
        ) from error


def _what_it_is(name: str, attributes: Mapping[str, Any]) -> str:
    """Say what a zarr folder without multiscales is, and what to do."""
    if "plate" in attributes or "well" in attributes:
        return "a plate of many images. Name the folder of one image in it, such as A/1/0"
    if name.endswith(".tokens.zarr"):
        return "a token grid, which was made from a slide. Name the slide"
    return "a zarr folder without multiscales. Write it as OME-Zarr 0.4 or 0.5, or name the image in it"


def _first_series(folder: Path) -> str:
    """Return the folder of the first image of a bioformats2raw layout: as OME/ lists it, or "0"."""
    series = _attributes(folder / "OME").get("series") if is_zarr(folder / "OME") else None
    first = series[0] if isinstance(series, list) and series else "0"
    return _inside(str(first), folder.name)


def _attributes(folder: Path) -> dict[str, Any]:
    """Return the OME attributes of a group: those of zarr 3 below "ome", those of zarr 2 as they are."""
    if (folder / "zarr.json").is_file():
        attributes = _json(folder / "zarr.json").get("attributes")
        ome = attributes.get("ome") if isinstance(attributes, dict) else None
        return ome if isinstance(ome, dict) else {}
    return _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}


def _json(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    where = f"{file.parent.name}/{file.name}"
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    except ValueError as error:
        raise FileFormatError(f"{where} must be JSON; {error}. The folder is damaged; copy it again.") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{where} must hold a JSON object. The folder is damaged; copy it again.")
    return content


def _image(folder: Path, name: str, attributes: Mapping[str, Any]) -> Image:
    """Turn the attributes of a group into an image."""
    multiscale = attributes["multiscales"][0]
    is_v3 = (folder / "zarr.json").is_file()
    version = str(attributes.get("version", "0.5") if is_v3 else multiscale.get("version", "0.4"))
    axes = multiscale.get("axes")
    if version not in _VERSIONS or not (axes and all(isinstance(axis, dict) for axis in axes)):
        raise UnreadFormatError(
            f"{name} must be OME-Zarr 0.4 or 0.5; it is of version {version}. Write it anew with bioformats2raw or"
            " ome-zarr-py."
        )
    if not multiscale["datasets"]:
        raise FileFormatError(f"{name} must hold at least one level; its metadata lists none. Copy it again.")
    names = tuple(str(axis["name"]).lower() for axis in axes)
    if len(set(names)) < len(names) or not {"y", "x"} <= set(names) <= set("tczyx"):
        raise UnreadFormatError(f"{name} must have the axes y and x, and of t, c, z any; got {', '.join(names)}.")
    _check_colours(attributes, name)
    common, _ = _transformation(multiscale.get("coordinateTransformations"), len(names))
    levels = [
        _transformation(dataset.get("coordinateTransformations"), len(names)) for dataset in multiscale["datasets"]
    ]
    units = [_UNITS_UM.get(str(axis.get("unit", "")).lower()) for axis in axes]
    return Image(
        folder=folder,
        version=version,
        axes=names,
        paths=tuple(_inside(str(dataset["path"]), name) for dataset in multiscale["datasets"]),
        scales=tuple(_times(scale, common) for scale, _ in levels),
        offsets=tuple(_times(offset, common) or offset for _, offset in levels),
        units_um=tuple(units),
    )


def _check_colours(attributes: Mapping[str, Any], name: str) -> None:
    """Refuse channels that are shown in other colours than red, green and blue: they are stains, not colours."""
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list) or len(channels) != len(_RED_GREEN_BLUE):
        return
    colours = [str(channel.get("color", "")).upper() for channel in channels if isinstance(channel, dict)]
    if len(set(colours)) == len(_RED_GREEN_BLUE) and colours != _RED_GREEN_BLUE:
        raise UnreadFormatError(
            f"{name} must hold red, green and blue; its three channels are shown in the colours {', '.join(colours)},"
            " as fluorescence is. Export it as 8-bit RGB."
        )


def _transformation(
    steps: Sequence[Mapping[str, Any]] | None, n_axes: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...]]:
    """Return scale and translation of a list of transformations; None for a scale that is not stated in numbers."""
    scale: tuple[float, ...] | None = None
    offset = (0.0,) * n_axes
    for step in steps or ():
        numbers = step.get(str(step.get("type")))
        if not isinstance(numbers, list) or len(numbers) != n_axes:
            continue
        values = tuple(float(number) for number in numbers)
        if step["type"] == "scale" and all(math.isfinite(value) and value > 0 for value in values):
            scale = values
        if step["type"] == "translation":
            offset = values
    return scale, offset


def _times(scale: tuple[float, ...] | None, factor: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Multiply what is stated; a factor that is not counts as one."""
    if scale is None or factor is None:
        return scale
    return tuple(one * other for one, other in zip(scale, factor, strict=True))


def _inside(path: str, name: str) -> str:
    """Return a path of the metadata, or refuse one that leads out of the folder."""
    parts = PurePosixPath(path).parts
    if "://" in path or path.startswith("/") or ".." in parts or "\\" in path:
        raise FileFormatError(f"{name} must hold its own pixels; they lie at {path!r}. Copy them into the folder.")
    return path
