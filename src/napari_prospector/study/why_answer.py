"""Why a place has its score, and what two regions are worth: answers as records that windows and the terminal show.

Pure. The numbers are those of `core.splitting`; here they get names, colours and words. What is shown is rounded so
that the rounded parts still add up to the rounded score.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from napari_prospector.core.splitting import ConceptPart, region_parts, split_score, unsplittable
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.core.graph import TokenGraph
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.tokens.geometry import GridGeometry

__all__ = [
    "Bar",
    "Comparison",
    "RegionAnswer",
    "TokenAnswer",
    "answer_region",
    "answer_token",
    "shown_values",
]

_DIGITS = 3
# further behind the point, people lose count
_MOST_DECIMALS = 5


@dataclass(frozen=True)
class Bar:
    """One part of a score.

    Attributes
    ----------
    concept
        Its number; of merged ones the one that stands for them.
    name, color
        Of the concept; red, green, blue, 0 to 255.
    n_tokens
        Tokens that give it.
    value
        What they give.
    is_own
        Whether it is what the token gives by itself.
    is_hidden
        Whether the concept is hidden.
    """

    concept: int
    name: str
    color: tuple[int, int, int]
    n_tokens: int
    value: float
    is_own: bool = False
    is_hidden: bool = False

    def caption(self) -> str:
        """Return what the bar is called."""
        who = "itself:" if self.is_own else f"{self.n_tokens:,} ×"
        return f"{who} {self.name}{' (hidden)' if self.is_hidden else ''}"


@dataclass(frozen=True)
class TokenAnswer:
    """Why a token has its score.

    Attributes
    ----------
    row, col
        Its place in the grid.
    centre_um
        (row, col) of its centre on the slide, in µm.
    map, target
        Which map, and the class that it looks for.
    concept
        Name of its concept.
    score
        ``math.fsum`` of the values of `bars`, to the last bit; of a map that cannot be split, the map's own.
    bars
        What the token gives by itself, then one bar for each concept of its neighbours, the largest absolute value
        first; none where the score cannot be split.
    problem
        Why it cannot be split; None where it can.
    """

    row: int
    col: int
    centre_um: tuple[float, float]
    map: str
    target: str
    concept: str
    score: float
    bars: tuple[Bar, ...]
    problem: str | None = None

    def lines(self, slide: str = "") -> list[str]:
        """Return it as plain text, a line a part."""
        of = f" of {slide}" if slide else ""
        at = ", ".join(f"{place:,.1f}" for place in self.centre_um)
        values, total = shown_values([bar.value for bar in self.bars], self.score)
        head = [
            f"Token (row {self.row}, column {self.col}){of}, centre at ({at}) µm; concept: {self.concept}",
            f"{self.map} for {self.target}: {total}",
        ]
        if self.problem is not None:
            return [*head, self.problem]
        return [*head, *_columns([*(bar.caption() for bar in self.bars), "sum = score"], [*values, total])]

    def to_json(self) -> dict[str, Any]:
        """Return it in types of JSON, unrounded."""
        return {
            "row": self.row,
            "col": self.col,
            "centre_um": list(self.centre_um),
            "map": self.map,
            "target": self.target,
            "concept": self.concept,
            "score": self.score,
            "parts": [_bar_to_json(bar) for bar in self.bars],
            "problem": self.problem,
        }


@dataclass(frozen=True)
class RegionAnswer:
    """What a region is worth.

    Attributes
    ----------
    name
        What people call it.
    map, target
        Which map, and the class that it looks for.
    n_tokens
        Tokens in it.
    area_mm2
        Of these tokens, each counted as one cell of the grid.
    total, mean
        Of their scores.
    bars
        One for each concept of its tokens, the largest absolute value first; they add up to `total`.
    """

    name: str
    map: str
    target: str
    n_tokens: int
    area_mm2: float
    total: float
    mean: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Comparison:
    """Two regions side by side; either may be missing."""

    first: RegionAnswer | None = None
    second: RegionAnswer | None = None

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the rows of the table: what, and its value in either region, "" where there is none."""
        both = (self.first, self.second)
        texts = {
            "tokens": ["" if one is None else f"{one.n_tokens:,}" for one in both],
            "area": ["" if one is None else _area_text(one.area_mm2) for one in both],
            "sum of scores": ["" if one is None else shown_values([], one.total)[1] for one in both],
            "mean score": ["" if one is None else shown_values([], one.mean)[1] for one in both],
        }
        return [(what, first, second) for what, (first, second) in texts.items()]

    def concepts(self) -> list[tuple[Bar | None, Bar | None]]:
        """Return the bars of each concept in either region, the largest share of a mean first."""
        found: dict[int, list[Bar | None]] = {}
        weights: dict[int, float] = {}
        for place, one in enumerate((self.first, self.second)):
            for bar in () if one is None else one.bars:
                found.setdefault(bar.concept, [None, None])[place] = bar
                assert one is not None
                weights[bar.concept] = max(weights.get(bar.concept, 0.0), abs(bar.value) / one.n_tokens)
        order = sorted(found, key=lambda concept: (-weights[concept], concept))
        return [(found[concept][0], found[concept][1]) for concept in order]

    def lines(self) -> list[str]:
        """Return it as plain text."""
        lines = []
        for letter, one in (("A", self.first), ("B", self.second)):
            if one is not None:
                values, total = shown_values([bar.value for bar in one.bars], one.total)
                lines += [
                    f"Region {letter}: {one.name}; {one.map} for {one.target}",
                    f"  {one.n_tokens:,} tokens, {_area_text(one.area_mm2)}; mean score "
                    f"{shown_values([], one.mean)[1]}; sum of scores by concept:",
                    *_columns([*(bar.caption() for bar in one.bars), "sum of scores"], [*values, total]),
                ]
        return lines


