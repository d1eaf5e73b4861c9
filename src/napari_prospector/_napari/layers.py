"""What the viewer is given: layers as tuples (array, keyword arguments, type), made without a viewer.

Everything that lies on a slide is placed through the transform of the slide's own layer, so that it lies over
the tissue whatever scale, offset or rotation that layer has, or none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.pyramid import slide_levels
from napari_prospector._napari.repaint import concept_colormap, concept_features
from napari_prospector._napari.request import encoder_of
from napari_prospector._napari.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

    from napari_prospector._napari.job import ProspectResult
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.tokens.geometry import GridGeometry
    from napari_prospector.tokens.slides import Slide
    from napari_prospector.tokens.store import TokenGrid
    from napari_prospector.tokens.tissue import TissueMask

__all__ = [
    "GRID_ENDING",
    "METADATA_KEY",
    "MICROMETRE",
    "LayerTuple",
    "Placement",
    "concept_layer",
    "grid_layers",
    "map_colormap",
    "map_colors",
    "map_layer",
    "map_look",
    "provenance",
    "result_layers",
    "slide_layer",
]

LayerTuple = tuple[Any, dict[str, Any], str]

MICROMETRE = "µm"
# the one key of `layer.metadata` that is ours
METADATA_KEY = "napari_prospector"

# a layer of this name shows a token grid
GRID_ENDING = " · tokens"

STATE_NAMES = ("background", "waiting", "embedded", "failed")
# clear; then Okabe and Ito's sky blue, bluish green and vermilion, told apart with any colour vision
STATE_COLORS = np.array([(0, 0, 0, 0), (0.34, 0.71, 0.91, 1), (0, 0.62, 0.45, 1), (0.84, 0.37, 0, 1)])


class TransformedLayer(Protocol):
    """What is asked of a slide's layer."""

    scale: Any
    translate: Any
    rotate: Any
    shear: Any
    affine: Any
    units: Any


@dataclass(frozen=True)
class Placement:
    """Where the level-0 pixels of a slide lie in the viewer's world.

    Attributes
    ----------
    scale, translate
        Per axis (row, col), in `units`.
    units
        Unit of either axis.
    rotate, shear, affine
        As napari has them; None where there is nothing to do.
    """

    scale: tuple[float, float]
    translate: tuple[float, float] = (0.0, 0.0)
    units: tuple[Any, Any] = (MICROMETRE, MICROMETRE)
    rotate: NDArray[np.float64] | None = None
    shear: NDArray[np.float64] | None = None
    affine: NDArray[np.float64] | None = None

    @classmethod
    def of_mpp(cls, mpp: float | None) -> Placement:
        """Return the placement of a slide whose pixels are `mpp` µm wide; in pixels where that is unknown."""
        if mpp is None:
            return cls((1.0, 1.0), units=("pixel", "pixel"))
        return cls((mpp, mpp))

    @classmethod
    def of_layer(cls, layer: TransformedLayer) -> Placement:
        """Return the placement of a slide as its layer is now."""
        return cls(
            scale=(float(layer.scale[0]), float(layer.scale[1])),
            translate=(float(layer.translate[0]), float(layer.translate[1])),
            units=(layer.units[0], layer.units[1]),
            rotate=np.array(layer.rotate, dtype=np.float64),
            shear=np.array(layer.shear, dtype=np.float64),
            affine=np.array(layer.affine.affine_matrix, dtype=np.float64),
        )

    @classmethod
    def of_grid_layer(cls, layer: TransformedLayer, geometry: GridGeometry) -> Placement:
        """Return the placement of a slide on which a layer with one cell per token lies."""
        grid = cls.of_layer(layer)
        slide = replace(grid, scale=(grid.scale[0] / geometry.stride, grid.scale[1] / geometry.stride))
        row, col = np.array(grid.translate) - slide._linear() @ geometry.centre_px(0, 0)
        return replace(slide, translate=(float(row), float(col)))

    def of_slide(self) -> dict[str, Any]:
        """Return the keyword arguments of a layer with one cell per level-0 pixel."""
        return self._arguments((1.0, 1.0), (0.0, 0.0))

    def of_grid(self, geometry: GridGeometry, factor: int = 1) -> dict[str, Any]:
        """Return the keyword arguments of a layer with `factor` x `factor` cells per token of a grid on the slide."""
        step = geometry.stride / factor
        # the first of the cells that a token's cell is cut into lies up and left of its centre
        row, col = (float(place) - (geometry.stride - step) / 2 for place in geometry.centre_px(0, 0))
        return self._arguments((step, step), (row, col))

    def of_cells(self, cell_px: tuple[float, float]) -> dict[str, Any]:
        """Return the keyword arguments of a layer whose cells are `cell_px` level-0 pixels high and wide."""
        return self._arguments(cell_px, ((cell_px[0] - 1) / 2, (cell_px[1] - 1) / 2))

    def _arguments(self, stride: tuple[float, float], first_px: tuple[float, float]) -> dict[str, Any]:
        """Return scale, translate and the rest, for cells `stride` pixels apart, the first centred on `first_px`."""
        moved = self._linear() @ np.array(first_px)
        arguments: dict[str, Any] = {
            "scale": tuple(step * scale for step, scale in zip(stride, self.scale, strict=True)),
            "translate": tuple(float(start + by) for start, by in zip(self.translate, moved, strict=True)),
            "units": self.units,
        }
        rest = {"rotate": self.rotate, "shear": self.shear, "affine": self.affine}
        return arguments | {name: value for name, value in rest.items() if value is not None}

    def _linear(self) -> NDArray[np.float64]:
        """Return the 2 x 2 matrix from level-0 pixels to the world before `affine`."""
        if self.rotate is None and self.shear is None:
            return np.diag(self.scale)
        from napari.utils.transforms import Affine

        transform = Affine(scale=self.scale, rotate=self.rotate, shear=self.shear, ndim=2)
        return np.asarray(transform.linear_matrix, dtype=np.float64)


