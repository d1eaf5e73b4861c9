"""Maps of attention multiple-instance learning that need one forward or one backward pass."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph
from napari_prospector.errors import UnknownNameError
from napari_prospector.study.baselines.milmodel import MILModel, ModelMap
from napari_prospector.study.baselines.pooling import HomogeneousPooling
from napari_prospector.study.baselines.projection import BLOCK_ROWS

__all__ = ["AttentionMIL", "GradCAM", "XMIL"]


class AttentionMIL(ModelMap):
    """Attention multiple-instance learning (ABMIL), gated (Ilse, Tomczak and Welling, ICML 2018, arXiv 1802.04712).

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    map
        "attention": the share of each token in the weighted mean, whatever it speaks for. "logit": the share times
        what the token says, a_i (c · h_i + b); over a datum these add up to its logit without the prior.
    random_state
        Seed.
    model
        Shared with other maps; replaces `target` and `random_state`.

    Raises
    ------
    UnknownNameError
        If there is no such map.
    """

    def __init__(
        self,
        target: Hashable | None = None,
        map: str = "attention",
        random_state: int = 0,
        model: MILModel | None = None,
    ) -> None:
        if map not in ("attention", "logit"):
            raise UnknownNameError(f"map must be 'attention' or 'logit'; got {map!r}.")
        super().__init__(MILModel(target, random_state=random_state) if model is None else model)
        self.map = map

    @property
    def name(self) -> str:
        """What a table calls the method."""
        return f"attention MIL, {self.map}"

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return attention, or attention times value, of every token, (n_tokens,)."""
        values, raw = self.model.network_.of_tokens(self.model.tokens(graph))
        attention = self.model.network_.weights(raw)
        return attention if self.map == "attention" else attention * values


class XMIL(ModelMap):
    """Multiple-instance learning without biases, whose integrated gradients are input × gradient, exactly.

    See `HomogeneousPooling`: the network is positively homogeneous, so that one backward pass gives what integrated
    gradients from the mean token of negative data give in the limit of many steps.

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    pooling
        "mean", or "attention": weights that are a ReLU brought to a sum of 1.
    random_state
        Seed.

    Raises
    ------
    UnknownNameError
        If there is no such pooling.
    """

    map = "input × gradient"

    def __init__(self, target: Hashable | None = None, pooling: str = "mean", random_state: int = 0) -> None:
        if pooling not in ("mean", "attention"):
            raise UnknownNameError(f"pooling must be 'mean' or 'attention'; got {pooling!r}.")
        architecture = HomogeneousPooling(attention=pooling == "attention")
        super().__init__(MILModel(target, architecture, random_state=random_state))
        self.pooling = pooling

    @property
    def name(self) -> str:
        """What a table calls the method."""
        return f"X-MIL, {self.pooling} pooling"

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return input times gradient, (n_tokens,); over a datum these add up to its logit without the prior."""
        tokens = self.model.tokens(graph)
        return np.asarray(np.einsum("ij,ij->i", self.model.network_.gradient(tokens), tokens))


class GradCAM(ModelMap):
    """Grad-CAM of an attention MIL model (Selvaraju et al., ICCV 2017, arXiv 1610.02391, eq. 1 and 2).

    The tokens of a datum are taken as the feature map that the model reads: the weight of a dimension is the mean over
    tokens of the gradient of the logit with respect to it, and a score the weighted sum of a token's dimensions. Where
    tokens are the cells of the last feature map of a convolutional encoder, or the patches of a transformer, this is
    the published map; where every tile was embedded by itself, it is the same formula on the grid of tiles.

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    relu
        Published maps set negative scores to 0. Without it (the default here) tokens below 0 keep their order.
    random_state
        Seed.
    model
        Shared with other maps; replaces `target` and `random_state`.
    """

    def __init__(
        self,
        target: Hashable | None = None,
        relu: bool = False,
        random_state: int = 0,
        model: MILModel | None = None,
    ) -> None:
        super().__init__(MILModel(target, random_state=random_state) if model is None else model)
        self.relu = relu

    name = "attention MIL, Grad-CAM"

    @property
    def map(self) -> str:
        """What a table calls the scores."""
        return "Grad-CAM" if self.relu else "Grad-CAM, signed"

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the weighted sum of the dimensions of every token, (n_tokens,)."""
        weights = self.model.projection_.matrix @ self.model.network_.gradient(self.model.tokens(graph)).mean(axis=0)
        embeddings: NDArray[Any] = graph.embeddings
        blocks = range(0, graph.n_tokens, BLOCK_ROWS)
        scores = np.concatenate([embeddings[i : i + BLOCK_ROWS].astype(np.float64) @ weights for i in blocks])
        return np.maximum(scores, 0) if self.relu else scores
