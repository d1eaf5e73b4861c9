"""Regions as napari draws them, and back: one closed path for each outer ring and each hole, exact both ways.

napari's coordinates are pixel centres, and 32-bit; a region's rings are corners, and 64-bit. So what nobody touched is
never read back: a region whose outlines are as they were drawn is the same object, and of a ring that was changed only
the points that moved are new.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import Region

__all__ = ["Change", "Match", "Outline", "matched", "outlines_of", "path_of", "read_back", "ring_of"]

Points = NDArray[np.float64]
Path = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outline:
    """One ring of a region, as it is drawn.

    Attributes
    ----------
    region
        Whose it is; None where a hand drew it and it is to be drawn anew.
    polygon, ring
        Which of its polygons, and which ring of that: 0 is the outer one.
    path
        Shape (n + 1, 2), closed: (row, col) of napari.
    """

    region: Region | None
    polygon: int
    ring: int
    path: Path


@dataclass(frozen=True)
class Change:
    """What a hand did to the outlines.

    Attributes
    ----------
    text
        In words, as the undo button says it.
    regions
        The regions as they are now.
    problem
        What could not be done, as a sentence; None where all was.
    """

    text: str
    regions: tuple[Region, ...]
    problem: str | None = None


def path_of(ring: Points) -> Path:
    """Return a ring (n, 2), from corner to corner, as a closed path of napari."""
    return (np.concatenate([ring, ring[:1]]) - 0.5).astype(np.float32)


def ring_of(path: Points | Path, before: Points | None = None) -> Points:
    """Return the ring (n, 2) that a path of napari's encloses; points that are as they were drawn are exact.

    Parameters
    ----------
    path
        Closed or not.
    before
        The ring that was drawn there.
    """
    points = np.asarray(path, dtype=np.float64)
    if len(points) > 1 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    ring = points + 0.5
    if before is None:
        return ring
    exact = {tuple(drawn): point for drawn, point in zip(path_of(before).tolist(), before, strict=False)}
    for number, point in enumerate(np.asarray(points, dtype=np.float32).tolist()):
        if (known := exact.get(tuple(point))) is not None:
            ring[number] = known
    return ring


def outlines_of(region: Region) -> list[Outline]:
    """Return the outlines of a region, in the order of its polygons and rings."""
    return [
        Outline(region, number, place, path_of(ring))
        for number, polygon in enumerate(region.polygons)
        for place, ring in enumerate(polygon)
    ]


@dataclass(frozen=True)
class Match:
    """What a path of the layer is.

    Attributes
    ----------
    number
        Which of the outlines that were drawn; None: a new one, by hand.
    is_copy
        Whether it is a copy of that outline.
    """

    number: int | None
    is_copy: bool = False


def matched(shown: Sequence[Outline], paths: Sequence[Path], ids: Sequence[int] | None) -> list[Match]:
    """Say what each path of a layer is.

    Parameters
    ----------
    shown
        The outlines as they were last known.
    paths
        Those of the layer, in the same order but for what was taken out or put in.
    ids
        What the layer says each one is, a number in `shown` or -1; None where that cannot be trusted.
    """
    if ids is None:
        ids = _by_content(shown, paths)
    seen: set[int] = set()
    found = []
    for number in ids:
        is_known = 0 <= number < len(shown)
        found.append(Match(number if is_known else None, is_known and number in seen))
        seen.add(number)
    return found


def _by_content(shown: Sequence[Outline], paths: Sequence[Path]) -> list[int]:
    """Find outlines again by their points, in order."""
    places: dict[bytes, list[int]] = {}
    for number, outline in reversed(list(enumerate(shown))):
        places.setdefault(outline.path.tobytes(), []).append(number)
    found = []
    for path in paths:
        same = places.get(np.asarray(path, dtype=np.float32).tobytes())
        found.append(same.pop() if same else -1)
    return found


def read_back(
    regions: Sequence[Region],
    shown: Sequence[Outline],
    paths: Sequence[Path],
    matches: Sequence[Match],
    make: Callable[[Points], Region],
) -> Change | None:
    """Read what a hand did to the outlines of a layer.

    Parameters
    ----------
    regions
        As they are known. Where one is another by now than the one that was drawn, the hand comes too late.
    shown
        The outlines as they were drawn.
    paths, matches
        The outlines as they are now, and what each is.
    make
        Makes a region of a ring that was drawn since.

    Returns
    -------
    Change or None
        None where nothing differs.
    """
    pairs = list(zip(matches, paths, strict=True))
    now = {match.number: path for match, path in pairs if match.number is not None and not match.is_copy}
    known = {region.id: region for region in regions}
    after: dict[str, Region | None] = {}
    problem = None
    for region, numbers in _touched(shown, now).items():
        if known.get(region.id) is not region:
            continue
        try:
            after[region.id] = _changed(region, {number: shown[number] for number in numbers}, now)
        except InvalidInputError as error:
            problem = str(error)
    drawn: list[Region] = _copies(shown, pairs)
    for match, path in pairs:
        if match.number is None:
            try:
                drawn.append(make(ring_of(path)))
            except InvalidInputError as error:
                problem = str(error)
    if not after and not drawn:
        return None if problem is None else Change("", tuple(regions), problem)
    kept = [after.get(region.id, region) for region in regions]
    return Change(_words(after, drawn), (*(region for region in kept if region is not None), *drawn), problem)


def _copies(shown: Sequence[Outline], pairs: Sequence[tuple[Match, Path]]) -> list[Region]:
    """Return the regions that are copies of others, with their holes."""
    copied: dict[str, dict[int, dict[int, Points]]] = {}
    origins: dict[str, Region] = {}
    for match, path in pairs:
        outline = shown[match.number] if match.is_copy and match.number is not None else None
        if outline is not None and outline.region is not None:
            origins[outline.region.id] = outline.region
            polygons = copied.setdefault(outline.region.id, {})
            polygons.setdefault(outline.polygon, {})[outline.ring] = ring_of(path)
    return [
        replace(origins[key], id=str(uuid.uuid4()), polygons=tuple(_in_order(rings) for rings in polygons.values()))
        for key, polygons in copied.items()
    ]


def _in_order(rings: Mapping[int, Points]) -> tuple[Points, ...]:
    """Return rings in the order of their numbers."""
    return tuple(rings[number] for number in sorted(rings))


def _touched(shown: Sequence[Outline], now: Mapping[int, Path]) -> dict[Region, list[int]]:
    """Return the regions of which an outline was changed or taken away, each with the numbers of all its outlines."""
    touched = {
        outline.region.id
        for number, outline in enumerate(shown)
        if outline.region is not None and (number not in now or not np.array_equal(now[number], outline.path))
    }
    found: dict[Region, list[int]] = {}
    for number, outline in enumerate(shown):
        if outline.region is not None and outline.region.id in touched:
            found.setdefault(outline.region, []).append(number)
    return found


def _changed(region: Region, shown: Mapping[int, Outline], now: Mapping[int, Path]) -> Region | None:
    """Return a region after its outlines changed; None where no outer ring is left.

    A hole that is too small to be one goes; so does a polygon whose outer ring does, with its holes.

    Raises
    ------
    InvalidInputError
        The region is locked, or encloses nothing any more.
    """
    if region.locked:
        raise InvalidInputError(f"{region.name or 'This region'} is locked. Unlock it before you change it.")
    polygons = [list(polygon) for polygon in region.polygons]
    gone: set[tuple[int, int]] = set()
    for number, outline in shown.items():
        place = outline.polygon, outline.ring
        if number not in now:
            gone.add(place)
        elif not np.array_equal(now[number], outline.path):
            ring = ring_of(now[number], region.polygons[outline.polygon][outline.ring])
            polygons[outline.polygon][outline.ring] = ring
            if len(np.unique(ring, axis=0)) < 3:
                gone.add(place)
    kept = [
        tuple(ring for place, ring in enumerate(polygon) if (number, place) not in gone)
        for number, polygon in enumerate(polygons)
        if (number, 0) not in gone
    ]
    return replace(region, polygons=tuple(kept)) if kept else None


def _words(after: Mapping[str, Region | None], drawn: Sequence[Region]) -> str:
    """Say what was done, as the undo button does."""
    if drawn:
        return f"Draw {drawn[0].label}" if len(drawn) == 1 else f"Draw {len(drawn)} regions"
    verb = "Delete" if None in after.values() else "Change"
    return f"{verb} a region" if len(after) == 1 else f"{verb} {len(after)} regions"
