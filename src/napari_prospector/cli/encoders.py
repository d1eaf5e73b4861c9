"""`prospect encoders`: what turns tiles into embeddings."""

from __future__ import annotations

import click

from napari_prospector.cli.console import json_option, print_table, told

__all__ = ["encoders"]


@click.command(short_help="List encoders.")
@json_option
def encoders(as_json: bool) -> None:
    """List the encoders that have a card; any other timm model works by its name, with a local weight file."""
    from napari_prospector.tokens.encoders.cards import list_encoders

    cards = list_encoders()
    told({"encoders": [card.to_json() for card in cards]}, as_json, [])
    if not as_json:
        rows = [
            (
                card.name,
                "" if card.n_dims is None else str(card.n_dims),
                f"{card.tile_px} px at {card.mpp:g} µm/px",
                "on request" if card.gated else "free",
                card.licence or "not stated",
            )
            for card in cards
        ]
        print_table(("name", "dims", "tiles", "access", "licence"), rows, title="Encoders")
        click.echo("Any other timm model: --encoder NAME --weights FILE.safetensors")
