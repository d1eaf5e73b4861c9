"""Say which regions make this one belong to that class, and why.

Prospector heads learn from labels of whole slides, structures or documents, never of regions, and
draw a map of the regions that speak for a class. A public name is fetched from its module when it is
first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_prospector.core.concepts import ConceptQuantizer
    from napari_prospector.core.graph import TokenGraph, chain_graph, grid_graph, radius_graph
    from napari_prospector.core.head import ProspectorHead, load_head
    from napari_prospector.core.selection import select_head
    from napari_prospector.errors import ProspectorError
    from napari_prospector.study.annotations import Region
    from napari_prospector.study.cohort import Cohort
    from napari_prospector.study.geojson import read_geojson, write_geojson
    from napari_prospector.tokens.embed import embed_slide
    from napari_prospector.tokens.encoders.cards import list_encoders, load_encoder
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.store import TokenGrid
    from napari_prospector.tokens.tissue import tissue_mask

__all__ = [
    "Cohort",
    "ConceptQuantizer",
    "ProspectorError",
    "ProspectorHead",
    "Region",
    "TokenGraph",
    "TokenGrid",
    "chain_graph",
    "embed_slide",
    "grid_graph",
    "list_encoders",
    "load_encoder",
    "load_head",
    "open_slide",
    "radius_graph",
    "read_geojson",
    "select_head",
    "tissue_mask",
    "write_geojson",
]

__version__ = "0.1.0"

# A new public name needs its line here, in `__all__` and among the imports for type checkers above.
_HOMES = {
    "Cohort": "study.cohort",
    "ConceptQuantizer": "core.concepts",
    "ProspectorError": "errors",
    "ProspectorHead": "core.head",
    "Region": "study.annotations",
    "TokenGraph": "core.graph",
    "TokenGrid": "tokens.store",
    "chain_graph": "core.graph",
    "embed_slide": "tokens.embed",
    "grid_graph": "core.graph",
    "list_encoders": "tokens.encoders.cards",
    "load_encoder": "tokens.encoders.cards",
    "load_head": "core.head",
    "open_slide": "tokens.slides",
    "radius_graph": "core.graph",
    "read_geojson": "study.geojson",
    "select_head": "core.selection",
    "tissue_mask": "tokens.tissue",
    "write_geojson": "study.geojson",
}


def __getattr__(name: str) -> object:
    """Fetch a public name from its module and keep it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, fetched or not."""
    return sorted({*globals(), *__all__})
