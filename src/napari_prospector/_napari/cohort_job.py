"""One head on all slides of the cohort: what is missing is embedded, all maps are written, and what fails is listed.

Pure: neither napari nor Qt is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_prospector._napari.job import Encoders, ProspectResult, prospect
from napari_prospector._napari.map_export import ExportRequest, MapContent, export_map
from napari_prospector._napari.progress import JobProgress, Refusal, Steps, TimeLeft
from napari_prospector._napari.request import TOKENS_SUFFIX, Facts, ProspectJob, ProspectRequest, plan
from napari_prospector.errors import InvalidInputError, ProspectorError

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.project import StudySlide

__all__ = ["CohortJob", "CohortResult", "SlideFound", "cohort_files", "plan_cohort", "prospect_cohort"]

MOST_TOLD = 8


@dataclass(frozen=True)
class CohortJob:
    """Everything that is needed to prospect many slides.

    Attributes
    ----------
    slides
        Of the cohort.
    head, head_name
        The head, and its file's name.
    map, target
        Which map is looked at, for which class; None is the head's own choice.
    weights
        The encoder's weight file.
    folder
        Where the maps go; made if need be.
    shown
        Slides whose result is to be handed over, because they are open in the viewer.
    """

    slides: tuple[StudySlide, ...]
    head: ProspectorHead
    head_name: str
    map: str | None
    target: str | None
    weights: Path | None
    folder: Path
    shown: frozenset[Path] = frozenset()


@dataclass(frozen=True, eq=False)
class SlideFound:
    """What came of a slide that is open."""

    path: Path
    result: ProspectResult


@dataclass(frozen=True)
class CohortResult:
    """What came of a cohort: how many slides have their maps in which folder, and what failed, a sentence each."""

    n_done: int
    folder: Path
    problems: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return what the user is told."""
        slides = "1 slide" if self.n_done == 1 else f"{self.n_done:,} slides"
        lines = [f"The maps of {slides} are in {self.folder}."] if self.n_done else []
        if self.problems:
            lines += [f"{len(self.problems):,} failed:", *self.problems[:MOST_TOLD]]
        if len(self.problems) > MOST_TOLD:
            lines.append(f"… and {len(self.problems) - MOST_TOLD:,} more")
        return "\n".join(lines)


def plan_cohort(
    slides: tuple[StudySlide, ...], request: ProspectRequest, facts: Facts, folder: Path, shown: frozenset[Path]
) -> CohortJob | Refusal:
    """Turn the fields of the widget into a job for all slides, or say what is missing.

    Parameters
    ----------
    slides
        The cohort.
    request, facts
        As for `plan`; what they say of one slide does not count.
    folder
        For the maps.
    shown
        Slides that are open.
    """
    if not slides:
        return Refusal("The cohort has no slide. Add slides under 'Slides'.")
    # what does not depend on a slide is refused as for a single one
    general = plan(replace(request, layer="", kind="tokens", path=Path(), mpp=None, tokens=None), facts)
    if isinstance(general, Refusal):
        return general
    return CohortJob(
        slides, general.head, general.head_name, request.map, request.target, request.weights, folder, shown
    )


def cohort_files(job: CohortJob) -> list[Path]:
    """Return the folders of maps that a job writes, as far as they can be told before it starts."""
    return [
        job.folder / f"{slide_name(slide)}.{name}.prospect.ome.zarr" for slide in job.slides for name in job.head.maps_
    ]


def slide_name(slide: StudySlide) -> str:
    """Return what the maps of a slide are called: its file's name without the last suffix."""
    name = slide.path.name.removesuffix(TOKENS_SUFFIX)
    return name.rpartition(".")[0] or name


def prospect_cohort(job: CohortJob, clock: Callable[[], TimeLeft] = TimeLeft) -> Steps[CohortResult]:
    """Prospect slide after slide; one that fails is told and the others go on.

    Closing the generator at any yield leaves token grids and maps that are whole, from which the same job goes on.

    Parameters
    ----------
    job
        What to do.
    clock
        Makes the clock of the time left of one slide's embedding, for tests.

    Yields
    ------
    JobProgress
        With a `SlideFound` of each slide that is open.

    Returns
    -------
    CohortResult
    """
    problems: list[str] = []
    encoders: Encoders = {}
    total = len(job.slides)
    for number, slide in enumerate(job.slides):
        where = f"Slide {number + 1:,} of {total:,}, {slide.path.name}"
        try:
            result = yield from _labelled(_one(job, slide, clock, encoders), where)
        except (ProspectorError, OSError) as error:
            problems.append(f"{slide.path.name}: {error}")
            continue
        found = SlideFound(slide.path, result) if slide.path in job.shown else None
        yield JobProgress(where, number + 1, total, found=found)
    return CohortResult(total - len(problems), job.folder, tuple(problems))


def _labelled(steps: Steps[ProspectResult], where: str) -> Steps[ProspectResult]:
    """Say with each step of a slide which slide it is."""
    try:
        while True:
            progress = next(steps)
            yield replace(progress, stage=f"{where}: {progress.stage[:1].lower()}{progress.stage[1:]}")
    except StopIteration as finished:
        result: ProspectResult = finished.value
        return result
    finally:
        steps.close()


def _one(job: CohortJob, slide: StudySlide, clock: Callable[[], TimeLeft], encoders: Encoders) -> Steps[ProspectResult]:
    """Prospect one slide and write its maps."""
    result = yield from prospect(_job_of(job, slide), clock(), encoders)
    content = MapContent.of_result(slide_name(slide), result)
    request = ExportRequest(content, job.head_name, job.folder, result.job.map, contours=False)
    job.folder.mkdir(parents=True, exist_ok=True)
    yield from export_map(request)
    return result


def _job_of(job: CohortJob, slide: StudySlide) -> ProspectJob:
    """Return the job of one slide, as if it had been opened."""
    from napari_prospector.tokens.slides import open_slide

    is_grid = slide.path.name.endswith(TOKENS_SUFFIX)
    mpp = slide.mpp
    if not is_grid and mpp is None:
        with open_slide(slide.path) as opened:
            mpp = opened.mpp
    request = ProspectRequest(
        layer=slide_name(slide),
        kind="tokens" if is_grid else "slide",
        path=slide.path,
        head=Path(job.head_name),
        map=job.map,
        target=job.target,
        mpp=slide.mpp,
        tokens=slide.tokens,
        weights=job.weights,
    )
    planned = plan(request, Facts(mpp, job.head))
    if isinstance(planned, Refusal):
        raise InvalidInputError(planned.sentence)
    return planned
