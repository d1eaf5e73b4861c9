"""How a drawn slide looks: from a plan of tissues to the colours of hematoxylin and eosin.

Amounts of the two stains are drawn first, as optical densities: smooth ground for each tissue, wavy fibres, glands,
and a stamped picture for every nucleus. Colours follow from the stains' own vectors by Beer and Lambert's law, so a
slide's staining varies without touching what is on it. Lengths are in µm; (row, col) everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_prospector.tokens.arrangement import Kind, Plan
from napari_prospector.tokens.brushes import (
    COARSE_UM,
    N_ANGLES,
    N_VARIANTS,
    TEXTURE_PX,
    Outline,
    draw_nuclei,
    enlarged,
    fibre_texture,
    jittered_grid,
    smooth_noise,
    soft_disc,
)

__all__ = ["Stain", "draw_stain", "render"]

_BAND_PX = 64

FloatArray = npt.NDArray[np.float32]
Generator = np.random.Generator


@dataclass(frozen=True)
class Stain:
    """How a slide was stained and scanned.

    Attributes
    ----------
    vectors
        (2, 3): optical density of hematoxylin and of eosin in red, green and blue, each of length 1.
    strengths
        Factors of the two amounts.
    glass
        (3,): colour of empty glass, 0-255.
    noise
        Standard deviation of the scanner's noise, grey levels.
    """

    vectors: FloatArray
    strengths: tuple[float, float]
    glass: FloatArray
    noise: float


def draw_stain(rng: Generator) -> Stain:
    """Draw a laboratory's staining: hues, strengths and scanner vary as they do between hospitals."""
    vectors = np.array([[0.60, 0.73, 0.33], [0.14, 0.83, 0.42]]) + rng.normal(0, 0.04, (2, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strengths = np.exp(rng.normal(0, 0.16, 2))
    glass = rng.uniform(240, 248) + rng.normal(0, 1.2, 3)
    return Stain(
        vectors=vectors.astype(np.float32),
        strengths=(float(strengths[0]), float(strengths[1])),
        glass=glass.astype(np.float32),
        noise=float(rng.uniform(1.2, 2.6)),
    )


def render(plan: Plan, stain: Stain, rng: Generator, shape: tuple[int, int], mpp: float) -> npt.NDArray[np.uint8]:
    """Draw the slide.

    Parameters
    ----------
    plan
        Where the tissues lie; it covers `shape`.
    stain
        The colours.
    rng
        Decides every fibre and nucleus.
    shape
        (rows, cols), px.
    mpp
        µm per px.

    Returns
    -------
    npt.NDArray[np.uint8]
        (rows, cols, 3), RGB.
    """
    canvas = _Canvas(plan, rng, shape, mpp)
    canvas.lay_ground()
    canvas.lay_adipose()
    canvas.lay_vessels()
    canvas.lay_glands()
    canvas.lay_crowded()
    canvas.lay_lymphoid()
    canvas.lay_stromal_cells()
    return _developed(canvas.hematoxylin, canvas.eosin, stain, rng)


# Amounts of (hematoxylin, eosin) that the ground of each tissue takes up, optical density.
_GROUND = {
    Kind.GLASS: (0.0, 0.0),
    Kind.STROMA: (0.05, 0.34),
    Kind.ADIPOSE: (0.01, 0.05),
    Kind.CROWDED: (0.22, 0.34),
    Kind.LYMPHOID: (0.16, 0.22),
}
# How much of the fibres shows through.
_FIBRES = {Kind.GLASS: 0.0, Kind.STROMA: 1.0, Kind.ADIPOSE: 0.05, Kind.CROWDED: 0.25, Kind.LYMPHOID: 0.35}


class _Canvas:
    """The two amounts, (rows, cols) float32 each, and the tissues laid upon them one after the other."""

    def __init__(self, plan: Plan, rng: Generator, shape: tuple[int, int], mpp: float) -> None:
        self.plan = plan
        self.rng = rng
        self.shape = shape
        self.mpp = mpp
        self.hematoxylin = np.zeros(shape, np.float32)
        self.eosin = np.zeros(shape, np.float32)
        # How far, µm, the fibres are bent aside along rows and columns: long swings, short ripples.
        swings = [
            (smooth_noise(rng, plan.kinds.shape, 420.0), smooth_noise(rng, plan.kinds.shape, 110.0)) for _ in "rc"
        ]
        self._wave = np.stack([38.0 * long + 5.5 * short for long, short in swings])
        self._angle = rng.uniform(0, np.pi)
        self._pictures: dict[str, list[list[FloatArray]]] = {}

    def lay_ground(self) -> None:
        """Lay each tissue's even colour, the fibres in it and the crisp edge to the glass."""
        kinds = self.plan.kinds
        patches = 1 + 0.13 * smooth_noise(self.rng, kinds.shape, 420.0)
        ground = np.array([(*_GROUND[kind], _FIBRES[kind]) for kind in Kind], np.float32)[kinds]
        tissue = ndimage.gaussian_filter((kinds != Kind.GLASS).astype(np.float32), 0.8)
        fields = [ground[..., 0], ground[..., 1] * patches, ground[..., 2] * patches**2, tissue, *self._wave / self.mpp]
        texture = fibre_texture(self.rng, self._angle, self.mpp).ravel()
        grain = smooth_noise(self.rng, (TEXTURE_PX, TEXTURE_PX), 14.0, self.mpp)
        grain = np.tile(grain, (1, self.shape[1] // TEXTURE_PX + 1))[:, : self.shape[1]]
        cols = np.arange(self.shape[1])
        spans = [cols[start : start + _BAND_PX] for start in range(0, len(cols), _BAND_PX)]
        wide = [np.concatenate([enlarged(field.T, span, self.mpp) for span in spans]).T.copy() for field in fields]
        for start in range(0, self.shape[0], _BAND_PX):
            rows = np.arange(start, min(start + _BAND_PX, self.shape[0]))
            h, e, fibres, tissue, d_row, d_col = (enlarged(field, rows, self.mpp) for field in wide)
            d_row += rows[:, None]
            d_col += cols
            # A power of two, so that the texture repeats by a mask of bits.
            at = (d_row.astype(np.int32) & TEXTURE_PX - 1) * TEXTURE_PX + (d_col.astype(np.int32) & TEXTURE_PX - 1)
            rough = grain[start % TEXTURE_PX :][: len(rows)]
            inside = tissue + 0.12 * rough > 0.5
            self.eosin[rows] = np.maximum(e + fibres * texture.take(at), 0.01) * inside
            self.hematoxylin[rows] = (h * (1 + 0.3 * rough) + 0.02 * fibres) * inside

    def lay_adipose(self) -> None:
        """Lay fat cells: polygons of nothing between thin walls."""
        inside = ndimage.gaussian_filter((self.plan.kinds == Kind.ADIPOSE).astype(np.float32), 0.7)
        centres = jittered_grid(self.rng, self._extent_um(), 68.0, jitter=0.32)
        for row, col in centres[self._at(centres, Kind.ADIPOSE)]:
            window, rows, cols = self._window(row, col, 52.0)
            distance = np.abs(centres - (row, col)).max(axis=1)
            near = centres[(distance > 0) & (distance < 130.0)]
            others = np.hypot(rows[:, None, None] - near[:, 0], cols[None, :, None] - near[:, 1]).min(axis=2)
            deep = others - np.hypot(rows[:, None] - row, cols[None] - col)
            wall = np.clip(deep / 6.0, 0, 1)
            within = (deep >= 0) & (self._coarse_value(inside, rows, cols) > 0.4)
            for amount, at_wall in ((self.hematoxylin, 0.05), (self.eosin, 0.34)):
                part = amount[window]
                part[within] = (at_wall * (1 - wall) + 0.004)[within]

    def lay_vessels(self) -> None:
        """Lay blood vessels: an empty or blood-filled middle, a thin wall, flat nuclei."""
        for row, col, radius in self.plan.vessels:
            outline = Outline.draw(self.rng, row, col, radius, 0.3)
            depth, window = self._depth(outline)
            wall = np.clip(depth / 2.5, 0, 1)
            self.eosin[window] += wall * (0.01 - self.eosin[window])
            self.hematoxylin[window] *= 1 - wall
            self.eosin[window] += 0.28 * np.exp(-((depth + 3.0) ** 2) / 9.0)
            if self.rng.random() < 0.6:
                self._fill_with_blood(row, col, radius)
            self._nuclei_around(outline, radius + 1.0, 15.0, "spindle")

    def lay_glands(self) -> None:
        """Lay normal glands: lumen, mucin-filled goblet cells, a ring of basal nuclei, a cleft around."""
        for row, col, radius in self.plan.glands:
            outline = Outline.draw(self.rng, row, col, radius, 0.26)
            depth, window = self._depth(outline)
            thickness = min(24.0, 0.62 * radius)
            inside = np.clip(depth / 1.5, 0, 1)
            lumen = np.clip((depth - thickness) / 2.0, 0, 1)
            cleft = np.exp(-((depth + 2.0) ** 2) / 4.0)
            for amount, cell, middle, loss in ((self.hematoxylin, 0.17, 0.03, 0.2), (self.eosin, 0.30, 0.04, 0.45)):
                part = amount[window]
                part *= 1 - loss * cleft
                part += inside * (cell - part)
                part += lumen * (middle - part)
            self._goblets(outline, radius - 0.52 * thickness, thickness)
            self._nuclei_around(outline, radius - 4.5, 7.0, "basal")
            self._nuclei_around(outline, radius + 11.0, 26.0, "lymphocyte")

    def lay_crowded(self) -> None:
        """Lay crowded epithelium: punched-out lumens, then large irregular nuclei wherever there is none."""
        holes = jittered_grid(self.rng, self._extent_um(), 58.0, jitter=0.4)
        for row, col in holes[self._at(holes, Kind.CROWDED)]:
            depth, window = self._depth(Outline.draw(self.rng, row, col, self.rng.uniform(5.0, 15.0), 0.5))
            lumen = np.clip(depth / 1.5, 0, 1)
            self.eosin[window] += lumen * (0.03 - self.eosin[window])
            self.hematoxylin[window] += lumen * (0.02 - self.hematoxylin[window])
        points = jittered_grid(self.rng, self._extent_um(), 10.6, jitter=0.40)
        points = points[self._at(points, Kind.CROWDED)]
        points = points[self.eosin[self._pixel(points)] > 0.12]
        self._stamp(points, self._sprites("pleomorphic"), self.rng.integers(N_ANGLES, size=len(points)))

    def lay_lymphoid(self) -> None:
        """Lay small, dark, round nuclei shoulder to shoulder."""
        points = jittered_grid(self.rng, self._extent_um(), 7.4, jitter=0.4)
        points = points[self._at(points, Kind.LYMPHOID) & (self.rng.random(len(points)) < 0.92)]
        self._stamp(points, self._sprites("lymphocyte"), self.rng.integers(N_ANGLES, size=len(points)))

    def lay_stromal_cells(self) -> None:
        """Lay spindle nuclei along the fibres, and a lymphocyte here and there."""
        points = jittered_grid(self.rng, self._extent_um(), 25.0, jitter=0.5)
        points = points[self._at(points, Kind.STROMA)]
        points = points[self.eosin[self._pixel(points)] > 0.2]  # not within lumens, mucin and vessels
        angles = self._fibre_angles(points) + self.rng.normal(0, 0.2, len(points))
        turn = np.rint(angles / np.pi * N_ANGLES).astype(int) % N_ANGLES
        wandering = self.rng.random(len(points)) < 0.16
        self._stamp(points[~wandering], self._sprites("spindle"), turn[~wandering])
        self._stamp(points[wandering], self._sprites("lymphocyte"), turn[wandering])

    def _fill_with_blood(self, row: float, col: float, radius: float) -> None:
        """Lay red cells in a vessel: eosin without a nucleus."""
        points = jittered_grid(self.rng, (2 * radius, 2 * radius), 6.6, jitter=0.35) - radius
        points = points[np.hypot(points[:, 0], points[:, 1]) < radius - 6.0] + (row, col)
        cell = 0.62 * soft_disc(3.3, self.mpp)
        for window in self._squares(points, len(cell)):
            np.maximum(self.eosin[window], cell, out=self.eosin[window])

    def _goblets(self, outline: Outline, radius: float, thickness: float) -> None:
        """Lay pale drops of mucin in a ring of the epithelium."""
        n = max(3, int(2 * np.pi * radius / 9.5))
        angles = (np.arange(n) + self.rng.uniform(-0.25, 0.25, n)) * 2 * np.pi / n
        points = outline.points(angles[self.rng.random(n) < 0.8], np.array(radius))
        drop = soft_disc(self.rng.uniform(0.2, 0.27) * thickness, self.mpp)
        for window in self._squares(points, len(drop)):
            self.eosin[window] += drop * (0.07 - self.eosin[window])
            self.hematoxylin[window] += drop * (0.08 - self.hematoxylin[window])

    def _nuclei_around(self, outline: Outline, radius: float, spacing: float, kind: str) -> None:
        """Stamp nuclei along an outline: flat ones lie along it, upright ones stand on it."""
        n = max(3, int(2 * np.pi * radius / spacing))
        angles = (np.arange(n) + self.rng.uniform(-0.3, 0.3, n)) * 2 * np.pi / n
        stray = 4.0 if kind == "lymphocyte" else 1.2
        points = outline.points(angles, radius + self.rng.normal(0, stray, n))
        lying = angles + np.pi / 2 if kind == "spindle" else angles
        turn = np.rint(lying / np.pi * N_ANGLES).astype(int) % N_ANGLES
        self._stamp(points, self._sprites(kind), turn)

    def _sprites(self, kind: str) -> list[list[FloatArray]]:
        """Return the pictures of a kind of nucleus by angle and variant, drawn when first asked for."""
        if kind not in self._pictures:
            self._pictures[kind] = draw_nuclei(self.rng, kind, self.mpp)
        return self._pictures[kind]

    def _stamp(
        self, points: npt.NDArray[np.float64], sprites: list[list[FloatArray]], turn: npt.NDArray[np.int64]
    ) -> None:
        """Put a nucleus at each point (n, 2) µm; the darker amount wins where two overlap."""
        variants = self.rng.integers(N_VARIANTS, size=len(points))
        side = len(sprites[0][0])
        for window, angle, variant in zip(self._squares(points, side), turn, variants, strict=True):
            part = self.hematoxylin[window]
            np.maximum(part, sprites[angle][variant], out=part)

    def _squares(self, points: npt.NDArray[np.float64], side: int) -> list[tuple[slice, slice]]:
        """Return the window of `side` px around each point (n, 2) µm; tissue keeps clear of the slide's border."""
        corners = np.clip(np.rint(points / self.mpp - side / 2).astype(int), 0, np.array(self.shape) - side)
        return [(slice(row, row + side), slice(col, col + side)) for row, col in corners]

    def _depth(self, outline: Outline) -> tuple[FloatArray, tuple[slice, slice]]:
        """Return how deep each px lies inside an outline (µm, negative outside), and the window of those px."""
        reach = outline.radius * (1 + np.abs(outline.waves[:, 1]).sum()) + 8.0
        window, rows, cols = self._window(outline.row, outline.col, reach)
        d_row, d_col = (rows - outline.row)[:, None], (cols - outline.col)[None]
        edge = outline.factor(np.arctan2(d_row, d_col))
        return (outline.radius * (1 - np.hypot(d_row, d_col) / (outline.radius * edge))).astype(np.float32), window

    def _window(
        self, row: float, col: float, reach: float
    ) -> tuple[tuple[slice, slice], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the px within `reach` µm of a point, and the µm of their rows and columns."""
        spans = [
            slice(max(0, int((at - reach) / self.mpp)), max(0, min(size, int((at + reach) / self.mpp) + 1)))
            for at, size in zip((row, col), self.shape, strict=True)
        ]
        rows, cols = ((np.arange(span.start, span.stop, dtype=np.float64) + 0.5) * self.mpp for span in spans)
        return (spans[0], spans[1]), rows, cols

    def _extent_um(self) -> tuple[float, float]:
        """Return the height and width of the slide."""
        return self.shape[0] * self.mpp, self.shape[1] * self.mpp

    def _pixel(self, points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the px that hold points (n, 2) µm."""
        rows, cols = np.clip((points / self.mpp).astype(np.int64), 0, np.array(self.shape) - 1).T
        return rows, cols

    def _at(self, points: npt.NDArray[np.float64], kind: Kind) -> npt.NDArray[np.bool_]:
        """Whether each point (n, 2) µm lies in a tissue of this kind; borders are a little frayed."""
        frayed = (points + self.rng.normal(0, 2.0, points.shape)) / COARSE_UM
        rows, cols = np.clip(frayed.astype(int), 0, np.array(self.plan.kinds.shape) - 1).T
        return np.asarray(self.plan.kinds[rows, cols] == kind)

    @staticmethod
    def _coarse_value(
        field: FloatArray, rows: npt.NDArray[np.float64], cols: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Return a coarse field at rows × cols (µm)."""
        i = np.clip((rows / COARSE_UM).astype(int), 0, field.shape[0] - 1)
        j = np.clip((cols / COARSE_UM).astype(int), 0, field.shape[1] - 1)
        return np.asarray(field[np.ix_(i, j)], np.float32)

    def _fibre_angles(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the direction of the bent fibres at points (n, 2) µm: atan2(row, col), radians.

        A step v on the slide is a step v + Jv in the texture, J the gradient of the wave; it runs along a fibre where
        that is the texture's own direction.
        """
        rows, cols = np.clip((points / COARSE_UM).astype(int), 0, np.array(self.plan.kinds.shape) - 1).T
        gradient = np.stack([np.stack(np.gradient(wave, COARSE_UM)) for wave in self._wave])
        jacobian = np.moveaxis(gradient[:, :, rows, cols], -1, 0) + np.eye(2)
        along = np.linalg.solve(
            jacobian, np.broadcast_to([[np.sin(self._angle)], [np.cos(self._angle)]], (len(rows), 2, 1))
        )
        return np.asarray(np.arctan2(along[:, 0, 0], along[:, 1, 0]))


def _developed(hematoxylin: FloatArray, eosin: FloatArray, stain: Stain, rng: Generator) -> npt.NDArray[np.uint8]:
    """Turn amounts of stain into RGB, with the optics' slight blur and the scanner's noise."""
    shape = hematoxylin.shape
    density = stain.vectors * np.array(stain.strengths, np.float32)[:, None]
    noise = rng.standard_normal((3, _BAND_PX, shape[1]), dtype=np.float32) * np.float32(stain.noise)
    image = np.empty((*shape, 3), np.uint8)
    for start in range(0, shape[0], _BAND_PX):
        rows = slice(start, min(start + _BAND_PX, shape[0]))
        h, e = _blurred(hematoxylin, rows), _blurred(eosin, rows)
        shift = int(rng.integers(shape[1]))
        for channel in range(3):
            light = h * -density[0, channel]
            light -= e * density[1, channel]
            np.exp(light, out=light)
            light *= stain.glass[channel]
            light[:, shift:] += noise[channel, : len(light), : shape[1] - shift]
            light[:, :shift] += noise[channel, : len(light), shape[1] - shift :]
            image[rows, :, channel] = np.clip(light, 0, 255, out=light)
    return image


def _blurred(amount: FloatArray, rows: slice) -> FloatArray:
    """Return some rows, blurred by (1, 4, 1) / 6 along both axes: about 0.6 px."""
    above, below = min(rows.start, 1), min(amount.shape[0] - rows.stop, 1)
    part = amount[rows.start - above : rows.stop + below]
    part = np.pad(part, ((1 - above, 1 - below), (1, 1)), mode="edge")
    part = part[1:-1] * np.float32(4 / 6) + (part[:-2] + part[2:]) * np.float32(1 / 6)
    return part[:, 1:-1] * np.float32(4 / 6) + (part[:, :-2] + part[:, 2:]) * np.float32(1 / 6)
