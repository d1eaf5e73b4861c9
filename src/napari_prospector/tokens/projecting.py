"""Fitting a projection on the slides of a cohort, and finding it again beside their token grids."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.tokens.encoders.encodercard import Encoder, PatchEncoder
from napari_prospector.tokens.encoders.projection import PcaSample, Projection
from napari_prospector.tokens.patches import TokenLayout
from napari_prospector.tokens.slides import Slide
from napari_prospector.tokens.staining import StainEstimate, remixed, stain_record
from napari_prospector.tokens.store import Block
from napari_prospector.tokens.tilereader import TileReader
from napari_prospector.tokens.tissue import TissueMask, tissue_mask

__all__ = ["PROJECTION_FILE", "add_tokens", "projection_beside"]

PROJECTION_FILE = "projection.safetensors"
"""Name of the file that holds a fitted projection, in the folder of the token grids."""


def add_tokens(
    sample: PcaSample,
    slide: Slide,
    encoder: Encoder,
    n_tiles: int = 16,
    *,
    tissue: TissueMask | None = None,
    min_coverage: float = 0.25,
    stain_normalize: str | None = None,
) -> int:
    """Embed some tiles of a slide and add their tokens to a sample, for `PcaSample.projection`.

    Parameters
    ----------
    sample
        What the tokens are added to.
    slide
        A training slide, with a pixel size.
    encoder
        From `load_encoder`, with the tokens that the grids will hold but without a projection.
    n_tiles
        At most so many tiles, drawn from those with tissue; the same ones each time.
    tissue, min_coverage, stain_normalize
        As for `embed_slide`.

    Returns
    -------
    int
        How many tokens were added.

    Raises
    ------
    InvalidInputError
        There is no tissue, or too little to normalize its stain.
    FileFormatError
        A tile is damaged.
    PixelSizeError
        As `embed_slide` does.

    Examples
    --------
    >>> sample = PcaSample()
    >>> for slide in slides:  # doctest: +SKIP
    ...     add_tokens(sample, slide, encoder)
    >>> sample.projection(64, encoder.card).save("tokens/projection.safetensors")  # doctest: +SKIP
    """
    layout = TokenLayout.of_card(slide.shape, slide.require_mpp(), encoder.card)
    reader = TileReader(slide, layout.tiles)
    wanted = layout.coverage(tissue_mask(slide) if tissue is None else tissue) >= min_coverage
    with_tissue = layout.tiles_with(wanted)
    places = np.argwhere(with_tissue)
    if not len(places):
        raise InvalidInputError(f"{slide.name} must show tissue; no token has a share of {min_coverage:g}.")
    rng = np.random.default_rng(zlib.crc32(slide.fingerprint().encode()))
    places = places[np.sort(rng.permutation(len(places))[:n_tiles])]
    source = None
    if stain_normalize is not None:
        stain = stain_record(reader, with_tissue)
        if stain["problem"]:
            raise InvalidInputError(f"The stain of {slide.name} cannot be normalized: {stain['problem']}")
        source = StainEstimate.from_json(stain)
    whole = Block((0, 0), slice(0, layout.tokens.rows), slice(0, layout.tokens.cols))
    before = sample.n_tokens
    for place in places:
        tiles = reader.read(place[None])
        pixels = (tiles if source is None else remixed(tiles, source)).pixels
        if isinstance(encoder, PatchEncoder) and encoder.card.tokens == "patch":
            sample.add(encoder.encode_patches(pixels)[layout.cells(whole, place[None], wanted).chosen])
        else:
            sample.add(encoder.encode(pixels))
    return sample.n_tokens - before


def projection_beside(store: Path, record: Mapping[str, Any]) -> Projection:
    """Return the projection that the tokens of a store went through; a fitted one lies beside it.

    Parameters
    ----------
    store
        Path of the token grid.
    record
        Entry "projection" of its encoder's card.

    Raises
    ------
    MissingFileError
        The file is not there.
    FileFormatError
        It is damaged.
    MismatchError
        It is another projection.
    """
    if record["kind"] == "random":
        return Projection.of_record(record, {})
    found = Projection.load(store.parent / PROJECTION_FILE)
    if found.sha256 != record["sha256"]:
        raise MismatchError(
            f"{PROJECTION_FILE} beside {store.name} must be the projection {str(record['sha256'])[:8]} that its tokens"
            f" went through; it is {found.sha256[:8]}. Put the right one there."
        )
    return found
