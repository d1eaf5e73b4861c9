"""Networks that turn the tokens of a datum into one logit by a weighted mean, and their gradients, a block at a time.

Every network here gives each token a value and an attention; the logit is the mean of the values, weighted by the
attention brought to a sum of 1. Whatever is asked of such a network costs memory that grows with the tokens, never
with their square. Parameters carry a leading axis of models, so that all folds and decays are trained at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import MissingExtraError

__all__ = ["Architecture", "FittedNetwork", "GatedAttention", "HomogeneousPooling", "import_torch"]

BLOCK_TOKENS = 8192

Parameters = dict[str, Any]  # name → tensor with a leading axis of models; what is named "bias…" is not decayed


def import_torch() -> ModuleType:
    """Import torch, or say how to get it."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("This baseline needs torch. Install it: pip install torch") from error
    module: ModuleType = torch
    return module


class Architecture(Protocol):
    """How a network is built; it holds no learned numbers."""

    def start(self, n_inputs: int, generator: Any) -> Parameters:
        """Draw the parameters of one model: tensors with a leading axis of length 1."""

    def of_tokens(self, parameters: Parameters, tokens: Any) -> tuple[Any, Any]:
        """Return values and raw attention, each (n_models, n_tokens), of tokens (n_tokens, n_inputs)."""

    def normalize(self, raw: Any, present: Any) -> Any:
        """Bring raw attention (…, n_tokens) to a sum of 1 over tokens that are `present` (bool, broadcast to it)."""


@dataclass(frozen=True)
class GatedAttention:
    """Gated attention over a hidden layer (ABMIL; Ilse, Tomczak and Welling, ICML 2018, arXiv 1802.04712, eq. 9).

    A token is h = relu(W z + b); its raw attention is a · (tanh(V h + b) ⊙ sigmoid(U h + b)), brought to a sum of 1
    by a softmax, and its value c · h + b.

    Parameters
    ----------
    n_hidden, n_attention
        Widths of the hidden layer and of the attention.
    """

    n_hidden: int = 32
    n_attention: int = 16

    def start(self, n_inputs: int, generator: Any) -> Parameters:
        """Draw the parameters of one model."""
        torch = import_torch()
        hidden, attention = self.n_hidden, self.n_attention
        return {
            "hidden": _uniform(n_inputs, hidden, generator),
            "bias hidden": torch.zeros(1, 1, hidden),
            "tanh": _uniform(hidden, attention, generator),
            "bias tanh": torch.zeros(1, 1, attention),
            "gate": _uniform(hidden, attention, generator),
            "bias gate": torch.zeros(1, 1, attention),
            "attention": _uniform(attention, 1, generator),
            "value": _uniform(hidden, 1, generator),
            "bias value": torch.zeros(1, 1, 1),
        }

    def of_tokens(self, parameters: Parameters, tokens: Any) -> tuple[Any, Any]:
        """Return values and raw attention."""
        torch = import_torch()
        hidden = torch.relu(tokens @ parameters["hidden"] + parameters["bias hidden"])
        turned = torch.tanh(hidden @ parameters["tanh"] + parameters["bias tanh"])
        gate = torch.sigmoid(hidden @ parameters["gate"] + parameters["bias gate"])
        raw = (turned * gate) @ parameters["attention"]
        value = hidden @ parameters["value"] + parameters["bias value"]
        return value.squeeze(-1), raw.squeeze(-1)

    def normalize(self, raw: Any, present: Any) -> Any:
        """Take the softmax over present tokens."""
        return import_torch().softmax(raw.masked_fill(~present, -math.inf), dim=-1)


