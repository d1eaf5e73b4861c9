"""Who a slide is, by samples of its content: cheap for files and folders of any size, wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from napari_prospector.errors import StorageError

__all__ = ["file_fingerprint", "joined_fingerprint"]

_SAMPLE_BYTES = 64 * 2**10
_N_SAMPLES = 16


def file_fingerprint(path: Path, n_samples: int = _N_SAMPLES) -> str:
    """Return a sha256 of the size of a file and of samples of its content, spread evenly from head to tail.

    Parameters
    ----------
    path
        The file.
    n_samples
        How many pieces of 64 KiB are read, at least 2.

    Returns
    -------
    str
        64 hexadecimal digits, the same on every machine and under every name.

    Raises
    ------
    StorageError
        The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(f"{size}:".encode())
            step = max(_SAMPLE_BYTES, (size - _SAMPLE_BYTES) // (n_samples - 1))
            for place in range(0, size, step):
                file.seek(place)
                digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}. Check that it is still there.") from error
    return digest.hexdigest()


def joined_fingerprint(parts: Iterable[tuple[str, str]]) -> str:
    """Return a sha256 over named parts of a slide that lies in several files.

    Parameters
    ----------
    parts
        (name, content) in an order of the caller's; the content is text, or the fingerprint of a file.
    """
    digest = hashlib.sha256()
    for name, content in parts:
        for word in (name, content):
            # the length before each, so that no two lists of words are one text
            encoded = word.encode()
            digest.update(f"{len(encoded)}:".encode() + encoded)
    return digest.hexdigest()
