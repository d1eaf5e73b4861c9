"""A cohort written as the table that `Cohort.read` reads."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.cohort import COLUMNS, CohortRow
from napari_prospector.tokens.durable import write_whole

__all__ = ["write_cohort"]


def write_cohort(path: str | os.PathLike[str], rows: Iterable[CohortRow]) -> Path:
    """Write rows as CSV; the optional columns only where one of the rows fills them.

    Parameters
    ----------
    path
        The file; it appears only when it is complete. Paths in it are relative to its folder where they can be (on
        Windows not from one drive to another).
    rows
        At least one. A row without a label is written with an empty cell, which `Cohort.read` takes with
        ``needs_labels=False``.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InvalidInputError
        There are no rows.
    StorageError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from napari_prospector.study.cohort import Cohort
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     row = CohortRow(Path(folder).resolve() / "slides" / "case7.svs", "tumour")
    ...     table = write_cohort(Path(folder).resolve() / "cohort.csv", [row])
    ...     Cohort.read(table, check_files=False).names
    ('case7.svs',)
    """
    table = Path(os.path.abspath(path))
    cells = [_cells(row, table.parent) for row in rows]
    if not cells:
        raise InvalidInputError(f"{table.name} must hold at least one slide; there is none. Add slides first.")
    columns = [name for number, name in enumerate(COLUMNS) if number < 2 or any(row[name] for row in cells)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    write_whole(table, text.getvalue().encode("utf-8"))
    return table


def _cells(row: CohortRow, folder: Path) -> dict[str, str]:
    """Return the cells of a row by column."""
    return {
        "path": _relative(row.path, folder),
        "label": row.label,
        "group": row.group or "",
        "split": row.split or "",
        "mpp": "" if row.mpp is None else repr(row.mpp),
        "truth": "" if row.truth is None else _relative(row.truth, folder),
    }


def _relative(path: Path, folder: Path) -> str:
    """Return a path from a folder, with slashes on every system."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
