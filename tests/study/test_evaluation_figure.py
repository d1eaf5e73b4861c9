from __future__ import annotations

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from napari_prospector.core.graph import chain_graph
from napari_prospector.errors import MissingExtraError, StorageError
from napari_prospector.study.baselines import ConstantMap, Method, RandomMap
from napari_prospector.study.evaluate import evaluate
from napari_prospector.study.evaluation import Evaluation
from napari_prospector.study.evaluation_figure import draw_evaluation

N_TOKENS = 11


def of(methods: dict[str, Method], n_data: int = 14, known: bool = True, target: str = "tumour") -> Evaluation:
    """An evaluation of methods that need not learn."""
    generator = np.random.default_rng(2)
    graphs = [chain_graph(generator.normal(size=(N_TOKENS, 3))) for _ in range(n_data)]
    truths = [np.arange(N_TOKENS) < 2 + i // 2 if known else None for i in range(n_data)]
    return evaluate(methods, graphs, ["normal", target] * (n_data // 2), truths, target=target, n_boot=11)


def drawn(path: Path, found: Evaluation) -> np.ndarray:
    return np.asarray(imagecodecs.png_decode(draw_evaluation(path, found).read_bytes()))


def colors_of(image: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in image[..., :3].reshape(-1, 3).tolist()}


def test_each_row_makes_the_picture_taller_and_has_a_colour_of_its_own(tmp_path: Path) -> None:
    one = drawn(tmp_path / "1.png", of({"a": RandomMap(1)}))
    three = drawn(tmp_path / "3.png", of({"a": RandomMap(1), "b": RandomMap(2), "c": ConstantMap()}))
    assert one.shape[1] == three.shape[1]
    assert one.shape[0] < three.shape[0]
    orange, blue, green = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73)
    assert orange in colors_of(one)
    assert blue not in colors_of(one)
    assert {orange, blue, green} <= colors_of(three)


@pytest.mark.parametrize("name", ["$x_1$ \\frac{", "<b>&\"'", "名前", "very long " * 20])
def test_no_name_breaks_the_picture(name: str, tmp_path: Path) -> None:
    assert drawn(tmp_path / "e.png", of({name: RandomMap()}, target=name)).shape[2] in (3, 4)


def test_twenty_methods_two_slides_and_no_known_region_are_drawn_too(tmp_path: Path) -> None:
    many: dict[str, Method] = {f"method {i}": RandomMap(i) for i in range(20)}
    for number, found in enumerate((of(many), of({"a": RandomMap()}, n_data=2), of({"a": RandomMap()}, known=False))):
        assert drawn(tmp_path / f"{number}.png", found).std() > 0


def test_what_cannot_be_drawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e.png").mkdir()
    with pytest.raises(StorageError):
        draw_evaluation(tmp_path / "e.png", of({"a": RandomMap()}))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="pip install matplotlib"):
        draw_evaluation(tmp_path / "f.png", of({"a": RandomMap()}))
