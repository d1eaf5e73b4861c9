"""Run the tests of the window with every napari and every Qt that are promised, and with the oldest packages.

    python3 tools/matrix.py                                        every combination: the story and QUICK_TESTS
    python3 tools/matrix.py --only napari-0.7.0-pyside6            one of them; may be given again
    python3 tools/matrix.py --whole                                all tests of the window, half an hour each
    python3 tools/matrix.py -- tests/napari_plugin/test_panel.py   pytest's own words after --
    python3 tools/matrix.py --list                                 their names

Runs on the standard library alone, after `make test` has set up .venv. Each combination is a small environment
in .venv-matrix/ that holds what differs from .venv, and finds the rest (torch above all) in .venv itself.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["COMBINATIONS", "Combination", "main"]

REPOSITORY = Path(__file__).resolve().parents[1]
BESIDE = REPOSITORY / ".venv"
ENVIRONMENTS = REPOSITORY / ".venv-matrix"
PROGRAMS, PYTHON_NAME = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
WINDOW_TESTS = "tests/napari_plugin"
# The story drives every part in real windows; the others touch what differs between versions of napari and Qt.
QUICK_TESTS = ("manifest", "story", "start", "fit", "canvas", "repaint_canvas", "layers", "readers", "tasks", "waiting")
# torch alone is gigabytes, and timm and Captum follow it: they stay those of .venv, in the oldest combination too.
STAY = ("captum", "timm", "torch")
OLDEST_NAPARI, NEWEST_NAPARI = "0.7.0", "0.9.2"
# PySide6 6.12.0 frees None once too often: under Python 3.11 a long run ends in "Fatal Python error: none_dealloc".
BINDINGS = {"PyQt6": "PyQt6", "PySide6": "PySide6==6.11.3"}


@dataclass(frozen=True)
class Combination:
    """A napari and a Qt binding; `oldest` takes the lower bounds of pyproject.toml for everything else."""

    napari: str
    binding: str
    oldest: bool = False

    @property
    def name(self) -> str:
        """What it is called on the command line and in the table."""
        return f"napari-{self.napari}-{self.binding.lower()}" + ("-oldest" if self.oldest else "")

    @property
    def folder(self) -> Path:
        """Where its environment lies."""
        return ENVIRONMENTS / self.name

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.folder / PROGRAMS / PYTHON_NAME

    def requirements(self) -> list[str]:
        """List what pip is asked for."""
        asked = [f"napari[{self.binding.lower()}]=={self.napari}", BINDINGS[self.binding]]
        return asked + (lower_bounds() if self.oldest else [])


COMBINATIONS = (
    *(Combination(napari, binding) for napari in (OLDEST_NAPARI, "0.8.0", NEWEST_NAPARI) for binding in BINDINGS),
    Combination(OLDEST_NAPARI, "PyQt6", oldest=True),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one combination; `failed` names tests, or says what else went wrong."""

    name: str
    passed: int
    failed: tuple[str, ...]
    seconds: float

    def line(self) -> str:
        """Write one line of the table."""
        verdict = "passed" if self.passed and not self.failed else "FAILED"
        return f"{self.name:34} {verdict}  {self.passed:5} {len(self.failed):6} {self.seconds:6.0f} s"


