from __future__ import annotations

import numpy as np
import pytest
from planted import N_DIMS, mean_ap, planted

from napari_prospector.core.graph import chain_graph
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.baselines import OneClassNovelty
from napari_prospector.study.baselines.oneclass import OneClassSVM

TRAINING = planted(22)


@pytest.fixture(scope="module")
def fitted() -> OneClassNovelty:
    return OneClassNovelty("tumour").fit(TRAINING.graphs, TRAINING.labels)


def test_the_score_is_the_kernel_expansion_of_its_support_vectors(fitted: OneClassNovelty) -> None:
    svm, graph = fitted._machine.svm, TRAINING.graphs[1]
    tokens = fitted.projection_.apply(graph.embeddings).astype(np.float64)
    distance = ((tokens[:, None] - svm.support_vectors_[None]) ** 2).sum(axis=2)
    expansion = np.exp(-fitted.width_ / N_DIMS * distance) @ svm.dual_coef_[0]
    expected = -(expansion + svm.intercept_) / svm.dual_coef_.sum()
    np.testing.assert_allclose(fitted.prospect(graph), expected, rtol=1e-3, atol=1e-4)


def test_it_is_fitted_on_tokens_of_negative_data_alone(fitted: OneClassNovelty) -> None:
    negative = np.concatenate([fitted.projection_.apply(graph.embeddings) for graph in TRAINING.graphs[::2]])
    vectors = fitted._machine.svm.support_vectors_
    nearest = ((vectors[:, None] - negative[None]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-9)
    assert mean_ap(fitted) > 0.8


def test_a_token_far_from_all_is_outside_and_a_usual_one_inside(fitted: OneClassNovelty) -> None:
    usual = TRAINING.graphs[0].embeddings
    assert fitted.prospect(chain_graph(np.full((2, N_DIMS), 50, np.float32))).min() > 0
    assert np.median(fitted.prospect(chain_graph(usual))) < np.median(fitted.prospect(TRAINING.graphs[1]).max())


def test_the_choice_is_that_under_which_held_out_data_stand_out_most(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float, int]] = []

    class Recorder(OneClassSVM):  # type: ignore[misc]
        def fit(self, rows: np.ndarray) -> OneClassSVM:
            seen.append((self.nu, self.gamma * N_DIMS, len(rows)))
            return super().fit(rows)

    monkeypatch.setattr("napari_prospector.study.baselines.oneclass.OneClassSVM", Recorder)
    patients = [f"p{i // 2 % 3}{i % 2}" for i in range(22)]
    fitted = OneClassNovelty("tumour", nus=(0.1, 0.3), widths=(1e-6, 1.0)).fit(
        TRAINING.graphs, TRAINING.labels, patients
    )
    assert len(seen) == 2 * 2 * 3 + 1
    assert fitted.width_ == 1.0  # a kernel so wide that all tokens look alike finds nothing
    n_negative = {p: sum(TRAINING.graphs[i].n_tokens for i in range(0, 22, 2) if patients[i] == p) for p in patients}
    whole = sum(n_negative.values())
    assert sorted({n for *_, n in seen[:-1]}) == sorted({whole - n for n in n_negative.values() if n})
    assert seen[-1][2] == whole


def test_the_middle_is_taken_and_nothing_said_about_data_where_none_can_be_held_out() -> None:
    patients = [f"p{i % 2}" for i in range(22)]
    fitted = OneClassNovelty("tumour").fit(TRAINING.graphs, TRAINING.labels, patients)
    assert (fitted.nu_, fitted.width_) == (0.1, 0.5)
    assert fitted.target_probability(TRAINING.graphs) is None


def test_no_more_tokens_are_fitted_than_asked_for_and_a_seed_decides_which() -> None:
    few = [OneClassNovelty("tumour", max_vectors=53, random_state=s) for s in (0, 0, 1)]
    maps = [method.fit(TRAINING.graphs, TRAINING.labels).prospect(TRAINING.graphs[1]) for method in few]
    assert few[0]._machine.total == pytest.approx(53 * few[0].nu_)
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).any()


def test_novelty_that_only_other_data_have_is_seen_though_embeddings_are_wide() -> None:
    # components of negative data alone would project the planted kind onto their middle
    generator, centers = np.random.default_rng(0), 2 * np.random.default_rng(1).normal(size=(4, 67))
    graphs = []
    for i in range(14):
        kinds = generator.integers(3, size=41)
        kinds[:6] = 3 if i % 2 else kinds[:6]
        graphs.append(chain_graph((centers[kinds] + generator.normal(size=(41, 67))).astype(np.float32)))
    fitted = OneClassNovelty("b", n_components=5).fit(graphs, ["a", "b"] * 7)
    scores = fitted.prospect(graphs[1])
    assert scores[:6].min() > np.quantile(scores[6:], 0.9)


def test_labels_that_leave_open_what_to_find_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one entry for each of 22 data; got 3"):
        OneClassNovelty().fit(TRAINING.graphs, ["a", "b", "a"])
