"""Build the wheel, install it in a clean environment outside the checkout, start it there and open its widgets.

    python tools/try_wheel.py                    build a wheel and try it
    python tools/try_wheel.py dist/x.whl         try this one

What the checkout lends to a test run, a user does not have: this finds a file that the wheel lacks, a dependency
that is not declared, and a link of the README that leads nowhere on the package index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

__all__ = ["main"]

REPOSITORY = Path(__file__).resolve().parents[1]
# A wheel that is only tried is told of a repository too, so that its links can be looked at.
SOMEWHERE = "https://example.org/napari-prospector"
STARTS = """
import importlib.metadata, importlib.resources, importlib.util, re
import napari_prospector
for name in napari_prospector.__all__:
    getattr(napari_prospector, name)
for file in ("napari.yaml", "py.typed"):
    assert (importlib.resources.files(napari_prospector) / file).is_file(), f"the wheel lacks {file}"
for package in ("napari", "PyQt5", "PyQt6", "PySide6"):
    assert importlib.util.find_spec(package) is None, f"the base installs {package}"
about = importlib.metadata.metadata("napari-prospector")
assert "Framework :: napari" in about.get_all("Classifier"), "the hub would not list it"
assert about["Summary"] and about["License-Expression"] and about.get_all("Project-URL"), "the hub lacks something"
relative = re.findall(r"\\]\\((?!https?:|#)([^)]+)\\)", str(about.get_payload() or about["Description"]))
assert not relative, f"links of the README lead nowhere on the package index: {relative}"
print("napari_prospector", napari_prospector.__version__, "from", napari_prospector.__file__)
"""


def main(arguments: list[str]) -> int:
    """Build unless a wheel is named, install and start; return an exit code."""
    with tempfile.TemporaryDirectory(prefix="prospector-wheel-") as folder:
        try:
            wheel = Path(arguments[0]).resolve() if arguments else build(Path(folder))
            try_wheel(wheel, Path(folder))
            opened = open_widgets(wheel, Path(folder))
        except subprocess.CalledProcessError as error:
            print(f"\nThe wheel failed at: {' '.join(map(str, error.cmd[:8]))}", file=sys.stderr)
            return 1
    print(f"The wheel is complete and starts{', and its widgets open' if opened else ''}.")
    return 0


def build(folder: Path) -> Path:
    """Build the wheel."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, env={"PROSPECTOR_REPOSITORY": SOMEWHERE, **os.environ})
    (wheel,) = folder.glob("*.whl")
    return wheel


def programs(folder: Path) -> Path:
    """Return where the programs of the clean environment lie."""
    return folder / "clean" / ("Scripts" if os.name == "nt" else "bin")


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel without its extras, as on a server, and start it."""
    venv.create(folder / "clean", with_pip=True)
    python = programs(folder) / "python"
    steps: dict[str, list[str | Path]] = {
        "install": [python, "-m", "pip", "install", "--quiet", *pins(), wheel],
        "import": [python, "-c", STARTS],
        "start": [programs(folder) / "prospect", "--help"],
        "consistent": [python, "-m", "pip", "check"],
        "install npe2": [python, "-m", "pip", "install", "--quiet", *pins(), "npe2"],
        "manifest": [programs(folder) / "npe2", "validate", "napari-prospector"],
    }
    for step, command in steps.items():
        run(step, command, folder)


def open_widgets(wheel: Path, folder: Path) -> bool:
    """Install napari beside it and open every widget; return False where there is no screen and none is required."""
    screen = screen_for_windows()
    if screen is None:
        print("== widgets: left out, for there is no screen; PROSPECTOR_REQUIRE=gui makes that an error", flush=True)
        return False
    python = programs(folder) / "python"
    run("install napari", [python, "-m", "pip", "install", "--quiet", *pins(), f"{wheel}[all]"], folder)
    # With it set to "offscreen", napari's canvas stays blank.
    os.environ.pop("QT_QPA_PLATFORM", None)
    run("widgets", [*screen, python, REPOSITORY / "tools" / "open_widgets.py"], folder)
    return True


def screen_for_windows() -> list[str] | None:
    """Return what to put before a command that opens windows; None where none can open."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY"):
        return []
    is_required = "gui" in os.environ.get("PROSPECTOR_REQUIRE", "").split(",")
    if is_required:
        import set_up  # beside this file

        set_up.install_debian_packages(set_up.WINDOW_LIBRARIES + set_up.SCREEN, needed=True)
    has_screen = shutil.which("xvfb-run") and shutil.which("Xvfb")
    return ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24"] if has_screen or is_required else None


def pins() -> list[str]:
    """Return what holds pip to the versions that are known to work."""
    return ["--constraint", str(REPOSITORY / "constraints.txt")]


def run(step: str, command: list[str | Path], folder: Path) -> None:
    """Run a step where no checkout stands in for what the wheel lacks."""
    print(f"== {step}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, cwd=folder, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
