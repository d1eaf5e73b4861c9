"""From what was asked to a job or a refusal: frozen records and one pure function, without Qt and without napari."""

from __future__ import annotations

import hashlib
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector._napari.progress import Refusal
from napari_prospector._napari.settings import IN_CACHE, IN_FOLDER, settings

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.tokens.slides import Slide

__all__ = [
    "MAPS",
    "Facts",
    "ProspectJob",
    "ProspectRequest",
    "Refusal",
    "cache_folder",
    "content_tokens_path",
    "default_tokens_path",
    "encoder_of",
    "head_caption",
    "other_tokens_paths",
    "plan",
    "standard_tiles",
]

# written out: core.classkernels, where the names live, imports scikit-learn, and the panel is to open at once
MAPS = ("evidence", "decision", "refined")
MPP_RANGE = (0.05, 20.0)
# pixel sizes that differ by less are one, written with fewer digits
SAME_MPP = 1e-3
TOKENS_SUFFIX = ".tokens.zarr"


@dataclass(frozen=True)
class ProspectRequest:
    """What the user asked for, as the fields of the panel say it.

    Attributes
    ----------
    layer
        Name of the chosen layer, a slide or a token grid; None if nothing is open.
    kind
        ``"slide"`` or ``"tokens"``.
    path
        File of the slide, or folder of the token grid; None if the layer was not read from one: its arrays count.
    head
        The head's file.
    map, target
        Which map, for which class; None is the head's own choice: its best map, its own class.
    mpp
        Width of a level-0 pixel in µm as typed; None where the slide's own counts.
    tokens
        Folder of the slide's token grid; None is `default_tokens_path`.
    weights
        The encoder's weight file.
    """

    layer: str | None = None
    kind: str = "slide"
    path: Path | None = None
    head: Path | None = None
    map: str | None = None
    target: str | None = None
    mpp: float | None = None
    tokens: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Facts:
    """What is known about the things that a request names.

    Attributes
    ----------
    slide_mpp
        Pixel size that the slide states, or was opened with.
    head
        The loaded head; None while it loads or if it could not be.
    head_problem
        Why it could not be loaded.
    """

    slide_mpp: float | None = None
    head: ProspectorHead | None = None
    head_problem: str | None = None


@dataclass(frozen=True)
class ProspectJob:
    """Everything that is needed to draw a map; nothing is asked any more.

    Attributes
    ----------
    layer
        Name of the layer that the map is for; the map's layers are named after it.
    slide
        File of the slide; None where the tokens are all there is.
    mpp
        Pixel size to use, the file's own or what was asked for in its place.
    tokens
        Folder of the token grid, there or to be made.
    also_look_in
        Where else a finished grid of the slide may lie, if there is none at `tokens`.
    is_array
        Whether the slide is the arrays of its layer: `array` must be given before the job is done.
    array
        These.
    by_content
        Whether `tokens` is a folder in which the grid is named by the slide's content (`content_tokens_path`).
    head, head_name
        The head, and its file's name.
    map, target
        Which map, for which class.
    weights
        The encoder's weight file.
    """

    layer: str
    slide: Path | None
    mpp: float | None
    tokens: Path
    head: ProspectorHead
    head_name: str
    map: str
    target: str | None
    weights: Path | None
    also_look_in: tuple[Path, ...] = ()
    is_array: bool = False
    array: Slide | None = None
    by_content: bool = False


def plan(request: ProspectRequest, facts: Facts) -> ProspectJob | Refusal:
    """Turn a request into a job, or say what is missing.

    Parameters
    ----------
    request
        What was asked.
    facts
        What is known about it.

    Returns
    -------
    ProspectJob or Refusal
    """
    if request.layer is None:
        return Refusal("Open a slide: drop its file on the viewer.")
    if request.head is None:
        return Refusal("Choose a head, a *.prospector file, or make one under 'Fit'.")
    if facts.head is None:
        return Refusal(facts.head_problem or f"{request.head.name} is being loaded.")
    refusal = _refuse_choice(request, facts.head) or _refuse_pixel_size(request, facts)
    if refusal is not None:
        return refusal
    job = ProspectJob(
        layer=request.layer,
        slide=None,
        mpp=None,
        tokens=request.path or cache_folder(),
        head=facts.head,
        head_name=request.head.name,
        map=request.map or facts.head.best_map_,
        target=request.target,
        weights=request.weights,
    )
    if request.kind == "tokens":
        return job
    job = replace(job, slide=request.path, mpp=request.mpp or facts.slide_mpp)
    if request.path is None:
        tokens = request.tokens or cache_folder() / "tokens"
        return replace(job, is_array=True, tokens=tokens, by_content=request.tokens is None)
    if request.tokens is not None:
        return replace(job, tokens=request.tokens)
    default = default_tokens_path(request.path, encoder_of(facts.head))
    return replace(job, tokens=default, also_look_in=other_tokens_paths(request.path))


def _refuse_choice(request: ProspectRequest, head: ProspectorHead) -> Refusal | None:
    """Refuse a map or a class that the head does not have."""
    if request.map is not None and request.map not in head.maps_:
        known = ", ".join(head.maps_)
        if request.map in MAPS:
            return Refusal(f"This head draws no {request.map} map; choose one of {known}.")
        return Refusal(f"This head draws {known}; got {request.map!r}.")
    classes = [str(name) for name in head.classes_]
    if request.target is not None and request.target not in classes:
        return Refusal(f"{request.target!r} is no class of this head; it knows {', '.join(classes)}.")
    if request.target is None and len(classes) > 2:
        return Refusal(f"Choose the class to look for: {', '.join(classes)}.")
    return None


