from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import planted

from napari_prospector.core.graph import TokenGraph, chain_graph, grid_graph
from napari_prospector.study.baselines import (
    XMIL,
    AttentionMIL,
    IntegratedGradients,
    Lime,
    MILModel,
    ShapleySampling,
    explainers,
)
from napari_prospector.study.baselines.explainers import spatial_groups

TRAINING = planted(22)


@pytest.fixture(scope="module")
def model() -> MILModel:
    return MILModel("tumour").fit(TRAINING.graphs, TRAINING.labels)


def small_datum(n_tokens: int, datum: int = 3) -> TokenGraph:
    return chain_graph(TRAINING.graphs[datum].embeddings[:n_tokens])


def logit_of(model: MILModel, tokens: NDArray[np.float32]) -> float:
    values, raw = model.network_.of_tokens(tokens)
    return float(model.network_.weights(raw) @ values)


def logit_without(model: MILModel, graph: TokenGraph, there: NDArray[np.bool_]) -> float:
    """The logit of a datum in which every other token is the mean token of negative data: the network run again."""
    tokens = model.tokens(graph)
    tokens[~there] = 0
    return logit_of(model, tokens)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_one_backward_pass_of_x_mil_is_integrated_gradients_of_captum(pooling: str) -> None:
    method = XMIL("tumour", pooling).fit(TRAINING.graphs, TRAINING.labels)
    by_captum = IntegratedGradients(n_steps=50, model=method.model)
    for graph in TRAINING.graphs[:5]:
        np.testing.assert_allclose(method.prospect(graph), by_captum.prospect(graph), atol=1e-6)


def test_softmax_attention_has_no_such_short_cut(model: MILModel) -> None:
    graph, by_captum = TRAINING.graphs[1], IntegratedGradients(model=model)
    tokens = model.tokens(graph)
    short_cut = (model.network_.gradient(tokens) * tokens).sum(axis=1)
    assert np.abs(short_cut - by_captum.prospect(graph)).max() > 0.01


def test_integrated_gradients_are_the_mean_gradient_along_the_ray_and_complete(model: MILModel) -> None:
    graph = TRAINING.graphs[5]
    tokens = model.tokens(graph)
    n_steps = 2000  # midpoints: the error falls with its square
    mean = np.mean(
        [model.network_.gradient(((i + 0.5) / n_steps * tokens).astype(np.float32)) for i in range(n_steps)], axis=0
    )
    found = IntegratedGradients(model=model).prospect(graph)
    np.testing.assert_allclose(found, (mean * tokens).sum(axis=1), atol=5e-3 * np.ptp(found))
    assert found.sum() == pytest.approx(logit_of(model, tokens) - logit_of(model, 0 * tokens), rel=5e-3)


def test_steps_in_small_batches_give_the_same_integral(model: MILModel, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, method = TRAINING.graphs[5], IntegratedGradients(model=model)
    whole = method.prospect(graph)
    monkeypatch.setattr(explainers, "_LARGEST_BATCH", 3 * model.tokens(graph).size)
    np.testing.assert_allclose(method.prospect(graph), whole, atol=1e-9)


def test_sampled_shapley_values_approach_those_of_all_permutations(
    model: MILModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, method = small_datum(6), ShapleySampling(model=model)
    expected = np.zeros(6)
    for order in permutations(range(6)):
        there = np.zeros(6, dtype=bool)
        before = logit_without(model, graph, there)
        for token in order:
            there[token] = True
            after = logit_without(model, graph, there)
            expected[token] += (after - before) / 720
            before = after
    monkeypatch.setattr(ShapleySampling, "n_permutations", 700)
    found = method.prospect(graph)
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-5)  # captum adds up in float32
    np.testing.assert_allclose(found, expected, atol=0.06 * np.ptp(expected))


def test_the_values_of_all_tokens_add_up_to_what_they_change(model: MILModel) -> None:
    graph = TRAINING.graphs[7]
    tokens = model.tokens(graph)
    change = logit_of(model, tokens) - logit_of(model, 0 * tokens)
    assert ShapleySampling(model=model).prospect(graph).sum() == pytest.approx(change, abs=1e-5)


def test_lime_is_a_weighted_ridge_regression_of_the_logit_on_masks(model: MILModel) -> None:
    graph = small_datum(7)
    masks = np.array([[number >> bit & 1 for bit in range(7)] for number in range(128)], dtype=float)
    logits = np.array([logit_without(model, graph, mask > 0) for mask in masks])
    # cosine distance to the whole datum; that of the empty mask is 1
    closeness = np.sqrt(masks.mean(axis=1))
    weight = np.exp(-((1 - closeness) ** 2) / 2) * 2000 / 128
    centered = masks - np.average(masks, axis=0, weights=weight)
    gram = (centered * weight[:, None]).T @ centered + np.eye(7)
    expected = np.linalg.solve(gram, (centered * weight[:, None]).T @ (logits - np.average(logits, weights=weight)))
    np.testing.assert_allclose(Lime(model=model).prospect(graph), expected, atol=0.15 * np.abs(expected).max())


@pytest.mark.parametrize("explain", [ShapleySampling, Lime])
def test_a_seed_decides_and_the_random_numbers_of_torch_stay_as_they_were(
    explain: type[ShapleySampling] | type[Lime], model: MILModel
) -> None:
    import torch

    torch.manual_seed(1)
    before, graph = torch.random.get_rng_state(), TRAINING.graphs[1]
    first = explain(model=model).prospect(graph)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(explain(model=model).prospect(graph), first)
    assert (explain(model=model, random_state=2).prospect(graph) != first).any()


@pytest.mark.parametrize("explain", [ShapleySampling, Lime])
def test_tokens_of_a_group_share_its_score_and_groups_are_complete(
    explain: type[ShapleySampling] | type[Lime], model: MILModel
) -> None:
    graph = TRAINING.graphs[1]
    groups = spatial_groups(graph.positions, 5)
    scores = explain(max_features=5, model=model).prospect(graph)
    assert len(np.unique(groups)) == 4
    assert all(len(np.unique(scores[groups == group])) == 1 for group in range(4))
    if explain is ShapleySampling:
        tokens = model.tokens(graph)
        assert scores.sum() == pytest.approx(logit_of(model, tokens) - logit_of(model, 0 * tokens), abs=1e-5)


def test_groups_are_compact_and_of_nearly_equal_size() -> None:
    positions = grid_graph(np.ones((13, 29), dtype=bool), np.zeros((13 * 29, 1), np.float32)).positions
    groups = spatial_groups(positions, 23)
    sizes = np.bincount(groups)
    assert len(sizes) == 16
    assert sizes.max() - sizes.min() <= 1
    for group in range(16):
        height, width = np.ptp(positions[groups == group], axis=0) + 1
        assert max(height, width) <= 2.5 * min(height, width)
    np.testing.assert_array_equal(spatial_groups(positions[:17], 17), np.arange(17))


def test_taking_a_token_away_moves_the_logit_as_its_map_says(model: MILModel) -> None:
    graph = TRAINING.graphs[1]
    top = int(AttentionMIL(map="logit", model=model).prospect(graph).argmax())
    for method in (IntegratedGradients(model=model), ShapleySampling(model=model), Lime(model=model)):
        assert method.prospect(graph)[top] > np.median(method.prospect(graph))
    there = np.arange(graph.n_tokens) != top
    assert logit_without(model, graph, there) < logit_of(model, model.tokens(graph))
