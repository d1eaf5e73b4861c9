"""Pictures of a slide beside its maps: slide, prospect map, concepts, truth, all in one frame of level-0 pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.colors import concept_colors, diverging_colors
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.regions import known_truth
from napari_prospector.errors import InvalidInputError, MissingExtraError
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.pyramid import atomic_path
from napari_prospector.tokens.slides import Slide, open_slide
from napari_prospector.tokens.store import TokenGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SlidePicture", "draw_picture", "draw_token_grid", "map_colors", "picture_of"]

_PANEL_INCHES = 4.0
_STRIP_INCHES = 0.85
_GAP_INCHES = 0.12
_TITLE_INCHES = 0.62
_DPI = 150
_OVERVIEW_PX = 900
_MOST_IN_LEGEND = 12
_STACK_ABOVE = 3.0  # width over height of a slide from which panels lie below each other

_TRUTH_COLOR = (0.0, 0.62, 0.45, 1.0)
_UNKNOWN_COLOR = (0.5, 0.5, 0.5, 1.0)
_INK = "#333333"
_GROUND = 0.87
_BLANK_BELOW = 0.02  # of the colour limit: a map whose scores are all smaller looks empty
# names may hold a $, which would start a formula
_TITLE: dict[str, Any] = {"size": 10, "color": _INK, "loc": "left", "pad": 4, "parse_math": False}
_SMALL: dict[str, Any] = {"size": 7, "va": "center", "color": _INK, "parse_math": False}


@dataclass(frozen=True, eq=False)
class SlidePicture:
    """What a picture shows. Arrays of tokens are in the order of the True cells of `mask`.

    Attributes
    ----------
    name, label
        Of the slide.
    geometry
        Where tokens lie.
    slide_shape
        (rows, cols) of level 0.
    mask
        Shape (rows, cols) of the grid: where there are tokens.
    scores
        Shape (n_tokens,).
    limit
        Colours run from -limit to limit, the same for all slides of a head.
    map_name, target
        Which map, and of which class.
    concepts, concept_names
        Shape (n_tokens,), and a name for each concept there is; of merged concepts the representative's.
    n_hidden
        Concepts that count 0 in the map.
    overview, overview_scale
        The slide, (h, w, 3) uint8, and level-0 pixels per pixel (row, col); None: not at hand.
    truth
        Shape (n_tokens,) as in `measures`; None: unknown, and there is no such panel.
    """

    name: str
    label: str
    geometry: GridGeometry
    slide_shape: tuple[int, int]
    mask: NDArray[np.bool_]
    scores: NDArray[np.float64]
    limit: float
    map_name: str
    target: str
    concepts: NDArray[np.integer[Any]]
    concept_names: tuple[str, ...]
    n_hidden: int = 0
    overview: NDArray[np.uint8] | None = None
    overview_scale: tuple[float, float] = (1.0, 1.0)
    truth: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        """Refuse tokens that do not fill the mask."""
        self.geometry.check_shape("mask", self.mask.shape)
        n_tokens = int(self.mask.sum())
        for name, values in (("scores", self.scores), ("concepts", self.concepts), ("truth", self.truth)):
            if values is not None and np.shape(values) != (n_tokens,):
                raise InvalidInputError(f"{name} must have shape ({n_tokens},), one per token; got {np.shape(values)}.")

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of the cells of the grid, in level-0 pixels from the slide's corner."""
        (row, col), half = self.geometry.origin, (self.geometry.tile - self.geometry.stride) / 2
        top, left = row + half, col + half
        stride = self.geometry.stride
        return left, left + self.geometry.cols * stride, top + self.geometry.rows * stride, top