def _refuse_pixel_size(request: ProspectRequest, facts: Facts) -> Refusal | None:
    """Refuse a slide without a pixel size, or with one that cannot be."""
    if request.kind != "slide":
        return None
    low, high = MPP_RANGE
    if request.mpp is not None and not low <= request.mpp <= high:
        return Refusal(f"A pixel size lies between {low} and {high} µm; got {request.mpp:g}. Correct 'Pixel size'.")
    if request.mpp is None and facts.slide_mpp is None:
        name = f"Layer {request.layer!r}" if request.path is None else request.path.name
        return Refusal(f"{name} states no pixel size. Fill in 'Pixel size', the width of a pixel in µm.")
    return None


def encoder_of(head: ProspectorHead) -> Mapping[str, Any]:
    """Return the card of the encoder that a head was fitted on; empty where the head does not say."""
    card = head.card_.get("encoder") or {}
    return card if isinstance(card, Mapping) else {}


def head_caption(head: ProspectorHead) -> str:
    """Return what the user sees of a head."""
    card = encoder_of(head)
    classes = [str(name) for name in head.classes_]
    parts = [" / ".join(classes), f"{head.quantizer_.n_concepts_} concepts, radius {head.radius_}"]
    if "name" in card:
        parts.append(f"{card['name']}, tiles of {card.get('tile_px', '?')} px at {card.get('mpp', '?')} µm")
    parts.append(f"best map: {head.best_map_}")
    if not head.is_calibrated_:
        parts.append("probabilities not calibrated")
    return " · ".join(parts)


def default_tokens_path(slide: Path, encoder: Mapping[str, Any]) -> Path:
    """Return where the tokens of a slide are kept unless the user says otherwise.

    As the settings have it, or where they are already: beside the slide, so that they are found again from anywhere,
    in a folder of the user's, or in the cache, which also serves where a folder cannot be written to. The encoder, its
    kind of tokens, its stain normalization, and a size of tiles that is not its own are part of the name: two encoders
    on one slide are two grids.

    Parameters
    ----------
    slide
        The slide's file.
    encoder
        The encoder's card.

    Returns
    -------
    Path
        A folder ``NAME.ENCODER.tokens.zarr``.
    """
    name = _grid_name(slide.name, encoder)
    kept = settings()
    # two folders may hold slides of one name
    own = hashlib.sha256(os.fsencode(slide.parent)).hexdigest()[:12]
    beside, cached = slide.parent / name, cache_folder() / "tokens" / own / name
    wanted = beside if beside.exists() or os.access(slide.parent, os.W_OK) else cached
    if kept.tokens == IN_CACHE:
        wanted = cached
    elif kept.tokens == IN_FOLDER and kept.tokens_folder:
        wanted = Path(kept.tokens_folder).expanduser() / own / name
    return next((place for place in (wanted, beside, cached) if place.exists()), wanted)


def content_tokens_path(folder: Path, fingerprint: str, encoder: Mapping[str, Any]) -> Path:
    """Return where the tokens of a slide without a file are kept: named by its content, whatever its layer is called.

    Parameters
    ----------
    folder
        For all of them.
    fingerprint
        Of the slide.
    encoder
        The encoder's card.
    """
    return folder / "layers" / fingerprint[:24] / _grid_name("layer", encoder)


def _grid_name(slide: str, encoder: Mapping[str, Any]) -> str:
    """Return the name of a token grid's folder: two encoders on one slide are two grids."""
    safe_encoder = re.sub(r"[^\w.-]+", "-", str(encoder.get("name", "")))
    normalized, finer = str(encoder.get("stain_normalize") or ""), _finer(encoder)
    return ".".join(part for part in (slide, safe_encoder, finer, normalized) if part) + TOKENS_SUFFIX


def _finer(encoder: Mapping[str, Any]) -> str:
    """Return the part of a token grid's name that tells tokens from those of whole tiles of the encoder's own size."""
    projection = encoder.get("projection") or {}
    words = ["patch"] if encoder.get("tokens") == "patch" else []
    words += _other_size(encoder)
    words += [f"overlap{encoder['overlap_px']}"] if encoder.get("overlap_px") else []
    if projection:
        words.append(
            f"{projection['kind']}{projection['n_dims']}-{str(projection['sha256'] or projection['seed'])[:8]}"
        )
    return "-".join(words)


def _other_size(encoder: Mapping[str, Any]) -> list[str]:
    """Return words for tiles of another size than a built-in encoder's own; of others we do not know their own."""
    standard = standard_tiles(str(encoder.get("name", "")))
    if standard is None:
        return []
    tile_px, mpp = encoder.get("tile_px") or standard[0], float(encoder.get("mpp") or standard[1])
    words = [] if tile_px == standard[0] else [f"{tile_px}px"]
    return words if math.isclose(mpp, standard[1], rel_tol=SAME_MPP) else [*words, f"{mpp:.4g}um"]


def standard_tiles(encoder: str) -> tuple[int, float] | None:
    """Return tile_px and mpp of a built-in encoder; None where the name is none of theirs."""
    from napari_prospector.tokens.encoders.general_cards import GENERAL_CARDS
    from napari_prospector.tokens.encoders.pathology_cards import PATHOLOGY_CARDS

    return next(((card.tile_px, card.mpp) for card in (*GENERAL_CARDS, *PATHOLOGY_CARDS) if card.name == encoder), None)


def other_tokens_paths(slide: Path) -> tuple[Path, ...]:
    """Return where `prospect embed` may have put the tokens of a slide: beside it, or in a ``tokens`` near it."""
    name = slide.name + TOKENS_SUFFIX
    return slide.parent / name, slide.parent / "tokens" / name, slide.parent.parent / "tokens" / name


def cache_folder() -> Path:
    """Return the folder for files that can be made again, as the system has it for each user."""
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "napari-prospector"