def provenance(layer: Any) -> dict[str, Any]:
    """Return what we noted about a layer; empty for layers that are not ours."""
    noted = layer.metadata.get(METADATA_KEY, {})
    return noted if isinstance(noted, dict) else {}


def slide_layer(slide: Slide) -> LayerTuple:
    """Return a slide as a lazy multiscale RGB image in µm, or in pixels where it states no pixel size.

    Parameters
    ----------
    slide
        An open slide; it belongs to the layer from now on and is closed with it.

    Returns
    -------
    tuple
        Array, keyword arguments, type.
    """
    noted = {
        "kind": "slide",
        "slide": slide.name,
        "format": slide.format,
        "mpp": slide.mpp,
        "shape": tuple(slide.shape),
        "path": slide.path,
    }
    arguments = {
        "name": layer_name(slide.name),
        "rgb": True,
        "interpolation2d": "linear",
        "multiscale": True,
        "metadata": {METADATA_KEY: noted},
        **Placement.of_mpp(slide.mpp).of_slide(),
    }
    return slide_levels(slide), arguments, "image"


def layer_name(file_name: str) -> str:
    """Return the name of a file's layer: the file name without its last suffix."""
    stem, dot, _ = file_name.rpartition(".")
    return stem if dot and stem else file_name


def map_layer(
    scores: NDArray[np.floating[Any]],
    geometry: GridGeometry,
    placement: Placement,
    *,
    slide: str,
    map: str,
    limit: float,
    noted: dict[str, Any] | None = None,
    visible: bool = True,
) -> LayerTuple:
    """Return a prospect map as an image with symmetric colours, one cell per token.

    Parameters
    ----------
    scores
        Shape (rows, cols); NaN where there is no tissue.
    geometry, placement
        Of the tokens on the slide, and of the slide in the viewer.
    slide
        Name of the slide's layer.
    map
        ``"evidence"``, ``"decision"`` or ``"refined"``: the layer is named after it.
    limit
        The score at the end of the colours, the same on every slide of the head.
    noted
        More for the layer's metadata.
    visible
        Whether the layer is shown at once.

    Returns
    -------
    tuple
        Array, keyword arguments, type.
    """
    geometry.check_shape("scores", scores.shape)
    about = {"kind": "map", "map": map, "limit": float(limit), "geometry": geometry, **(noted or {})}
    arguments = {
        "name": f"{slide} · {map}",
        "metadata": {METADATA_KEY: about},
        **map_look(limit),
        "visible": visible,
        **placement.of_grid(geometry),
    }
    return np.asarray(scores, dtype=np.float32), arguments, "image"


