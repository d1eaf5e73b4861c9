from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.graph import TokenGraph, chain_graph, join_graphs
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError, MismatchError, UnknownNameError
from napari_prospector.study.patients import PatientGraphs, as_data

SIZES, N_DIMS = (5, 7, 3, 11, 13), 2
LABELS = ["tumour", "normal", "tumour", "normal", "tumour"]
PATIENTS = ["p7", "p2", "p7", "p3", "p7"]


def slides() -> list[TokenGraph]:
    generator = np.random.default_rng(0)
    return [chain_graph(generator.normal(size=(size, N_DIMS))) for size in SIZES]


def test_the_slides_of_a_patient_are_one_datum_with_the_patients_label() -> None:
    graphs = slides()
    patients = PatientGraphs(graphs, LABELS, PATIENTS)
    assert patients.groups == ("p7", "p2", "p3")
    assert patients.labels == ("tumour", "normal", "normal")
    assert patients.members == ((0, 2, 4), (1,), (3,))
    assert [graph.n_tokens for graph in patients] == [5 + 3 + 13, 7, 11]
    whole = join_graphs([graphs[0], graphs[2], graphs[4]])
    np.testing.assert_array_equal(patients[0].embeddings, whole.embeddings)
    assert patients[0].n_edges == whole.n_edges
    assert patients[1] is graphs[1]


def test_a_slice_is_a_sequence_of_patients_too() -> None:
    some = PatientGraphs(slides(), LABELS, PATIENTS)[1:]
    assert [graph.n_tokens for graph in some] == [7, 11]
    assert isinstance(some, PatientGraphs)
    assert (some.groups, some.labels) == (("p2", "p3"), ("normal", "normal"))


def test_a_head_learns_from_patients_what_it_learns_from_slides_that_were_joined_by_hand() -> None:
    generator = np.random.default_rng(1)
    graphs = [chain_graph(generator.normal(size=(17, N_DIMS)) + 2 * (i // 2 % 2)) for i in range(28)]
    labels, patients = [f"c{i // 2 % 2}" for i in range(28)], [f"p{i // 2}" for i in range(28)]
    learned = as_data(graphs, labels, patients, "group")
    head = ProspectorHead(n_concepts=3, radius=1, kernel="fold-change", refine=False).fit(
        learned.graphs, learned.labels, learned.groups
    )
    by_hand = [join_graphs(graphs[i : i + 2]) for i in range(0, 28, 2)]
    other = ProspectorHead(n_concepts=3, radius=1, kernel="fold-change", refine=False).fit(
        by_hand, labels[::2], patients[::2]
    )
    assert head.n_data_ == {"c0": 7, "c1": 7}
    np.testing.assert_array_equal(head.kernels_.evidence, other.kernels_.evidence)
    np.testing.assert_array_equal(head.predict_proba(learned.graphs), other.predict_proba(by_hand))


def test_where_the_slide_is_the_datum_nothing_is_joined() -> None:
    graphs = slides()
    assert as_data(graphs, LABELS, PATIENTS) == (graphs, tuple(LABELS), tuple(PATIENTS))
    assert as_data(graphs, LABELS, None).groups is None


def test_what_makes_no_datum_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="one label, .*; group 'p7' has 'normal', 'tumour'"):
        PatientGraphs(slides(), [*LABELS[:4], "normal"], PATIENTS)
    with pytest.raises(MismatchError, match="labels must hold one entry for each of 5 slides; got 4"):
        PatientGraphs(slides(), LABELS[:4], PATIENTS)
    with pytest.raises(MismatchError, match="groups must hold one entry for each of 5 slides; got 4"):
        PatientGraphs(slides(), LABELS, PATIENTS[:4])
    with pytest.raises(InvalidInputError, match="groups must be given where the group is the datum"):
        as_data(slides(), LABELS, None, "group")
    with pytest.raises(UnknownNameError, match="'slide' or 'group'; got 'patient'"):
        as_data(slides(), LABELS, PATIENTS, "patient")
