"""Protein chains that bind zinc or not: find the residues of the site, knowing amino acids and contacts alone.

A token is a residue, its concept the amino acid; two residues touch where their C-beta atoms (C-alpha for glycine) are
at most 8 Å apart. Half of the binding chains are for training. Binding chains are longer, so for each of them four
other chains are drawn at random from the 24 unused ones nearest to it in length, none of them twice. Chains that share
more than a fifth of their words of five residues are one family, and a family is never divided.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.task import Split, Task, one_hot
from napari_prospector.core.graph import TokenGraph, radius_graph
from napari_prospector.errors import FileFormatError, MissingExtraError

__all__ = ["AMINO_ACIDS", "Chain", "CysteineThenHistidine", "load", "read_chain"]

AMINO_ACIDS = tuple(
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split()
)  # fmt: skip
OTHER = len(AMINO_ACIDS)
"""Category of a residue that is none of the twenty."""

N_CATEGORIES = OTHER + 1
CUTOFF_ANGSTROM = 8.0
NEGATIVES_EACH, NEAREST = 4, 24
WORD, FAMILY_SHARE = 5, 0.2
TARGET, OTHERS = "zinc", "no zinc"


@dataclass(frozen=True, eq=False)
class Chain:
    """A chain as read.

    Attributes
    ----------
    names
        Three-letter name of each residue.
    numbers, insertions
        As the file numbers them.
    positions
        (n_residues, 3), Å: C-beta; C-alpha where there is none; the centre of the atoms where there is neither.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    insertions: tuple[str, ...]
    positions: NDArray[np.float64]

    @property
    def categories(self) -> NDArray[np.float32]:
        """Amino acid of each residue, (n_residues, 1)."""
        place = {name: i for i, name in enumerate(AMINO_ACIDS)}
        return np.array([[place.get(name, OTHER)] for name in self.names], dtype=np.float32)

    def graph(self) -> TokenGraph:
        """Return the contacts of the residues."""
        return radius_graph(self.positions, CUTOFF_ANGSTROM, self.categories)

    def truth(self, site: Sequence[str]) -> NDArray[np.bool_]:
        """Return which residues are named, like `CYS104`, (n_residues,)."""
        known = {
            f"{name}{number}": i
            for i, (name, number, insertion) in reversed(
                list(enumerate(zip(self.names, self.numbers, self.insertions, strict=True)))
            )
            if not insertion
        }
        missing = sorted(set(site) - known.keys())
        if missing:
            raise FileFormatError(f"residues of the site must be in the chain; {', '.join(missing)} are not.")
        truth = np.zeros(len(self.names), dtype=bool)
        truth[[known[name] for name in site]] = True
        return truth


class CysteineThenHistidine:
    """The rule of thumb: cysteine before histidine before the rest."""

    name = 'rule "cysteine, then histidine"'
    map = "rule"
    n_parameters = 0

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Learn nothing."""
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return 2, 1 or 0 for every residue, (n_tokens,); embeddings are amino acids or their indicators."""
        wide = graph.embeddings.shape[1] > 1
        acids = graph.embeddings.argmax(axis=1) if wide else graph.embeddings[:, 0].astype(np.int64)
        rank = 2.0 * (acids == AMINO_ACIDS.index("CYS")) + (acids == AMINO_ACIDS.index("HIS"))
        return np.asarray(rank, dtype=np.float64)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> None:
        """Return None: nothing is said about data."""


def load(shared: Path, seed: int) -> Task:
    """Read the chains and draw training and test.

    Parameters
    ----------
    shared
        Holds `data/structures/zinc`.
    seed
        Decides which chains are for training, and which chains without zinc take part.

    Raises
    ------
    MissingExtraError
        Without biotite.
    """
    chains, sites, families = read_chains(shared / "data" / "structures" / "zinc")
    rng = np.random.default_rng(seed)
    lengths = {name: len(chain.names) for name, chain in chains.items()}
    split_of = _split_families(families, sites, rng)
    binding = [name for name in sorted(chains) if sites[name]]
    drawn = _matched({name for name in chains if not sites[name]}, binding, split_of, families, lengths, rng)
    members = {
        split: [name for name in binding if split_of[families[name]] == split] + drawn[split]
        for split in ("train", "test")
    }
    splits = {split: _split(names, chains, sites, families) for split, names in members.items()}
    return Task(
        name="zinc sites",
        about="find the residues that bind zinc, knowing amino acids and contacts within 8 Å",
        target=TARGET,
        train=splits["train"],
        test=splits["test"],
        quantize="identity",
        n_concepts=N_CATEGORIES,
        support={split: _support(names, lengths, sites, families) for split, names in members.items()},
    )


