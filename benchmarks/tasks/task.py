"""What every task is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph

__all__ = ["Split", "Task", "one_hot"]


@dataclass(frozen=True, eq=False)
class Split:
    """The data of training or of test.

    Attributes
    ----------
    graphs
        One of each datum, as a prospector head takes them.
    labels
        Class of each datum.
    groups
        What may not be divided and is drawn by the bootstrap: pool of patients, family of chains, document, donor.
    truths
        For each datum (n_tokens,): True where the class lives; all False where the label is another. None where
        nobody has marked regions.
    vector_graphs
        The same graphs for methods that need vectors; `graphs` itself unless tokens are categories.
    """

    graphs: Sequence[TokenGraph]
    labels: Sequence[str]
    groups: Sequence[str]
    truths: Sequence[NDArray[np.bool_]] | None
    vector_graphs: Sequence[TokenGraph]

    @property
    def n_data(self) -> int:
        """Number of data."""
        return len(self.graphs)

    def is_target(self, target: str) -> NDArray[np.bool_]:
        """Return which data are of a class, (n_data,)."""
        return np.array([label == target for label in self.labels])


@dataclass(frozen=True, eq=False)
class Task:
    """A question to be answered from labels of data alone, and data that no method has seen.

    Attributes
    ----------
    name
        Short, unique among tasks.
    about
        One sentence for a reader of the table.
    target
        The class to find; two classes occur.
    train, test
        They share no group.
    quantize, n_concepts
        `"identity"` and the number of categories where tokens are categories; else `"k-means"` and None: the default.
    support
        What the figures rest on: numbers of distinct pictures, patients, chains, documents, donors.
    expected_concept
        The concept that should carry the map where there is no region truth; None elsewhere.
    """

    name: str
    about: str
    target: str
    train: Split
    test: Split
    quantize: str = "k-means"
    n_concepts: int | None = None
    support: dict[str, Any] = field(default_factory=dict)
    expected_concept: int | None = None


def one_hot(graph: TokenGraph, n_categories: int) -> TokenGraph:
    """Return a graph of categories (n_tokens, 1) with indicators instead, (n_tokens, n_categories)."""
    return graph.with_embeddings(np.eye(n_categories, dtype=np.float32)[graph.embeddings[:, 0].astype(np.int64)])
