"""Sample slides that need no network: drawn once, then kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from napari_prospector._napari.layers import LayerTuple, slide_layer
from napari_prospector._napari.request import cache_folder

__all__ = ["drawn_slide", "normal_slide", "tumour_slide"]

SEED = 7
SHAPE = (2304, 2816)
MPP = 1.0


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
