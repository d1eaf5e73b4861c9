"""A head of patches takes patches of the same kind, and a head of tiles takes tiles."""

from __future__ import annotations

from typing import Any

import pytest

from napari_prospector.core.headfile import check_tokens_card, kind_of_tokens
from napari_prospector.errors import MismatchError

TILE = {"name": "uni", "n_dims": 7}
PATCH = TILE | {"tokens": "patch"}
PCA = {"kind": "pca", "n_dims": 7, "seed": 0, "sha256": "0123456789abcdef"}
RANDOM = {"kind": "random", "n_dims": 7, "seed": 3, "sha256": None}


@pytest.mark.parametrize("card", [TILE, PATCH, PATCH | {"overlap_px": 32}, PATCH | {"projection": PCA}])
def test_a_head_takes_tokens_of_its_own_kind(card: dict[str, Any]) -> None:
    check_tokens_card(card, 7, dict(card))


def test_a_card_that_is_silent_is_of_whole_tiles() -> None:
    check_tokens_card(TILE, 7, TILE | {"tokens": "tile", "overlap_px": 0, "projection": None})


@pytest.mark.parametrize(
    ("head", "grid", "words"),
    [
        (PATCH, TILE, "fitted on patch tokens of 'uni'; the grid holds tile tokens"),
        (TILE, PATCH, "fitted on tile tokens of 'uni'; the grid holds patch tokens"),
        (PATCH, PATCH | {"overlap_px": 32}, "holds patch tokens with an overlap of 32 px"),
        (PATCH | {"projection": PCA}, PATCH, "projected by pca 01234567 to 7 dims of 'uni'; the grid holds patch"),
        (PATCH | {"projection": PCA}, PATCH | {"projection": RANDOM}, "projected by random of seed 3 to 7 dims"),
        (PATCH | {"projection": PCA}, PATCH | {"projection": PCA | {"sha256": "f" * 16}}, "pca ffffffff"),
    ],
)
def test_a_head_refuses_tokens_of_another_kind(head: dict[str, Any], grid: dict[str, Any], words: str) -> None:
    with pytest.raises(MismatchError, match=words):
        check_tokens_card(head, 7, grid)


def test_that_the_encoder_is_another_is_said_first() -> None:
    with pytest.raises(MismatchError, match="holds 'virchow'"):
        check_tokens_card(TILE, 7, PATCH | {"name": "virchow"})


def test_the_kind_of_tokens_is_a_phrase() -> None:
    assert kind_of_tokens({}) == "tile tokens"
