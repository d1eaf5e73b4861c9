"""Can this work start? Looked at before hours are spent: versions, weights, memory, device, disk and slides.

Each check is one small function that gives `Check`s and raises nothing; nothing is downloaded or kept. What a check
looks at is what the work itself will use, so that green here means that the same thing was done once already.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_prospector import __version__
from napari_prospector.errors import NetworkError, ProspectorError, StoreBusyError
from napari_prospector.tokens.encoders.cards import encoder_card, load_encoder
from napari_prospector.tokens.encoders.encodercard import EncoderCard, EncoderOptions

if TYPE_CHECKING:
    from napari_prospector.tokens.encoders.hub import HubSource
    from napari_prospector.tokens.slides import Slide

__all__ = ["Check", "SlideToCheck", "Verdict", "examine"]

Verdict = Literal["green", "amber", "red"]

_PACKAGES = ("numpy", "zarr", "tifffile", "torch", "timm", "huggingface-hub", "safetensors", "openslide-python")
# What embedding needs beside the model: tiles read ahead, a batch at work, a block of the store.
_BESIDE_BYTES = 1_500_000_000
_COARSER = 1.5
_STATED_OFF = 0.05


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes
    ----------
    name
        What was looked at, such as "weights" or the name of a slide.
    verdict
        "green": it works; "amber": it works, but look at this; "red": the work would fail.
    sentence
        What was found.
    remedy
        What to do; empty where nothing is.
    """

    name: str
    verdict: Verdict
    sentence: str
    remedy: str = ""


@dataclass(frozen=True)
class SlideToCheck:
    """A slide file, and its pixel size where that is passed."""

    path: Path
    mpp: float | None = None


def examine(
    encoder: str = "stain-texture",
    slides: Sequence[SlideToCheck] = (),
    out: Path | None = None,
    options: EncoderOptions | None = None,
    *,
    stride_px: int | None = None,
    min_coverage: float = 0.25,
) -> Iterator[Check]:
    """Look at everything that embedding these slides with this encoder needs; nothing is downloaded or kept.

    Parameters
    ----------
    encoder
        Its name.
    slides
        To embed; may be none.
    out
        Where the token grids would go; it need not exist. None: not looked at.
    options
        Of the encoder, from `checked_options`.
    stride_px, min_coverage
        As for `embed_slide`.

    Yields
    ------
    Check
        As soon as it is known, the quick ones first.

    Examples
    --------
    >>> [check.verdict for check in examine("stain-texture") if check.name == "weights"]
    ['green']
    """
    asked = options or EncoderOptions()
    yield _versions()
    try:
        card = encoder_card(encoder)
        card = replace(card, tile_px=asked.tile_px or card.tile_px, mpp=asked.mpp or card.mpp)
    except ProspectorError as problem:
        yield _red("encoder", problem)
        return
    yield _encoder(card)
    model = _Model()
    yield from _weights(card, asked, model)
    yield from _machine(card, asked, model)
    n_tokens = 0
    for slide in slides:
        check, found = _slide(slide, card, stride_px, min_coverage)
        n_tokens += found
        yield check
    if out is not None:
        yield from _folder(out, n_tokens, card.n_dims or model.n_dims)


@dataclass
class _Model:
    """What is found out about an architecture without weights on the way."""

    n_parameters: int | None = None
    n_dims: int | None = None
    torch_model: Any = field(default=None, repr=False)


def _versions() -> Check:
    """Name the versions that a report of a problem should hold."""
    found = []
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("versions", "green", f"napari-prospector {__version__}, {python}; {', '.join(found)}.")


def _encoder(card: EncoderCard) -> Check:
    """Say what the card says, and what it could not."""
    sentence = f"{card.name} takes tiles of {card.tile_px} px at {card.mpp:g} µm; licence {card.licence or 'not known'}"
    if card.gated:
        sentence += ", granted on request"
    if unknown := [name for name in card.unverified if name != "revision"]:
        return Check(
            "encoder", "amber", f"{sentence}.", f"Not verified for its card: {', '.join(unknown)}. Look at its page."
        )
    return Check("encoder", "green", f"{sentence}.")


