"""From what was asked to a job or a sentence; neither Qt nor napari is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from napari_prospector._napari.request import MAPS as LISTED_MAPS
from napari_prospector._napari.request import (
    Facts,
    ProspectJob,
    ProspectRequest,
    Refusal,
    cache_folder,
    content_tokens_path,
    default_tokens_path,
    head_caption,
    plan,
)
from napari_prospector.core.classkernels import KERNEL_MAPS, MAPS


def head(*classes: str, maps: tuple[str, ...] = MAPS, **card: Any) -> Any:
    return SimpleNamespace(
        classes_=list(classes) or ["normal", "tumour"],
        card_={"encoder": {"name": "stain-texture", "tile_px": 224, "mpp": 0.5, **card}},
        quantizer_=SimpleNamespace(n_concepts_=17),
        radius_=2,
        maps_=maps,
        best_map_=maps[-1],
        is_calibrated_=False,
    )


ASKED = ProspectRequest(layer="case7", path=Path("/slides/case7.svs"), head=Path("/heads/tumour.prospector"))
KNOWN = Facts(slide_mpp=0.25, head=head())


def refused(asked: ProspectRequest, known: Facts = KNOWN) -> str:
    planned = plan(asked, known)
    assert isinstance(planned, Refusal)
    return planned.sentence


def test_a_complete_request_becomes_a_job() -> None:
    job = plan(replace(ASKED, map="decision", target="tumour", tokens=Path("/t/x.tokens.zarr")), KNOWN)
    assert isinstance(job, ProspectJob)
    assert (job.slide, job.tokens, job.map, job.target) == (ASKED.path, Path("/t/x.tokens.zarr"), "decision", "tumour")
    assert job.head is KNOWN.head
    assert job.mpp == 0.25
    assert job.also_look_in == ()


@pytest.mark.parametrize("maps", [MAPS, KERNEL_MAPS])
def test_without_a_map_the_best_of_the_head_is_drawn(maps: tuple[str, ...]) -> None:
    job = plan(ASKED, replace(KNOWN, head=head(maps=maps)))
    assert isinstance(job, ProspectJob)
    assert job.map == maps[-1]


@pytest.mark.parametrize("name", MAPS)
def test_every_map_of_the_head_can_be_asked_for(name: str) -> None:
    job = plan(replace(ASKED, map=name), KNOWN)
    assert isinstance(job, ProspectJob)
    assert job.map == name


def test_the_listed_maps_are_those_of_the_core() -> None:
    assert LISTED_MAPS == MAPS


def test_tokens_of_the_command_line_are_looked_for_unless_a_folder_is_named() -> None:
    job = plan(ASKED, KNOWN)
    assert isinstance(job, ProspectJob)
    assert Path("/slides/tokens/case7.svs.tokens.zarr") in job.also_look_in
    assert Path("/tokens/case7.svs.tokens.zarr") in job.also_look_in


def test_a_token_grid_is_its_own_store_and_needs_no_pixel_size() -> None:
    grid = Path("/t/case7.tokens.zarr")
    job = plan(replace(ASKED, kind="tokens", path=grid), replace(KNOWN, slide_mpp=None))
    assert isinstance(job, ProspectJob)
    assert (job.slide, job.tokens) == (None, grid)


@pytest.mark.parametrize(
    ("asked", "known", "sentence"),
    [
        ({"layer": None}, {}, "Open a slide"),
        ({"path": None}, {"slide_mpp": None}, "Layer 'case7' states no pixel size"),
        ({"head": None}, {}, r"Choose a head, a \*.prospector file"),
        ({}, {"head": None}, "tumour.prospector is being loaded"),
        ({}, {"head": None, "head_problem": "It is damaged."}, "It is damaged"),
        ({"target": "benign"}, {}, "'benign' is no class of this head; it knows normal, tumour"),
        ({"map": "saliency"}, {}, "This head draws evidence, decision, refined; got 'saliency'"),
        (
            {"map": "refined"},
            {"head": head(maps=KERNEL_MAPS)},
            "This head draws no refined map; choose one of evidence, decision.",
        ),
        ({}, {"head": head("a", "b", "c")}, "Choose the class to look for: a, b, c"),
        ({}, {"slide_mpp": None}, "case7.svs states no pixel size. Fill in 'Pixel size'"),
        ({"mpp": 0.01}, {}, "A pixel size lies between 0.05 and 20.0 µm; got 0.01"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(asked: dict[str, Any], known: dict[str, Any], sentence: str) -> None:
    import re

    assert re.search(sentence, refused(replace(ASKED, **asked), replace(KNOWN, **known)))


def test_tokens_lie_beside_the_slide_and_name_their_encoder(tmp_path: Path) -> None:
    slide = tmp_path / "case7.svs"
    assert (
        default_tokens_path(slide, {"name": "hf-hub:org/model"}) == tmp_path / "case7.svs.hf-hub-org-model.tokens.zarr"
    )
    assert default_tokens_path(slide, {}) == tmp_path / "case7.svs.tokens.zarr"
    normalized = {"name": "uni", "stain_normalize": "macenko"}
    assert default_tokens_path(slide, normalized).name == "case7.svs.uni.macenko.tokens.zarr"


def test_tokens_of_a_slide_in_a_locked_folder_go_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, two = (default_tokens_path(tmp_path / folder / "case7.svs", {"name": "fake"}) for folder in "ab")
    assert one != two
    assert one.name == two.name == "case7.svs.fake.tokens.zarr"
    assert one.is_relative_to(cache_folder())


def test_tokens_that_are_there_are_used_even_in_a_locked_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    (tmp_path / "case7.svs.fake.tokens.zarr").mkdir()
    assert default_tokens_path(tmp_path / "case7.svs", {"name": "fake"}).parent == tmp_path


def test_a_caption_says_what_a_head_is() -> None:
    caption = head_caption(head())
    assert caption == (
        "normal / tumour · 17 concepts, radius 2 · stain-texture, tiles of 224 px at 0.5 µm"
        " · best map: refined · probabilities not calibrated"
    )


def test_neither_qt_nor_napari_is_loaded_for_any_of_this() -> None:
    code = (
        "import sys\n"
        "import napari_prospector._napari.request, napari_prospector._napari.job, napari_prospector._napari.layers\n"
        "print([m for m in ('napari', 'qtpy', 'vispy', 'torch', 'dask') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_tokens_of_an_array_are_named_by_its_content_unless_a_folder_is_chosen() -> None:
    planned = plan(replace(ASKED, path=None), KNOWN)
    assert isinstance(planned, ProspectJob)
    assert planned.is_array
    assert planned.by_content
    assert planned.slide is None
    encoder = {"name": "stain-texture"}
    place = content_tokens_path(planned.tokens, "ab" * 32, encoder)
    assert place == cache_folder() / "tokens" / "layers" / ("ab" * 12) / "layer.stain-texture.tokens.zarr"
    chosen = plan(replace(ASKED, path=None, tokens=Path("/mine.tokens.zarr")), KNOWN)
    assert isinstance(chosen, ProspectJob)
    assert (chosen.tokens, chosen.by_content) == (Path("/mine.tokens.zarr"), False)