@dataclass(frozen=True)
class HomogeneousPooling:
    """A hidden layer without biases, averaged: twice the tokens give twice the logit (X-MIL).

    A token is h = relu(W z), its value c · h. Attention is the same for all ("mean"), or relu(u · h) brought to a sum
    of 1 ("attention"; all alike where no token has any). The logit F then obeys F(s z) = s F(z) for s > 0, so that
    its integrated gradients from 0 are input × gradient, without any integral (Hesse, Schaub-Meyer and Roth,
    *Fast axiomatic attribution for neural networks*, NeurIPS 2021, arXiv 2111.07668, proposition 3.2).

    Parameters
    ----------
    attention
        Whether tokens are weighted.
    n_hidden
        Width of the hidden layer.
    """

    attention: bool = False
    n_hidden: int = 32

    def start(self, n_inputs: int, generator: Any) -> Parameters:
        """Draw the parameters of one model."""
        drawn = {
            "hidden": _uniform(n_inputs, self.n_hidden, generator),
            "value": _uniform(self.n_hidden, 1, generator),
        }
        return drawn | ({"attention": _uniform(self.n_hidden, 1, generator)} if self.attention else {})

    def of_tokens(self, parameters: Parameters, tokens: Any) -> tuple[Any, Any]:
        """Return values and raw attention."""
        torch = import_torch()
        hidden = torch.relu(tokens @ parameters["hidden"])
        value = (hidden @ parameters["value"]).squeeze(-1)
        if not self.attention:
            return value, torch.ones_like(value)
        return value, (hidden @ parameters["attention"]).squeeze(-1)

    def normalize(self, raw: Any, present: Any) -> Any:
        """Divide what is positive by its sum over present tokens."""
        torch = import_torch()
        positive = torch.relu(raw) * present
        total = positive.sum(dim=-1, keepdim=True)
        alike = present / present.sum(dim=-1, keepdim=True)
        # the inner `where` keeps a division by 0 out of the gradient
        return torch.where(total > 0, positive / torch.where(total > 0, total, torch.ones_like(total)), alike)


@dataclass(frozen=True)
class FittedNetwork:
    """An architecture and the parameters of one model, in float64.

    Attributes
    ----------
    architecture
        How they are used.
    parameters
        By name; leading axis of length 1.
    """

    architecture: Architecture
    parameters: Parameters

    @property
    def n_parameters(self) -> int:
        """Number of learned numbers."""
        return sum(int(tensor.numel()) for tensor in self.parameters.values())

    def of_tokens(self, tokens: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return values and raw attention, each (n_tokens,), of tokens (n_tokens, n_inputs)."""
        torch = import_torch()
        values, raw = np.empty(len(tokens)), np.empty(len(tokens))
        with torch.no_grad():
            for start in range(0, len(tokens), BLOCK_TOKENS):
                block = slice(start, start + BLOCK_TOKENS)
                found = self.architecture.of_tokens(self.parameters, torch.from_numpy(tokens[block]).double())
                values[block], raw[block] = (part[0].numpy() for part in found)
        return values, raw

    def weights(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return attention that adds up to 1, of raw attention, both (..., n_tokens)."""
        torch = import_torch()
        with torch.no_grad():
            normal = self.architecture.normalize(torch.from_numpy(raw), torch.ones(raw.shape, dtype=torch.bool))
        return np.asarray(normal.numpy())

    def logits(self, tokens: Any) -> Any:
        """Return the logit of each datum of a tensor (n_data, n_tokens, n_inputs) float64; differentiable."""
        torch = import_torch()
        values, raw = self.architecture.of_tokens(self.parameters, tokens.reshape(-1, tokens.shape[-1]))
        raw = raw.reshape(tokens.shape[:2])
        weights = self.architecture.normalize(raw, torch.ones_like(raw, dtype=torch.bool))
        return (weights * values.reshape(tokens.shape[:2])).sum(dim=-1)

    def gradient(self, tokens: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the gradient of the logit of a datum, (n_tokens, n_inputs), a block of tokens at a time.

        All that tokens know of each other are the sums behind the weighted mean: the gradient with respect to values
        and raw attention comes first, over the whole datum, and is then carried on to the tokens of each block.
        """
        torch = import_torch()
        values, raw = (torch.from_numpy(part).requires_grad_() for part in self.of_tokens(tokens))
        weights = self.architecture.normalize(raw, torch.ones_like(raw, dtype=torch.bool))
        to_values, to_raw = torch.autograd.grad((weights * values).sum(), (values, raw))
        gradient = np.empty(tokens.shape)
        for start in range(0, len(tokens), BLOCK_TOKENS):
            block = slice(start, start + BLOCK_TOKENS)
            inputs = torch.from_numpy(tokens[block]).double().requires_grad_()
            value, attention = self.architecture.of_tokens(self.parameters, inputs)
            carried = (value[0] * to_values[block]).sum() + (attention[0] * to_raw[block]).sum()
            gradient[block] = torch.autograd.grad(carried, inputs)[0].numpy()
        return gradient


def _uniform(n_inputs: int, n_outputs: int, generator: Any) -> Any:
    """Draw weights (1, n_inputs, n_outputs) of a layer that keeps the spread of what passes (He et al., 2015)."""
    torch = import_torch()
    bound = math.sqrt(3.0 / n_inputs)
    return (2 * torch.rand(1, n_inputs, n_outputs, generator=generator) - 1) * bound
