"""Selection: the grid, what is held out, and what is said about it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from napari_prospector.core.concepts import ConceptQuantizer
from napari_prospector.core.crossfit import make_folds, sample_tokens
from napari_prospector.core.graph import TokenGraph, count, grid_graph
from napari_prospector.core.kernels import fit_kernel
from napari_prospector.core.measures import auroc
from napari_prospector.core.selection import PAPER_GRID, Candidate, Grid, select_head
from napari_prospector.errors import InvalidInputError

SMALL = Grid(n_concepts=(3, 4), radius=(0, 2), alpha=(None,), tau=(0.0, 0.3), l1_ratio=(0.5,))
CENTRES = 6 * np.eye(5)[:2]


def pair_cohort(n_data: int, seed: int = 0) -> tuple[list[TokenGraph], np.ndarray]:
    """Both tissues are equally common in both classes; in class 1 they lie in halves, in class 0 they are mixed."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_data) % 2
    graphs = []
    for label in labels:
        kind = np.repeat([0, 1], 65).reshape(10, 13)
        if label == 0:
            kind = rng.permutation(kind.ravel()).reshape(10, 13)
        graphs.append(grid_graph(np.ones((10, 13), bool), CENTRES[kind.ravel()] + rng.normal(size=(130, 5))))
    return graphs, labels


def test_where_only_neighbours_tell_the_classes_apart_a_radius_is_chosen() -> None:
    graphs, labels = pair_cohort(30)
    selection = select_head(graphs, labels, grid=SMALL)
    assert selection.head.radius == 2
    assert selection.chosen.auroc == 1
    best_without = max(candidate.auroc for candidate in selection.table if candidate.radius == 0)
    assert best_without < 0.8


def test_every_setting_is_tried_once_and_the_best_comes_first() -> None:
    selection = select_head(*pair_cohort(12), grid=SMALL)
    assert len(selection.table) == 2 * 2 * (2 + 1)
    losses = [candidate.log_loss for candidate in selection.table]
    assert losses == sorted(losses)
    assert len({tuple(candidate.parameters.items()) for candidate in selection.table}) == len(selection.table)
    assert selection.rows()[0]["n_concepts"] == selection.head.n_concepts


def test_the_papers_grid_has_its_400_fold_change_settings() -> None:
    grid = PAPER_GRID
    assert len(grid.n_concepts) * len(grid.radius) * len(grid.alpha) * len(grid.tau) == 400


def test_a_setting_is_judged_by_concepts_and_kernels_that_have_not_seen_the_datum() -> None:
    """The slow way: for each fold cluster, count, fit and score by hand."""
    graphs, labels = pair_cohort(15, seed=3)
    grid = Grid(n_concepts=(3,), radius=(1,), alpha=(None,), tau=(0.0,), l1_ratio=())
    found = select_head(graphs, labels, grid=grid, n_folds=3).chosen
    folds = make_folds(labels, None, 3, 0)
    sample = sample_tokens(graphs, 50_000, 0)
    scores = np.empty(15)
    for fold in range(3):
        seen = folds != fold
        quantizer = ConceptQuantizer(3, geometry=select_head(graphs, labels, grid=grid, n_folds=3).head.geometry).fit(
            sample.embeddings[seen[sample.owner]]
        )
        table = np.array([count(graph, quantizer.predict(graph.embeddings), 3, 1) for graph in graphs])
        scores[~seen] = table[~seen] @ fit_kernel(table[seen], labels[seen]) / 130
    assert found.auroc == pytest.approx(auroc(scores, labels))


def test_patients_stay_together_and_the_result_is_the_same_each_time() -> None:
    graphs, labels = pair_cohort(20)
    groups = [f"patient {i // 2}" for i in range(20)]
    first, second = (select_head(graphs, labels, groups, grid=SMALL, random_state=5) for _ in range(2))
    assert first.table == second.table
    np.testing.assert_array_equal(first.head.kernels_.evidence, second.head.kernels_.evidence)


