"""Build the wheel, install it in a clean environment outside the checkout, and start it there.

What the checkout lends to a test run, a user does not have: this finds a file that the wheel lacks and a
dependency that is not declared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

__all__ = ["main"]

REPOSITORY = Path(__file__).resolve().parents[1]
STARTS = """
import importlib.resources, importlib.util
import napari_prospector
for name in napari_prospector.__all__:
    getattr(napari_prospector, name)
for file in ("napari.yaml", "py.typed"):
    assert (importlib.resources.files(napari_prospector) / file).is_file(), f"the wheel lacks {file}"
for package in ("napari", "PyQt5", "PyQt6", "PySide6"):
    assert importlib.util.find_spec(package) is None, f"the base installs {package}"
print("napari_prospector", napari_prospector.__version__, "from", napari_prospector.__file__)
"""


def main() -> int:
    """Build, install and start; return an exit code."""
    with tempfile.TemporaryDirectory(prefix="prospector-wheel-") as folder:
        try:
            try_wheel(Path(folder))
        except subprocess.CalledProcessError as error:
            print(f"\nThe wheel failed at: {' '.join(map(str, error.cmd[:8]))}", file=sys.stderr)
            return 1
    print("The wheel is complete and starts.")
    return 0


def try_wheel(folder: Path) -> None:
    """Do the work in `folder`."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    clean = folder / "clean"
    venv.create(clean, with_pip=True)
    programs = clean / ("Scripts" if os.name == "nt" else "bin")
    pins = ["--constraint", str(REPOSITORY / "constraints.txt")]
    in_clean: dict[str, list[str | Path]] = {
        "install": [programs / "python", "-m", "pip", "install", "--quiet", *pins, wheel],
        "import": [programs / "python", "-c", STARTS],
        "start": [programs / "prospect", "--help"],
        "consistent": [programs / "python", "-m", "pip", "check"],
        "install npe2": [programs / "python", "-m", "pip", "install", "--quiet", *pins, "npe2"],
        "manifest": [programs / "npe2", "validate", "napari-prospector"],
    }
    # A checkout on PYTHONPATH would stand in for what the wheel lacks.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for step, command in in_clean.items():
        print(f"== {step}", flush=True)
        subprocess.run(command, check=True, cwd=folder, env=environment)


if __name__ == "__main__":
    sys.exit(main())
