"""`prospect map`: a head and slides in, maps out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_prospector.cli.console import (
    check_place,
    device_option,
    examples,
    json_option,
    map_option,
    mpp_option,
    progress_bar,
    tell,
    tell_error,
    told,
    weights_option,
    workers_options,
)
from napari_prospector.cli.embedding import (
    check_names,
    embed_slides,
    encoder_for,
    encoder_words,
    is_finished,
)
from napari_prospector.cli.main import Exit
from napari_prospector.errors import InvalidInputError, ProspectorError

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.cluster import AnyClient
    from napari_prospector.study.contours import Contours
    from napari_prospector.study.exchange import SlideMap
    from napari_prospector.tokens.encoders.cards import Encoder

__all__ = ["encoder_of_head", "label_of", "map_slides", "map_stores"]


@click.command(
    "map",
    short_help="Draw the prospect map of slides with a head.",
    epilog=examples(
        "prospect map tumour.prospector slide.svs -o maps/",
        "prospect map tumour.prospector slides/*.svs -o maps/ --grids tokens/ --map decision --ome-zarr",
        "prospect map tumour.prospector slide.svs -o maps/ --geojson --threshold 0.5 --simplify 50",
        "prospect map subtypes.prospector tokens/slide.svs.tokens.zarr -o maps/ --target papillary",
    ),
)
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the maps."
)
@click.option(
    "--grids",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the token grids; default: tokens/ in OUT.",
)
@map_option
@click.option("--target", metavar="LABEL", help="The class to look for; may be left out with two classes.")
@click.option(
    "--ome-zarr", is_flag=True, help="Write NAME.MAP.prospect.ome.zarr too: map and concepts as OME-Zarr 0.5."
)
@click.option("--geojson", is_flag=True, help="Write NAME.MAP.geojson too: outlines of regions, as QuPath opens them.")
@click.option(
    "--threshold",
    metavar="SCORE",
    help="Tokens that score above it are in a region; auto (the default): half of the map's colour limit, the same "
    "for all slides.",
)
@click.option(
    "--simplify",
    type=click.FloatRange(min=0),
    metavar="UM",
    help="Simplify outlines by at most so many µm; default: 0, exact.",
)
@mpp_option
@weights_option
@device_option
@workers_options
@json_option
def map_slides(
    head: Path,
    slides: tuple[Path, ...],
    out: Path,
    grids: Path | None,
    map_name: str | None,
    target: str | None,
    ome_zarr: bool,
    geojson: bool,
    threshold: str | None,
    simplify: float | None,
    mpp: float | None,
    weights: str | None,
    device: str | None,
    as_json: bool,
    client: AnyClient | None,
) -> int:
    """Draw the prospect map of SLIDES with HEAD.

    For every slide: NAME.MAP.ome.tif (scores, NaN outside the tissue) and NAME.concepts.ome.tif, both at grid
    resolution with µm; NAME.MAP.csv, one line per token; NAME.MAP.png with slide, map and concepts side by side.
    SLIDES without a token grid are embedded first, with the head's encoder. A *.tokens.zarr may stand for its slide,
    and a project (*.prospect-project) for all slides in it.
    """
    from napari_prospector.core.head import load_head

    contours = _contours(threshold, simplify, geojson)
    model = load_head(head)
    label = label_of(model, target)
    _check_map(model, map_name)
    slides = _slides_of(slides)
    check_names(slides, "Maps", with_suffix=False)
    check_place(out / "any")
    for note in model.concept_edits_.notes():
        tell(note, as_json)
    stores, errors = _finished(
        model, slides, out / "tokens" if grids is None else grids, mpp, weights, device, client=client, quiet=as_json
    )
    written, refused = map_stores(
        *(model, stores, out, map_name, label, mpp),
        client=client,
        quiet=as_json,
        head_name=head.stem,
        ome_zarr=ome_zarr,
        contours=contours,
    )
    errors |= refused
    lines = [f"{row['slide']}, {row['map']} for {row['target']}: {', '.join(row['files'])}" for row in written]
    told({"maps": written, "errors": errors}, as_json, lines)
    if not errors:
        return Exit.OK
    return Exit.PARTLY if written else Exit.REFUSED


def _slides_of(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the slides that are meant: those of a project in place of its folder."""
    from napari_prospector.study.project_files import PROJECT_SUFFIX, read_project

    found: list[Path] = []
    for path in paths:
        if path.suffix == PROJECT_SUFFIX:
            found += [slide.tokens or slide.path for slide in read_project(path)[0].slides]
        else:
            found.append(path)
    return tuple(found)


def _contours(threshold: str | None, simplify: float | None, geojson: bool) -> Contours | None:
    """Return how regions are to be outlined; None where they are not asked for."""
    from napari_prospector.study.contours import Contours

    if not geojson:
        if threshold is not None or simplify is not None:
            raise click.UsageError("--threshold and --simplify say how regions are outlined: pass --geojson as well.")
        return None
    try:
        score = None if threshold in {None, "auto"} else float(str(threshold))
    except ValueError as error:
        raise click.UsageError(f"--threshold must be a score, or auto; got {threshold!r}.") from error
    return Contours(score, simplify or 0.0)


