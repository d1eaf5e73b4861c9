"""Explanations of an attention MIL model by captum, whose extra must be installed.

The reference of all of them, what a token becomes when it is taken away, is the mean token of negative training data.
"""

from __future__ import annotations

from collections.abc import Hashable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph
from napari_prospector.errors import MissingExtraError
from napari_prospector.study.baselines.milmodel import MILModel, ModelMap
from napari_prospector.study.baselines.pooling import import_torch

__all__ = ["IntegratedGradients", "Lime", "ShapleySampling", "import_captum", "spatial_groups"]

_LARGEST_BATCH = 1_000_000  # masks × tokens, or steps × tokens × dimensions, in memory at once


def import_captum() -> ModuleType:
    """Import captum.attr, or say how to get it."""
    import_torch()
    try:
        import captum.attr
    except ImportError as error:
        raise MissingExtraError(
            'Integrated gradients, SHAP and LIME need captum. Install it: pip install "napari-prospector[captum]"'
        ) from error
    module: ModuleType = captum.attr
    return module


class IntegratedGradients(ModelMap):
    """Integrated gradients of an attention MIL model (Sundararajan, Taly and Yan, ICML 2017, arXiv 1703.01365).

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    n_steps
        Of the Gauss-Legendre integral from the reference to the datum.
    random_state
        Seed.
    model
        Shared with other maps; replaces `target` and `random_state`.
    """

    name = "attention MIL, integrated gradients"
    map = "integrated gradients"

    def __init__(
        self,
        target: Hashable | None = None,
        n_steps: int = 64,
        random_state: int = 0,
        model: MILModel | None = None,
    ) -> None:
        super().__init__(MILModel(target, random_state=random_state) if model is None else model)
        self.n_steps = n_steps

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the sum over dimensions of every token, (n_tokens,); together, logit minus that of the reference."""
        torch, attr = import_torch(), import_captum()
        tokens = torch.from_numpy(self.model.tokens(graph)).double()[None]
        at_once = max(1, _LARGEST_BATCH // tokens.numel())
        explainer = attr.IntegratedGradients(self.model.network_.logits)
        found = explainer.attribute(tokens, n_steps=self.n_steps, internal_batch_size=at_once)
        return np.asarray(found[0].sum(dim=-1).detach().numpy())


class _MaskedMap(ModelMap):
    """Explanations that take tokens away; where there are many, groups of neighbours together.

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    max_features
        Tokens of a datum that has more are taken away in so many compact groups; members share their group's score.
    random_state
        Seed.
    model
        Shared with other maps; replaces `target` and `random_state`.
    """

    def __init__(
        self,
        target: Hashable | None = None,
        max_features: int = 512,
        random_state: int = 0,
        model: MILModel | None = None,
    ) -> None:
        super().__init__(MILModel(target, random_state=random_state) if model is None else model)
        self.max_features = max_features
        self.random_state = random_state

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the score of every token, (n_tokens,)."""
        torch = import_torch()
        import_captum()
        groups = spatial_groups(graph.positions, self.max_features)
        sizes = np.bincount(groups)
        at_once = max(1, _LARGEST_BATCH // graph.n_tokens)
        present = torch.ones(1, len(sizes), dtype=torch.float64)
        # captum draws from torch's global generator, which must be left as it was
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.random_state)
            scores = self._of_groups(self._logit_under_masks(graph, groups), present, at_once)
        return np.asarray((scores[0].numpy() / sizes)[groups], dtype=np.float64)

    def _of_groups(self, logit: Any, present: Any, at_once: int) -> Any:
        """Return scores (1, n_groups) of a function of masks (n_masks, n_groups)."""
        raise NotImplementedError

    def _logit_under_masks(self, graph: TokenGraph, groups: NDArray[np.int64]) -> Any:
        """Return the logit as a function of which groups are there.

        Value and raw attention of a token do not depend on other tokens, so that those of all tokens and of the
        reference, computed once, give the logit under any mask.
        """
        torch, network = import_torch(), self.model.network_
        values, raw = (torch.from_numpy(part) for part in network.of_tokens(self.model.tokens(graph)))
        nothing = np.zeros((1, self.model.projection_.n_components), dtype=np.float32)
        reference_value, reference_raw = (float(part[0]) for part in network.of_tokens(nothing))
        numbers = torch.from_numpy(groups)

        def logit(masks: Any) -> Any:
            there = masks[:, numbers] > 0.5
            weights = network.architecture.normalize(torch.where(there, raw, reference_raw), torch.ones_like(there))
            return (weights * torch.where(there, values, reference_value)).sum(dim=-1)

        return logit


class ShapleySampling(_MaskedMap):
    """SHAP: Shapley values of tokens, by sampling permutations (Castro et al., 2009; captum's ShapleyValueSampling).

    Every permutation brings tokens back one by one and credits each with the change of the logit; the mean over
    permutations is unbiased, and its sum over a datum exact. Lundberg and Lee (NeurIPS 2017, arXiv 1705.07874) call
    these values SHAP.
    """

    name = "attention MIL, SHAP"
    map = "Shapley value, sampled"
    n_permutations = 50

    def _of_groups(self, logit: Any, present: Any, at_once: int) -> Any:
        """Average over permutations."""
        explainer = import_captum().ShapleyValueSampling(logit)
        return explainer.attribute(
            present, n_samples=self.n_permutations, perturbations_per_eval=min(at_once, present.shape[1])
        )


class Lime(_MaskedMap):
    """LIME: a ridge regression of the logit on which tokens are there (Ribeiro, Singh and Guestrin, KDD 2016).

    Each token is taken away with probability 1/2; masks count the more, the closer they are to the whole datum
    (exponential kernel of the cosine distance, as captum sets it).
    """

    name = "attention MIL, LIME"
    map = "LIME"
    ridge = 1.0

    def _of_groups(self, logit: Any, present: Any, at_once: int) -> Any:
        """Fit the regression; 2,000 masks, or 16 for each token or group where that is more."""
        from captum._utils.models.linear_model import SkLearnRidge

        explainer = import_captum().Lime(logit, interpretable_model=SkLearnRidge(alpha=self.ridge))
        n_masks = max(2000, 16 * present.shape[1])
        return explainer.attribute(present, n_samples=n_masks, perturbations_per_eval=at_once)


def spatial_groups(positions: NDArray[np.float64], max_groups: int) -> NDArray[np.int64]:
    """Divide tokens into compact groups of nearly equal size, by halving along the longer side.

    Parameters
    ----------
    positions
        Shape (n_tokens, n_axes).
    max_groups
        Largest number of groups, >= 1; every token is its own group where there are no more tokens.

    Returns
    -------
    NDArray[np.int64]
        Shape (n_tokens,), numbers from 0.
    """
    if len(positions) <= max_groups:
        return np.arange(len(positions))
    groups = [np.arange(len(positions))]
    while 2 * len(groups) <= max_groups:
        halves = []
        for members in groups:
            axis = int(np.ptp(positions[members], axis=0).argmax())
            order = members[np.argsort(positions[members, axis], kind="stable")]
            halves += [order[: len(order) // 2], order[len(order) // 2 :]]
        groups = halves
    numbers = np.empty(len(positions), dtype=np.int64)
    for number, members in enumerate(groups):
        numbers[members] = number
    return numbers
