"""The walls of the house: who may import whom, how long things are, what never appears.

Rooms are numbered: errors 0, core 1, tokens 2, study 3, and the faces (cli, _napari, adapters) 4. Imports
go down, never up, and never from one face to another. Each rule is a function from one parsed file to its
breaches, so that it can be shown to find one.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import napari_prospector

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "napari_prospector"
ROOMS = {"errors": 0, "core": 1, "tokens": 2, "study": 3, "cli": 4, "_napari": 4}
FACE = 4

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "dask",
    "distributed",
    "h5py",
    "napari",
    "skimage",
    "matplotlib",
    "PIL",
    "shapely",
}
QT = {"qtpy", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6"}
NAPARI = {"napari", "magicgui", "npe2", "vispy"}
SCIENCE = {"numpy", "scipy", "sklearn", "numba", "llvmlite", "safetensors"}
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# The distribution that brings a package, where their names differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "llvmlite": "numba",
    "openslide": "openslide-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
VAGUE_NAMES = {"data", "info", "obj", "tmp", "processor"}
VAGUE_FILES = {"utils", "util", "helpers", "helper", "base", "manager", "misc", "common"}
MOST_LINES, MOST_BODY_LINES = 500, 40
HOUSE, YARD = ("src", "adapters"), ("src", "adapters", "tools", "benchmarks")


@dataclass(frozen=True)
class File:
    """A parsed file; `unit` is the room or the face that it lies in."""

    path: Path
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def unit(self) -> str:
        parts = self.path.with_suffix("").parts
        if parts[0] == "adapters":
            return parts[1]
        return parts[2] if parts[0] == "src" else ""

    @property
    def room(self) -> int | None:
        return FACE if self.path.parts[0] == "adapters" else ROOMS.get(self.unit)


@dataclass(frozen=True)
class Import:
    """A module, or a name of it, that a file imports; `lazy` when merely importing the file does not load it."""

    module: str
    line: int
    lazy: bool
    relative: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def files(*folders: str) -> list[File]:
    return [
        File(path.relative_to(REPOSITORY), path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    ]


def imports(tree: ast.Module) -> list[Import]:
    return list(_imports(tree, lazy=False))


def _imports(node: ast.AST, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, lazy, False) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        whole = node.module or ""
        # `from napari_prospector import tokens` imports napari_prospector.tokens.
        names = [f"{whole}.{alias.name}" for alias in node.names] if whole == "napari_prospector" else [whole]
        yield from (Import(name, node.lineno, lazy, node.level > 0) for name in names)
    for child in ast.iter_child_nodes(node):
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and child in node.body
        yield from _imports(child, lazy or in_function or for_types)


def imports_that_go_up_or_sideways(file: File) -> Iterator[str]:
    if file.unit == "__init__":  # the front door names every room
        return
    if file.room is None:
        yield f"{file.path}: lies in no room of {sorted(ROOMS)}"
        return
    for imported in imports(file.tree):
        if imported.relative:
            yield f"{file.path}:{imported.line}: relative import"
        if imported.package != "napari_prospector" or imported.module == "napari_prospector.__version__":
            continue
        unit = imported.module.partition(".")[2].partition(".")[0]
        if unit not in ROOMS:  # a public name, which only a face may take from the front door
            if file.room < FACE:
                yield f"{file.path}:{imported.line}: import {unit or 'the name'} from the module that it lives in"
        elif unit != file.unit and ROOMS[unit] >= file.room:
            yield f"{file.path}:{imported.line}: room {file.room} imports {unit}, room {ROOMS[unit]}"


def imports_of_foreign_trades(file: File) -> Iterator[str]:
    in_adapter = file.path.parts[0] == "adapters"
    for imported in imports(file.tree):
        where, package = f"{file.path}:{imported.line}", imported.package
        if package in NAPARI and file.unit != "_napari":
            yield f"{where}: only _napari knows {package}"
        if package in QT and file.unit != "_napari" and not in_adapter:
            yield f"{where}: only _napari and the adapters know {package}"
        if package in {"dask", "distributed"} and file.path.stem != "cluster":
            yield f"{where}: study/cluster.py is the only home of {package}"
        is_foreign = package not in sys.stdlib_module_names | SCIENCE | {"napari_prospector"}
        if file.room in (0, 1) and is_foreign:
            yield f"{where}: room {file.room} knows {sorted(SCIENCE)} only, not {package}"


def heavy_imports_at_the_top(file: File) -> Iterator[str]:
    """Find them where others load the file at once; a file that is only ever imported lazily is a gate of its own."""
    dotted = dotted_name(file)
    heavy = HEAVY | QT if file.unit != "_napari" else HEAVY - NAPARI
    for imported in imports(file.tree):
        if imported.package in heavy and not imported.lazy and dotted in loaded_at_once():
            yield f"{file.path}:{imported.line}: import {imported.package} inside the function that needs it"


@cache
def loaded_at_once() -> frozenset[str]:
    """The modules behind public names, and those that some other file imports at its top.

    What only gates import at their top, files that are heavy themselves and imported lazily, lies behind the gate.
    """
    doors = {f"napari_prospector.{home}" for home in (*napari_prospector._HOMES.values(), "cli")}
    house = {dotted_name(file): imports(file.tree) for file in files(*HOUSE)}
    heavy = {name for name, found in house.items() if any(one.package in HEAVY and not one.lazy for one in found)}
    loaded = frozenset[str]()
    while True:
        gates = heavy - loaded - doors
        lighter = [found for name, found in house.items() if name not in gates]
        following = frozenset(doors | {one.module for found in lighter for one in found if not one.lazy})
        if following == loaded:
            return loaded
        loaded = following


def dotted_name(file: File) -> str:
    """The name that a file is imported by."""
    return ".".join(file.path.with_suffix("").parts[1:]).removesuffix(".__init__")


def imports_of_the_undeclared(file: File) -> Iterator[str]:
    adapters = {path.name for path in REPOSITORY.glob("adapters/*")}
    known = sys.stdlib_module_names | {"napari_prospector"} | adapters
    for imported in imports(file.tree):
        name = DISTRIBUTIONS.get(imported.package, imported.package).lower().replace("_", "-")
        if imported.package not in known and name not in declared():
            yield f"{file.path}:{imported.line}: {imported.package} is no dependency in pyproject.toml"


@cache
def declared() -> frozenset[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    users = [extra for name, extra in extras.items() if name not in ("dev", "test")]
    return frozenset(
        re.split(r"[\[<>=!~; ]", line)[0].lower() for lines in (project["dependencies"], *users) for line in lines
    )


def catches_of_everything(file: File) -> Iterator[str]:
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else {"everything"}
        cleans_up = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        if names & {"everything", "Exception", "BaseException"} and not cleans_up:
            yield f"{file.path}:{node.lineno}: name the errors that are expected, instead of {sorted(names)}"


def pickles(file: File) -> Iterator[str]:
    for imported in imports(file.tree):
        if imported.package in UNPICKLERS:
            yield f"{file.path}:{imported.line}: imports {imported.package}"
    for node in ast.walk(file.tree):
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            if ast.unparse(node.value) != str(node.arg == "weights_only"):
                yield f"{file.path}:{node.value.lineno}: {node.arg}={ast.unparse(node.value)}"


def files_too_long(file: File) -> Iterator[str]:
    if (lines := file.text.count("\n")) >= MOST_LINES:
        yield f"{file.path}: {lines} lines; fewer than {MOST_LINES}"


def bodies_too_long(file: File) -> Iterator[str]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MOST_BODY_LINES:
                yield f"{file.path}:{node.lineno}: {node.name} has a body of {lines} lines; at most {MOST_BODY_LINES}"


def vague_names(file: File) -> Iterator[str]:
    if file.path.stem in VAGUE_FILES:
        yield f"{file.path}: name it after what it does"
    for node in ast.walk(file.tree):
        is_bound = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        name = node.arg if isinstance(node, ast.arg) else node.id if is_bound else None
        if name in VAGUE_NAMES:
            yield f"{file.path}:{node.lineno}: {name} says nothing"


def modules_without_all(file: File) -> Iterator[str]:
    if file.path.name == "__init__.py":
        return
    names = {
        target.id
        for node in file.tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if "__all__" not in names:
        yield f"{file.path}: no __all__"


Rule = Callable[[File], Iterator[str]]
RULES: list[tuple[Rule, tuple[str, ...]]] = [
    (imports_that_go_up_or_sideways, HOUSE),
    (imports_of_foreign_trades, HOUSE),
    (heavy_imports_at_the_top, HOUSE),
    (imports_of_the_undeclared, HOUSE),
    (catches_of_everything, YARD),
    (pickles, YARD),
    (files_too_long, (*YARD, "tests")),
    (bodies_too_long, YARD),
    (vague_names, HOUSE),
    (modules_without_all, HOUSE),
]


@pytest.mark.parametrize(("rule", "folders"), RULES, ids=lambda value: getattr(value, "__name__", ""))
def test_the_house_has_no(rule: Rule, folders: tuple[str, ...]) -> None:
    breaches = [breach for file in files(*folders) for breach in rule(file)]
    assert not breaches, "\n".join(breaches)


SAMPLES: list[tuple[Rule, str, str]] = [
    (
        imports_that_go_up_or_sideways,
        "core/graph.py",
        "def f():\n    from napari_prospector.tokens.store import TokenGrid",
    ),
    (imports_that_go_up_or_sideways, "core/graph.py", "from napari_prospector import tokens"),
    (imports_that_go_up_or_sideways, "tokens/store.py", "from napari_prospector import TokenGraph"),
    (imports_that_go_up_or_sideways, "_napari/reader.py", "import napari_prospector.cli"),
    (imports_that_go_up_or_sideways, "tokens/store.py", "from .geometry import GridGeometry"),
    (imports_that_go_up_or_sideways, "elsewhere.py", ""),
    (imports_of_foreign_trades, "cli.py", "import napari"),
    (imports_of_foreign_trades, "study/report.py", "from qtpy.QtWidgets import QLabel"),
    (imports_of_foreign_trades, "tokens/embed.py", "import dask.array"),
    (imports_of_foreign_trades, "core/head.py", "import zarr"),
    (heavy_imports_at_the_top, "tokens/tissue.py", "try:\n    import skimage.filters\nexcept ImportError:\n    pass"),
    (heavy_imports_at_the_top, "cli.py", "import torch"),
    (imports_of_the_undeclared, "study/report.py", "import seaborn"),
    (catches_of_everything, "cli.py", "try:\n    f()\nexcept:\n    pass"),
    (catches_of_everything, "cli.py", "try:\n    f()\nexcept (ValueError, Exception) as error:\n    print(error)"),
    (pickles, "core/head.py", "from joblib import load"),
    (pickles, "core/head.py", "numpy.load(path, allow_pickle=True)"),
    (files_too_long, "cli.py", "x = 1\n" * 500),
    (bodies_too_long, "cli.py", "def f():\n" + "    x = 1\n" * 41),
    (vague_names, "core/utils.py", ""),
    (vague_names, "core/head.py", "def fit(data): ..."),
    (vague_names, "core/head.py", "for obj in x: ..."),
    (modules_without_all, "core/head.py", "x = 1"),
]


@pytest.mark.parametrize(("rule", "path", "text"), SAMPLES)
def test_every_rule_finds_a_breach(rule: Rule, path: str, text: str) -> None:
    assert list(rule(File(Path("src/napari_prospector", path), text)))


def test_what_is_allowed_is_let_through() -> None:
    text = """