def answer_token(
    head: ProspectorHead,
    graph: TokenGraph,
    token: int,
    geometry: GridGeometry,
    place: tuple[int, int],
    map: str | None = None,
    target: Hashable | None = None,
    score: float | None = None,
) -> TokenAnswer:
    """Say why a token has its score.

    Parameters
    ----------
    head, graph, map, target
        As in `ProspectorHead.prospect`.
    token
        Number of the token.
    geometry, place
        Of the grid, and (row, col) of the token in it.
    score
        Of the token where it is known: a map that cannot be split is not drawn again then.

    Raises
    ------
    InvalidInputError
        As `split_score`, but for a map that cannot be split: that is part of the answer.
    """
    name = head.map_name(map)
    looked_for = str(head.target_ if target is None else target)
    row, col = (int(number) for number in place)
    centre = tuple(float(at) for at in geometry.centre_um(row, col))
    edits = head.concept_edits_
    about = (row, col, (centre[0], centre[1]), name, looked_for)
    problem = unsplittable(head, name)
    if problem is not None:
        concept = int(head.quantizer_.predict(graph.embeddings[[token]])[0])
        value = float(head.prospect(graph, name, target)[token]) if score is None else score
        return TokenAnswer(*about, edits.name(concept), value, (), problem)
    split = split_score(head, graph, token, name, target)
    own = _bars(edits, [ConceptPart(split.concept, 1, split.own)], is_own=True)
    bars = (*own, *_bars(edits, split.parts))
    return TokenAnswer(*about, edits.name(split.concept), split.score, bars)


