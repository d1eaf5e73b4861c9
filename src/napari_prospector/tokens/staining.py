"""How a slide is stained, estimated from a sample of its tissue; and tiles brought to one reference staining.

The method is that of Macenko et al., ISBI 2009: tissue of two stains lies, as optical density, in a plane; its two
extreme directions are the stains. Three things differ from the code that is widely in use (`normalizeStaining.m` by
Veta): the colour of empty light is the slide's own, not 240; a pixel counts as glass by its mean density, not by its
least, or pale eosin would count as glass; and the plane is that of the paper, through the origin, not the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numba
import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError, UnknownNameError
from napari_prospector.tokens.slides import WHITE
from napari_prospector.tokens.stopping import check_stop
from napari_prospector.tokens.tilereader import TileReader, Tiles
from napari_prospector.tokens.tissue import glass_colour

__all__ = [
    "NORMALIZATIONS",
    "REFERENCE",
    "StainEstimate",
    "check_normalization",
    "estimate_stain",
    "remix",
    "remixed",
    "stain_record",
]

NORMALIZATIONS = ("macenko",)
"""What `stain_normalize` may be."""

# Of the paper: a density below counts as glass; percent of directions at either end that count as noise.
_LEAST_DENSITY, _TAIL_PERCENT = 0.15, 1.0
_STRONGEST_PERCENT = 99.0
# Where there is too little glass to know it by its colour, so many pixels are no brighter than empty light.
_LIGHT_PERCENT = 99.0
_LEAST_PIXELS = 500
# Nearer stains cannot be told apart: dividing by their difference would make noise of the picture.
_LEAST_ANGLE_DEGREES = 5.0
# The sample: about 130,000 pixels, 64 reads.
_MOST_TILES, _MOST_TILE_PIXELS = 64, 2048
_DECIMALS = 6


@dataclass(frozen=True)
class StainEstimate:
    """The two stains of a slide.

    Attributes
    ----------
    vectors
        Optical density (natural logarithm) of hematoxylin and of eosin in red, green and blue, each of length 1.
        Hematoxylin is the one that takes more red.
    strengths
        99th percentile of the amount of each, in units of its vector.
    light
        Red, green and blue of empty light, 0 to 255.
    """

    vectors: tuple[tuple[float, float, float], tuple[float, float, float]]
    strengths: tuple[float, float]
    light: tuple[float, float, float]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return the estimate of a record of `stain_record`; KeyError or TypeError where it holds none."""
        hematoxylin, eosin = (_three(vector) for vector in record["vectors"])
        strong, weak = (float(strength) for strength in record["strengths"])
        return cls((hematoxylin, eosin), (strong, weak), _three(record["light"]))


REFERENCE = StainEstimate(
    vectors=((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)),
    strengths=(1.9705, 1.0308),
    light=(255.0, 255.0, 255.0),
)
"""What every slide is brought to, on white: HERef and maxCRef of `normalizeStaining.m`
(github.com/mitkovetta/staining-normalization, 2013)."""


def check_normalization(name: str | None) -> None:
    """Raise `UnknownNameError` for what is neither None nor one of `NORMALIZATIONS`."""
    if name is not None and name not in NORMALIZATIONS:
        raise UnknownNameError(
            f"stain_normalize must be {' or '.join(map(repr, NORMALIZATIONS))}, or None; got {name!r}."
        )


def estimate_stain(pixels: NDArray[np.uint8]) -> StainEstimate:
    """Estimate the two stains of a sample of pixels.

    Parameters
    ----------
    pixels
        Shape (n_pixels, 3), red green blue, of tissue and of some glass between it.

    Returns
    -------
    StainEstimate
        Rounded to six decimals, so that it is the same after writing and reading.

    Raises
    ------
    InvalidInputError
        Too few pixels are denser than glass, or one stain alone is there.

    Notes
    -----
    Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009, section 2; the
    differences are told at the top of this file.

    Examples
    --------
    >>> amounts = np.random.default_rng(0).uniform(0, 2, (5000, 2))
    >>> amounts[::10] = 0
    >>> pixels = np.rint(256 * np.exp(-amounts @ np.array(REFERENCE.vectors)) - 1).astype(np.uint8)
    >>> np.round(estimate_stain(pixels).vectors[0], 2).tolist()
    [0.56, 0.72, 0.41]
    """
    light = glass_colour(pixels, pixels.min(axis=1), pixels.max(axis=1))
    if light.min() == WHITE:  # little glass, or white glass
        light = np.percentile(pixels, _LIGHT_PERCENT, axis=0)
    density = -np.log((pixels + 1.0) / (light + 1.0))
    density = density[density.mean(axis=1) >= _LEAST_DENSITY]
    if len(density) < _LEAST_PIXELS:
        raise InvalidInputError(f"{len(density)} of {len(pixels)} sampled pixels are denser than glass; 500 must be.")
    _, _, axes = np.linalg.svd(density.T @ density)
    plane = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1, 1)
    across, along = (density @ plane[::-1].T).T
    ends = np.percentile(np.arctan2(across, along), [_TAIL_PERCENT, 100 - _TAIL_PERCENT])
    if np.degrees(ends[1] - ends[0]) < _LEAST_ANGLE_DEGREES:
        raise InvalidInputError("all tissue has one colour, so that two stains cannot be told apart.")
    vectors = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane
    vectors = vectors[np.argsort(-vectors[:, 0])]
    # above zero: a hundredth of the pixels lies at or beyond either end
    strengths = np.percentile(density @ np.linalg.pinv(vectors), _STRONGEST_PERCENT, axis=0)
    rounded = (np.round(array, _DECIMALS).tolist() for array in (vectors, strengths, light))
    return StainEstimate.from_json(dict(zip(("vectors", "strengths", "light"), rounded, strict=True)))


