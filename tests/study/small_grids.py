"""Token grids of a small cohort, in several blocks, with holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, FAILED, TokenGrid

N_DIMS, SHAPE, BLOCK = 5, (11, 13), 6
CARD = {"name": "toy", "n_dims": N_DIMS, "weights_sha256": "ab12", "tile_px": 224, "mpp": 0.5}


def write_grid(path: Path, seed: int, positive: bool, n_dims: int = N_DIMS) -> TokenGrid:
    """Write a grid of tokens of three kinds; a positive one has a fourth in a corner. A token failed."""
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) > 0.25
    kinds = rng.integers(3, size=SHAPE)
    kinds[:3, :5] = np.where(positive, 3, kinds[:3, :5])
    centers = 3 * np.random.default_rng(99).normal(size=(4, n_dims))
    embeddings = (centers[kinds] + rng.normal(size=(*SHAPE, n_dims))).astype(np.float16)
    state = np.where(mask, DONE, 0).astype(np.uint8)
    state[tuple(np.argwhere(mask)[-1])] = FAILED
    geometry = GridGeometry(*SHAPE, tile=448, stride=448, origin=(10, 20), slide_mpp=0.25, tile_px=224)
    made = TokenGrid.create(
        path,
        geometry,
        {**CARD, "n_dims": n_dims},
        f"case{seed}.svs",
        f"sha-{seed}",
        (6000, 7000),
        mask=mask,
        block=BLOCK,
    )
    with made as grid:
        for block in grid.blocks():
            grid.write_block(block, embeddings[block.tokens], state[block.tokens])
    return TokenGrid.open(path)


def cohort(folder: Path, n_slides: int = 8, n_dims: int = N_DIMS) -> tuple[list[TokenGrid], list[str], ProspectorHead]:
    """Write a cohort and fit a head on it."""
    labels = ["normal", "tumour"] * (n_slides // 2)
    grids = [
        write_grid(folder / f"case{number}.svs.tokens.zarr", number, label == "tumour", n_dims)
        for number, label in enumerate(labels)
    ]
    graphs = [grid.graph() for grid in grids]
    head = ProspectorHead(n_concepts=4, radius=1, kernel="fold-change", refine=False).fit(graphs, labels)
    head.card_ = {"encoder": {**CARD, "n_dims": n_dims}}
    return grids, labels, head


def tokens_of(grid: TokenGrid) -> list[tuple[int, int, np.ndarray]]:
    """Return row, col and embedding of each finished token."""
    graph: TokenGraph = grid.graph()
    return [
        (int(row), int(col), embedding.astype(float))
        for (row, col), embedding in zip(np.argwhere(grid.mask), graph.embeddings, strict=True)
    ]
