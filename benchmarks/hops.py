"""Hop kernels against the scipy.sparse peer, in one run, and their time per token up to 10 million tokens.

Promises: `convolve` and `count` on a lattice of 50,176 tokens are at least 10 times faster than the peer at
radius 4 (5 times with 15 % holes) and 4 times at radius 1 and 2, on two threads, with the same numbers; their
time is linear in tokens.

Both of the peer's functions build its ball from the list of edges on each call, so that time is theirs too. Ours
need no such thing, but a graph: the column *with graph* adds its building from mask and embeddings. The column
*edges* is our path for any graph, on the same lattice given as edges. Peer and ours run in turn; medians are
taken after a first call that is not counted, which compiles. Two more ratios tell what a machine that is busy
with other work hides: *CPU* compares the CPU seconds of all threads, *fastest* the fastest call of each.

    PROSPECTOR_SHARED=../shared python benchmarks/hops.py
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_prospector.core.graph import TokenGraph, convolve, count, grid_graph, n_features

REPOSITORY = Path(__file__).resolve().parents[1]
N_CONCEPTS = 20
SIDE = 224
HOLES = (0.0, 0.15)
RADII = (1, 2, 4)
LINEAR_SIDES = {100_000: 316, 1_000_000: 1000, 10_000_000: 3162}
LINEAR_RADIUS = 4
SHORTEST_S = 0.2


def bar(radius: int, holes: float) -> float:
    """How many times faster than the peer we promise to be."""
    if radius < 4:
        return 4.0
    return 5.0 if holes else 10.0


def load_peer() -> Any:
    """Load the peer from the shared folder, or end with a hint."""
    folder = Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY.parent / "shared"))
    path = folder / "bench" / "sparse_peer.py"
    if not path.is_file():
        raise SystemExit(f"{path} does not exist. Name the folder that holds bench/ in PROSPECTOR_SHARED.")
    spec = importlib.util.spec_from_file_location("sparse_peer", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    return peer


def draw_graph(side: int, holes: float, rng: np.random.Generator) -> tuple[TokenGraph, np.ndarray]:
    """Draw a square lattice with that share of random holes, and concepts for its tokens."""
    mask = rng.random((side, side)) >= holes
    graph = grid_graph(mask, np.ones((int(mask.sum()), 1), np.float16))
    return graph, rng.integers(0, N_CONCEPTS, graph.n_tokens, dtype=np.int32)


class Spent(NamedTuple):
    """Seconds of one call on the wall, on all processors together, and on the wall when least disturbed."""

    wall: float
    cpu: float
    fastest: float


def seconds(call: Callable[[], Any], n_calls: int = 1) -> Spent:
    """Time several calls in a row: their mean, and the fastest."""
    cpu, ticks = time.process_time(), [time.perf_counter()]
    for _ in range(n_calls):
        call()
        ticks.append(time.perf_counter())
    fastest = min(stop - start for start, stop in pairwise(ticks))
    return Spent((ticks[-1] - ticks[0]) / n_calls, (time.process_time() - cpu) / n_calls, fastest)


def medians(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Spent]:
    """Take median times of each, in turn, so that a busy machine slows all of them.

    What is short is called several times in a row: on a busy machine one call of a millisecond waits for its
    turn longer than it takes.
    """
    for call in calls.values():
        call()  # compiles
    n_calls = {name: max(1, round(SHORTEST_S / seconds(call).wall)) for name, call in calls.items()}
    rounds = [{name: seconds(call, n_calls[name]) for name, call in calls.items()} for _ in range(repeats)]
    summary = {}
    for name in calls:
        wall, cpu, fastest = zip(*(one[name] for one in rounds), strict=True)
        summary[name] = Spent(statistics.median(wall), statistics.median(cpu), min(fastest))
    return summary


def against_peer(peer: Any, n_threads: int, repeats: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Time both functions at every radius, solid and with holes; the numbers must be the same."""
    rows = []
    for holes in HOLES:
        graph, concepts = draw_graph(SIDE, holes, rng)
        as_edges = TokenGraph(graph.embeddings, graph.positions, graph.indptr, graph.indices)
        sources = np.repeat(np.arange(graph.n_tokens), np.diff(graph.indptr))
        edges = np.column_stack([sources, graph.indices])[sources < graph.indices]
        for radius in RADII:
            kernel = rng.normal(size=n_features(N_CONCEPTS, radius))
            for name, ours, last in (("convolve", convolve, kernel), ("count", count, N_CONCEPTS)):
                theirs = peer_call(peer, name, graph.n_tokens, edges, concepts, radius, kernel)
                arguments = (concepts, last, radius, n_threads)
                assert_same(theirs(), ours(graph, *arguments), ours(as_edges, *arguments))
                spent = medians(
                    {
                        "peer": theirs,
                        "ours": partial(ours, graph, *arguments),
                        "with graph": partial(with_graph, ours, graph, *arguments),
                        "edges": partial(ours, as_edges, *arguments),
                    },
                    repeats,
                )
                rows.append(row_of(name, graph.n_tokens, radius, holes, spent))
    return rows


