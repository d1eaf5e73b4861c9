"""From paths to token grids, for every command that needs them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_prospector.cli.console import progress_bar, tell, tell_error
from napari_prospector.errors import InvalidInputError, MismatchError

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.cluster import AnyClient
    from napari_prospector.study.embed_cohort import Embedded, SlideJob
    from napari_prospector.tokens.embed import EmbedProgress
    from napari_prospector.tokens.encoders.cards import Encoder

__all__ = [
    "check_names",
    "embed_slides",
    "encoder_from_options",
    "encoder_options_of",
    "encoder_words",
    "is_finished",
    "loading_options",
    "parse_model_args",
    "slide_jobs",
    "words_of_card",
]

# Pixel sizes that differ by less are one, written with fewer digits.
_SAME_MPP = 1e-3


def parse_model_args(words: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE words; a value that is a Python literal is taken as one, else as text."""
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidInputError(f"--model-args must be NAME=VALUE, such as img_size=224; got {word!r}.")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def encoder_keywords(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `load_encoder`, its name among them, that the options of `encoder_options` mean."""
    from napari_prospector.tokens.encoders.hub import is_offline

    if options.get("is_foreign"):
        raise InvalidInputError(
            f"This was made from imported features of {options['encoder']!r}, which napari-prospector did not extract "
            "itself. Extract those of new slides with the same tool, and take them in with prospect import."
        )
    if options.get("needs_file") and options["weights"] is None:
        raise InvalidInputError(
            f"This was made with weights of {options['encoder']!r} from a file, and no others will do."
            " Pass that file, --weights FILE."
        )
    return {
        "name": options["encoder"],
        "weights": options["weights"],
        "model_args": parse_model_args(options["model_args"]) or None,
        "mean": options["mean"] or None,
        "std": options["std"] or None,
        "tile_px": options["tile_px"],
        "mpp": options["tile_mpp"],
        "device": options["device"],
        "revision": options["revision"],
        "tokens": options.get("tokens") or "tile",
        "overlap_px": options.get("overlap") or 0,
        "projection": options.get("projection") or options.get("project"),
        "compiled": bool(options.get("compiled")),
        "offline": is_offline(),  # said here, meant for workers too
    }


def loading_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `encoder_keywords` that say how an encoder is loaded, not which of its tokens are taken."""
    others = ("name", "tokens", "overlap_px", "projection")
    return {name: value for name, value in encoder_keywords(options).items() if name not in others}


def encoder_from_options(options: Mapping[str, Any]) -> Encoder:
    """Load the encoder that the options of `encoder_options` name."""
    from napari_prospector.tokens.encoders.cards import load_encoder

    return load_encoder(**encoder_keywords(options))


def encoder_for(options: Mapping[str, Any], client: AnyClient | None) -> Encoder | dict[str, Any]:
    """Load the encoder where this process embeds; with a client return its keywords, for workers load it themselves."""
    return encoder_from_options(options) if client is None else encoder_keywords(options)


def slide_jobs(slides: Sequence[Path], tokens: Path, mpp: float | None) -> list[SlideJob]:
    """Turn paths, or one cohort table, into slides to embed.

    Raises
    ------
    InvalidInputError
        If a table is not alone, or two slides have one name.
    """
    from napari_prospector.study.cohort import Cohort, token_store_path
    from napari_prospector.study.embed_cohort import SlideJob

    tables = [slide for slide in slides if slide.suffix.lower() in (".csv", ".prospect-project")]
    if tables and len(slides) > 1:
        raise InvalidInputError(
            f"SLIDES must be slide files or one cohort table; got {len(slides)} paths with {tables[0].name}."
        )
    if tables:
        cohort = Cohort.read(tables[0])
        rows = [(row.path, row.mpp or mpp) for row in cohort if not row.is_tokens]
    else:
        rows = [(slide, mpp) for slide in slides]
    check_names([Path(path) for path, _ in rows], "Token grids", with_suffix=True)
    return [SlideJob(Path(path), token_store_path(tokens, path), mpp) for path, mpp in rows]


def encoder_options_of(name: str) -> dict[str, Any]:
    """Return the options of `encoder_options` that load a card by name and leave the rest to it."""
    rest = dict.fromkeys(("weights", "revision", "mean", "std", "tile_px", "tile_mpp", "stain_normalize", "device"))
    return {"encoder": name, "model_args": (), **rest}


def encoder_words(head: ProspectorHead, weights: str | None, device: str | None) -> dict[str, Any]:
    """Return the options of `encoder_options` that load the encoder of a head.

    Raises
    ------
    MissingFileError
        If its tokens were projected, and the head does not hold the projection.
    """
    card = head.card_.get("encoder") or {"name": "stain-texture"}
    words = words_of_card(card, weights, device)
    if card.get("projection"):
        from napari_prospector.tokens.encoders.projection import Projection

        words["projection"] = Projection.of_record(card["projection"], head.attached_)
    return words


def words_of_card(card: Mapping[str, Any], weights: str | None, device: str | None) -> dict[str, Any]:
    """Return the options of `encoder_options` that load the encoder of a card, as heads and token grids keep it."""
    timm = card.get("loader") == "timm"
    # the very weights that the head was fitted on, not what the card of today pins
    revision = card.get("revision") if card.get("hub") else None
    return {
        "encoder": card["name"],
        "is_foreign": card.get("loader") == "foreign",
        "weights": weights,
        "revision": revision,
        "needs_file": timm and bool(card.get("weights_sha256")) and revision is None,
        "model_args": [f"{name}={value!r}" for name, value in (card.get("model_args") or {}).items()],
        "mean": card.get("mean") if timm else None,
        "std": card.get("std") if timm else None,
        "tile_px": card.get("tile_px") if timm else None,
        "tile_mpp": card.get("mpp"),
        "stain_normalize": card.get("stain_normalize"),
        "device": device,
        "tokens": card.get("tokens"),
        "overlap": card.get("overlap_px"),
    }


def check_names(slides: Sequence[Path], kind: str, *, with_suffix: bool) -> None:
    """Raise `InvalidInputError` where files of two slides, which are named after them, would be the same.

    Parameters
    ----------
    slides
        Their paths.
    kind
        What the files are, in the plural.
    with_suffix
        Whether the names of the files keep the slide's suffix.
    """
    taken: dict[str, Path] = {}
    for slide in slides:
        name = slide.name.removesuffix(".tokens.zarr")
        name = name if with_suffix else Path(name).stem
        if name in taken:
            raise InvalidInputError(
                f"{kind} are named after their slides, and {taken[name]} and {slide} have one name. "
                "Put them into different folders, by two commands."
            )
        taken[name] = slide


def is_finished(slide: Path, store: Path, mpp: float | None = None) -> bool:
    """Tell whether a token grid is there, finished and made from this very slide.

    Raises
    ------
    MismatchError
        If it was made from another slide of the same name, or with another pixel size.
    ProspectorError
        If slide or grid is damaged.
    """
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.store import TokenGrid

    if not store.exists():
        return False
    with TokenGrid.open(store) as grid:
        made_from, is_complete, made_with = grid.attrs["slide_fingerprint"], grid.is_complete, grid.geometry.slide_mpp
    with open_slide(slide, mpp=mpp) as opened:
        if opened.fingerprint() != made_from:
            raise MismatchError(
                f"{store} was made from another slide than {slide}. "
                "Name another folder with --grids, or remove that token grid."
            )
        if opened.mpp is not None and abs(opened.mpp / made_with - 1) > _SAME_MPP:
            raise MismatchError(
                f"{store} was made with {made_with:g} µm per level-0 pixel, and {slide.name} comes with {opened.mpp:g}."
                " Pass the same pixel size, or remove that token grid."
            )
    return bool(is_complete)


def embed_slides(
    jobs: Sequence[SlideJob],
    encoder: Encoder | Mapping[str, Any],
    *,
    client: AnyClient | None = None,
    quiet: bool = False,
    **options: Any,
) -> list[Embedded]:
    """Embed slides and show how far they are; one that fails becomes a row with its error and the others go on.

    Parameters
    ----------
    jobs
        Slides; a finished store is left as it is.
    encoder
        For all of them, from `encoder_for`.
    client
        Who does the work.
    quiet
        Show no progress.
    **options
        Of `embed_cohort`.
    """
    from napari_prospector.study.embed_cohort import embed_cohort

    rows = []
    with progress_bar(quiet) as progress:
        whole = progress.add_task("slides", total=len(jobs))
        bars: dict[Path, Any] = {}

        def show(job: SlideJob, step: EmbedProgress) -> None:
            if job.tokens not in bars:
                # what an earlier run has done is no work of this one, or the time left would be too short
                bars[job.tokens] = progress.add_task(job.slide.name, total=step.total, completed=step.done)
            progress.update(bars[job.tokens], completed=step.done, total=step.total)

        for row in embed_cohort(jobs, encoder, client=client, on_step=show, **options):
            for reason in row.reasons:
                tell(f"{row.slide}: {reason}", quiet)
            if row.failed > len(row.reasons) > 0:
                tell(f"{row.slide}: {row.failed:,} tiles failed in all", quiet)
            if row.error:
                tell_error(row.slide, row.error, quiet)
            rows.append(row)
            for bar in bars.values():
                progress.update(bar, visible=len(jobs) == 1)
            progress.update(whole, advance=1)
    order = {job.slide.name: number for number, job in enumerate(jobs)}
    return sorted(rows, key=lambda row: order[row.slide])
