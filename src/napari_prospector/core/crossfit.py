"""Out-of-fold work: folds of data, concepts fitted inside each fold, and count tables for all of them at once.

Everything that a head says about itself (calibration, colour limits, the choice of its parameters) rests on data
that the part in question has not seen: concepts, kernel and all. Tokens are read once to sample them for k-means
and once more to count; whatever follows works on tables of a few hundred columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from napari_prospector.core.classkernels import ClassKernels, fit_class_kernels
from napari_prospector.core.concepts import ConceptQuantizer, assign_all
from napari_prospector.core.each import GraphSource, Report, Workers, each, source_of, workers_of
from napari_prospector.core.graph import TokenGraph, count
from napari_prospector.core.kernels import feature_count
from napari_prospector.core.readout import TokenRows, token_features
from napari_prospector.core.sharing import neighbour_mean
from napari_prospector.errors import InvalidInputError

__all__ = [
    "FitSettings",
    "FittedPart",
    "Report",
    "TokenSample",
    "TrainingSet",
    "count_tables",
    "cross_fit",
    "make_folds",
    "sample_tokens",
]


def make_folds(
    labels: NDArray[np.int64], groups: Sequence[Hashable] | None, n_folds: int, random_state: int
) -> NDArray[np.int64]:
    """Divide data into stratified folds; a group is never divided.

    Parameters
    ----------
    labels
        Shape (n_data,), class numbers.
    groups
        Group (patient) of each datum; None, or an entry None, where a datum stands for itself.
    n_folds
        Largest number of folds; lowered to the number of groups in the smallest class.
    random_state
        Seed.

    Returns
    -------
    NDArray[np.int64]
        Shape (n_data,): the fold in which a datum is held out; all 0 where two folds cannot be made, that is where
        a class has a single group.
    """
    members = np.arange(len(labels))
    if groups is not None:
        # folds depend on the order of names; a datum without a group gets a name that no group has
        names = [f"\0{datum}" if group is None else str(group) for datum, group in enumerate(groups)]
        members = np.unique(np.array(names), return_inverse=True)[1]
    smallest = min(len(np.unique(members[labels == label])) for label in np.unique(labels))
    n_splits = min(n_folds, smallest)
    folds = np.zeros(len(labels), dtype=np.int64)
    if n_splits < 2:
        return folds
    if groups is None:
        splits = StratifiedKFold(n_splits, shuffle=True, random_state=random_state).split(labels, labels)
    else:
        splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=random_state)
        splits = splitter.split(labels, labels, members)
    for fold, (_, held_out) in enumerate(splits):
        folds[held_out] = fold
    if any(len(np.unique(labels[folds != fold])) < len(np.unique(labels)) for fold in range(n_splits)):
        return np.zeros(len(labels), dtype=np.int64)
    return folds


@dataclass(frozen=True)
class TokenSample:
    """Tokens drawn from every datum once, from which any subset of the data can be learned.

    Attributes
    ----------
    embeddings
        Shape (n_sampled, n_dims).
    owner
        Shape (n_sampled,): the datum of each token, ascending.
    places
        Shape (n_sampled,): its number within its datum.
    rows
        The same tokens as read-outs see them; None where none is to be fitted.
    """

    embeddings: NDArray[np.float32]
    owner: NDArray[np.int64]
    places: NDArray[np.int64]
    rows: TokenRows | None = None

    def fit_quantizer(self, parameters: dict[str, Any], keep: NDArray[np.bool_]) -> ConceptQuantizer:
        """Cluster the sampled tokens of the data that `keep` (n_data,) marks."""
        return ConceptQuantizer(**parameters).fit(self.embeddings[keep[self.owner]])

    def of_datum(self, datum: int) -> slice:
        """Return where the tokens of a datum lie in the sample."""
        first, stop = np.searchsorted(self.owner, (datum, datum + 1))
        return slice(int(first), int(stop))


def sample_tokens(
    graphs: Sequence[TokenGraph],
    max_sample: int,
    random_state: int,
    report: Report | None = None,
    *,
    with_rows: bool = False,
    n_categories: int | None = None,
) -> TokenSample:
    """Draw up to ``max_sample / n_data`` tokens from every datum, so that large data do not outvote small ones.

    Parameters
    ----------
    graphs
        Data; each is asked for once.
    max_sample
        Largest number of tokens over all data; at least one is drawn from each.
    random_state
        Seed.
    report
        Told after each datum.
    with_rows, n_categories
        Whether read-outs will be fitted, and what they see (`token_features`).
    """
    quota = max(1, -(-max_sample // len(graphs)))
    found: list[_Sampled | None] = [None] * len(graphs)
    shared, stage = (quota, with_rows, n_categories), "sample tokens"
    for datum, part in each(graphs, _sampled, shared, lambda i: (random_state + i,), stage=stage, report=report):
        found[datum] = part
    parts = [part for part in found if part is not None]
    for datum, part in enumerate(parts):
        if part.embeddings.shape[1] != parts[0].embeddings.shape[1]:
            raise InvalidInputError(
                f"all data must have embeddings of the same n_dims; datum 0 has {parts[0].embeddings.shape[1]}, "
                f"datum {datum} has {part.embeddings.shape[1]}."
            )
    owner = np.repeat(np.arange(len(graphs)), [len(part.places) for part in parts])
    embeddings = np.concatenate([part.embeddings for part in parts])
    rows = None
    if with_rows:
        shown = embeddings if n_categories is None else np.concatenate([part.features for part in parts])
        rows = TokenRows(shown, np.concatenate([part.around for part in parts]), owner)
    return TokenSample(embeddings, owner, np.concatenate([part.places for part in parts]), rows)


class _Sampled(NamedTuple):
    """Tokens of one datum: places (n,), embeddings (n, n_dims), and what read-outs see, (n, n_features) or empty."""

    places: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    features: NDArray[np.float32]
    around: NDArray[np.float32]


def _sampled(graph: TokenGraph, quota: int, with_rows: bool, n_categories: int | None, random_state: int) -> _Sampled:
    """Draw tokens of one datum."""
    places = _drawn(graph.n_tokens, quota, random_state)
    embeddings = graph.embeddings[places].astype(np.float32)
    nothing = np.empty((0, 0), dtype=np.float32)
    if not with_rows:
        return _Sampled(places, embeddings, nothing, nothing)
    seen = token_features(graph, n_categories)
    around = neighbour_mean(graph, seen, places).astype(np.float32)
    return _Sampled(places, embeddings, nothing if n_categories is None else seen[places], around)


def _drawn(n_tokens: int, quota: int, random_state: int) -> NDArray[np.int64]:
    """Draw up to `quota` of n tokens without replacement, in order; the same as `sample_rows` draws."""
    if n_tokens <= quota:
        return np.arange(n_tokens)
    keys = np.random.default_rng(random_state).random(n_tokens)
    return np.sort(np.argpartition(keys, quota)[:quota])


class _Chosen(Sequence[TokenGraph]):
    """Some of many data, loaded when they are asked for."""

    def __init__(self, graphs: Sequence[TokenGraph], numbers: NDArray[np.int64]) -> None:
        self._graphs, self._numbers = graphs, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return self._graphs[int(self._numbers[place])]

    @property
    def workers(self) -> Workers | None:
        """Those of all data."""
        return workers_of(self._graphs)

    def source(self, datum: int) -> GraphSource:
        """Return what makes a graph elsewhere."""
        return source_of(self._graphs, int(self._numbers[datum]))

    def name(self, datum: int) -> str:
        """Return what a datum is called."""
        return str(getattr(self._graphs, "name", str)(int(self._numbers[datum])))


@dataclass(frozen=True)
class TrainingSet:
    """Data, their labels, and how they are divided.

    Attributes
    ----------
    graphs
        The data.
    labels
        Shape (n_data,), class numbers.
    targets
        Shape (n_targets,): the classes to find, one with two classes.
    folds
        Shape (n_data,), of `make_folds`; all 0 where nothing can be held out.
    groups
        Patient of each datum, or None.
    sample
        Tokens of all data.
    report
        Told (stage, done, total).
    """

    graphs: Sequence[TokenGraph]
    labels: NDArray[np.int64]
    targets: NDArray[np.int64]
    folds: NDArray[np.int64]
    groups: Sequence[Hashable] | None
    sample: TokenSample
    report: Report | None = None

    def only(self, numbers: NDArray[np.int64]) -> TrainingSet:
        """Return the data of these numbers, (n,) ascending, with their folds as they are."""
        owner = self.sample.owner
        inside = np.isin(owner, numbers)
        sample = TokenSample(
            self.sample.embeddings[inside],
            np.searchsorted(numbers, owner[inside]),
            self.sample.places[inside],
        )
        groups = None if self.groups is None else [self.groups[int(datum)] for datum in numbers]
        chosen = _Chosen(self.graphs, numbers)
        return TrainingSet(chosen, self.labels[numbers], self.targets, self.folds[numbers], groups, sample, self.report)

    @property
    def kept(self) -> list[NDArray[np.bool_]]:
        """Which data (n_data,) each part is fitted on: all, then all but each fold."""
        everything = [np.ones(len(self.labels), dtype=bool)]
        return everything + [self.folds != fold for fold in range(self.n_folds)]

    @property
    def n_folds(self) -> int:
        """Number of folds; 0 where nothing can be held out."""
        return int(self.folds.max()) + 1 if self.folds.max() > 0 else 0

    def tell(self, stage: str, done: int, total: int) -> None:
        """Report, if anybody listens."""
        if self.report is not None:
            self.report(stage, done, total)


def count_tables(
    graphs: Sequence[TokenGraph],
    quantizers: Sequence[ConceptQuantizer],
    radii: Sequence[int],
    report: Report | None = None,
) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Count monograms and pairs of every datum under several quantizers and radii in one pass over the data.

    Returns
    -------
    dict[tuple[int, int], NDArray[np.int64]]
        For (quantizer number, radius) a table of shape (n_data, p).
    """
    tables = {
        (number, radius): np.zeros((len(graphs), feature_count(quantizer.n_concepts_, radius)), dtype=np.int64)
        for number, quantizer in enumerate(quantizers)
        for radius in radii
    }
    for datum, rows in each(graphs, _counted, (quantizers, radii), stage="count pairs", report=report):
        for key, row in rows.items():
            tables[key][datum] = row
    return tables


