"""Slides with a planted square, a head that finds it, and the plugin as napari sees it when installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari import keeper
from napari_prospector._napari.request import default_tokens_path
from napari_prospector.core.graph import grid_graph
from napari_prospector.core.head import ProspectorHead, load_head
from napari_prospector.study.project import EncoderChoice, Study, StudySlide
from napari_prospector.tokens.embed import embed_to_grid
from napari_prospector.tokens.encoders import cards
from napari_prospector.tokens.encoders.cards import EncoderCard, load_encoder
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.slides import open_slide

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_prospector" / "napari.yaml"

MPP = 0.5
TILE_PX, TILE_MPP = 67, 1.0
TILE = 134  # level-0 px: 67 px of 1 µm at 0.5 µm
SHAPE = (1427, 1787)  # 11 x 13 tokens
PLANTED_ROWS, PLANTED_COLS = slice(3, 6), slice(7, 9)
PLANTED_PX = (slice(3 * TILE, 6 * TILE), slice(7 * TILE, 9 * TILE))
# what the planted tokens look at, and what the other tissue is
PURPLE, PINK, GLASS = (96, 48, 144), (232, 160, 200), (244, 244, 244)
MARGIN, NOISE = 157, 9


def paint(planted: bool = True, seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Draw pink tissue on glass, with a purple square of whole tokens."""
    image = np.full((*shape, 3), GLASS, np.int16)
    image[MARGIN:-MARGIN, MARGIN:-MARGIN] = PINK
    if planted:
        image[PLANTED_PX] = PURPLE
    noise = np.random.default_rng(seed).integers(-NOISE, NOISE + 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Planted:
    """What is known of the drawn slides."""

    mpp: float = MPP
    tile: int = TILE
    shape: tuple[int, int] = SHAPE
    tokens: tuple[slice, slice] = (PLANTED_ROWS, PLANTED_COLS)
    pixels: tuple[slice, slice] = PLANTED_PX
    grid: tuple[int, int] = (11, 13)

    def write(self, path: Path, mpp: float = MPP, **changes: Any) -> Path:
        """Write a slide."""
        return write_pyramid(path, paint(**changes), mpp, quality=None)


@pytest.fixture
def planted() -> Planted:
    """What is known of the drawn slides."""
    return Planted()


@pytest.fixture(scope="session")
def first_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramidal slide with a planted square, for reading only."""
    return write_pyramid(tmp_path_factory.mktemp("slides") / "case7.tif", paint(), MPP, quality=None)


@pytest.fixture
def slide_file(first_slide: Path, tmp_path: Path) -> Path:
    """The slide in a folder of its own."""
    (tmp_path / "slides").mkdir()
    return Path(shutil.copy(first_slide, tmp_path / "slides"))


class MeanColour:
    """An encoder that anyone can foresee: mean and spread of red, green and blue, and a constant."""

    card = EncoderCard("mean-colour", "test", "these tests", tile_px=TILE_PX, mpp=TILE_MPP, n_dims=7)
    batch_size = 13

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Embed tiles."""
        means, spreads = tiles.mean((1, 2)) / 255, tiles.std((1, 2)) / 255
        return np.column_stack((means, spreads, np.ones(len(tiles)))).astype(np.float32)


@pytest.fixture(autouse=True)
def mean_colour(monkeypatch: pytest.MonkeyPatch) -> MeanColour:
    """The encoder, found by its name as others are."""
    encoder = MeanColour()

    def load(name: str, **options: Any) -> Any:
        return encoder if name == encoder.card.name else load_encoder(name, **options)

    monkeypatch.setattr(cards, "load_encoder", load)
    return encoder


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that was fitted to find purple among pink, without a refined map."""
    return _fit(tmp_path_factory.mktemp("heads") / "square.prospector", refine=False)


@pytest.fixture(scope="session")
def refined_head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of the same purpose whose best map is the refined one."""
    file = _fit(tmp_path_factory.mktemp("heads") / "refined.prospector", refine=True)
    assert load_head(file).best_map_ == "refined"
    return file


@pytest.fixture(scope="session")
def tissue_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: slides case0.tif (tumour), case1.tif (normal) … case5.tif, their token grids, and tissue.prospector."""
    from napari_prospector._napari.request import default_tokens_path
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.tokens.embed import embed_to_grid
    from napari_prospector.tokens.slides import open_slide

    folder, encoder, grids = tmp_path_factory.mktemp("cohort"), MeanColour(), []
    for number in range(6):
        image = paint(planted=number % 2 == 0, seed=number)
        file = write_pyramid(folder / f"case{number}.tif", image, MPP, quality=None)
        grids.append(default_tokens_path(file, encoder.card.to_json()))
        with open_slide(file) as slide:
            embed_to_grid(slide, encoder, grids[-1])
    head = ProspectorHead(n_concepts=4, radius=1, kernel="fold-change", refine=False, n_folds=2, geometry="euclidean")
    head.fit(CohortGraphs(grids), ["tumour", "normal"] * 3)
    head.save(folder / "tissue.prospector", {"encoder": encoder.card.to_json()})
    return folder


@pytest.fixture(scope="session")
def near_head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of the same purpose that looks at direct neighbours too."""
    return _fit(tmp_path_factory.mktemp("heads") / "near.prospector", refine=True, radius=1)


def _fit(file: Path, *, refine: bool, radius: int = 0) -> Path:
    """Fit and save a head; without neighbours its evidence map is the square itself."""
    rng = np.random.default_rng(5)
    graphs = [_graph(rng, n_purple=7 * (i % 2)) for i in range(8)]
    head = ProspectorHead(
        n_concepts=2,
        radius=radius,
        kernel="fold-change",
        refine=refine,
        n_folds=2,
        geometry="euclidean",
        random_state=0,
    )
    head.fit(graphs, ["normal", "tumour"] * 4).save(file, {"encoder": MeanColour.card.to_json()})
    return file


def _graph(rng: np.random.Generator, n_purple: int) -> Any:
    """Embed 5 x 7 tiles of flat colour, the first `n_purple` of them purple."""
    colors = np.array([PURPLE] * n_purple + [PINK] * (35 - n_purple), np.int16)[:, None, None]
    tiles = (colors + rng.integers(-NOISE, NOISE + 1, (35, TILE_PX, TILE_PX, 3))).astype(np.uint8)
    return grid_graph(np.ones((5, 7), bool), MeanColour().encode(tiles))


@pytest.fixture(scope="session")
def embedded_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Eight slides of four patients, embedded, every other one with a purple square; for reading only."""
    folder, planted, slides = tmp_path_factory.mktemp("cohort"), Planted(), []
    for number in range(8):
        file = planted.write(folder / f"s{number}.tif", planted=bool(number % 2), seed=number)
        with open_slide(file) as slide:
            embed_to_grid(slide, MeanColour(), default_tokens_path(file, MeanColour.card.to_json()))
        slides.append(StudySlide(file, "tumour" if number % 2 else "normal", f"patient {number // 2}"))
    return Study(slides=tuple(slides), encoder=EncoderChoice("mean-colour"))


@pytest.fixture(autouse=True)
def user_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs keep files for a user: a new folder for each test."""
    folder = tmp_path_factory.mktemp("user")
    for variable in ("XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setattr(keeper, "user_folder", lambda: folder / "napari-prospector")
    return folder / "napari-prospector"


@pytest.fixture
def plugin(npe2pm: Any) -> Iterator[Any]:
    """The plugin and napari's own readers, installed in a plugin manager of the test."""
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)) as prospector, npe2pm.tmp_plugin(package="napari"):
        yield prospector


@pytest.fixture
def viewer(plugin: Any, make_napari_viewer: Callable[..., Any]) -> Any:
    """A viewer whose leaks are errors."""
    return make_napari_viewer(strict_qt="raise")
