"""Settings in napari's preferences, or in a file of our own below napari 0.9; each really takes effect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QDialogButtonBox, QWidget

from napari_prospector._napari import settings as settings_module
from napari_prospector._napari.embed_job import EmbedJob, embed
from napari_prospector._napari.export_box import ExportBox
from napari_prospector._napari.layers import map_look
from napari_prospector._napari.request import default_tokens_path
from napari_prospector._napari.settings import (
    CATEGORIES,
    IN_CACHE,
    IN_FOLDER,
    PLACES,
    Settings,
    keep_settings,
    napari_settings,
    settings,
)
from napari_prospector._napari.settings_dialog import SettingsDialog, show_settings
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.study.project import EncoderChoice, StudySlide
from napari_prospector.tokens.encoders import cards

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_prospector" / "napari.yaml"
CARD = {"name": "mean-colour"}
CHANGED = Settings("other", IN_FOLDER, "/kept", True, 31, 2.5, 0.25)


@pytest.fixture
def below_0_9(monkeypatch: pytest.MonkeyPatch) -> None:
    """A napari whose preferences hold nothing of plugins."""
    monkeypatch.setattr(settings_module, "napari_settings", lambda: None)


@pytest.fixture
def in_preferences(plugin: Any, tmp_path: Path) -> Iterator[Any]:
    """The preferences of napari 0.9, kept in a folder of the test."""
    napari = pytest.importorskip("napari.settings")
    if not hasattr(napari, "get_plugin_settings"):
        pytest.skip("napari 0.9 and later")
    napari._clear_plugin_settings_cache()
    napari.get_plugin_settings(path_dir=tmp_path / "config")
    yield napari_settings()
    napari._clear_plugin_settings_cache()


def test_the_manifest_and_the_table_of_settings_say_the_same() -> None:
    pages = PluginManifest.from_file(MANIFEST).contributions.configurations
    declared = {name: (page, prop) for page, one in pages.items() for name, prop in one.properties.items()}
    assert {name: page for name, (page, _) in declared.items()} == CATEGORIES
    assert {name: prop.default for name, (_, prop) in declared.items()} == asdict(Settings())
    assert tuple(declared["tokens"][1].enum) == PLACES
    assert all(prop.description.endswith(".") for _, prop in declared.values())


def test_settings_are_read_from_the_preferences_of_napari(in_preferences: Any) -> None:
    assert settings() == Settings()
    in_preferences.maps.opacity = 31
    in_preferences.embedding.tokens = IN_CACHE
    assert settings() == Settings(opacity=31, tokens=IN_CACHE)


def test_settings_are_kept_in_the_preferences_of_napari(in_preferences: Any, user_folder: Path) -> None:
    keep_settings(CHANGED)
    assert in_preferences.fitting.graph_memory_gib == 0.25
    assert settings() == CHANGED
    assert not (user_folder / "settings.json").exists()


def test_settings_are_kept_in_a_file_below_napari_0_9(below_0_9: None, user_folder: Path) -> None:
    keep_settings(CHANGED)
    assert json.loads((user_folder / "settings.json").read_text())["opacity"] == 31
    assert settings() == CHANGED


@pytest.mark.parametrize("text", ["", "[]", "{", '{"opacity": "much", "tokens": "nowhere", "encoder": " ", "x": 1}'])
def test_a_damaged_file_is_as_none(below_0_9: None, user_folder: Path, text: str) -> None:
    user_folder.mkdir(parents=True, exist_ok=True)
    (user_folder / "settings.json").write_text(text)
    assert settings() == Settings()


def test_the_dialog_changes_settings_and_restores_them(below_0_9: None, qtbot: Any) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    dialog = SettingsDialog(parent)
    dialog.show_settings(CHANGED)
    dialog.accept()
    assert settings() == CHANGED
    again = SettingsDialog(parent)
    assert again.chosen == CHANGED
    box = again.findChild(QDialogButtonBox)
    box.button(QDialogButtonBox.StandardButton.RestoreDefaults).click()
    again.reject()
    assert settings() == CHANGED
    again = SettingsDialog(parent)
    again.show_settings(Settings())
    again.accept()
    assert settings() == Settings()


def test_settings_open_the_preferences_of_napari_on_our_page(in_preferences: Any, viewer: Any) -> None:
    dialog = show_settings(viewer, viewer.window._qt_window)
    assert dialog._list.currentItem().text() == "Prospector"
    dialog.reject()


def test_the_encoder_is_that_of_new_work(in_preferences: Any, viewer: Any) -> None:
    keep_settings(Settings(encoder="mean-colour"))
    assert workspace_of(viewer).study.encoder == EncoderChoice("mean-colour")


def test_tokens_are_kept_where_the_settings_say_and_found_where_they_are(below_0_9: None, tmp_path: Path) -> None:
    slide, folder = tmp_path / "here" / "a.tif", tmp_path / "there"
    slide.parent.mkdir()
    beside = default_tokens_path(slide, CARD)
    assert beside.parent == slide.parent
    keep_settings(Settings(tokens=IN_FOLDER, tokens_folder=str(folder)))
    assert default_tokens_path(slide, CARD).parent.parent == folder
    other = tmp_path / "elsewhere" / "a.tif"
    assert default_tokens_path(other, CARD) != default_tokens_path(slide, CARD)
    keep_settings(Settings(tokens=IN_CACHE))
    assert folder not in default_tokens_path(slide, CARD).parents
    assert slide.parent not in default_tokens_path(slide, CARD).parents
    beside.mkdir()
    assert default_tokens_path(slide, CARD) == beside


@pytest.mark.parametrize("offline", [True, False])
def test_offline_asks_no_hub(
    below_0_9: None, offline: bool, slide_file: Path, monkeypatch: pytest.MonkeyPatch, mean_colour: Any
) -> None:
    asked: list[Any] = []

    def load(name: str, **options: Any) -> Any:
        asked.append(options["offline"])
        return mean_colour

    monkeypatch.setattr(cards, "load_encoder", load)
    keep_settings(Settings(offline=offline))
    for _ in embed(EmbedJob((StudySlide(slide_file),), EncoderChoice("mean-colour"))):
        pass
    assert asked == [offline]


def test_maps_are_drawn_with_the_opacity_of_the_settings(below_0_9: None) -> None:
    keep_settings(Settings(opacity=31))
    assert map_look(1.0)["opacity"] == 0.31


def test_export_begins_with_the_tolerance_of_the_settings(below_0_9: None, qtbot: Any) -> None:
    keep_settings(Settings(tolerance_um=2.5))
    box = ExportBox()
    qtbot.addWidget(box)
    assert box.tolerance.value() == 2.5


def test_fit_keeps_as_many_tokens_as_the_settings_allow(
    below_0_9: None, embedded_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_prospector._napari.fit_job import FitRequest, fit_head, plan_fit
    from napari_prospector.study import cohort_graphs

    allowed: list[int] = []
    init = cohort_graphs.CohortGraphs.__init__

    def note(self: Any, paths: Any, cache_bytes: int = -1, *args: Any, **keywords: Any) -> None:
        allowed.append(cache_bytes)
        init(self, paths, cache_bytes, *args, **keywords)

    monkeypatch.setattr(cohort_graphs.CohortGraphs, "__init__", note)
    keep_settings(replace(Settings(), graph_memory_gib=0.5))
    steps = fit_head(plan_fit(FitRequest(), embedded_study), Path)
    while not allowed:
        next(steps)
    steps.close()
    assert allowed[0] == 2**29