def _counted(
    graph: TokenGraph, quantizers: Sequence[ConceptQuantizer], radii: Sequence[int]
) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Count one datum: for (quantizer number, radius) a row (p,)."""
    return {
        (number, radius): count(graph, concepts, quantizers[number].n_concepts_, radius)
        for number, concepts in enumerate(assign_all(quantizers, graph.embeddings))
        for radius in radii
    }


@dataclass(frozen=True)
class FitSettings:
    """What decides how concepts and kernels are fitted.

    Attributes
    ----------
    radius
        Hops.
    quantizer
        Parameters of `ConceptQuantizer`.
    kernels
        Keywords of `fit_class_kernels`.
    """

    radius: int
    quantizer: dict[str, Any]
    kernels: dict[str, Any]


@dataclass(frozen=True)
class FittedPart:
    """Concepts and kernels fitted on some of the data.

    Attributes
    ----------
    quantizer, kernels
        Fitted.
    counts
        Shape (n_data, p): counts of all data under these concepts.
    spoken_for
        Numbers of the data that this part speaks for: those held out from it, or all for the part fitted on all.
    """

    quantizer: ConceptQuantizer
    kernels: ClassKernels
    counts: NDArray[np.int64]
    spoken_for: NDArray[np.int64]


def cross_fit(training: TrainingSet, settings: FitSettings) -> list[FittedPart]:
    """Fit concepts and kernels on all data and, where there are folds, without each of them.

    Parameters
    ----------
    training
        Its data are asked for once.
    settings
        Of concepts and kernels.

    Returns
    -------
    list[FittedPart]
        First the part fitted on all data, then one for each fold.
    """
    kept, quantizers = training.kept, []
    for number, keep in enumerate(kept):
        quantizers.append(training.sample.fit_quantizer(settings.quantizer, keep))
        training.tell("find concepts", number + 1, len(kept))
    tables = count_tables(training.graphs, quantizers, [settings.radius], training.report)
    parts = []
    for number, (quantizer, keep) in enumerate(zip(quantizers, kept, strict=True)):
        counts, labels = tables[number, settings.radius], training.labels[keep]
        kernels = fit_class_kernels(counts[keep], labels, training.targets, quantizer.n_concepts_, **settings.kernels)
        parts.append(FittedPart(quantizer, kernels, counts, np.flatnonzero(keep if keep.all() else ~keep)))
    return parts


def held_out_scores(parts: Sequence[FittedPart], kernel: str) -> NDArray[np.float64]:
    """Return the scores (n_data, n_targets) of data by the kernel of that name, each by the part that speaks for it."""
    scores = np.empty((len(parts[0].counts), len(parts[0].kernels.evidence)))
    for part in parts:
        scores[part.spoken_for] = part.kernels.datum_scores(kernel, part.counts[part.spoken_for])
    return scores
