"""A study as a folder ``*.prospect-project``: it reopens as it was, whatever happened between.

::

    NAME.prospect-project/
    ├── project.json            slides, labels, classes, encoder, names of concepts, what was open in the viewer
    ├── cohort.csv              the labelled slides, for `prospect fit` and the like
    ├── annotations/*.geojson   the regions of each annotated slide, as QuPath reads them
    └── heads/*.prospector      heads that were fitted here

Slides stay where they are. Paths are relative to the folder wherever the system allows it, so that a folder that
holds slides and project can be moved; they are in no other file than ``project.json`` and ``cohort.csv``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.errors import FileFormatError, MissingFileError
from napari_prospector.study.annotations import AnnotationClass, Annotations, Region
from napari_prospector.study.cohort import COLUMNS
from napari_prospector.study.geojson import read_geojson, write_geojson
from napari_prospector.study.project import EncoderChoice, Study, StudySlide
from napari_prospector.tokens.durable import WriterLock, storage_errors, sweep_partials, write_whole

__all__ = ["PROJECT_SUFFIX", "Project", "read_project"]

PROJECT_SUFFIX = ".prospect-project"
FORMAT, VERSION = "napari-prospector project", 1
LAYER_KEY = "layer:"


class Project:
    """A project's folder, held open for writing: nobody else may write it meanwhile.

    Parameters
    ----------
    folder
        ``NAME.prospect-project``; it is made where there is none.

    Attributes
    ----------
    folder
        As given, absolute.
    study, view
        As they were saved last; of a new folder an empty study and an empty view.

    Raises
    ------
    FileFormatError
        The folder holds a damaged project, or one of a newer version.
    StoreBusyError
        It is open elsewhere.
    StorageError
        It cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "lymph nodes.prospect-project"
    >>> with Project(folder) as project:
    ...     project.save(Study().with_slides([StudySlide(folder.parent / "a.svs", "tumour")]), {})
    >>> read_project(folder)[0].labels
    ('tumour',)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._lock: WriterLock | None = WriterLock(self.folder / "project.lock", self.folder)
        self.study = Study()
        self.view: dict[str, Any] = {}
        try:
            sweep_partials(self.folder)
            if (self.folder / "project.json").exists():
                self.study, self.view = read_project(self.folder)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def heads(self) -> Path:
        """Folder for heads that are fitted here."""
        return self.folder / "heads"

    def save(self, study: Study, view: Mapping[str, Any]) -> None:
        """Write what has changed since it was saved last.

        Every file is there whole or as it was; ``project.json`` is written last.

        Parameters
        ----------
        study
            The study as it is.
        view
            What is open in the viewer, in types of JSON; only the viewer knows what it means. Where one of its
            ``layers`` has a ``key``, that is a key of `Study.annotations`.

        Raises
        ------
        StorageError
            A file cannot be written; what was saved before is still there.
        """
        if self._lock is None:
            # the window was to be closed, and was not
            self._lock = WriterLock(self.folder / "project.lock", self.folder)
        files = {key: self._write_regions(key, study) for key in study.annotations}
        write_whole(self.folder / "cohort.csv", self._table(study).encode())
        text = json.dumps(self._record(study, view, files), indent=1, ensure_ascii=False)
        write_whole(self.folder / "project.json", text.encode())
        for gone in set(self._files(self.study)) - set(files.values()):
            with storage_errors(self.folder / gone):
                (self.folder / gone).unlink(missing_ok=True)
        self.study, self.view = study, dict(view)

    def close(self) -> None:
        """Let others write the folder, until it is saved again; harmless when repeated."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _files(self, study: Study) -> list[str]:
        """Return the files of the annotations of a study."""
        return [_regions_file(key) for key in study.annotations]

    def _write_regions(self, key: str, study: Study) -> str:
        """Write the regions of a slide, unless they are written; return the name of the file in the folder."""
        file, regions = _regions_file(key), study.annotations[key]
        known = self.study.annotations.get(key) is regions and self.study.classes == study.classes
        if not known or not (self.folder / file).exists():
            with storage_errors(self.folder / file):
                (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            used = {region.label for region in regions}
            classes = tuple(kind for kind in study.classes if kind.name in used)
            write_geojson(self.folder / file, Annotations(regions, classes))
        return file

    def _table(self, study: Study) -> str:
        """Return the labelled slides as a cohort's table."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for slide in study.slides:
            if slide.label:
                row = [_relative(slide.path, self.folder), slide.label, slide.group, slide.split, slide.mpp]
                writer.writerow([*row, slide.truth and _relative(slide.truth, self.folder)])
        return stream.getvalue()

    def _record(self, study: Study, view: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
        """Return what ``project.json`` says."""
        concepts = study.concepts
        return {
            "format": FORMAT,
            "version": VERSION,
            "slides": [_fields(slide, self.folder) for slide in study.slides],
            "classes": [{"name": kind.name, "color": list(kind.color)} for kind in study.classes],
            "annotations": {_relative_key(key, self.folder): file for key, file in files.items()},
            "encoder": _fields(study.encoder, self.folder),
            "head": study.head and _relative(study.head, self.folder),
            "concepts": concepts and {"names": list(concepts.names), **concepts.to_card()},
            "view": _with_keys(view, lambda key: _relative_key(key, self.folder)),
        }


def read_project(folder: str | os.PathLike[str]) -> tuple[Study, dict[str, Any]]:
    """Read a project without holding it: the study, and what was open in the viewer.

    Raises
    ------
    MissingFileError
        There is no project in the folder.
    FileFormatError
        It is damaged, or of a newer version.
    """
    place = Path(os.path.abspath(folder))
    try:
        record = json.loads((place / "project.json").read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no project in {place}: it has no project.json. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{place.name}/project.json is damaged: {error}.") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise FileFormatError(f"{place.name}/project.json is not that of a project of napari-prospector.")
    if record.get("version") != VERSION:
        raise FileFormatError(
            f"{place.name} is a project of version {record.get('version')!r}; this napari-prospector reads version "
            f"{VERSION}. Install a newer one."
        )
    try:
        return _study(record, place), _with_keys(record["view"], lambda key: _absolute_key(key, place))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{place.name}/project.json is damaged: {error!r}.") from error


def _study(record: Mapping[str, Any], folder: Path) -> Study:
    """Return the study that ``project.json`` and the files beside it hold."""
    head, concepts = record["head"], record["concepts"]
    annotations: dict[str, tuple[Region, ...]] = {
        _absolute_key(key, folder): read_geojson(folder / file).regions for key, file in record["annotations"].items()
    }
    return replace(
        Study(),
        slides=tuple(StudySlide(**_with_paths(fields, folder)) for fields in record["slides"]),
        classes=tuple(AnnotationClass(kind["name"], tuple(kind["color"])) for kind in record["classes"]),
        annotations=MappingProxyType(annotations),
        encoder=EncoderChoice(**_with_paths(record["encoder"], folder)),
        head=head and _absolute(head, folder),
        concepts=concepts and ConceptEdits.of_card(concepts["names"], concepts),
    )


PATH_FIELDS = ("path", "truth", "tokens", "weights")


def _fields(record: StudySlide | EncoderChoice, folder: Path) -> dict[str, Any]:
    """Return the fields of a record that say something, paths relative to a folder."""
    given = {name: value for name, value in vars(record).items() if value is not None}
    return {name: _relative(value, folder) if name in PATH_FIELDS else value for name, value in given.items()}


def _with_paths(fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Undo `_fields`."""
    return {name: _absolute(value, folder) if name in PATH_FIELDS else value for name, value in fields.items()}


def _relative(path: Path, folder: Path) -> str:
    """Return a path from a folder; on another drive of Windows there is none, and it stays absolute."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def _absolute(path: str, folder: Path) -> Path:
    """Undo `_relative`."""
    return Path(os.path.normpath(folder / path))


def _relative_key(key: str, folder: Path) -> str:
    """Return the key of a slide's annotations with its path relative to a folder."""
    return key if key.startswith(LAYER_KEY) else _relative(Path(key), folder)


def _absolute_key(key: str, folder: Path) -> str:
    """Undo `_relative_key`."""
    return key if key.startswith(LAYER_KEY) else os.fspath(_absolute(key, folder))


def _with_keys(view: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return a view whose layers have other keys."""
    layers = [{**layer, "key": change(layer["key"])} if "key" in layer else layer for layer in view.get("layers", ())]
    return {**view, "layers": layers} if layers else dict(view)


def _regions_file(key: str) -> str:
    """Return where the annotations of a slide are kept: two folders may hold slides of one name."""
    name = re.sub(r"[^\w.-]+", "-", Path(key.removeprefix(LAYER_KEY)).name)[:60]
    return f"annotations/{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.geojson"
