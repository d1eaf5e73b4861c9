"""The layer of outlines over one slide, in step with the study: what a hand does becomes an edit, an edit is drawn.

The study holds the truth. After each of napari's events the layer is compared with what was drawn last; after each edit
of the study only the outlines that differ are taken out and put in, some hundred a turn, so that the window answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_prospector._napari.layers import METADATA_KEY, Placement
from napari_prospector._napari.outlines import Match, Outline, matched, outlines_of, read_back
from napari_prospector._napari.region_classes import classes_of, color_of, with_classes_of
from napari_prospector.study.annotations import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Layer, Shapes

    from napari_prospector._napari.workspace import Workspace

__all__ = ["ENDING", "AnnotationLayer"]

ENDING = " · annotations"
"""A slide's layer of outlines is named after it, with this."""

# napari draws a width in pixels of the slide; on the screen it is to be this
LINE_PX = 2.5
# a click that hardly moved is none
SMALLEST_PX = 5.0
PLACES = ("scale", "translate", "rotate", "shear", "affine", "units")
DONE = {"added", "removed", "changed"}
# outlines that are drawn in one turn of the window
FEW, MANY = 250, 1000
# of a shape that a hand draws
NO_FEATURES = {"outline": -1, "class": "", "name": ""}


class AnnotationLayer(QObject):
    """One slide's outlines.

    Parameters
    ----------
    slide
        The slide's layer.
    key
        Of the slide in the study.
    workspace
        Whose study is followed.
    """

    selected = Signal()
    """Other outlines are selected."""
    drawn = Signal()
    """Outlines were put in or taken out; all of them are there when `is_whole`."""
    said = Signal(str)
    """What could not be done."""

    def __init__(self, slide: Layer, key: str, workspace: Workspace, label: Callable[[], str | None]) -> None:
        super().__init__(workspace)
        self.slide, self.key = slide, key
        self._workspace, self._label = workspace, label
        self._shown: list[Outline] = []
        self._tokens: list[int] = []
        self._token = itertools.count()
        self._named: list[tuple[str, str]] | None = None
        self._is_drawing = False
        self._screen_px, self._width = 1.0, LINE_PX
        self.is_whole = True
        self.layer = self._made()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self.settle)
        self._read_first = False
        self._connect()

    def _made(self) -> Shapes:
        """Make the layer, empty."""
        from napari.layers import Shapes

        return Shapes(
            ndim=2,
            name=f"{self.slide.name}{ENDING}",
            opacity=1.0,
            edge_width=1,
            face_color="transparent",
            metadata={METADATA_KEY: {"kind": "annotations", "slide_id": self.slide.unique_id, "key": self.key}},
            features=_features([], []),
            feature_defaults=NO_FEATURES,
            **Placement.of_layer(self.slide).of_slide(),
        )

    def _connect(self) -> None:
        """Listen to the layer and to its slide."""
        self.layer.events.data.connect(self._hear)
        self.layer.events.features.connect(self._hear)
        self.layer.selected_data.events.items_changed.connect(self._select)
        self.slide.events.name.connect(self._rename)
        for place in PLACES:
            for layer in (self.slide, self.layer):
                getattr(layer.events, place).connect(self._place)

    def close(self) -> None:
        """Read what is still to be read, and listen no more."""
        if self._read_first:
            self._read()
        self._later.stop()
        self.layer.events.data.disconnect(self._hear)
        self.layer.events.features.disconnect(self._hear)
        self.layer.selected_data.events.items_changed.disconnect(self._select)
        self.slide.events.name.disconnect(self._rename)
        for place in PLACES:
            for layer in (self.slide, self.layer):
                getattr(layer.events, place).disconnect(self._place)
        self.layer.keymap.clear()
        self.deleteLater()

    def set_key(self, key: str) -> None:
        """Be the outlines of a slide that has another key now."""
        self.key = key
        self.layer.metadata[METADATA_KEY]["key"] = key
        self.follow()

    @property
    def regions(self) -> tuple[Region, ...]:
        """The slide's regions, as the study has them."""
        return self._workspace.study.regions(self.key)

    @property
    def selected_ids(self) -> list[str]:
        """The ids of the regions that are selected, in the order of their outlines."""
        numbers = sorted(int(number) for number in self.layer.selected_data)
        regions = [self._shown[number].region for number in numbers if number < len(self._shown)]
        return list(dict.fromkeys(region.id for region in regions if region is not None))

    def select(self, ids: Collection[str]) -> None:
        """Select regions, by their ids."""
        wanted = {number for number, outline in enumerate(self._shown) if outline.region and outline.region.id in ids}
        if wanted != set(self.layer.selected_data):
            self.layer.selected_data = wanted

    @property
    def is_unfinished(self) -> bool:
        """Whether a shape is being drawn."""
        return not self._read_first and len(self.layer.data) > len(self._shown)

    def drop_unfinished(self) -> None:
        """Take away the shape that is being drawn."""
        mode, known = self.layer.mode, len(self._shown)
        with self._drawing():
            self.layer.mode = "pan_zoom"  # napari ends it
            if len(self.layer.data) > known:
                self.layer.remove(list(range(known, len(self.layer.data))))
            self.layer.mode = mode

    def _hear(self, event: Any) -> None:
        """Remember that a hand did something; it is read when napari has done its part."""
        action = getattr(event, "action", None)
        if not self._is_drawing and (action is None or getattr(action, "value", action) in DONE):
            self._read_first = True
            self._later.start()

    def _select(self, *_: Any) -> None:
        """Tell that other outlines are selected."""
        if not self._is_drawing:
            self.selected.emit()

    def follow(self) -> None:
        """Draw what the study holds, after the event at hand."""
        self._later.start()

    def settle(self) -> None:
        """Read what a hand did, and draw what the study holds; the rest of a long list comes a turn later."""
        if self._read_first:
            self._read()
        # napari uploads all outlines whenever some are added, so as many again are added at a time
        if not self._draw(min(max(FEW, len(self._shown)), MANY)):
            self._later.start()

    def _read(self) -> None:
        """Take what a hand did as an edit of the study."""
        self._read_first = False
        drawn = map(_drawn_path, self.layer.data, self.layer.shape_type)
        pairs = zip(drawn, self._matches(), strict=True)
        kept = [(path, match) for path, match in pairs if match.number is not None or self._is_meant(path)]
        paths, matches = [path for path, _ in kept], [match for _, match in kept]
        change = read_back(self.regions, self._shown, paths, matches, self._new_region)
        self._look_again()
        if change is None:
            return
        if change.problem is not None:
            self.said.emit(change.problem)
        if change.text:
            study = self._workspace.study.with_regions(self.key, change.regions)
            self._workspace.edit(change.text, with_classes_of(study))

    def _matches(self) -> list[Match]:
        """Say what each path of the layer is."""
        paths, tokens = self.layer.data, self.layer.features["outline"]
        places = {token: number for number, token in enumerate(self._tokens) if token >= 0}
        # napari forgets to shorten the table where the last point of a shape is removed
        is_sound = len(tokens) == len(paths)
        return matched(self._shown, paths, [places.get(token, -1) for token in tokens] if is_sound else None)

    def _is_meant(self, path: NDArray[np.float32]) -> bool:
        """Say whether what was drawn is more than a slip of the mouse."""
        return float(np.ptp(path, axis=0).max(initial=0)) * self._screen_px >= SMALLEST_PX

    def _new_region(self, ring: NDArray[np.float64]) -> Region:
        """Return the region of a ring that was drawn."""
        return Region(((ring,),), self._label())

    def _look_again(self) -> None:
        """Note what the layer shows by now, so that only what should be otherwise is drawn."""
        shown, tokens = [], []
        for path, match in zip(self.layer.data, self._matches(), strict=True):
            if match.number is None or match.is_copy:
                shown.append(Outline(None, 0, 0, path))
                tokens.append(-1)
            else:
                shown.append(replace(self._shown[match.number], path=np.array(path, np.float32)))
                tokens.append(self._tokens[match.number])
        self._shown, self._tokens = shown, tokens

    def _draw(self, most: int) -> bool:
        """Draw what differs, at most so many outlines; False where there is more to draw."""
        regions = self.regions
        wanted = {region.id: region for region in regions}
        self._adopt(wanted)
        stale = [number for number, outline in enumerate(self._shown) if not _is_wanted(outline, wanted)]
        there = {outline.region.id for outline in self._shown if outline.region and _is_wanted(outline, wanted)}
        missing: Sequence[Region] = [region for region in regions if region.id not in there]
        if stale or missing:
            selected = self.selected_ids
            with self._drawing():
                if self.is_unfinished:
                    self.drop_unfinished()
                self._take_out(stale)
                missing = self._put_in(missing, most)
                self.select(selected)
        self._color()
        self.is_whole = not missing
        self.drawn.emit()
        return self.is_whole

    def _adopt(self, wanted: Mapping[str, Region]) -> None:
        """Take regions that are new, but whose outlines are those that are drawn, for the old ones."""
        rows: dict[str, list[int]] = {}
        for number, outline in enumerate(self._shown):
            if outline.region is not None and not _is_wanted(outline, wanted) and outline.region.id in wanted:
                rows.setdefault(outline.region.id, []).append(number)
        for key, numbers in rows.items():
            outlines = outlines_of(wanted[key])
            is_same = len(outlines) == len(numbers) and all(
                np.array_equal(outline.path, self._shown[number].path)
                for outline, number in zip(outlines, numbers, strict=True)
            )
            if is_same:
                for outline, number in zip(outlines, numbers, strict=True):
                    self._shown[number] = outline

    def _take_out(self, numbers: Sequence[int]) -> None:
        """Remove outlines from the layer."""
        if numbers:
            gone = set(numbers)
            self.layer.remove(list(numbers))
            self._shown = [outline for number, outline in enumerate(self._shown) if number not in gone]
            self._tokens = [token for number, token in enumerate(self._tokens) if number not in gone]
            self._named = None

    def _put_in(self, regions: Sequence[Region], most: int) -> Sequence[Region]:
        """Add the outlines of regions; return those that are left for later."""
        new: list[Outline] = []
        taken = 0
        while taken < len(regions) and (not new or len(new) < most):
            new += outlines_of(regions[taken])
            taken += 1
        if new:
            colors = self._colors_of(new)
            self.layer.add(
                [outline.path for outline in new],
                shape_type="path",
                edge_width=self._width,
                edge_color=colors,
                face_color="transparent",
            )
            self._shown += new
            self._tokens += [next(self._token) for _ in new]
            self._named = None
        return regions[taken:]

    def _colors_of(self, outlines: Sequence[Outline]) -> NDArray[np.float64]:
        """Return the colour of each outline, (n, 4) from 0 to 1."""
        classes = classes_of(self._workspace.study)
        labels = [None if outline.region is None else outline.region.label for outline in outlines]
        colors = {label: [*color_of(classes, label), 255] for label in set(labels)}
        return np.array([colors[label] for label in labels], np.float64).reshape(-1, 4) / 255

    def _color(self) -> None:
        """Give outlines the colours and names of their regions, and the next one that of the class in hand."""
        named = [(outline.region.label or "", outline.region.name) for outline in self._shown if outline.region]
        colors = self._colors_of(self._shown)
        with self._drawing():
            if len(self.layer.data) == len(self._shown):
                if named != self._named:
                    self.layer.features = _features(self._tokens, named)
                    self.layer.feature_defaults = NO_FEATURES
                    self._named = named
                if not np.allclose(colors, self.layer.edge_color, atol=1e-3):
                    self.layer.edge_color = colors
            self.color_next()

    def color_next(self) -> None:
        """Draw the next shape in the colour of the class in hand."""
        red, green, blue = color_of(classes_of(self._workspace.study), self._label())
        with self.layer.block_update_properties():
            self.layer.current_edge_color = np.array([red, green, blue, 255]) / 255
            self.layer.current_face_color = np.zeros(4)
            self.layer.current_edge_width = self._width

    def set_zoom(self, screen_px: float) -> None:
        """Keep the lines as wide on the screen as they were, where a pixel of the slide is so many of the screen."""
        self._screen_px = screen_px
        width = LINE_PX / screen_px
        if abs(width / self._width - 1) > 0.05:
            self._width = width
            with self._drawing():
                self.layer.edge_width = width
            self.color_next()

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Hear nothing of what the layer says, for it is our own doing; no thumbnail is painted on the way."""
        was_drawing, self._is_drawing = self._is_drawing, True
        try:
            with self.layer.block_thumbnail_update():
                yield
        finally:
            self._is_drawing = was_drawing

    def _rename(self, _: Any = None) -> None:
        """Be named after the slide."""
        self.layer.name = f"{self.slide.name}{ENDING}"

    def _place(self, _: Any = None) -> None:
        """Lie where the slide lies."""
        wanted = Placement.of_layer(self.slide).of_slide()
        for name, value in wanted.items():
            now = getattr(self.layer, name)
            if name == "units":
                is_same = tuple(map(str, now)) == tuple(map(str, value))
            else:
                is_same = np.allclose(np.asarray(getattr(now, "affine_matrix", now), float), np.asarray(value, float))
            if not is_same:
                setattr(self.layer, name, value)


def _features(tokens: Sequence[int], named: Sequence[tuple[str, str]]) -> dict[str, NDArray[Any]]:
    """Return the columns of napari's table: what tells outlines apart, and what people read at the mouse."""
    labels, names = (np.array([words[place] for words in named], object) for place in (0, 1))
    return {"outline": np.array(tokens, np.int64), "class": labels, "name": names}


def _is_wanted(outline: Outline, wanted: Mapping[str, Region]) -> bool:
    """Say whether an outline is of a region that is to be shown as it is."""
    return outline.region is not None and wanted.get(outline.region.id) is outline.region


def _drawn_path(path: NDArray[np.float32], shape_type: str) -> NDArray[np.float32]:
    """Return what a shape encloses as a path; of an ellipse napari knows the corners of its box."""
    if shape_type != "ellipse":
        return path
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
    centre = path.mean(axis=0)
    one, other = (path[1] - path[0]) / 2, (path[3] - path[0]) / 2
    return np.asarray(centre + np.sin(angles) * one + np.cos(angles) * other, np.float32)
