"""Map and concept layers of a million tokens in a real viewer: the first frame, and the one after a change of weights.

Promises: a layer is made, added and drawn within 1 s; after a concept is hidden or shown the map is computed, set and
drawn within 100 ms. *ours* is the time in our own code, *napari* what napari takes until the layer is added or its data
set, *frame* from there to the end of the first frame that shows it, which is the work of napari, vispy and OpenGL (on a
screen without a GPU: of the processor). *CPU* is what all threads of the process spent on all three together, and
*fastest* the least disturbed one: they tell what a machine that is busy with other work hides. The alternatives that
were not taken are measured in the same run: a pyramid of the same layer, and filling the old array with a `refresh`
instead of setting a new one.

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/layers.py
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_prospector._napari.layers import Placement, concept_layer, map_layer
from napari_prospector._napari.painter import MapPainter
from napari_prospector._napari.repaint import recolor_concepts, repaint_map
from napari_prospector.core.graph import TokenGraph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.tokens.geometry import GridGeometry

N_DIMS, N_CONCEPTS = 16, 20
FIRST_SHOW_S, CHANGE_S = 1.0, 0.1
SCREEN = (1280, 800)


def blobs(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth random field (side, side): tissue comes in patches, not in single tokens."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(rng.random((side, side)), side / 40))


def draw_graph(n_tokens: int, rng: np.random.Generator) -> TokenGraph:
    """Draw a slide of about `n_tokens` tokens, 70 % of its grid tissue, in patches of 20 kinds."""
    side = round((n_tokens / 0.7) ** 0.5)
    tissue, kinds = blobs(side, rng), blobs(side, rng)
    mask = tissue > np.quantile(tissue, 1 - n_tokens / side**2)
    kind = np.digitize(kinds, np.quantile(kinds, np.linspace(0, 1, N_CONCEPTS + 1)[1:-1]))[mask]
    centres = 5 * rng.normal(size=(N_CONCEPTS, N_DIMS))
    return grid_graph(mask, (centres[kind] + rng.normal(size=(len(kind), N_DIMS))).astype(np.float32))


def fit_head(rng: np.random.Generator, radius: int) -> ProspectorHead:
    """Fit a head to small slides of the same kinds; what it has learned does not matter here."""
    graphs = [draw_graph(600, rng) for _ in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ProspectorHead(n_concepts=N_CONCEPTS, radius=radius, refine=False).fit(graphs, ["normal", "tumour"] * 4)


class Spent(NamedTuple):
    """Seconds of one step in our code, in napari's, until the frame was drawn, and of all processors."""

    ours: float
    napari: float
    frame: float
    cpu: float

    @property
    def wall(self) -> float:
        """All three parts."""
        return self.ours + self.napari + self.frame


class Stopwatch:
    """Times what is done to a viewer until the frame that shows it is drawn."""

    def __init__(self, viewer: Any) -> None:
        from qtpy.QtWidgets import QApplication

        self._process: Callable[[], None] = QApplication.processEvents
        self._frames = 0
        self._viewer = viewer
        viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(self._count, position="last")

    def _count(self, event: Any) -> None:
        """Count a frame."""
        self._frames += 1

    def settle(self, seconds: float = 0.4) -> None:
        """Let the viewer finish what it is at."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._process()
            time.sleep(0.005)

    def steps(self, ours: Callable[[], Any], theirs: Callable[[Any], object]) -> Spent:
        """Time our part, napari's with what ours returned, and the frame."""
        self.settle()
        start, cpu = time.perf_counter(), time.process_time()
        made = ours()
        made_at = time.perf_counter()
        self._frames = 0
        theirs(made)
        set_at = time.perf_counter()
        while not self._frames:
            self._process()
        return Spent(made_at - start, set_at - made_at, time.perf_counter() - set_at, time.process_time() - cpu)


def pyramid(layer: tuple[Any, dict[str, Any], str]) -> tuple[Any, dict[str, Any], str]:
    """Return the same layer as levels of every second cell."""
    array, arguments, kind = layer
    levels = [array]
    while max(levels[-1].shape) > 256 or len(levels) < 2:
        levels.append(levels[-1][::2, ::2])
    return levels, {**arguments, "multiscale": True}, kind


Timed = dict[str, list[Spent]]


def first_shows(watch: Stopwatch, viewer: Any, made: dict[str, Callable[[], Any]], rounds: int) -> Timed:
    """Make, add and draw each layer; the first round counts too: it is what people meet."""
    from napari.layers import Layer

    timed: Timed = {name: [] for name in made}
    for _ in range(rounds):
        for name, make in made.items():
            timed[name].append(watch.steps(make, lambda one: viewer.add_layer(Layer.create(*one))))
            viewer.layers.pop()
    return timed


