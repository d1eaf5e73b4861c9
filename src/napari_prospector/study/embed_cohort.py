"""Many slides embedded, each by itself: here, in processes of this machine, or by the workers of a cluster."""

from __future__ import annotations

import functools
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector.errors import InvalidInputError, ProspectorError, StoreBusyError
from napari_prospector.study.cluster import AnyClient, as_workers
from napari_prospector.study.workers import is_cancelled
from napari_prospector.tokens.encoders.cards import Encoder
from napari_prospector.tokens.encoders.projection import Projection

if TYPE_CHECKING:
    from napari_prospector.tokens.embed import EmbedProgress

__all__ = ["Embedded", "SlideJob", "embed_cohort", "embed_one"]

_MOST_REASONS = 20
_BUSY_FOR_S = 60.0  # a writer that Dask takes for dead may still be at work; it stops at its next step
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class SlideJob:
    """One slide to embed: its path, where the tokens go, and its pixel size where the file states none."""

    slide: Path
    tokens: Path
    mpp: float | None = None


@dataclass(frozen=True)
class Embedded:
    """What came of one slide.

    Attributes
    ----------
    slide, tokens
        File name of the slide, path of its token grid.
    done, failed
        Tokens with and without an embedding.
    error
        Why the slide is not finished, a sentence; None where it is.
    seconds
        How long this took, that of earlier runs not counted.
    reasons
        Why tiles failed, the first few of them.
    """

    slide: str
    tokens: str
    done: int
    failed: int
    error: str | None = None
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()


OnStep = Callable[[SlideJob, "EmbedProgress"], None]


