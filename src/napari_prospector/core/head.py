"""ProspectorHead: labels of whole data in, a score for every token out.

Source: Machiraju et al., *Prospector Heads: Generalized Feature Attribution for Large Models & Data*, ICML 2024
(arXiv 2402.11729). Where the defaults differ from the paper, `core.kernels` says how and why; ``reference=True``
follows the paper's code.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from napari_prospector.core.autofit import OnTried
from napari_prospector.core.calibration import calibrate
from napari_prospector.core.classkernels import KERNEL_MAPS, MAPS, class_shares, weight_arrays
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.crossfit import FitSettings, Report, count_tables, held_out_scores
from napari_prospector.core.description import describe_head
from napari_prospector.core.explanation import Explanation, check_kernel_map, explain_token
from napari_prospector.core.fitnotes import check_parameters, fit_notes
from napari_prospector.core.fitting import learn
from napari_prospector.core.graph import TokenGraph, convolve, count
from napari_prospector.core.headfile import check_tokens_card, read_head_file, write_head_file
from napari_prospector.core.kernels import fit_kernel
from napari_prospector.core.labels import class_labels
from napari_prospector.core.packing import pack_head, unpack_head
from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError

__all__ = ["Explanation", "ProspectorHead", "fit_kernel", "load_head"]


class ProspectorHead(BaseEstimator):
    """Learn from labels of data where in a datum the class lives, and why.

    Parameters
    ----------
    n_concepts
        Number of concepts, K; ``"auto"`` tries 10, 20 and 30.
    radius
        Tokens within this many hops pair with a token; 0 leaves the concepts alone; ``"auto"`` tries 0, 1 and 2.
    kernel
        Kernel of the evidence map: ``"fold-change"`` or ``"linear"``; ``"auto"`` tries both.
    refine
        Whether to fit the refined map too (`core.refine`). What is ``"auto"``, how much neighbours share and which map
        is shown are chosen out of fold, from labels of data alone (`core.criterion`).
    alpha, tau
        Fold-change: Bonferroni-corrected Mann-Whitney level (``None`` is off); smallest weight kept, in log2.
    l1_ratio
        Linear: elastic-net mixing, 0 ridge … 1 lasso.
    quantize
        ``"k-means"``, or ``"identity"`` for tokens that are categories (`ConceptQuantizer`).
    geometry, whiten
        Of the concepts (`ConceptQuantizer`).
    max_sample
        Largest number of training tokens that k-means and read-outs see, drawn evenly from all data.
    n_folds
        Folds of the out-of-fold work: calibration, Brier score, colour limits.
    positive
        With two classes, the label that maps look for. ``None``: the label that is not named like a negative
        (normal, negative, benign, control, healthy, none, no, false, 0, -1), else the last in sorted order.
    reference
        Follow the authors' code for the evidence kernel, quirks included: nothing is chosen (30 concepts, radius 1,
        fold-change unless told otherwise) and nothing refined.
    random_state
        Seed of sample, clustering and folds.

    Attributes
    ----------
    classes_ : NDArray
        The labels, sorted.
    target_ : hashable
        The class that maps show unless told otherwise; ``None`` with more than two classes.
    quantizer_ : ConceptQuantizer
    kernels_ : ClassKernels
    refiner_ : Refiner or None
        Draws the refined map; its `amount` is the share of the neighbours.
    radius_, kernel_ : int, str
        As given or chosen; so is the number of concepts, ``quantizer_.n_concepts_``.
    maps_ : tuple[str, ...]
        The maps that this head draws.
    best_map_ : str
        The map that `prospect` draws unless told otherwise: the one that came out best out of fold.
    selection_ : Selection
        What was tried, with intervals; `Selection.sentence` says it in words.
    color_limits_ : dict[str, float]
        For each map the symmetric colour limit: the 99th percentile of absolute scores of training tokens, out of
        fold, so that all slides share one scale.
    concept_edits_ : ConceptEdits
        Names of the concepts, and which are merged, hidden and highlighted; saved with the head (`with_edits`).
    concept_shares_ : NDArray or None
        Shape (n_classes, n_concepts): share of the tokens of each class that are of each concept, in the data that
        the head was fitted on. ``None`` for heads of older files.
    brier_ : float or None
        Out of fold; ``None`` where no folds can be made.
    is_calibrated_ : bool
        False below 10 data per class.
    notes_ : tuple[str, ...]
        What the user should know before trusting the head.
    card_ : dict
        What the caller knows: encoder, mpp, tile size, cohort; saved with the head.
    """

    def __init__(
        self,
        n_concepts: int | str = "auto",
        radius: int | str = "auto",
        kernel: str = "auto",
        *,
        refine: bool = True,
        alpha: float | None = None,
        tau: float = 0.0,
        l1_ratio: float = 0.5,
        quantize: str = "k-means",
        geometry: str = "auto",
        whiten: str | None = None,
        max_sample: int = 30_000,
        n_folds: int = 5,
        positive: Hashable | None = None,
        reference: bool = False,
        random_state: int = 0,
    ) -> None:
        self.n_concepts = n_concepts
        self.radius = radius
        self.kernel = kernel
        self.refine = refine
        self.alpha = alpha
        self.tau = tau
        self.l1_ratio = l1_ratio
        self.quantize = quantize
        self.geometry = geometry
        self.whiten = whiten
        self.max_sample = max_sample
        self.n_folds = n_folds
        self.positive = positive
        self.reference = reference
        self.random_state = random_state

    def fit(
        self,
        graphs: Sequence[TokenGraph],
        labels: ArrayLike,
        groups: Sequence[Hashable] | None = None,
        report: Report | None = None,
        on_tried: OnTried | None = None,
    ) -> Self:
        """Fit concepts, kernels, read-outs, calibration and colour limits, and choose what is not given.

        Parameters
        ----------
        graphs
            Any sequence; each item is asked for a few times, so it may load on access.
        labels
            Shape (n_data,): the class of each datum.
        groups
            Group (patient) of each datum, None for a datum of its own; a group is never divided between folds.
        report
            Told (stage, done, total).
        on_tried
            Told what was tried so far (`Tried`, best first), each time that there is more.

        Returns
        -------
        ProspectorHead
            Itself.

        Raises
        ------
        InvalidInputError
            If there are fewer than two classes or fewer than 3 data of a class, lengths disagree, embeddings
            hold NaN or differ in width, or a parameter is out of range.

        Examples
        --------
        >>> import numpy as np
        >>> from napari_prospector import ProspectorHead, chain_graph
        >>> rng = np.random.default_rng(0)
        >>> first_five = (np.arange(30) < 5)[:, None]
        >>> graphs = [chain_graph(rng.normal(size=(30, 4)) + 3 * (i % 2) * first_five) for i in range(8)]
        >>> head = ProspectorHead(n_concepts=4).fit(graphs, [0, 1] * 4)
        >>> scores = head.prospect(graphs[1])
        >>> bool(scores[:5].mean() > scores[5:].mean())
        True
        """
        check_parameters(self)
        known = class_labels(graphs, labels, groups, self.positive)
        self.classes_, self.target_ = known.classes, known.target
        learned = learn(self, graphs, known, groups, report, on_tried)
        self.quantizer_, self.kernels_ = learned.parts[0].quantizer, learned.parts[0].kernels
        self.radius_, self.kernel_ = learned.settings.radius, learned.settings.kernels["kernel"]
        self.refiner_ = None if learned.refinement is None else learned.refinement.refiner
        self.selection_, self.best_map_ = learned.selection, learned.best_map
        self.concept_edits_ = ConceptEdits.of(self.quantizer_.n_concepts_)
        self.concept_shares_: NDArray[np.float64] | None = class_shares(
            learned.parts[0].counts[:, : self.quantizer_.n_concepts_], known.numbers, len(self.classes_)
        )
        self.n_data_ = {str(name): int((known.numbers == i).sum()) for i, name in enumerate(self.classes_)}
        self.card_: dict[str, Any] = {}
        self.attached_: dict[str, NDArray[Any]] = {}
        self.out_of_fold_scores_ = held_out_scores(learned.judged, self.kernel_)
        calibration = calibrate(self.out_of_fold_scores_, known.numbers, known.targets, learned.training.folds)
        self.platt_, self.brier_ = list(calibration.scales), calibration.brier
        self.is_calibrated_ = calibration.is_calibrated
        self.color_limits_ = learned.limits
        self.notes_ = fit_notes(self, is_out_of_fold=learned.training.n_folds > 0)
        return self

    @property
    def maps_(self) -> tuple[str, ...]:
        """The maps that this head draws."""
        check_is_fitted(self)
        return KERNEL_MAPS if self.refiner_ is None else MAPS

    @property
    def concept_names_(self) -> tuple[str, ...]:
        """The name to show for each concept, that of its group where it is merged; change them by `with_edits`."""
        return self.concept_edits_.shown_names

    def with_edits(self, edits: ConceptEdits) -> Self:
        """Return this head with other names, and other concepts merged, hidden and highlighted.

        Parameters
        ----------
        edits
            Of as many concepts as the head has, most often made from `concept_edits_`.

        Returns
        -------
        ProspectorHead
            A new one that shares all that was learned.

        Raises
        ------
        MismatchError
            If the edits are of another number of concepts.
        """
        check_is_fitted(self)
        if edits.n_concepts != self.quantizer_.n_concepts_:
            raise MismatchError(
                f"The edits are of {edits.n_concepts} concepts; this head has {self.quantizer_.n_concepts_}. "
                "Make them from its concept_edits_."
            )
        edited = copy.copy(self)
        edited.concept_edits_ = edits
        return edited

    def prospect(
        self,
        graph: TokenGraph,
        map: str | None = None,
        target: Hashable | None = None,
    ) -> NDArray[np.float64]:
        """Score every token of a datum.

        Parameters
        ----------
        graph
            Embeddings of the encoder that the head was fitted on.
        map
            ``"evidence"``: where the class lives; the scores add up to kernel · counts. ``"decision"``: what the
            classifier used; the scores add up to the logit less the intercept (`kernels_.intercept`). ``"refined"``:
            what a read-out of the embeddings finds that the kernel has taught. None: `best_map_`.
        target
            The class to look for; may be left out with two classes. With two classes the map of the other class
            is the negative of this one.

        Returns
        -------
        NDArray[np.float64]
            Shape (n_tokens,), signed: above 0 speaks for the class. Hidden concepts (`concept_edits_`) count 0; sums
            are then those of the kernel without them. (Paper, section 3.3; method.md, step 4.)

        Raises
        ------
        InvalidInputError
            If the map or target is unknown, or embeddings do not have the width that the head was fitted on.
        """
        concepts = self.concepts(graph)
        number, sign = self.target_number(target)
        chosen = self.map_name(map)
        if chosen == "refined" and self.refiner_ is not None:
            refined = sign * self.refiner_.scores(graph, number)
            return np.where(self.concept_edits_.is_hidden()[concepts], 0.0, refined)
        kernel = self.map_kernel(graph, concepts, chosen, number)
        return sign * convolve(graph, concepts, kernel, self.radius_)

    def concepts(self, graph: TokenGraph) -> NDArray[np.int32]:
        """Return the concept (n_tokens,) of every token: the sprite of the datum."""
        check_is_fitted(self)
        return self.quantizer_.predict(graph.embeddings)

    def explain(
        self,
        graph: TokenGraph,
        token: int,
        map: str = "evidence",
        target: Hashable | None = None,
    ) -> Explanation:
        """Split the score of one token into its concept and its neighbours.

        Parameters
        ----------
        graph, target
            As in `prospect`.
        map
            ``"evidence"`` or ``"decision"``.
        token
            Number of the token, 0 … n_tokens - 1.

        Raises
        ------
        InvalidInputError
            As in `prospect`, if there is no such token, or if the map is no sum over concepts and pairs.
        """
        check_is_fitted(self)
        return explain_token(self, graph, token, map, target)

    def concept_weights(
        self, map: str = "evidence", target: Hashable | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the learned weights of concepts and of pairs, of hidden ones too.

        Parameters
        ----------
        map
            ``"evidence"``, or ``"decision"``: coefficients of the shares of a datum, which its map divides by the
            datum's numbers of tokens and of pairs.
        target
            As in `prospect`.

        Returns
        -------
        tuple of NDArray
            Monograms (K,), and pairs (K, K), symmetric; zeros where the radius is 0. Above 0 speaks for the class.

        Raises
        ------
        InvalidInputError
            If the map is no sum over concepts and pairs, or the target is unknown.
        """
        check_is_fitted(self)
        check_kernel_map(map)
        number, sign = self.target_number(target)
        return weight_arrays(sign * getattr(self.kernels_, map)[number], self.quantizer_.n_concepts_)

    def decision_function(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
        """Score data, not tokens.

        Returns
        -------
        NDArray[np.float64]
            Shape (n_data, n_targets), one target with two classes: mean evidence of a token for the fold-change
            kernel, logit for the linear one. Uncalibrated.
        """
        check_is_fitted(self)
        table = count_tables(graphs, [self.quantizer_], [self.radius_])[0, self.radius_]
        return self.kernels_.datum_scores(self.kernel_, table)

    def predict_proba(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
        """Return the probability (n_data, n_classes) of each class, in the order of `classes_`.

        Platt scaling fitted on out-of-fold scores; where `is_calibrated_` is False, a ranking and no more.
        """
        scores = self.decision_function(graphs)
        columns = [scale.probability(scores[:, i]) for i, scale in enumerate(self.platt_)]
        if len(self.classes_) > 2:
            votes = np.stack(columns, axis=1)
            return np.asarray(votes / votes.sum(axis=1, keepdims=True))
        return np.stack([1 - columns[0], columns[0]] if self._target_index() else [columns[0], 1 - columns[0]], axis=1)

    def predict(self, graphs: Sequence[TokenGraph]) -> NDArray[Any]:
        """Return the most probable class (n_data,) of each datum."""
        return np.asarray(self.classes_[self.predict_proba(graphs).argmax(axis=1)])

    def save(
        self,
        path: str | os.PathLike[str],
        card: Mapping[str, Any] | None = None,
        attached: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Write the head to a ``*.prospector`` file.

        Parameters
        ----------
        path
            An existing file is replaced, in one step.
        card
            What only the caller knows (``encoder``, ``mpp``, ``tile_px``, ``cohort_fingerprint``, …), values of
            JSON; merged into `card_`. No path and no name of a patient belongs here.
        attached
            Arrays that the caller needs again with the head, such as a projection of tokens; merged into `attached_`.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        check_is_fitted(self)
        self.card_, self.attached_ = {**self.card_, **(card or {})}, {**self.attached_, **(attached or {})}
        write_head_file(path, *pack_head(self))

    def describe(self) -> str:
        """Return the model card as Markdown."""
        check_is_fitted(self)
        return describe_head(self)

    def check_encoder(self, card: Mapping[str, Any]) -> None:
        """Refuse tokens of another encoder, other weights or another tile size.

        Parameters
        ----------
        card
            Of the tokens: any of ``name, n_dims, weights_sha256, tile_px, mpp``.

        Raises
        ------
        MismatchError
            If one of them differs from what the head was fitted on.
        """
        check_is_fitted(self)
        check_tokens_card(self.card_.get("encoder") or {}, len(self.quantizer_.mean_), card)

    def _target_index(self) -> int:
        """Return the class number of `target_`."""
        return int(np.flatnonzero(self.classes_ == self.target_)[0])

    def fit_settings(self, **chosen: Any) -> FitSettings:
        """Return what decides how concepts and kernels are fitted, with what was chosen in place of ``"auto"``."""
        values = {**self.get_params(), **chosen}
        quantizer = {name: values[name] for name in ("n_concepts", "geometry", "whiten", "max_sample", "random_state")}
        kernels = {name: values[name] for name in ("kernel", "alpha", "tau", "l1_ratio", "reference")}
        return FitSettings(values["radius"], {**quantizer, "method": self.quantize}, kernels)

    def target_number(self, target: Hashable | None) -> tuple[int, float]:
        """Return (row of kernels and read-outs, sign) for a target class; None is `target_`."""
        names = self.classes_.tolist()
        if target is None and len(names) > 2:
            raise InvalidInputError(f"target must name one of the classes {names}; the head has more than two.")
        chosen = self.target_ if target is None else target
        if chosen not in names:
            raise InvalidInputError(f"target must be one of the classes {names}; got {target!r}.")
        if len(names) > 2:
            return names.index(chosen), 1.0
        return 0, 1.0 if chosen == self.target_ else -1.0

    def map_name(self, name: str | None) -> str:
        """Return the name of a map that this head draws."""
        chosen = self.best_map_ if name is None else name
        if chosen not in self.maps_:
            why = " It was fitted without refinement; fit it with refine=True." if chosen == "refined" else ""
            raise InvalidInputError(
                f"map must be one of {', '.join(repr(one) for one in self.maps_)} for this head; got {chosen!r}.{why}"
            )
        return chosen

    def map_kernel(
        self, graph: TokenGraph, concepts: NDArray[np.int32], map_name: str, target: int
    ) -> NDArray[np.float64]:
        """Return the kernel (p,) that draws the named map of this datum."""
        if map_name == "evidence":
            return self.concept_edits_.kept_weights(self.kernels_.evidence[target])
        counts = count(graph, concepts, self.quantizer_.n_concepts_, self.radius_)
        return self.concept_edits_.kept_weights(self.kernels_.map_kernel(map_name, target, counts))


def load_head(path: str | os.PathLike[str]) -> ProspectorHead:
    """Read a head from a ``*.prospector`` file; needs neither torch nor the training data.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FileFormatError
        If it is not a head, is damaged, or was written by a newer version.
    """
    tensors, card = read_head_file(path)
    try:
        head = ProspectorHead(**card["parameters"])
        unpack_head(head, tensors, card)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{os.path.basename(path)} lacks a part of a head ({error!r}). Fit the head again."
        ) from error
    return head