def picture_of(
    head: ProspectorHead,
    grid: TokenGrid,
    slide: Slide | None = None,
    *,
    map_name: str | None = None,
    target: Hashable | None = None,
    truth: ArrayLike | None = None,
    label: str = "",
) -> SlidePicture:
    """Apply a head to a slide's tokens and gather what a picture shows.

    Parameters
    ----------
    head
        Fitted on the same encoder.
    grid
        The tokens.
    slide
        For the panel of the slide; None: without.
    map_name, target
        As in `ProspectorHead.prospect`.
    truth
        Shape (n_tokens,): 1 or True positive, 0 or False negative, -1 unknown.
    label
        Of the slide.

    Returns
    -------
    SlidePicture
    """
    graph = grid.graph()
    map_name = head.best_map_ if map_name is None else map_name
    shown = head.target_ if target is None else target
    rows, cols = grid.attrs["level0_shape"]
    overview, scale = None, (1.0, 1.0)
    if slide is not None:
        overview, scale = slide.overview(max(1.0, max(slide.shape) / _OVERVIEW_PX))
    return SlidePicture(
        name=str(grid.attrs["slide_name"]),
        label=label,
        geometry=grid.geometry,
        slide_shape=(int(rows), int(cols)),
        mask=grid.mask,
        scores=head.prospect(graph, map_name, target),
        limit=head.color_limits_[map_name],
        map_name=map_name,
        target=str(shown),
        concepts=head.concept_edits_.merged(head.concepts(graph)),
        concept_names=head.concept_names_,
        n_hidden=len(set(map(head.concept_edits_.name, head.concept_edits_.hidden))),
        overview=overview,
        overview_scale=scale,
        truth=None if truth is None else known_truth(truth),
    )


def draw_token_grid(
    path: str | os.PathLike[str],
    head: ProspectorHead,
    store: str | os.PathLike[str],
    slide: str | os.PathLike[str] | None = None,
    *,
    map_name: str | None = None,
    target: Hashable | None = None,
    slide_mpp: float | None = None,
    truth: ArrayLike | None = None,
    label: str = "",
) -> Path:
    """Draw the map of one slide from its files.

    Parameters
    ----------
    path
        PNG to write.
    store, slide
        Token grid, and the slide itself for its panel.
    slide_mpp
        µm per level-0 pixel, for a slide that states none.
    head, map_name, target, truth, label
        As in `picture_of`.

    Returns
    -------
    Path
        The PNG.
    """
    with TokenGrid.open(store, without=head.card_.get("without", {})) as grid:
        if slide is None:
            return draw_picture(
                path, picture_of(head, grid, None, map_name=map_name, target=target, truth=truth, label=label)
            )
        with open_slide(slide, slide_mpp) as opened:
            return draw_picture(
                path, picture_of(head, grid, opened, map_name=map_name, target=target, truth=truth, label=label)
            )


def map_colors(scores: ArrayLike, limit: float) -> NDArray[np.float64]:
    """Return the colour of each score, (n_tokens, 3): near-white at 0, darkest from `limit` on."""
    colors = diverging_colors(257)
    share = np.asarray(scores, dtype=np.float64) / limit if limit > 0 else np.zeros(np.shape(scores))
    return colors[np.rint(128 + 128 * np.clip(share, -1, 1)).astype(np.int64)]


