"""The token graphs of a cohort: loaded when asked for, and only if they belong together."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.headfile import kind_of_tokens
from napari_prospector.errors import InvalidInputError, MismatchError, MissingFileError
from napari_prospector.study.cluster import AnyClient, as_workers
from napari_prospector.study.cohort import TOKENS_SUFFIX, Cohort
from napari_prospector.study.held_out import slide_marks
from napari_prospector.study.mixtures import describe_mixtures
from napari_prospector.tokens.projecting import projection_beside
from napari_prospector.tokens.quality import Rules, as_mapping
from napari_prospector.tokens.store import TokenGrid

__all__ = ["CohortGraphs", "GridSource"]

_LENGTH_TOLERANCE = 0.05  # a tile is a whole number of level-0 pixels, so that lengths differ a little between scanners


@dataclass(frozen=True)
class GridSource:
    """Makes the graph of a token grid wherever it is called."""

    path: Path
    without: Rules = ()

    def __call__(self) -> TokenGraph:
        """Read the tokens from disk."""
        return TokenGrid.open(self.path, without=self.without).graph()


class CohortGraphs(Sequence[TokenGraph]):
    """A sequence of token graphs over token grids on disk, to be iterated over as often as wanted.

    Opening reads metadata only. A graph is read from disk when it is asked for, and kept as long as all that are kept
    fit `cache_bytes`: a small cohort is read once, a large one streams.

    Parameters
    ----------
    paths
        The token grids, one per datum.
    cache_bytes
        Embeddings to keep in memory.
    without
        Quality flags of tiles to leave out as holes, as for `TokenGrid.usable`.
    client
        A `distributed.Client` or `LocalProcesses`: what is fitted or counted on these graphs is worked out by its
        workers, which read the grids themselves. The result is the same. None: by this process.

    Attributes
    ----------
    workers
        Those of the client, or None.
    grids
        The open stores, in order.
    card
        The encoder's card, of the first store.

    Raises
    ------
    MissingFileError
        A token grid does not exist.
    FileFormatError
        One is damaged.
    MismatchError
        Two were made by different encoders or weights, with and without stain normalization, or with tiles of
        different size or spacing in µm.
    InvalidInputError
        There is no path, a grid has tokens that are still to be embedded, or flags are to be left out of one whose
        tiles were not measured.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        cache_bytes: int = 2**30,
        without: Rules = (),
        client: AnyClient | None = None,
    ) -> None:
        if not paths:
            raise InvalidInputError("paths must name at least one token grid; got none.")
        self.grids = tuple(_open(Path(path), without) for path in paths)
        self.without = without
        self.card: dict[str, Any] = self.grids[0].card
        self.workers = as_workers(client)
        self._cache_bytes, self._kept_bytes = cache_bytes, 0
        self._kept: dict[int, TokenGraph] = {}
        for grid in self.grids:
            _check_alike(self.grids[0], grid)
        if self.workers is not None:
            self.workers.check([grid.path / "zarr.json" for grid in self.grids])

    @classmethod
    def of_cohort(
        cls,
        cohort: Cohort,
        folder: str | os.PathLike[str],
        cache_bytes: int = 2**30,
        without: Rules = (),
        client: AnyClient | None = None,
    ) -> Self:
        """Open the token grids of a cohort: the row's own path, or ``folder/NAME.tokens.zarr``."""
        return cls(cohort.store_paths(folder), cache_bytes, without, client)

    def __len__(self) -> int:
        return len(self.grids)

    @overload
    def __getitem__(self, index: int) -> TokenGraph: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenGraph]: ...
    def __getitem__(self, index: int | slice) -> TokenGraph | Sequence[TokenGraph]:
        if isinstance(index, slice):
            paths = [grid.path for grid in self.grids[index]]
            return CohortGraphs(paths, self._cache_bytes, self.without, self.workers)
        place = range(len(self))[index]
        if place in self._kept:
            return self._kept[place]
        graph = self.grids[place].graph()
        # what came first stays: dropping the oldest would lose every graph before the next pass reaches it
        if graph.embeddings.nbytes + self._kept_bytes <= self._cache_bytes:
            self._kept[place] = graph
            self._kept_bytes += graph.embeddings.nbytes
        return graph

    def source(self, datum: int) -> GridSource:
        """Return what makes the graph of a datum in a worker."""
        return GridSource(self.grids[datum].path, self.without)

    def name(self, datum: int) -> str:
        """Return what a datum is called where people watch: the file name of its slide."""
        return self.grids[datum].path.name.removesuffix(TOKENS_SUFFIX)

    @property
    def mpp(self) -> float:
        """Width in µm of a pixel of a tile as the encoder sees it, of the first store."""
        return self.grids[0].geometry.tile_mpp

    @property
    def tile_px(self) -> int:
        """Pixels along a tile as the encoder sees it."""
        return self.grids[0].tiles.tile_px

    @property
    def contents(self) -> tuple[str, ...]:
        """The fingerprint of the slide behind each datum, for `Cohort.fingerprint`."""
        return tuple(str(grid.attrs["slide_fingerprint"]) for grid in self.grids)

    def mixtures(
        self,
        labels: Sequence[Hashable] | None = None,
        splits: Sequence[Hashable] | None = None,
        groups: Sequence[Hashable] | None = None,
    ) -> tuple[str, ...]:
        """Tell which scanners and stains the slides mix, above all where these go along with the label or the split.

        Parameters
        ----------
        labels, splits, groups
            Class, training or test, and patient of each slide; None where they are not to be looked at.

        Returns
        -------
        tuple of str
            Sentences, from `describe_mixtures`; none where there is nothing to tell.

        Raises
        ------
        InvalidInputError
            There is not one entry for each slide.
        """
        columns = {"label": labels, "split": splits}
        return describe_mixtures(
            [grid.attrs.get("scanner") for grid in self.grids],
            [grid.attrs.get("stain") for grid in self.grids],
            {name: entries for name, entries in columns.items() if entries is not None},
            groups,
            self.card.get("stain_normalize"),
        )

    def head_card(self, cohort: Cohort, datum: str = "slide") -> dict[str, Any]:
        """Return what a head that is fitted on these graphs should remember; for `ProspectorHead.save`.

        Parameters
        ----------
        cohort
            The rows that it was fitted on.
        datum
            "slide", or "group" where the slides of a patient were one datum.
        """
        return {
            # as the encoder was asked for; grids differ from it by less than a level-0 pixel
            "encoder": {**self.card, "tile_px": self.tile_px},
            "cohort_fingerprint": cohort.fingerprint(self.contents),
            "n_data": len(self),
            "datum": datum,
            "slides": sorted(slide_marks(self.contents)),
            **({"without": as_mapping(self.without)} if self.without else {}),
        }

    def head_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that a head needs to embed new slides, for `ProspectorHead.save`: a fitted projection.

        Raises
        ------
        ProspectorError
            As `projection_beside` does.
        """
        record = self.card.get("projection")
        if not record or record["kind"] == "random":
            return {}
        return dict(projection_beside(self.grids[0].path, record).tensors)


def _open(path: Path, without: Rules) -> TokenGrid:
    """Open a token grid that is complete."""
    if not path.exists():
        raise MissingFileError(
            f"There is no token grid {path.name} in {path.parent}. Make it with embed_slide or `prospect embed`."
        )
    grid = TokenGrid.open(path, without=without)
    if not grid.is_complete:
        counts = grid.counts()
        raise InvalidInputError(
            f"{path.name} must be finished; {counts['pending']:,} tokens are pending."
            " Embed the slide again, it goes on where it stopped."
        )
    return grid


def _check_alike(first: TokenGrid, other: TokenGrid) -> None:
    """Raise `MismatchError` unless tokens of both grids mean the same."""
    names = f"{first.path.name} and {other.path.name}"
    kinds = [kind_of_tokens(grid.card) for grid in (first, other)]
    if kinds[0] != kinds[1]:
        raise MismatchError(
            f"All data must have one kind of tokens; {names} hold {kinds[0]} and {kinds[1]}. Embed one of them again."
        )
    for field in ("name", "weights_sha256", "n_dims", "stain_normalize"):
        if first.card.get(field) != other.card.get(field):
            raise MismatchError(
                f"All data must be embedded by one encoder; {names} differ in {field}: {first.card.get(field)!r} and"
                f" {other.card.get(field)!r}. Embed one of them again."
            )
    if first.tiles.tile_px != other.tiles.tile_px:
        raise MismatchError(
            f"All tiles must have one size; {names} have {first.tiles.tile_px} and {other.tiles.tile_px} px."
            " Embed one of them again."
        )
    for what, ours, theirs in (
        ("pixel size of tiles", first.geometry.tile_mpp, other.geometry.tile_mpp),
        ("distance between tokens", first.geometry.scale_um[0], other.geometry.scale_um[0]),
    ):
        if abs(ours - theirs) > _LENGTH_TOLERANCE * ours:
            raise MismatchError(
                f"All data must have one {what}; {names} have {ours:.4g} and {theirs:.4g} µm."
                " Check the pixel size of both slides, and embed one of them again."
            )
