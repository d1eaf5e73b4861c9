"""Tasks of the accuracy benchmark: what is read, what is matched, and that nothing crosses from training to test."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tasks import cells, histology, sections, zinc
from benchmarks.tasks.task import Task, one_hot
from napari_prospector.core.graph import chain_graph
from napari_prospector.errors import FileFormatError, InvalidInputError

ATOM = "ATOM  {serial:5d} {name:<4s}{alternate:1s}{residue:3s} A{number:4d}{insertion:1s}   {x:8.3f}{y:8.3f}{z:8.3f}"
ATOM += "{occupancy:6.2f} 20.00          {element:>2s}  "


def atom(
    name: str, residue: str, number: int, x: float, *, insertion: str = "", alternate: str = "", occupancy: float = 1.0
) -> str:
    """One line of a PDB file; an atom on the x axis."""
    place = {"x": x, "y": 0.0, "z": 0.0, "serial": 1, "element": name[0]}
    parts = {"residue": residue, "number": number, "insertion": insertion, "alternate": alternate}
    return ATOM.format(name=f" {name}", occupancy=occupancy, **parts, **place)


def chain_file(folder: Path) -> Path:
    lines = [
        atom("CA", "CYS", 7, 0.0),
        atom("CB", "CYS", 7, 1.0, alternate="A", occupancy=0.4),
        atom("CB", "CYS", 7, 2.0, alternate="B", occupancy=0.6),
        atom("CA", "GLY", 8, 9.5),
        atom("CA", "CYS", 7, 30.0, insertion="A"),
        atom("CB", "CYS", 7, 31.0, insertion="A"),
        atom("N", "MSE", 9, 50.0),
        atom("C", "MSE", 9, 54.0),
    ]
    path = folder / "chain.pdb.gz"
    path.write_bytes(gzip.compress(("\n".join(lines) + "\nEND\n").encode("ascii")))
    return path


def test_a_residue_is_where_its_c_beta_is_or_its_c_alpha_or_else_the_middle_of_its_atoms(tmp_path: Path) -> None:
    chain = zinc.read_chain(chain_file(tmp_path))
    assert chain.names == ("CYS", "GLY", "CYS", "MSE")
    assert chain.insertions == ("", "", "A", "")
    # of two alternate C-betas the more occupied one
    assert chain.positions[:, 0].tolist() == [2.0, 9.5, 31.0, 52.0]


def test_residues_touch_within_eight_angstrom_and_unknown_ones_share_a_category(tmp_path: Path) -> None:
    graph = zinc.read_chain(chain_file(tmp_path)).graph()
    assert graph.n_edges == 1
    assert graph.indices[graph.indptr[0] : graph.indptr[1]].tolist() == [1]
    assert graph.embeddings[:, 0].tolist() == [4.0, 7.0, 4.0, 20.0]


def test_a_site_names_residues_without_insertion_code(tmp_path: Path) -> None:
    chain = zinc.read_chain(chain_file(tmp_path))
    assert chain.truth(["CYS7"]).tolist() == [True, False, False, False]
    with pytest.raises(FileFormatError, match="HIS8 are not"):
        chain.truth(["CYS7", "HIS8"])


def test_the_rule_puts_cysteine_before_histidine_before_the_rest() -> None:
    acids = ["ALA", "HIS", "CYS", "GLY", "HIS"]
    graph = chain_graph(np.array([[zinc.AMINO_ACIDS.index(acid)] for acid in acids], dtype=np.float32))
    rule = zinc.CysteineThenHistidine().fit([], [])
    assert rule.prospect(graph).tolist() == [0, 1, 2, 0, 1]
    assert rule.prospect(one_hot(graph, 21)).tolist() == [0, 1, 2, 0, 1]


@pytest.fixture(scope="module")
def some_chains(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the shared one with 11 binding chains and every ninth of the others."""
    folder = shared / "data" / "structures" / "zinc"
    header, *rows = (folder / "manifest.csv").read_text(encoding="utf-8").splitlines()
    column = header.split(",").index("label")
    binding = [row for row in rows if row.split(",")[column] == "1"][:11]
    others = [row for row in rows if row.split(",")[column] == "0"][::9]
    root = tmp_path_factory.mktemp("shared")
    small = root / "data" / "structures" / "zinc"
    small.mkdir(parents=True)
    (small / "manifest.csv").write_text("\n".join([header, *binding, *others]) + "\n", encoding="utf-8")
    (small / "site_residues.json").symlink_to(folder / "site_residues.json")
    (small / "chains").symlink_to(folder / "chains")
    return root


