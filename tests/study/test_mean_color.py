"""The mean colour of a slide as a shortcut: found where it is planted, absent where it is not."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.mean_color import mean_color, mean_color_auroc


def slides(folder: Path, shift: int, n: int = 20) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        picture = np.full((40, 60, 3), 255, np.uint8)
        tissue = rng.normal((180, 120, 170), 20, (30, 40, 3)) + rng.normal(0, 5, 3)
        picture[5:35, 10:50] = np.clip(tissue + shift * (i % 2) * np.array([1, 0, 0]), 0, 255)
        paths.append(folder / f"{i}.png")
        paths[-1].write_bytes(imagecodecs.png_encode(picture))
    return paths


def test_the_mean_is_that_of_the_tissue_and_not_of_the_glass(tmp_path: Path) -> None:
    np.testing.assert_allclose(mean_color(slides(tmp_path, 0)[0]), np.array([180, 120, 170]) / 255, atol=0.06)


def test_a_stain_that_goes_with_the_label_is_found(tmp_path: Path) -> None:
    assert mean_color_auroc(slides(tmp_path, 40), ["normal", "tumour"] * 10) > 0.95


def test_without_it_the_colour_tells_nothing(tmp_path: Path) -> None:
    paths = slides(tmp_path, 0, n=40)
    assert 0.25 < mean_color_auroc(paths, ["normal", "tumour"] * 20) < 0.75


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    paths = slides(tmp_path, 0, n=6)
    with pytest.raises(InvalidInputError, match=r"two classes; got \['a'\]"):
        mean_color_auroc(paths, ["a"] * 6)
    with pytest.raises(InvalidInputError, match="at least two groups"):
        mean_color_auroc(paths, ["a", "b"] * 3, ["x", "y"] * 3)