def changes(watch: Stopwatch, viewer: Any, painter: MapPainter, made: dict[str, Callable[[], Any]]) -> Timed:
    """Hide every concept in turn, and draw; then set off every concept in turn."""
    from napari.layers import Layer

    layer, concepts, levels = (
        viewer.add_layer(Layer.create(*made[name]())) for name in ("map", "concepts", "map, as a pyramid")
    )
    edits = painter.head.concept_edits_
    timed: Timed = {}

    def note(name: str, shown: Any, ours: Callable[[], Any], theirs: Callable[[Any], object]) -> None:
        for one in (layer, concepts, levels):
            one.visible = one is shown
        timed.setdefault(name, []).append(watch.steps(ours, theirs))

    def refill(scores: np.ndarray) -> None:
        layer.data[:] = scores
        layer.refresh()

    def relevel(scores: np.ndarray) -> None:
        levels.data = pyramid((scores, {}, ""))[0]

    for concept in range(edits.n_concepts):
        hidden = edits.hide(concept)

        def draw(hidden: Any = hidden) -> Any:
            return painter.scores("evidence", edits=hidden)

        note("map, a concept hidden", layer, draw, lambda scores: repaint_map(layer, scores))
        note("… the old array filled", layer, draw, refill)
        note("… as a pyramid", levels, draw, relevel)
        shown = edits.highlight(concept)
        note("concepts, one highlighted", concepts, lambda: shown, lambda one: recolor_concepts(concepts, one))
    return timed


def add_slide(viewer: Any, shape: tuple[int, int]) -> None:
    """Show a slide of noise under the grid: nobody looks at a map without one."""
    level = np.random.default_rng(1).integers(120, 250, (2048, 2048, 3), dtype=np.uint8)
    levels = [level[:: 1 << number, :: 1 << number] for number in range(4)]
    scale = [112 * side / 2048 for side in shape]
    viewer.add_image(levels, rgb=True, multiscale=True, scale=scale, units=("µm", "µm"))


def makers(painter: MapPainter) -> dict[str, Callable[[], Any]]:
    """Return what makes each layer."""
    geometry = GridGeometry(*painter.shape, tile=224, stride=224, origin=(0, 0), slide_mpp=0.5)
    placement, concepts = Placement.of_mpp(0.5), painter.concept_grid()
    limit = painter.head.color_limits_["evidence"]

    def map_made() -> Any:
        scores = painter.scores("evidence")
        return map_layer(scores, geometry, placement, slide="slide", map="evidence", limit=limit)

    def concepts_made() -> Any:
        return concept_layer(concepts, [], geometry, placement, slide="slide", edits=painter.head.concept_edits_)

    return {
        "map": map_made,
        "map, as a pyramid": lambda: pyramid(map_made()),
        "concepts": concepts_made,
        "concepts, as a pyramid": lambda: pyramid(concepts_made()),
    }


def report(console: Console, title: str, timed: Timed, bars: dict[str, float]) -> None:
    """Print medians and the slowest."""
    table = Table("", "ours", "napari", "frame", "CPU", "fastest", "median", "slowest", "bar", title=title)
    for name, rows in timed.items():
        parts = [f"{1000 * statistics.median(part):.0f}" for part in zip(*rows, strict=True)]
        walls = [1000 * row.wall for row in rows]
        bar = f"≤ {1000 * bars[name]:.0f}" if name in bars else "not taken"
        table.add_row(name, *parts, f"{min(walls):.0f}", f"{statistics.median(walls):.0f}", f"{max(walls):.0f}", bar)
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--radius", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    import napari

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    head, graph = fit_head(rng, asked.radius), draw_graph(asked.tokens, rng)
    start = time.perf_counter()
    painter = MapPainter(head, graph)
    console = Console(width=110)
    console.print(
        f"napari {napari.__version__}, {graph.n_tokens:,} tokens on a grid of {painter.shape}, radius {asked.radius}; "
        f"the painter was made in {time.perf_counter() - start:.2f} s, which is no work for the GUI thread. In ms:"
    )
    viewer = napari.Viewer()
    viewer.window.resize(*SCREEN)
    add_slide(viewer, painter.shape)
    watch, made = Stopwatch(viewer), makers(painter)
    shows = first_shows(watch, viewer, made, asked.rounds)
    report(console, "First show", shows, {"map": FIRST_SHOW_S, "concepts": FIRST_SHOW_S})
    changed = changes(watch, viewer, painter, made)
    bars = {"map, a concept hidden": CHANGE_S, "concepts, one highlighted": CHANGE_S}
    report(console, "After a change", changed, bars)
    viewer.close()


if __name__ == "__main__":
    main()
