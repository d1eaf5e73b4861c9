"""The exceptions of napari-prospector.

`ProspectorError` is the root: a face (command line, napari, PyMOL) catches it in one place and shows
its text. Every child is also the built-in exception that a caller would expect. A message says what
must hold, what came and what to do.
"""

from __future__ import annotations

__all__ = [
    "AccessError",
    "ClusterError",
    "FileFormatError",
    "InvalidInputError",
    "MismatchError",
    "MissingExtraError",
    "MissingFileError",
    "NetworkError",
    "NotEnoughMemoryError",
    "PixelSizeError",
    "ProspectorError",
    "ProspectorWarning",
    "StorageError",
    "StoreBusyError",
    "UnknownNameError",
    "UnreadFormatError",
    "WorkerLostError",
]


class ProspectorError(Exception):
    """Root of every error that napari-prospector raises on purpose."""


class ProspectorWarning(UserWarning):
    """Something went on, but not as the user may expect; the text says what and what to do."""


class InvalidInputError(ProspectorError, ValueError):
    """An argument, an array or a table does not hold what it must."""


class PixelSizeError(InvalidInputError):
    """A slide states no pixel size, or one that cannot be."""


class MismatchError(InvalidInputError):
    """Two things that are sound by themselves do not belong together."""


class FileFormatError(ProspectorError, ValueError):
    """A file is damaged, truncated, of a foreign format or of an unknown version."""


class UnreadFormatError(FileFormatError):
    """A file seems sound, but its format, compression or colours are not read; another reader may know them."""


class MissingFileError(ProspectorError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class AccessError(ProspectorError, PermissionError):
    """A model hub lets nobody in who has not logged in or accepted a licence."""


class NetworkError(ProspectorError, ConnectionError):
    """A model hub cannot be reached, or must not be asked because the machine is offline."""


class StorageError(ProspectorError, OSError):
    """A file cannot be written: disk full, no permission, or it exists already."""


class StoreBusyError(StorageError):
    """Another process is writing the same store."""


class NotEnoughMemoryError(ProspectorError, MemoryError):
    """Not even the smallest piece of the work fits in the memory of the machine or of its device."""


class MissingExtraError(ProspectorError, ImportError):
    """An optional package is needed and not installed."""


class UnknownNameError(ProspectorError, KeyError):
    """A name is not in its table."""

    def __str__(self) -> str:
        """Return the message itself; `KeyError` would quote it."""
        return str(self.args[0]) if self.args else ""


class ClusterError(ProspectorError, ConnectionError):
    """A cluster does not answer, or has dropped what it was to do."""


class WorkerLostError(ClusterError):
    """The processes that worked on one datum died one after the other."""
