"""Each check of the doctor, green and otherwise; nothing is downloaded and nothing is left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from loopback_hub import COMMIT, GOOD_TOKEN, LoopbackHub, Repository, point_to, serving

from napari_prospector.errors import StorageError
from napari_prospector.tokens import doctor, durable
from napari_prospector.tokens.doctor import Check, SlideToCheck, examine
from napari_prospector.tokens.encoders import cards
from napari_prospector.tokens.encoders.cards import checked_options
from napari_prospector.tokens.encoders.encodercard import EncoderCard
from napari_prospector.tokens.pyramid import write_pyramid

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

REPO = "owner/tiny-vit"
HALF = (0.5, 0.5, 0.5)
CARD = EncoderCard(
    "tiny",
    "timm",
    "timm:test_vit",
    tile_px=96,
    mpp=0.5,
    mean=HALF,
    std=HALF,
    n_dims=64,
    licence="mit",
    gated=False,
    hub=REPO,
    revision=COMMIT,
    model_args={"num_classes": 0},
)
GREY = np.random.default_rng(5).integers(60, 180, (577, 389, 3), dtype=np.uint8)


def known(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setattr(cards, "_BUILT_IN", (*cards._BUILT_IN, dataclasses.replace(CARD, **changes)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    known(monkeypatch)
    with serving({REPO: Repository({"model.safetensors": b"w" * 10_007})}) as running:
        point_to(running, tmp_path / "cache", monkeypatch)
        yield running


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    # half of it is glass
    image = np.full((577, 778, 3), 244, np.uint8)
    image[:, :389] = GREY
    return write_pyramid(tmp_path / "slide.tif", image, 0.5)


def checks(*args: Any, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in examine(*args, **options)}


def test_the_built_in_encoder_is_always_ready(tmp_path: Path) -> None:
    found = checks("stain-texture", out=tmp_path)
    assert {check.verdict for check in found.values()} == {"green"}
    assert list(found) == ["versions", "encoder", "weights", "device", "folder", "disk"]
    assert "Python 3" in found["versions"].sentence
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_encoder_ends_the_examination_with_close_names() -> None:
    found = checks("uni3")
    assert list(found) == ["versions", "encoder"]
    assert found["encoder"] == Check(
        "encoder", "red", "Encoder 'uni3' is unknown.", "Close names: 'uni', 'uni2-h'. List all: prospect encoders."
    )


def test_a_model_on_the_hub_is_asked_for_and_not_downloaded(hub: LoopbackHub, tmp_path: Path) -> None:
    found = checks("tiny")
    assert found["weights"].verdict == "green"
    assert "model.safetensors of owner/tiny-vit be read, 10 kB" in found["weights"].sentence
    assert {method for method, *_ in hub.requests} == {"HEAD"}, hub.requests
    assert not (tmp_path / "cache").exists()


def test_what_is_in_the_cache_needs_no_question(hub: LoopbackHub) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(REPO, "model.safetensors", revision=COMMIT)
    hub.requests.clear()
    assert "is in the cache, 0123456789ab" in checks("tiny")["weights"].sentence
    assert hub.requests == []


def test_a_gated_model_names_page_and_login_until_access_is_granted(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, gated=True)
    monkeypatch.setattr(cards, "_BUILT_IN", cards._BUILT_IN[-1:])
    hub.repositories[REPO].access = "gated"
    weights = checks("tiny")["weights"]
    assert weights.verdict == "red"
    assert f"Accept it at {hub.endpoint}/owner/tiny-vit, then log in with `hf auth login`" in weights.remedy
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    assert "Accept the licence at" in checks("tiny")["weights"].remedy
    hub.repositories[REPO].granted = True
    found = checks("tiny")
    assert found["weights"].sentence.startswith("The licence is accepted and the hub lets")
    assert "granted on request" in found["encoder"].sentence
    assert not any(GOOD_TOKEN in repr(check) for check in found.values())


def test_a_revision_that_is_not_pinned_and_entries_that_are_not_verified_are_amber(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = dataclasses.replace(CARD, revision=None, licence=None, unverified=("revision", "licence"))
    monkeypatch.setattr(cards, "_BUILT_IN", (changed,))
    found = checks("tiny")
    assert found["weights"].verdict == found["encoder"].verdict == "amber"
    assert f"revision='{COMMIT}'" in found["weights"].remedy
    assert found["encoder"].remedy == "Not verified for its card: licence. Look at its page."


def test_offline_without_the_weights_is_red_and_says_how_to_bring_them(hub: LoopbackHub) -> None:
    found = checks("tiny", options=checked_options(offline=True))
    assert "offline: nothing is asked" in found["network"].sentence
    assert found["weights"].verdict == "red"
    assert "hf download owner/tiny-vit model.safetensors" in found["weights"].remedy
    assert hub.requests == []


def test_a_hub_that_is_down_is_red(hub: LoopbackHub) -> None:
    hub.status = 503
    assert checks("tiny")["weights"].sentence == "The hub answers with status 503 for owner/tiny-vit."


def test_weights_that_do_not_fit_in_the_cache_are_red(hub: LoopbackHub) -> None:
    hub.pretended_size = 10**17
    assert checks("tiny")["weights"].verdict == "red"
    assert "Free space there" in checks("tiny")["weights"].remedy


def test_a_model_on_no_hub_asks_for_a_file() -> None:
    weights = checks("timm:test_vit")["weights"]
    assert (weights.verdict, "Pass weights=FILE (--weights)" in weights.remedy) == ("red", True)


def test_a_weight_file_is_held_against_the_model_without_building_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    known(monkeypatch)
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    assert checks("tiny", options=checked_options(weights=path))["weights"].verdict == "green"
    other = checks("tiny", options=checked_options(weights=path, model_args={"num_classes": 11}))["weights"]
    assert (other.verdict, "head.weight is missing" in other.sentence) == ("red", True)
    gone = checks("tiny", options=checked_options(weights=tmp_path / "gone.safetensors"))["weights"]
    assert (gone.verdict, "does not exist" in gone.sentence) == ("red", True)


def test_an_unknown_normalization_is_red_until_it_is_passed(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "_BUILT_IN", (dataclasses.replace(CARD, mean=None, std=None),))
    assert checks("tiny")["normalization"].verdict == "red"
    assert "normalization" not in checks("tiny", options=checked_options(mean=HALF, std=HALF))


def test_a_device_that_is_not_there_is_red_and_the_cpu_is_amber(hub: LoopbackHub) -> None:
    assert checks("tiny", options=checked_options(device="tpu"))["device"].verdict == "red"
    device = checks("tiny", options=checked_options(device="cpu"))["device"]
    assert (device.verdict, "--estimate" in device.remedy) == ("amber", True)


@pytest.mark.parametrize(("free", "verdict"), [(10**12, "green"), (10**6, "red"), (None, "amber")])
def test_memory_is_held_against_the_size_of_the_model(
    free: int | None, verdict: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_available_bytes", lambda: free)
    memory = checks("tiny", options=checked_options(device="cpu"))["memory"]
    assert memory.verdict == verdict
    n_parameters = sum(part.numel() for part in timm.create_model("test_vit", num_classes=0).parameters())
    needed = 4 * n_parameters + 1_500_000_000
    assert f"about {needed / 1e9:.3g} GB are needed" in memory.sentence


def test_the_memory_of_this_machine_is_known() -> None:
    found = doctor._available_bytes()
    assert found is not None
    assert 10**7 < found < 10**14


def test_a_sound_slide_is_green_and_its_tokens_are_held_against_the_disk(
    slide: Path, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks("tiny", [SlideToCheck(slide)], tmp_path / "new" / "folder")
    assert found["slide.tif"].verdict == "green"
    assert "778 x 577 px at 0.5 µm, tissue on 51 %: 24 tiles" in found["slide.tif"].sentence
    assert "need about 3.07 kB" in found["disk"].sentence
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1009))
    full = checks("tiny", [SlideToCheck(slide)], tmp_path)["disk"]
    assert (full.verdict, "Free space there" in full.remedy) == ("red", True)


def test_a_slide_without_pixel_size_is_red_and_an_absurd_one_too(slide: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(GREY).save(tmp_path / "silent.png")
    Image.fromarray(GREY).save(tmp_path / "screen.png", dpi=(72, 72))
    silent, screen, passed = (
        checks("stain-texture", [SlideToCheck(path, mpp)])[path.name]
        for path, mpp in ((tmp_path / "silent.png", None), (tmp_path / "screen.png", None), (slide, 50.0))
    )
    assert silent.sentence == "silent.png states no pixel size."
    assert "Pass mpp=" in silent.remedy
    assert (screen.verdict, "outside of 0.05-20 µm" in screen.sentence) == ("red", True)
    assert (passed.verdict, "50" in passed.sentence) == ("red", True)


def test_a_pixel_size_against_the_file_and_one_too_coarse_are_amber(
    slide: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    against = checks("tiny", [SlideToCheck(slide, 0.25)])["slide.tif"]
    assert (against.verdict, "The file itself states 0.5 µm" in against.sentence) == ("amber", True)
    monkeypatch.setattr(cards, "_BUILT_IN", (dataclasses.replace(CARD, mpp=0.25),))
    coarse = checks("tiny", [SlideToCheck(slide)])["slide.tif"]
    assert (coarse.verdict, "tiles are enlarged" in coarse.sentence) == ("amber", True)


def test_a_slide_without_tissue_a_small_and_a_missing_one_are_red(tmp_path: Path) -> None:
    glass = write_pyramid(tmp_path / "glass.tif", np.full((701, 503, 3), 244, np.uint8), 0.5)
    small = write_pyramid(tmp_path / "small.tif", GREY[:101, :103], 0.5)
    found = checks("stain-texture", [SlideToCheck(path) for path in (glass, small, tmp_path / "gone.svs")])
    assert {found[name].verdict for name in ("glass.tif", "small.tif", "gone.svs")} == {"red"}
    assert "--min-coverage" in found["glass.tif"].remedy
    assert "There is no slide" in found["gone.svs"].sentence


def test_a_folder_that_cannot_be_written_to_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refused)
    folder = checks("stain-texture", out=tmp_path)["folder"]
    assert (folder.verdict, "cannot be written to: Permission denied" in folder.sentence) == ("red", True)


def test_a_file_system_whose_locks_do_not_hold_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_try_lock", lambda handle: True)
    folder = checks("stain-texture", out=tmp_path)["folder"]
    assert (folder.verdict, "its locks do not hold" in folder.sentence) == ("red", True)


def test_a_file_system_without_locks_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(handle: int) -> bool:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(durable, "_try_lock", refused)
    assert checks("stain-texture", out=tmp_path)["folder"].verdict == "red"
    with pytest.raises(StorageError, match="not supported"), contextlib.ExitStack() as stack:
        stack.enter_context(durable.WriterLock(tmp_path / "lock", tmp_path))


def test_an_encoder_of_another_package_is_its_own_business(monkeypatch: pytest.MonkeyPatch, slide: Path) -> None:
    foreign = EncoderCard("theirs", "their loader", "elsewhere", tile_px=96, mpp=0.5)
    monkeypatch.setattr(cards, "_BUILT_IN", (foreign,))
    found = checks("theirs", [SlideToCheck(slide)], slide.parent)
    assert (found["weights"].verdict, found["disk"].verdict) == ("amber", "amber")
    assert found["device"].verdict == "green"


def test_the_tile_that_is_asked_for_counts(slide: Path) -> None:
    found = checks("stain-texture", [SlideToCheck(slide)], options=checked_options(tile_px=64, mpp=1.0))
    assert "tiles of 64 px at 1 µm" in found["encoder"].sentence
    assert "15 tiles" in found["slide.tif"].sentence
