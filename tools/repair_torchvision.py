"""Let `import torchvision` pass where its compiled operators do not load.

A development machine may pair a CPU build of torch with a CUDA build of torchvision. The operators then
stay unknown, and torchvision refuses to import because it describes two of them, nms and qnms, which
nothing here calls. This declares the two where, and only where, torchvision has not. It may run any
number of times; a torch and a torchvision that belong together are left alone.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

__all__ = ["PATCH", "main", "repair"]

MARK = "# Added by napari-prospector's set-up of a development environment."
PATCH = f"""

{MARK}
if not _has_ops():
    _undeclared = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, _name):
            _undeclared.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> int:
    """Repair the torchvision of this environment if it does not import; return an exit code."""
    first = import_torchvision()
    if first.returncode == 0:
        return 0
    if "operator torchvision::nms does not exist" not in first.stderr:
        print(f"torchvision does not import, for another reason than its operators:\n{first.stderr}", file=sys.stderr)
        return 1
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return 1
    repair(Path(spec.origin).with_name("extension.py"))
    second = import_torchvision()
    print(second.stderr or "torchvision's compiled operators do not fit this torch; declared them, it imports now.")
    return second.returncode


def import_torchvision() -> subprocess.CompletedProcess[str]:
    """Try the import in a process of its own."""
    return subprocess.run([sys.executable, "-c", "import torchvision"], check=False, capture_output=True, text=True)


def repair(extension: Path) -> bool:
    """Append the patch to torchvision's extension.py; return whether that was needed."""
    text = extension.read_text(encoding="utf-8")
    if MARK in text:
        return False
    extension.write_text(text + PATCH, encoding="utf-8")
    return True


if __name__ == "__main__":
    sys.exit(main())
