"""Networks on bags of tokens, trained by labels of data; decay and number of steps chosen by cross-validation.

All folds and all decays are trained side by side, on all data at each step. A held-out datum is in the forward pass
and not in the loss, so that its loss after every step comes for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.crossfit import TokenSample
from napari_prospector.study.baselines.pooling import Architecture, FittedNetwork, Parameters, import_torch
from napari_prospector.study.baselines.projection import Projection

__all__ = ["Bags", "Choice", "TrainingPlan", "choose", "make_bags", "train"]


@dataclass(frozen=True)
class Bags:
    """The tokens of data, filled up to the same number.

    Attributes
    ----------
    tokens
        Shape (n_data, n_most, n_inputs); 0 where there is none.
    present
        Shape (n_data, n_most): where there is a token.
    is_target
        Shape (n_data,), 0 or 1.
    """

    tokens: NDArray[np.float32]
    present: NDArray[np.bool_]
    is_target: NDArray[np.int64]


@dataclass(frozen=True)
class TrainingPlan:
    """How networks are trained.

    Parameters
    ----------
    decays
        Weight decays to choose from: the share of a weight that is lost per step is the decay times `rate`.
    max_steps
        Most steps of Adam.
    patience
        The choice ends after so many steps without a lower loss of held-out data.
    rate
        Of Adam.
    """

    decays: tuple[float, ...] = (0.3, 3.0, 10.0)
    max_steps: int = 200
    patience: int = 40
    rate: float = 2e-2


@dataclass(frozen=True)
class Choice:
    """What cross-validation found.

    Attributes
    ----------
    decay, n_steps
        The chosen ones.
    loss
        Mean log-loss of held-out data under them; infinite where none could be held out.
    """

    decay: float
    n_steps: int
    loss: float


def make_bags(sample: TokenSample, projection: Projection, is_target: NDArray[np.int64]) -> Bags:
    """Project sampled tokens and lay them out by datum."""
    n_each = np.bincount(sample.owner, minlength=len(is_target))
    # owner ascends, so that the place of a token in its datum is its number less that of the datum's first
    place = np.arange(len(sample.owner)) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    tokens = np.zeros((len(is_target), int(n_each.max()), projection.n_components), dtype=np.float32)
    tokens[sample.owner, place] = projection.apply(sample.embeddings)
    return Bags(tokens, np.arange(int(n_each.max())) < n_each[:, None], is_target)


def choose(architecture: Architecture, bags: Bags, folds: NDArray[np.int64], plan: TrainingPlan, seed: int) -> Choice:
    """Return the decay and the number of steps under which held-out data have the least log-loss.

    Parameters
    ----------
    architecture, bags, plan
        What is trained, on what, and how.
    folds
        Shape (n_data,), of `make_folds`. Without folds the middle decay and a third of the steps are taken.
    seed
        Of the starting point, which all folds and decays share.
    """
    n_folds, n_decays = int(folds.max()) + 1, len(plan.decays)
    if n_folds == 1:
        return Choice(plan.decays[n_decays // 2], plan.max_steps // 3, float("inf"))
    keep = np.repeat(np.array([folds != fold for fold in range(n_folds)]), n_decays, axis=0)
    run = _Run(architecture, bags, keep, np.tile(plan.decays, n_folds), plan.rate, seed)
    best = Choice(plan.decays[0], 0, float("inf"))
    for n_steps in range(plan.max_steps):
        losses = np.where(keep, 0.0, run.step())
        held_out = losses.sum(axis=1).reshape(n_folds, n_decays).sum(axis=0) / len(folds)
        if held_out.min() < best.loss:
            best = Choice(plan.decays[int(held_out.argmin())], n_steps, float(held_out.min()))
        if n_steps - best.n_steps >= plan.patience:
            break
    return best


def train(architecture: Architecture, bags: Bags, choice: Choice, plan: TrainingPlan, seed: int) -> FittedNetwork:
    """Train one model on all data."""
    everything = np.ones((1, len(bags.is_target)), dtype=bool)
    run = _Run(architecture, bags, everything, np.array([choice.decay]), plan.rate, seed)
    # a map needs a model that has seen something, even where held-out data would rather have none
    for _ in range(max(choice.n_steps, 1)):
        run.step()
    return run.fitted()


class _Run:
    """Several models of one architecture in training; keep (n_models, n_data) says what each learns from."""

    def __init__(
        self,
        architecture: Architecture,
        bags: Bags,
        keep: NDArray[np.bool_],
        decays: NDArray[np.float64],
        rate: float,
        seed: int,
    ) -> None:
        torch = import_torch()
        self.architecture = architecture
        self.tokens = torch.from_numpy(bags.tokens).reshape(-1, bags.tokens.shape[-1])
        self.present = torch.from_numpy(bags.present)
        self.wanted = torch.from_numpy(bags.is_target).float().expand(len(keep), -1)
        self.keep = torch.from_numpy(keep)
        self.share = self.keep / self.keep.sum(dim=1, keepdim=True)
        self.prior = torch.tensor([_log_odds(bags.is_target[row]) for row in keep])[:, None]
        start = architecture.start(bags.tokens.shape[-1], torch.Generator().manual_seed(seed))
        self.parameters: Parameters = {
            name: tensor.repeat(len(keep), 1, 1).requires_grad_() for name, tensor in start.items()
        }
        self.optimizer = torch.optim.Adam(list(self.parameters.values()), lr=rate)
        self.remaining = (1 - rate * torch.from_numpy(decays).float())[:, None, None]

    def step(self) -> NDArray[np.float64]:
        """Go one step; return the log-loss of every datum before it, (n_models, n_data)."""
        torch = import_torch()
        values, raw = self.architecture.of_tokens(self.parameters, self.tokens)
        shape = (len(self.keep), *self.present.shape)
        weights = self.architecture.normalize(raw.reshape(shape), self.present)
        logits = (weights * values.reshape(shape)).sum(dim=-1) + self.prior
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, self.wanted, reduction="none")
        self.optimizer.zero_grad()
        (losses * self.share).sum().backward()
        self.optimizer.step()
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                if not name.startswith("bias"):
                    tensor.mul_(self.remaining)
        return np.asarray(losses.detach().numpy(), dtype=np.float64)

    def fitted(self) -> FittedNetwork:
        """Return the first model as it stands."""
        return FittedNetwork(
            self.architecture, {name: tensor[:1].detach().double() for name, tensor in self.parameters.items()}
        )


def _log_odds(is_target: NDArray[np.int64]) -> float:
    """Return the log-odds of the class among data (n_data,) of both kinds."""
    return float(np.log(is_target.mean() / (1 - is_target.mean())))
