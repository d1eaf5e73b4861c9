"""Devices of torch: batches that fit, and the order of things on CUDA, which is faked where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from napari_prospector.errors import InvalidInputError, NotEnoughMemoryError, ProspectorWarning  # noqa: E402
from napari_prospector.tokens.encoders.cards import EncoderCard, load_encoder  # noqa: E402
from napari_prospector.tokens.encoders.devices import TorchDevice, fitting_batch  # noqa: E402
from napari_prospector.tokens.encoders.torch_encoder import TimmEncoder  # noqa: E402
from napari_prospector.tokens.stopping import StopRequested, stopping_when  # noqa: E402

GIB = 2**30
CARD = EncoderCard("tiny", "timm", "timm:test_vit", tile_px=160, mpp=0.5, mean=(0.5,) * 3, std=(0.3,) * 3)


def tiles(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 160, 160, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(5)
    return timm.create_model("test_vit", num_classes=0)


@pytest.mark.parametrize(
    ("wanted", "per_tile", "expected"), [(256, GIB // 1000, 256), (256, GIB // 10, 64), (29, GIB, 4), (29, 9 * GIB, 1)]
)
def test_the_batch_is_what_makes_sense_or_the_power_of_two_that_fits(wanted: int, per_tile: int, expected: int) -> None:
    tried: list[int] = []

    def peak(n_tiles: int) -> int:
        tried.append(n_tiles)
        return n_tiles * per_tile

    assert fitting_batch(wanted, peak, 10 * GIB) == expected
    assert tried == [4]


def test_a_little_less_free_memory_gives_the_same_batch() -> None:
    sizes = {fitting_batch(256, lambda n: n * GIB // 10, int(free * GIB)) for free in (9.2, 10, 13, 18)}
    assert sizes == {64}


def test_a_trial_that_does_not_fit_means_one_tile_at_a_time() -> None:
    def fails(error: Exception) -> Any:
        def peak(n_tiles: int) -> int:
            raise error

        return peak

    assert fitting_batch(256, fails(torch.OutOfMemoryError("CUDA out of memory.")), GIB) == 1
    with pytest.raises(RuntimeError, match="no kernel image"):
        fitting_batch(256, fails(RuntimeError("no kernel image is available")), GIB)


def test_the_batch_on_cuda_follows_from_the_memory_that_one_trial_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    allocated = {"now": 3 * GIB, "most": 3 * GIB}
    for name, answer in {
        "reset_peak_memory_stats": lambda _: allocated.update(most=allocated["now"]),
        "memory_allocated": lambda _: allocated["now"],
        "max_memory_allocated": lambda _: allocated["most"],
        "memory_reserved": lambda _: 5 * GIB,
        "mem_get_info": lambda _: (18 * GIB, 24 * GIB),
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    device = TorchDevice("cuda")

    def run(n_tiles: int) -> None:
        allocated["most"] = allocated["now"] + n_tiles * GIB // 8

    # 18 GiB free and 2 held unused are 10 for each of two lanes; 70 % of that are 56 tiles of an eighth
    assert device.batch_size(4e10, run) == 32
    assert device.batch_size(4e11, run) == 25
    assert (device.lanes, TorchDevice("cpu").lanes) == (2, 1)


def test_on_cuda_each_thread_has_one_stream_that_waits_for_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: calls.append("Stream") or f"stream {len(calls)}")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    device = TorchDevice("cuda")
    assert device.stream() == device.stream() == "stream 2"
    assert calls == ["synchronize", "Stream"]


def test_on_the_cpu_the_batch_is_about_a_second_of_work() -> None:
    assert TorchDevice("cpu").batch_size(9.2e9, lambda n: pytest.fail("no trial on a CPU")) == 6
    assert TorchDevice("cpu").batch_size(1e13, lambda n: None) == 1


def test_a_model_that_runs_out_of_memory_gives_all_embeddings_all_the_same(model: Any) -> None:
    encoder = TimmEncoder(model, CARD)
    expected = encoder.encode(tiles(7))
    plain, sizes = encoder._features, []

    def cramped(pixels: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return plain(pixels)

    encoder._features = cramped
    encoder.batch_size = 7
    with pytest.warns(ProspectorWarning, match="'tiny': 7 tiles at once do not fit in memory; it goes on with 3"):
        embeddings = encoder.encode(tiles(7))
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert encoder.batch_size == 1


def test_a_model_that_has_no_memory_for_one_tile_is_refused_when_it_is_loaded(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cramped(pixels: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(model, "forward_features", cramped)
    with pytest.raises(NotEnoughMemoryError, match=r"'tiny' must have memory for one tile at a time"):
        TimmEncoder(model, CARD)


def test_compiling_is_refused_where_it_does_not_pay(model: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"compiled pays on device='cuda' only; got device='cpu'\. Leave it"):
        TimmEncoder(model, CARD, compiled=True)


def test_compiling_is_asked_for_where_an_encoder_is_loaded(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "tiny.safetensors")
    with pytest.raises(InvalidInputError, match="compiled pays on device='cuda' only"):
        load_encoder("test_vit", tmp_path / "tiny.safetensors", {"num_classes": 0}, device="cpu", compiled=True)
    with pytest.raises(InvalidInputError, match="'stain-texture' takes no compiled; got compiled=True"):
        load_encoder("stain-texture", compiled=True)


def test_a_compiled_model_sees_batches_of_one_size_only(model: Any) -> None:
    encoder = TimmEncoder(model, CARD)
    encoder.batch_size = 5
    expected, plain, sizes = encoder.encode(tiles(7)), encoder._features, []
    encoder._features = lambda pixels: sizes.append(len(pixels)) or plain(pixels)  # type: ignore[func-returns-value]
    encoder._padded = True
    np.testing.assert_allclose(encoder.encode(tiles(7)), expected, atol=1e-5)
    assert sizes == [5, 5]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_two_lanes_on_cuda_give_what_one_gives(model: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    encoder = TimmEncoder(model, CARD, "cuda")
    batches = [tiles(n) for n in range(1, 17)]
    expected = [encoder.encode(batch) for batch in batches]
    with ThreadPoolExecutor(encoder.lanes) as pool:
        for ours, alone in zip(pool.map(encoder.encode, batches), expected, strict=True):
            np.testing.assert_array_equal(ours, alone)


def test_a_batch_that_nobody_wants_any_more_is_left_between_layers(model: Any) -> None:
    encoder, asked = TimmEncoder(model, CARD), []

    def is_stopped() -> bool:
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(StopRequested), stopping_when(is_stopped):
        encoder.encode(tiles(3))
    assert len(asked) == 6
    assert np.isfinite(encoder.encode(tiles(3))).all()
