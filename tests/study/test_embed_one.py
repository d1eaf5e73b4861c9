"""One slide embedded batch by batch, for whoever may cancel between them."""

from __future__ import annotations

from pathlib import Path

from napari_prospector.study.embed_cohort import SlideJob, embed_one
from napari_prospector.tokens.encoders.cards import load_encoder
from napari_prospector.tokens.generate import draw_slide
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import TokenGrid


def drive(steps):  # type: ignore[no-untyped-def]
    """Return all steps, and what came of them."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def test_a_slide_gives_its_steps_and_its_row_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif", draw_slide(3, True, (1600, 1700)).image, 1.0)
    encoder = load_encoder("stain-texture")
    job = SlideJob(slide, tmp_path / "tokens" / "a.tokens.zarr")
    steps = embed_one(job, encoder, block=4)
    for _ in range(3):
        next(steps)
    steps.close()
    n_done = TokenGrid.open(job.tokens).counts()["done"]
    seen, row = drive(embed_one(job, encoder, block=4))
    assert seen[0].done == n_done > 0
    assert (row.error, row.failed, row.done) == (None, 0, seen[-1].total)


def test_what_is_wrong_with_a_slide_is_its_row(tmp_path: Path) -> None:
    seen, row = drive(
        embed_one(SlideJob(tmp_path / "gone.svs", tmp_path / "t.tokens.zarr"), load_encoder("stain-texture"))
    )
    assert seen == []
    assert "There is no slide" in row.error
