"""Where the tissues of a drawn slide lie: a recipe that does not know the label, and an arrangement that does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_prospector.tokens.brushes import COARSE_UM, smooth_noise

__all__ = ["Kind", "Plan", "arrange"]

_GAP_UM = 280.0
"""Crowded epithelium and lymphoid tissue that lie apart keep about this distance: two tokens and more."""
_ISLAND_UM = 300.0
_GLAND_SPACING_UM = 102.0
_N_TRIES = 20
_N_CANDIDATES = 300

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Generator = np.random.Generator


class Kind(IntEnum):
    """What a cell of the plan holds."""

    GLASS = 0
    STROMA = 1
    ADIPOSE = 2
    CROWDED = 3
    """Crowded, pleomorphic, cribriform epithelium."""
    LYMPHOID = 4


@dataclass(frozen=True)
class Plan:
    """Where the tissues of a slide lie.

    Attributes
    ----------
    kinds
        (rows, cols) of `Kind`, cells of `COARSE_UM`.
    glands
        (n, 3): row, col and outer radius of each gland, µm.
    vessels
        (n, 3): the same of each blood vessel.
    """

    kinds: npt.NDArray[np.uint8]
    glands: npt.NDArray[np.float64]
    vessels: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Recipe:
    """The ingredients of a slide. Shares are of the tissue's area, but `tissue` is of the slide's."""

    tissue: float
    n_crowded: int
    n_lymphoid: int
    site: float
    crowded_in_site: float
    lymphoid_in_site: float
    adipose: float
    glands: float
    n_vessels: int


@dataclass(frozen=True)
class _Site:
    """A place of about `radius` µm around (row, col) µm, and what is laid there in islands."""

    row: float
    col: float
    crowded: bool
    lymphoid: bool


def arrange(seed: int, tumour: bool, extent_um: tuple[float, float]) -> tuple[Plan, BoolArray]:
    """Arrange the tissues of a slide.

    Parameters
    ----------
    seed
        The same seed has the same ingredients and outline for either label.
    tumour
        Whether crowded epithelium and lymphoid tissue share one or two sites.
    extent_um
        Height and width of the slide, µm.

    Returns
    -------
    Plan
        Where each tissue lies.
    BoolArray
        The shared sites, in cells of the plan.
    """
    recipe = _draw_recipe(np.random.default_rng((seed, 0)))
    cells = (int(np.ceil(extent_um[0] / COARSE_UM)), int(np.ceil(extent_um[1] / COARSE_UM)))
    tissue = _outline(recipe, np.random.default_rng((seed, 1)), cells)
    rng = np.random.default_rng((seed, 2, int(tumour)))
    kinds = np.where(tissue, np.uint8(Kind.STROMA), np.uint8(Kind.GLASS))
    truth, taken = np.zeros(cells, bool), np.zeros(cells, bool)
    size = round(recipe.site * np.count_nonzero(tissue))
    for site in _place_sites(recipe, rng, tissue, n_shared=int(rng.integers(1, 3)) if tumour else 0):
        place = _grown(tissue & ~taken, (site.row, site.col), size, rng)
        taken |= place
        if site.crowded and site.lymphoid:
            truth |= place
        _lay_islands(kinds, place, site, recipe, rng)
    _lay_adipose(kinds, taken, recipe, rng)
    glands = _lay_glands(kinds, taken, recipe, rng)
    return Plan(kinds=kinds, glands=glands, vessels=_lay_vessels(kinds, taken, glands, recipe, rng)), truth


def _draw_recipe(rng: Generator) -> _Recipe:
    """Draw how much of everything there is."""
    return _Recipe(
        tissue=rng.uniform(0.54, 0.66),
        n_crowded=int(rng.integers(2, 4)),
        n_lymphoid=int(rng.integers(2, 4)),
        site=rng.uniform(0.045, 0.060),
        crowded_in_site=rng.uniform(0.44, 0.54),
        lymphoid_in_site=rng.uniform(0.32, 0.40),
        adipose=rng.uniform(0.01, 0.06),
        glands=rng.uniform(0.12, 0.26),
        n_vessels=int(rng.integers(4, 10)),
    )


def _outline(recipe: _Recipe, rng: Generator, cells: tuple[int, int]) -> BoolArray:
    """Draw the outline of a piece of tissue with a ragged edge, clear of the slide's border."""
    rows, cols = np.meshgrid(*(np.linspace(-1, 1, n) for n in cells), indexing="ij")
    exponent = rng.uniform(2.0, 3.0)
    height = 1.0 - (np.abs(rows) ** exponent + np.abs(cols) ** exponent) ** (1 / exponent)
    height += 0.10 * smooth_noise(rng, cells, 1700.0) + 0.05 * smooth_noise(rng, cells, 600.0)
    height += 0.012 * smooth_noise(rng, cells, 150.0)
    border = np.maximum(np.abs(rows), np.abs(cols))
    height -= 4.0 * np.clip(border - 0.84, 0, None) + 9.0 * (border > 0.97)
    tissue = height > np.quantile(height, 1 - recipe.tissue)
    pieces, n_pieces = ndimage.label(tissue)
    sizes = ndimage.sum_labels(tissue, pieces, np.arange(n_pieces + 1))
    kept = sizes > 0.02 * tissue.sum()
    kept[0] = False
    return np.asarray(kept[pieces])


