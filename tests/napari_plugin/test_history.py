"""Undo and redo against a list of all states."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_prospector._napari.history import MOST_STEPS, History

MOVES = st.lists(st.one_of(st.integers(0, 99), st.sampled_from(["undo", "redo"])), max_size=40)


@given(MOVES)
def test_undo_and_redo_walk_along_the_edits(moves: list[int | str]) -> None:
    history, states, at = History(-1), [-1], 0
    for move in moves:
        if move == "undo":
            assert history.undo() == (at > 0)
            at = max(0, at - 1)
        elif move == "redo":
            assert history.redo() == (at < len(states) - 1)
            at = min(len(states) - 1, at + 1)
        else:
            history.edit(f"set {move}", int(move))
            states = [*states[: at + 1], int(move)]
            at += 1
        assert history.now == states[at]
        assert (history.undo_text is None) == (at == 0)
        assert (history.redo_text is None) == (at == len(states) - 1)


def test_edits_with_one_key_are_taken_back_together() -> None:
    history = History("")
    history.edit("Hide", "hidden")
    for name in ("l", "ly", "lymphocytes"):
        history.edit("Rename", name, key="name of 3")
    history.undo()
    assert history.now == "hidden"
    history.redo()
    assert history.now == "lymphocytes"
    history.edit("Rename", "l", key="name of 3")
    history.undo()
    assert history.now == "lymphocytes", "a new word after an undo is an edit of its own"


def test_the_past_is_bounded() -> None:
    history = History(0)
    for state in range(1, MOST_STEPS + 100):
        history.edit("count", state)
    while history.undo():
        pass
    assert history.now == 99


def test_what_was_always_so_is_so_in_all_states() -> None:
    history = History("a")
    for state in "bcd":
        history.edit(f"set {state}", state)
    history.undo()
    history.amend(str.upper)
    seen = [history.now]
    while history.undo():
        seen.append(history.now)
    while history.redo():
        pass
    assert [*seen, history.now] == ["C", "B", "A", "D"]