def check_splits(task: Task) -> None:
    """What holds of every task."""
    assert not set(task.train.groups) & set(task.test.groups)
    for split in (task.train, task.test):
        assert len(split.graphs) == len(split.labels) == len(split.groups) == len(split.vector_graphs)
        assert len(set(split.labels)) == 2
        for i, (graph, vectors) in enumerate(zip(split.graphs, split.vector_graphs, strict=True)):
            assert graph.n_tokens == vectors.n_tokens
            if split.truths is not None:
                assert split.truths[i].shape == (graph.n_tokens,)
                assert split.truths[i].any() == (split.labels[i] == task.target)


def test_chains_of_zinc_are_divided_by_family_and_matched_in_length(some_chains: Path) -> None:
    task = zinc.load(some_chains, seed=3)
    check_splits(task)
    for split, support in ((task.train, task.support["train"]), (task.test, task.support["test"])):
        n_binding = int(split.is_target("zinc").sum())
        assert n_binding in (5, 6)
        assert split.n_data == n_binding + support["no zinc"]["chains"] == 5 * n_binding
    stated = json.loads((some_chains / "data/structures/zinc/site_residues.json").read_text(encoding="utf-8"))
    chains, sites, _ = zinc.read_chains(some_chains / "data" / "structures" / "zinc")
    assert sum(len(site) for site in sites.values()) == sum(len(stated[name]) for name, site in sites.items() if site)
    assert all(chains[name].truth(site).sum() == len(set(site)) for name, site in sites.items())
    again, other = zinc.load(some_chains, seed=3), zinc.load(some_chains, seed=4)
    assert again.train.groups == task.train.groups
    assert other.train.groups != task.train.groups


def test_chains_that_share_a_fifth_of_their_words_are_one_family() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (tuple(rng.choice(zinc.AMINO_ACIDS, 53).tolist()) for _ in range(3))
    families = zinc._families({"a": a, "half a, half b": a[:29] + b[:29], "b": b, "c": c})
    assert families == {"a": "a", "half a, half b": "a", "b": "a", "c": "c"}


def test_of_chains_without_zinc_those_of_the_right_length_are_drawn_none_twice() -> None:
    lengths = {"binding": 100} | {f"chain {n}": n for n in range(10, 400, 3)}
    families = {name: name for name in lengths}
    others = set(lengths) - {"binding"}
    drawn = zinc._matched(others, ["binding"], {"binding": "test"}, families, lengths, np.random.default_rng(0))
    assert drawn["train"] == []
    assert len(set(drawn["test"])) == zinc.NEGATIVES_EACH
    nearest = sorted(set(lengths) - {"binding"}, key=lambda name: abs(np.log(lengths[name] / 100)))[: zinc.NEAREST]
    assert set(drawn["test"]) <= set(nearest)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two!  Is it three?\n\n Yes", ["One.", "Two!", "Is it three?", "Yes"]),
        ("Seen e.g. in cats. 3 of 5.", ["Seen e.g. in cats.", "3 of 5."]),
        ("A value of 3.5 mm.", ["A value of 3.5 mm."]),
        ('He said "no." Then (Later) on.', ['He said "no.', "Then (Later) on."]),
        ("  ", []),
    ],
)
def test_sentences_end_where_a_capital_or_a_digit_follows(text: str, sentences: list[str]) -> None:
    assert sections.split_sentences(text) == sentences


@pytest.mark.parametrize("section", ["treatment", "genetic changes"])
def test_documents_have_the_section_or_lack_it(shared: Path, section: str) -> None:
    task = sections.load(shared, seed=1, section=section, n_train=14, n_test=6)
    check_splits(task)
    assert [task.train.labels.count(section), task.test.labels.count(section)] == [7, 3]
    assert task.train.graphs[0].n_dims == sections.N_DIMS


