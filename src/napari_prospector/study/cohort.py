"""The table of data and labels that a study is about.

A CSV file with the columns `path` and `label`, and where wanted `group` (patient), `split` (train or test), `mpp`
(µm per level-0 pixel, where a slide states none) and `truth` (a mask, for evaluation only). Everything that is wrong
with a table is told at once, with line and column.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, UnknownNameError
from napari_prospector.tokens.slides import MPP_RANGE

__all__ = ["COLUMNS", "TOKENS_SUFFIX", "Cohort", "CohortRow", "token_store_path"]

COLUMNS = ("path", "label", "group", "split", "mpp", "truth")
TOKENS_SUFFIX = ".tokens.zarr"

_REQUIRED = ("path", "label")
_SPLITS = ("train", "test")
_MOST_TOLD = 5


@dataclass(frozen=True)
class CohortRow:
    """One datum.

    Attributes
    ----------
    path
        The slide, or its token grid (``*.tokens.zarr``); absolute.
    label
        The class of the whole datum.
    group
        What is never divided between training and test: the patient. None: the datum alone.
    split
        "train", "test" or None.
    mpp
        Width of a level-0 pixel in µm, for a slide that states none or a wrong one.
    truth
        PNG mask aligned with the slide; absolute.
    line
        Line of the table where the row is.
    """

    path: Path
    label: str
    group: str | None = None
    split: str | None = None
    mpp: float | None = None
    truth: Path | None = None
    line: int = 0

    @property
    def name(self) -> str:
        """File name, without its folder."""
        return self.path.name

    @property
    def is_tokens(self) -> bool:
        """Whether the path is a token grid and no slide."""
        return self.name.endswith(TOKENS_SUFFIX)


@dataclass(frozen=True)
class Cohort:
    """Data and their labels; read with `Cohort.read`.

    Attributes
    ----------
    rows
        In the order of the table.
    name
        File name of the table, for messages and reports.
    """

    rows: tuple[CohortRow, ...]
    name: str = "cohort"

    @classmethod
    def read(cls, path: str | os.PathLike[str], check_files: bool = True, needs_labels: bool = True) -> Self:
        """Read a table.

        Parameters
        ----------
        path
            CSV in UTF-8, separated by comma, semicolon or tab, with a header. Relative paths in it are relative to
            its folder. Of a project's folder (``*.prospect-project``), its ``cohort.csv``.
        check_files
            Whether the files that it names must exist.
        needs_labels
            Whether every row must have a label; else an empty one is read as "".

        Returns
        -------
        Cohort

        Raises
        ------
        MissingFileError
            The table, or a file that it names, does not exist.
        FileFormatError
            It is no UTF-8 text or no CSV.
        InvalidInputError
            A column is missing or unknown, or a row is wrong; the message names lines and columns.
        """
        table = Path(path)
        if (table / "project.json").is_file():
            table /= "cohort.csv"
        lines = _lines(table)
        rows, problems = _parse(lines, table, _REQUIRED if needs_labels else ("path",))
        problems += _conflicts(rows)
        if problems:
            raise InvalidInputError(_told(table.name, problems))
        if not rows:
            raise InvalidInputError(f"{table.name} must hold at least one row below its header; it holds none.")
        if check_files and (missing := _missing(rows)):
            raise MissingFileError(_told(table.name, missing))
        return cls(tuple(rows), table.name)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[CohortRow]:
        return iter(self.rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class of each datum."""
        return tuple(row.label for row in self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The file name of each datum, without folders."""
        return tuple(row.name for row in self.rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted(set(self.labels)))

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each datum, one of its own where none is given; None if the table has no groups."""
        if all(row.group is None for row in self.rows):
            return None
        taken = {row.group for row in self.rows}
        alone = (f"line {row.line}" for row in self.rows)
        named = [row.group or own for row, own in zip(self.rows, alone, strict=True)]
        return tuple(
            f"{name} (alone)" if row.group is None and name in taken else name
            for row, name in zip(self.rows, named, strict=True)
        )

    def split(self, name: Literal["train", "test"]) -> Self:
        """Return the rows of one split; all rows if the table has no splits.

        Raises
        ------
        UnknownNameError
            `name` is neither "train" nor "test".
        InvalidInputError
            The table has splits, and none of its rows is in this one.
        """
        if name not in _SPLITS:
            raise UnknownNameError(f"A split is 'train' or 'test'; got {name!r}.")
        if all(row.split is None for row in self.rows):
            return self
        chosen = tuple(row for row in self.rows if row.split == name)
        if not chosen:
            raise InvalidInputError(f"{self.name} has no row with {name!r} in column split. Mark some rows so.")
        return replace(self, rows=chosen)

    def require_classes(self, fewest: int = 2) -> None:
        """Raise `InvalidInputError` unless at least `fewest` classes occur."""
        if len(self.classes) < fewest:
            only = ", ".join(map(repr, self.classes))
            raise InvalidInputError(
                f"{self.name} must hold at least {fewest} classes to learn from; column label says {only} in all of"
                f" {len(self)} rows. Add data of another class."
            )

    def fingerprint(self, contents: Sequence[str] | None = None) -> str:
        """Return a sha256 over what was learned from, whatever the folder and the order of rows.

        Parameters
        ----------
        contents
            A fingerprint of the content of each datum, such as `Slide.fingerprint` gives; None: file names.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        keys = self.names if contents is None else contents
        if len(keys) != len(self):
            raise InvalidInputError(
                f"contents must hold one fingerprint for each of {len(self)} rows; got {len(keys)}."
            )
        entries = sorted([key, row.label, row.group or ""] for key, row in zip(keys, self.rows, strict=True))
        return hashlib.sha256(json.dumps(entries, ensure_ascii=True).encode()).hexdigest()

    def store_paths(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Return where the token grid of each datum lies: the row's own path, or in `folder` under the slide's name.

        Raises
        ------
        InvalidInputError
            Two slides have one name.
        """
        counts = Counter(row.name for row in self.rows if not row.is_tokens)
        if twice := sorted(name for name, count in counts.items() if count > 1):
            lines = ", ".join(str(row.line) for row in self.rows if row.name == twice[0])
            raise InvalidInputError(
                f"{self.name}: token grids are named after their slides, and lines {lines} all name a {twice[0]!r}."
                " Rename the slides, or write the paths of their token grids in column path."
            )
        return tuple(row.path if row.is_tokens else token_store_path(folder, row.path) for row in self.rows)


def token_store_path(folder: str | os.PathLike[str], slide: str | os.PathLike[str]) -> Path:
    """Return the path of a slide's token grid in a folder of them: ``folder/NAME.tokens.zarr``."""
    return Path(folder) / f"{Path(slide).name}{TOKENS_SUFFIX}"


def _lines(table: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file that are not blank, each with its line number; the header first."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no cohort table at {table}. Check the path.") from error
    except IsADirectoryError as error:
        raise InvalidInputError(f"A cohort is a CSV file; {table} is a folder. Name the table in it.") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{table.name} must be CSV text in UTF-8; byte {error.start} is not. Save it as 'CSV UTF-8'."
        ) from error
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise FileFormatError(
            f"{table.name}, line {reader.line_num}, is no CSV: {error}. Save it as CSV again."
        ) from error


