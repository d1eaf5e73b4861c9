from typing import Any

import pytest

from napari_prospector.cli.embedding import encoder_keywords, words_of_card
from napari_prospector.errors import InvalidInputError

CARD: dict[str, Any] = {
    "name": "tiny",
    "loader": "timm",
    "hub": "owner/tiny-vit",
    "revision": "0123456789abcdef0123456789abcdef01234567",
    "weights_sha256": "ab",
    "tile_px": 96,
    "mpp": 0.5,
}


def test_a_head_loads_the_very_commit_that_it_was_fitted_on() -> None:
    words = encoder_keywords(words_of_card(CARD, None, None))
    assert (words["name"], words["revision"], words["weights"]) == ("tiny", CARD["revision"], None)


@pytest.mark.parametrize("change", [{"revision": None}, {"hub": None}])
def test_a_head_that_was_fitted_on_a_file_asks_for_it_before_anything_is_downloaded(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="weights of 'tiny' from a file.*Pass that file, --weights FILE"):
        encoder_keywords(words_of_card(CARD | change, None, None))
    assert encoder_keywords(words_of_card(CARD | change, "w.safetensors", None))["weights"] == "w.safetensors"
