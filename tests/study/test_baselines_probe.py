from __future__ import annotations

import numpy as np
import pytest
from planted import N_DIMS, mean_ap, planted
from sklearn.linear_model import LogisticRegression

from napari_prospector.core.graph import chain_graph
from napari_prospector.core.sharing import share_scores
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.baselines import TokenProbe, probe

TRAINING = planted(22)


@pytest.fixture(scope="module")
def fitted() -> TokenProbe:
    return TokenProbe(TRAINING.truths, "tumour").fit(TRAINING.graphs, TRAINING.labels)


def test_it_is_a_balanced_logistic_regression_on_standardized_tokens(fitted: TokenProbe) -> None:
    rows = np.concatenate([graph.embeddings for graph in TRAINING.graphs]).astype(np.float64)
    truth = np.concatenate(TRAINING.truths)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    model = LogisticRegression(C=fitted.strength_, class_weight="balanced", tol=1e-9, max_iter=5000)
    model.fit((rows - mean) / spread, truth)
    graph = TRAINING.graphs[3]
    expected = model.decision_function((graph.embeddings - mean) / spread)
    np.testing.assert_allclose(fitted.prospect(graph), expected, atol=0.05)  # the solver stops early
    assert fitted.n_parameters == N_DIMS + 1
    assert fitted.target_probability(TRAINING.graphs) is None


def test_it_finds_what_it_was_shown(fitted: TokenProbe) -> None:
    assert mean_ap(fitted) > 0.95


def test_scores_are_shared_with_neighbours_by_the_amount(fitted: TokenProbe) -> None:
    graph = TRAINING.graphs[2]
    shared = TokenProbe(TRAINING.truths, "tumour", amount=0.4).fit(TRAINING.graphs, TRAINING.labels)
    np.testing.assert_allclose(shared.prospect(graph), share_scores(graph, fitted.prospect(graph), 0.4))


def test_unknown_tokens_and_data_are_left_out(fitted: TokenProbe) -> None:
    truths = [np.where(np.arange(len(truth)) < 20, truth, -1) for truth in TRAINING.truths]
    truths[4] = None
    short = [chain_graph(graph.embeddings[:20]) for i, graph in enumerate(TRAINING.graphs) if i != 4]
    labels = [label for i, label in enumerate(TRAINING.labels) if i != 4]
    found = TokenProbe(truths, "tumour", strengths=(0.01,)).fit(TRAINING.graphs, TRAINING.labels)
    expected = TokenProbe([t[:20] for t in truths if t is not None], "tumour", strengths=(0.01,)).fit(short, labels)
    np.testing.assert_allclose(found.coefficients_, expected.coefficients_, atol=1e-6)


def test_nothing_is_positive_in_data_of_another_class() -> None:
    wrong = [np.ones_like(truth) if i % 2 == 0 else truth for i, truth in enumerate(TRAINING.truths)]
    right = TokenProbe(TRAINING.truths, "tumour", strengths=(0.01,)).fit(TRAINING.graphs, TRAINING.labels)
    found = TokenProbe(wrong, "tumour", strengths=(0.01,)).fit(TRAINING.graphs, TRAINING.labels)
    np.testing.assert_array_equal(found.coefficients_, right.coefficients_)


def test_few_tokens_are_drawn_evenly_from_data_and_a_seed_decides_which() -> None:
    methods = [TokenProbe(TRAINING.truths, "tumour", max_tokens=22, random_state=seed) for seed in (0, 0, 1)]
    rows, positive, owner = methods[0]._draw(TRAINING.graphs, np.array([0, 1] * 11))
    np.testing.assert_array_equal(np.bincount(owner[positive], minlength=22), [0, 2] * 11)
    np.testing.assert_array_equal(np.bincount(owner[~positive]), 1)
    assert len(rows) == 44
    maps = [method.fit(TRAINING.graphs, TRAINING.labels).prospect(TRAINING.graphs[1]) for method in methods]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).any()


def test_the_ridge_is_chosen_without_dividing_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = probe._fit_path

    def record(tokens: np.ndarray, positive: np.ndarray, strengths: tuple[float, ...]) -> list[LogisticRegression]:
        sizes.append(len(tokens))
        return plain(tokens, positive, strengths)

    monkeypatch.setattr(probe, "_fit_path", record)
    patients = [f"p{min(i // 2, 3)}" for i in range(22)]
    fitted = TokenProbe(TRAINING.truths, "tumour").fit(TRAINING.graphs, TRAINING.labels, patients)
    n_tokens = np.array([graph.n_tokens for graph in TRAINING.graphs])
    of_patient = [n_tokens[np.array(patients) == patient].sum() for patient in sorted(set(patients))]
    assert sorted(sizes[:-1]) == sorted(n_tokens.sum() - np.array(of_patient))
    assert fitted.strength_ in fitted.strengths


def test_random_truths_ask_for_a_strong_ridge() -> None:
    generator = np.random.default_rng(0)
    noise = [generator.permutation(truth) for truth in TRAINING.truths]
    assert TokenProbe(noise, "tumour").fit(TRAINING.graphs, TRAINING.labels).strength_ <= 1e-3
    alone = [f"p{i % 2}" for i in range(22)]
    assert TokenProbe(noise, "tumour").fit(TRAINING.graphs, TRAINING.labels, alone).strength_ == 1e-3


def test_truths_that_do_not_belong_to_the_data_are_refused() -> None:
    with pytest.raises(MismatchError, match="one entry for each of 22 data; got 21"):
        TokenProbe(TRAINING.truths[1:], "tumour").fit(TRAINING.graphs, TRAINING.labels)
    with pytest.raises(MismatchError, match=r"truth 0 must hold one entry for each of 35 tokens; got 34"):
        TokenProbe([TRAINING.truths[1], *TRAINING.truths[1:]], "tumour").fit(TRAINING.graphs, TRAINING.labels)
    with pytest.raises(InvalidInputError, match="and negative ones; got 0 positive and 0 negative"):
        TokenProbe([None] * 22, "tumour").fit(TRAINING.graphs, TRAINING.labels)
    with pytest.raises(InvalidInputError, match=r"got 0 positive and \d+ negative"):
        TokenProbe([0 * truth for truth in TRAINING.truths], "tumour").fit(TRAINING.graphs, TRAINING.labels)
