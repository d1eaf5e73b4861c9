"""Projections of embeddings to fewer dimensions, so that grids of patch tokens stay small.

``random``: a matrix of signs, ±1 / sqrt(n_dims), that follows from the lengths and a seed alone; it keeps distances
as well as any (Achlioptas, J. Comput. Syst. Sci. 66 (2003) 671, Theorem 1.1). ``pca``: the principal axes of a sample
of tokens. A projection is written as safetensors, known by a hash of its numbers, and never unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, MissingFileError
from napari_prospector.tokens.durable import storage_errors, write_whole
from napari_prospector.tokens.encoders.encodercard import EncoderCard

__all__ = ["PcaSample", "Projection", "named_projection", "parse_projection", "random_projection"]

FORMAT = "napari-prospector projection"
_KINDS = ("random", "pca")
# What must be the same for a sample of tokens to speak for others.
_MADE_FOR = ("name", "weights_sha256", "tile_px", "mpp", "tokens", "overlap_px")

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map of embeddings, after a mean is taken off.

    Parameters
    ----------
    kind
        ``"random"`` or ``"pca"``.
    axes
        Shape (n_from, n_dims) float32.
    mean
        Shape (n_from,) float32; zeros where `kind` is random.
    seed
        Of a random one; None with pca.
    made_for
        Which tokens it was fitted on, entries of an `EncoderCard`; empty: any of that length.
    explained
        Share of the sample's variance that is kept, 0 to 1; None: not known.
    """

    kind: str
    axes: NDArray[np.float32]
    mean: NDArray[np.float32]
    seed: int | None = None
    made_for: Mapping[str, Any] = field(default_factory=dict)
    explained: float | None = None

    def __eq__(self, other: object) -> bool:
        """Whether both do the same to the same tokens."""
        return isinstance(other, Projection) and (self.sha256, self.made_for) == (other.sha256, other.made_for)

    def __hash__(self) -> int:
        """Follow the numbers."""
        return hash(self.sha256)

    @property
    def n_dims(self) -> int:
        """Length of what comes out."""
        return int(self.axes.shape[1])

    @property
    def sha256(self) -> str:
        """Hash of the numbers."""
        digest = hashlib.sha256(f"{self.kind} {self.axes.shape} ".encode())
        for array in (self.mean, self.axes):
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """What a card remembers; kind, lengths and seed say all of a random one, of a fitted one the hash does."""
        sha256 = self.sha256 if self.kind == "pca" else None
        lengths = {"n_from": int(self.axes.shape[0]), "n_dims": self.n_dims}
        return {"kind": self.kind, **lengths, "seed": self.seed, "sha256": sha256}

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Axes and mean by name."""
        return {"projection.axes": self.axes, "projection.mean": self.mean}

    def apply(self, vectors: Floats) -> NDArray[np.float32]:
        """Project embeddings, shape (..., n_from), to (..., n_dims).

        Raises
        ------
        InvalidInputError
            They have another length.
        """
        n_from = self.axes.shape[0]
        if vectors.shape[-1] != n_from:
            raise InvalidInputError(f"This projection takes embeddings of {n_from} dims; got {vectors.shape[-1]}.")
        flat = np.asarray(vectors, np.float32).reshape(-1, n_from)
        return np.asarray((flat - self.mean) @ self.axes, np.float32).reshape(*vectors.shape[:-1], self.n_dims)

    def check_belongs(self, card: EncoderCard) -> None:
        """Raise `MismatchError` unless it was made for the tokens of a card."""
        plain = _made_for(card)
        for name, value in self.made_for.items():
            if plain.get(name) != value:
                raise MismatchError(
                    f"This projection was fitted on {self.made_for.get('name')!r} with {name} {value!r}; now it is"
                    f" {plain.get(name)!r}. Fit another: name another folder with -o, or leave --project out."
                )
        if card.n_dims != self.axes.shape[0]:
            raise MismatchError(
                f"This projection takes tokens of {self.axes.shape[0]} dims; those of {card.name!r} have"
                f" {card.n_dims}. Fit another."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as safetensors, whole or not at all; raises `StorageError` where that cannot be."""
        about: dict[str, Any] = {"format": FORMAT, "kind": self.kind, "seed": self.seed, "explained": self.explained}
        about |= {"made_for": dict(self.made_for), "sha256": self.sha256}
        content = to_bytes(self.tensors, metadata={"projection": json.dumps(about, allow_nan=False)})
        with storage_errors(Path(path)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Projection:
        """Read what `save` wrote.

        Raises
        ------
        MissingFileError
            There is no such file.
        FileFormatError
            It is none, or its numbers are not those of its hash.
        """
        source = Path(path)
        if not source.is_file():
            raise MissingFileError(f"There is no projection at {source}. Pass pca:64 or random:64 to make one.")
        try:
            with safe_open(source, framework="numpy") as stream:
                about = json.loads((stream.metadata() or {}).get("projection", "null"))
                axes, mean = stream.get_tensor("projection.axes"), stream.get_tensor("projection.mean")
            if about["format"] != FORMAT:
                raise ValueError(f"it is a {about['format']}")
            found = cls(about["kind"], axes, mean, about["seed"], about["made_for"], about["explained"])
            found._check_numbers(about["sha256"])
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise FileFormatError(
                f"{source.name} is no projection, or it is damaged ({error}). Copy the file again, or remove it and"
                " fit another with --project pca:64."
            ) from error
        return found

    @classmethod
    def of_record(cls, record: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Projection:
        """Return the projection that a card remembers.

        Parameters
        ----------
        record
            From `record`.
        tensors
            Axes and mean of a fitted one, as in `tensors`; others are drawn again.

        Raises
        ------
        MissingFileError
            It is a fitted one, and the tensors are not there.
        FileFormatError
            The tensors are not those that the card remembers.
        """
        if record["kind"] == "random":
            return random_projection(record["n_from"], record["n_dims"], record["seed"])
        if not {"projection.axes", "projection.mean"} <= set(tensors):
            raise MissingFileError(
                f"The projection {str(record['sha256'])[:8]} that these tokens went through is not at hand. It is"
                " projection.safetensors beside the token grids; `prospect fit` puts it into the head, in Python pass"
                " CohortGraphs.head_tensors() to head.save."
            )
        found = cls(record["kind"], tensors["projection.axes"], tensors["projection.mean"])
        try:
            found._check_numbers(record["sha256"])
        except ValueError as error:
            raise FileFormatError(f"The projection is not the one that its card remembers: {error}.") from error
        return found

    def _check_numbers(self, sha256: str) -> None:
        """Raise ValueError unless kind, shapes and numbers are sound, and those of a hash."""
        sound = self.axes.ndim == 2 and self.mean.shape == self.axes.shape[:1] and self.axes.dtype == np.float32
        if self.kind not in _KINDS or not sound or not np.isfinite(self.axes).all():
            raise ValueError(f"kind {self.kind!r}, axes {self.axes.dtype} {self.axes.shape}, mean {self.mean.shape}")
        if self.sha256 != sha256:
            raise ValueError(f"its hash is {self.sha256[:8]}, that of the card {str(sha256)[:8]}")


def parse_projection(words: str) -> tuple[str, int]:
    """Read ``"pca:64"`` or ``"random:64"``.

    Returns
    -------
    tuple
        Kind, and number of dimensions.

    Raises
    ------
    InvalidInputError
        It is neither.

    Examples
    --------
    >>> parse_projection("pca:64")
    ('pca', 64)
    """
    found = re.fullmatch(r"(pca|random):([1-9]\d*)", words)
    if not found:
        raise InvalidInputError(
            f"A projection must be pca:DIMS, random:DIMS or a *.safetensors file, such as pca:64; got {words!r}."
        )
    return found[1], int(found[2])


def named_projection(name: str | Path, card: EncoderCard) -> Projection:
    """Return the projection that a word or a file stands for.

    Parameters
    ----------
    name
        ``"random:64"``, or a file that `Projection.save` wrote.
    card
        Of the tokens before they are projected.

    Raises
    ------
    InvalidInputError
        It is neither, or ``"pca:64"``, which must be fitted first.
    """
    if str(name).endswith(".safetensors"):
        return Projection.load(name)
    kind, n_dims = parse_projection(str(name))
    if kind == "pca":
        raise InvalidInputError(
            f"Principal axes must be fitted on slides; got {name!r}. `prospect embed --project {name}` does so; in"
            " Python pass what PcaSample.projection returns."
        )
    return random_projection(card.n_dims or 0, n_dims)


def random_projection(n_from: int, n_dims: int, seed: int = 0) -> Projection:
    """Draw a random projection; the same arguments give the same on every machine and version.

    Parameters
    ----------
    n_from, n_dims
        Length of an embedding before and after.
    seed
        Any whole number of at least 0.

    Raises
    ------
    InvalidInputError
        `n_dims` is not 1 to `n_from`.

    Examples
    --------
    >>> random_projection(5, 3).axes.shape
    (5, 3)
    """
    _check_lengths(n_from, n_dims)
    # bits of an extendable hash, not of a generator whose stream numpy may change
    n_bytes = -(-n_from * n_dims // 8)
    stream = hashlib.shake_256(f"{FORMAT} {n_from} {n_dims} {seed}".encode()).digest(n_bytes)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[: n_from * n_dims].reshape(n_from, n_dims)
    axes = (bits.astype(np.float32) * 2 - 1) / np.float32(math.sqrt(n_dims))
    return Projection("random", axes, np.zeros(n_from, np.float32), seed)


class PcaSample:
    """Sums over a sample of tokens, from which principal axes are found; memory does not grow with the sample."""

    def __init__(self) -> None:
        self.n_tokens = 0
        self._shift: NDArray[np.float64] | None = None

    def add(self, vectors: Floats) -> None:
        """Take in embeddings, shape (n, n_from)."""
        if not len(vectors):
            return
        tokens = np.asarray(vectors, np.float64)
        if self._shift is None:
            # near the mean, so that sums of squares do not lose digits
            self._shift = tokens.mean(axis=0)
            self._sum = np.zeros_like(self._shift)
            self._products = np.zeros((tokens.shape[1], tokens.shape[1]))
        tokens = tokens - self._shift
        self.n_tokens += len(tokens)
        self._sum += tokens.sum(axis=0)
        self._products += tokens.T @ tokens

    def projection(self, n_dims: int, card: EncoderCard) -> Projection:
        """Return the first principal axes; the largest entry of each is positive.

        Parameters
        ----------
        n_dims
            How many.
        card
            Of the encoder whose tokens these are.

        Raises
        ------
        InvalidInputError
            There are too few tokens, or `n_dims` is more than they have.
        """
        if self._shift is None or self.n_tokens <= n_dims:
            raise InvalidInputError(
                f"PCA to {n_dims} dims needs more than {n_dims} tokens; the sample holds {self.n_tokens}. Pass fewer"
                " dims, or more slides."
            )
        _check_lengths(len(self._shift), n_dims)
        offset = self._sum / self.n_tokens
        covariance = self._products / self.n_tokens - np.outer(offset, offset)
        variances, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, :n_dims]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
        axes = axes * np.where(largest < 0, -1.0, 1.0)
        total = float(np.maximum(variances, 0).sum())
        explained = float(np.maximum(variances[::-1][:n_dims], 0).sum()) / total if total > 0 else 0.0
        mean = (self._shift + offset).astype(np.float32)
        return Projection("pca", axes.astype(np.float32), mean, None, _made_for(card), explained)


def _made_for(card: EncoderCard) -> dict[str, Any]:
    """Return the entries of a card that decide what its tokens are before they are projected."""
    return {name: getattr(card, name) for name in _MADE_FOR}


def _check_lengths(n_from: int, n_dims: int) -> None:
    """Refuse a projection to more dimensions than there are."""
    if not 1 <= n_dims <= n_from:
        raise InvalidInputError(f"A projection must keep 1 to {n_from} dims of tokens of {n_from}; got {n_dims}.")
