"""Batches that do not fit in memory: halved, told once, and no tile lost."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from napari_prospector.errors import InvalidInputError, NotEnoughMemoryError, ProspectorWarning
from napari_prospector.tokens.encoders.memory import BatchSize, in_turns, is_out_of_memory

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB"


def tiles(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 5, 7, 3), dtype=np.uint8)


def means(part: np.ndarray) -> np.ndarray:
    return part.mean((1, 2)).astype(np.float32)


class Cramped:
    """Memory for `most` tiles at once."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.batches: list[int] = []

    def encode(self, part: np.ndarray) -> np.ndarray:
        self.batches.append(len(part))
        if len(part) > self.most:
            raise self.error
        return means(part)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (RuntimeError(CUDA), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5.05 GB)"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (NotEnoughMemoryError("a single tile"), False),
        (InvalidInputError("out of memory"), False),
    ],
)
def test_what_torch_says_without_memory_is_known(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


@pytest.mark.parametrize("error", [RuntimeError(CUDA), MemoryError()])
@pytest.mark.parametrize(("most", "batches"), [(11, [11, 8]), (5, [11, 5, 5, 5, 4]), (1, [11, 5, 2, *[1] * 19])])
def test_a_batch_that_does_not_fit_is_halved_once_and_for_all(error: Exception, most: int, batches: list[int]) -> None:
    cramped, size = Cramped(most, error), BatchSize("uni", 11)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        encoded = in_turns(cramped.encode, tiles(19), size)
    np.testing.assert_array_equal(encoded, means(tiles(19)))
    assert cramped.batches == batches
    assert size.tiles == most
    assert len(told) == (most < 11)
    assert all("11 tiles at once do not fit in memory; it goes on with 5" in str(each.message) for each in told)
    assert all(each.category is ProspectorWarning for each in told)


def test_a_short_last_batch_that_does_not_fit_is_halved_from_its_own_size() -> None:
    cramped, size = Cramped(1, MemoryError()), BatchSize("uni", 16)
    with pytest.warns(ProspectorWarning, match="3 tiles at once do not fit in memory; it goes on with 1"):
        in_turns(cramped.encode, tiles(3), size)
    assert cramped.batches == [3, 1, 1, 1]


def test_without_memory_for_one_tile_the_remedy_is_told() -> None:
    cramped, size = Cramped(0, RuntimeError(CUDA)), BatchSize("uni", 2)
    match = r"'uni' must have memory for one tile.*CUDA out of memory\..*pass device='cpu' \(--device cpu\).*goes on"
    with pytest.warns(ProspectorWarning), pytest.raises(NotEnoughMemoryError, match=match):
        in_turns(cramped.encode, tiles(3), size)
    assert cramped.batches == [2, 1]


def test_another_error_is_none_of_its_business() -> None:
    cramped = Cramped(1, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        in_turns(cramped.encode, tiles(2), BatchSize("uni", 2))
    assert cramped.batches == [2]
