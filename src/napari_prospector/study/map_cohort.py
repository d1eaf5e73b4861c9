"""The maps of many slides, each drawn and written by itself: here, or by the workers of a client."""

from __future__ import annotations

import os
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector.errors import ProspectorError
from napari_prospector.study.cluster import AnyClient, as_workers

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.exchange import SlideMap

__all__ = ["MapJob", "Mapped", "map_cohort"]


@dataclass(frozen=True)
class MapJob:
    """One slide to map: its finished token grid, and the slide itself for the picture; None where there is none."""

    tokens: Path
    slide: Path | None = None
    mpp: float | None = None

    @property
    def name(self) -> str:
        """File name of the slide, or of its grid."""
        return (self.tokens if self.slide is None else self.slide).name


@dataclass(frozen=True)
class Mapped:
    """What came of one slide.

    Attributes
    ----------
    name
        Of its job.
    map
        What was written, pictures included; None where there is an error.
    error
        A sentence, or None.
    """

    name: str
    map: SlideMap | None = None
    error: str | None = None


def map_cohort(
    head: ProspectorHead,
    jobs: Sequence[MapJob],
    folder: str | os.PathLike[str],
    map_name: str | None = None,
    target: Hashable | None = None,
    client: AnyClient | None = None,
    **also: Any,
) -> Generator[tuple[int, Mapped]]:
    """Draw the maps of slides and write scores, concepts, table and picture of each (`write_slide_map`).

    Parameters
    ----------
    head
        Fitted on the encoder of the grids.
    jobs
        Slides.
    folder
        For the files; with a client every worker must see it.
    map_name, target
        As in `ProspectorHead.prospect`.
    client
        A `distributed.Client` or `LocalProcesses`, whose workers read the grids and write the files. None: this
        process.
    also
        Further keywords of `write_slide_map`, such as ``ome_zarr=True``.

    Yields
    ------
    tuple
        Number of the job and what came of it; with a client in the order in which slides are finished.

    Raises
    ------
    ProspectorError
        As `DaskWorkers` and its `check`; what is wrong with a slide is a row instead.
    """
    workers, place = as_workers(client), Path(os.path.abspath(folder))
    shared = (head, Path(folder) if workers is None else place, map_name, target, also)
    if workers is None:
        for number, job in enumerate(jobs):
            yield number, _map_slide(shared, job)
        return
    jobs = [replace(job, tokens=_absolute(job.tokens), slide=job.slide and _absolute(job.slide)) for job in jobs]
    workers.check([job.tokens / "zarr.json" for job in jobs], place)
    names = [f"map-{number:05d}-{job.name}" for number, job in enumerate(jobs)]
    yield from workers.run(
        _map_slide, [(job,) for job in jobs], names, shared, lambda number, why: Mapped(jobs[number].name, None, why)
    )


def _map_slide(shared: tuple[ProspectorHead, Path, str | None, Hashable | None, dict[str, Any]], job: MapJob) -> Mapped:
    """Write all files of one slide."""
    from napari_prospector.study.exchange import write_slide_map
    from napari_prospector.study.figures import draw_token_grid

    head, folder, map_name, target, also = shared
    try:
        written = write_slide_map(folder, head, job.tokens, map_name, target, **also)
        picture = folder / f"{written.name}.{written.map}.png"
        draw_token_grid(picture, head, job.tokens, job.slide, map_name=written.map, target=target, slide_mpp=job.mpp)
    except ProspectorError as error:
        return Mapped(job.name, None, str(error))
    return Mapped(job.name, replace(written, files=(*written.files, picture)))


def _absolute(path: Path) -> Path:
    """Return a path that means the same whatever the folder that a worker was started in."""
    return Path(os.path.abspath(path))
