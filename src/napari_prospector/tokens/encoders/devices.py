"""How tiles get to a torch device and embeddings back, and how many of them it takes at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.memory import is_out_of_memory

__all__ = ["TorchDevice", "checked_device", "fitting_batch"]

# Work of one batch, floating-point operations. CPU: about a second on two cores, so that cancelling is prompt. CUDA:
# a tenth of a second at 100 TFLOP/s, enough to hide the copies. It is fixed, not timed, because an embedding may
# depend on the batch in its last bit.
_BATCH_WORK = {"cpu": 6.4e10, "mps": 6.4e11, "cuda": 1.0e13}
_LARGEST_BATCH = {"cpu": 16, "mps": 64, "cuda": 256}
_PROBE_TILES = 4
# Of the memory that is free when the encoder is loaded; others may use the device as well.
_SHARE_OF_FREE = 0.7


class TorchDevice:
    """A device of torch at work.

    On CUDA each thread has a stream of its own, and tiles come through pinned memory: while one thread copies its
    batch, the kernels of another run. Elsewhere copies are plain and one thread is all that pays.

    Parameters
    ----------
    name
        "cpu", "mps", "cuda" or "cuda:N", one that is there.

    Attributes
    ----------
    kind
        "cpu", "mps" or "cuda".
    lanes
        How many threads should encode at once.
    """

    def __init__(self, name: str) -> None:
        self.torch = torch.device(name)
        self.kind = self.torch.type
        self.lanes = 2 if self.kind == "cuda" else 1
        self._local = threading.local()

    def stream(self) -> contextlib.AbstractContextManager[object]:
        """Return what makes the calls of this thread run in its own stream."""
        if self.kind != "cuda":
            return contextlib.nullcontext()
        if not hasattr(self._local, "stream"):
            # the weights were moved in another stream
            torch.cuda.synchronize(self.torch)
            self._local.stream = torch.cuda.Stream(self.torch)
        entered: contextlib.AbstractContextManager[object] = torch.cuda.stream(self._local.stream)
        return entered

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return what lets matrix products run in float16 where that is faster: on CUDA; on CPUs it is slower."""
        entered: contextlib.AbstractContextManager[object] = torch.autocast(
            self.kind, torch.float16, enabled=self.kind == "cuda"
        )
        return entered

    def upload(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        """Bring tiles (n, tile_px, tile_px, 3) to the device; on CUDA without waiting for the copy to end."""
        tensor = torch.from_numpy(np.require(tiles, requirements=["C", "W"]))
        if self.kind == "cuda":
            # torch keeps the pinned memory until the copy has ended
            return tensor.pin_memory().to(self.torch, non_blocking=True)
        return tensor.to(self.torch)

    def download(self, features: torch.Tensor) -> NDArray[np.float32]:
        """Bring features back as float32 once they are computed; on CUDA only this thread waits."""
        return np.asarray(features.float().cpu().numpy(), dtype=np.float32)

    def batch_size(self, work: float, run: Callable[[int], object]) -> int:
        """Return how many tiles to take at once.

        Parameters
        ----------
        work
            Floating-point operations of one tile.
        run
            Encodes so many blank tiles; on CUDA it is tried once, to see how much memory that takes.
        """
        wanted = int(np.clip(_BATCH_WORK[self.kind] // max(work, 1), 1, _LARGEST_BATCH[self.kind]))
        if self.kind != "cuda":
            return wanted
        return fitting_batch(wanted, lambda n: self._peak(run, n), self._free() // self.lanes)

    def _peak(self, run: Callable[[int], object], n_tiles: int) -> int:
        """Return the bytes that encoding so many tiles takes for a while."""
        torch.cuda.reset_peak_memory_stats(self.torch)
        before = int(torch.cuda.memory_allocated(self.torch))
        run(n_tiles)
        return int(torch.cuda.max_memory_allocated(self.torch)) - before

    def _free(self) -> int:
        """Return the bytes that this process may still take: what the device has free, and what torch holds unused."""
        held = int(torch.cuda.memory_reserved(self.torch) - torch.cuda.memory_allocated(self.torch))
        return int(torch.cuda.mem_get_info(self.torch)[0]) + held


def fitting_batch(wanted: int, peak: Callable[[int], int], free: int) -> int:
    """Return how many tiles fit in memory: `wanted`, or the largest power of two that does.

    A power of two, so that a little more or less free memory gives the same batches in a rerun.

    Parameters
    ----------
    wanted
        The most that make sense.
    peak
        Encodes so many tiles and returns the bytes that this took for a while.
    free
        Bytes that may be taken.
    """
    n_tiles = min(_PROBE_TILES, wanted)
    try:
        per_tile = max(peak(n_tiles) / n_tiles, 1.0)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return 1
    fitting = int(_SHARE_OF_FREE * free / per_tile)
    return wanted if fitting >= wanted else int(2 ** np.floor(np.log2(max(fitting, 1))))


def checked_device(device: str | None) -> str:
    """Return the device to use; raise InvalidInputError if the machine has no such device."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in available:
        raise InvalidInputError(f"device must be 'cpu', 'cuda', 'cuda:N' or 'mps'; got {device!r}.")
    if not available[kind]:
        raise InvalidInputError(f"device={device!r} was asked for, but torch sees none here. Pass device='cpu'.")
    return device
