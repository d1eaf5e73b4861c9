from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.graph import TokenGraph, chain_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.study.evaluate import evaluate
from napari_prospector.study.head_maps import HeadMap, maps_of

N_DATA, N_TOKENS, N_DIMS, N_CONCEPTS = 22, 31, 7, 5
LABELS = ["normal", "tumour"] * 11


@pytest.fixture(scope="module")
def graphs() -> list[TokenGraph]:
    generator = np.random.default_rng(0)
    drawn = [generator.normal(size=(N_TOKENS, N_DIMS)).astype(np.float32) for _ in range(N_DATA)]
    for i, embeddings in enumerate(drawn):
        embeddings[:7, 0] += 3 * (i % 2)
    return [chain_graph(embeddings) for embeddings in drawn]


@pytest.fixture(scope="module", params=[True, False], ids=["refined", "not refined"])
def head(request: pytest.FixtureRequest, graphs: list[TokenGraph]) -> ProspectorHead:
    settings = {"n_concepts": N_CONCEPTS, "radius": 1, "kernel": "fold-change", "refine": request.param}
    return ProspectorHead(**settings).fit(graphs[:14], LABELS[:14])


def test_the_best_map_comes_first_and_every_map_is_there_once(head: ProspectorHead) -> None:
    names = maps_of(head)
    assert names[0] == head.best_map_
    assert sorted(names) == sorted(head.maps_)
    assert ("refined" in names) == head.refine


def test_every_map_is_the_heads_and_counts_what_it_is_made_of(head: ProspectorHead, graphs: list[TokenGraph]) -> None:
    kernel = N_CONCEPTS + N_CONCEPTS * (N_CONCEPTS + 1) // 2 + N_CONCEPTS * N_DIMS
    for name in maps_of(head):
        method = HeadMap(head, name)
        np.testing.assert_array_equal(method.prospect(graphs[15]), head.prospect(graphs[15], map=name))
        # a read-out, its offset, the share of the neighbours and the weight of the evidence map
        assert method.n_parameters == kernel + (N_DIMS + 3) * (name == "refined")


def test_a_table_has_a_row_for_each_and_stars_the_best(head: ProspectorHead, graphs: list[TokenGraph]) -> None:
    truths = [np.arange(N_TOKENS) < 7 * (i % 2) for i in range(14, N_DATA)]
    found = evaluate(head, graphs[14:], LABELS[14:], truths, n_boot=11)
    assert [row.map for row in found.rows[:-3]] == list(maps_of(head))
    assert [row.map for row in found.rows if row.is_best] == [head.best_map_]
    assert len({row.datum_auroc for row in found.rows[:-3]}) == 1
