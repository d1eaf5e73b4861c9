"""Set up what a target of the Makefile needs, from nothing: a virtual environment, pinned packages, a display.

    python3 tools/set_up.py demo|test|lint|docs
    python3 tools/set_up.py measure      print the figures of STAGES, by asking pip

Runs on the standard library alone. The packages are those of pyproject.toml, their versions those of
constraints.txt; what is there already is left alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["main"]

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = REPOSITORY / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS = REPOSITORY / "constraints.txt"

# The models' libraries are big, and neither the demo nor the checks of the source need them.
MODEL_LIBRARIES = ("captum", "torch", "timm")
# What `pip install --no-build-isolation -e .` wants: it keeps the build on the pinned versions too.
BUILDERS = ("editables", "hatchling")
# timm needs torchvision, which must be chosen together with torch: a pair that differs does not import.
TORCH_PAIR = ("torchvision",)


@dataclass(frozen=True)
class Stage:
    """What one stage adds; `download_mb` and `disk_mb` are measured, for Linux on x86-64 under Python 3.11.

    Without the package it is its extras alone, and stands on no other stage.
    """

    purpose: str
    extras: tuple[str, ...]
    with_models: bool
    download_mb: int
    disk_mb: int
    with_package: bool = True


STAGES = {
    "demo": Stage("the package and napari; neither torch nor timm", ("all",), False, 355, 1400),
    "test": Stage("torch, torchvision, timm, the other extras and the test tools", ("test",), True, 280, 1085),
    "lint": Stage("ruff, mypy and the build tools", ("dev",), False, 35, 100),
    "docs": Stage(
        "mkdocs, which builds the user guide; not the package", ("docs",), False, 30, 140, with_package=False
    ),
}
# On Linux, torch and torchvision as published bring CUDA libraries, with a GPU or without.
CUDA_DOWNLOAD_MB = 2500

# What napari's window needs of Debian and Ubuntu; without icccm4 and keysyms1 Qt aborts.
WINDOW_LIBRARIES = (
    "libegl1", "libgl1", "libgl1-mesa-dri", "libglx-mesa0", "libopengl0", "libdbus-1-3", "libfontconfig1",
    "libxkbcommon-x11-0", "libxcb-cursor0", "libxcb-icccm4", "libxcb-image0", "libxcb-keysyms1", "libxcb-randr0",
    "libxcb-render-util0", "libxcb-shape0",
)  # fmt: skip
SCREEN = ("xvfb", "xauth")
WINDOW_DOWNLOAD_MB = 50


class SetUpError(Exception):
    """The set-up cannot go on; the text says what to do."""


def main(arguments: list[str]) -> int:
    """Set up the stage that is named; return an exit code."""
    if len(arguments) != 1 or arguments[0] not in {*STAGES, "measure"}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if arguments[0] == "measure":
            measure()
        else:
            set_up(arguments[0])
    except SetUpError as error:
        print(f"\nSet-up stopped: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"\nSet-up stopped: this failed, for the reason above:\n  {shlex.join(error.cmd)}", file=sys.stderr)
        return 1
    return 0


def set_up(name: str) -> None:
    """Bring the environment to a stage and leave a stamp for make."""
    stage = STAGES[name]
    announce(name, stage)
    make_environment()
    if name in {"demo", "test"}:
        install_debian_packages(WINDOW_LIBRARIES + (SCREEN if name == "test" else ()), needed=name == "test")
    pip("install", "--constraint", str(CONSTRAINTS), *requirements(stage))
    if stage.with_package:
        pip("install", "--no-deps", "--no-build-isolation", "--editable", str(REPOSITORY))
    if stage.with_models:
        run(str(PYTHON), str(REPOSITORY / "tools" / "repair_torchvision.py"))
    (ENVIRONMENT / f".{name}.done").touch()


def announce(name: str, stage: Stage) -> None:
    """Say what will be downloaded before anything is."""
    print(f"Setting up {name}: {stage.purpose}.")
    print(f"  download: about {stage.download_mb} MB of Python packages, less where pip has some already;")
    print(f"  disk:     about {stage.disk_mb} MB more in {ENVIRONMENT.name}/.")
    if stage.with_models and sys.platform == "linux":
        print(f"  torch:    about {CUDA_DOWNLOAD_MB} MB more where pip takes a build with CUDA, as it does on Linux by")
        print("            default, GPU or not. If you have a CPU wheel, name its folder in PIP_FIND_LINKS first.")
    sys.stdout.flush()


def requirements(stage: Stage) -> list[str]:
    """List what pip is asked for, out of pyproject.toml."""
    import tomllib  # not in Python 3.10, which must get as far as the message that it is too old

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *BUILDERS, *TORCH_PAIR] if stage.with_package else []
    for extra in stage.extras:
        lines += expand(extra, project["name"], project["optional-dependencies"])
    left_out = set() if stage.with_models else {*MODEL_LIBRARIES, *TORCH_PAIR}
    return sorted({line for line in lines if re.split(r"[\[<>=!~; ]", line)[0] not in left_out})


def expand(extra: str, project: str, extras: dict[str, list[str]]) -> Iterable[str]:
    """List the requirements of an extra, those of the extras that it names included."""
    for line in extras[extra]:
        if line.startswith(f"{project}["):
            for inner in line.removeprefix(f"{project}[").rstrip("]").split(","):
                yield from expand(inner, project, extras)
        else:
            yield line


def make_environment() -> None:
    """Make the virtual environment if there is none."""
    if sys.version_info < (3, 11):  # noqa: UP036  (it runs before anything has checked)
        raise SetUpError(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11 …"
        )
    if not PYTHON.exists():
        if importlib.util.find_spec("ensurepip") is None:
            install_debian_packages((f"python3.{sys.version_info.minor}-venv",), needed=True)
        run(sys.executable, "-m", "venv", str(ENVIRONMENT))
    pip("install", "--quiet", "--constraint", str(CONSTRAINTS), "pip")


def install_debian_packages(packages: tuple[str, ...], *, needed: bool) -> None:
    """Install what is missing where that is allowed; else print the command, and stop if it is needed."""
    if sys.platform != "linux":
        return
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        print(f"  If no window opens, install what Debian calls {' '.join(packages)}.")
        return
    missing = [package for package in packages if not is_installed(package)]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    rights = rights_to_install()
    if rights is not None:
        print(f"Installing {len(missing)} Debian packages, up to {WINDOW_DOWNLOAD_MB} MB: {' '.join(missing)}")
        installed = all(
            subprocess.run([*rights, *step], check=False).returncode == 0 for step in (["apt-get", "update"], command)
        )
        if installed:
            return
    advice = f"Debian packages are missing. Please run:\n  sudo {shlex.join(command)}"
    if needed:
        raise SetUpError(advice)
    print(f"\n{advice}\nEverything but napari's window works without them; going on.\n", flush=True)


def is_installed(package: str) -> bool:
    """Whether Debian has a package."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, check=False, capture_output=True, text=True).stdout == "installed"


