"""Embedding the slides of a cohort: from the wish to a job or a refusal, and the job itself; without Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_prospector._napari.progress import JobProgress, Refusal, Steps, TimeLeft, reported
from napari_prospector._napari.settings import settings
from napari_prospector._napari.slide_state import SlideState, look_at, tokens_path
from napari_prospector.study.project import EncoderChoice, StudySlide

if TYPE_CHECKING:
    from napari_prospector.tokens.doctor import Check
    from napari_prospector.tokens.encoders.cards import Encoder
    from napari_prospector.tokens.encoders.encodercard import EncoderOptions
    from napari_prospector.tokens.estimate import EmbeddingEstimate

__all__ = ["EmbedJob", "EmbedResult", "check_embedding", "embed", "estimate", "plan_embedding", "remedy"]

# the time left is told in these parts of a slide
PARTS = 1000
# tiles along each side of what is stored at once
BLOCK, SMALL_BLOCK = 16, 4
# The doctor speaks to those who type commands.
FOR_THE_WINDOW = {
    "Choose another folder with -o.": "Give yourself the right to write there, or free space on that disk.",
    "Free space there, or choose another folder with -o.": "Free space there.",
    "See how long it would take: prospect embed … --estimate.": "See how long it would take: Check and estimate.",
    "pass weights=FILE (--weights)": "choose it under 'Weights'",
    "Pass weights=FILE (--weights), a local": "Fill in 'Weights' with a local",
    "Pass mean=… and std=… (--mean).": "It can be embedded by the command: prospect embed --mean … --std ….",
    "or choose --tile-mpp near": "or choose 'Tile µm per px' near",
    "Lower min_coverage (--min-coverage) or the threshold of tissue (--tissue-threshold).": "Look at the slide. Pale"
    " tissue is taken in by the command: prospect embed --tissue-threshold 0.03.",
}


@dataclass(frozen=True)
class EmbedJob:
    """Slides to embed, with the encoder for all of them."""

    slides: tuple[StudySlide, ...]
    choice: EncoderChoice


@dataclass(frozen=True)
class EmbedResult:
    """What came of it: how many slides were finished, and what failed, a sentence each."""

    n_finished: int
    problems: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return what the user is told."""
        said = f"{self.n_finished:,} slides are embedded." if self.n_finished != 1 else "1 slide is embedded."
        if not self.problems:
            return said
        count = f"{len(self.problems):,} failed" if len(self.problems) > 1 else "1 failed"
        return f"{said} {count}: {self.problems[0]} See the column State."


def plan_embedding(states: Sequence[SlideState | None], choice: EncoderChoice) -> EmbedJob | Refusal:
    """Turn the slides that are meant into a job, or say why there is none.

    Parameters
    ----------
    states
        Of each slide that is meant; None where it is not known yet.
    choice
        The encoder.
    """
    if not states:
        return Refusal("Add slides first: drop files or folders here.")
    known = [state for state in states if state is not None]
    if len(known) < len(states):
        return Refusal("The slides are still being looked at.")
    wanted = [state.slide for state in known if state.can_embed]
    if wanted:
        return EmbedJob(tuple(wanted), choice)
    if all(state.is_finished for state in known):
        return Refusal("All of these are embedded with this encoder.")
    if any(state.needs_mpp for state in known):
        return Refusal("Fill in the pixel size of these slides first, in the column µm/px.")
    return Refusal("None of these slides can be embedded. The column State says why.")


def embed(job: EmbedJob, clock: Callable[[], TimeLeft] = TimeLeft) -> Steps[EmbedResult]:
    """Embed slide after slide; one that fails is told and the others go on.

    Closing the generator at any yield leaves token grids that the same job goes on with.

    Parameters
    ----------
    job
        What to do.
    clock
        Makes the clock of the time left, for tests.

    Yields
    ------
    JobProgress
        With the `SlideState` of the slide at hand as `found`.

    Returns
    -------
    EmbedResult

    Raises
    ------
    ProspectorError
        The encoder cannot be loaded.
    """
    encoder = yield from _loaded(job.choice)
    time_left, total = clock(), len(job.slides)
    problems: list[str] = []
    for number, slide in enumerate(job.slides):
        for progress, share in _steps(slide, job.choice, encoder):
            left = time_left(number * PARTS + int(share * PARTS), total * PARTS)
            stage = f"Slide {number + 1:,} of {total:,}, {slide.path.name}{progress.stage}"
            yield replace(progress, stage=stage, seconds_left=left)
            if isinstance(progress.found, SlideState) and progress.found.problem:
                problems.append(f"{slide.path.name}: {progress.found.problem}")
    return EmbedResult(total - len(problems), tuple(problems))


