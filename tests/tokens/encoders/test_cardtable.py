"""What cards say in words, and that the page about encoders says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from napari_prospector.tokens.encoders.cards import list_encoders
from napari_prospector.tokens.encoders.cardtable import (
    COLUMNS,
    NOT_VERIFIED,
    all_facts,
    hub_page,
    markdown_table,
    table_row,
)
from napari_prospector.tokens.encoders.encodercard import EncoderCard

PAGE = Path(__file__).resolve().parents[3] / "docs" / "encoders.md"


def test_the_table_of_the_page_is_that_of_the_cards() -> None:
    found = re.search(r"<!-- cards -->\n(.*)<!-- /cards -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == markdown_table(), "Replace the table in docs/encoders.md by what markdown_table() returns."


def test_every_card_is_read_somewhere_and_the_page_says_where() -> None:
    text = PAGE.read_text(encoding="utf-8")
    groups = re.findall(r"^\| ([^|]+) \|", text[text.index("| cards | read in |") :], re.MULTILINE)
    named = {name.strip() for group in groups for name in group.split(",")}
    starts = tuple(name.removesuffix("…") for name in named if name.endswith("…"))
    general = ("clip", "dinov", "mobilenet", "resnet", "stain")
    assert [
        card.name
        for card in list_encoders()
        if card.name not in named and not card.name.startswith((*starts, *general))
    ] == []


def test_what_was_not_verified_is_said_and_what_does_not_apply_is_left_out() -> None:
    card = EncoderCard("mine", "timm", "timm:a", tile_px=224, mpp=0.5, unverified=("gated", "mean", "revision"))
    row = dict(zip(COLUMNS, table_row(card), strict=True))
    assert (row["access"], row["licence"], row["dims"]) == (NOT_VERIFIED, "", "measured")
    facts = dict(all_facts(card))
    assert (facts["mean"], facts["revision"]) == (NOT_VERIFIED, NOT_VERIFIED)
    assert facts["std"] == "none: raw pixels"
    assert "patch" not in facts
    assert hub_page(card) is None


@pytest.mark.parametrize("card", list_encoders(), ids=lambda card: card.name)
def test_a_row_has_a_word_for_every_column(card: EncoderCard) -> None:
    assert len(table_row(card)) == len(COLUMNS)
    assert all("|" not in word for word in table_row(card))
    assert {"name", "architecture", "tile", "weights"} <= {word for word, _ in all_facts(card)}
