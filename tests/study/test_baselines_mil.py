from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted import N_DIMS, planted
from scipy.special import expit, log_expit

from napari_prospector.core.crossfit import make_folds, sample_tokens
from napari_prospector.errors import InvalidInputError, UnknownNameError
from napari_prospector.study.baselines import XMIL, AttentionMIL, GradCAM, MILModel, pooling
from napari_prospector.study.baselines.pooling import Architecture, FittedNetwork, GatedAttention, HomogeneousPooling
from napari_prospector.study.baselines.projection import Projection, fit_projection
from napari_prospector.study.baselines.training import Bags, Choice, TrainingPlan, choose, make_bags, train

ARCHITECTURES = [GatedAttention(5, 3), HomogeneousPooling(False, 5), HomogeneousPooling(True, 5)]
PLAN = TrainingPlan(max_steps=23, patience=7)
TRAINING = planted(22)


def drawn(architecture: Architecture, seed: int = 3, n_inputs: int = 7) -> FittedNetwork:
    """A network with random parameters, biases included."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    start = architecture.start(n_inputs, generator)
    return FittedNetwork(
        architecture, {name: torch.randn(part.shape, generator=generator).double() for name, part in start.items()}
    )


def tokens_of(n_tokens: int = 31, n_inputs: int = 7, seed: int = 4) -> Any:
    return np.random.default_rng(seed).normal(size=(n_tokens, n_inputs)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> MILModel:
    return MILModel("tumour").fit(TRAINING.graphs, TRAINING.labels)


def test_gated_attention_is_the_formula_of_ilse_tomczak_and_welling() -> None:
    network, tokens = drawn(GatedAttention(5, 3)), tokens_of()
    p = {name: part.numpy()[0] for name, part in network.parameters.items()}
    raw, values = [], []
    for token in tokens.astype(np.float64):
        hidden = np.maximum(token @ p["hidden"] + p["bias hidden"][0], 0)
        gated = np.tanh(hidden @ p["tanh"] + p["bias tanh"][0]) * expit(hidden @ p["gate"] + p["bias gate"][0])
        raw.append(float((gated @ p["attention"]).item()))
        values.append(float((hidden @ p["value"]).item() + p["bias value"].item()))
    found_values, found_raw = network.of_tokens(tokens)
    np.testing.assert_allclose(found_values, values, rtol=1e-10)
    np.testing.assert_allclose(found_raw, raw, rtol=1e-10)
    np.testing.assert_allclose(network.weights(found_raw), np.exp(raw) / np.exp(raw).sum(), rtol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gradient_in_blocks_is_that_of_autograd_over_the_whole_datum(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    network, tokens = drawn(architecture), tokens_of()
    whole = torch.from_numpy(tokens).double()[None].requires_grad_()
    expected = torch.autograd.grad(network.logits(whole).sum(), whole)[0][0].numpy()
    monkeypatch.setattr(pooling, "BLOCK_TOKENS", 5)
    np.testing.assert_allclose(network.gradient(tokens), expected, atol=1e-12)
    values, raw = network.of_tokens(tokens)
    assert float(network.weights(raw) @ values) == pytest.approx(float(network.logits(whole).item()), abs=1e-12)


@pytest.mark.parametrize("attention", [False, True])
def test_a_network_without_biases_is_positively_homogeneous(attention: bool) -> None:
    import torch

    network = drawn(HomogeneousPooling(attention, 5))
    tokens = torch.from_numpy(tokens_of()).double()[None]
    for factor in (1e-3, 0.5, 17.0):
        np.testing.assert_allclose(network.logits(factor * tokens), factor * network.logits(tokens), rtol=1e-9)


@pytest.mark.parametrize("attention", [False, True])
def test_input_times_gradient_of_it_is_the_riemann_sum_of_gradients_along_the_ray(attention: bool) -> None:
    import torch

    network, tokens = drawn(HomogeneousPooling(attention, 5)), tokens_of()
    ray = torch.from_numpy((np.arange(1, 64) / 63)[:, None, None] * tokens).requires_grad_()
    gradients = torch.autograd.grad(network.logits(ray).sum(), ray)[0].numpy()
    np.testing.assert_allclose(network.gradient(tokens) * tokens, gradients.mean(axis=0) * tokens, atol=1e-6)


def test_where_no_token_has_attention_all_have_the_same_and_the_gradient_is_finite() -> None:
    network, tokens = drawn(HomogeneousPooling(True, 5)), tokens_of(6)
    network.parameters["attention"][:] = -1.0
    _, raw = network.of_tokens(tokens)
    assert (raw <= 0).all()
    np.testing.assert_allclose(network.weights(raw), 1 / 6)
    assert np.isfinite(network.gradient(tokens)).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_places_where_a_datum_has_no_token_weigh_nothing(architecture: Architecture) -> None:
    import torch

    raw = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 7)))
    present = torch.arange(7) < torch.tensor([[7], [4], [1]])
    weights = architecture.normalize(raw, present)
    assert (weights[~present] == 0).all()
    np.testing.assert_allclose(weights.sum(dim=1), 1)
    alone = architecture.normalize(raw[1:2, :4], torch.ones(1, 4, dtype=torch.bool))
    np.testing.assert_allclose(weights[1, :4], alone[0])


def test_bags_hold_the_tokens_of_each_datum_and_nothing_else() -> None:
    is_target = np.array([0, 1] * 11)
    sample = sample_tokens(TRAINING.graphs, 10_000, 0)
    bags = make_bags(sample, Projection(np.zeros(N_DIMS), np.eye(N_DIMS)), is_target)
    assert bags.tokens.shape == (22, 35, N_DIMS)
    for datum, graph in enumerate(TRAINING.graphs):
        np.testing.assert_array_equal(bags.tokens[datum][bags.present[datum]], graph.embeddings)
        assert not bags.tokens[datum][~bags.present[datum]].any()


def bags_of_training() -> Bags:
    is_target = np.array([0, 1] * 11)
    sample = sample_tokens(TRAINING.graphs, 10_000, 0)
    return make_bags(sample, fit_projection(sample.embeddings, 13), is_target)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_of_the_choice_is_that_of_models_trained_one_by_one_without_each_fold(
    architecture: Architecture,
) -> None:
    import torch

    bags, seed = bags_of_training(), 8
    folds = make_folds(bags.is_target, [f"p{i // 3}" for i in range(22)], 3, 0)
    choice = choose(architecture, bags, folds, PLAN, seed)
    assert choice.decay in PLAN.decays
    assert 0 < choice.n_steps < PLAN.max_steps
    losses = []
    for fold in range(3):
        rest, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        part = Bags(bags.tokens[rest], bags.present[rest], bags.is_target[rest])
        network = train(architecture, part, choice, PLAN, seed)
        prior = np.log(part.is_target.mean() / (1 - part.is_target.mean()))
        for datum in held_out:
            tokens = torch.from_numpy(bags.tokens[datum][bags.present[datum]]).double()
            logit = float(network.logits(tokens[None]).item()) + prior
            losses.append(-log_expit(logit if bags.is_target[datum] else -logit))
    assert choice.loss == pytest.approx(np.mean(losses), abs=2e-3)


def test_without_folds_training_is_moderate_and_says_no_loss() -> None:
    bags = bags_of_training()
    choice = choose(GatedAttention(5, 3), bags, np.zeros(22, dtype=np.int64), PLAN, 0)
    assert choice == Choice(3.0, 7, float("inf"))


def test_labels_drawn_at_random_leave_the_choice_at_the_loss_of_knowing_nothing() -> None:
    noise = planted(22, seed=5, random_labels=True)
    found = MILModel("tumour").fit(noise.graphs, noise.labels)
    assert found.choice_.loss > 0.55
    assert MILModel("tumour").fit(TRAINING.graphs, TRAINING.labels).choice_.loss < 0.3


def test_attention_adds_up_to_one_and_its_logits_to_that_of_the_datum(model: MILModel) -> None:
    attention, logit = AttentionMIL(model=model), AttentionMIL(map="logit", model=model)
    probability = model.target_probability(TRAINING.graphs)
    for graph, share in zip(TRAINING.graphs, probability, strict=True):
        assert attention.prospect(graph).sum() == pytest.approx(1)
        assert logit.prospect(graph).sum() + model.prior_ == pytest.approx(np.log(share / (1 - share)), abs=1e-6)
    assert attention.map == "attention"
    assert logit.map == "logit"


@pytest.mark.parametrize("pooled", ["mean", "attention"])
def test_the_scores_of_x_mil_add_up_to_the_logit_of_the_datum(pooled: str) -> None:
    method = XMIL("tumour", pooled).fit(TRAINING.graphs, TRAINING.labels)
    probability = method.target_probability(TRAINING.graphs)
    sums = [method.prospect(graph).sum() + method.model.prior_ for graph in TRAINING.graphs]
    np.testing.assert_allclose(sums, np.log(probability / (1 - probability)), atol=1e-6)
    # a hidden layer of 32 over embeddings, its bias (the reference folded in), and values of hidden units
    assert method.n_parameters == (N_DIMS + 2) * 32 + (32 if pooled == "attention" else 0)


def test_the_reference_of_every_map_is_the_mean_token_of_negative_data(model: MILModel) -> None:
    negative = np.concatenate([graph.embeddings for graph in TRAINING.graphs[::2]])
    np.testing.assert_allclose(model.projection_.apply(negative).mean(axis=0), 0, atol=1e-5)


def test_grad_cam_weighs_dimensions_by_their_mean_gradient(model: MILModel) -> None:
    import torch

    graph, projection = TRAINING.graphs[3], model.projection_
    embeddings = torch.tensor(graph.embeddings, dtype=torch.float64, requires_grad=True)
    seen = (embeddings - torch.from_numpy(projection.mean)) @ torch.from_numpy(projection.matrix)
    weights = torch.autograd.grad(model.network_.logits(seen[None]).sum(), embeddings)[0].mean(dim=0)
    expected = graph.embeddings @ weights.numpy()
    np.testing.assert_allclose(GradCAM(model=model).prospect(graph), expected, rtol=1e-4, atol=1e-6)
    published = GradCAM(model=model, relu=True)
    np.testing.assert_allclose(published.prospect(graph), np.maximum(expected, 0), rtol=1e-4, atol=1e-6)
    assert (GradCAM(model=model).map, published.map) == ("Grad-CAM, signed", "Grad-CAM")


def test_a_fit_leaves_threads_and_random_numbers_of_torch_as_they_were() -> None:
    import torch

    torch.manual_seed(6)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    MILModel("tumour", plan=PLAN).fit(TRAINING.graphs, TRAINING.labels)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_target_turns_the_logit_and_patients_are_not_divided() -> None:
    patients = [f"p{i % 2}" for i in range(22)]
    alone = MILModel("tumour", plan=PLAN).fit(TRAINING.graphs, TRAINING.labels, patients)
    assert alone.choice_.loss == float("inf")  # one patient a class: nothing can be held out
    normal = MILModel("normal").fit(TRAINING.graphs, TRAINING.labels)
    assert normal.target_probability(TRAINING.graphs[::2]).min() > 0.5


def test_what_no_model_can_be_asked_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="must be 'attention' or 'logit'; got 'gradient'"):
        AttentionMIL(map="gradient")
    with pytest.raises(UnknownNameError, match="must be 'mean' or 'attention'; got 'max'"):
        XMIL(pooling="max")
    with pytest.raises(InvalidInputError, match="must hold 'polyp' and another class"):
        MILModel("polyp").fit(TRAINING.graphs, TRAINING.labels)


def test_wide_embeddings_keep_their_leading_components_at_a_mean_variance_of_one() -> None:
    generator = np.random.default_rng(2)
    rows = (generator.normal(size=(211, 3)) @ generator.normal(size=(3, 17)) + 5).astype(np.float32)
    projection = fit_projection(rows, 3)
    seen = projection.apply(rows)
    assert seen.shape == (211, 3)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-4)
    assert seen.var(axis=0).mean() == pytest.approx(1, rel=1e-3)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    kept = np.linalg.norm(seen, axis=1) / np.linalg.norm(standard, axis=1)
    np.testing.assert_allclose(kept, kept[0], rtol=1e-3)  # three dimensions are all there is: a rotation


def test_a_dimension_that_never_changes_is_left_out() -> None:
    rows = np.random.default_rng(0).normal(size=(31, 5)).astype(np.float32)
    rows[:, 2] = 7.1
    assert not fit_projection(rows, 5).apply(rows + 1)[:, 2].any()
