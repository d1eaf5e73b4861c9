"""A slide in memory and an encoder without weights, for the tests of embedding and the processes they kill."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_prospector.errors import FileFormatError
from napari_prospector.tokens.embed import embed_slide, embed_to_grid
from napari_prospector.tokens.encoders.cards import EncoderCard, load_encoder
from napari_prospector.tokens.slides import Level, PixelSize, Slide, open_slide
from napari_prospector.tokens.store import TokenGrid
from napari_prospector.tokens.tilequality import QualityGauge
from napari_prospector.tokens.tissue import TissueMask

TILE_PX, MPP = 16, 0.5
BLOCK = 6
ROWS, COLS = 11 * TILE_PX + 3, 13 * TILE_PX + 5

# Loads the compiled kernel now: processes that are forked from one with these fakes spend their time on embedding.
QualityGauge().measure(np.zeros((1, TILE_PX, TILE_PX, 3), np.uint8), MPP)


class FakeSlide(Slide):
    """An image in memory with a pyramid of whole factors; boxes in `damaged` cannot be read."""

    def __init__(
        self, image: np.ndarray, mpp: float | None = MPP, factors: tuple[int, ...] = (1,), name: str = "fake.svs"
    ):
        rows, cols = image.shape[:2]
        self.images = [
            image[: rows // f * f, : cols // f * f]
            .reshape(rows // f, f, cols // f, f, 3)
            .mean((1, 3))
            .round()
            .astype(np.uint8)
            for f in factors
        ]
        levels = tuple(
            Level(small.shape[:2], (float(f), float(f)), (64, 64))
            for small, f in zip(self.images, factors, strict=True)
        )
        super().__init__(Path(name), "fake", levels, PixelSize(mpp, None if mpp else "states no pixel size"), None)
        self.damaged: list[tuple[int, int]] = []
        self.reads: list[tuple[int, ...]] = []

    def read(self, row: int, col: int, height: int, width: int, level: int = 0) -> np.ndarray:
        self.reads.append((row, col, height, width, level))
        return super().read(row, col, height, width, level)

    def _pixels(self, level: int, row0: int, col0: int, row1: int, col1: int) -> np.ndarray:
        scale = int(self.levels[level].downsample)
        for row, col in self.damaged:
            if row0 * scale <= row < row1 * scale and col0 * scale <= col < col1 * scale:
                raise FileFormatError(f"{self.name}: the tile at pixel ({row}, {col}) cannot be decoded.")
        return self.images[level][row0:row1, col0:col1].copy()

    def fingerprint(self) -> str:
        return hashlib.sha256(self.images[0].tobytes()).hexdigest()

    def close(self) -> None:
        self.images = []


class FakeEncoder:
    """Colour statistics of a tile; `seconds` of pretended work a batch, `spoil` may change embeddings."""

    def __init__(self, batch_size: int = 5, seconds: float = 0.0, **changes: Any) -> None:
        entries = {"name": "fake", "loader": "fake", "source": "tests", "tile_px": TILE_PX, "mpp": MPP, "n_dims": 7}
        self.card = EncoderCard(**(entries | changes))
        self.batch_size, self.seconds = batch_size, seconds
        self.batches: list[int] = []
        self.spoil: Callable[[np.ndarray], np.ndarray] = lambda vectors: vectors

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        self.batches.append(len(tiles))
        values = tiles.reshape(len(tiles), -1, 3).astype(np.float32)
        parts = [values.mean(1), values.std(1), values[:, 0, :1]]
        # a real encoder's sums depend on the size of the batch in the last bits; here they plainly do
        return self.spoil(np.concatenate(parts, axis=1) + len(tiles) / 64)


def speckled(seed: int = 7, rows: int = ROWS, cols: int = COLS) -> np.ndarray:
    """An image in which no two tiles are alike."""
    return np.random.default_rng(seed).integers(0, 200, (rows, cols, 3), dtype=np.uint8)


def ragged(slide: Slide, seed: int = 11, share: float = 0.6) -> TissueMask:
    """Tissue on a random part of the tiles."""
    rows, cols = (-(-extent // TILE_PX) for extent in slide.shape)
    tiles = np.random.default_rng(seed).random((rows, cols)) < share
    return tissue_of(slide, np.kron(tiles, np.ones((TILE_PX, TILE_PX), bool)), "random", 0.5)


def tissue_of(slide: Slide, mask: np.ndarray, method: str = "all", threshold: float = 0.0) -> TissueMask:
    """Tissue as a mask of level-0 pixels says."""
    rows, cols = slide.shape
    return TissueMask(mask[:rows, :cols], (1.0, 1.0), slide.shape, slide.mpp or MPP, threshold, method, 0.0, "")


def embed(path: Path, slide: FakeSlide | None = None, encoder: FakeEncoder | None = None, **options: Any) -> TokenGrid:
    """Embed a slide, by default the ragged tissue of the speckled one in blocks of 6 x 6."""
    slide = FakeSlide(speckled()) if slide is None else slide
    options = {"tissue": ragged(slide), "block": BLOCK} | options
    return embed_to_grid(slide, encoder or FakeEncoder(), path, **options)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path in there."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(path: str, seconds: float = 0.0) -> None:
    """Embed the speckled slide, as every process of the tests of survival does."""
    slide = FakeSlide(speckled())
    for _ in embed_slide(slide, FakeEncoder(seconds=seconds), path, tissue=ragged(slide), block=BLOCK):
        pass


def run_and_die(path: str, operation: int) -> None:
    """Do the same, and vanish before the given file operation, as if by kill -9."""
    count = 0

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if count == operation:
                os._exit(9)
            count += 1
            return real(*args, **kwargs)

        return counted

    for name in ("replace", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    run(path)


def report_and_run(pipe: Any, path: str, seconds: float) -> None:
    """Say that the embedding begins, and embed."""
    pipe.send("ready")
    run(path, seconds)


def run_on_file(slide_path: str, path: str) -> None:
    """Embed a slide file with the built-in encoder, on small tiles."""
    encoder = load_encoder("stain-texture", tile_px=64, mpp=1.0)
    with open_slide(slide_path) as slide:
        embed_to_grid(slide, encoder, path, block=5)


def report_and_run_on_file(pipe: Any, slide_path: str, path: str) -> None:
    """Say that the embedding begins, and embed."""
    pipe.send("ready")
    run_on_file(slide_path, path)
