"""One HTML page of the concepts of a head: each with its most typical tiles, its shares in the classes and its weight.

The page is a single file that loads nothing, or a page beside a folder of its pictures. Names are escaped by the
template; no folder of the machine that made it is in it.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector import __version__
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import MismatchError
from napari_prospector.study.best_tokens import Example
from napari_prospector.study.examples import ConceptExamples
from napari_prospector.study.pages import page_template
from napari_prospector.tokens.pyramid import atomic_path
from napari_prospector.tokens.tilepictures import Place, TilePicture

__all__ = ["ConceptRow", "concept_rows", "write_examples_page"]

PICTURES = "pictures"
"""Folder of the pictures of a page that is no single file."""

_QUALITY = 88  # of JPEG, without chroma subsampling: 5 KB for a tile of 96 px


@dataclass(frozen=True)
class ConceptRow:
    """What is told of one concept, or of several that people have merged.

    Attributes
    ----------
    concept, name
        The concept that stands for the group, and the name to show.
    color
        As ``#rrggbb``, the same everywhere.
    weights
        Of the evidence map, for each member: what a token gives by its concept alone.
    shares
        Share of the tokens of each class, by its name.
    n_tokens, n_slides
        Tokens of the concept, and slides that have one.
    is_hidden
        Whether it counts 0 in maps.
    examples
        The most typical tokens.
    """

    concept: int
    name: str
    color: str
    weights: tuple[float, ...]
    shares: dict[Hashable, float]
    n_tokens: int
    n_slides: int
    is_hidden: bool
    examples: tuple[Example, ...]

    @property
    def weights_text(self) -> str:
        """The weights, signed; 0 has no sign."""
        return ", ".join("0.00" if abs(weight) < 0.005 else f"{weight:+.2f}" for weight in self.weights)


def concept_rows(
    head: ProspectorHead, found: ConceptExamples, target: Hashable | None = None, n_each: int | None = None
) -> tuple[ConceptRow, ...]:
    """Put together what is told of each concept, or group of merged ones; the largest weight first.

    Parameters
    ----------
    head
        Its names, colours, groups and weights count.
    found
        From `typical_tokens` with this head.
    target
        Class that weights above 0 speak for, as in `ProspectorHead.prospect`.
    n_each
        Most examples of a row. None: all that a row has.

    Raises
    ------
    MismatchError
        If the examples are of another number of concepts.
    """
    edits = head.concept_edits_
    if len(found.examples) != edits.n_concepts:
        raise MismatchError(
            f"examples must be of the concepts of this head, {edits.n_concepts}; got {len(found.examples)}."
            " Find them with this head."
        )
    weights = head.concept_weights("evidence", target)[0]
    shares, colors = found.shares(), edits.colors()
    rows = []
    for concept in edits.representatives:
        members = list(edits.members(concept))
        counts = found.counts[:, members].sum(axis=1)
        own = shares[:, members].sum(axis=1).tolist()
        rows.append(
            ConceptRow(
                concept=concept,
                name=edits.name(concept),
                color="#" + bytes(np.rint(255 * colors[concept]).astype(np.uint8).tolist()).hex(),
                weights=tuple(weights[members].tolist()),
                shares=dict(zip(found.classes, own, strict=True)),
                n_tokens=int(counts.sum()),
                n_slides=int((counts > 0).sum()),
                is_hidden=concept in edits.hidden,
                examples=found.of_group(members, n_each),
            )
        )
    return tuple(sorted(rows, key=lambda row: -max(row.weights)))


def write_examples_page(
    path: str | os.PathLike[str],
    head: ProspectorHead,
    found: ConceptExamples,
    names: Sequence[str],
    pictures: Mapping[Place, TilePicture],
    *,
    title: str = "Concepts and their most typical tiles",
    target: Hashable | None = None,
    n_each: int | None = None,
    embed_images: bool = True,
) -> Path:
    """Write the page.

    Parameters
    ----------
    path
        HTML file; it appears whole or not at all.
    head, found, target, n_each
        As for `concept_rows`.
    names
        File name of each slide, without folder.
    pictures
        The pictures of tokens by slide, row and col, of one size; a token without one is left out.
    title
        Of the page.
    embed_images
        Whether pictures are within the page; otherwise they are files in the folder ``pictures`` beside it.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MismatchError
        Names are not as many as slides, or as `concept_rows`.
    MissingExtraError
        jinja2 is not installed.
    StorageError
        A file cannot be written.
    """
    page = Path(path)
    if len(names) != len(found.labels):
        raise MismatchError(f"names must hold one name for each of {len(found.labels)} slides; got {len(names)}.")
    looked_for = head.target_ if target is None else target
    others = [str(label) for label in found.classes if str(label) != str(looked_for)]
    rows = concept_rows(head, found, target, n_each)
    n_tokens = found.counts.sum(axis=1).tolist()
    html = page_template("examples.html.j2").render(
        version=__version__,
        title=title,
        target=str(looked_for),
        others=" or ".join(others) or "none",
        sentence=f"{len(rows)} concepts among {sum(n_tokens):,} tokens of {len(names)} slides.",
        size_px=next((len(picture.pixels) for picture in pictures.values()), 96),
        most_per_slide=found.most_per_slide,
        concepts=[_shown(row, pictures, names, looked_for, page, embed_images) for row in rows],
        problems=sorted({picture.problem for picture in pictures.values() if picture.problem}),
        slides=[
            {"number": number, "name": name, "label": str(label), "n_tokens": f"{n:,}"}
            for number, (name, label, n) in enumerate(zip(names, found.labels, n_tokens, strict=True), 1)
        ],
    )
    with atomic_path(page) as partial:
        partial.write_text(html, encoding="utf-8")
    return page


def _shown(
    row: ConceptRow,
    pictures: Mapping[Place, TilePicture],
    names: Sequence[str],
    target: Hashable,
    page: Path,
    embed: bool,
) -> dict[str, Any]:
    """Return what the template shows of a concept."""
    return {
        "name": row.name,
        "color": row.color,
        "weights": row.weights_text,
        "shares": [{"name": str(name), "text": f"{100 * share:.1f} %"} for name, share in row.shares.items()],
        "n_tokens": f"{row.n_tokens:,}",
        "n_slides": row.n_slides,
        "is_hidden": row.is_hidden,
        "tiles": list(_tiles(row, pictures, names, target, page if not embed else None)),
    }


def _tiles(
    row: ConceptRow,
    pictures: Mapping[Place, TilePicture],
    names: Sequence[str],
    target: Hashable,
    beside: Path | None,
) -> Iterator[dict[str, Any]]:
    """Yield what the template shows of each token; pictures are written beside a page, or are in it."""
    for number, example in enumerate(row.examples):
        picture = pictures.get((example.slide, example.row, example.col))
        if picture is None:
            continue
        jpeg = _jpeg(picture.pixels)
        if beside is None:
            source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
        else:
            source = f"{PICTURES}/concept-{row.concept:02d}-{number:03d}.jpg"
            with atomic_path(beside.parent / source) as partial:
                partial.write_bytes(jpeg)
        where = f"{names[example.slide]}, {example.label}: row {example.row}, column {example.col}"
        yield {
            "source": source,
            "is_target": str(example.label) == str(target),
            "caption": f"slide {example.slide + 1}",
            "alt": f"{where}; distance {example.distance:.3g}" + (f". {picture.problem}" if picture.problem else ""),
        }


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture (rows, cols, 3) as JPEG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()
