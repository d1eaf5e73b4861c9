"""Sample slides that need no network: drawn or stitched once, then kept in the user's cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

from napari_prospector._napari.layers import LayerTuple, slide_layer
from napari_prospector._napari.progress import JobProgress, Steps
from napari_prospector._napari.request import cache_folder
from napari_prospector.errors import MissingFileError
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.project import StudySlide

__all__ = [
    "drawn_cohort",
    "drawn_slide",
    "normal_slide",
    "real_cohort",
    "real_histology",
    "sample_cohort",
    "tumour_slide",
]

SEED = 7
SHAPE = (2304, 2816)
MPP = 1.0
N_SLIDES, COHORT_SHAPE = 24, (1680, 2016)
N_MOSAICS = 12


def tumour_slide() -> list[LayerTuple]:
    """Return a drawn slide in which lymphocytes infiltrate the epithelium."""
    return _layer(tumour=True)


def normal_slide() -> list[LayerTuple]:
    """Return a drawn slide of the same tissues, none infiltrated."""
    return _layer(tumour=False)


def drawn_slide(tumour: bool) -> Path:
    """Return the file of a sample slide, drawing it on first use.

    Parameters
    ----------
    tumour
        Whether lymphocytes infiltrate the epithelium.
    """
    import napari_prospector
    from napari_prospector.tokens.generate import draw_slide
    from napari_prospector.tokens.pyramid import write_pyramid

    # another version may draw otherwise
    folder = cache_folder() / "samples" / napari_prospector.__version__
    file = folder / f"drawn-{'tumour' if tumour else 'normal'}.tif"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_pyramid(file, draw_slide(SEED, tumour, shape=SHAPE, mpp=MPP).image, MPP)
    return file


def _layer(tumour: bool) -> list[LayerTuple]:
    """Return the layer of a sample slide."""
    from napari_prospector.tokens.slides import open_slide

    return [slide_layer(open_slide(drawn_slide(tumour)))]


def sample_cohort() -> Steps[list[StudySlide]]:
    """Draw a small cohort on first use: labelled slides of patients, half of them with tumour.

    Yields
    ------
    JobProgress
        With the file of each slide as `found` once it is there.

    Returns
    -------
    list of StudySlide
        With label, patient and truth.
    """
    from napari_prospector.tokens.generate import generate_cohort

    make = partial(generate_cohort, n_slides=N_SLIDES, seed=SEED, shape=COHORT_SHAPE, mpp=MPP)
    return (yield from _cohort("drawn-cohort", "Drawing slides", make))


def real_sample_cohort() -> Steps[list[StudySlide]]:
    """Stitch a small cohort from real histology on first use, as `sample_cohort` does.

    Raises
    ------
    MissingFileError
        There are no images: the environment variable PROSPECTOR_SHARED does not lead to them.
    """
    from napari_prospector.tokens.mosaics import make_mosaic_cohort

    images = real_histology()
    if images is None:
        raise MissingFileError(
            "Real slides need the folder data/histology/ebhi, in the folder that the environment variable"
            " PROSPECTOR_SHARED names; there is none. Set it and start napari again, or open the drawn cohort."
        )
    n_test = N_MOSAICS // 3

    def make(folder: Path) -> Any:
        return make_mosaic_cohort(
            folder, images, "adenocarcinoma", n_train=N_MOSAICS - n_test, n_test=n_test, seed=SEED
        )

    return (yield from _cohort("real-cohort", "Stitching slides of real histology", make))


def real_histology() -> Path | None:
    """Return the folder of real histology images, or None where there is none."""
    named = os.environ.get("PROSPECTOR_SHARED")
    folder = Path(named or "../shared") / "data" / "histology" / "ebhi"
    return folder if (folder / "manifest.csv").is_file() else None


def _cohort(name: str, stage: str, make: Callable[[Path], Any]) -> Steps[list[StudySlide]]:
    """Make a cohort in the cache unless it is there, and return its slides."""
    import napari_prospector

    folder = cache_folder() / "samples" / napari_prospector.__version__ / name
    table = folder / "cohort.csv"
    yield JobProgress(stage)
    if not table.is_file():
        for step in make(folder):
            yield JobProgress(stage, step.done, step.total, found=step.path)
    rows = Cohort.read(table).rows
    # cross-validation shows what a head is worth; a test set of four slides would not
    slides = [StudySlide(row.path, row.label, row.group, truth=row.truth) for row in rows]
    yield JobProgress(stage, len(slides), len(slides), found=slides[0].path)
    return slides


def drawn_cohort() -> list[LayerTuple]:
    """Add the drawn cohort to the study, and open its first slide."""
    return _opened(sample_cohort)


def real_cohort() -> list[LayerTuple]:
    """Add the cohort of real histology to the study, and open its first slide."""
    return _opened(real_sample_cohort)


def _opened(steps: Callable[[], Generator[JobProgress, None, list[StudySlide]]]) -> list[LayerTuple]:
    """Show the Slides widget, which makes the cohort; return the layer of its first slide once that is there.

    napari wants a layer from a sample at once. While the first slide is made its window stays alive.
    """
    import napari
    from qtpy.QtCore import QEventLoop

    from napari_prospector._napari.slides_widget import show_slides
    from napari_prospector.tokens.slides import open_slide

    viewer = napari.current_viewer()
    if viewer is None:
        raise MissingFileError("A sample cohort is shown in a viewer; none is open. Open napari first.")
    widget, first, loop = show_slides(viewer), [], QEventLoop()

    def take(file: Path) -> None:
        first.append(file)
        loop.quit()

    widget.add_sample(steps, take)
    widget.ui.adding.finished.connect(loop.quit)
    widget.destroyed.connect(loop.quit)
    if not first:
        loop.exec()
    return [slide_layer(open_slide(first[0]))] if first else []
