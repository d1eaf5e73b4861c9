"""Functions called by the workers of a Dask cluster; the only home of Dask.

The cluster is one that runs already: we connect, see that its workers have this version of the package and see the
same files, and give it one task for each slide. Nothing but paths, counts and small arrays travels. A worker that dies
loses nothing: Dask gives its tasks to others, and a token grid goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_prospector.errors import (
    ClusterError,
    FileFormatError,
    InvalidInputError,
    MismatchError,
    MissingExtraError,
    MissingFileError,
    ProspectorError,
    WorkerLostError,
)
from napari_prospector.study.workers import LocalProcesses, watched

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["AnyClient", "CohortWorkers", "DaskWorkers", "as_workers", "open_workers"]

_PACKAGE = "napari-prospector"
_ANSWER_WITHIN_S = 5.0
_RETRIES = 2  # of a task that raises what is not ours, such as an error of a network file system
_MOST_CHECKED = 64  # files that every worker must see before work starts


class DaskWorkers:
    """The workers of a Dask cluster.

    Parameters
    ----------
    client
        Connected; it stays open.

    Raises
    ------
    MismatchError
        A worker has another version of this package, or none.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        own = installed_version()
        for worker, found in client.run(importlib.metadata.version, _PACKAGE, on_error="return").items():
            if found != own:
                theirs = "none" if isinstance(found, Exception) else found
                raise MismatchError(
                    f"Every worker must have {_PACKAGE} {own}, as this machine has; the worker at {worker} has"
                    f" {theirs}. Install one version everywhere and start the workers again."
                )

    def run(
        self,
        function: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        names: Sequence[str],
        shared: Any,
        on_lost: Callable[[int, str], Any] | None = None,
    ) -> Generator[tuple[int, Any]]:
        """Call ``function(shared, *task)`` for every task, as `core.each.Workers` says.

        Parameters
        ----------
        function, tasks, names, shared
            As there.
        on_lost
            Given the number of a task whose workers died one after the other, and why; what it returns stands for the
            result. None: that is an error.

        Raises
        ------
        WorkerLostError
            Workers died on one task as often as the scheduler allows (3 times, by its setting ``allowed-failures``).
        ClusterError
            The scheduler is gone, or somebody cancelled the tasks.
        """
        from distributed import as_completed

        run = uuid.uuid4().hex[:8]
        keys = [f"{name}-{run}" for name in names]
        # a task and no scattered value: Dask makes it anew where the worker that holds it dies
        held = self.client.submit(_hold, shared, key=f"share-{run}", retries=_RETRIES)
        futures = self.client.map(
            _attempt,
            tasks,
            key=keys,
            pure=False,
            retries=_RETRIES,
            function=function,
            shared=held,
            version=installed_version(),
        )
        numbers = {future.key: number for number, future in enumerate(futures)}
        unread = dict(zip(keys, futures, strict=True))
        del futures
        try:
            for future in as_completed(list(unread.values()), loop=self.client.loop, raise_errors=False):
                number = numbers[future.key]
                result = _result_of(future, names[number], number, on_lost)
                unread.pop(future.key)
                future.release()  # its worker may forget the result
                yield number, result
        finally:
            if unread:
                self.client.cancel([*unread.values(), held], force=True)

    def check(self, paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str] | None = None) -> None:
        """See that every worker sees the same files, before work starts.

        Parameters
        ----------
        paths
            Files and folders that workers will read; of many, some are looked at.
        folder
            Where they will write.

        Raises
        ------
        MissingFileError
            A worker does not see one of them, or sees another one under its name.
        """
        step = max(1, len(paths) // _MOST_CHECKED)
        wanted = [os.path.abspath(path) for path in paths[::step] if os.path.exists(path)]
        with contextlib.ExitStack() as stack:
            if folder is not None:
                wanted.append(stack.enter_context(_mark(Path(folder))))
            own = _sizes(wanted)
            for worker, theirs in self.client.run(_sizes, wanted).items():
                for path, here, there in zip(wanted, own, theirs, strict=True):
                    if here != there:
                        place = folder if folder is not None and path == wanted[-1] else path
                        what = "does not see" if there is None else "sees another file at"
                        raise MissingFileError(
                            f"Every worker must see the files of the cohort under the same path; the worker at {worker}"
                            f" {what} {place}. Keep slides and token grids in a folder that all machines share."
                        )


CohortWorkers = LocalProcesses | DaskWorkers
"""Workers that are known to be there."""

AnyClient: TypeAlias = "Client | LocalProcesses | DaskWorkers"
"""What an argument `client` may be, beside None."""


def as_workers(client: AnyClient | None) -> CohortWorkers | None:
    """Return the workers that an argument `client` means.

    Parameters
    ----------
    client
        A `distributed.Client`; or workers, as they are; or None: everything in this process.

    Raises
    ------
    InvalidInputError
        It is none of these.
    MismatchError
        As `DaskWorkers`.
    """
    if client is None or isinstance(client, LocalProcesses | DaskWorkers):
        return client
    if all(callable(getattr(client, name, None)) for name in ("submit", "scheduler_info")):
        return DaskWorkers(client)
    raise InvalidInputError(
        f"client must be a distributed.Client, LocalProcesses or None; got {type(client).__name__}."
        " Pass distributed.Client('tcp://…')."
    )


@contextlib.contextmanager
def open_workers(scheduler: str | None = None, n_processes: int = 1) -> Iterator[CohortWorkers | None]:
    """Connect to a Dask cluster, or start processes here.

    Parameters
    ----------
    scheduler
        Address of the cluster's scheduler, such as ``tcp://node7:8786``, or the file that ``dask scheduler
        --scheduler-file`` has written. None: this machine.
    n_processes
        Processes on this machine, where there is no scheduler; 1: none but this one.

    Yields
    ------
    LocalProcesses, DaskWorkers or None
        For arguments `client`.

    Raises
    ------
    MissingExtraError
        The package distributed is not installed.
    ClusterError
        Nobody answers at the address.
    FileFormatError
        The file is no scheduler file.
    MismatchError
        As `DaskWorkers`.
    """
    if scheduler is None:
        if n_processes == 1:
            yield None
            return
        with LocalProcesses(n_processes) as processes:
            yield processes
        return
    with _connected(_address(scheduler)) as client:
        yield DaskWorkers(client)


def _address(scheduler: str) -> str:
    """Return the address of a scheduler; a scheduler file holds it."""
    if not os.path.isfile(scheduler):
        return scheduler
    try:
        return str(json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FileFormatError(
            f"{scheduler} must be a scheduler file; it holds no address. Start `dask scheduler --scheduler-file"
            f" {scheduler}` first."
        ) from error


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    """Connect to a scheduler."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError(
            "A Dask cluster needs the package distributed. Install it: pip install 'napari-prospector[cluster]'."
        ) from error
    _ask(scheduler)
    with Client(scheduler, timeout=_ANSWER_WITHIN_S, set_as_default=False) as client:
        yield client


def _ask(scheduler: str) -> None:
    """See that a scheduler answers: a `Client` that finds none takes long to go, and not quietly."""
    from distributed.core import rpc
    from distributed.security import Security

    async def identity() -> object:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            async with rpc(scheduler, connection_args=Security().get_connection_args("client")) as server:
                return (await server.identity()).get("type")

    try:
        with ThreadPoolExecutor(1) as thread:  # where a loop runs already, as in a notebook, this needs one of its own
            found = thread.submit(asyncio.run, identity()).result()
    # TimeoutError is an OSError; an address that is none is a ValueError; what speaks no Dask seems to promise exabytes
    except (OSError, ValueError, MemoryError) as error:
        found, reason = None, f"nobody does ({str(error) or 'no answer'})"
    else:
        reason = f"a {found} does"
    if found != "Scheduler":
        raise ClusterError(
            f"A Dask scheduler must answer at {scheduler} within {_ANSWER_WITHIN_S:g} s; {reason}."
            " Start one with `dask scheduler`, and take the address that it prints, such as tcp://node7:8786."
        )


@cache
def installed_version() -> str:
    """Return the version of this package, as it is installed."""
    return importlib.metadata.version(_PACKAGE)


def _hold(shared: Any) -> Any:
    """Return what it is given: the result lies with the workers."""
    return shared


def _attempt(task: tuple[Any, ...], *, function: Callable[..., Any], shared: Any, version: str) -> tuple[bool, Any]:
    """Run a task in a worker; an error of ours is a result, for trying again would not help."""
    if installed_version() != version:  # of a worker that came after the first look
        return False, MismatchError(
            f"Every worker must have {_PACKAGE} {version}; one has {installed_version()}."
            " Install one version everywhere."
        )
    watched(_nobody_waits)
    try:
        return True, function(shared, *task)
    except ProspectorError as error:
        return False, error


def _nobody_waits() -> bool:
    """Whether the task of this thread was cancelled, or whoever asked for it is gone."""
    from distributed.worker import get_worker, thread_state

    state = get_worker().state.tasks.get(thread_state.key)
    return state is None or state.state in ("cancelled", "released", "forgotten")


def _result_of(future: Future[Any], name: str, number: int, on_lost: Callable[[int, str], Any] | None) -> Any:
    """Return the result of a task that is done."""
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise ClusterError(
            f"The cluster has dropped the task {name}: its scheduler is gone, or somebody cancelled it."
            " Run the same command again; what is finished is kept."
        )
    try:
        is_done, result = future.result()
    except KilledWorker as error:
        reason = (
            f"The workers that worked on {name} died one after the other; most often their memory had run out."
            " Give workers more memory (--memory-limit), or look at their logs."
        )
        if on_lost is None:
            raise WorkerLostError(reason) from error
        return on_lost(number, reason)
    if not is_done:
        raise result
    return result


def _sizes(paths: Sequence[str]) -> list[int | None]:
    """Return the size of each file, 0 for a folder, None for what is not there."""
    found: list[int | None] = []
    for path in paths:
        try:
            found.append(0 if os.path.isdir(path) else os.stat(path).st_size)
        except OSError:
            found.append(None)
    return found


@contextlib.contextmanager
def _mark(folder: Path) -> Iterator[str]:
    """Write a small file that is gone afterwards; who sees it sees this very folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f".prospector-{uuid.uuid4().hex}"
    mark.write_text("seen by workers?", encoding="utf-8")
    try:
        yield os.path.abspath(mark)
    finally:
        mark.unlink(missing_ok=True)
