"""How long the window does not turn while the whole story of the plugin is told in a real viewer.

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/story.py

The promise: never more than 100 ms in our own code. What napari, vispy and the renderer take is told apart; with a
software renderer most of it is OpenGL's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("tools", "tests/napari_plugin")]

ROWS = (
    ("ours", "in our code, or what it calls that is not napari's"),
    ("through_us", "with a frame of ours on the stack: napari's work that we asked for included"),
    ("seconds", "at all"),
    ("waiting", "with no Python code of the window: for the interpreter or the machine"),
)


def main() -> None:
    """Tell the story and print the longest blocks of each kind."""
    import pictures
    from qtpy.QtWidgets import QApplication
    from watchdog import watching

    application = QApplication(sys.argv)  # before the watch, whose timer needs one
    application.setApplicationName("benchmark")
    with tempfile.TemporaryDirectory() as scratch:
        pictures.use_scratch(Path(scratch))
        with watching() as dog:
            pictures.tell(Path(scratch), Path(scratch))
    print("Longest time in which the event loop did not turn:")
    for what, words in ROWS:
        block = dog.longest(what)
        print(f"  {getattr(block, what):6.3f} s  {words}")
    print(f"  {dog.ours_cpu:6.3f} s  processor time in our code (promise: 0.100)")
    worst = max(dog.blocks, key=lambda block: block.ours, default=None)
    print("where:", {} if worst is None else worst.where)
    print(f"{sum(block.seconds > 0.1 for block in dog.blocks)} blocks of more than 0.1 s.")


if __name__ == "__main__":
    main()
