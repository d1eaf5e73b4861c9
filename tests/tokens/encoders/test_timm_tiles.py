"""Any timm model with a local weight file. Random weights of timm's smallest models stand for real ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, NetworkError
from napari_prospector.tokens.encoders.cards import EncoderCard, load_encoder

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

# timm's own test models; both are made for 160 px.
VIT, CONVNET = "test_vit", "test_resnet"
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def tiles() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    torch.manual_seed(5)
    return {name: timm.create_model(name, num_classes=7).eval() for name in (VIT, CONVNET)}


@pytest.fixture(scope="module")
def folder(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    folder: Path = tmp_path_factory.mktemp("weights")
    for name, model in models.items():
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    return folder


def load(name: str, weights: Path, **options: Any) -> Any:
    return load_encoder(name, weights=weights, **{"model_args": {"num_classes": 7}, "device": "cpu", **options})


@pytest.mark.parametrize(("name", "n_dims", "patch_px"), [(VIT, 64, 16), (CONVNET, 96, 32)])
def test_embeddings_are_the_pooled_features_before_the_classifier(
    name: str, n_dims: int, patch_px: int, models: dict[str, Any], folder: Path, tiles: NDArray[np.uint8]
) -> None:
    encoder = load(name, folder / f"{name}.safetensors", mean=(0.1, 0.2, 0.3), std=(0.7, 0.6, 0.5))
    pixels = (torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255.0 - torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / (
        torch.tensor([0.7, 0.6, 0.5]).reshape(3, 1, 1)
    )
    with torch.inference_mode():
        expected = models[name].forward_head(models[name].forward_features(pixels), pre_logits=True)
    embeddings = encoder.encode(tiles)
    assert embeddings.shape == (3, n_dims)
    assert embeddings.dtype == np.float32
    assert (encoder.card.n_dims, encoder.card.patch_px) == (n_dims, patch_px)
    np.testing.assert_allclose(embeddings, expected.numpy(), atol=2e-5)


def test_the_card_says_what_was_loaded(folder: Path) -> None:
    weights = folder / "test_vit.safetensors"
    card = load("timm:test_vit", weights, mpp=0.25).card
    assert card.name == "test_vit"
    assert card.source == "timm:test_vit"
    assert card.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert card.model_args == {"num_classes": 7}
    assert (card.mpp, card.tile_px, card.mean) == (0.25, 160, HALF)
    assert EncoderCard.from_json(card.to_json()) == card


def test_weights_of_another_head_inherit_no_licence(folder: Path) -> None:
    assert load(VIT, folder / "test_vit.safetensors").card.licence is None


def test_saying_what_the_card_says_makes_weights_no_others(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "test_resnet.safetensors"
    save_file(timm.create_model(CONVNET).state_dict(), path)
    same, other = {"mean": HALF, "std": HALF}, {"mean": (0.4, 0.5, 0.5)}
    assert load(CONVNET, path, model_args=None, **same).card.licence == "apache-2.0"
    assert load(CONVNET, path, model_args=None, **other).card.licence is None


def test_more_tiles_than_a_batch_are_taken_in_turns(folder: Path, tiles: NDArray[np.uint8]) -> None:
    encoder = load(VIT, folder / "test_vit.safetensors")
    whole = encoder.encode(tiles)
    encoder.batch_size = 2
    np.testing.assert_allclose(encoder.encode(tiles), whole, atol=1e-5)
    assert encoder.encode(tiles[:0]).shape == (0, 64)


def test_the_same_tiles_give_the_same_bits(folder: Path, tiles: NDArray[np.uint8]) -> None:
    path = folder / "test_resnet.safetensors"
    assert np.array_equal(load(CONVNET, path).encode(tiles), load(CONVNET, path).encode(tiles))


def test_tiles_that_cannot_be_written_to_are_read(folder: Path, tiles: NDArray[np.uint8]) -> None:
    frozen = tiles.copy()
    frozen.flags.writeable = False
    encoder = load(VIT, folder / "test_vit.safetensors")
    assert np.array_equal(encoder.encode(frozen), encoder.encode(tiles))


def test_a_vit_takes_tiles_of_another_size(folder: Path) -> None:
    encoder = load(VIT, folder / "test_vit.safetensors", tile_px=96)
    assert encoder.card.tile_px == 96
    assert encoder.encode(np.zeros((2, 96, 96, 3), np.uint8)).shape == (2, 64)


def test_a_vit_refuses_a_size_that_its_patches_do_not_fill(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="'test_vit' cannot take tiles of tile_px=97"):
        load(VIT, folder / "test_vit.safetensors", tile_px=97)


def test_batches_are_of_about_a_second(folder: Path) -> None:
    assert 1 <= load(VIT, folder / "test_vit.safetensors").batch_size <= 16


@pytest.mark.parametrize("shape", [(160, 160, 3), (3, 160, 161, 3), (3, 3, 160, 160)])
def test_tiles_of_another_shape_are_refused(shape: tuple[int, ...], folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"tiles must be uint8 of shape \(n, 160, 160, 3\); got uint8"):
        load(VIT, folder / "test_vit.safetensors").encode(np.zeros(shape, np.uint8))


def test_tiles_of_another_dtype_are_refused(folder: Path, tiles: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidInputError, match="got float64"):
        load(VIT, folder / "test_vit.safetensors").encode(tiles / 255.0)


def test_missing_weights_of_a_model_on_no_hub_are_asked_for() -> None:
    with pytest.raises(
        InvalidInputError, match=r"'test_resnet' needs its weights.*downloaded silently\. Pass weights=FILE"
    ):
        load_encoder("test_resnet")


def test_missing_weights_of_a_model_on_the_hub_are_not_reached_for_offline() -> None:
    with pytest.raises(NetworkError, match=r"timm/resnet50.a1_in1k .*not in the cache.*offline.*pass weights=FILE"):
        load_encoder("resnet50")


def test_a_weight_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.safetensors of encoder 'test_vit' does not exist"):
        load(VIT, tmp_path / "gone.safetensors")


def test_weights_of_the_wrong_shape_name_the_first_tensors(folder: Path) -> None:
    with pytest.raises(FileFormatError, match=r"head\.weight must have shape \(11, 64\), the file holds \(7, 64\)"):
        load(VIT, folder / "test_vit.safetensors", model_args={"num_classes": 11})


def test_weights_of_another_architecture_name_what_is_missing(folder: Path) -> None:
    with pytest.raises(FileFormatError, match=r"does not fit encoder 'test_resnet': conv1\.0\.weight is missing.*more"):
        load(CONVNET, folder / "test_vit.safetensors")


@pytest.mark.parametrize("name", [VIT, CONVNET])
def test_weights_in_half_precision_are_computed_with_in_single(
    name: str, models: dict[str, Any], tmp_path: Path, tiles: NDArray[np.uint8]
) -> None:
    halves = {key: t.half() if t.is_floating_point() else t for key, t in models[name].state_dict().items()}
    torch.save(halves, tmp_path / "half.pth")
    torch.save({key: t.float() if t.is_floating_point() else t for key, t in halves.items()}, tmp_path / "single.pth")
    from_half, from_single = (load(name, tmp_path / f"{precision}.pth") for precision in ("half", "single"))
    assert np.array_equal(from_half.encode(tiles), from_single.encode(tiles))


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load(VIT, folder / "test_vit.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_tensor_too_many_is_refused(folder: Path, models: dict[str, Any], tmp_path: Path) -> None:
    torch.save({**models[VIT].state_dict(), "surplus": torch.zeros(2)}, tmp_path / "more.pth")
    with pytest.raises(FileFormatError, match="surplus is not in the model"):
        load(VIT, tmp_path / "more.pth")


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pt"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_tensor_archives_load_wrapped_or_not(
    suffix: str, wrapper: str | None, folder: Path, models: dict[str, Any], tmp_path: Path, tiles: NDArray[np.uint8]
) -> None:
    tensors = models[VIT].state_dict()
    path = tmp_path / f"weights{suffix}"
    torch.save(tensors if wrapper is None else {wrapper: tensors, "epoch": 3}, path)
    expected = load(VIT, folder / "test_vit.safetensors").encode(tiles)
    assert np.array_equal(load(VIT, path).encode(tiles), expected)


def test_an_archive_that_would_run_code_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("it ran",)

    torch.save({"weight": Malice()}, tmp_path / "bad.pth")
    with pytest.raises(FileFormatError, match="holds more than tensors and is not opened for safety"):
        load(VIT, tmp_path / "bad.pth")
    assert "it ran" not in capsys.readouterr().out


def test_an_archive_without_names_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(FileFormatError, match="must hold named tensors; got a list"):
        load(VIT, tmp_path / "list.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("n_bytes", [0, 5, 1000])
def test_a_truncated_weight_file_is_damaged(
    suffix: str, n_bytes: int, folder: Path, models: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(models[VIT].state_dict(), path)
    else:
        path.write_bytes((folder / "test_vit.safetensors").read_bytes())
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(FileFormatError, match=rf"cut\{suffix} is damaged"):
        load(VIT, path)


def test_a_weight_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x89HDF")
    with pytest.raises(FileFormatError, match=r"must be \.safetensors, \.pth, \.pt, \.bin; got weights\.h5"):
        load(VIT, path)


@pytest.mark.parametrize("argument", ["pretrained", "checkpoint_path", "pretrained_cfg"])
def test_arguments_that_would_load_by_themselves_are_refused(argument: str, folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=rf"architecture only; got \['{argument}'\]"):
        load(VIT, folder / "test_vit.safetensors", model_args={argument: True})


def test_an_architecture_that_this_timm_does_not_have_asks_for_a_newer_one(folder: Path) -> None:
    from napari_prospector.tokens.encoders.timm_tiles import build_model

    card = EncoderCard("later", "timm", "timm:vit_of_tomorrow", tile_px=224, mpp=0.5)
    with pytest.raises(InvalidInputError, match=r"'later' needs the architecture 'vit_of_tomorrow'.*Update timm"):
        build_model(card, {})


def test_a_layer_that_no_name_stands_for_is_refused(folder: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"mlp_layer in model_args must be one of \['ConvStem'.*got 'os.system'"
    ):
        load(VIT, folder / "test_vit.safetensors", model_args={"mlp_layer": "os.system"})


def test_unknown_arguments_of_the_architecture_are_named(folder: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"'test_vit' cannot be built with model_args=\{'flavour': 3\}.*flavour"
    ):
        load(VIT, folder / "test_vit.safetensors", model_args={"flavour": 3})


def test_a_model_without_pooling_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"must give one vector a tile; got \(1, .*global_pool"):
        load(VIT, folder / "test_vit.safetensors", model_args={"num_classes": 7, "global_pool": ""})


def test_an_unknown_device_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"device must be 'cpu', 'cuda', 'cuda:N' or 'mps'; got 'tpu'"):
        load(VIT, folder / "test_vit.safetensors", device="tpu")


def test_a_device_that_is_not_there_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInputError, match=r"device='cuda:0' was asked for.*Pass device='cpu'"):
        load(VIT, folder / "test_vit.safetensors", device="cuda:0")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_embeddings_are_those_of_the_cpu_to_half_precision(folder: Path, tiles: NDArray[np.uint8]) -> None:
    path = folder / "test_vit.safetensors"
    on_cpu, on_cuda = load(VIT, path).encode(tiles), load(VIT, path, device="cuda").encode(tiles)
    np.testing.assert_allclose(on_cuda, on_cpu, atol=2e-2)


def test_dinov2_takes_224_px_although_it_was_made_for_518(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = timm.create_model("vit_small_patch14_dinov2.lvd142m")
    save_file(model.state_dict(), tmp_path / "dinov2.safetensors")
    encoder = load_encoder("dinov2_s14", weights=tmp_path / "dinov2.safetensors", device="cpu")
    assert (encoder.card.tile_px, encoder.card.n_dims, encoder.card.patch_px) == (224, 384, 14)
    assert encoder.card.licence == "apache-2.0"


def test_real_mobilenet_weights_load_strictly_and_know_a_cat(shared: Path) -> None:
    photographs = pytest.importorskip("skimage.data")
    weights = shared / "data" / "encoders" / "mobilenetv2_100_imagenet1001.safetensors"
    encoder: Any = load_encoder(
        "mobilenetv2_100",
        weights=weights,
        model_args={"num_classes": 1001, "pad_type": "same"},
        mean=HALF,
        std=HALF,
        device="cpu",
    )
    cat = photographs.chelsea()[13 : 13 + 224, 113 : 113 + 224]
    embedding = encoder.encode(cat[None])
    assert embedding.shape == (1, 1280)
    assert encoder.card.licence is None
    with torch.inference_mode():
        best = encoder._model.classifier(torch.from_numpy(embedding)).argmax().item()
    # ImageNet's 281 to 285 are tabby, tiger cat, Persian, Siamese and Egyptian cat; this model counts from 1.
    assert 282 <= best <= 286
    assert np.array_equal(encoder.encode(cat[None]), embedding)