def main(arguments: list[str]) -> int:
    """Run the combinations that are asked for, print a table, and return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[one.name for one in COMBINATIONS], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--whole", action="store_true", help=f"all of {WINDOW_TESTS}, not the quick ones alone")
    parser.add_argument("pytest", nargs="*", help="what pytest is told instead")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(one.name for one in COMBINATIONS))
        return 0
    if not (BESIDE / ".test.done").exists():
        print("There is no .venv to stand on: run `make test` first, or `python3 tools/set_up.py test`.")
        return 1
    chosen = [one for one in COMBINATIONS if not asked.only or one.name in asked.only]
    tests = asked.pytest or ([WINDOW_TESTS] if asked.whole else quick_tests())
    outcomes = [try_combination(one, tests) for one in chosen]
    print_table(outcomes)
    return 0 if all(outcome.passed and not outcome.failed for outcome in outcomes) else 1


def quick_tests() -> list[str]:
    """List the files of tests that are run unless others are asked for: some minutes a combination."""
    return [f"{WINDOW_TESTS}/test_{name}.py" for name in QUICK_TESTS]


def try_combination(one: Combination, tests: list[str]) -> Outcome:
    """Make its environment and run the tests in it."""
    print(f"\n== {one.name}", flush=True)
    began = time.monotonic()
    try:
        set_up(one)
    except subprocess.CalledProcessError as error:
        return Outcome(one.name, 0, (f"set-up: {error}",), time.monotonic() - began)
    passed, failed = run_tests(one, tests)
    return Outcome(one.name, passed, failed, time.monotonic() - began)


def set_up(one: Combination) -> None:
    """Make the environment if what it was made from has changed, and say what it holds."""
    stamp, made_from = one.folder / ".made-from", "\n".join(one.requirements())
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != made_from:
        venv.create(one.folder, clear=True, with_pip=False)
        stand_on(one.folder)
        # pip sees the packages of .venv, keeps those that serve, and lays others in front of them.
        subprocess.run(
            [one.python, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", *one.requirements()], check=True
        )
        stamp.write_text(made_from, encoding="utf-8")
    shows = "import napari, numpy, qtpy; print('napari', napari.__version__, '·', qtpy.API_NAME, qtpy.QT_VERSION, '·', "
    subprocess.run([one.python, "-c", f"{shows}'NumPy', numpy.__version__)"], check=True, env=environment(one))


def stand_on(folder: Path) -> None:
    """Let an environment find the packages of .venv, after its own."""
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, beside = (
        subprocess.run([path, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
        for path in (folder / PROGRAMS / PYTHON_NAME, BESIDE / PROGRAMS / PYTHON_NAME)
    )
    # addsitedir: the checkout itself is a .pth file in .venv.
    Path(own, "beside.pth").write_text(f"import site; site.addsitedir({beside!r})\n", encoding="utf-8")


def environment(one: Combination) -> dict[str, str]:
    """Return the variables that choose the binding, with those that would choose otherwise left out."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTEST_QT_API"}}
    return kept | {"QT_API": one.binding.lower()}


def run_tests(one: Combination, tests: list[str]) -> tuple[int, tuple[str, ...]]:
    """Run pytest; return how many tests passed, and which failed."""
    report = one.folder / "report.xml"
    report.unlink(missing_ok=True)
    options = ["-o", f"qt_api={one.binding.lower()}", "-o", "cache_dir=" + str(one.folder / "cache")]
    command = [str(one.python), "-m", "pytest", "-q", f"--junitxml={report}", *options, *tests]
    code = subprocess.run(command, check=False, cwd=REPOSITORY, env=environment(one)).returncode
    if not report.exists():
        return 0, (f"pytest ended with exit code {code} and no report",)
    return read_report(report)


def read_report(report: Path) -> tuple[int, tuple[str, ...]]:
    """Count what passed in a report of pytest, and name what did not."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    passed = [case for case in cases if case not in failed and case.find("skipped") is None]
    names = dict.fromkeys(f"{case.get('classname')}.{case.get('name')}" for case in failed)
    return len(passed), tuple(names)


def lower_bounds() -> list[str]:
    """List the dependencies of pyproject.toml at the oldest version that each line promises."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names_and_bounds = [re.split(r"\s*>=\s*", line) for line in project["dependencies"]]
    return [f"{name}=={bound}" for name, bound in names_and_bounds if name not in STAY]


def print_table(outcomes: list[Outcome]) -> None:
    """Print one line for each combination, and under them the tests that failed."""
    print(f"\n{'combination':34} verdict {'passed':>6} {'failed':>6}   time")
    for outcome in outcomes:
        print(outcome.line())
    for outcome in outcomes:
        for name in outcome.failed:
            print(f"  {outcome.name}: {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