def _steps(slide: StudySlide, choice: EncoderChoice, encoder: Encoder) -> Iterator[tuple[JobProgress, float]]:
    """Yield the progress of one slide, and what share of it is done."""
    from napari_prospector.study.embed_cohort import SlideJob, embed_one

    yield JobProgress(": finding the tissue"), 0.0
    state = look_at(slide, choice)
    if state.is_finished or state.missing:
        yield JobProgress("", found=replace(state, problem="There is no file.") if state.missing else state), 1.0
        return
    job = SlideJob(slide.path, tokens_path(slide, choice), slide.mpp)
    # what is at work when somebody cancels is lost by the block: small ones where tiles take long
    block = SMALL_BLOCK if getattr(encoder, "fills_cores", False) else BLOCK
    steps = embed_one(job, encoder, stain_normalize=choice.stain_normalize, block=block)
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                row = end.value
                break
            now = replace(
                state,
                tokens=job.tokens,
                done=step.done - step.failed,
                failed=step.failed,
                total=step.total,
                problem=None,
            )
            yield JobProgress("", step.done, step.total, found=now), step.done / max(step.total, 1)
    after = look_at(slide, choice) if row.error is None else replace(state, problem=row.error)
    yield JobProgress("", found=after), 1.0


def check_embedding(job: EmbedJob, *, with_slides: bool = False) -> Steps[tuple[Check, ...]]:
    """Ask the doctor whether the job can start; nothing is downloaded or kept.

    Parameters
    ----------
    job
        What is to be done.
    with_slides
        Whether each slide is opened and its tissue found, too.

    Yields
    ------
    JobProgress
        With each `Check` as `found`.
    """
    from napari_prospector.tokens.doctor import SlideToCheck, examine

    def look(tell: Callable[[JobProgress], None]) -> tuple[Check, ...]:
        tell(JobProgress("Looking whether this can start"))
        checks = []
        slides = [SlideToCheck(slide.path, slide.mpp) for slide in job.slides] if with_slides else []
        folder = tokens_path(job.slides[0], job.choice).parent if job.slides else None
        for check in examine(job.choice.name, slides, folder, _options(job.choice)):
            tell(JobProgress(f"Looked at: {check.name}", found=check))
            checks.append(check)
        return tuple(checks)

    return (yield from reported(look))


def estimate(job: EmbedJob) -> Steps[EmbeddingEstimate]:
    """Count the tiles of the job's slides and measure for some seconds how fast they are embedded; nothing is kept.

    Yields
    ------
    JobProgress
        With the state of each slide as `found`, its tiles counted.
    """
    from napari_prospector.tokens.encoders.cards import untrained_encoder
    from napari_prospector.tokens.estimate import estimate_steps

    def measure(tell: Callable[[JobProgress], None]) -> EmbeddingEstimate:
        tell(JobProgress("Loading the encoder"))
        encoder = untrained_encoder(job.choice.name, _options(job.choice))
        steps = estimate_steps(
            [slide.path for slide in job.slides],
            encoder,
            mpps=[slide.mpp for slide in job.slides],
            stain_normalize=job.choice.stain_normalize,
        )
        total = len(job.slides)
        for number, slide in enumerate(job.slides):
            tell(JobProgress("Counting tiles and measuring the speed", number, total))
            found = next(steps)
            state = replace(look_at(slide, job.choice), n_tiles=found.n_tiles)
            tell(JobProgress("Counting tiles and measuring the speed", number + 1, total, found=state))
        result: EmbeddingEstimate = _result_of(steps)
        return result

    return (yield from reported(measure))


def remedy(check: Check) -> str:
    """Return what to do about a check, in the words of the window."""
    text = check.remedy
    for typed, said in FOR_THE_WINDOW.items():
        text = text.replace(typed, said)
    return text


def _result_of(steps: Any) -> Any:
    """Return the result of a generator that has nothing more to yield."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("one estimate for each slide")


def _options(choice: EncoderChoice) -> EncoderOptions:
    """Return the options that the encoder is loaded with."""
    from napari_prospector.tokens.encoders.cards import checked_options

    return checked_options(weights=choice.weights, tile_px=choice.tile_px, mpp=choice.mpp, offline=settings().offline)


def _loaded(choice: EncoderChoice) -> Steps[Encoder]:
    """Load the encoder in a thread of its own: importing torch and reading weights cannot be interrupted."""
    from napari_prospector.tokens.encoders import cards

    def load(tell: Callable[[JobProgress], None]) -> Encoder:
        tell(JobProgress(f"Loading the encoder {choice.name}"))
        return cards.load_encoder(
            choice.name,
            weights=choice.weights,
            tile_px=choice.tile_px,
            mpp=choice.mpp,
            offline=settings().offline,
        )

    return (yield from reported(load))
