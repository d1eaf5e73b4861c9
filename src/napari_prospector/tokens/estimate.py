"""How long an embedding will take and how large its stores will be, before it is started.

Tiles are counted on the tissue masks, which are cheap. The speed comes from a trial: the real embedding, for a few
seconds, of one slide of each format, into a folder that is removed. So reading, stain normalization, encoder and
store all count, as they share the cores of this machine.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_prospector.errors import InvalidInputError, ProspectorError, StorageError
from napari_prospector.tokens.embed import default_mask_mpp, embed_slide
from napari_prospector.tokens.encoders.cards import Encoder, EncoderCard
from napari_prospector.tokens.patches import TokenLayout
from napari_prospector.tokens.slides import Slide, open_slide
from napari_prospector.tokens.tissue import TissueMask, tissue_mask

__all__ = ["EmbeddingEstimate", "SlideEstimate", "count_tokens", "estimate_embedding", "estimate_steps"]

# The first batches of a trial compile, fill the queue of reads and find the batch size.
_LEAST_STEPS = 3


@dataclass(frozen=True)
class SlideEstimate:
    """What is expected of one slide; with an `error`, a sentence, the numbers are 0.

    Attributes
    ----------
    slide
        Its file name.
    n_tiles, n_tokens
        Tiles that are read and tokens that are stored, those with enough tissue: exact. Patch tokens are many a tile.
    n_bytes
        Of its embeddings before compression, which wins little; masks and quality measures add a little.
    seconds
        To embed it on this machine.
    """

    slide: str
    n_tiles: int
    n_tokens: int
    n_bytes: int
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class EmbeddingEstimate:
    """What is expected of many slides.

    Attributes
    ----------
    slides
        One each, in the order given.
    tokens_per_second
        Measured, by the slides' format.
    encoder
        Its name.
    is_untrained
        Whether random weights stood for the real ones.
    """

    slides: tuple[SlideEstimate, ...]
    tokens_per_second: Mapping[str, float]
    encoder: str
    is_untrained: bool

    @property
    def n_tiles(self) -> int:
        """Tiles of all slides."""
        return sum(slide.n_tiles for slide in self.slides)

    @property
    def n_tokens(self) -> int:
        """Tokens of all slides."""
        return sum(slide.n_tokens for slide in self.slides)

    @property
    def n_bytes(self) -> int:
        """Bytes of the embeddings of all slides."""
        return sum(slide.n_bytes for slide in self.slides)

    @property
    def seconds(self) -> float:
        """Time for all slides, one after the other."""
        return sum(slide.seconds for slide in self.slides)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        totals = {name: getattr(self, name) for name in ("n_tiles", "n_tokens", "n_bytes", "seconds")}
        return asdict(self) | {"total": totals}


@dataclass(frozen=True)
class _Trial:
    """The speed of one format: seconds before the first tile, and tokens per second from then on."""

    setup_seconds: float
    tokens_per_second: float


def estimate_embedding(
    slides: Iterable[Slide | str | Path],
    encoder: Encoder,
    *,
    mpps: Iterable[float | None] = (),
    tissue: Mapping[str, Any] | None = None,
    seconds: float = 4.0,
    report: Callable[[SlideEstimate], None] | None = None,
    **options: Any,
) -> EmbeddingEstimate:
    """Estimate what `embed_slide` would do, without leaving anything behind.

    Parameters
    ----------
    slides
        Slides, or their paths; one that cannot be embedded becomes an entry with its error.
    encoder
        From `load_encoder`; or from `untrained_encoder`, which is as fast and needs no weights.
    mpps
        Pixel sizes of slides given by path, in order, where the files state none.
    tissue
        Keywords of `tissue_mask`; None for its defaults.
    seconds
        Length of the trial of each format. A trial that ends in the middle of a batch waits for it.
    report
        Called with each slide once it has been looked at.
    **options
        Keywords of `embed_slide`: `stride_px`, `min_coverage`, `stain_normalize`, `dtype`.

    Returns
    -------
    EmbeddingEstimate
        Tiles are exact; the time is that of this machine as busy as it is now.

    Raises
    ------
    InvalidInputError
        `seconds` is not above 0.
    StorageError
        The folder for temporary files cannot be written to.

    Examples
    --------
    >>> from napari_prospector import load_encoder
    >>> estimate = estimate_embedding(["case7.svs"], load_encoder("stain-texture"))  # doctest: +SKIP
    >>> estimate.n_tiles, estimate.seconds / 3600, estimate.n_bytes / 1e9  # doctest: +SKIP
    """
    steps = estimate_steps(slides, encoder, mpps=mpps, tissue=tissue, seconds=seconds, **options)
    while True:
        try:
            found = next(steps)
        except StopIteration as end:
            estimate: EmbeddingEstimate = end.value
            return estimate
        if report is not None:
            report(found)


def estimate_steps(
    slides: Iterable[Slide | str | Path],
    encoder: Encoder,
    *,
    mpps: Iterable[float | None] = (),
    tissue: Mapping[str, Any] | None = None,
    seconds: float = 4.0,
    **options: Any,
) -> Generator[SlideEstimate, None, EmbeddingEstimate]:
    """Do what `estimate_embedding` does, slide by slide; parameters, result and errors are the same.

    Yields
    ------
    SlideEstimate
        Each slide once it has been looked at.
    """
    if not seconds > 0:
        raise InvalidInputError(f"seconds must be above 0; got {seconds!r}. About 4 serves.")
    sizes = iter(mpps)
    trials: dict[str, _Trial] = {}
    found = []
    with _trial_folder() as folder:
        trial = partial(_try, encoder=encoder, folder=folder, seconds=seconds, options=options)
        for place in slides:
            mpp = next(sizes, None)
            try:
                with contextlib.nullcontext(place) if isinstance(place, Slide) else open_slide(place, mpp=mpp) as slide:
                    found.append(_estimate(slide, encoder.card, tissue, trials, trial, options))
            except ProspectorError as problem:
                name = place.name if isinstance(place, Slide) else Path(place).name
                found.append(SlideEstimate(name, 0, 0, 0, 0.0, str(problem)))
            yield found[-1]
    speeds = {name: trial.tokens_per_second for name, trial in trials.items()}
    is_untrained = encoder.card.loader == "timm" and encoder.card.weights_sha256 is None
    return EmbeddingEstimate(tuple(found), speeds, encoder.card.name, is_untrained)


def count_tokens(
    slide: Slide, card: EncoderCard, tissue: TissueMask, stride_px: int | None = None, min_coverage: float = 0.25
) -> tuple[int, int]:
    """Count the tiles of a slide that would be read, and the tokens that would be stored.

    Parameters
    ----------
    slide
        With a pixel size.
    card
        Of the encoder.
    tissue
        Of the slide.
    stride_px, min_coverage
        As for `embed_slide`.

    Returns
    -------
    tuple of int
        The same number twice with tile tokens.

    Raises
    ------
    PixelSizeError
        The slide states no pixel size.
    InvalidInputError
        A tile is larger than the slide.
    """
    layout = TokenLayout.of_card(slide.shape, slide.require_mpp(), card, stride_px)
    tokens = np.asarray(layout.coverage(tissue) >= min_coverage)
    return int(layout.tiles_with(tokens).sum()), int(tokens.sum())


def _estimate(
    slide: Slide,
    card: EncoderCard,
    tissue: Mapping[str, Any] | None,
    trials: dict[str, _Trial],
    trial_of: Callable[[Slide, TissueMask], _Trial],
    options: Mapping[str, Any],
) -> SlideEstimate:
    """Count the tiles of one slide, and try its format unless that was done."""
    start = time.perf_counter()
    mask = tissue_mask(slide, **({"mask_mpp": default_mask_mpp(slide)} | dict(tissue or {})))
    asked = {name: options[name] for name in ("stride_px", "min_coverage") if name in options}
    n_tiles, n_tokens = count_tokens(slide, card, mask, **asked)
    mask_seconds = time.perf_counter() - start
    if n_tokens == 0:
        return SlideEstimate(slide.name, 0, 0, 0, 0.0, f"No tile has enough tissue. {mask.note}")
    if slide.format not in trials:
        trials[slide.format] = trial_of(slide, mask)
    trial = trials[slide.format]
    n_bytes = n_tokens * (card.n_dims or 0) * np.dtype(options.get("dtype", "float16")).itemsize
    expected = mask_seconds + trial.setup_seconds + n_tokens / trial.tokens_per_second
    return SlideEstimate(slide.name, n_tiles, n_tokens, n_bytes, expected)


def _try(
    slide: Slide, mask: TissueMask, encoder: Encoder, folder: Path, seconds: float, options: Mapping[str, Any]
) -> _Trial:
    """Embed a slide for some seconds, and measure."""
    start = time.perf_counter()
    steps = embed_slide(slide, encoder, folder / "trial.tokens.zarr", tissue=mask, overwrite=True, **options)
    marks: list[tuple[float, int]] = []
    with contextlib.closing(steps) as running:  # type: ignore[type-var]
        for step in running:
            marks.append((time.perf_counter() - start, step.done))
            if marks[-1][0] - marks[0][0] >= seconds and len(marks) > _LEAST_STEPS:
                break
    # without the first batch, unless there is no other
    first, last = marks[1 if len(marks) > 2 else 0], marks[-1]
    return _Trial(marks[0][0], max(last[1] - first[1], 1) / max(last[0] - first[0], 1e-9))


@contextlib.contextmanager
def _trial_folder() -> Iterator[Path]:
    """Make a folder where the system keeps temporary files, and remove it in the end."""
    try:
        made = tempfile.TemporaryDirectory(prefix="prospect-estimate-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(
            f"The folder for temporary files {tempfile.gettempdir()} must be writable for a trial; the system says:"
            f" {error.strerror}. Name another one in TMPDIR."
        ) from error
    with made as folder:
        yield Path(folder)
