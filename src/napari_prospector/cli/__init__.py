"""The command `prospect`: parse, call, print."""

from napari_prospector.cli.main import main

__all__ = ["main"]
