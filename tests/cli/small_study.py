"""A small cohort on disk: five tumour and five normal slides of 3 x 5 tiles."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_prospector.tokens.pyramid import write_pyramid, write_truth

TILE, ROWS, COLS, MPP = 224, 3, 5, 0.5
N_SLIDES, N_TEST = 10, 4
# optical densities of eosin-like stroma and haematoxylin-like nests, per channel
STROMA, NEST = (0.08, 0.35, 0.15), (0.55, 0.75, 0.25)


@dataclass(frozen=True)
class Study:
    """A cohort with its token grids and a head; the folder's name has a space and letters beyond ASCII."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "cohort.csv"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def head(self) -> Path:
        return self.folder / "tumour é.prospector"

    def slide(self, number: int) -> Path:
        return self.folder / "slides" / f"slide {number}.tif"

    def grid(self, number: int) -> Path:
        return self.tokens / f"slide {number}.tif.tokens.zarr"


def draw(number: int, nests: np.ndarray) -> np.ndarray:
    """Draw stroma with nests in the tiles that are True, grainy enough to have texture."""
    rng = np.random.default_rng(number)
    density = np.where(np.kron(nests, np.ones((TILE, TILE)))[..., None] > 0, NEST, STROMA)
    grain = rng.gamma(4.0, 0.25, (ROWS * TILE // 4, COLS * TILE // 4, 1)).repeat(4, 0).repeat(4, 1)
    return (244 * 10 ** -(density * grain)).clip(0, 255).astype(np.uint8)


def make_cohort(folder: Path) -> Path:
    """Write slides, truths and their table; in tumour slides two tiles are nests, side by side."""
    rows = []
    for number in range(N_SLIDES):
        tumour = number % 2 == 0
        nests = np.zeros((ROWS, COLS), bool)
        col = number % (COLS - 1)
        nests[1, col : col + 2] = tumour
        write_pyramid(folder / "slides" / f"slide {number}.tif", draw(number, nests), MPP)
        write_truth(folder / "truth" / f"{number}.png", nests.repeat(8, 0).repeat(8, 1))
        split = "test" if number >= N_SLIDES - N_TEST else "train"
        truth = f"truth/{number}.png"
        rows.append([f"slides/slide {number}.tif", "tumour" if tumour else "normal", f"p{number}", split, truth])
    return write_table(folder / "cohort.csv", ["path", "label", "group", "split", "truth"], rows)


def write_table(path: Path, columns: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path
