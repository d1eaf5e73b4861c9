"""Whether a token grid is sound: every chunk read, states held against embeddings, the whole against the slide.

zstd's checksum stands in every chunk, so that reading it finds a flipped bit; what is written twice (shape,
fingerprint, number of dims) must agree.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prospector.core.headfile import kind_of_tokens
from napari_prospector.errors import ProspectorError
from napari_prospector.tokens.durable import PARTIAL
from napari_prospector.tokens.encoders.encodercard import PatchEncoder
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.gridblocks import Block
from napari_prospector.tokens.gridfile import BACKGROUND, DONE, damage
from napari_prospector.tokens.store import TokenGrid

if TYPE_CHECKING:
    from napari_prospector.tokens.encoders.cards import Encoder
    from napari_prospector.tokens.slides import Slide

__all__ = ["Verdict", "verify_grid"]

_MOST_NAMED = 5
# Embeddings of another batch, thread count or processor differ in the last digits of float16, not by more.
_REEMBED_TOLERANCE = 0.02


@dataclass(frozen=True)
class Verdict:
    """What was found about one token grid.

    Attributes
    ----------
    path
        The store.
    problems
        Sentences that say what is wrong and what to do; none: it is sound.
    checked
        What was looked at.
    counts
        Tokens that are background, pending, done and failed; empty where states cannot be read.
    """

    path: Path
    problems: tuple[str, ...]
    checked: tuple[str, ...]
    counts: dict[str, int]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong; tokens may still be pending."""
        return not self.problems


def verify_grid(
    path: str | os.PathLike[str],
    slide: Slide | None = None,
    weights: str | os.PathLike[str] | None = None,
    encoder: Encoder | None = None,
    n_reembed: int = 0,
) -> Verdict:
    """Check a token grid, and hold it against its slide, weight file and encoder where these are given.

    Parameters
    ----------
    path
        The store. It is only read, one block at a time.
    slide
        The slide that it should be of: fingerprint, size and pixel size are compared.
    weights
        The weight file that it should have been made with: its sha256 is compared.
    encoder, n_reembed
        With both, and a slide: so many finished tokens, spread over the slide, are embedded again and compared.

    Returns
    -------
    Verdict
        With every problem that was found; nothing is raised for a damaged store.

    Raises
    ------
    ProspectorError
        The slide or the weight file cannot be read.

    Examples
    --------
    >>> verify_grid("case7.tokens.zarr").is_sound  # doctest: +SKIP
    True
    """
    place = Path(path)
    problems = list(_leftovers(place))
    try:
        grid = TokenGrid.open(place)
        grid.coverage  # noqa: B018
        grid.tissue_mask()
        counts = grid.counts()
    except ProspectorError as error:
        return Verdict(place, (*problems, str(error)), ("metadata",), {})
    checked = ["metadata", "states", "every chunk"]
    problems += _problems_of_blocks(grid)
    if slide is not None:
        checked.append(f"slide {slide.name}")
        problems += _problems_with_slide(grid, slide)
    if weights is not None:
        checked.append(f"weights {Path(weights).name}")
        problems += _problems_with_weights(grid, Path(weights))
    if slide is not None and encoder is not None and n_reembed and not problems:
        checked.append(f"{n_reembed} tokens embedded again")
        problems += _problems_of_reembedding(grid, slide, encoder, n_reembed)
    return Verdict(place, tuple(problems), tuple(checked), counts)


def _leftovers(path: Path) -> Iterator[str]:
    """Find what a writer that was killed left behind; it does no harm, and the next writer sweeps it."""
    beside = [path.with_name(path.name + PARTIAL), path.with_name(path.name + ".old" + PARTIAL)]
    found = [leftover for leftover in beside if leftover.exists()]
    found += sorted(path.rglob(f"*{PARTIAL}")) if path.is_dir() else []
    if found:
        yield (
            f"{_named([leftover.name for leftover in found])} were left by a writer that was killed, or belong to one"
            " that is at work. Embed the slide again: it goes on, and sweeps them."
        )


def _problems_of_blocks(grid: TokenGrid) -> Iterator[str]:
    """Read every chunk of embeddings and quality, and hold them against the states."""
    state = grid.state
    broken: dict[str, list[str]] = {}
    for block in grid.blocks():
        for problem, name in _problems_of_block(grid, block, state[block.tokens]):
            broken.setdefault(problem, []).append(name)
    for problem, names in broken.items():
        yield f"{_named(names)} {problem}"