def stain_record(reader: TileReader, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Estimate how a slide is stained, for the store that its tokens go to.

    Parameters
    ----------
    reader
        Of the slide's tiles.
    mask
        (rows, cols): which tiles hold tissue. At most 64 of them are read, evenly spread.

    Returns
    -------
    dict
        JSON types: `method`, the fields of `StainEstimate`, and `problem`, a sentence where these are None. The same
        for the same slide and mask.
    """
    record: dict[str, Any] = {"method": "macenko", "vectors": None, "strengths": None, "light": None}
    try:
        return record | asdict(estimate_stain(_sample(reader, np.argwhere(mask)))) | {"problem": None}
    except InvalidInputError as error:
        return record | {"problem": str(error)}


def remix(tiles: NDArray[np.uint8], source: StainEstimate, target: StainEstimate = REFERENCE) -> NDArray[np.uint8]:
    """Unmix the two stains of pixels and mix them anew, as if stained and scanned like the target.

    What is neither stain is lost, as in the paper. Empty light becomes the target's.

    Parameters
    ----------
    tiles
        Shape (..., 3), red green blue.
    source
        The stains of their slide.
    target
        The stains to bring them to.

    Returns
    -------
    ndarray
        uint8, of the same shape.
    """
    gains = np.array(target.strengths) / np.array(source.strengths)
    matrix = (np.linalg.pinv(np.array(source.vectors)) * gains @ np.array(target.vectors)).astype(np.float32)
    densities = -np.log((np.arange(256)[:, None] + 1) / (np.array(source.light) + 1)).astype(np.float32)
    whites = (np.array(target.light) + 1).astype(np.float32)
    flat = np.ascontiguousarray(tiles).reshape(-1, 3)
    mixed = np.empty_like(flat)
    _remix(flat, densities, matrix, whites, mixed)
    return mixed.reshape(tiles.shape)


def remixed(tiles: Tiles, source: StainEstimate) -> Tiles:
    """Bring tiles that were read to the reference."""
    return replace(tiles, pixels=remix(tiles.pixels, source))


@numba.njit(nogil=True, cache=True)
def _remix(
    pixels: NDArray[np.uint8],
    densities: NDArray[np.float32],
    matrix: NDArray[np.float32],
    whites: NDArray[np.float32],
    mixed: NDArray[np.uint8],
) -> None:
    """Fill mixed (n, 3) from pixels (n, 3), given densities (256, 3), their matrix (3, 3) and whites (3,)."""
    for i in range(pixels.shape[0]):
        red, green, blue = densities[pixels[i, 0], 0], densities[pixels[i, 1], 1], densities[pixels[i, 2], 2]
        for channel in range(3):
            density = red * matrix[0, channel] + green * matrix[1, channel] + blue * matrix[2, channel]
            value = whites[channel] * np.exp(-density) - np.float32(0.5)  # less 1 by the law, plus a half to round
            mixed[i, channel] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))


def _sample(reader: TileReader, tokens: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read pixels (n, 3) from tiles spread evenly over tokens (n_tokens, 2); those that cannot be read are left out."""
    chosen = np.unique(np.linspace(0, len(tokens) - 1, min(len(tokens), _MOST_TILES)).round().astype(np.int64))
    step = max(1, int(np.ceil(np.sqrt(reader.geometry.tile_px**2 / _MOST_TILE_PIXELS))))
    samples = [np.empty((0, 3), np.uint8)]
    for index in chosen:
        check_stop()
        tiles = reader.read(tokens[index : index + 1])
        if not tiles.reasons:
            samples.append(tiles.pixels[0, ::step, ::step].reshape(-1, 3))
    sample = np.concatenate(samples)
    if not len(sample):
        raise InvalidInputError("none of its tiles could be read.")
    return sample


def _three(values: Any) -> tuple[float, float, float]:
    """Return three numbers as such."""
    first, second, third = (float(value) for value in values)
    return first, second, third
