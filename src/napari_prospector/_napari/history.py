"""Undo and redo: a state that never changes, and the states before and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["History"]

State = TypeVar("State")

MOST_STEPS = 500


class History(Generic[State]):
    """A frozen state, with all its earlier ones.

    Parameters
    ----------
    state
        The first one.

    Attributes
    ----------
    now
        The state as it is.
    """

    def __init__(self, state: State) -> None:
        self.now = state
        self._past: list[tuple[str, State]] = []
        self._future: list[tuple[str, State]] = []
        self._key: object = None

    @property
    def undo_text(self) -> str | None:
        """What `undo` would take back; None where there is nothing."""
        return self._past[-1][0] if self._past else None

    @property
    def redo_text(self) -> str | None:
        """What `redo` would do again; None where there is nothing."""
        return self._future[-1][0] if self._future else None

    def edit(self, text: str, state: State, key: object = None) -> None:
        """Go to a new state.

        Parameters
        ----------
        text
            What was done, as the menu says it: "Rename concept 3".
        state
            The new one.
        key
            Edits in a row with one key, such as the letters of a name, are taken back together; None stands alone.
        """
        if key is None or key != self._key or not self._past:
            self._past.append((text, self.now))
            del self._past[:-MOST_STEPS]
        self._key = key
        self._future.clear()
        self.now = state

    def amend(self, change: Callable[[State], State]) -> None:
        """Change all states, those before and after too, as if it had always been so; not undone by `undo`."""
        self.now = change(self.now)
        self._past = [(text, change(state)) for text, state in self._past]
        self._future = [(text, change(state)) for text, state in self._future]

    def undo(self) -> bool:
        """Go back by one edit; False where there is none."""
        return self._move(self._past, self._future)

    def redo(self) -> bool:
        """Do again what was taken back last; False where there is nothing."""
        return self._move(self._future, self._past)

    def _move(self, source: list[tuple[str, State]], target: list[tuple[str, State]]) -> bool:
        """Take the newest state from one side and put the present one on the other."""
        if not source:
            return False
        text, state = source.pop()
        target.append((text, self.now))
        self.now, self._key = state, None
        return True
