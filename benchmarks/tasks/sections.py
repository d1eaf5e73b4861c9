"""Medical documents (MedQuAD): find the sentences of a section, knowing only which documents have it.

A token is a sentence; it is joined to the two before and the two after it. Sections are laid end to end and their
labels hidden. Documents of GARD have a section or lack it; from half of those of GHR, which all have it, it is dropped.

The encoder is a bag of words: words and pairs of words, hashed, TF-IDF, and the leading 128 singular directions, all
of them fitted on sentences of training documents alone.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.task import Split, Task
from napari_prospector.core.graph import chain_graph
from napari_prospector.errors import InvalidInputError

__all__ = ["SECTIONS", "BagOfWords", "Document", "load", "split_sentences"]

SECTIONS = {"inheritance": "2_GARD_QA", "treatment": "2_GARD_QA", "genetic changes": "3_GHR_QA"}
"""The sections to look for, and the source of the documents."""

DROPPED = {"genetic changes"}  # all documents of that source have it
REACH, N_DIMS, N_HASHES = 2, 128, 2**15
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")


@dataclass(frozen=True)
class Document:
    """Sentences in reading order, and for each whether it is of the section looked for."""

    name: str
    sentences: tuple[str, ...]
    truth: tuple[bool, ...]


class BagOfWords:
    """Sentences as vectors: hashed words and pairs of words, TF-IDF, leading singular directions.

    Parameters
    ----------
    n_dims
        Length of a vector.
    """

    def __init__(self, n_dims: int = N_DIMS) -> None:
        self.n_dims = n_dims

    def fit(self, sentences: Sequence[str]) -> BagOfWords:
        """Learn document frequencies and directions from sentences of training documents."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
        from sklearn.pipeline import make_pipeline

        # signs of hashes would cancel counts, and TF-IDF wants counts
        hashed = HashingVectorizer(
            n_features=N_HASHES, ngram_range=(1, 2), alternate_sign=False, norm=None, dtype=np.float64
        )
        directions = TruncatedSVD(self.n_dims, random_state=0)
        self.pipeline_ = make_pipeline(hashed, TfidfTransformer(sublinear_tf=True), directions).fit(sentences)
        return self

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors (n_sentences, n_dims)."""
        return np.asarray(self.pipeline_.transform(sentences), dtype=np.float32)


def load(shared: Path, seed: int, section: str = "inheritance", n_train: int = 100, n_test: int = 60) -> Task:
    """Draw documents, half of them with the section, and embed their sentences.

    Parameters
    ----------
    shared
        Holds `data/text/medquad.jsonl.gz`.
    seed
        Decides which documents take part, and where.
    section
        Of `SECTIONS`.
    n_train, n_test
        How many documents, both even.

    Raises
    ------
    InvalidInputError
        If the section is unknown, a number is odd, or there are too few documents.
    """
    if section not in SECTIONS:
        raise InvalidInputError(f"section must be one of {', '.join(SECTIONS)}; got {section!r}.")
    if n_train % 2 or n_test % 2:
        raise InvalidInputError(f"n_train and n_test must be even; got {n_train} and {n_test}.")
    rng = np.random.default_rng(seed)
    having, lacking = _documents(shared / "data" / "text" / "medquad.jsonl.gz", section, rng)
    half, needed = n_train // 2, (n_train + n_test) // 2
    if min(len(having), len(lacking)) < needed:
        raise InvalidInputError(
            f"{n_train} + {n_test} documents need {needed} of each kind; there are {len(having)} and {len(lacking)}."
        )
    train, test = having[:half] + lacking[:half], having[half:needed] + lacking[half:needed]
    encoder = BagOfWords().fit([sentence for document in train for sentence in document.sentences])
    return Task(
        name=f"section {section}",
        about=f"find the sentences of the section {section} among documents of {SECTIONS[section]}, a bag of words",
        target=section,
        train=_split(train, encoder, section),
        test=_split(test, encoder, section),
        support={split: _support(part) for split, part in (("train", train), ("test", test))},
    )


def split_sentences(text: str) -> list[str]:
    """Cut a text after `.`, `!` or `?` where blank space and a capital or a digit follow.

    Blank space of any kind is one blank; quotation marks and brackets may stand between. No list of abbreviations:
    `Dr. Smith` is cut, `e.g. a cat` is not.
    """
    flat = " ".join(text.split())
    return [sentence for sentence in _END_OF_SENTENCE.split(flat) if sentence]


@cache
def _records(path: Path, source: str) -> list[dict[str, Any]]:
    """Return the documents of a source that have two or more sections, in the order of the file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [record for record in records if record["source"] == source and len(record["sections"]) > 1]


def _documents(path: Path, section: str, rng: np.random.Generator) -> tuple[list[Document], list[Document]]:
    """Return the documents that have the section and those that lack it, both shuffled."""
    records = _records(path, SECTIONS[section])
    order = rng.permutation(len(records)).tolist()
    having: list[Document] = []
    lacking: list[Document] = []
    for place, index in enumerate(order):
        sections = records[index]["sections"]
        if section in DROPPED and place % 2:
            sections = [part for part in sections if part["label"] != section]
        pairs = [(line, part["label"] == section) for part in sections for line in split_sentences(part["text"])]
        document = Document(records[index]["file"], *(tuple(column) for column in zip(*pairs, strict=True)))
        (having if any(document.truth) else lacking).append(document)
    return having, lacking


def _split(documents: Sequence[Document], encoder: BagOfWords, section: str) -> Split:
    """Return documents as graphs."""
    graphs = [chain_graph(encoder.encode(document.sentences), REACH) for document in documents]
    labels = [section if any(document.truth) else "without" for document in documents]
    truths = [np.array(document.truth) for document in documents]
    return Split(graphs, labels, [document.name for document in documents], truths, graphs)


def _support(documents: Sequence[Document]) -> dict[str, float]:
    """Return how many documents and sentences there are."""
    n_sentences = [len(document.sentences) for document in documents]
    return {
        "documents": len(documents),
        "sentences": sum(n_sentences),
        "median_sentences": float(np.median(n_sentences)),
    }
