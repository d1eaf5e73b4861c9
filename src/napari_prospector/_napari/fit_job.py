"""Fitting a head from labels of slides, or from regions drawn on them: the plan, and the work off the GUI thread."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector._napari.progress import JobProgress, Refusal, Steps, reported
from napari_prospector._napari.settings import settings
from napari_prospector.errors import InvalidInputError, ProspectorWarning

if TYPE_CHECKING:
    from napari_prospector._napari.slide_state import SlideState
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.project import Study, StudySlide
    from napari_prospector.study.verdict import Verdict

__all__ = ["FitJob", "FitRequest", "FitResult", "fit_head", "plan_fit", "tally"]

FEWEST = 3  # data of a class
USES = ("labels", "regions")
# what core reports, in words for people
STAGES = {
    "sample tokens": "Sampling tokens",
    "read tokens": "Reading tokens",
    "find concepts": "Finding concepts",
    "count pairs": "Counting pairs of concepts",
    "compare kernels": "Comparing settings",
    "draw maps": "Drawing maps of the slides",
}


@dataclass(frozen=True)
class FitRequest:
    """What the user asked for.

    Attributes
    ----------
    use
        ``"labels"`` of slides, or ``"regions"`` drawn on them.
    target
        The class to look for; None: the head chooses.
    by_patient
        Whether all slides of a patient are one datum.
    without
        Quality flags of tiles to leave out.
    options
        Keywords of `ProspectorHead`; what is left out is chosen from the data.
    """

    use: str = "labels"
    target: str | None = None
    by_patient: bool = False
    without: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FitJob:
    """A request that can be tried, with the study as it was then."""

    request: FitRequest
    study: Study


@dataclass(frozen=True, eq=False)
class FitResult:
    """What came of it.

    Attributes
    ----------
    path
        The head's file.
    head
        The head.
    verdict
        How well it tells data that it has not seen.
    datum
        What one datum is called.
    left_out
        What was not used, one sentence each.
    """

    path: Path
    head: ProspectorHead
    verdict: Verdict
    datum: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Learned:
    """Data for a fit: graphs with labels and groups, and what the head's card says of them."""

    graphs: Sequence[Any]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None
    store: CohortGraphs
    card: dict[str, Any]
    datum: str
    notes: tuple[str, ...]


def tally(study: Study, use: str) -> dict[str, int]:
    """Return how many slides, or regions, there are of each class, the classes sorted."""
    from napari_prospector.study.annotations import NOT_HERE

    if use == "labels":
        names = [slide.label for slide in study.slides if slide.label and slide.split != "test"]
    else:
        names = [region.label for regions in study.annotations.values() for region in regions if region.label]
    return {name: names.count(name) for name in sorted({name for name in names if name and name != NOT_HERE})}


def plan_fit(request: FitRequest, study: Study) -> FitJob | Refusal:
    """Turn a request into a job, or say what is missing; what lies on the disk is looked at by the job."""
    counts = tally(study, request.use)
    what = "slides" if request.use == "labels" else "regions"
    where = "under 'Slides'" if request.use == "labels" else "under 'Annotate'"
    if len(counts) < 2:
        have = f"all of them say {next(iter(counts))!r}" if counts else "there are none"
        return Refusal(f"At least two classes of {what} are needed; {have}. Label {what} {where}.")
    few = [f"{name!r} has {count}" for name, count in counts.items() if count < FEWEST]
    if few and request.use == "labels":
        return Refusal(f"Each class needs at least {FEWEST} slides; {', '.join(few)}. Label more {where}.")
    if request.target is not None and request.target not in counts:
        return Refusal(f"No {what[:-1]} is labelled {request.target!r}. Choose another class to look for.")
    if request.by_patient and not any(slide.group for slide in study.slides):
        return Refusal("Slides of a patient can be one datum once they have a group. Fill it in under 'Slides'.")
    return FitJob(request, study)


def fit_head(job: FitJob, heads: Callable[[], Path]) -> Steps[FitResult]:
    """Fit a head and save it.

    Parameters
    ----------
    job
        What to fit.
    heads
        Gives the folder for heads; called in the thread.

    Yields
    ------
    JobProgress
        With `found` what was tried so far, a tuple of `Tried`, whenever there is more.

    Raises
    ------
    ProspectorError
        With a sentence for the user.
    """
    states = yield from _states(job)
    learned = _of_labels(job, states) if job.request.use == "labels" else _of_regions(job, states)
    head = yield from reported(lambda tell: _fit(job.request, learned, tell))
    yield JobProgress("Saving the head")
    from napari_prospector.study.verdict import out_of_fold_verdict

    verdict = out_of_fold_verdict(head, learned.labels, learned.groups)
    path = _free_name(heads(), job.request.target or str(head.target_ or "head"))
    head.save(path, {**learned.card, "out_of_fold": verdict.to_card()}, learned.store.head_tensors())
    return FitResult(path, head, verdict, learned.datum, learned.notes)


def _states(job: FitJob) -> Steps[list[SlideState]]:
    """Look at the slides that are meant, and at their tokens."""
    from napari_prospector._napari.slide_state import look_at

    wanted = _wanted(job)
    states = []
    for number, slide in enumerate(wanted):
        yield JobProgress("Looking for tokens", number, len(wanted))
        states.append(look_at(slide, job.study.encoder))
    return states


