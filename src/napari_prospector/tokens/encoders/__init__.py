"""Encoders: from tiles of a slide to embeddings, one card each."""

from __future__ import annotations

from napari_prospector.tokens.encoders.cards import (
    Encoder,
    EncoderCard,
    EncoderOptions,
    EncoderProvider,
    PatchEncoder,
    list_encoders,
    load_encoder,
)

__all__ = [
    "Encoder",
    "EncoderCard",
    "EncoderOptions",
    "EncoderProvider",
    "PatchEncoder",
    "list_encoders",
    "load_encoder",
]