def embed_cohort(
    jobs: Sequence[SlideJob],
    encoder: Encoder | Mapping[str, Any],
    *,
    client: AnyClient | None = None,
    tissue: Mapping[str, Any] | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Generator[Embedded]:
    """Embed slides; one that fails is a row with its error, and the others go on.

    Parameters
    ----------
    jobs
        Slides; a finished store is left as it is, one that was begun goes on.
    encoder
        For all of them: loaded, or keywords of `load_encoder` with its ``name``. With a client it must be keywords:
        every worker process loads it once.
    client
        A `distributed.Client` or `LocalProcesses`, whose workers open the slides by their paths and write the stores.
        None: this process, one slide after the other.
    tissue
        Keywords of `tissue_mask`; None for its defaults.
    on_step
        Told after each batch of tiles, where this process does the work.
    **options
        Keywords of `embed_slide`.

    Yields
    ------
    Embedded
        One for each slide, in the order in which they are finished.

    Raises
    ------
    InvalidInputError
        The encoder is loaded already and there is a client.
    ProspectorError
        The encoder cannot be loaded; or as `DaskWorkers` and its `check`.
    """
    workers = as_workers(client)
    if workers is None:
        model = encoder if isinstance(encoder, Encoder) else _loaded(_Request.of(encoder))
        for job in jobs:
            yield _embed(job, model, tissue, options, on_step)
        return
    if isinstance(encoder, Encoder):
        raise InvalidInputError(
            "encoder must be keywords of load_encoder where a client is given, for every worker loads it itself; got a"
            f" loaded one. Pass encoder={{'name': {encoder.card.name!r}, …}}."
        )
    request = _Request.of(encoder)
    jobs = [replace(job, slide=_absolute(job.slide), tokens=_absolute(job.tokens)) for job in jobs]
    for folder in sorted({job.tokens.parent for job in jobs}):
        workers.check([job.slide for job in jobs if job.tokens.parent == folder], folder)
    # once, before a thousand slides fail of one reason; the worker keeps it
    list(workers.run(_try_encoder, [()], ["load-encoder"], request))

    def lost(number: int, reason: str) -> Embedded:
        return Embedded(jobs[number].slide.name, str(jobs[number].tokens), 0, 0, reason)

    names = [f"embed-{number:05d}-{job.slide.name}" for number, job in enumerate(jobs)]
    shared = (request, tissue, options)
    for _, row in workers.run(_embed_elsewhere, [(job,) for job in jobs], names, shared, lost):
        yield row


@dataclass(frozen=True)
class _Request:
    """An encoder that is not loaded yet: name and keywords of `load_encoder`, as JSON, and its weight file's state.

    A projection that comes from a head's file rather than one of its own travels as it is.
    """

    name: str
    keywords: str
    weights: tuple[int, int] | None
    projection: Projection | None = None

    @classmethod
    def of(cls, encoder: Mapping[str, Any]) -> _Request:
        """Take keywords of `load_encoder` with its name."""
        keywords = {key: value for key, value in encoder.items() if key != "name"}
        projection = keywords.get("projection")
        if isinstance(projection, Projection):
            del keywords["projection"]
        for key in ("weights", "projection"):  # files: the same for a worker, whatever folder it was started in
            if isinstance(keywords.get(key), str | os.PathLike) and os.path.exists(keywords[key]):
                keywords[key] = os.path.abspath(keywords[key])
        # workers live long: weights that were replaced under the same name are others
        weights = keywords.get("weights")
        status = os.stat(weights) if weights is not None and os.path.exists(weights) else None
        return cls(
            str(encoder["name"]),
            json.dumps(keywords, sort_keys=True, default=os.fspath),
            None if status is None else (status.st_size, status.st_mtime_ns),
            projection if isinstance(projection, Projection) else None,
        )


@functools.lru_cache(maxsize=1)
def _loaded(request: _Request) -> Encoder:
    """Load an encoder, once in each process."""
    from napari_prospector.tokens.encoders.cards import load_encoder

    keywords = json.loads(request.keywords)
    if request.projection is not None:
        keywords["projection"] = request.projection
    return load_encoder(request.name, **keywords)


def _try_encoder(request: _Request) -> None:
    """Load an encoder in a worker."""
    with _one_at_a_time:
        _loaded(request)


def _embed_elsewhere(shared: tuple[_Request, Mapping[str, Any] | None, Mapping[str, Any]], job: SlideJob) -> Embedded:
    """Embed one slide in a worker; however many threads it has, one slide at a time has the encoder."""
    request, tissue, options = shared
    with _one_at_a_time:
        if is_cancelled():  # while it waited for its turn
            return _refused(job, f"{job.slide.name} was cancelled before it was begun.")
        if not job.slide.exists():
            return _refused(
                job,
                f"The worker on {platform.node()}"
                f" does not see {job.slide}. Keep slides in a folder that all machines share.",
            )
        try:
            encoder = _loaded(request)
        except ProspectorError as error:
            return _refused(job, str(error))
        return _embed(job, encoder, tissue, options, None, _BUSY_FOR_S)


def _embed(
    job: SlideJob,
    encoder: Encoder,
    tissue: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    on_step: OnStep | None,
    busy_for_s: float = 0.0,
) -> Embedded:
    """Embed one slide; what is wrong with it becomes its row."""
    steps = embed_one(job, encoder, tissue=tissue, busy_for_s=busy_for_s, **options)
    done, failed, started = 0, 0, time.perf_counter()
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            row: Embedded = end.value
            return row
        done, failed = step.done - step.failed, step.failed
        if on_step is not None:
            on_step(job, step)
        if is_cancelled():
            steps.close()
            error = f"{job.slide.name} was cancelled; what is finished is kept."
            return Embedded(job.slide.name, str(job.tokens), done, failed, error, time.perf_counter() - started)


def embed_one(
    job: SlideJob,
    encoder: Encoder,
    *,
    tissue: Mapping[str, Any] | None = None,
    busy_for_s: float = 0.0,
    **options: Any,
) -> Generator[EmbedProgress, None, Embedded]:
    """Embed one slide batch by batch; whoever closes the generator has cancelled, and what is finished is kept.

    Parameters
    ----------
    job
        The slide; a finished store is left as it is, one that was begun goes on.
    encoder
        Loaded.
    tissue
        Keywords of `tissue_mask`; None for its defaults.
    busy_for_s
        How long to wait while another process writes the store.
    **options
        Keywords of `embed_slide`.

    Yields
    ------
    EmbedProgress
        After each batch, the first one before any.

    Returns
    -------
    Embedded
        With the error, a sentence, where the slide is not finished; no `ProspectorError` is raised.
    """
    started, done, failed = time.perf_counter(), 0, 0
    reasons: list[str] = []
    error = None
    try:
        with closing(_steps_when_free(job, encoder, tissue, options, busy_for_s)) as steps:
            for step in steps:
                done, failed = step.done - step.failed, step.failed
                told = [f"tile ({tile.row}, {tile.col}) failed: {tile.reason}" for tile in step.failures]
                reasons += told[: _MOST_REASONS - len(reasons)]
                yield step
    except ProspectorError as problem:
        error = str(problem)
    seconds = time.perf_counter() - started
    return Embedded(job.slide.name, str(job.tokens), done, failed, error, seconds, tuple(reasons))


def _steps_when_free(
    job: SlideJob,
    encoder: Encoder,
    tissue: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    busy_for_s: float,
) -> Generator[EmbedProgress]:
    """Yield the progress of one slide, once nobody else writes its store."""
    stop = time.monotonic() + busy_for_s
    while True:
        try:
            yield from _steps(job, encoder, tissue, options)
            return
        except StoreBusyError:
            if time.monotonic() > stop or is_cancelled():
                raise
            time.sleep(1)


def _steps(
    job: SlideJob, encoder: Encoder, tissue: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Generator[EmbedProgress]:
    """Yield the progress of one slide."""
    from napari_prospector.tokens.embed import embed_slide
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.tissue import tissue_mask

    job.tokens.parent.mkdir(parents=True, exist_ok=True)
    with open_slide(job.slide, mpp=job.mpp) as slide:
        mask = tissue_mask(slide, **tissue) if tissue else None
        yield from embed_slide(slide, encoder, job.tokens, tissue=mask, **options)


def _refused(job: SlideJob, reason: str) -> Embedded:
    """Return the row of a slide that could not be begun."""
    return Embedded(job.slide.name, str(job.tokens), 0, 0, reason)


def _absolute(path: Path) -> Path:
    """Return a path that means the same whatever the folder that a worker was started in."""
    return Path(os.path.abspath(path))