def answer_region(
    head: ProspectorHead,
    geometry: GridGeometry,
    scores: ArrayLike,
    concepts: ArrayLike,
    name: str,
    map: str,
    target: str,
) -> RegionAnswer:
    """Say what a region is worth.

    Parameters
    ----------
    head
        That found the concepts.
    geometry
        Of the grid.
    scores, concepts
        Shape (n,), of the tokens of the region; concepts as they were learned.
    name
        What people call the region.
    map, target
        Whose scores these are.

    Raises
    ------
    InvalidInputError
        There is no token.
    """
    edits = head.concept_edits_
    numbers = np.asarray(concepts)
    if not numbers.size:
        raise InvalidInputError(
            f"{name} holds no token. A token counts if more than half of its tile ({geometry.tile} px) lies in the"
            " region and it is tissue: choose a larger one."
        )
    value = region_parts(map, scores, edits.merged(numbers))
    area = value.n_tokens * (geometry.stride * geometry.slide_mpp / 1000) ** 2
    return RegionAnswer(name, map, target, value.n_tokens, area, value.total, value.mean, _bars(edits, value.parts))


def shown_values(values: Sequence[float], total: float | None = None) -> tuple[list[str], str]:
    """Round numbers for people, so that what they read adds up.

    Parameters
    ----------
    values
        Finite.
    total
        Their sum; None: it is taken here.

    Returns
    -------
    tuple
        A text for each value, less than one unit of the last digit away from it, and one for the sum: the nearest. The
        texts of values add up to the text of the sum. The largest has three digits.

    Examples
    --------
    >>> shown_values([0.4444, 0.4444, 0.4444])
    (['+0.44', '+0.45', '+0.44'], '+1.33')
    """
    whole = math.fsum(values) if total is None else total
    largest = max((abs(value) for value in (*values, whole)), default=0.0)
    exponent = math.floor(math.log10(largest)) if largest else 0
    # a float holds 10**308 at most
    decimals = min(max(0, _DIGITS - 1 - exponent), 300)
    units = [value * 10**decimals for value in values]
    want = round(whole * 10**decimals)
    counts = [math.floor(unit) for unit in units]
    missing = want - sum(counts) if values else 0
    # who lost most by rounding down gets a unit back
    order = sorted(range(len(units)), key=lambda number: (counts[number] - units[number], -number))
    for number in order[: max(missing, 0)]:
        counts[number] += 1
    return [_text(count, decimals) for count in counts], _text(want, decimals)


def _text(count: int, decimals: int) -> str:
    """Return ``count / 10**decimals`` as text; 0 has no sign."""
    if decimals > _MOST_DECIMALS:
        shift = decimals - _DIGITS + 1
        return f"{Decimal(count).scaleb(1 - _DIGITS):{'+' if count else ''}.{_DIGITS - 1}f}e-{shift:02d}"
    return f"{Decimal(count).scaleb(-decimals):{'+' if count else ''}f}"


def _bars(edits: ConceptEdits, parts: Iterable[ConceptPart], is_own: bool = False) -> tuple[Bar, ...]:
    """Give parts names and colours."""
    colors = np.rint(edits.colors() * 255).astype(int)
    return tuple(
        Bar(
            part.concept,
            edits.name(part.concept),
            (int(colors[part.concept][0]), int(colors[part.concept][1]), int(colors[part.concept][2])),
            part.n_tokens,
            part.value,
            is_own,
            part.concept in edits.hidden,
        )
        for part in parts
    )


def _bar_to_json(bar: Bar) -> dict[str, Any]:
    """Return a bar in types of JSON."""
    return {
        "concept": bar.concept,
        "name": bar.name,
        "own": bar.is_own,
        "hidden": bar.is_hidden,
        "n_tokens": bar.n_tokens,
        "value": bar.value,
    }


def _columns(names: Sequence[str], values: Sequence[str]) -> list[str]:
    """Return names, and values below each other."""
    width, most = max(map(len, names)), max(map(len, values))
    return [f"  {name:<{width}}  {value:>{most}}" for name, value in zip(names, values, strict=True)]


def _area_text(area_mm2: float) -> str:
    """Return an area for people."""
    if area_mm2 < 0.01:
        return f"{area_mm2 * 1e6:,.0f} µm²"
    return f"{area_mm2:,.{2 if area_mm2 < 100 else 0}f} mm²"