def _place_sites(recipe: _Recipe, rng: Generator, tissue: BoolArray, n_shared: int) -> list[_Site]:
    """Choose the sites: `n_shared` hold both tissues, the others one each, far enough apart."""
    radius = float(np.sqrt(recipe.site * np.count_nonzero(tissue) / np.pi)) * COARSE_UM
    holds = [(True, True)] * n_shared
    holds += [(True, False)] * (recipe.n_crowded - n_shared) + [(False, True)] * (recipe.n_lymphoid - n_shared)
    depth = ndimage.distance_transform_edt(tissue) * COARSE_UM
    inner = np.argwhere(depth >= min(0.8 * radius, 0.7 * float(depth.max())))
    best: list[_Site] = []
    best_room = -np.inf
    for _ in range(_N_TRIES):
        sites: list[_Site] = []
        room = np.inf
        for index in rng.permutation(len(holds)):
            crowded, lymphoid = holds[index]
            candidates = np.asarray(inner[rng.integers(len(inner), size=_N_CANDIDATES)] * COARSE_UM, np.float64)
            spare = _room(candidates, (crowded, lymphoid), sites, radius)
            chosen = int(np.argmax(spare >= 0)) if (spare >= 0).any() else int(np.argmax(spare))
            room = min(room, float(spare[chosen]))
            sites.append(_Site(float(candidates[chosen, 0]), float(candidates[chosen, 1]), crowded, lymphoid))
        if room > best_room:
            best, best_room = sites, room
        if room >= 0:
            break
    return best


def _room(candidates: FloatArray, holds: tuple[bool, bool], sites: list[_Site], radius: float) -> FloatArray:
    """Return by how many µm each candidate (n, 2) lies farther from the sites than it must; negative: too near."""
    spare = np.full(len(candidates), 1e6)
    for site in sites:
        alike = holds == (site.crowded, site.lymphoid) and not (site.crowded and site.lymphoid)
        needed = 2.0 * radius + (0.0 if alike else _GAP_UM)
        spare = np.minimum(spare, np.hypot(candidates[:, 0] - site.row, candidates[:, 1] - site.col) - needed)
    return spare


def _grown(free: BoolArray, centre_um: tuple[float, float], size: int, rng: Generator) -> BoolArray:
    """Return the `size` free cells nearest to a point, with an uneven border."""
    rows, cols = np.ogrid[: free.shape[0], : free.shape[1]]
    distance = np.hypot(rows - centre_um[0] / COARSE_UM, cols - centre_um[1] / COARSE_UM)
    reach = float(np.sqrt(size / np.pi))
    distance = distance + 0.16 * reach * smooth_noise(rng, free.shape, 350.0)
    return _lowest(distance, free, size)


def _lowest(values: FloatArray, among: BoolArray, size: int) -> BoolArray:
    """Return the `size` cells of `among` with the lowest values."""
    chosen = np.zeros(among.shape, bool)
    cells = np.flatnonzero(among)
    chosen.flat[cells[np.argsort(values.flat[cells], kind="stable")[:size]]] = True
    return chosen


