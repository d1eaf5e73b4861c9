"""What was dropped on the cohort, as slides: files, folders and tables; found in a thread, told as they are found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_prospector._napari.progress import JobProgress, Steps
from napari_prospector.errors import ProspectorError
from napari_prospector.study.cohort import TOKENS_SUFFIX, Cohort
from napari_prospector.study.project import StudySlide
from napari_prospector.tokens.formats import SLIDE_SUFFIXES

__all__ = ["Found", "find_slides", "is_cohort_table"]

# a plain picture of this many pixels a side is a slide, whatever else it lacks
SLIDE_FROM_PX = 4096
# names that pictures of all kinds have
PICTURES = {".btf", ".jpeg", ".jpg", ".png", ".tif", ".tiff"}
# rows come in portions: a table is drawn anew for each
PORTION_S = 0.2
HEADER_BYTES = 64_000


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Attributes
    ----------
    n_slides
        How many slides were found.
    left_out
        What was named and is no slide, with the reason.
    """

    n_slides: int
    left_out: tuple[str, ...] = ()

    def sentence(self, n_new: int) -> str:
        """Return what the user is told; `n_new` of the slides were not in the cohort yet."""
        if not self.n_slides and not self.left_out:
            return f"There is no slide in there. Slides end in {', '.join(sorted(SLIDE_SUFFIXES))}."
        parts = [f"{n_new:,} slides were added." if n_new != 1 else "1 slide was added."]
        if known := self.n_slides - n_new:
            parts.append(f"{known:,} were there already.")
        if self.left_out:
            more = f" (and {len(self.left_out) - 1:,} more)" if len(self.left_out) > 1 else ""
            parts.append(f"Left out: {self.left_out[0]}{more}")
        return " ".join(parts)


def find_slides(paths: Sequence[Path]) -> Steps[Found]:
    """Find the slides among files, in folders and in cohort tables.

    Parameters
    ----------
    paths
        What was dropped or chosen. A file is taken as it is named; a folder is searched with all that it holds,
        and of plain pictures in it only large ones are taken.

    Yields
    ------
    JobProgress
        With a tuple of `StudySlide` as `found`, a few times a second.

    Returns
    -------
    Found

    Raises
    ------
    ProspectorError
        A table is wrong; the message names lines and columns.
    """
    left_out: list[str] = []
    waiting: list[StudySlide] = []
    n_slides, told_at = 0, 0.0
    yield JobProgress("Looking for slides")
    for slide in _all_slides(paths, left_out):
        if slide is not None:
            waiting.append(slide)
            n_slides += 1
        if time.monotonic() - told_at >= PORTION_S:
            yield JobProgress(f"Looking for slides: {n_slides:,} found", found=tuple(waiting) or None)
            told_at = time.monotonic()
            waiting = []
    if waiting:
        yield JobProgress(f"Looking for slides: {n_slides:,} found", found=tuple(waiting))
    return Found(n_slides, tuple(left_out))


def is_cohort_table(path: Path) -> bool:
    """Whether a file is CSV whose header has the columns path and label."""
    try:
        with path.open("rb") as file:
            first = file.read(HEADER_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    header = next((line for line in first.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    names = {cell.strip().strip('"').casefold() for cell in header.split(separator)}
    return {"path", "label"} <= names


def _all_slides(paths: Sequence[Path], left_out: list[str]) -> Iterator[StudySlide | None]:
    """Yield every slide, and None now and then where none was found for a while."""
    for named in paths:
        path = Path(os.path.abspath(named))
        if path.suffix.lower() == ".csv":
            table = Cohort.read(path, check_files=False, needs_labels=False)
            yield from (StudySlide.of_row(row) for row in table)
        elif path.is_dir() and not _is_one_slide(path):
            yield from _in_folder(path, left_out)
        elif (problem := _problem(path)) is None:
            yield StudySlide(path)
        else:
            left_out.append(problem)
            yield None


def _in_folder(folder: Path, left_out: list[str]) -> Iterator[StudySlide | None]:
    """Yield the slides of a folder and of those within it; token grids where there is no slide at all."""
    grids: list[Path] = []
    n_slides = 0
    for place, folders, files in os.walk(folder):
        here = Path(place)
        within = sorted(name for name in folders if not name.startswith("."))
        grids += [here / name for name in within if name.endswith(TOKENS_SUFFIX)]
        found = [name for name in within if not name.endswith(TOKENS_SUFFIX) and _is_one_slide(here / name)]
        # what is a slide, or a part of one, is not searched
        folders[:] = [name for name in within if name not in found and not name.endswith(".zarr")]
        found += sorted(name for name in files if _is_wanted(here / name))
        series = [name for name in sorted(files) if name.lower().endswith(".dcm")]
        if series and not _is_one_slide(here):
            left_out.append(f"{series[0]} is DICOM and lies among other slides in {here.name}. Add it by itself.")
        for name in found:
            n_slides += 1
            yield StudySlide(here / name)
        yield None
    if not n_slides:
        yield from (StudySlide(grid) for grid in grids)


def _is_one_slide(folder: Path) -> bool:
    """Whether a folder is a slide or a token grid; only those with names that say so, or DICOM files, are looked at."""
    from napari_prospector.tokens.formats import is_slide_folder

    if folder.name.endswith(TOKENS_SUFFIX):
        return True
    try:
        if not folder.name.endswith(".zarr") and not any(file.suffix.lower() == ".dcm" for file in folder.iterdir()):
            return False
        return is_slide_folder(folder) and not _holds_other_slides(folder)
    except (OSError, ProspectorError):
        return False


def _holds_other_slides(folder: Path) -> bool:
    """Whether slides of another kind lie among DICOM files: then the folder is not one slide, but holds some."""
    if folder.name.endswith(".zarr"):
        return False
    return any(file.suffix.lower() in SLIDE_SUFFIXES - {".dcm", ".ome"} for file in folder.iterdir())


def _is_wanted(file: Path) -> bool:
    """Whether a file of a folder that is searched is a slide: by its name, and pictures of all kinds by their content.

    A damaged file whose name only slides have is taken: the table says what is wrong with it.
    """
    suffix = file.suffix.lower()
    if file.name.startswith(".") or suffix not in SLIDE_SUFFIXES or suffix in (".dcm", ".ome"):
        return False
    return suffix not in PICTURES or _looks_like_slide(file)


def _looks_like_slide(file: Path) -> bool:
    """Whether a picture is a slide: it has levels, states a pixel size, or is large."""
    from napari_prospector.tokens.slides import open_slide

    try:
        with open_slide(file) as slide:
            return len(slide.levels) > 1 or slide.mpp is not None or max(slide.shape) >= SLIDE_FROM_PX
    except ProspectorError:
        return False


def _problem(path: Path) -> str | None:
    """Say why what was named can be no slide; None where it is one, or a token grid."""
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.store import TokenGrid

    try:
        if path.name.endswith(TOKENS_SUFFIX):
            TokenGrid.open(path).close()
        else:
            open_slide(path).close()
    except ProspectorError as error:
        return str(error)
    return None
