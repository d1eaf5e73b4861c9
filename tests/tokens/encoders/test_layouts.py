"""Weight files in other layouts than timm's."""

from __future__ import annotations

import pytest

from napari_prospector.errors import InvalidInputError

torch = pytest.importorskip("torch")
layouts = pytest.importorskip("napari_prospector.tokens.encoders.layouts")


def test_without_a_layout_tensors_keep_their_names() -> None:
    tensors = {"a.weight": torch.zeros(2, 3)}
    assert layouts.to_timm_layout(tensors, torch.nn.Identity(), None, "mine") is tensors


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"layout of encoder 'mine' must be None or one of .*got 'keras'"):
        layouts.to_timm_layout({}, torch.nn.Identity(), "keras", "mine")
