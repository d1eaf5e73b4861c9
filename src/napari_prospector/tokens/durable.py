"""Files that are whole or absent, and a lock that vanishes with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from napari_prospector.errors import StorageError, StoreBusyError

__all__ = ["WriterLock", "storage_errors", "sweep_partials", "sync_folder", "whole_folder", "write_whole"]

PARTIAL = ".partial"
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Windows forbids others to read locked bytes: lock one far behind the holder's name.
_LOCKED_BYTE = 1 << 30


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write `path` into a `StorageError` that says what to do.

    Raises
    ------
    StorageError
        In place of any other OSError.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        remedy = "Check the disk and run the same call again."
        if error.errno in _FULL:
            remedy = "Free space there and run the same call again: what is finished is kept."
        elif error.errno in _FORBIDDEN:
            remedy = "Choose a folder that you may write to."
        reason = error.strerror or str(error)
        raise StorageError(f"{path} must be writable; the system says: {reason}. {remedy}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that, whatever happens, is there whole or not at all (or still holds what it held).

    The content reaches the disk before the name does, so this also holds for a power cut. Folders are made.

    Raises
    ------
    StorageError
        The system refuses: disk full, no permission. Nothing is left behind.
    """
    partial = path.with_name(path.name + PARTIAL)
    with storage_errors(path):
        new_folders = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    sync_folder(path.parent)
    for folder in new_folders:
        sync_folder(folder.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a neighbouring folder to fill; it becomes `path` when the block ends well, and is removed otherwise.

    What was at `path` is replaced, or stays as it was. The content reaches the disk before the name does.

    Yields
    ------
    Path
        A folder that does not exist yet, on the same disk.

    Raises
    ------
    StorageError
        The system refuses: disk full, no permission.
    """
    partial, former = (path.with_name(f".{path.name}.{os.getpid()}{end}") for end in (PARTIAL, f".former{PARTIAL}"))
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            _sync_tree(partial)
            if path.exists():
                os.replace(path, former)
            try:
                os.replace(partial, path)
            except OSError:
                if former.exists():
                    os.replace(former, path)
                raise
        finally:
            for leftover in (partial, former):
                if leftover.exists():
                    shutil.rmtree(leftover)
    sync_folder(path.parent)


def _sync_tree(folder: Path) -> None:
    """Bring all files in a folder, and their names, to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb+") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


def sync_folder(folder: Path) -> None:
    """Bring new names in a folder to the disk, where the system has a way to."""
    if sys.platform == "win32":
        return
    # some network file systems refuse to sync a folder; the files in it are synced already
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep_partials(folder: Path) -> None:
    """Remove what interrupted writes left in a folder; only the holder of its lock may call this."""
    with storage_errors(folder):
        for leftover in sorted(folder.rglob(f"*{PARTIAL}")):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)


class WriterLock:
    """Only one writer, on one machine or several that share the file system's locks.

    The lock belongs to an open file, so the system drops it when the process ends, however it ends; the file
    that a killed process leaves is taken over. Two locks in one process exclude each other as well.

    Parameters
    ----------
    path
        The lock's file. It is made when the lock is taken and removed when it is released.
    guarded
        What the lock guards, for the error text.

    Raises
    ------
    StoreBusyError
        Another process, or another part of this one, holds the lock.
    StorageError
        The file cannot be made, or its file system knows no locks.
    """

    def __init__(self, path: Path, guarded: Path) -> None:
        self.path = path
        self._handle: int | None = None
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while self._handle is None:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                self._handle = self._take(handle, guarded)
        # the name only serves the error text: a full disk must not stand in the way
        with contextlib.suppress(OSError):
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"process {os.getpid()} on {platform.node()}".encode())

    def _take(self, handle: int, guarded: Path) -> int | None:
        """Return the handle once it is locked; None when its file was removed meanwhile by the last holder."""
        kept = False
        try:
            if not _try_lock(handle):
                os.lseek(handle, 0, os.SEEK_SET)
                holder = os.read(handle, 200).decode(errors="replace") or "another process"
                raise StoreBusyError(
                    f"{guarded} must have one writer at a time; {holder} is writing it. Wait until that has ended."
                )
            with contextlib.suppress(FileNotFoundError):
                kept = os.path.samestat(os.fstat(handle), os.stat(self.path))
        finally:
            if not kept:
                os.close(handle)
        return handle if kept else None

    def release(self) -> None:
        """Give the lock up and remove its file; harmless when repeated."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if sys.platform != "win32":
            # while the lock is held: whoever waits on this file will see that it has no name any more; where it may
            # not be removed, the next holder takes it over
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(handle)
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                self.path.unlink()

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        """Lock an open file without waiting; False when another handle holds it."""
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EDEADLK}:
                return False
            raise
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        """Lock an open file without waiting; False when another handle holds it."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
