"""What has been measured, one JSON file for each task and seed; an interrupted run goes on from there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest.measure import about_test, measured
from benchmarks.contest.methods import CEILING, HEAD, keys_of, methods_of, units_of
from benchmarks.tasks.task import Task
from napari_prospector.errors import MissingExtraError, ProspectorError

__all__ = ["complete", "missing_keys", "read_records", "record_path", "write_atomically"]


def record_path(folder: Path, name: str, seed: int) -> Path:
    """Return where the record of a task of the catalogue and a seed lies."""
    return folder / f"{name}-seed-{seed}.json"


def read_records(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the records of a task, by seed."""
    paths = sorted(folder.glob(f"{name}-seed-*.json"), key=lambda path: int(path.stem.rpartition("-")[2]))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def missing_keys(record: dict[str, Any], wanted: Sequence[str], again: Sequence[str] = ()) -> list[str]:
    """Return what is wanted and not in a record, or to be done again.

    The ceiling shares scores as the head does: a head that is done again takes the ceiling along.
    """
    redo = {*again, *([CEILING] if HEAD in again else [])}
    return [key for key in wanted if key not in record.get("methods", {}) or key in redo]


def complete(
    path: Path, task: Task, seed: int, wanted: Sequence[str] | None = None, again: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure what a record lacks; it is written after every method, in one step.

    Parameters
    ----------
    path
        The record; it need not exist.
    task, seed
        As loaded, and the seed of all methods.
    wanted
        Keys of `methods.keys_of`. None: all of them.
    again
        Those that are measured even if the record has them.

    Returns
    -------
    dict
        The record. A method that refuses the task is recorded with what it said; one whose package is not installed
        is left out, for another time.
    """
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    record = about_test(task) | {"seed": seed, "methods": record.get("methods", {})}
    keys = [key for key in keys_of(task) if wanted is None or key in wanted]
    for unit in units_of(missing_keys(record, keys, again)):
        for key, found in _measure_unit(task, seed, unit, _amount(record)):
            record["methods"][key] = {"commit": _commit()} | found
            write_atomically(path, json.dumps(record, separators=(",", ":")) + "\n")
    return record


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _measure_unit(task: Task, seed: int, unit: Sequence[str], amount: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fit what shares a fit, and yield what each of them was measured at."""
    try:
        fitted = list(methods_of(task, seed, unit, amount))
        for key in unit:
            yield key, {"rows": {row.row: measured(task, row) for owner, row in fitted if owner == key}}
    except MissingExtraError as error:
        print(f"{task.name}: {', '.join(unit)}: left out: {error}", file=sys.stderr)
    except ProspectorError as error:
        yield from ((key, {"rows": {}, "refused": str(error)}) for key in unit)


def _amount(record: dict[str, Any]) -> float:
    """Return how much of a score the recorded head takes from neighbours; 0 where no head is recorded."""
    rows = record["methods"].get(HEAD, {}).get("rows", {})
    return next((float(row["chosen"]["amount"]) for row in rows.values() if "amount" in row["chosen"]), 0.0)


def _commit() -> str:
    """Return the commit that is checked out, "" where git is not at hand."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