def rights_to_install() -> list[str] | None:
    """Return what to put before a command to run it as root; None where we may not."""
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() == 0:
        return quietly
    can_sudo = (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode == 0
    )
    return ["sudo", "-n", *quietly] if can_sudo else None


def pip(*arguments: str) -> None:
    """Run pip in the environment; show what it fetches, not what it finds."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith(("Collecting", "Installing", "Successfully installed")):
                print(f"  {line.strip()[:120]}", flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def run(*command: str) -> None:
    """Run a command and stop the set-up if it fails."""
    subprocess.run(command, check=True)


def measure() -> None:
    """Print what each stage downloads, and the environment's size if there is one."""
    make_environment()
    before: set[str] = set()
    for name, stage in STAGES.items():
        sizes = download_sizes(requirements(stage))
        new = {url: size for url, size in sizes.items() if url not in before}
        before |= new.keys()
        print(f"{name}: {len(new)} more packages, {sum(new.values()) / 1e6:.0f} MB")
    used = sum(path.stat().st_size for path in ENVIRONMENT.rglob("*") if path.is_file())
    print(f"{ENVIRONMENT.name}: {used / 1e6:.0f} MB on disk now")


def download_sizes(lines: list[str]) -> dict[str, int]:
    """Ask pip what it would download, and return the bytes of each file by its address."""
    command = [str(PYTHON), "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    answer = subprocess.run([*command, "-c", str(CONSTRAINTS), *lines], check=True, stdout=subprocess.PIPE, text=True)
    report: dict[str, Any] = json.loads(answer.stdout)
    return {url: size_of(url) for url in (item["download_info"]["url"] for item in report["install"])}


def size_of(url: str) -> int:
    """Bytes of a file, on this machine or elsewhere."""
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
        return int(answer.headers["Content-Length"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
