"""Weights of an encoder: from a file, from folders of every layout, and from a hub on the loopback interface."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback_hub import COMMIT, LoopbackHub, Repository, environment, point_to, serving, sha256

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, ProspectorWarning
from napari_prospector.tokens.encoders import cards
from napari_prospector.tokens.encoders.cards import load_encoder
from napari_prospector.tokens.encoders.encodercard import EncoderCard
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import TokenGrid

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

REPO = "owner/tiny-vit"
HALF = (0.5, 0.5, 0.5)
CARD = EncoderCard(
    "tiny",
    "timm",
    "timm:test_vit",
    tile_px=160,
    mpp=0.5,
    mean=HALF,
    std=HALF,
    licence="mit",
    gated=False,
    hub=REPO,
    revision=COMMIT,
    model_args={"num_classes": 0},
)
TILES = np.random.default_rng(3).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    torch.manual_seed(7)
    return dict(timm.create_model("test_vit", num_classes=0).state_dict())


@pytest.fixture(scope="module")
def content(tensors: dict[str, Any]) -> bytes:
    from safetensors.torch import save

    return bytes(save(tensors))


@pytest.fixture
def file(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "by hand.safetensors"
    path.write_bytes(content)
    return path


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> EncoderCard:
    monkeypatch.setattr(cards, "_BUILT_IN", (*cards._BUILT_IN, CARD))
    return CARD


@pytest.fixture
def hub(known: EncoderCard, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with serving({REPO: Repository({"model.safetensors": content})}) as running:
        point_to(running, tmp_path / "cache", monkeypatch)
        yield running


def divide(tensors: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """Write weights in two parts with an index, as transformers does, and return the files."""
    from safetensors.torch import save

    names = sorted(tensors)
    parts = {
        "model-00001-of-00002.safetensors": names[:11],
        "model-00002-of-00002.safetensors": names[11:],
    }
    found = {part: bytes(save({name: tensors[name] for name in held})) for part, held in parts.items()}
    weight_map = {name: part for part, held in parts.items() for name in held}
    found["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in found.items():
        (folder / name).write_bytes(one)
    return found


def test_weights_come_from_the_hub_with_commit_and_hash_into_the_card(
    hub: LoopbackHub, content: bytes, file: Path
) -> None:
    with pytest.warns(ProspectorWarning, match=r"Downloading the weights of 'tiny'.*licence mit, to "):
        encoder = load_encoder("tiny", device="cpu")
    assert (encoder.card.hub, encoder.card.revision) == (REPO, COMMIT)
    assert encoder.card.weights_sha256 == sha256(content)
    by_hand = load_encoder("tiny", weights=file, device="cpu")
    assert np.array_equal(encoder.encode(TILES), by_hand.encode(TILES))
    assert by_hand.card.revision is None
    assert by_hand.card.identity() == encoder.card.identity()


def test_the_second_time_nobody_is_asked_and_nothing_is_said(hub: LoopbackHub) -> None:
    with pytest.warns(ProspectorWarning, match="Downloading"):
        load_encoder("tiny", device="cpu")
    hub.requests.clear()
    load_encoder("tiny", device="cpu")
    load_encoder("tiny", device="cpu", offline=True)
    assert hub.requests == []


def test_another_revision_may_be_asked_for(hub: LoopbackHub, content: bytes) -> None:
    other = "a" * 40
    hub.repositories[REPO].revisions["v2"] = other
    with pytest.warns(ProspectorWarning, match="at aaaaaaaaaaaa"):
        assert load_encoder("tiny", device="cpu", revision="v2").card.revision == other


def test_a_card_without_a_revision_records_the_commit_of_main(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "_BUILT_IN", (dataclasses.replace(CARD, revision=None, gated=True),))
    with pytest.warns(ProspectorWarning, match=f"licence mit, gated, .*pins no revision.*commit {COMMIT} is recorded"):
        assert load_encoder("tiny", device="cpu").card.revision == COMMIT


def test_wrong_bytes_never_become_an_encoder(hub: LoopbackHub) -> None:
    hub.wrong_bytes = True
    with (
        pytest.warns(ProspectorWarning, match="Downloading"),
        pytest.raises(FileFormatError, match="as the hub states.*removed from the cache"),
    ):
        load_encoder("tiny", device="cpu")


def test_bytes_that_rot_in_the_cache_are_noticed_offline_too(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.warns(ProspectorWarning, match="Downloading"):
        load_encoder("tiny", device="cpu")
    blob = next(path for path in (tmp_path / "cache").rglob("blobs/*") if path.is_file())
    rotten = bytearray(blob.read_bytes())
    rotten[-5] ^= 1
    blob.write_bytes(rotten)
    with pytest.raises(FileFormatError, match="as the hub states"):
        load_encoder("tiny", device="cpu", offline=True)


def test_what_cannot_be_built_is_not_downloaded(hub: LoopbackHub) -> None:
    with pytest.raises(InvalidInputError, match="cannot be built with model_args"):
        load_encoder("tiny", model_args={"flavour": 3}, device="cpu")
    assert hub.requests == []


def test_divided_weights_come_from_the_hub_part_by_part(
    hub: LoopbackHub, tensors: dict[str, Any], file: Path, tmp_path: Path
) -> None:
    hub.repositories[REPO].files = divide(tensors, tmp_path / "divided")
    with pytest.warns(ProspectorWarning) as said:
        encoder = load_encoder("tiny", device="cpu")
    assert len(said) == 3
    assert np.array_equal(encoder.encode(TILES), load_encoder("tiny", weights=file, device="cpu").encode(TILES))
    assert encoder.card.revision == COMMIT
    local = load_encoder("tiny", weights=tmp_path / "divided", device="cpu")
    assert local.card.weights_sha256 == encoder.card.weights_sha256


def test_the_hash_of_divided_weights_is_that_of_what_sha256sum_prints(
    known: EncoderCard, tensors: dict[str, Any], tmp_path: Path
) -> None:
    files = divide(tensors, tmp_path / "divided")
    parts = sorted(name for name in files if name.endswith(".safetensors"))
    printed = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in parts)
    encoder = load_encoder("tiny", weights=tmp_path / "divided", device="cpu")
    assert encoder.card.weights_sha256 == hashlib.sha256(printed.encode()).hexdigest()


@pytest.mark.parametrize("depth", ["snapshot", "model", "cache"])
def test_a_copy_of_the_hubs_cache_is_read_at_every_depth(
    depth: str, hub: LoopbackHub, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(ProspectorWarning, match="Downloading"):
        load_encoder("tiny", device="cpu")
    copied = tmp_path / "stick"
    shutil.copytree(tmp_path / "cache", copied, symlinks=True)
    hub.requests.clear()
    places = {"cache": copied, "model": copied / "models--owner--tiny-vit"}
    places["snapshot"] = places["model"] / "snapshots" / COMMIT
    encoder = load_encoder("tiny", weights=places[depth], device="cpu")
    assert (encoder.card.weights_sha256, encoder.card.revision) == (sha256(content), COMMIT)
    assert hub.requests == []
    blob = next((copied / "models--owner--tiny-vit" / "blobs").iterdir())
    blob.write_bytes(content[:-5] + bytes(5))
    with pytest.raises(FileFormatError, match="as its place in the hub's cache says; it has .* Copy it again"):
        load_encoder("tiny", weights=places[depth], device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "the card's own.pth"])
def test_a_folder_of_files_is_searched_for_the_names_that_are_known(
    name: str, tensors: dict[str, Any], content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "_BUILT_IN", (dataclasses.replace(CARD, weight_files=("the card's own.pth",)),))
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "optimizer.bin").write_bytes(b"something else")
    if name.endswith(".safetensors"):
        (folder / name).write_bytes(content)
    else:
        torch.save(tensors, folder / name)
    assert load_encoder("tiny", weights=folder, device="cpu").card.weights_sha256 == sha256(
        (folder / name).read_bytes()
    )


def test_a_lone_weight_file_in_a_folder_is_taken_whatever_its_name(known: EncoderCard, file: Path) -> None:
    assert load_encoder("tiny", weights=file.parent, device="cpu").card.weights_sha256


@pytest.mark.parametrize("names", [[], ["a.pth", "b.pth"]])
def test_a_folder_that_leaves_the_choice_open_is_refused(names: list[str], known: EncoderCard, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(
        MissingFileError,
        match=rf"weights of 'tiny': one of model\.safetensors,.*it holds {', '.join(names) or 'none'}\. Pass the file",
    ):
        load_encoder("tiny", weights=tmp_path, device="cpu")


def test_a_part_that_is_missing_is_named(known: EncoderCard, tensors: dict[str, Any], tmp_path: Path) -> None:
    divide(tensors, tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"names model-00002-of-00002\.safetensors; put it beside"):
        load_encoder("tiny", weights=tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged, or no index"),
        ('{"weight_map": 3}', "is damaged, or no index"),
        ('{"weight_map": {}}', "must name files beside it"),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "must name files beside it"),
        ('{"weight_map": {"a": 5}}', "must name files beside it"),
    ],
)
def test_a_damaged_or_wily_index_is_refused(text: str, words: str, known: EncoderCard, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(FileFormatError, match=words):
        load_encoder("tiny", weights=tmp_path, device="cpu")


_PROGRAM = f"""
import sys
from napari_prospector.tokens.encoders import cards
from napari_prospector.tokens.encoders.encodercard import EncoderCard
cards._BUILT_IN += ({CARD!r},)
from napari_prospector.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_command_line_downloads_embeds_and_records_and_offline_goes_on(
    hub: LoopbackHub, content: bytes, tmp_path: Path
) -> None:
    slide = write_pyramid(
        tmp_path / "slide.tif", np.random.default_rng(5).integers(0, 200, (401, 521, 3), dtype=np.uint8), 0.5
    )

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        words = ["embed", str(slide), "-o", str(tmp_path / "t"), "--encoder", "tiny", "--tissue", "all", *more]
        return subprocess.run(
            [sys.executable, "-c", _PROGRAM, *words],
            check=False,
            capture_output=True,
            text=True,
            env=environment(hub, tmp_path / "home"),
        )

    refused = run("--offline")
    assert refused.returncode == 1
    assert f"not in the cache {tmp_path / 'home' / 'hub'}, and this machine is offline" in refused.stderr
    assert hub.requests == []
    done = run()
    assert done.returncode == 0, done.stderr
    assert "Note: Downloading the weights of 'tiny': model.safetensors (1.23 MB)" in done.stderr
    card = TokenGrid.open(tmp_path / "t" / "slide.tif.tokens.zarr").card
    assert (card["hub"], card["revision"], card["weights_sha256"]) == (REPO, COMMIT, sha256(content))
    hub.requests.clear()
    again = run("--offline", "--overwrite")
    assert again.returncode == 0, again.stderr
    assert "Downloading" not in again.stderr
    assert hub.requests == []