def _wanted(job: FitJob) -> list[StudySlide]:
    """Return the slides that are labelled, or that regions are drawn on."""
    from napari_prospector.study.project import StudySlide

    if job.request.use == "labels":
        return [slide for slide in job.study.slides if slide.label and slide.split != "test"]
    paths = [Path(key) for key in job.study.annotations if not key.startswith("layer:")]
    return [job.study.slide(path) or StudySlide(path) for path in paths]


def _of_labels(job: FitJob, states: Sequence[SlideState]) -> _Learned:
    """Return labelled slides as data."""
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.patients import as_data

    ready, notes = _ready(states, "slide")
    counts = [sum(state.slide.label == name for state in ready) for name in tally(job.study, "labels")]
    if min(counts) < FEWEST:
        raise InvalidInputError(
            f"Each class needs at least {FEWEST} embedded slides; {len(ready)} of {len(states)} labelled slides are "
            "embedded. Embed them under 'Slides'."
        )
    cohort = Cohort(tuple(state.slide.row(line) for line, state in enumerate(ready, 2)), "the cohort")
    store = CohortGraphs([_tokens(state) for state in ready], _most_bytes(), without=_rules(job.request))
    datum = "group" if job.request.by_patient else "slide"
    found = as_data(store, cohort.labels, cohort.groups, datum)
    groups = None if found.groups is None else tuple(map(str, found.groups))
    mixtures = tuple(store.mixtures(cohort.labels, groups=cohort.groups))
    card = store.head_card(cohort, datum)
    name = "patient" if job.request.by_patient else "slide"
    return _Learned(found.graphs, tuple(map(str, found.labels)), groups, store, card, name, (*notes, *mixtures))


def _of_regions(job: FitJob, states: Sequence[SlideState]) -> _Learned:
    """Return regions, or where there are few pieces of them, as data."""
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.cohort_graphs import CohortGraphs
    from napari_prospector.study.region_tokens import RegionGraphs, region_graphs, split_regions

    ready, notes = _ready(states, "annotated slide")
    if not ready:
        raise InvalidInputError("No annotated slide is embedded. Embed it under 'Slides'.")
    store = CohortGraphs([_tokens(state) for state in ready], _most_bytes(), without=_rules(job.request))
    parts = [
        region_graphs(grid, job.study.regions(state.slide.key)) for grid, state in zip(store.grids, ready, strict=True)
    ]
    found = RegionGraphs(*(tuple(item for part in column for item in part) for column in zip(*parts, strict=True)))
    if min(found.labels.count(label) for label in set(found.labels)) < FEWEST:
        found = split_regions(found)
        notes = (
            *notes,
            "There are few regions, so they were cut into pieces; pieces of one region are held out together.",
        )
    if len(set(found.labels)) < 2:
        raise InvalidInputError(
            "Regions of at least two classes must lie on embedded slides. Embed them under 'Slides'."
        )
    rows = tuple(state.slide.row(line) for line, state in enumerate(ready, 2))
    card = {**store.head_card(Cohort(rows, "regions"), "slide"), "datum": "region", "n_data": len(found.labels)}
    return _Learned(found.graphs, found.labels, found.groups, store, card, "region", notes)


def _ready(states: Sequence[SlideState], what: str) -> tuple[list[SlideState], tuple[str, ...]]:
    """Return the slides whose tokens are finished, and what is to be said of the others."""
    ready = [state for state in states if state.is_finished]
    others = [state for state in states if not state.is_finished]
    if not others:
        return ready, ()
    names = ", ".join(state.slide.path.name for state in others[:3]) + (" …" if len(others) > 3 else "")
    return ready, (f"{len(others)} {what}{'s' * (len(others) > 1)} left out, not embedded yet: {names}.",)


def _tokens(state: SlideState) -> Path:
    """Return the token grid of a slide that has one."""
    return state.tokens or state.slide.path


def _rules(request: FitRequest) -> Any:
    """Return the quality flags to leave out as rules."""
    from napari_prospector.tokens.quality import parse_rules

    return parse_rules(request.without)


def _fit(request: FitRequest, learned: _Learned, tell: Callable[[JobProgress], None]) -> ProspectorHead:
    """Fit, telling how far it is and what was tried."""
    from napari_prospector.core.head import ProspectorHead

    tell(JobProgress("Fitting"))
    options = dict(request.options) | ({} if request.target is None else {"positive": request.target})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProspectorWarning)  # they are among the head's notes
        return ProspectorHead(**options).fit(
            learned.graphs,
            list(learned.labels),
            learned.groups,
            lambda stage, done, total: tell(JobProgress(STAGES.get(stage, stage.capitalize()), done, total)),
            lambda tried: tell(JobProgress("Comparing settings", found=tried)),
        )


def _free_name(folder: Path, name: str) -> Path:
    """Return a head's file in a folder that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "head"
    number = 1
    while (folder / f"{stem}-{number}.prospector").exists():
        number += 1
    return folder / f"{stem}-{number}.prospector"


def _most_bytes() -> int:
    """Return how much memory tokens that are kept may take."""
    return round(settings().graph_memory_gib * 2**30)
