from __future__ import annotations

import pytest

from napari_prospector.errors import MismatchError
from napari_prospector.study.held_out import seen_slides, slide_marks


def test_a_mark_tells_slides_apart_and_nothing_else() -> None:
    marks = slide_marks(["slide-a", "slide-b", "slide-a"])
    assert marks[0] == marks[2] != marks[1]
    assert [len(mark) for mark in marks] == [16, 16, 16]
    assert "slide" not in "".join(marks)


def test_slides_that_were_learned_from_are_known_again_and_so_are_others_of_their_patients() -> None:
    learned = slide_marks(["a", "b"])
    contents = ["c", "b", "d", "e"]
    assert seen_slides(learned, contents).tolist() == [False, True, False, False]
    assert seen_slides(learned, contents, ["p2", "p3", "p3", "p5"]).tolist() == [False, True, True, False]
    assert not seen_slides([], contents, ["p2"] * 4).any()
    with pytest.raises(MismatchError, match="groups must hold one entry for each of 4 slides; got 2"):
        seen_slides(learned, contents, ["p2", "p3"])
