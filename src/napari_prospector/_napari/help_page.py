"""What each key does, as a page: the same table that the keys are bound from."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout, QWidget

__all__ = ["KEYS", "WIDGETS", "Key", "help_html", "show_help"]


@dataclass(frozen=True)
class Key:
    """A key and what it does.

    Attributes
    ----------
    keys
        As Qt writes them; "Ctrl" is Command on macOS.
    where
        The widget or layer that must have the focus; "anywhere" in the window.
    does
        One sentence.
    """

    keys: str
    where: str
    does: str


ANYWHERE = "any Prospector widget"
LEGEND = "the table of Concepts"
REGIONS = "the canvas, while regions are drawn"

KEYS = (
    Key("Ctrl+Z", ANYWHERE, "Undo the last edit, of whichever widget. A field that is typed in undoes its own typing."),
    Key("Ctrl+Shift+Z", ANYWHERE, "Do it again. Ctrl+Y does so, too."),
    Key("Ctrl+Return", "Slides, Fit or Prospect", "Press the main button: Embed all, Fit, Prospect."),
    Key("F1", ANYWHERE, "Open this page."),
    Key("Return", "Recent work, in Start", "Open it."),
    Key("Return", "the table of Slides", "Open the selected slides."),
    Key("Delete", "the table of Slides", "Remove the selected slides from the table; their files stay."),
    Key("Ctrl+Z", REGIONS, "Undo the last edit."),
    Key("Ctrl+Shift+Z", REGIONS, "Do it again. Ctrl+Y does so, too."),
    Key("B", REGIONS, "Take the brush."),
    Key("E", REGIONS, "Take the eraser."),
    Key("L", REGIONS, "Take the lasso."),
    Key("[", REGIONS, "Make brush and eraser smaller."),
    Key("]", REGIONS, "Make brush and eraser larger."),
    Key("Space", REGIONS, "Move the slide while it is held."),
    Key("1", REGIONS, "Draw in the first class; 2 to 9 in the others."),
    Key("Alt+Up", "Prospect", "Fly to the region before. Alt+Down: to the next."),
    Key("F2", LEGEND, "Name the concept."),
    Key("M", LEGEND, "Merge the selected concepts."),
    Key("S", LEGEND, "Split a merged concept."),
    Key("H", LEGEND, "Hide the selected concepts, or show them again."),
    Key("L", LEGEND, "Highlight the selected concepts, or no longer."),
    Key("Up", "the canvas or the picture, in Why", "Ask about the next token above; Down, Left and Right likewise."),
    Key("Return", "an example, in Why", "Open its slide, and fly there."),
)

WIDGETS = (
    ("Start", "begin: the sample, slides of your own, or a project; where your work is kept"),
    ("Slides", "the cohort: label slides, embed them"),
    ("Annotate", "regions by class: to measure against, or to learn from"),
    ("Fit", "learn a head from labels or regions"),
    ("Prospect", "draw where the class lives; thresholds, top regions, export"),
    ("Concepts", "what the head tells apart: name, merge, hide, see examples"),
    ("Why", "click a place: its score in parts, and its nearest examples"),
)


def help_html() -> str:
    """Return the page."""
    rows = "".join(
        f'<tr><td width="20%"><b>{escape(key.keys)}</b></td><td width="30%">{escape(key.where)}</td>'
        f"<td>{escape(key.does)}</td></tr>"
        for key in KEYS
    )
    widgets = "".join(f"<li><b>{escape(name)}</b>: {escape(what)}</li>" for name, what in WIDGETS)
    return (
        f"<h3>Widgets</h3><p>All are under Plugins › Prospector.</p><ul>{widgets}</ul>"
        f'<h3>Keys</h3><table cellpadding="4">{rows}</table>'
        "<p>On macOS, Ctrl is Command. napari's own keys stay as they are; its Preferences list them.</p>"
        "<h3>Commands</h3><p>Undo, Redo, Open project, Save project as, Export, Settings and this page are under"
        " File › IO Utilities › Prospector, and in napari's command palette.</p>"
    )


def show_help(parent: QWidget) -> QDialog:
    """Open the page over a widget."""
    dialog = QDialog(parent)
    dialog.setWindowTitle("Prospector: keys and help")
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.resize(620, 520)
    page = QTextBrowser()
    page.setHtml(help_html())
    page.setAccessibleName("Keys and help")
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    buttons.rejected.connect(dialog.reject)
    column = QVBoxLayout(dialog)
    column.addWidget(page)
    column.addWidget(buttons)
    dialog.show()
    return dialog