def test_the_section_is_dropped_from_documents_that_all_have_it(shared: Path) -> None:
    path = shared / "data" / "text" / "medquad.jsonl.gz"
    having, lacking = sections._documents(path, "genetic changes", np.random.default_rng(0))
    assert len(having) + len(lacking) == len(sections._records(path, "3_GHR_QA"))
    assert abs(len(having) - len(lacking)) == 1
    record = next(r for r in sections._records(path, "3_GHR_QA") if r["file"] == having[0].name)
    texts = [part["text"] for part in record["sections"] if part["label"] == "genetic changes"]
    found = [sentence for sentence, true in zip(having[0].sentences, having[0].truth, strict=True) if true]
    assert " ".join(found).replace(" ", "") == "".join(texts).replace(" ", "").replace("\n", "")


def test_the_bag_of_words_learns_from_training_sentences_alone() -> None:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(31)]
    train = [" ".join(rng.choice(words, 7)) for _ in range(53)]
    encoder = sections.BagOfWords(n_dims=5).fit(train)
    alone = encoder.encode(["word3 word5"])
    assert alone.shape == (1, 5)
    assert np.array_equal(encoder.encode(["unheard of", "word3 word5"])[1], alone[0])
    assert not encoder.encode(["unheard of"]).any()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"section": "causes"}, "one of inheritance"), ({"n_train": 7}, "even; got 7"), ({"n_train": 9000}, "need 4530")],
)
def test_what_cannot_be_drawn_of_documents_is_refused(shared: Path, arguments: dict[str, int], match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        sections.load(shared, 0, **arguments)


def test_donors_are_divided_and_long_disease_lacks_beta_cells(shared: Path) -> None:
    task = cells.load(shared, seed=2)
    check_splits(task)
    assert [len(set(split.groups)) for split in (task.train, task.test)] == [4, 4]
    beta = [float((graph.embeddings == task.expected_concept).mean()) for graph in task.test.graphs]
    of_target = task.test.is_target(task.target)
    assert np.mean(np.array(beta)[of_target]) > 10 * np.mean(np.array(beta)[~of_target])


def test_mosaics_of_fewer_slides_are_a_part_of_more_and_the_test_is_the_same(shared: Path, tmp_path: Path) -> None:
    few = histology.load(shared, 1, "serrated", "stain-texture", n_train=6, cache_folder=tmp_path)
    more = histology.load(shared, 1, "serrated", "stain-texture", n_train=12, cache_folder=tmp_path)
    check_splits(few)
    assert np.array_equal(few.train.graphs[5].embeddings, more.train.graphs[5].embeddings)
    assert all(
        np.array_equal(a.embeddings, b.embeddings) for a, b in zip(few.test.graphs, more.test.graphs, strict=True)
    )
    assert few.support["train"]["polyp"]["pictures"] > 6


def test_a_cache_is_believed_only_if_the_encoder_still_says_the_same(shared: Path, tmp_path: Path) -> None:
    histology.embed_pictures.cache_clear()
    made = histology.embed_pictures(shared, "stain-texture", tmp_path)
    path = tmp_path / "ebhi-stain-texture.npz"
    with np.load(path, allow_pickle=False) as kept:
        names, vectors = kept["names"], kept["embeddings"]
    for change, holds in ((0.0, True), (1.0, False)):
        changed = vectors + np.float32(change)
        changed[1] = 13  # not among those that are looked at
        np.savez(path, names=names, embeddings=changed)
        histology.embed_pictures.cache_clear()
        found = histology.embed_pictures(shared, "stain-texture", tmp_path)
        assert bool((found[str(names[1])] == 13).all()) == holds
        assert holds or np.array_equal(found[str(names[0])], made[str(names[0])])


def test_an_unknown_encoder_and_too_many_slides_are_refused(shared: Path) -> None:
    with pytest.raises(InvalidInputError, match="MobileNetV2, stain-texture; got 'uni'"):
        histology.encoder_of("uni", shared)
    with pytest.raises(InvalidInputError, match="at most 48; got 49"):
        histology.load(shared, 0, n_train=49)