def map_look(limit: float) -> dict[str, Any]:
    """Return how a map is drawn; `limit` is the score at the end of its colours."""
    # a head without any signal has limit 0, and colours need a width
    end = float(limit) if limit > 0 else 1.0
    return {
        "colormap": map_colormap(),
        "contrast_limits": (-end, end),
        "blending": "translucent",
        "opacity": settings().opacity / 100,
        "interpolation2d": "nearest",
    }


def concept_layer(
    concepts: NDArray[np.integer[Any]],
    names: list[str],
    geometry: GridGeometry,
    placement: Placement,
    *,
    slide: str,
    noted: dict[str, Any] | None = None,
    visible: bool = True,
    edits: ConceptEdits | None = None,
) -> LayerTuple:
    """Return concepts as labels, one cell per token: label 0 is no tissue, label c + 1 is concept c.

    Parameters
    ----------
    concepts
        Shape (rows, cols); negative where there is no tissue.
    names
        Name of each concept, where there are no edits.
    geometry, placement, slide, noted
        As in `map_layer`.
    visible
        Whether the layer is shown at once.
    edits
        Names, colours and what is hidden or highlighted; `recolor_concepts` shows others later.

    Returns
    -------
    tuple
        Array, keyword arguments, type.
    """
    from napari_prospector.core.concept_edits import ConceptEdits

    geometry.check_shape("concepts", concepts.shape)
    shown = ConceptEdits.of_names(names) if edits is None else edits
    arguments = {
        "name": f"{slide} · concepts",
        "colormap": concept_colormap(shown),
        "opacity": 0.6,
        "visible": visible,
        "blending": "translucent",
        "features": concept_features(shown),
        "metadata": {METADATA_KEY: {"kind": "concepts", "geometry": geometry, **(noted or {})}},
        **placement.of_grid(geometry),
    }
    labels = np.where(concepts < 0, 0, concepts + 1).astype(_label_type(shown.n_concepts))
    return labels, arguments, "labels"


def grid_layers(grid: TokenGrid, path: Path, placement: Placement | None = None) -> list[LayerTuple]:
    """Return a token grid as layers, all hidden but the last: tissue mask and share, quality flags, what is embedded.

    Parameters
    ----------
    grid
        An open token grid.
    path
        Its folder.
    placement
        Of its slide in the viewer; by default where a slide of the grid's pixel size lies.

    Returns
    -------
    list of tuple
        Array, keyword arguments, type.
    """
    placement = placement or Placement.of_mpp(grid.geometry.slide_mpp)
    name = path.name.removesuffix(".zarr").removesuffix(".tokens")
    noted = {"kind": "tokens", "slide": name, "encoder": grid.card.get("name"), "path": path}
    placed = placement.of_grid(grid.geometry)
    coverage = {
        "name": f"{name} · tissue share",
        "colormap": "gray",
        "contrast_limits": (0.0, 1.0),
        "opacity": 0.5,
        "visible": False,
        "metadata": {METADATA_KEY: {**noted, "kind": "coverage"}},
        **placed,
    }
    state = {
        "name": f"{name}{GRID_ENDING}",
        "colormap": _label_colors(STATE_COLORS),
        "opacity": 0.45,
        "features": {"index": list(range(len(STATE_NAMES))), "state": list(STATE_NAMES)},
        "metadata": {METADATA_KEY: noted},
        **placed,
    }
    hidden: list[LayerTuple] = [(np.asarray(grid.coverage, dtype=np.float32), coverage, "image")]
    if (tissue := grid.tissue_mask()) is not None:
        hidden.insert(0, _tissue_layer(tissue, name, noted, placement))
    if grid.quality.measures:
        hidden.append(_quality_layer(grid, name, noted, placed))
    return [*hidden, (np.asarray(grid.state, dtype=np.uint8), state, "labels")]


