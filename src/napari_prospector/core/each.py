"""One function, called for the tokens of every datum: the only way in which fitting reads tokens.

A pass over the data is a function of one graph that returns little: counts, sampled rows, the largest scores. Where
it runs is not the science's business. Graphs in memory, or read one by one, are worked through here; a sequence that
has `workers` says how each of its graphs is made, and they make it and call the function elsewhere. What comes back
goes to its own place, so that the order in which data are finished changes no bit of the result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from napari_prospector.core.graph import TokenGraph

__all__ = ["GraphSource", "Report", "Workers", "each", "source_of", "workers_of"]

Result = TypeVar("Result")

Report = Callable[[str, int, int], None]
"""Told (stage, done, total) of long work; may raise to stop."""

GraphSource = Callable[[], TokenGraph]
"""Makes the graph of one datum wherever it is called, from a path for example."""


class Workers(Protocol):
    """Processes that call functions: those of this machine, or of a cluster."""

    def run(
        self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], names: Sequence[str], shared: Any
    ) -> Generator[tuple[int, Any]]:
        """Call ``function(shared, *task)`` for every task.

        Parameters
        ----------
        function
            Of a module, so that it can be found elsewhere; it must not matter how often it is called.
        tasks
            Arguments of each call.
        names
            What to call each task where people watch.
        shared
            The first argument of every call; sent once to each process where that is possible.

        Yields
        ------
        tuple
            Number of the task and what the function returned, in the order in which tasks are finished.
        """
        ...


def each(
    graphs: Sequence[TokenGraph],
    function: Callable[..., Result],
    shared: tuple[Any, ...] = (),
    own: Callable[[int], tuple[Any, ...]] | None = None,
    *,
    stage: str,
    report: Report | None = None,
) -> Iterator[tuple[int, Result]]:
    """Call ``function(graph, *shared, *own(datum))`` for every datum.

    Parameters
    ----------
    graphs
        Data; each is asked for once. If it has `workers` (`Workers`, or None) it must have ``source(datum)``
        (`GraphSource`) and ``name(datum)`` too.
    function
        Of a module; it changes nothing.
    shared
        Arguments that are the same for all data.
    own
        Further arguments of one datum.
    stage, report
        What this pass is called, and who is told after each datum.

    Yields
    ------
    tuple
        Number of the datum and what the function returned; with workers in any order.
    """
    n_data, workers = len(graphs), workers_of(graphs)
    further: Callable[[int], tuple[Any, ...]] = own or _nothing
    if workers is None:
        found: Generator[tuple[int, Any]] = (
            (datum, function(graphs[datum], *shared, *further(datum))) for datum in range(n_data)
        )
    else:
        tasks = [(source_of(graphs, datum), *further(datum)) for datum in range(n_data)]
        names = [f"{stage.replace(' ', '-')}-{datum:05d}-{_name(graphs, datum)}" for datum in range(n_data)]
        found = workers.run(_call, tasks, names, (function, shared))
    with contextlib.closing(found):  # whoever stops listening stops the workers
        for done, (datum, result) in enumerate(found, 1):
            yield datum, result
            if report is not None:
                report(stage, done, n_data)


def workers_of(graphs: Sequence[TokenGraph]) -> Workers | None:
    """Return the workers that graphs are to be worked through by; None where it is done here."""
    found: Workers | None = getattr(graphs, "workers", None)
    return found


def source_of(graphs: Any, datum: int) -> GraphSource:
    """Return what makes the graph of a datum elsewhere."""
    source: GraphSource = graphs.source(datum)
    return source


def _name(graphs: Any, datum: int) -> str:
    """Return what a datum is called."""
    return str(graphs.name(datum))


def _nothing(datum: int) -> tuple[Any, ...]:
    """Return no further arguments."""
    return ()


def _call(shared: tuple[Callable[..., Any], tuple[Any, ...]], source: GraphSource, *own: Any) -> Any:
    """Make the graph and call the function, in a worker."""
    function, arguments = shared
    return function(source(), *arguments, *own)