from typing import TYPE_CHECKING
from napari_prospector import __version__
from napari_prospector.core.graph import TokenGraph
if TYPE_CHECKING:
    import torch
__all__ = []
def f():
    import timm
    try:
        numpy.load(path, allow_pickle=False)
    except BaseException:
        path.unlink()
        raise
"""
    file = File(Path("src/napari_prospector/tokens/embed.py"), text)
    assert [breach for rule, _ in RULES for breach in rule(file)] == []


def loaded_by(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and return the packages that it loaded."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = HEAVY | QT | NAPARI | SCIENCE | {"click", "imagecodecs", "rich", "tifffile", "zarr"}
    assert not loaded_by("import napari_prospector") & heavy


def test_fetching_every_public_name_loads_no_model_library_and_no_window() -> None:
    assert not loaded_by("from napari_prospector import *") & (HEAVY | QT | NAPARI)


def test_starting_the_command_line_loads_no_model_library_and_no_window() -> None:
    assert not loaded_by("import napari_prospector.cli") & (HEAVY | QT | NAPARI)


def test_every_public_name_is_fetched_from_where_type_checkers_look() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: str(node.module).removeprefix("napari_prospector.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == napari_prospector._HOMES
    assert sorted(seen) == sorted(napari_prospector.__all__)
    assert {*seen, "__version__"} <= set(dir(napari_prospector))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prospectr'"):
        napari_prospector.prospectr  # noqa: B018
