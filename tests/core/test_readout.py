"""Read-outs of embeddings: what they see, what they learn, and that labels of data are all they are told."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from napari_prospector.core.crossfit import TrainingSet, make_folds, sample_tokens
from napari_prospector.core.graph import TokenGraph, chain_graph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.measures import auroc, average_precision
from napari_prospector.core.readout import ReadoutTrainer, TokenRows, TokenSpace, token_features
from napari_prospector.core.sharing import neighbour_mean, share_scores
from napari_prospector.errors import InvalidInputError

N_DIMS = 37


def datum(
    is_positive: bool, seed: int, *, scattered: bool = False, shift: float = 1.2
) -> tuple[TokenGraph, np.ndarray]:
    """A grid with holes whose positive tokens differ by a faint shift along one direction; and the truth."""
    rng = np.random.default_rng(seed)
    mask = rng.random((13, 11)) < 0.93
    truth = np.zeros(mask.shape, bool)
    if is_positive and scattered:
        truth[1::4, rng.integers(0, 3) :: 4] = True
    elif is_positive:
        row, col = rng.integers(0, 8), rng.integers(0, 6)
        truth[row : row + 5, col : col + 5] = True
    embeddings = rng.normal(size=(*mask.shape, N_DIMS))
    embeddings[..., :4] += shift * truth[..., None]
    return grid_graph(mask, embeddings[mask]), truth[mask]


def cohort(n_data: int, seed: int = 0, **how: bool) -> tuple[list[TokenGraph], np.ndarray, list[np.ndarray]]:
    made = [datum(i % 2 == 1, seed + i, **how) for i in range(n_data)]
    return [graph for graph, _ in made], np.arange(n_data) % 2, [truth for _, truth in made]


def rows_of(graphs: list[TokenGraph], n_categories: int | None = None) -> TokenRows:
    rows = sample_tokens(graphs, 10**6, 0, with_rows=True, n_categories=n_categories).rows
    assert rows is not None
    return rows


def test_categories_are_seen_as_the_counts_of_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    graph = chain_graph(rng.integers(0, 5, (23, 1)), reach=3)
    features = token_features(graph, 5)
    assert features.shape == (23, 5 + 5 + 15)
    pairs = [(a, b) for a in range(5) for b in range(a, 5)]
    for token in range(23):
        own = int(graph.embeddings[token, 0])
        around = graph.embeddings[graph.indices[graph.indptr[token] : graph.indptr[token + 1]], 0].astype(int).tolist()
        expected = [float(a == own) for a in range(5)] + [float(around.count(a)) for a in range(5)]
        expected += [float(sum((min(own, b), max(own, b)) == pair for b in around)) for pair in pairs]
        np.testing.assert_array_equal(features[token], expected)


def test_many_categories_go_without_pairs() -> None:
    graph = chain_graph(np.arange(40)[:, None])
    assert token_features(graph, 40).shape == (40, 40 + 40)


def test_the_mean_over_neighbours_is_that_of_a_slow_loop_for_all_tokens_or_some() -> None:
    graph, _ = datum(True, 3)
    values = np.random.default_rng(1).normal(size=(graph.n_tokens, 3))
    slow = np.stack(
        [
            values[graph.indices[a:b]].mean(axis=0) if b > a else values[token]
            for token, (a, b) in enumerate(zip(graph.indptr[:-1], graph.indptr[1:], strict=True))
        ]
    )
    np.testing.assert_allclose(neighbour_mean(graph, values), slow, atol=1e-12)
    some = np.array([0, 7, 20])
    np.testing.assert_allclose(neighbour_mean(graph, values, some), slow[some], atol=1e-12)
    np.testing.assert_allclose(share_scores(graph, values[:, 0], 0.25), 0.75 * values[:, 0] + 0.25 * slow[:, 0])
    np.testing.assert_array_equal(share_scores(graph, values[:, 0], 0), values[:, 0])


def test_an_isolated_token_keeps_its_score() -> None:
    graph = TokenGraph.from_edges([[0, 1]], np.ones((3, 2)))
    assert share_scores(graph, [1.0, 3.0, 5.0], 0.5).tolist() == [2.0, 2.0, 5.0]


@pytest.mark.parametrize("amount", [-0.1, 1.5])
def test_an_amount_that_is_no_share_is_refused(amount: float) -> None:
    with pytest.raises(InvalidInputError, match=f"amount must lie between 0 and 1; got {amount}"):
        share_scores(chain_graph(np.ones((4, 1))), np.ones(4), amount)


def test_the_label_read_out_is_a_balanced_ridge_regression_of_tokens_on_the_label_of_their_datum() -> None:
    graphs, labels, _ = cohort(10)
    rows = rows_of(graphs)
    target = (labels == 1)[rows.owner]
    readout = ReadoutTrainer(TokenSpace(rows, np.ones(len(target), bool)), target).label_readout()
    points = (rows.features - rows.features.mean(axis=0)) / rows.features.std(axis=0)
    weight = np.where(target, 0.5 / target.sum(), 0.5 / (~target).sum()) * len(target)
    oracle = LogisticRegression(C=1 / (0.3 * len(target)), tol=1e-10, max_iter=5000)
    expected = points @ oracle.fit(points, target, sample_weight=weight).coef_[0]
    found = readout.scores(rows.features)
    assert np.corrcoef(found, expected)[0, 1] > 1 - 1e-6
    assert found[~target].mean() == pytest.approx(0, abs=1e-4)
    assert found[~target].std() == pytest.approx(1, abs=1e-4)


def test_a_constant_dimension_and_more_dimensions_than_tokens_do_no_harm() -> None:
    graphs, labels, _ = cohort(6)
    wide = [
        graph.with_embeddings(np.pad(graph.embeddings, ((0, 0), (0, 900)), constant_values=2.5)) for graph in graphs
    ]
    narrow, padded = rows_of(graphs), rows_of(wide)
    target = (labels == 1)[narrow.owner]
    everywhere = np.ones(len(target), bool)
    first = ReadoutTrainer(TokenSpace(narrow, everywhere), target).label_readout().scores(narrow.features)
    second = ReadoutTrainer(TokenSpace(padded, everywhere), target).label_readout().scores(padded.features)
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_a_sample_keeps_places_owners_and_neighbours_together() -> None:
    graphs, _, _ = cohort(5)
    sample = sample_tokens(graphs, 50, 3, with_rows=True)
    assert sample.rows is not None
    for datum_number, graph in enumerate(graphs):
        inside = sample.of_datum(datum_number)
        assert set(sample.owner[inside]) == {datum_number}
        places = sample.places[inside]
        np.testing.assert_array_equal(sample.embeddings[inside], graph.embeddings[places].astype(np.float32))
        around = neighbour_mean(graph, graph.embeddings.astype(np.float32))[places]
        np.testing.assert_allclose(sample.rows.around[inside], around, rtol=1e-6)


def test_some_of_the_data_are_as_if_the_others_had_never_been() -> None:
    graphs, labels, _ = cohort(9)
    folds = make_folds(labels, None, 3, 0)
    whole = TrainingSet(graphs, labels, np.array([1]), folds, list("abcdefghi"), sample_tokens(graphs, 90, 0))
    some = whole.only(np.array([1, 4, 8]))
    assert (len(some.graphs), some.labels.tolist(), some.groups) == (3, [1, 0, 0], ["b", "e", "i"])
    assert some.graphs[2] is graphs[8]
    np.testing.assert_array_equal(
        some.sample.embeddings[some.sample.of_datum(1)], whole.sample.embeddings[whole.sample.of_datum(4)]
    )


def test_a_faint_direction_that_concepts_miss_is_read_out() -> None:
    graphs, labels, _ = cohort(40)
    head = ProspectorHead(8, 1, "fold-change").fit(graphs, labels)
    unseen, truths = zip(*(datum(True, 5000 + i) for i in range(7)), strict=True)
    precision = {
        name: np.mean([average_precision(head.prospect(g, name), t) for g, t in zip(unseen, truths, strict=True)])
        for name in head.maps_
    }
    assert head.best_map_ == "refined"
    assert precision["refined"] > 0.97
    assert precision["refined"] > precision["evidence"] + 0.05


def test_patches_are_shared_with_neighbours_and_single_tokens_are_not() -> None:
    amounts = {}
    for scattered in (False, True):
        graphs, labels, _ = cohort(40, scattered=scattered)
        head = ProspectorHead(8, 1, "fold-change").fit(graphs, labels)
        assert head.refiner_ is not None
        amounts[scattered] = head.refiner_.amount
    assert amounts[True] == 0
    assert amounts[False] >= 0.3


def test_a_class_known_only_by_what_lies_side_by_side_shows_the_evidence_map() -> None:
    """Both kinds of token occur in all data alike; only in positive data do they alternate."""
    centres = np.random.default_rng(0).normal(size=(5, 7)) * 4

    def side_by_side(is_positive: bool, seed: int) -> tuple[TokenGraph, np.ndarray]:
        rng = np.random.default_rng(seed)
        kind = rng.integers(2, 5, 120)
        truth = np.zeros(120, bool)
        start = rng.integers(0, 90)
        kind[start : start + 20] = np.arange(20) % 2 if is_positive else np.repeat([0, 1], 10)
        truth[start : start + 20] = is_positive
        return chain_graph(centres[kind] + rng.normal(size=(120, 7)), reach=1), truth

    graphs = [side_by_side(i % 2 == 1, i)[0] for i in range(30)]
    head = ProspectorHead(10, 1, "fold-change").fit(graphs, np.arange(30) % 2)
    assert head.selection_.criterion == "separation"
    assert head.best_map_ == "evidence"
    assert "cannot see whether a map spills over" in head.selection_.sentence()
    unseen, truth = side_by_side(True, 999)
    assert auroc(head.prospect(unseen), truth) > 0.9


def test_labels_that_mean_nothing_do_not_pass_for_something() -> None:
    graphs, _, _ = cohort(20)
    head = ProspectorHead(8, 1, "fold-change").fit(graphs, np.random.default_rng(4).permutation(np.arange(20) % 2))
    lows = [row.separation_low for row in head.selection_.maps]
    assert max(lows) < 0.03


def test_all_classes_are_read_out_along_directions_that_are_found_once_for_each_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_prospector.core import fitting

    made = []
    monkeypatch.setattr(fitting, "TokenSpace", lambda *given: made.append(TokenSpace(*given)) or made[-1])
    graphs, labels, _ = cohort(15)
    head = ProspectorHead(4, 1, "linear", n_folds=3).fit(graphs, [*labels[:10], *[2] * 5])
    assert head.refiner_ is not None
    assert len(head.refiner_.weights) == 3
    assert len(made) == 4
