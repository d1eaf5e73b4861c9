"""What cards say, in words: rows of the table of encoders, and all facts of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from napari_prospector.tokens.encoders.encodercard import EncoderCard
from napari_prospector.tokens.encoders.general_cards import GENERAL_CARDS
from napari_prospector.tokens.encoders.pathology_cards import PATHOLOGY_CARDS

__all__ = ["COLUMNS", "NOT_VERIFIED", "all_facts", "hub_page", "markdown_table", "table_row"]

COLUMNS = ("name", "dims", "tile", "patch", "licence", "access", "weights")
NOT_VERIFIED = "not verified"

_POOLINGS = {
    None: "as the model pools itself",
    "class": "class token",
    "mean": "mean of the patch tokens",
    "class+mean": "class token, then the mean of the patch tokens",
}


def table_row(card: EncoderCard) -> tuple[str, ...]:
    """Return what the columns of the table of encoders say of a card, in the order of `COLUMNS`.

    Examples
    --------
    >>> from napari_prospector.tokens.encoders.cards import encoder_card
    >>> table_row(encoder_card("virchow2"))[:4]
    ('virchow2', '2560', '224 px at 0.5 µm', '14 px')
    """
    return (
        card.name,
        "measured" if card.n_dims is None else str(card.n_dims),
        f"{card.tile_px} px at {card.mpp:g} µm",
        "" if card.patch_px is None else f"{card.patch_px} px",
        _stated(card, "licence"),
        _access(card),
        _weights(card),
    )


def markdown_table(cards: Iterable[EncoderCard] = (*PATHOLOGY_CARDS, *GENERAL_CARDS)) -> str:
    """Return the table of encoders in Markdown, as it stands in `docs/encoders.md`."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(table_row(card) for card in cards)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def all_facts(card: EncoderCard) -> list[tuple[str, str]]:
    """Return everything that a card says, as pairs of a word and its text."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in card.model_args.items())
    facts = [
        ("name", card.name),
        ("architecture", f"{card.source}{f' with {arguments}' if arguments else ''}"),
        ("dims", _stated(card, "n_dims", "measured when it is loaded")),
        ("tile", f"{card.tile_px} px at {card.mpp:g} µm per pixel"),
        ("mean", _stated(card, "mean", "none: raw pixels")),
        ("std", _stated(card, "std", "none: raw pixels")),
        ("patch", "" if card.patch_px is None else f"{card.patch_px} px"),
        ("embedding", _POOLINGS.get(card.pooling, str(card.pooling))),
        ("tokens before patches", _stated(card, "n_prefix")),
        ("licence", _stated(card, "licence")),
        ("access", _access(card)),
        ("weights", _weights(card)),
        ("revision", _stated(card, "revision")),
        ("files", ", ".join(card.weight_files or ())),
        ("layout of the file", "" if card.loader != "timm" else card.layout or "timm"),
        ("citation", _stated(card, "citation")),
    ]
    return [(name, text) for name, text in facts if text]


def hub_page(card: EncoderCard) -> str | None:
    """Return the address of the page where the weights are described and access is asked for; None without one."""
    return None if card.hub is None else f"https://huggingface.co/{card.hub}"


def _stated(card: EncoderCard, entry: str, absent: str = "") -> str:
    """Return an entry in words."""
    value: Any = getattr(card, entry)
    if value is None:
        return NOT_VERIFIED if entry in card.unverified else absent
    return ", ".join(f"{number:g}" for number in value) if isinstance(value, tuple) else str(value)


def _access(card: EncoderCard) -> str:
    """Return whether the owner of the weights must grant access first."""
    if card.gated is None:
        return NOT_VERIFIED if "gated" in card.unverified else ""
    return "on request" if card.gated else "free"


def _weights(card: EncoderCard) -> str:
    """Return where the weights come from."""
    if card.loader == "stain-texture":
        return "needs none"
    return card.hub or "a file that you have"