def _problems_of_block(grid: TokenGrid, block: Block, state: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a block, and the name of its chunk."""
    row, col = block.index
    name = f"embeddings/c/{row}/{col}/0"
    done = state == DONE
    again = "Delete it and embed the slide again: only this block is computed anew."
    try:
        with damage(grid.path, name):
            embeddings = np.asarray(grid.embeddings[*block.tokens, :])
    except ProspectorError:
        yield f"cannot be read: the content does not fit its checksum. {again}", name
        return
    if done.any() and not (grid.path / name).is_file():
        yield "is missing. Embed the slide again: only this block is computed anew.", name
    elif not np.isfinite(embeddings[done]).all():
        yield f"holds NaN or infinity where the state says done. {again}", name
    # a writer that was killed before it wrote the states leaves embeddings of pending tokens: those are sound
    if not np.isnan(embeddings[state == BACKGROUND]).all():
        yield f"holds embeddings of tokens that the state calls background. {again}", name
    yield from _problems_of_quality(grid, block, done)


def _problems_of_quality(grid: TokenGrid, block: Block, done: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the quality of a block."""
    array = grid.quality.array
    if array is None:
        return
    row, col = block.index
    name = f"quality/c/{row}/{col}/0"
    again = f"Delete embeddings/c/{row}/{col}/0 as well and embed the slide again: only this block is computed anew."
    try:
        with damage(grid.path, name):
            values = np.asarray(array[*block.tokens, :])
    except ProspectorError:
        yield f"cannot be read: the content does not fit its checksum. {again}", name
        return
    if done.any() and not (grid.path / name).is_file():
        yield f"is missing. {again}", name
    elif ((values < 0) | (values > 1)).any():
        yield f"holds measures outside of 0 to 1. {again}", name


def _problems_with_slide(grid: TokenGrid, slide: Slide) -> Iterator[str]:
    """Hold a store against a slide."""
    geometry, attrs = grid.geometry, grid.attrs
    if slide.fingerprint() != attrs.get("slide_fingerprint"):
        yield (
            f"it was made from another file than {slide.name} (it names {attrs.get('slide_name')}; the fingerprints"
            " differ). Pass the slide that it was made from, or embed this one to another path."
        )
        return
    if list(slide.shape) != attrs.get("level0_shape"):
        yield f"it states a slide of {attrs.get('level0_shape')} px; {slide.name} has {list(slide.shape)}."
    if slide.mpp is not None and not math.isclose(slide.mpp, geometry.slide_mpp, rel_tol=1e-3):
        yield (
            f"it was made with pixels of {geometry.slide_mpp:.4g} µm; {slide.name} has {slide.mpp:.4g}."
            " Pass the pixel size that it was embedded with (--mpp), or embed the slide again with the right one."
        )
    yield from _tokens_outside(geometry, slide)


def _tokens_outside(geometry: GridGeometry, slide: Slide) -> Iterator[str]:
    """Tell of a grid that reaches beyond its slide."""
    row, col = (float(place) for place in geometry.centre_px(geometry.rows - 1, geometry.cols - 1))
    if row >= slide.shape[0] or col >= slide.shape[1] or min(geometry.origin) < -geometry.tile:
        yield f"its last token lies at pixel ({row:.0f}, {col:.0f}), outside of {slide.name}. Embed the slide again."


def _problems_with_weights(grid: TokenGrid, weights: Path) -> Iterator[str]:
    """Hold a store against a weight file."""
    from napari_prospector.tokens.encoders.weights import file_sha256

    stored = grid.card.get("weights_sha256")
    found = file_sha256(weights)
    if stored is None:
        yield f"it states no hash of weights, so {weights.name} cannot be compared; {grid.card.get('name')!r} has none."
    elif found != stored:
        yield (
            f"it was made with other weights than {weights.name}: sha256 {stored[:12]}… there,"
            f" {str(found)[:12]}… here. Pass the file that it was made with, or embed the slide again."
        )


def _problems_of_reembedding(grid: TokenGrid, slide: Slide, encoder: Encoder, n_tokens: int) -> Iterator[str]:
    """Embed some finished tokens again and compare."""
    from napari_prospector.tokens.staining import StainEstimate, remixed
    from napari_prospector.tokens.tilereader import TileReader

    kinds = kind_of_tokens(grid.card), kind_of_tokens(encoder.card.to_json())
    if kinds[0] != kinds[1]:
        yield f"it holds {kinds[0]}; encoder {encoder.card.name!r} gives {kinds[1]}. Load it with the same tokens."
        return
    if encoder.card.n_dims != grid.n_dims:
        yield f"it holds embeddings of {grid.n_dims} dims; encoder {encoder.card.name!r} gives {encoder.card.n_dims}."
        return
    done = np.argwhere(grid.mask)
    tokens = done[np.unique(np.linspace(0, len(done) - 1, n_tokens).astype(int))]
    reader, kept = TileReader(slide, grid.tiles), grid.tiles.stride // grid.geometry.stride
    worst = 0.0
    for token in tokens:
        tiles = reader.read(token[None] // kept)
        if grid.card.get("stain_normalize"):
            tiles = remixed(tiles, StainEstimate.from_json(grid.attrs["stain"]))
        if isinstance(encoder, PatchEncoder) and encoder.card.tokens == "patch":
            fresh = np.asarray(encoder.encode_patches(tiles.pixels)[0, *(token % kept)], np.float64)
        else:
            fresh = np.asarray(encoder.encode(tiles.pixels), np.float64)[0]
        stored = np.asarray(grid.embeddings[*token], np.float64).ravel()
        worst = max(worst, float(np.linalg.norm(fresh - stored)) / max(float(np.linalg.norm(stored)), 1e-12))
    if worst > _REEMBED_TOLERANCE:
        yield (
            f"tokens that were embedded again differ by up to {100 * worst:.1f} % of their length. The encoder, its"
            " weights or the slide are not those that it was made with: embed the slide again."
        )


def _named(names: list[str]) -> str:
    """Name the first of many files."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