def draw_picture(path: str | os.PathLike[str], picture: SlidePicture) -> Path:
    """Write slide, prospect map, concepts and truth side by side as one PNG.

    Parameters
    ----------
    path
        File to write; it appears whole or not at all.
    picture
        What to show. Slide and truth have a panel only where they are known.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    StorageError
        The file cannot be written.
    """
    figure = _figure(picture)
    with atomic_path(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(partial, format="png", dpi=_DPI, metadata={"Title": _headline(picture), "Software": None})
    return Path(path)


def _figure(picture: SlidePicture) -> Figure:
    """Lay out and draw all panels."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Pictures need matplotlib. Install it: pip install matplotlib") from error

    draw = [_draw_map, _draw_concepts]
    if picture.overview is not None:
        draw.insert(0, _draw_slide)
    if picture.truth is not None:
        draw.append(_draw_truth)
    frames, strips, size = _layout(len(draw), picture.slide_shape[1] / picture.slide_shape[0])
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    for paint, frame, strip in zip(draw, frames, strips, strict=True):
        axes, below = figure.add_axes(frame), figure.add_axes(strip)
        below.axis("off")
        _frame(axes, picture)
        paint(axes, below, picture)
    place = _GAP_INCHES / size[0], 1 - 0.1 / size[1]
    figure.text(*place, _headline(picture), size=11, weight="bold", va="top", color=_INK, parse_math=False)
    return figure


def _headline(picture: SlidePicture) -> str:
    """Name the slide, its label, and the map that is shown."""
    label = f" ({picture.label})" if picture.label else ""
    return f"{picture.name}{label}: {picture.map_name} for {picture.target}"


Frame = tuple[float, float, float, float]


def _layout(n_panels: int, aspect: float) -> tuple[list[Frame], list[Frame], tuple[float, float]]:
    """Return the frames of equal panels, of the strip below each, in shares of the figure, and its size in inches."""
    stacked = aspect > _STACK_ABOVE
    wide = _PANEL_INCHES * (2 if stacked else 1)
    high = wide / aspect
    block = high + _STRIP_INCHES
    n_cols, n_rows = (1, n_panels) if stacked else (n_panels, 1)
    size = (n_cols * (wide + _GAP_INCHES) + _GAP_INCHES, n_rows * (block + 0.3) + _TITLE_INCHES - 0.3)
    frames, strips = [], []
    for i in range(n_panels):
        left = _GAP_INCHES + (0 if stacked else i * (wide + _GAP_INCHES))
        top = _TITLE_INCHES + (i * (block + 0.3) if stacked else 0)
        frames.append((left / size[0], 1 - (top + high) / size[1], wide / size[0], high / size[1]))
        strips.append((left / size[0], 1 - (top + block) / size[1], wide / size[0], _STRIP_INCHES / size[1]))
    return frames, strips, size


def _frame(axes: Axes, picture: SlidePicture) -> None:
    """Give a panel the frame that all panels share: the slide's level 0, row 0 at the top."""
    axes.set(xlim=(0, picture.slide_shape[1]), ylim=(picture.slide_shape[0], 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.6)


def _lay(axes: Axes, picture: SlidePicture, colors: NDArray[np.float64]) -> None:
    """Paint the cells of all tokens in colors (n_tokens, 3 or 4)."""
    canvas = np.zeros((*picture.mask.shape, 4))
    canvas[picture.mask, : colors.shape[1]] = colors
    if colors.shape[1] == 3:
        canvas[picture.mask, 3] = 1
    axes.imshow(canvas, extent=picture.extent, interpolation="nearest", aspect="auto", zorder=2)
    _frame(axes, picture)


def _backdrop(axes: Axes, picture: SlidePicture, strength: float) -> None:
    """Paint the slide; where `strength` is below 1 pale and on grey, so that what is painted over stands out."""
    axes.set_facecolor((_GROUND,) * 3 if strength < 1 else "white")
    if picture.overview is None:
        return
    image = picture.overview.astype(np.float64) / 255
    if strength < 1:
        image = _GROUND * (1 - strength * (1 - image.mean(axis=2, keepdims=True).repeat(3, axis=2)))
    rows, cols = (n * scale for n, scale in zip(image.shape[:2], picture.overview_scale, strict=True))
    axes.imshow(image, extent=(0, cols, rows, 0), interpolation="antialiased", aspect="auto", zorder=1)
    _frame(axes, picture)


def _draw_slide(axes: Axes, below: Axes, picture: SlidePicture) -> None:
    """Draw the slide with a scale bar."""
    _backdrop(axes, picture, 1)
    axes.set_title("slide", **_TITLE)
    width_um = picture.slide_shape[1] * picture.geometry.slide_mpp
    bar = _round_length(width_um / 4)
    share = bar / width_um
    below.set(xlim=(0, 1), ylim=(0, 1))
    below.plot([0, share], [0.8, 0.8], color=_INK, linewidth=2.5, solid_capstyle="butt")
    below.text(0, 0.7, f"{bar / 1000:g} mm" if bar >= 1000 else f"{bar:g} µm", size=8, va="top", color=_INK)


def _round_length(um: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above `um`."""
    power = 10.0 ** np.floor(np.log10(um))
    return float(power * max(step for step in (1, 2, 5) if step * power <= um * (1 + 1e-9)))


def _draw_map(axes: Axes, below: Axes, picture: SlidePicture) -> None:
    """Draw the prospect map, the outline of the truth on it, and its colours."""
    _backdrop(axes, picture, 0.25)
    _lay(axes, picture, map_colors(picture.scores, picture.limit))
    _outline(axes, picture)
    axes.set_title(_fitting(f"{picture.map_name} for {picture.target}"), **_TITLE)
    limit = picture.limit or 1.0
    below.imshow(diverging_colors(257)[None], extent=(-limit, limit, 0.72, 0.9), aspect="auto")
    below.set(xlim=(-limit, limit), ylim=(0, 1))
    remarks = [] if picture.n_hidden == 0 else [f"{picture.n_hidden} concept{'s' * (picture.n_hidden > 1)} hidden"]
    if picture.truth is not None and (picture.truth == 1).any():
        remarks.append("truth outlined")
    if np.abs(picture.scores).max(initial=0) <= _BLANK_BELOW * picture.limit:
        remarks.append("blank: all scores near 0")
    ends = ((-picture.limit, "left", "against"), (0.0, "center", ", ".join(remarks)), (picture.limit, "right", "for"))
    for value, side, words in ends:
        below.text(value, 0.66, f"{value:+.3g}" if value else "0", size=8, ha=side, va="top", color=_INK)
        below.text(value, 0.4, words, size=8, ha=side, va="top", color=_INK)


def _outline(axes: Axes, picture: SlidePicture) -> None:
    """Draw the border between positive cells and the rest, along the edges of cells."""
    if picture.truth is None:
        return
    positive = np.zeros(np.add(picture.mask.shape, 2), dtype=bool)
    positive[1:-1, 1:-1][picture.mask] = picture.truth == 1
    left, _, _, top = picture.extent
    stride = picture.geometry.stride
    # between rows r - 1 and r of the grid lies the line at top + r * stride
    rows, cols = np.nonzero(positive[1:, 1:-1] != positive[:-1, 1:-1])
    y, x = top + rows * stride, left + cols * stride
    segments = [np.stack([np.stack([x, y], 1), np.stack([x + stride, y], 1)], 1)]
    rows, cols = np.nonzero(positive[1:-1, 1:] != positive[1:-1, :-1])
    y, x = top + rows * stride, left + cols * stride
    segments.append(np.stack([np.stack([x, y], 1), np.stack([x, y + stride], 1)], 1))
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(list(np.concatenate(segments)), colors="black", linewidths=0.9, zorder=3))


def _draw_concepts(axes: Axes, below: Axes, picture: SlidePicture) -> None:
    """Draw the concepts, and name the most frequent ones."""
    _backdrop(axes, picture, 0.25)
    colors = concept_colors(len(picture.concept_names))
    _lay(axes, picture, colors[picture.concepts])
    frequent = np.argsort(-np.bincount(picture.concepts, minlength=len(colors)), kind="stable")
    present = [c for c in frequent if (picture.concepts == c).any()]
    n_groups = len(set(picture.concept_names))  # merged concepts share a name
    axes.set_title(f"concepts ({len(present)} of {n_groups} occur)", **_TITLE)
    below.set(xlim=(0, 3), ylim=(0, 4.2))
    for place, concept in enumerate(present[:_MOST_IN_LEGEND]):
        col, row = divmod(place, 4)
        below.add_patch(_swatch((col, 3.3 - row), colors[concept]))
        below.text(col + 0.13, 3.55 - row, _short(picture.concept_names[concept]), **_SMALL)


def _draw_truth(axes: Axes, below: Axes, picture: SlidePicture) -> None:
    """Draw positive tokens, and in grey those of unknown truth."""
    truth = np.asarray(picture.truth)
    _backdrop(axes, picture, 0.45)
    colors = np.zeros((truth.size, 4))
    colors[truth == 1] = _TRUTH_COLOR
    colors[truth == -1] = _UNKNOWN_COLOR
    if picture.overview is None:
        colors[truth == 0] = (0.93, 0.93, 0.93, 1)
    _lay(axes, picture, colors)
    known = truth >= 0
    share = f"{(truth == 1).sum() / known.sum():.1%} of tokens" if known.any() else "nothing known"
    axes.set_title(_fitting(f"truth: {picture.target}"), **_TITLE)
    below.set(xlim=(0, 3), ylim=(0, 4.2))
    below.add_patch(_swatch((0, 3.3), _TRUTH_COLOR))
    below.text(0.13, 3.55, f"{picture.target}: {share}", **_SMALL)
    if not known.all():
        below.add_patch(_swatch((0, 2.3), _UNKNOWN_COLOR))
        below.text(0.13, 2.55, "unknown", **_SMALL)


def _swatch(place: tuple[float, float], color: Sequence[float] | NDArray[np.float64]) -> Any:
    """Return a little square for a legend."""
    from matplotlib.patches import Rectangle

    return Rectangle(place, 0.09, 0.5, facecolor=tuple(color), edgecolor="none")


def _short(name: str) -> str:
    """Cut a name to what fits a legend."""
    return name if len(name) <= 17 else name[:16] + "…"


def _fitting(title: str) -> str:
    """Cut a title to what fits over a panel."""
    return title if len(title) <= 48 else title[:47] + "…"