def _parse(lines: list[tuple[int, list[str]]], table: Path, filled: Sequence[str]) -> tuple[list[CohortRow], list[str]]:
    """Turn lines, header first, into rows; return them and what is wrong with the others."""
    if not lines:
        raise InvalidInputError(f"{table.name} must start with a header, at least 'path,label'; it is empty.")
    columns = _columns(lines[0][1], table.name)
    rows, problems = [], []
    for line, cells in lines[1:]:
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            problems.append(
                f"line {line} has {len(cells)} cells for {len(columns)} columns; quote cells with separators"
            )
            continue
        row, wrong = _row(line, dict(zip(columns, cells, strict=False)), table.parent, filled)
        problems += wrong
        if row is not None:
            rows.append(row)
    return rows, problems


def _columns(header: list[str], table: str) -> list[str]:
    """Return the names of the columns, or say which are unknown, doubled or missing."""
    columns = [cell.casefold() for cell in header]
    for cell, column in zip(header, columns, strict=True):
        if column not in COLUMNS:
            close = difflib.get_close_matches(column, COLUMNS, n=1)
            meant = f"Did you mean {close[0]!r}? " if close else ""
            raise InvalidInputError(
                f"{table} has the unknown column {cell!r}. {meant}Columns are {', '.join(COLUMNS)}."
            )
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise InvalidInputError(f"{table} has the column {twice[0]!r} twice. Remove one.")
    if lacking := [column for column in _REQUIRED if column not in columns]:
        raise InvalidInputError(f"{table} must have the columns path and label; {lacking[0]!r} is missing.")
    return columns


