"""Cards of encoders trained on slides."""

from __future__ import annotations

from napari_prospector.tokens.encoders.encodercard import EncoderCard

__all__ = ["PATHOLOGY_CARDS"]

PATHOLOGY_CARDS: tuple[EncoderCard, ...] = ()