@cache
def read_chains(folder: Path) -> tuple[dict[str, Chain], dict[str, list[str]], dict[str, str]]:
    """Return all chains, the residues of each one's site (none without zinc), and the family of each."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stated = json.loads((folder / "site_residues.json").read_text(encoding="utf-8"))
    sites = {row["name"]: list(stated[row["name"]]) if row["label"] == "1" else [] for row in rows}
    chains = {row["name"]: read_chain(folder / "chains" / f"{row['name']}.pdb.gz") for row in rows}
    return chains, sites, _families({name: chain.names for name, chain in chains.items()})


def read_chain(path: Path) -> Chain:
    """Read the first model of a gzipped PDB file; of alternate atoms the most occupied.

    Raises
    ------
    MissingExtraError
        Without biotite.
    """
    try:
        from biotite.structure import get_residue_starts
        from biotite.structure.io.pdb import PDBFile
    except ImportError as error:
        raise MissingExtraError(
            'reading structures needs biotite. Install it: pip install "napari-prospector[bench]".'
        ) from error
    text = gzip.decompress(path.read_bytes()).decode("ascii")
    atoms = PDBFile.read(io.StringIO(text)).get_structure(model=1, altloc="occupancy")
    starts = get_residue_starts(atoms)
    ends = [*starts[1:], atoms.array_length()]
    places = [_place(atoms.atom_name[i:j], atoms.coord[i:j]) for i, j in zip(starts, ends, strict=True)]
    return Chain(
        tuple(atoms.res_name[starts].tolist()),
        tuple(atoms.res_id[starts].tolist()),
        tuple(atoms.ins_code[starts].tolist()),
        np.array(places, dtype=np.float64),
    )


def _place(names: NDArray[np.str_], coords: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return where a residue is, (3,)."""
    for wanted in ("CB", "CA"):
        if (names == wanted).any():
            return np.asarray(coords[names == wanted][0], dtype=np.float64)
    return np.asarray(coords.mean(axis=0), dtype=np.float64)


def _families(sequences: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the family of each chain: the first name among those that it is joined with, directly or by others."""
    words = {name: {s[i : i + WORD] for i in range(len(s) - WORD + 1)} for name, s in sequences.items()}
    holders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in sorted(words):
        for word in words[name]:
            holders[word].append(name)
    common = Counter((a, b) for names in holders.values() for i, a in enumerate(names) for b in names[i + 1 :])
    family = {name: name for name in sequences}
    for (a, b), n_common in sorted(common.items()):
        if n_common > FAMILY_SHARE * min(len(words[a]), len(words[b])) and family[a] != family[b]:
            kept, given_up = sorted((family[a], family[b]))
            family = {name: kept if head == given_up else head for name, head in family.items()}
    return family


def _split_families(families: dict[str, str], sites: dict[str, list[str]], rng: np.random.Generator) -> dict[str, str]:
    """Return training or test for each family that holds a binding chain; about half of the binding chains are each."""
    sizes = Counter(family for name, family in families.items() if sites[name])
    split_of: dict[str, str] = {}
    n_train = 0
    for family in rng.permutation(sorted(sizes)).tolist():
        fits = n_train + sizes[family] <= sum(sizes.values()) // 2
        split_of[family] = "train" if fits else "test"
        n_train += sizes[family] if fits else 0
    return split_of


def _matched(
    unused: set[str],
    binding: Sequence[str],
    split_of: dict[str, str],
    families: dict[str, str],
    lengths: dict[str, int],
    rng: np.random.Generator,
) -> dict[str, list[str]]:
    """Draw chains without zinc that are about as long as the binding ones, none twice; mark their families."""
    drawn: dict[str, list[str]] = {"train": [], "test": []}
    for name in rng.permutation(binding).tolist():
        split = split_of[families[name]]
        allowed = [other for other in sorted(unused) if split_of.get(families[other], split) == split]
        near = sorted(allowed, key=lambda other: (abs(np.log(lengths[other] / lengths[name])), other))[:NEAREST]
        for other in rng.permutation(near)[:NEGATIVES_EACH].tolist():
            unused.discard(other)
            split_of[families[other]] = split
            drawn[split].append(other)
    return drawn


def _split(
    names: Sequence[str], chains: dict[str, Chain], sites: dict[str, list[str]], families: dict[str, str]
) -> Split:
    """Return chains as graphs."""
    graphs = [chains[name].graph() for name in names]
    labels = [TARGET if sites[name] else OTHERS for name in names]
    truths = [chains[name].truth(sites[name]) for name in names]
    vectors = [one_hot(graph, N_CATEGORIES) for graph in graphs]
    return Split(graphs, labels, [families[name] for name in names], truths, vectors)


def _support(
    names: Sequence[str], lengths: dict[str, int], sites: dict[str, list[str]], families: dict[str, str]
) -> dict[str, Any]:
    """Return how many chains and families of each class there are, and how long they are."""
    support: dict[str, Any] = {}
    for label, binds in ((TARGET, True), (OTHERS, False)):
        own = [name for name in names if bool(sites[name]) == binds]
        support[label] = {
            "chains": len(own),
            "families": len({families[name] for name in own}),
            "median_residues": float(np.median([lengths[name] for name in own])),
        }
    return support