def _row(line: int, cells: dict[str, str], folder: Path, filled: Sequence[str]) -> tuple[CohortRow | None, list[str]]:
    """Turn the cells of one line into a row, or say what is wrong with it."""
    problems = [f"line {line}, column {column}: must not be empty" for column in filled if not cells.get(column)]
    split = cells.get("split", "").casefold() or None
    if split not in (None, *_SPLITS):
        problems.append(f"line {line}, column split: must be train, test or empty; got {cells['split']!r}")
    mpp, wrong = _mpp(cells.get("mpp", ""))
    if wrong:
        problems.append(f"line {line}, column mpp: {wrong}")
    if problems:
        return None, problems
    place = Path(os.path.abspath(folder))
    truth = cells.get("truth", "")
    return (
        CohortRow(
            path=Path(os.path.normpath(place / cells["path"])),
            label=cells.get("label", ""),
            group=cells.get("group") or None,
            split=split,
            mpp=mpp,
            truth=Path(os.path.normpath(place / truth)) if truth else None,
            line=line,
        ),
        [],
    )


def _mpp(cell: str) -> tuple[float | None, str | None]:
    """Return a pixel size, or None and what is wrong with it; an empty cell is neither."""
    if not cell:
        return None, None
    low, high = MPP_RANGE
    must = f"must be the width of a level-0 pixel in µm, {low:g}-{high:g}"
    try:
        mpp = float(cell)
    except ValueError:
        return None, f"{must}, with a decimal point; got {cell!r}"
    return (mpp, None) if low <= mpp <= high else (None, f"{must}; got {cell!r}")


def _conflicts(rows: list[CohortRow]) -> list[str]:
    """Say which rows contradict each other."""
    problems = []
    seen: dict[Path, int] = {}
    for row in rows:
        if (first := seen.setdefault(row.path, row.line)) != row.line:
            problems.append(f"line {row.line}, column path: {row.name} is in line {first} already")
    if any(row.split for row in rows):
        problems += [
            f"line {row.line}, column split: must not be empty where other rows say train or test"
            for row in rows
            if row.split is None
        ]
    homes: dict[str, CohortRow] = {}
    told = set()
    for row in rows:
        first_row = homes.setdefault(row.group, row) if row.group and row.split else row
        if first_row.split != row.split and row.group not in told:
            told.add(row.group)
            problems.append(
                f"lines {first_row.line} and {row.line}, column group: {row.group!r} is both in {first_row.split} and"
                f" in {row.split}; a patient must be in one of them"
            )
    return problems


def _missing(rows: list[CohortRow]) -> list[str]:
    """Say which files do not exist."""
    return [
        f"line {row.line}, column {column}: there is no file {file}"
        for row in rows
        for column, file in (("path", row.path), ("truth", row.truth))
        if file is not None and not file.exists()
    ]


def _told(table: str, problems: list[str]) -> str:
    """Join problems into one message; the first few of them."""
    more = f"\n… and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    if len(problems) == 1:
        return f"{table}, {problems[0]}."
    return f"{table}: {len(problems)} problems:\n" + "\n".join(f"  {p}" for p in problems[:_MOST_TOLD]) + more