def with_graph(ours: Callable[..., Any], graph: TokenGraph, *arguments: Any) -> Any:
    """Build the graph from mask and embeddings, then call."""
    return ours(grid_graph(graph.mask, graph.embeddings), *arguments)


def peer_call(
    peer: Any, name: str, n_tokens: int, edges: np.ndarray, concepts: np.ndarray, radius: int, kernel: np.ndarray
) -> Callable[[], Any]:
    """Bind one of the peer's functions to its arguments."""
    if name == "count":
        return partial(peer.count, n_tokens, edges, concepts, N_CONCEPTS, radius)
    return partial(peer.convolve, n_tokens, edges, concepts, N_CONCEPTS, radius, kernel)


def assert_same(theirs: np.ndarray, *ours: np.ndarray) -> None:
    """Hold counts to the last unit, scores to 1e-13 of the largest; both of our paths to the last bit."""
    tolerance = 0.0 if theirs.dtype.kind == "i" else 1e-13 * float(np.abs(theirs).max())
    for numbers in ours:
        np.testing.assert_allclose(numbers, theirs, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(numbers, ours[0])


def row_of(name: str, n_tokens: int, radius: int, holes: float, spent: dict[str, Spent]) -> dict[str, Any]:
    """Give times in ms and the ratios that were promised."""
    ratios = {f"ratio {key}": spent["peer"].wall / spent[key].wall for key in ("ours", "with graph", "edges")}
    ratios["ratio CPU"] = spent["peer"].cpu / spent["ours"].cpu
    ratios["ratio fastest"] = spent["peer"].fastest / spent["ours"].fastest
    return {
        "function": name,
        "n_tokens": n_tokens,
        "radius": radius,
        "holes": holes,
        **{f"{key} ms": 1e3 * value.wall for key, value in spent.items()},
        **ratios,
        "bar": bar(radius, holes),
        "met": ratios["ratio ours"] >= bar(radius, holes),
    }


def linearity(n_threads: int, repeats: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Time per token up to 10 million tokens, and how far the memory of the process has grown by then."""
    rows = []
    for holes in HOLES:
        kernel = rng.normal(size=n_features(N_CONCEPTS, LINEAR_RADIUS))
        for side in LINEAR_SIDES.values():
            graph, concepts = draw_graph(side, holes, rng)
            before = peak_mib()
            spent = medians(
                {
                    "convolve": partial(convolve, graph, concepts, kernel, LINEAR_RADIUS, n_threads),
                    "count": partial(count, graph, concepts, N_CONCEPTS, LINEAR_RADIUS, n_threads),
                    "grid_graph": partial(grid_graph, graph.mask, graph.embeddings),
                },
                repeats,
            )
            rows.append({"n_tokens": graph.n_tokens, "radius": LINEAR_RADIUS, "holes": holes})
            for name, value in spent.items():
                rows[-1] |= {f"{name} ns/token": 1e9 * value.wall / graph.n_tokens}
                rows[-1] |= {f"{name} CPU": 1e9 * value.cpu / graph.n_tokens}
                rows[-1] |= {f"{name} fastest": 1e9 * value.fastest / graph.n_tokens}
            rows[-1]["peak grew by MiB"] = peak_mib() - before
    return rows


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def many_small(rng: np.random.Generator) -> dict[str, Any]:
    """Count 100 slides of 5,000 tokens for 5 numbers of concepts and 4 radii, one after the other."""
    graphs = [draw_graph(77, 0.15, rng)[0] for _ in range(100)]
    spent = 0.0
    for n_concepts in (10, 15, 20, 25, 30):
        for graph in graphs:
            concepts = rng.integers(0, n_concepts, graph.n_tokens)
            for radius in (1, 2, 4, 8):
                spent += seconds(partial(count, graph, concepts, n_concepts, radius)).wall
    return {"slides": 100, "mean tokens": statistics.mean(graph.n_tokens for graph in graphs), "seconds": spent}


def commit() -> str:
    """Name the commit of the checkout; marked where the measured files differ from it."""
    own = ["benchmarks/hops.py", "src/napari_prospector/core"]
    head, changes = (
        subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.strip()
        for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--", *own))
    )
    return head + ("-dirty" if changes else "")


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)


def main() -> None:
    """Run, print and write benchmarks/results/hops.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "hops.json")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    console = Console(width=200)
    report: dict[str, Any] = {
        "seed": options.seed,
        "commit": commit(),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "load": os.getloadavg()[0]},
        "versions": {name: version(name) for name in ("numpy", "scipy", "numba")}
        | {"python": platform.python_version()},
        "threads": {"ours": options.threads, "peer": 1},
        "n_concepts": N_CONCEPTS,
    }
    report["against peer"] = against_peer(load_peer(), options.threads, options.repeats, rng)
    show(console, f"Against the peer, {options.threads} threads", report["against peer"])
    report["linearity"] = linearity(options.threads, 3, rng)
    show(console, "Linearity", report["linearity"])
    report["many small"] = many_small(rng)
    show(console, "Counts of a whole grid of settings", [report["many small"]])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not all(row["met"] for row in report["against peer"]):
        raise SystemExit("A bar was missed.")


if __name__ == "__main__":
    main()
