"""The manifest is sound, and all that it names is there."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest
from npe2.cli import app
from typer.testing import CliRunner

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_prospector" / "napari.yaml"


def test_npe2_finds_the_manifest_valid() -> None:
    outcome = CliRunner().invoke(app, ["validate", str(MANIFEST)])
    assert outcome.exit_code == 0, outcome.output
    assert "Manifest for 'Prospector' valid" in outcome.output


def test_every_command_names_something_that_can_be_called() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    for command in manifest.contributions.commands or ():
        module, _, name = (command.python_name or "").partition(":")
        assert callable(getattr(importlib.import_module(module), name)), command.id


def test_every_command_is_offered_somewhere() -> None:
    contributions = PluginManifest.from_file(MANIFEST).contributions
    offered = {one.command for one in contributions.readers or ()} | {
        one.command for one in contributions.widgets or ()
    }
    offered |= {getattr(one, "command", "") for one in contributions.sample_data or ()}
    offered |= {one.command for one in contributions.writers or ()}
    offered |= {getattr(one, "command", "") for menu in contributions.menus.values() for one in menu} - {""}
    assert {command.id for command in contributions.commands or ()} == offered - {""}


@pytest.mark.parametrize(
    "name", [widget.display_name for widget in PluginManifest.from_file(MANIFEST).contributions.widgets or ()]
)
def test_every_widget_opens_and_fits_beside_the_canvas_of_a_small_screen(viewer: Any, name: str) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("napari-prospector", name)
    least = getattr(widget, "native", widget).minimumSizeHint()  # magicgui's own are wrapped
    # of 1280 x 800, what napari's title, menu and status bar, and a canvas worth looking at, leave
    assert 0 < least.width() <= 480
    assert 0 < least.height() <= 690


@pytest.mark.parametrize("file", ["photo.png", "photo.jpg", "cells.nd2", "volume.n5", "case7.svs.txt"])
def test_files_of_others_are_not_claimed(plugin: Any, npe2pm: Any, file: str) -> None:
    assert "napari-prospector" not in {reader.plugin_name for reader in npe2pm.iter_compatible_readers([file])}


@pytest.mark.parametrize(
    "file",
    [
        *(
            "case7.svs",
            "CASE7.SVS",
            "case7.tif",
            "case7.ome.tiff",
            "case7.ndpi",
            "case7.mrxs",
            "case7.dcm",
            "case7.czi",
        ),
        *("case7.ome.zarr", "case7.zarr", "tumour.prospector", "case7.evidence.prospect.ome.zarr"),
    ],
)
def test_our_files_are_claimed(plugin: Any, npe2pm: Any, file: str) -> None:
    assert "napari-prospector" in {reader.plugin_name for reader in npe2pm.iter_compatible_readers([file])}