def _weights(card: EncoderCard, options: EncoderOptions, model: _Model) -> Iterator[Check]:
    """Look for the weights: in a file or folder, in the cache, or by asking the hub for nothing but the size."""
    if card.loader == "stain-texture":
        model.n_dims = load_encoder(card.name, tile_px=card.tile_px, mpp=card.mpp).card.n_dims
        yield Check("weights", "green", f"{card.name} needs no weights.")
        return
    if card.loader != "timm":
        sentence = f"{card.name} is loaded by another package; what it needs is not known here."
        yield Check("weights", "amber", sentence, "See the documentation of that package.")
        return
    from napari_prospector.tokens.encoders.timm_tiles import model_without_weights
    from napari_prospector.tokens.encoders.weights import fitting_tensors, local_weights, source_of

    try:
        model.torch_model = model_without_weights(card, options)
        model.n_parameters = sum(part.numel() for part in model.torch_model.parameters())
        model.n_dims = int(model.torch_model.num_features)
        if None in (options.mean or card.mean, options.std or card.std):
            yield Check(
                "normalization", "red", f"mean and std of {card.name} are unknown.", "Pass mean=… and std=… (--mean)."
            )
        if options.weights is not None:
            found = local_weights(card, options.weights)
            fitting_tensors(model.torch_model, found, card.name, card.layout)
            yield Check("weights", "green", f"{found.name} fits {card.name}; sha256 {found.sha256[:12]}…")
            return
        source = source_of(card, options.revision)
        if source is None:
            yield Check(
                "weights",
                "red",
                f"{card.name} needs weights, and its card names no repository that has them.",
                f"Pass weights=FILE (--weights), a local .safetensors file of {card.source}.",
            )
            return
        yield from _hub_weights(source, card, options.offline)
    except ProspectorError as problem:
        yield _red("weights", problem)


def _hub_weights(source: HubSource, card: EncoderCard, offline: bool) -> Iterator[Check]:
    """Look for weights in the cache, else ask the hub with HEAD requests whether they may be read."""
    from napari_prospector.tokens.encoders import hub

    offline = offline or hub.is_offline()
    state = "offline: nothing is asked or downloaded" if offline else f"to be asked: {source.page}"
    yield Check("network", "green", f"The hub is {state}; its cache is {hub.cache_folder()}.")
    if (found := hub.cached(source)) is not None:
        yield Check("weights", "green", f"{found.filename} of {source.repo_id} is in the cache, {found.commit[:12]}.")
        return
    if offline:
        raise hub.offline_error(source)
    try:
        asked = hub.ask(source)
    except NetworkError as problem:
        yield _red("weights", problem)
        return
    hub.check_room(asked)
    access = "The licence is accepted and the hub" if card.gated else "The hub"
    sentence = f"{access} lets {asked.filename} of {source.repo_id} be read, {hub.readable_size(asked.n_bytes)}"
    if source.revision is None:
        yield Check(
            "weights",
            "amber",
            f"{sentence}; its card pins no revision, so main is taken, now {asked.commit[:12]}.",
            f"To stay with it pass revision={asked.commit!r} (--revision).",
        )
    else:
        yield Check("weights", "green", f"{sentence}; it is downloaded when it is first used.")


def _machine(card: EncoderCard, options: EncoderOptions, model: _Model) -> Iterator[Check]:
    """Look at device and memory."""
    if card.loader != "timm":
        place = "runs on the CPU" if card.loader == "stain-texture" else "runs where its package says"
        yield Check("device", "green", f"{card.name} {place}; {os.cpu_count()} cores.")
        return
    import torch

    from napari_prospector.tokens.encoders.torch_encoder import checked_device

    try:
        device = checked_device(options.device)
    except ProspectorError as problem:
        yield _red("device", problem)
        return
    free = _available_bytes()
    if device.startswith("cuda"):
        free = int(torch.cuda.mem_get_info(device)[0])
        name = torch.cuda.get_device_name(device)
        yield Check("device", "green", f"{device}: {name}, half precision by autocast.")
    elif device == "mps":
        yield Check("device", "green", "mps: the GPU of this Mac.")
    else:
        yield Check(
            "device",
            "amber",
            f"cpu: {os.cpu_count()} cores, single precision; torch {torch.__version__} sees no GPU that is used.",
            "See how long it would take: prospect embed … --estimate.",
        )
    if model.n_parameters is not None:
        yield _memory(card.name, model.n_parameters, free)


def _memory(name: str, n_parameters: int, free: int | None) -> Check:
    """Hold the memory that a model needs against what is free."""
    from napari_prospector.tokens.encoders.hub import readable_size

    needed = 4 * n_parameters + _BESIDE_BYTES
    sentence = f"{name} has {n_parameters / 1e6:,.0f} million parameters: about {readable_size(needed)} are needed"
    if free is None:
        return Check("memory", "amber", f"{sentence}; how much is free, the system does not tell.")
    sentence = f"{sentence}, {readable_size(free)} are free."
    if free < needed:
        return Check("memory", "red", sentence, "Close other programs, or take a smaller encoder.")
    return Check("memory", "green", sentence)


