"""What a file with a map holds: scores, concepts, where they lie, and from what they were made."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.colors import concept_colors
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["MICROMETER", "ConceptMap", "MapFile", "Origin", "Place", "ScoreMap"]

# as NGFF and UDUNITS spell it
MICROMETER = "micrometer"


@dataclass(frozen=True)
class Place:
    """Where the cells of an array (rows, cols) lie.

    Attributes
    ----------
    scale
        Distance between the centres of neighbouring cells, (row, col), in `units`.
    translate
        Centre of cell (0, 0).
    units
        Of either axis, as NGFF spells them; None for pixels.

    Raises
    ------
    InvalidInputError
        A distance is not positive, or a number not finite.
    """

    scale: tuple[float, float]
    translate: tuple[float, float]
    units: tuple[str | None, str | None] = (MICROMETER, MICROMETER)

    def __post_init__(self) -> None:
        """Turn numpy scalars into Python numbers, so that equality and JSON are exact."""
        for name in ("scale", "translate"):
            pair = tuple(float(number) for number in getattr(self, name))
            if len(pair) != 2 or not all(map(math.isfinite, pair)) or (name == "scale" and min(pair) <= 0):
                kind = "positive and finite" if name == "scale" else "finite"
                raise InvalidInputError(f"{name} must be two numbers (row, col), {kind}; got {getattr(self, name)}.")
            object.__setattr__(self, name, pair)

    @classmethod
    def of_grid(cls, geometry: GridGeometry) -> Self:
        """Return where the tokens of a grid lie in µm."""
        return cls(geometry.scale_um, geometry.translate_um)

    def coarser(self, level: int) -> Place:
        """Return the place of the level whose cells cover 2 ** `level` cells a side, beginning with cell (0, 0)."""
        factor = 2**level
        # the centre of `factor` cells is (factor - 1) / 2 cells after that of the first
        translate = [start + (factor - 1) / 2 * step for start, step in zip(self.translate, self.scale, strict=True)]
        scale = [step * factor for step in self.scale]
        return Place((scale[0], scale[1]), (translate[0], translate[1]), self.units)


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """A prospect map.

    Attributes
    ----------
    values
        Shape (rows, cols), float32; NaN where there is no token.
    place
        Of its cells.
    map
        ``"evidence"``, ``"decision"`` or ``"refined"``.
    limit
        The score at the end of the colours, the same on every slide of the head; at least 0.

    Raises
    ------
    InvalidInputError
        Scores of another shape, infinite, or a limit that is none.
    """

    values: NDArray[np.float32]
    place: Place
    map: str
    limit: float

    def __post_init__(self) -> None:
        """Check the scores."""
        values = _plane("scores", self.values)
        if values.dtype.kind != "f" or np.isinf(values).any():
            raise InvalidInputError(f"scores must be numbers, or NaN outside the tissue; got {values.dtype}, infinite.")
        if not 0 <= float(self.limit) < math.inf:
            raise InvalidInputError(f"limit must be a score of at least 0; got {self.limit!r}.")
        object.__setattr__(self, "values", values.astype(np.float32, copy=False))
        object.__setattr__(self, "limit", float(self.limit))


@dataclass(frozen=True, eq=False)
class ConceptMap:
    """The concepts of the tokens as labels.

    Attributes
    ----------
    labels
        Shape (rows, cols), unsigned: 0 where there is no token, c + 1 for concept c.
    place
        Of its cells.
    names
        Of each concept.
    colors
        Shape (n_concepts, 4), uint8: red, green, blue, opacity. By default those of `concept_colors`.

    Raises
    ------
    InvalidInputError
        Labels of another shape or type.
    MismatchError
        A label has no name, or a name no colour.
    """

    labels: NDArray[np.unsignedinteger[Any]]
    place: Place
    names: Sequence[str]
    colors: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        """Check the labels, and fill the colours in."""
        labels, names = _plane("labels", self.labels), tuple(map(str, self.names))
        if labels.dtype.kind not in "ui" or labels.min() < 0:
            raise InvalidInputError(f"labels must be whole numbers of at least 0; got {labels.dtype}.")
        if not names or labels.max() > len(names):
            raise MismatchError(f"Every label needs a name; got labels up to {labels.max()} and {len(names)} names.")
        if labels.dtype.kind == "i":
            labels = labels.astype(np.min_scalar_type(len(names)))
        opaque = np.full((len(names), 1), 1.0)
        colors = np.hstack((concept_colors(len(names)), opaque)) * 255 if self.colors is None else self.colors
        rounded = np.rint(colors).astype(np.uint8)
        if rounded.shape != (len(names), 4):
            raise MismatchError(f"colors must have shape ({len(names)}, 4), one per name; got {rounded.shape}.")
        for name, value in (("labels", labels), ("names", names), ("colors", rounded)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Origin:
    """From what a map was made; names only, None where it is not known.

    Attributes
    ----------
    slide
        Name of the slide; of a path only the last part is kept.
    target
        The class that the map looks for.
    head, encoder
        Names of the head (of a path only the last part is kept) and of its encoder.
    fingerprint
        Of the slide's content, to tell slides of one name apart.
    geometry
        Of the tokens on the slide.
    hidden
        Numbers of the concepts that count 0 in the map; of a refined map their tokens are 0.
    """

    slide: str | None = None
    target: str | None = None
    head: str | None = None
    encoder: str | None = None
    fingerprint: str | None = None
    geometry: GridGeometry | None = None
    hidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Drop folders: they are nobody's business but this machine's."""
        for name in ("slide", "head"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else re.split(r"[/\\]", str(given))[-1])


@dataclass(frozen=True, eq=False)
class MapFile:
    """What one file holds; scores, concepts, or both.

    Raises
    ------
    InvalidInputError
        Neither is given.
    """

    scores: ScoreMap | None = None
    concepts: ConceptMap | None = None
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        """Refuse a file without content."""
        if self.scores is None and self.concepts is None:
            raise InvalidInputError("A map's file must hold scores or concepts; got neither. Pass one.")

    @property
    def grid(self) -> tuple[tuple[int, ...], Place]:
        """Shape and place of the scores; of the concepts where there are no scores."""
        if self.scores is not None:
            return self.scores.values.shape, self.scores.place
        assert self.concepts is not None
        return self.concepts.labels.shape, self.concepts.place


def _plane(name: str, cells: ArrayLike) -> NDArray[Any]:
    """Return cells as an array (rows, cols), or refuse another shape."""
    array = np.asarray(cells)
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidInputError(f"{name} must have shape (rows, cols); got {array.shape}.")
    return array