def _lay_islands(kinds: npt.NDArray[np.uint8], place: BoolArray, site: _Site, recipe: _Recipe, rng: Generator) -> None:
    """Lay exact shares of a site's cells as islands: crowded on the noise's hills, lymphoid in its valleys.

    The islands of either tissue look the same whether or not the other one is there.
    """
    noise = smooth_noise(rng, place.shape, _ISLAND_UM).astype(np.float64)
    size = np.count_nonzero(place)
    if site.crowded:
        kinds[_lowest(-noise, place, round(recipe.crowded_in_site * size))] = Kind.CROWDED
    if site.lymphoid:
        kinds[_lowest(noise, place, round(recipe.lymphoid_in_site * size))] = Kind.LYMPHOID


def _lay_adipose(kinds: npt.NDArray[np.uint8], taken: BoolArray, recipe: _Recipe, rng: Generator) -> None:
    """Lay fat at the border of the tissue, clear of the sites."""
    tissue = kinds != Kind.GLASS
    depth = ndimage.distance_transform_edt(tissue) * COARSE_UM
    apart = ndimage.distance_transform_edt(~taken) * COARSE_UM
    free = tissue & (apart > 80.0)
    starts = np.argwhere(free & (depth < 120.0) & (apart > 0.6 * float(apart[free].max())))
    start = starts[rng.integers(len(starts))] * COARSE_UM if len(starts) else np.argwhere(free)[0] * COARSE_UM
    size = round(recipe.adipose * np.count_nonzero(tissue))
    kinds[_grown(free, (float(start[0]), float(start[1])), size, rng)] = Kind.ADIPOSE


def _lay_glands(kinds: npt.NDArray[np.uint8], taken: BoolArray, recipe: _Recipe, rng: Generator) -> FloatArray:
    """Choose the recipe's number of places for glands in free stroma, thick in some quarters and thin in others."""
    extent = np.array(kinds.shape) * COARSE_UM
    n_rows, n_cols = (extent / (_GLAND_SPACING_UM * np.array([0.88, 1.0]))).astype(int)
    rows, cols = np.meshgrid(np.arange(n_rows), np.arange(n_cols), indexing="ij")
    grid = np.column_stack([0.88 * rows.ravel(), (cols + 0.5 * (rows % 2)).ravel()]) * _GLAND_SPACING_UM
    grid += rng.uniform(0, _GLAND_SPACING_UM, 2) + rng.uniform(-13.0, 13.0, grid.shape)
    radii = rng.uniform(28.0, 44.0, len(grid))
    room = ndimage.distance_transform_edt((kinds == Kind.STROMA) & ~taken) * COARSE_UM
    quarters = smooth_noise(rng, kinds.shape, 1100.0) + 0.25 * smooth_noise(rng, kinds.shape, 200.0)
    at = tuple(np.clip((grid / COARSE_UM).astype(int), 0, np.array(kinds.shape) - 1).T)
    fits = np.flatnonzero(room[at] > radii + 14.0)
    n_glands = round(recipe.glands * np.count_nonzero(kinds) * COARSE_UM**2 / _GLAND_SPACING_UM**2)
    chosen = fits[np.argsort(-quarters[at][fits], kind="stable")[:n_glands]]
    return np.column_stack([grid[chosen], radii[chosen]])


def _lay_vessels(
    kinds: npt.NDArray[np.uint8], taken: BoolArray, glands: FloatArray, recipe: _Recipe, rng: Generator
) -> FloatArray:
    """Choose places for blood vessels in stroma between the glands."""
    depth = ndimage.distance_transform_edt((kinds == Kind.STROMA) & ~taken) * COARSE_UM
    places = np.argwhere(depth > 25.0)
    placed = list(glands)
    for radius in rng.uniform(13.0, 34.0, recipe.n_vessels):
        cells = places[rng.integers(len(places), size=_N_CANDIDATES)]
        centres = np.array(placed).reshape(-1, 3)
        room = np.hypot(*(cells[:, None] * COARSE_UM - centres[:, :2]).T).T - centres[:, 2]
        spare = np.minimum(room.min(axis=1, initial=1e6), depth[tuple(cells.T)]) - radius
        best = int(np.argmax(spare > 12.0)) if (spare > 12.0).any() else int(np.argmax(spare))
        placed.append(np.array([*cells[best] * COARSE_UM, radius]))
    return np.array(placed[len(glands) :]).reshape(-1, 3)
