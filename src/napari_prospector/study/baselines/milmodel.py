"""One multiple-instance model for all the maps that explain it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.crossfit import make_folds, sample_tokens
from napari_prospector.core.graph import TokenGraph
from napari_prospector.study.baselines.method import is_of_target, probability_of
from napari_prospector.study.baselines.pooling import Architecture, GatedAttention
from napari_prospector.study.baselines.projection import fit_projection
from napari_prospector.study.baselines.training import TrainingPlan, choose, make_bags, train

__all__ = ["MILModel", "ModelMap"]


class MILModel:
    """A network that pools the tokens of a datum into the logit of the class, taught by labels of data.

    Embeddings are standardized and, where they are wide, reduced to principal components of the training tokens
    (labels are not asked). The mean token of negative training data becomes 0: the reference of every explanation.
    Weight decay and number of steps are those with the least log-loss in cross-validation over data; groups (patients)
    are never divided.

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    architecture
        The network.
    n_components
        Largest number of principal components.
    max_sample
        Tokens drawn from all training data, at most; a datum has the same share as any other. Maps see all tokens.
    plan
        How it is trained.
    n_folds, random_state
        Of the cross-validation; the seed also of the sample and of the starting point.

    Attributes
    ----------
    projection_, network_
        Fitted.
    prior_
        Log-odds of the class among training data; the logit of a datum is that of the network and this.
    choice_
        Chosen decay and number of steps, and the loss of held-out data.
    """

    def __init__(
        self,
        target: Hashable | None = None,
        architecture: Architecture | None = None,
        n_components: int = 64,
        max_sample: int = 20_000,
        plan: TrainingPlan | None = None,
        n_folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.target = target
        self.architecture: Architecture = GatedAttention() if architecture is None else architecture
        self.n_components = n_components
        self.max_sample = max_sample
        self.plan = TrainingPlan() if plan is None else plan
        self.n_folds = n_folds
        self.random_state = random_state

    @property
    def settings(self) -> tuple[Any, ...]:
        """All parameters: models with the same ones have the same fit."""
        numbers = (self.n_components, self.max_sample, self.plan, self.n_folds, self.random_state)
        return (self.target, self.architecture, *numbers)

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Choose decay and steps, and train.

        Parameters
        ----------
        graphs
            One pass is made.
        labels
            Class of each datum.
        groups
            Patient of each datum.

        Raises
        ------
        InvalidInputError
            Lengths differ, a class is missing, or `target` is not given for more than two classes.
        MissingExtraError
            torch is not installed.
        """
        is_target = is_of_target(labels, len(graphs), self.target)
        sample = sample_tokens(graphs, self.max_sample, self.random_state)
        is_negative = is_target[sample.owner] == 0
        negative_mean = sample.embeddings[is_negative].mean(axis=0, dtype=np.float64)
        self.projection_ = fit_projection(sample.embeddings, self.n_components).around(negative_mean)
        bags = make_bags(sample, self.projection_, is_target)
        folds = make_folds(is_target, groups, self.n_folds, self.random_state)
        self.choice_ = choose(self.architecture, bags, folds, self.plan, self.random_state)
        self.network_ = train(self.architecture, bags, self.choice_, self.plan, self.random_state)
        self.prior_ = float(np.log(is_target.mean() / (1 - is_target.mean())))
        return self

    def tokens(self, graph: TokenGraph) -> NDArray[np.float32]:
        """Return the tokens of a datum as the network takes them, (n_tokens, n_components)."""
        return self.projection_.apply(graph.embeddings)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
        """Return how probable the class is for each datum, (n_data,)."""
        logits = []
        for i in range(len(graphs)):
            values, raw = self.network_.of_tokens(self.tokens(graphs[i]))
            logits.append(float(self.network_.weights(raw) @ values) + self.prior_)
        return probability_of(np.array(logits))

    @property
    def n_parameters(self) -> int:
        """Learned numbers, with the projection multiplied into the first layer and the mean into its bias."""
        n_inputs, n_hidden = self.network_.parameters["hidden"].shape[1:]
        bias = 0 if "bias hidden" in self.network_.parameters else n_hidden
        return int(self.network_.n_parameters + (self.projection_.mean.size - n_inputs) * n_hidden + bias)


class ModelMap:
    """What all maps of a model have in common: the model's fit and its probabilities.

    Parameters
    ----------
    model
        Fitted by `fit`, or already; several maps may share one.
    """

    def __init__(self, model: MILModel) -> None:
        self.model = model

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Fit the model; see `MILModel.fit`."""
        self.model.fit(graphs, labels, groups)
        return self

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
        """Return how probable the class is for each datum, (n_data,)."""
        return self.model.target_probability(graphs)

    @property
    def n_parameters(self) -> int:
        """Those of the model."""
        return self.model.n_parameters
