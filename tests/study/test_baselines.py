from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.graph import TokenGraph, chain_graph, grid_graph
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.baselines import ConstantMap, MeanPooledLogistic, Method, RandomMap, neighbour_average

N_DIMS = 7


@pytest.fixture
def graphs() -> list[TokenGraph]:
    """Data in which the first five tokens of every other one are shifted along the first dimension."""
    generator = np.random.default_rng(0)
    drawn = [generator.normal(size=(31, N_DIMS)).astype(np.float32) for _ in range(22)]
    for i, embeddings in enumerate(drawn):
        embeddings[:5, 0] += 5 * (i % 2)
    return [chain_graph(embeddings) for embeddings in drawn]


LABELS = ["normal", "tumour"] * 11


@pytest.mark.parametrize("method", [ConstantMap(), RandomMap(), MeanPooledLogistic(), MeanPooledLogistic(hops=1)])
def test_every_method_scores_every_token_of_a_datum_by_one_interface(method: Method, graphs: list[TokenGraph]) -> None:
    fitted = method.fit(graphs, LABELS)
    assert fitted is method
    scores = method.prospect(graphs[3])
    assert scores.shape == (31,)
    np.testing.assert_array_equal(scores, method.prospect(graphs[3]))
    probability = method.target_probability(graphs)
    assert probability is None or probability.shape == (22,)
    assert method.n_parameters >= 0
    assert method.name
    assert method.map


def test_a_mean_pooled_regression_finds_what_shifts_the_mean(graphs: list[TokenGraph]) -> None:
    method = MeanPooledLogistic().fit(graphs[:16], LABELS[:16])
    held_out = method.target_probability(graphs[16:])
    assert held_out[1::2].min() > held_out[::2].max()
    scores = method.prospect(graphs[21])
    assert scores[:5].mean() > scores[5:].mean()
    assert np.argmax(np.abs(method.coefficients_)) == 0
    assert method.n_parameters == N_DIMS + 1


def test_the_scores_of_the_tokens_average_to_the_logit_of_the_datum(graphs: list[TokenGraph]) -> None:
    method = MeanPooledLogistic().fit(graphs, LABELS)
    logit = np.log(method.target_probability(graphs) / (1 - method.target_probability(graphs)))
    np.testing.assert_allclose([method.prospect(graph).mean() for graph in graphs], logit, atol=1e-9)


def test_the_target_turns_the_map(graphs: list[TokenGraph]) -> None:
    tumour, normal = (MeanPooledLogistic(target=name).fit(graphs, LABELS) for name in ("tumour", "normal"))
    np.testing.assert_allclose(tumour.prospect(graphs[1]), -normal.prospect(graphs[1]), atol=1e-4)


def test_a_ridge_is_chosen_where_data_can_be_held_out_and_is_moderate_where_not(graphs: list[TokenGraph]) -> None:
    assert MeanPooledLogistic().fit(graphs, LABELS).strength_ > 1e-4
    patients = [f"p{i % 2}" for i in range(22)]
    assert MeanPooledLogistic().fit(graphs, LABELS, patients).strength_ == 0.1


def test_averaging_equals_a_slow_double_loop() -> None:
    mask = np.random.default_rng(1).random((5, 7)) < 0.7
    graph = grid_graph(mask, np.zeros((int(mask.sum()), 3), np.float32))
    scores = np.random.default_rng(2).normal(size=graph.n_tokens)
    expected = scores
    for _ in range(2):
        places = graph.positions
        near = np.abs(places[:, None] - places[None]).max(axis=2) <= 1
        expected = np.array([expected[row].mean() for row in near])
    np.testing.assert_allclose(neighbour_average(graph, scores, hops=2), expected)
    np.testing.assert_array_equal(neighbour_average(graph, scores, hops=0), scores)


def test_random_maps_differ_between_data_and_seeds(graphs: list[TokenGraph]) -> None:
    assert (RandomMap().prospect(graphs[0]) != RandomMap().prospect(graphs[1])).any()
    assert (RandomMap().prospect(graphs[0]) != RandomMap(seed=3).prospect(graphs[0])).any()


def test_labels_that_leave_open_what_to_find_are_refused(graphs: list[TokenGraph]) -> None:
    with pytest.raises(InvalidInputError, match="one entry for each of 22 data; got 3"):
        MeanPooledLogistic().fit(graphs, ["a", "b", "a"])
    with pytest.raises(InvalidInputError, match=r"target must name the class .* got labels \['a', 'b', 'c'\]"):
        MeanPooledLogistic().fit(graphs[:3], ["a", "b", "c"])
    with pytest.raises(InvalidInputError, match="must hold 'd' and another class"):
        MeanPooledLogistic(target="d").fit(graphs, LABELS)