def _available_bytes() -> int | None:
    """Return how much memory this process may still take; None where the system does not tell."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    # a container or a job of a cluster may take less than the machine has
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        found.append(int(limit) - int(used))
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


def _slide(asked: SlideToCheck, card: EncoderCard, stride_px: int | None, min_coverage: float) -> tuple[Check, int]:
    """Open a slide, find its tissue and count its tokens."""
    from napari_prospector.tokens.embed import default_mask_mpp
    from napari_prospector.tokens.estimate import count_tokens
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.tissue import tissue_mask

    name = asked.path.name
    try:
        with open_slide(asked.path, mpp=asked.mpp) as slide:
            slide.require_mpp()
            mask = tissue_mask(slide, default_mask_mpp(slide))
            n_tiles, n_tokens = count_tokens(slide, card, mask, stride_px, min_coverage)
            sentence = _described(slide, mask.share, n_tiles)
            if n_tokens == 0:
                remedy = "Lower min_coverage (--min-coverage) or the threshold of tissue (--tissue-threshold)."
                return Check(name, "red", f"{sentence} {mask.note}", remedy), 0
            return _pixel_size(slide, asked, card, sentence), n_tokens
    except ProspectorError as problem:
        return _red(name, problem), 0


def _described(slide: Slide, share: float, n_tiles: int) -> str:
    """Say what a slide is."""
    rows, cols = slide.shape
    return (
        f"{slide.format}, {cols:,} x {rows:,} px at {slide.require_mpp():.4g} µm, tissue on {100 * share:.0f} %:"
        f" {n_tiles:,} tiles."
    )


def _pixel_size(slide: Slide, asked: SlideToCheck, card: EncoderCard, sentence: str) -> Check:
    """Judge the pixel size of a slide that can be embedded."""
    from napari_prospector.tokens.slides import open_slide

    mpp = slide.require_mpp()
    if asked.mpp is not None:
        with open_slide(asked.path) as as_stated:
            stated = as_stated.mpp
        if stated is not None and abs(stated / mpp - 1) > _STATED_OFF:
            said = f"{sentence} The file itself states {stated:.4g} µm."
            return Check(
                slide.name, "amber", said, "Make sure that the pixel size that was passed is right; it is used."
            )
    if mpp > card.mpp * _COARSER:
        said = f"{sentence} It was scanned coarser than {card.name} wants ({card.mpp:g} µm): tiles are enlarged."
        return Check(slide.name, "amber", said, "Expect less of it, or choose --tile-mpp near the slide's pixel size.")
    return Check(slide.name, "green", sentence)


def _folder(out: Path, n_tokens: int, n_dims: int | None) -> Iterator[Check]:
    """Try to write and to lock where the token grids would go, and compare the space with what they need."""
    from napari_prospector.tokens.durable import WriterLock
    from napari_prospector.tokens.encoders.hub import readable_size

    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".prospect-doctor-", dir=place) as folder:
            lock = Path(folder) / "trial.lock"
            with WriterLock(lock, lock):
                yield _second_lock(lock, out)
    except ProspectorError as problem:
        yield _red("folder", problem)
        return
    except OSError as error:
        yield Check("folder", "red", f"{out} cannot be written to: {error.strerror}.", "Choose another folder with -o.")
        return
    free = shutil.disk_usage(place).free
    if n_tokens == 0:
        yield Check("disk", "green", f"{readable_size(free)} are free at {out}.")
        return
    if n_dims is None:
        yield Check(
            "disk", "amber", f"{readable_size(free)} are free at {out}; how long an embedding is, is not known."
        )
        return
    needed = n_tokens * n_dims * 2
    sentence = f"The token grids need about {readable_size(needed)}; {readable_size(free)} are free at {out}."
    if free < needed:
        yield Check("disk", "red", sentence, "Free space there, or choose another folder with -o.")
    else:
        yield Check("disk", "green", sentence)


def _second_lock(lock: Path, out: Path) -> Check:
    """See whether a lock that is held keeps a second writer away."""
    from napari_prospector.tokens.durable import WriterLock

    try:
        with WriterLock(lock, lock):
            return Check(
                "folder",
                "red",
                f"The file system of {out} lets two programs write one store at once: its locks do not hold.",
                "Choose a folder on another file system, or make sure that no two jobs embed the same slide.",
            )
    except StoreBusyError:
        return Check("folder", "green", f"{out} can be written to, and locks hold there.")


def _red(name: str, problem: ProspectorError) -> Check:
    """Return the check of an error: its first sentence says what is wrong, the others what to do."""
    sentence, dot, remedy = str(problem).partition(". ")
    return Check(name, "red", sentence + dot.strip(), remedy)
