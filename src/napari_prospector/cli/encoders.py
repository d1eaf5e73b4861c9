"""`prospect encoders`: what turns tiles into embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from napari_prospector.cli.console import examples, json_option, print_table, told

if TYPE_CHECKING:
    from napari_prospector.tokens.encoders.cards import EncoderCard

__all__ = ["encoders"]

# Of the table where stdout is no terminal: nothing wraps.
_WIDTH = 120


@click.command(
    short_help="List encoders, or show one.", epilog=examples("prospect encoders", "prospect encoders uni2-h")
)
@click.argument("name", required=False)
@json_option
def encoders(name: str | None, as_json: bool) -> None:
    """List the encoders that have a card, or show all that the card of NAME says.

    Any other timm model works by its name, with a local weight file.
    """
    from napari_prospector.tokens.encoders.cards import encoder_card, list_encoders

    if name is not None:
        card = encoder_card(name)
        told({"encoder": card.to_json()}, as_json, _lines(card))
        return
    cards = list_encoders()
    told({"encoders": [card.to_json() for card in cards]}, as_json, [])
    if not as_json:
        _print_tables(cards)


def _print_tables(cards: tuple[EncoderCard, ...]) -> None:
    """Print a table each of the cards for slides, the general ones, and those of other packages."""
    from napari_prospector.tokens.encoders.cardtable import COLUMNS, table_row
    from napari_prospector.tokens.encoders.general_cards import GENERAL_CARDS
    from napari_prospector.tokens.encoders.pathology_cards import PATHOLOGY_CARDS

    own = {*GENERAL_CARDS, *PATHOLOGY_CARDS}
    groups = {
        "Trained on slides": PATHOLOGY_CARDS,
        "General": GENERAL_CARDS,
        "Of other packages": [card for card in cards if card not in own],
    }
    for title, group in groups.items():
        if group:
            # of a repository the owner says enough here, and its whole name would take the room of three columns
            rows = [
                (*table_row(card)[:-1], table_row(card)[-1].partition("/")[0])
                for card in sorted(group, key=lambda card: card.name)
            ]
            print_table(COLUMNS, rows, title, wrapping=("licence", "access", "weights"), piped_width=_WIDTH)
    click.echo("All of one: prospect encoders NAME. Any other timm model: --encoder NAME --weights FILE.safetensors")


def _lines(card: EncoderCard) -> list[str]:
    """Return all that a card says, and how to come by its weights."""
    from napari_prospector.tokens.encoders.cardtable import all_facts, hub_page

    facts = all_facts(card)
    width = max(len(word) for word, _ in facts)
    lines = [f"{word:<{width}}  {text}" for word, text in facts]
    if (page := hub_page(card)) is not None:
        lines.append(f"{'page':<{width}}  {page}")
    if card.gated:
        lines.append(
            f"Its owner grants access on request: accept the terms on {page}, then log in with `hf auth login`."
        )
    return lines
