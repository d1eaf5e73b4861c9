"""Pictures made smaller by a whole factor, block by block."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["aligned", "block_means"]


def aligned(least: int, factor: int, chunk: int) -> int:
    """Return a multiple of `factor` near `least`, and of `chunk` too where that stays within twice of it."""
    both = math.lcm(factor, chunk)
    unit = both if both <= 2 * least else factor
    return unit * max(1, least // unit)


def block_means(block: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average squares of a block, (rows, cols, 3) -> (ceil(rows / factor), ceil(cols / factor), 3), rounded."""
    if factor == 1:
        return block
    rows, cols = block.shape[:2]
    out_rows, out_cols = -(-rows // factor), -(-cols // factor)
    if (rows % factor, cols % factor) != (0, 0):
        block = np.pad(block, ((0, out_rows * factor - rows), (0, out_cols * factor - cols), (0, 0)))
    # rows first, along whole lines, then columns one by one: an order of magnitude faster than both axes at once
    narrow = np.uint16 if factor <= 257 else np.uint64
    lines = np.add.reduce(block.reshape(out_rows, factor, -1), axis=1, dtype=narrow)
    lines = lines.reshape(out_rows, out_cols, factor, 3)
    sums = lines[:, :, 0].astype(np.uint32 if factor <= 4096 else np.uint64)
    for col in range(1, factor):
        sums += lines[:, :, col]
    heights = np.minimum(factor, rows - factor * np.arange(out_rows))
    widths = np.minimum(factor, cols - factor * np.arange(out_cols))
    areas = (heights[:, None] * widths)[..., None].astype(sums.dtype)
    if (areas == areas[0, 0, 0]).all():
        areas = areas[0, 0, 0]  # numpy divides by one number twice as fast
    means: NDArray[np.uint8] = ((sums + areas // 2) // areas).astype(np.uint8)
    return means
