"""Slide → TokenGrid, streaming: reads ahead while it encodes, and stores block by block."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError, ProspectorWarning
from napari_prospector.tokens import gridfile
from napari_prospector.tokens.blockwriter import BlockWriter
from napari_prospector.tokens.encoders.cards import Encoder, EncoderCard, PatchEncoder
from napari_prospector.tokens.encoders.memory import BatchSize, in_turns
from napari_prospector.tokens.patches import TokenLayout
from napari_prospector.tokens.slides import Slide
from napari_prospector.tokens.staining import StainEstimate, check_normalization, remixed, stain_record
from napari_prospector.tokens.store import BACKGROUND, DONE, FAILED, PENDING, Block, TokenGrid
from napari_prospector.tokens.tilequality import QualityGauge
from napari_prospector.tokens.tilereader import TileReader, Tiles
from napari_prospector.tokens.tilestream import batches, in_lanes, tiles_ahead
from napari_prospector.tokens.tissue import TissueMask, tissue_mask

__all__ = ["EmbedProgress", "TileFailure", "default_mask_mpp", "embed_slide", "embed_to_grid"]

_MOST_READERS = 8
_MOST_ENLARGED = 2.0  # a slide scanned coarser than this many times what the encoder wants is told
# Finding tissue takes about 12 bytes a cell: slides of more than 30 cm² get a coarser mask, or memory would grow.
_MASK_MPP, _MOST_MASK_CELLS = 8.0, 48_000_000


@dataclass(frozen=True)
class TileFailure:
    """A tile that has no embedding: token (`row`, `col`), and the `reason` as a sentence.

    With patch tokens it is the first of `n_tokens` of one tile that have none.
    """

    row: int
    col: int
    reason: str
    n_tokens: int = 1


@dataclass(frozen=True)
class EmbedProgress:
    """How far the embedding of a slide is.

    Attributes
    ----------
    done
        Tokens dealt with, failed ones included; those of a store that goes on count from the start.
    total
        Tokens with tissue.
    failed
        Tokens that have no embedding.
    failures
        Those that failed since the last progress, with the reason.
    """

    done: int
    total: int
    failed: int
    failures: tuple[TileFailure, ...] = ()


def embed_slide(
    slide: Slide,
    encoder: Encoder,
    path: str | os.PathLike[str],
    *,
    tissue: TissueMask | None = None,
    stride_px: int | None = None,
    min_coverage: float = 0.25,
    stain_normalize: str | None = None,
    dtype: str = "float16",
    block: int = 16,
    overwrite: bool = False,
    retry_failed: bool = False,
    n_readers: int | None = None,
) -> Iterator[EmbedProgress]:
    """Embed the tissue of a slide, and go on where an earlier run stopped.

    This is a generator: nothing happens before the first step, each batch of the encoder is a step, and whoever
    stops iterating (or closes it) has cancelled; the store stays sound and goes on later. A rerun gives the same
    bytes, however often it was interrupted, since a block is always computed as a whole and in the same batches.

    Parameters
    ----------
    slide
        From `open_slide`, with a pixel size.
    encoder
        From `load_encoder`; its card says how wide a tile is, in pixels and µm. Or from `choose_tokens`, for patch
        tokens and projected ones: a patch is then a token if its own share of tissue is at least `min_coverage`, and
        a tile is read if any of its patches is.
    path
        The store, by convention ``*.tokens.zarr``.
    tissue
        Where tissue is. None: the default `tissue_mask` (coarser on slides of more than 30 cm²), or what the store
        remembers when it goes on.
    stride_px
        Distance between tiles in the encoder's pixels, with tile tokens. None: `tile_px`, side by side.
    min_coverage
        Share of tissue, 0 to 1, from which a token is embedded; 0: every one, glass too.
    stain_normalize
        "macenko": tiles are unmixed with the slide's own two stains and mixed anew with those of one reference
        (`staining.REFERENCE`) before they are encoded. It costs as often as it helps: try both
        (`benchmarks/stain_normalization.py`). None: what the encoder's card says, which is mostly nothing.
    dtype
        "float16" or "float32".
    block
        Tiles along each side of a block: what is stored at once, and lost at most when a run is killed; fewer where
        their patch tokens would be more than 16 MiB. A store that goes on keeps its own.
    overwrite
        Start anew in place of a store that is there.
    retry_failed
        Try tiles again that failed in an earlier run.
    n_readers
        Threads that read ahead. None: half of the cores, at most 8; all of them, in turn with the encoder, where that
        keeps every core busy itself (`fills_cores`, torch on a CPU).

    Yields
    ------
    EmbedProgress
        The first one before any tile is embedded.

    Raises
    ------
    PixelSizeError
        The slide states no pixel size, or one of which no whole number makes a patch.
    InvalidInputError
        There is no tissue, or too little to normalize its stain (nothing is left behind); an argument is impossible;
        or the encoder gives a whole batch of embeddings that are not finite. A single one that is not finite is
        marked as failed.
    UnknownNameError
        There is no such `stain_normalize`.
    MismatchError
        The store was made from another slide, encoder, grid or tissue, or with another `stain_normalize`; it says
        what differs.
    FileFormatError
        The store is damaged. A tile of the slide that is damaged is marked as failed instead.
    StoreBusyError
        Another process writes the store.
    StorageError
        The disk is full or cannot be written; the store is sound and goes on later.

    Examples
    --------
    >>> from napari_prospector import embed_slide, load_encoder, open_slide
    >>> with open_slide("case7.svs") as slide:  # doctest: +SKIP
    ...     for step in embed_slide(slide, load_encoder("stain-texture"), "case7.tokens.zarr"):
    ...         print(f"{step.done} of {step.total}")
    """
    if not 0 <= min_coverage <= 1:
        raise InvalidInputError(f"min_coverage must be a share of tissue, 0 to 1; got {min_coverage!r}.")
    card = replace(encoder.card, stain_normalize=stain_normalize or encoder.card.stain_normalize)
    check_normalization(card.stain_normalize)
    layout = TokenLayout.of_card(slide.shape, slide.require_mpp(), card, stride_px)
    job = _Job(slide, encoder, card, layout, TileReader(slide, layout.tiles), min_coverage, dtype)
    shared_by = 1 if getattr(encoder, "fills_cores", False) else 2
    readers = n_readers or min(_MOST_READERS, max(1, (os.cpu_count() or 1) // shared_by))
    place = Path(path)
    goes_on = not overwrite and place.exists() and not _is_empty_folder(place)
    with job.reopened(place, tissue) if goes_on else job.created(place, tissue, block, overwrite) as grid:
        if goes_on:
            grid.reset_missing_blocks()
        yield from _fill(grid, job, retry_failed, readers)


def embed_to_grid(slide: Slide, encoder: Encoder, path: str | os.PathLike[str], **options: Any) -> TokenGrid:
    """Run `embed_slide` to its end and return the store, open for reading.

    Parameters
    ----------
    slide, encoder, path, **options
        As for `embed_slide`.

    Returns
    -------
    TokenGrid
        With nothing pending.

    Raises
    ------
    ProspectorError
        As `embed_slide` does.
    """
    for _ in embed_slide(slide, encoder, path, **options):
        pass
    return TokenGrid.open(path)


@dataclass(frozen=True)
class _Lost:
    """Which tokens of a batch have no embedding, `where` (n, k, k), and the reason by tile."""

    where: NDArray[np.bool_]
    reasons: dict[int, str]


@dataclass(frozen=True)
class _Job:
    """What a store must have been made from for this run to go on with it; `card` is the encoder's, as used here."""

    slide: Slide
    encoder: Encoder
    card: EncoderCard
    layout: TokenLayout
    reader: TileReader
    min_coverage: float
    dtype: str

    def created(self, path: Path, tissue: TissueMask | None, block: int, overwrite: bool) -> TokenGrid:
        """Make the store; its tissue is found first, so that nothing is left behind where there is none."""
        tissue = tissue_mask(self.slide, default_mask_mpp(self.slide)) if tissue is None else tissue
        coverage, mask = self._wanted(tissue)
        if not mask.any():
            raise InvalidInputError(
                f"{self.slide.name} must show tissue; no tile has a share of {self.min_coverage:g} (the most is"
                f" {coverage.max():.2f}). {tissue.note}"
                " Lower min_coverage, or pass tissue=tissue_mask(slide, threshold=…) with a lower threshold."
            )
        self._tell_enlarged()
        stain = stain_record(self.reader, self.layout.tiles_with(mask))
        if self.card.stain_normalize and stain["problem"]:
            raise InvalidInputError(
                f"The stain of {self.slide.name} cannot be normalized: {stain['problem']}"
                " Leave stain_normalize (--stain-normalize) out, or check that the slide shows H&E."
            )
        return TokenGrid.create(
            path,
            self.layout.tokens,
            self.card,
            self.slide.name,
            self.slide.fingerprint(),
            self.slide.shape,
            self.dtype,
            self.layout.block_side(self.card.n_dims or 1, np.dtype(self.dtype).itemsize, block),
            tiles=self.layout.tiles,
            mask=mask,
            coverage=coverage,
            tissue=self._tissue_record(tissue),
            tissue_mask=tissue,
            quality=QualityGauge(tissue.light, tissue.density).record,
            reading=self.reader.record,
            scanner=self.slide.scanner,
            stain=stain,
            overwrite=overwrite,
        )

    def _tell_enlarged(self) -> None:
        """Warn if the slide was scanned so coarsely that its tiles are blown up."""
        slide_mpp = self.slide.require_mpp()
        if slide_mpp > _MOST_ENLARGED * self.card.mpp:
            warnings.warn(
                f"{self.slide.name} has {slide_mpp:g} µm per pixel, and {self.card.name!r} wants {self.card.mpp:g}:"
                f" tiles are enlarged {slide_mpp / self.card.mpp:.1f} times. Check the"
                " pixel size, or pass an mpp for tiles (--tile-mpp) near the slide's.",
                ProspectorWarning,
                stacklevel=3,
            )

    def reopened(self, path: Path, tissue: TissueMask | None) -> TokenGrid:
        """Open the store for writing once it is sure that it was made from just this."""
        with contextlib.ExitStack() as stack:
            grid = stack.enter_context(TokenGrid.open(path, "r+"))
            stored_tissue: dict[str, Any] = {"min_coverage": float(self.min_coverage)}
            if tissue is not None:
                stored_tissue = self._tissue_record(tissue)
            grid.check_belongs(
                slide_fingerprint=self.slide.fingerprint(),
                level0_shape=list(self.slide.shape),
                geometry=self.layout.tokens.to_json(),
                tiles=None if self.layout.tiles == self.layout.tokens else self.layout.tiles.to_json(),
                encoder=self._card_of(grid),
                dtype=self.dtype,
                reading=self.reader.record,
                tissue=grid.attrs["tissue"] | stored_tissue,
            )
            if tissue is not None:
                grid.check_mask(self._wanted(tissue)[1])
            stack.pop_all()
        return grid

    def _card_of(self, grid: TokenGrid) -> dict[str, Any]:
        """Return the card that a store must hold: its own, but for what decides of embeddings.

        What is only said about the weights may have been corrected since the store was made.
        """
        with gridfile.damage(grid.path, "the encoder in zarr.json"):
            decisive = EncoderCard.from_json(grid.card).identity()
        said = {name: value for name, value in grid.card.items() if name not in decisive}
        return said | self.card.identity()

    def tiles_of(self, grid: TokenGrid) -> Callable[[NDArray[np.int64]], Tiles]:
        """Return what reads tokens (n, 2), measures their quality as scanned, and normalizes their stain.

        With the gauge and the stain that the store remembers, so that a rerun gives the same.
        """
        steps: list[Callable[[Tiles], Tiles]] = []
        if grid.quality.measures:
            with gridfile.damage(grid.path, "the quality in zarr.json"):
                gauge = QualityGauge.from_record(grid.attrs["quality"])
            steps.append(lambda tiles: tiles.measured(gauge, self.reader.geometry.tile_mpp))
        if self.card.stain_normalize is not None:
            with gridfile.damage(grid.path, "the stain in zarr.json"):
                source = StainEstimate.from_json(grid.attrs["stain"])
            steps.append(lambda tiles: remixed(tiles, source))

        def read(tokens: NDArray[np.int64]) -> Tiles:
            tiles = self.reader.read(tokens)
            for step in steps:
                tiles = step(tiles)
            return tiles

        return read

    def _wanted(self, tissue: TissueMask) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the share of tissue of each token, and which tokens have enough."""
        coverage = self.layout.coverage(tissue)
        return coverage, np.asarray(coverage >= self.min_coverage)

    def _tissue_record(self, tissue: TissueMask) -> dict[str, Any]:
        """Return what the store remembers about tissue."""
        return {
            "method": tissue.method,
            "threshold": float(tissue.threshold),
            "mask_mpp": float(tissue.mask_mpp),
            "ink_share": float(tissue.ink_share),
            "min_coverage": float(self.min_coverage),
        }


def _fill(grid: TokenGrid, job: _Job, retry_failed: bool, n_readers: int) -> Iterator[EmbedProgress]:
    """Compute and store every block that has something pending."""
    state = grid.state
    total = int((state != BACKGROUND).sum())
    if retry_failed:
        state[state == FAILED] = PENDING
    unfinished = [block for block in grid.blocks() if (state[block.tokens] == PENDING).any()]
    for block in unfinished:
        # the block is computed as a whole: the same batches as without an interruption
        within = state[block.tokens]
        within[within != BACKGROUND] = PENDING
    done, failed = int(((state == DONE) | (state == FAILED)).sum()), int((state == FAILED).sum())
    yield EmbedProgress(done, total, failed)
    reasons: list[TileFailure] = []
    for n_tokens, failures in _steps(grid, job, unfinished, state, n_readers):
        done, failed = done + n_tokens, failed + sum(failure.n_tokens for failure in failures)
        reasons += failures
        yield EmbedProgress(done, total, failed, tuple(failures))
    _check_any_done(job.slide, state, reasons)


def _steps(
    grid: TokenGrid, job: _Job, blocks: list[Block], state: NDArray[np.uint8], n_readers: int
) -> Iterator[tuple[int, list[TileFailure]]]:
    """Compute and store blocks, and keep `state` (rows, cols) up to date; yield size and failures of each batch."""
    layout, by_index = job.layout, {block.index: block for block in blocks}
    wanted = np.where(layout.tiles_with(state != BACKGROUND), PENDING, BACKGROUND).astype(np.uint8)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(BlockWriter(grid))
        tile_blocks = [layout.tile_block(block) for block in blocks]
        beside = not getattr(job.encoder, "fills_cores", False)
        read = job.tiles_of(grid)
        tiles = stack.enter_context(tiles_ahead(job.reader, read, tile_blocks, wanted, n_readers, beside))
        encoded = stack.enter_context(contextlib.closing(_encoded(job.encoder, tiles, grid.embeddings.dtype)))
        for index, results in groupby(encoded, key=lambda item: item[0].index):
            block = by_index[index]
            within = state[block.tokens]
            embeddings = np.full((*within.shape, grid.n_dims), np.nan, np.float32)
            quality = np.full((*within.shape, len(grid.quality.measures)), np.nan, np.float32)
            for _, batch, (vectors, lost) in results:
                cells = layout.cells(block, batch.tokens, within != BACKGROUND)
                cells.fill(embeddings, vectors)
                if batch.quality is not None:
                    cells.fill(quality, batch.quality[:, None, None])
                cells.fill(within, np.where(lost.where, FAILED, DONE))
                if not (within == PENDING).any():
                    writer.write(block, embeddings, within.copy(), quality)
                    if block is blocks[-1]:
                        writer.flush()  # whoever sees the last step may count on the store
                yield cells.n_tokens, [TileFailure(*place) for place in cells.first_of(lost.where, lost.reasons)]


def _encoded(
    encoder: Encoder, tiles: Iterator[tuple[Block, Tiles]], dtype: np.dtype[Any]
) -> Generator[tuple[Block, Tiles, tuple[NDArray[np.float32], _Lost]]]:
    """Yield block, batch and what `_encode` makes of it, in order; a batch never crosses a block."""
    size = BatchSize(encoder.card.name, max(1, encoder.batch_size))
    most = size.tiles

    def cut() -> Iterator[tuple[Block, Tiles]]:
        for block, parts in groupby(tiles, key=lambda item: item[0]):
            for batch in batches((part for _, part in parts), most):
                yield block, batch

    def work(item: tuple[Block, Tiles]) -> tuple[NDArray[np.float32], _Lost]:
        return _encode(encoder, item[1], size, dtype)

    for (block, batch), result in in_lanes(work, cut(), getattr(encoder, "lanes", 1)):
        yield block, batch, result


def _check_any_done(slide: Slide, state: NDArray[np.uint8], failures: list[TileFailure]) -> None:
    """Raise when not one tile has an embedding."""
    if not (state == DONE).any():
        why = f" The first: {failures[0].reason}" if failures else " Pass retry_failed=True to try again."
        raise InvalidInputError(f"{slide.name}: every one of its {int((state == FAILED).sum())} tiles failed.{why}")


def _encode(encoder: Encoder, batch: Tiles, size: BatchSize, dtype: np.dtype[Any]) -> tuple[NDArray[np.float32], _Lost]:
    """Return embeddings (n, k, k, n_dims) of a batch, k = 1 with tile tokens, and which of them are none."""
    name, n_dims, n_tiles = encoder.card.name, encoder.card.n_dims, len(batch.tokens)
    is_patches = isinstance(encoder, PatchEncoder) and encoder.card.tokens == "patch"
    run = encoder.encode_patches if is_patches and isinstance(encoder, PatchEncoder) else encoder.encode
    vectors = np.asarray(in_turns(run, batch.pixels, size), dtype=np.float32)
    if vectors.ndim != (4 if is_patches else 2) or (len(vectors), vectors.shape[-1]) != (n_tiles, n_dims):
        wanted = f"({n_tiles}, {'k, k, ' if is_patches else ''}{n_dims})"
        raise InvalidInputError(
            f"Encoder {name!r} must give embeddings of shape {wanted}; got {vectors.shape}. Correct its card."
        )
    vectors = vectors if is_patches else vectors[:, None, None]
    with np.errstate(over="ignore"):
        where = ~np.isfinite(vectors.astype(dtype)).all(axis=3)
    remedy = "Check its weights" if np.isnan(vectors).any() or dtype == np.float32 else "Pass dtype='float32'"
    problem = f"Encoder {name!r} must give embeddings that are finite in {dtype}"
    if n_tiles > 1 and where.all():
        raise InvalidInputError(f"{problem}; all {n_tiles} of a batch are not. {remedy}.")
    where[list(batch.reasons)] = True
    why = f"{problem}; this one is not. {remedy}."
    lost_tiles = np.flatnonzero(where.any(axis=(1, 2))).tolist()
    return vectors, _Lost(where, {tile: batch.reasons.get(tile, why) for tile in lost_tiles})


def default_mask_mpp(slide: Slide) -> float:
    """Return the width of a cell of the default tissue mask in µm."""
    rows_um, cols_um = (extent * slide.require_mpp() for extent in slide.shape)
    mask_mpp = _MASK_MPP
    while rows_um * cols_um > _MOST_MASK_CELLS * mask_mpp**2:
        mask_mpp *= 2
    return mask_mpp


def _is_empty_folder(path: Path) -> bool:
    """Whether a path is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())