def test_labels_that_mean_nothing_leave_the_best_setting_an_interval_around_chance() -> None:
    graphs, _ = pair_cohort(40)
    labels = np.random.default_rng(1).permutation(np.arange(40) % 2)
    grid = Grid(n_concepts=(3,), radius=(0,), alpha=(None,), tau=(0.0,), l1_ratio=())
    chosen = select_head(graphs, labels, grid=grid).chosen
    assert chosen.auroc_low < 0.5 < chosen.auroc_high
    assert chosen.log_loss > 0.6


def test_the_sentence_names_the_setting_and_how_sure_it_is() -> None:
    sentence = select_head(*pair_cohort(12), grid=SMALL).sentence()
    assert "out of 12 settings" in sentence
    assert "AUROC" in sentence
    assert "within 0.01" in sentence


def test_more_than_two_classes_are_judged_each_against_the_rest() -> None:
    graphs, labels = pair_cohort(12)
    other = [graph.with_embeddings(graph.embeddings + 5) for graph in graphs[:6]]
    grid = Grid(n_concepts=(4,), radius=(1,), alpha=(None,), tau=(0.0,), l1_ratio=(0.5,))
    selection = select_head(graphs + other, [*labels.tolist(), *[2] * 6], grid=grid, n_folds=3)
    assert selection.head.classes_.tolist() == [0, 1, 2]
    assert selection.chosen.auroc > 0.9


def test_what_cannot_be_cross_validated_is_refused_with_the_way_out() -> None:
    graphs, labels = pair_cohort(6)
    with pytest.raises(InvalidInputError, match="at least two groups .* fit a fixed setting"):
        select_head(graphs, labels, groups=["z" if label else str(i) for i, label in enumerate(labels)], grid=SMALL)
    with pytest.raises(InvalidInputError, match="at least one setting"):
        Grid(n_concepts=())


def test_a_constant_score_costs_as_much_as_a_coin() -> None:
    """Platt scaling of a kernel that is all zeros knows the shares of the classes and no more."""
    graphs, labels = pair_cohort(20)
    grid = Grid(n_concepts=(3,), radius=(0,), alpha=(None,), tau=(50.0,), l1_ratio=())
    with pytest.warns(match="blank"):
        chosen = select_head(graphs, labels, grid=grid).chosen
    assert chosen.log_loss == pytest.approx(np.log(2), abs=0.02)
    assert chosen.auroc == 0.5


def test_platt_scaling_agrees_with_an_unpenalized_regression_where_data_are_many() -> None:
    from napari_prospector.core.calibration import fit_platt

    rng = np.random.default_rng(0)
    truth = rng.random(4001) < 0.4
    scores = rng.normal(size=4001) + truth
    expected = LogisticRegression(C=1e9).fit(scores[:, None], truth).predict_proba(scores[:, None])[:, 1]
    np.testing.assert_allclose(fit_platt(scores, truth).probability(scores), expected, atol=0.01)


def test_a_certainty_that_is_wrong_costs_much_and_not_infinitely_much() -> None:
    from napari_prospector.core.selection import _judge

    numbers = np.repeat([0, 1], 6)
    folds = np.tile([0, 1, 2], 4)
    scores = np.where(numbers == 1, 1e6, -1e6)[:, None] * 1.0
    scores[0] = 1e9
    judged = _judge(Candidate(3, 1, "linear", None, 0.0, 0.5), scores, numbers, np.array([1]), folds)
    assert np.isfinite(judged.log_loss)


def test_scores_that_go_the_wrong_way_out_of_fold_say_nothing_instead_of_the_opposite() -> None:
    from napari_prospector.core.calibration import fit_platt

    truth = np.arange(20) < 5
    scale = fit_platt(np.where(truth, -1.0, 1.0) + np.arange(20) / 100, truth)
    np.testing.assert_allclose(scale.probability(np.array([-9.0, 9.0])), 6 / 22)


def test_a_setting_is_one_candidate_whatever_is_known_of_it() -> None:
    from dataclasses import replace

    setting = Candidate(n_concepts=3, radius=1, kernel="fold-change", alpha=None, tau=0.0, l1_ratio=0.5)
    assert setting == replace(setting, log_loss=0.3)
    assert len({setting, replace(setting, auroc=0.9), Candidate(3, 1, "fold-change", None, 0.0, 0.5)}) == 1