def _tissue_layer(tissue: TissueMask, name: str, noted: dict[str, Any], placement: Placement) -> LayerTuple:
    """Return the tissue mask as labels at its own resolution, hidden."""
    arguments = {
        "name": f"{name} · tissue",
        "colormap": _label_colors(np.array([(0, 0, 0, 0), (0, 0.62, 0.45, 1)])),
        "opacity": 0.35,
        "visible": False,
        "features": {"index": [0, 1], "tissue": ["glass", "tissue"]},
        "metadata": {METADATA_KEY: {**noted, "kind": "tissue"}},
        **placement.of_cells(tissue.scale),
    }
    return tissue.mask.astype(np.uint8), arguments, "labels"


def _quality_layer(grid: TokenGrid, name: str, noted: dict[str, Any], placed: dict[str, Any]) -> LayerTuple:
    """Return the quality flags as labels, hidden; a label is the sum of the bits of its flags."""
    from napari_prospector.tokens.quality import COLOURS

    measures = grid.quality.measures
    bits = np.arange(1 << len(measures))
    names = ["none", *(" + ".join(m for i, m in enumerate(measures) if bit >> i & 1) for bit in bits[1:].tolist())]
    colors = np.zeros((len(bits), 4))
    for i in reversed(range(len(measures))):  # where a tile has several flags, the first gives the colour
        colors[bits >> i & 1 == 1] = (*COLOURS[i], 1)
    arguments = {
        "name": f"{name} · quality",
        "colormap": _label_colors(colors),
        "opacity": 0.6,
        "visible": False,
        "features": {"index": bits.tolist(), "quality": names},
        "metadata": {METADATA_KEY: {**noted, "kind": "quality", "thresholds": grid.quality.thresholds}},
        **placed,
    }
    return grid.flags(), arguments, "labels"


def map_colors(n_colors: int = 257) -> NDArray[np.float64]:
    """Return the colours of signed maps, those of figures and reports, but clear at zero: the tissue shows there.

    Parameters
    ----------
    n_colors
        Number of steps.

    Returns
    -------
    NDArray[np.float64]
        Shape (n_colors, 4): red, green, blue, opacity from 0 to 1.
    """
    from napari_prospector.core.colors import diverging_colors

    # no further gain from two thirds on: what is strong differs by colour, and the tissue stays to be seen
    opacity = np.minimum(1, 1.5 * np.abs(np.linspace(-1, 1, n_colors)))
    return np.column_stack((diverging_colors(n_colors), opacity))


def map_colormap() -> Any:
    """Return `map_colors` as napari has colours; NaN is clear."""
    from napari.utils.colormaps import Colormap

    return Colormap(map_colors(), name="prospect")


def result_layers(
    result: ProspectResult, placement: Placement, slide: str, slide_id: object = None
) -> list[LayerTuple]:
    """Return the concepts and all maps of a finished job, in the order in which they are added; the last is shown.

    Parameters
    ----------
    result
        What the job found.
    placement, slide
        Of the slide's layer as it is now: where it lies, and its name.
    slide_id
        Its `unique_id`: selecting a map takes its slide in hand.

    Returns
    -------
    list of tuple
        Array, keyword arguments, type.
    """
    job, geometry = result.job, result.geometry
    noted = {
        "slide": slide,
        "slide_id": slide_id,
        "fingerprint": result.fingerprint,
        "head": job.head_name,
        "target": result.target,
        "encoder": encoder_of(job.head).get("name"),
    }
    edits = job.head.concept_edits_
    names = list(edits.shown_names)
    layers = [
        concept_layer(result.concepts, names, geometry, placement, slide=slide, noted=noted, visible=False, edits=edits)
    ]
    # the one that is shown lies above the others
    for name in sorted(result.maps, key=lambda name: name == job.map):
        limit, is_shown = float(job.head.color_limits_[name]), name == job.map
        layers.append(
            map_layer(
                result.maps[name],
                geometry,
                placement,
                slide=slide,
                map=name,
                limit=limit,
                noted=noted,
                visible=is_shown,
            )
        )
    return layers


def _label_type(n_concepts: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type that holds every label."""
    return np.uint8 if n_concepts < 255 else np.uint16


def _label_colors(colors: NDArray[np.float64]) -> Any:
    """Return a label colormap from the colours (n, 4) of labels 0 (no label) to n - 1.

    Cyclic, because a direct one makes napari compile for seconds, in the GUI thread, when it is first shown.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    return CyclicLabelColormap(colors=colors, background_value=0)
