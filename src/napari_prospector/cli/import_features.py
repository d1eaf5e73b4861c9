"""`prospect import`: features that other tools have extracted in, token grids out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from napari_prospector.cli.console import check_place, examples, json_option, mpp_option, tell, tell_error, told
from napari_prospector.cli.embedding import check_names
from napari_prospector.cli.main import Exit
from napari_prospector.errors import InvalidInputError, ProspectorError, ProspectorWarning

__all__ = ["import_slides"]

_SUFFIXES = (".tokens.zarr", ".embeddings.zarr", ".zarr", ".h5", ".hdf5", ".pt", ".npz")


@click.command(
    "import",
    short_help="Take features that other tools have extracted; one token grid per slide.",
    epilog=examples(
        "prospect import features_uni_v1/*.h5 -o tokens/ --slides cohort.csv",
        "prospect import case7.h5 -o tokens/ --mpp 0.25",
        "prospect import case7.embeddings.zarr -o tokens/ --encoder uni",
    ),
)
@click.argument("features", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the token grids."
)
@click.option(
    "--slides",
    type=click.Path(path_type=Path),
    help="The slides: a cohort table, a folder, or the one slide. Found by name, they give pixel size and fingerprint, "
    "and token grids are named so that fit and map find them.",
)
@mpp_option
@click.option("--encoder", metavar="NAME", help="Which features, where there are several; else a name for them.")
@click.option(
    "--tile", type=float, metavar="PX", help="Width of a tile in level-0 pixels, where the features do not tell it."
)
@click.option("--overwrite", is_flag=True, help="Start anew where a token grid is there already.")
@json_option
def import_slides(
    features: tuple[Path, ...],
    out: Path,
    slides: Path | None,
    mpp: float | None,
    encoder: str | None,
    tile: float | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Make token grids of FEATURES that another tool has extracted, without embedding again.

    Read are TRIDENT, CLAM and STAMP (.h5), slide2vec (.pt, .npz), raw2features (*.embeddings.zarr) and LazySlide
    (SpatialData zarr). Reading .h5 and LazySlide needs the extra `features`.
    """
    check_place(out / "any")
    check_names(list(features), "Token grids", with_suffix=True)
    known = None if slides is None else _slides(slides, features)
    done: list[dict[str, Any]] = []
    errors: dict[str, str] = {}
    for path in features:
        try:
            done.append(_imported(path, out, known, mpp, encoder, tile, overwrite, as_json))
        except ProspectorError as error:
            errors[path.name] = str(error)
            tell_error(path.name, str(error), as_json)
    lines = [f"{row['features']}: {row['done']:,} tokens of {row['encoder']!r} in {row['tokens']}" for row in done]
    told({"imported": done, "errors": errors}, as_json, lines)
    if not errors:
        return Exit.OK
    return Exit.PARTLY if done else Exit.REFUSED


def _imported(
    path: Path,
    out: Path,
    known: Mapping[str, tuple[Path, float | None]] | None,
    mpp: float | None,
    encoder: str | None,
    tile: float | None,
    overwrite: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Import one slide's features, tell what was warned of, and return a row of the result."""
    from contextlib import ExitStack

    from napari_prospector.tokens.foreign import import_features
    from napari_prospector.tokens.slides import open_slide

    stem = _stem(path)
    if known is not None and stem not in known:
        raise InvalidInputError(
            f"{path.name} must belong to one of the slides; none is called {stem}. Rename it, or leave --slides out."
        )
    with ExitStack() as stack, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ProspectorWarning)
        own, own_mpp = (known or {}).get(stem, (None, None))
        slide = None if own is None else stack.enter_context(open_slide(own, mpp=own_mpp or mpp))
        store = out / f"{stem if own is None else own.name}.tokens.zarr"
        grid = import_features(
            path,
            store,
            slide=slide,
            mpp=None if slide is not None else mpp,
            encoder=encoder,
            tile=tile,
            overwrite=overwrite,
        )
    notes = [str(warning.message) for warning in caught]
    for note in notes:
        tell(f"Note: {note}", quiet)
    return {
        "features": path.name,
        "tokens": str(store),
        "encoder": grid.card["name"],
        "done": grid.counts()["done"],
        "notes": notes,
    }


def _slides(place: Path, features: Sequence[Path]) -> dict[str, tuple[Path, float | None]]:
    """Return the slides by their names without suffix, and the pixel size that a cohort table states."""
    from napari_prospector.study.cohort import Cohort

    if place.suffix.lower() == ".csv":
        return {_bare(row.path): (row.path, row.mpp) for row in Cohort.read(place) if not row.is_tokens}
    if place.is_dir():
        wanted = {_stem(path) for path in features}
        return {_bare(path): (path, None) for path in sorted(place.iterdir()) if _bare(path) in wanted}
    if len(features) > 1:
        raise InvalidInputError(f"--slides names one slide, and there are features of {len(features)}. Name a folder.")
    return {_stem(features[0]): (place, None)}


def _bare(slide: Path) -> str:
    """Return a slide's name without its suffix, as other tools name features after it."""
    return slide.name.removesuffix(".ome.tif").removesuffix(".ome.tiff").removesuffix(slide.suffix)


def _stem(path: Path) -> str:
    """Return the name of a slide's features without suffix."""
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")
    return path.name.removesuffix(suffix)