def _finished(
    head: ProspectorHead,
    slides: Sequence[Path],
    folder: Path,
    mpp: float | None,
    weights: str | None,
    device: str | None,
    *,
    client: AnyClient | None,
    quiet: bool,
) -> tuple[dict[Path, Path], dict[str, str]]:
    """Return the finished token grid of each slide, embedded now where need be, and what went wrong with others."""
    from napari_prospector.study.cohort import TOKENS_SUFFIX, token_store_path
    from napari_prospector.study.embed_cohort import SlideJob

    stores = {
        slide: slide if slide.name.endswith(TOKENS_SUFFIX) else token_store_path(folder, slide) for slide in slides
    }
    errors: dict[str, str] = {}
    missing = []
    for slide, store in stores.items():
        try:
            if slide != store and not is_finished(slide, store, mpp):
                missing.append(SlideJob(slide, store, mpp))
        except ProspectorError as error:
            errors[slide.name] = str(error)
            tell_error(slide.name, str(error), quiet)
    if missing:
        encoder = encoder_of_head(head, weights, device, client)
        normalize = (head.card_.get("encoder") or {}).get("stain_normalize")
        outcomes = embed_slides(missing, encoder, client=client, quiet=quiet, stain_normalize=normalize)
        errors |= {row.slide: row.error for row in outcomes if row.error}
    return {slide: store for slide, store in stores.items() if slide.name not in errors}, errors


def map_stores(
    head: ProspectorHead,
    stores: Mapping[Path, Path],
    out: Path,
    map_name: str | None,
    target: Any,
    mpp: float | None,
    *,
    client: AnyClient | None = None,
    quiet: bool = False,
    **also: Any,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Write the maps of slides whose token grids are finished.

    Parameters
    ----------
    head
        Fitted on the encoder of the grids.
    stores
        Slide → token grid; a grid that stands for its slide is its own key.
    out
        Folder for the files.
    map_name, target, mpp
        As on the command line; without a name the head's best map.
    client
        Who does the work.
    quiet
        Show no progress.
    also
        Further keywords of `write_slide_map`.

    Returns
    -------
    tuple
        What was written, one dictionary a slide, and a sentence for each slide that failed.
    """
    from napari_prospector.study.map_cohort import MapJob, map_cohort

    jobs = [MapJob(store, None if store == slide else slide, mpp) for slide, store in stores.items()]
    rows: dict[int, dict[str, Any]] = {}
    errors: dict[str, str] = {}
    with progress_bar(quiet or not stores) as progress:
        bar = progress.add_task("draw maps", total=len(jobs))
        for number, mapped in map_cohort(head, jobs, out, map_name, target, client, **also):
            if mapped.map is not None:
                rows[number] = _row(mapped.name, mapped.map)
            elif mapped.error is not None:
                errors[mapped.name] = mapped.error
                tell_error(mapped.name, mapped.error, quiet)
            progress.update(bar, advance=1)
    return [rows[number] for number in sorted(rows)], errors


def _row(name: str, drawn: SlideMap) -> dict[str, Any]:
    """Return what is told of one slide."""
    return {
        "slide": name,
        "map": drawn.map,
        "target": drawn.target,
        "probability": drawn.probability,
        "files": [str(path) for path in drawn.files],
    }


def encoder_of_head(
    head: ProspectorHead, weights: str | None, device: str | None, client: AnyClient | None = None
) -> Encoder | dict[str, Any]:
    """Load the encoder that a head was fitted on; with a client return its keywords.

    Raises
    ------
    InvalidInputError
        If the head does not say which.
    """
    if not head.card_.get("encoder"):
        raise InvalidInputError(
            "This head does not say which encoder it was fitted on. Pass token grids instead of slides."
        )
    return encoder_for(encoder_words(head, weights, device), client)


def label_of(head: ProspectorHead, target: str | None) -> Any:
    """Return the label of a head that a word on the command line means; None for the head's own target.

    Raises
    ------
    InvalidInputError
        If the head knows no such label, or needs one and none is given.
    """
    by_word = {str(name): name for name in head.classes_.tolist()}
    if target is not None and target not in by_word:
        raise InvalidInputError(f"--target must be one of {', '.join(by_word)}; got {target!r}.")
    if target is None and head.target_ is None:
        raise InvalidInputError(f"This head knows more than two classes. Pass --target, one of {', '.join(by_word)}.")
    return None if target is None else by_word[target]


def _check_map(head: ProspectorHead, map_name: str | None) -> None:
    """Refuse a map that a head does not draw, before slides are embedded for it.

    Raises
    ------
    InvalidInputError
        If the head was fitted without refinement and the refined map is asked for.
    """
    if map_name is not None and map_name not in head.maps_:
        raise InvalidInputError(
            f"This head draws no {map_name} map, only {' and '.join(head.maps_)}. Pass --map {head.best_map_}, or fit "
            "the head again with refinement."
        )
