"""ProspectorHead: from labels of data to scores of tokens."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import (
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
)

from napari_prospector.core.graph import TokenGraph, chain_graph, count, grid_graph
from napari_prospector.core.head import ProspectorHead, load_head
from napari_prospector.core.kernels import shares
from napari_prospector.core.measures import auroc
from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MismatchError,
    MissingFileError,
    ProspectorWarning,
)

CENTRES = 6 * np.eye(5)[:3]


def datum(is_positive: bool, seed: int, shape: tuple[int, int] = (11, 13)) -> tuple[TokenGraph, np.ndarray]:
    """A lattice with holes: two kinds of tissue everywhere, a third in a square of the positive ones; and its truth."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, shape)
    truth = np.zeros(shape, bool)
    if is_positive:
        row, col = rng.integers(0, shape[0] - 3), rng.integers(0, shape[1] - 3)
        truth[row : row + 3, col : col + 3] = True
    kind[truth] = 2
    mask = rng.random(shape) < 0.9
    embeddings = CENTRES[kind[mask]] + rng.normal(size=(mask.sum(), 5))
    return grid_graph(mask, embeddings), truth[mask]


def cohort(n_data: int = 24, seed: int = 0) -> tuple[list[TokenGraph], list[str], list[np.ndarray]]:
    made = [datum(i % 2 == 1, seed + i) for i in range(n_data)]
    return [graph for graph, _ in made], ["normal", "tumour"] * (n_data // 2), [truth for _, truth in made]


@pytest.fixture(scope="module")
def fitted() -> ProspectorHead:
    graphs, labels, _ = cohort()
    return ProspectorHead(n_concepts=4).fit(graphs, labels)


@pytest.mark.parametrize("map_name", ["evidence", "decision"])
@pytest.mark.parametrize("kernel", ["fold-change", "linear"])
def test_labels_of_data_alone_find_the_region_in_data_never_seen(kernel: str, map_name: str) -> None:
    graphs, labels, _ = cohort()
    head = ProspectorHead(n_concepts=4, kernel=kernel).fit(graphs, labels)
    unseen = [datum(True, 1000 + i) for i in range(5)]
    assert np.mean([auroc(head.prospect(graph, map_name), truth) for graph, truth in unseen]) > 0.95


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_evidence_adds_up_to_the_kernel_on_the_counts(radius: int) -> None:
    graphs, labels, _ = cohort(6)
    head = ProspectorHead(n_concepts=4, radius=radius).fit(graphs, labels)
    counts = count(graphs[1], head.concepts(graphs[1]), 4, radius)
    assert head.prospect(graphs[1], "evidence").sum() == pytest.approx(counts @ head.kernels_.evidence[0], abs=1e-9)


def test_decision_adds_up_to_the_logit_less_the_intercept(fitted: ProspectorHead) -> None:
    graph, _ = datum(True, 77)
    counts = count(graph, fitted.concepts(graph), 4, fitted.radius_)
    logit = shares(counts[None], 4)[0] @ fitted.kernels_.decision[0] + fitted.kernels_.intercept[0]
    total = fitted.prospect(graph, "decision").sum() + fitted.kernels_.intercept[0]
    assert total == pytest.approx(logit, abs=1e-9)
    linear = clone(fitted).set_params(kernel="linear").fit(*cohort()[:2])
    assert linear.decision_function([graph])[0, 0] == pytest.approx(
        linear.prospect(graph, "decision").sum() + linear.kernels_.intercept[0], abs=1e-9
    )


@pytest.mark.parametrize("map_name", ["evidence", "decision"])
@pytest.mark.parametrize("radius", [0, 2])
def test_an_explanation_adds_up_to_the_score(map_name: str, radius: int) -> None:
    graphs, labels, _ = cohort(6)
    head = ProspectorHead(n_concepts=4, radius=radius).fit(graphs, labels)
    scores = head.prospect(graphs[1], map_name)
    for token in (0, 37, graphs[1].n_tokens - 1):
        why = head.explain(graphs[1], token, map_name)
        assert why.monogram + why.contributions.sum() == pytest.approx(scores[token], abs=1e-12 * np.abs(scores).max())
        assert why.concept == head.concepts(graphs[1])[token]
        assert (radius == 0) == (len(why.neighbours) == 0)
        assert radius == 0 or token in why.neighbours


def test_each_contribution_is_the_weight_of_its_pair(fitted: ProspectorHead) -> None:
    graph, _ = datum(True, 5)
    why = fitted.explain(graph, 20)
    pair = {pair: 4 + number for number, pair in enumerate((a, b) for a in range(4) for b in range(a, 4))}
    for concept, contribution in zip(why.neighbour_concepts.tolist(), why.contributions, strict=True):
        feature = pair[min(why.concept, concept), max(why.concept, concept)]
        assert contribution == fitted.kernels_.evidence[0][feature]


def test_a_refined_map_is_no_sum_over_concepts_so_it_is_not_explained_as_one(fitted: ProspectorHead) -> None:
    with pytest.raises(InvalidInputError, match=r"are sums over concepts and pairs; got map='refined'. Pass map='evid"):
        fitted.explain(datum(True, 5)[0], 0, "refined")


def test_a_head_without_refinement_has_no_refined_map_and_says_what_to_do() -> None:
    graphs, labels, _ = cohort(6)
    head = ProspectorHead(n_concepts=3, radius=1, kernel="fold-change", refine=False).fit(graphs, labels)
    assert head.maps_ == ("evidence", "decision")
    assert head.best_map_ == "evidence"
    with pytest.raises(InvalidInputError, match=r"fitted without refinement; fit it with refine=True"):
        head.prospect(graphs[0], "refined")
    with pytest.raises(InvalidInputError, match="refine must be True or False; got 'much'"):
        ProspectorHead(refine="much").fit(graphs, labels)  # type: ignore[arg-type]


def test_fit_without_options_chooses_and_says_what_why_and_how_sure() -> None:
    graphs, labels, _ = cohort()
    head = ProspectorHead().fit(graphs, labels)
    unseen = [datum(True, 2000 + i) for i in range(5)]
    assert np.mean([auroc(head.prospect(graph), truth) for graph, truth in unseen]) > 0.95
    np.testing.assert_array_equal(head.prospect(graphs[1]), head.prospect(graphs[1], head.best_map_))
    tried = {(row.n_concepts, row.radius) for row in head.selection_.kernels}
    assert tried == {(k, r) for k in (10, 20, 30) for r in (0, 1, 2)}
    assert {row.kernel for row in head.selection_.kernels} == {"fold-change", "linear"}
    chosen = head.selection_.kernels[0]
    assert (chosen.radius, chosen.kernel) == (head.radius_, head.kernel_)
    assert chosen.behind == 0
    assert {row.map for row in head.selection_.maps} == set(head.maps_)
    assert all(row.excess_low <= row.excess <= row.excess_high for row in head.selection_.kernels)
    sentence = head.selection_.sentence()
    assert f"{head.quantizer_.n_concepts_} concepts, radius {head.radius_}, {head.kernel_} kernel" in sentence
    assert "from labels of 24 data of 24 groups" in sentence
    assert "So few groups" not in sentence
    assert sentence in head.describe()


def test_what_is_given_is_not_chosen() -> None:
    graphs, labels, _ = cohort(12)
    head = ProspectorHead(n_concepts=5, radius=1, kernel="linear").fit(graphs, labels)
    assert (head.quantizer_.n_concepts_, head.radius_, head.kernel_) == (5, 1, "linear")
    assert head.selection_.kernels == ()
    assert ProspectorHead(5, alpha=0.9).fit(graphs, labels).kernel_ == "fold-change"


def test_the_reference_chooses_nothing_and_refines_nothing() -> None:
    graphs, labels, _ = cohort(12)
    head = ProspectorHead(n_concepts=5, reference=True).fit(graphs, labels)
    assert (head.radius_, head.kernel_, head.maps_) == (1, "fold-change", ("evidence", "decision"))
    assert head.selection_.rows() == []
    assert head.selection_.sentence() == "Nothing was chosen: the settings were given."


def test_a_head_file_of_the_first_format_still_draws_its_maps(tmp_path: Path) -> None:
    import json

    from napari_prospector.core.headfile import read_head_file, write_head_file

    graphs, labels, _ = cohort(6)
    head = ProspectorHead(3, 1, "fold-change", refine=False).fit(graphs, labels)
    head.save(tmp_path / "new.prospector")
    tensors, card = read_head_file(tmp_path / "new.prospector")
    older = {key: value for key, value in card.items() if key not in ("chosen", "refiner", "selection")}
    older = json.loads(json.dumps(older)) | {"format_version": 1}
    del older["parameters"]["refine"]
    write_head_file(tmp_path / "old.prospector", tensors, older)
    loaded = load_head(tmp_path / "old.prospector")
    assert loaded.maps_ == ("evidence", "decision")
    assert loaded.get_params() == head.get_params()
    np.testing.assert_array_equal(loaded.prospect(graphs[1]), head.prospect(graphs[1], "evidence"))


def test_fitting_twice_gives_the_same_head() -> None:
    graphs, labels, _ = cohort(12)
    first = ProspectorHead(n_concepts=4).fit(graphs, labels)
    second = clone(first).fit(graphs, labels)
    np.testing.assert_array_equal(first.kernels_.evidence, second.kernels_.evidence)
    assert first.color_limits_ == second.color_limits_
    third = first.fit(graphs, labels)
    np.testing.assert_array_equal(second.kernels_.decision, third.kernels_.decision)


@given(st.integers(0, 2**32 - 1))
def test_renumbering_tokens_renumbers_scores(fitted: ProspectorHead, seed: int) -> None:
    graph, _ = datum(True, 3)
    order = np.random.default_rng(seed).permutation(graph.n_tokens)
    place = np.argsort(order)
    rows = np.repeat(np.arange(graph.n_tokens), np.diff(graph.indptr))
    once = rows < graph.indices
    edges = np.stack([place[rows[once]], place[graph.indices[once]]], axis=1)
    renumbered = TokenGraph.from_edges(edges, graph.embeddings[order])
    np.testing.assert_array_equal(fitted.prospect(renumbered), fitted.prospect(graph)[order])


def test_probabilities_follow_the_classes_and_are_calibrated_from_ten_per_class(fitted: ProspectorHead) -> None:
    graphs, labels, _ = cohort(n_data=10, seed=500)
    probabilities = fitted.predict_proba(graphs)
    assert probabilities.shape == (10, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert fitted.predict(graphs).tolist() == labels
    assert fitted.is_calibrated_
    assert fitted.brier_ is not None
    assert fitted.brier_ < 0.1


def test_labels_that_mean_nothing_give_a_brier_score_no_better_than_a_coin() -> None:
    graphs, _, _ = cohort(40)
    labels = np.random.default_rng(8).permutation(np.arange(40) % 2)
    brier = ProspectorHead(n_concepts=4).fit(graphs, labels).brier_
    assert brier is not None
    assert brier > 0.2


def test_three_and_three_data_are_enough_and_say_how_little_they_know() -> None:
    graphs, labels, _ = cohort(6)
    head = ProspectorHead(n_concepts=3).fit(graphs, labels)
    assert not head.is_calibrated_
    assert "So few groups make intervals too narrow" in head.selection_.sentence()
    assert any("not calibrated: the smallest class has 3 data, 10 are needed" in note for note in head.notes_)
    assert "NOT calibrated" in head.describe()


def test_two_data_of_a_class_are_too_few_and_the_class_is_named() -> None:
    graphs, labels, _ = cohort(6)
    with pytest.raises(InvalidInputError, match="at least 3 data; class 'tumour' has 2. Add data"):
        ProspectorHead(n_concepts=3).fit(graphs[:5], labels[:5])


def test_a_test_that_removes_everything_is_said_and_not_drawn_as_a_blank() -> None:
    graphs, labels, _ = cohort(6)
    with pytest.warns(ProspectorWarning, match=r"alpha=0.01 .* evidence map is blank.*set alpha=None"):
        head = ProspectorHead(n_concepts=3, alpha=0.01).fit(graphs, labels)
    assert any("blank" in note for note in head.notes_)


def test_a_class_of_one_patient_cannot_be_held_out_and_the_head_says_so() -> None:
    graphs, labels, _ = cohort(6)
    head = ProspectorHead(n_concepts=3).fit(graphs, labels, groups=["a", "z", "b", "z", "c", "z"])
    assert head.best_map_ == "evidence"
    assert "Nothing could be held out" in head.selection_.sentence()
    assert np.isfinite(head.prospect(graphs[1], "refined")).all()
    assert head.brier_ is None
    assert any("single group" in note for note in head.notes_)


def test_slides_of_one_patient_are_never_divided_between_folds() -> None:
    from napari_prospector.core.crossfit import make_folds

    labels = np.arange(60) % 2
    groups = [f"patient {i // 4}" for i in range(60)]
    folds = make_folds(labels, groups, 5, 0)
    assert set(folds) == set(range(5))
    for group in set(groups):
        assert len({fold for fold, name in zip(folds, groups, strict=True) if name == group}) == 1


def test_more_than_two_classes_get_one_map_each() -> None:
    graphs, labels, _ = cohort(18)
    third = [graph.with_embeddings(graph.embeddings + 4) for graph in graphs[::2]]
    head = ProspectorHead(n_concepts=6).fit(graphs + third, labels + ["other"] * 9)
    assert head.predict(graphs[:4] + third[:2]).tolist() == labels[:4] + ["other"] * 2
    assert head.prospect(third[0], target="other").mean() > 0 > head.prospect(graphs[0], target="other").mean()
    with pytest.raises(InvalidInputError, match=r"target must name one of the classes \['normal', 'other', 'tumour'\]"):
        head.prospect(graphs[0])


def test_with_two_classes_the_map_of_the_other_is_the_negative(fitted: ProspectorHead) -> None:
    graph, _ = datum(True, 9)
    np.testing.assert_array_equal(fitted.prospect(graph, target="normal"), -fitted.prospect(graph, target="tumour"))


@pytest.mark.parametrize(
    ("labels", "positive", "target"),
    [
        (["normal", "tumour"], None, "tumour"),
        (["cancer", "normal"], None, "cancer"),
        (["a", "b"], None, "b"),
        ([0, 1], None, 1),
        ([False, True], None, True),
        (["normal", "tumour"], "normal", "normal"),
    ],
)
def test_the_class_to_look_for_is_the_one_not_named_like_a_negative(
    labels: list[object], positive: object, target: object
) -> None:
    graphs, _, _ = cohort(6)
    head = ProspectorHead(n_concepts=3, positive=positive).fit(graphs, labels * 3)
    assert head.target_ == target
    assert head.predict_proba(graphs).shape == (6, 2)
    assert (head.predict(graphs) == np.array(labels * 3)).mean() > 0.8


def test_one_colour_limit_serves_all_slides_and_covers_99_of_100_tokens(fitted: ProspectorHead) -> None:
    unseen = cohort(10, seed=900)[0]
    for name in fitted.maps_:
        scores = np.concatenate([np.abs(fitted.prospect(graph, name)) for graph in unseen])
        assert 0.95 < (scores <= fitted.color_limits_[name]).mean() <= 1
    assert set(fitted.color_limits_) == set(fitted.maps_) == {"evidence", "decision", "refined"}


def test_amino_acids_and_other_categories_are_concepts_as_they_are() -> None:
    rng = np.random.default_rng(0)
    chains = [
        chain_graph(np.where(rng.random(31) < 0.2 * (i % 2), 4, rng.integers(0, 4, 31))[:, None]) for i in range(8)
    ]
    head = ProspectorHead(n_concepts=5, quantize="identity").fit(chains, [0, 1] * 4)
    np.testing.assert_array_equal(head.concepts(chains[1]), chains[1].embeddings[:, 0])
    is_fourth = head.concepts(chains[1]) == 4
    assert head.prospect(chains[1], "evidence")[is_fourth].min() > 0
    assert auroc(head.prospect(chains[1], "refined"), is_fourth) > 0.7
    with pytest.raises(InvalidInputError, match="n_concepts must be given with quantize='identity'"):
        ProspectorHead(quantize="identity").fit(chains, [0, 1] * 4)


def test_save_then_load_is_exact(fitted: ProspectorHead, tmp_path: Path) -> None:
    fitted = fitted.with_edits(fitted.concept_edits_.rename(2, "glands & <mucus>"))
    fitted.save(tmp_path / "tumour.prospector", {"encoder": {"name": "stain-texture", "n_dims": 5}})
    loaded = load_head(tmp_path / "tumour.prospector")
    graph, _ = datum(True, 21)
    for name in ("evidence", "decision", "refined", None):
        np.testing.assert_array_equal(loaded.prospect(graph, name), fitted.prospect(graph, name))
    np.testing.assert_array_equal(loaded.predict_proba([graph]), fitted.predict_proba([graph]))
    assert loaded.describe() == fitted.describe()
    assert loaded.concept_names_[2] == "glands & <mucus>"
    assert loaded.get_params() == fitted.get_params()
    assert loaded.card_ == fitted.card_
    assert (loaded.radius_, loaded.kernel_, loaded.best_map_) == (fitted.radius_, fitted.kernel_, fitted.best_map_)
    assert loaded.selection_ == fitted.selection_
    assert [file.name for file in tmp_path.iterdir()] == ["tumour.prospector"]


def test_a_head_refuses_tokens_of_another_encoder_other_weights_or_another_scale(
    fitted: ProspectorHead, tmp_path: Path
) -> None:
    mine = {"name": "dinov2_s14", "n_dims": 5, "weights_sha256": "ab", "revision": "1", "tile_px": 224, "mpp": 0.5}
    fitted.save(tmp_path / "head.prospector", {"encoder": mine})
    head = load_head(tmp_path / "head.prospector")
    head.check_encoder(mine)
    head.check_encoder({**mine, "mpp": 0.502})
    # the same weights, of which a copy by hand does not tell the revision, or which were published twice
    head.check_encoder({**mine, "revision": "2"})
    for theirs, message in (
        ({"name": "uni", "n_dims": 1024}, r"fitted on 'dinov2_s14' \(5 dims\); the grid holds 'uni' \(1024\)"),
        ({"weights_sha256": "cd"}, "weights ab; the grid was embedded with weights cd"),
        ({"revision": "2", "weights_sha256": None}, "revision 1; the grid was embedded with revision 2"),
        ({"tile_px": 256}, "tile_px 224; the grid was embedded with tile_px 256"),
        ({"mpp": 1.0}, "mpp 0.5; the grid was embedded with mpp 1.0"),
        ({"stain_normalize": "macenko"}, "stain_normalize=None; the grid was embedded with stain_normalize='macenko'"),
    ):
        with pytest.raises(MismatchError, match=message):
            head.check_encoder({**mine, **theirs})


def test_a_head_of_normalized_tiles_refuses_tiles_as_they_were(fitted: ProspectorHead, tmp_path: Path) -> None:
    mine = {"name": "toy", "n_dims": 5, "stain_normalize": "macenko"}
    fitted.save(tmp_path / "head.prospector", {"encoder": mine})
    head = load_head(tmp_path / "head.prospector")
    head.check_encoder(mine)
    for older in ({"name": "toy", "n_dims": 5}, {**mine, "stain_normalize": None}):
        with pytest.raises(MismatchError, match="stain_normalize='macenko'; the grid was embedded with stain_norm"):
            head.check_encoder(older)


@pytest.mark.parametrize("cut", [0, 7, 300, -1])
def test_a_truncated_head_is_refused(fitted: ProspectorHead, tmp_path: Path, cut: int) -> None:
    whole, broken = tmp_path / "whole.prospector", tmp_path / "broken.prospector"
    fitted.save(whole)
    broken.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(FileFormatError, match="broken.prospector is not a head file, or it is damaged"):
        load_head(broken)


def test_one_flipped_bit_among_the_tensors_is_noticed(fitted: ProspectorHead, tmp_path: Path) -> None:
    path = tmp_path / "head.prospector"
    fitted.save(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="tensors do not match the digest"):
        load_head(path)


def test_a_newer_format_a_foreign_file_and_no_file_are_told_apart(fitted: ProspectorHead, tmp_path: Path) -> None:
    from napari_prospector.core import headfile

    newer = tmp_path / "newer.prospector"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headfile, "FORMAT_VERSION", 99)
        fitted.save(newer)
    with pytest.raises(
        FileFormatError, match="format version 99; this version of napari-prospector reads versions 1 to 3"
    ):
        load_head(newer)
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(FileFormatError, match="not a head of napari-prospector"):
        load_head(tmp_path / "foreign.safetensors")
    with pytest.raises(MissingFileError, match="No head file at"):
        load_head(tmp_path / "absent.prospector")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": "svm"}, "kernel must be 'fold-change', 'linear' or 'auto'; got 'svm'"),
        ({"radius": -1}, "radius must be a whole number of at least 0 or 'auto'; got -1"),
        ({"n_folds": 1}, "n_folds must be a whole number of at least 2"),
        ({"positive": "cat"}, r"positive must be one of the labels \['normal', 'tumour'\]; got 'cat'"),
        ({"n_concepts": 0}, "n_concepts must be a whole number of at least 1 or 'auto'; got 0"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(changes: dict[str, object], message: str) -> None:
    graphs, labels, _ = cohort(6)
    with pytest.raises(InvalidInputError, match=message):
        ProspectorHead(**changes).fit(graphs, labels)  # type: ignore[arg-type]


def test_labels_that_cannot_be_learned_from_are_refused() -> None:
    graphs, labels, _ = cohort(6)
    with pytest.raises(InvalidInputError, match=r"at least two classes; got only \['a'\]"):
        ProspectorHead().fit(graphs, ["a"] * 6)
    with pytest.raises(InvalidInputError, match=r"one entry per datum; got 6 data, labels of shape \(5,\)"):
        ProspectorHead().fit(graphs, labels[:5])
    narrow = graphs[0].with_embeddings(graphs[0].embeddings[:, :3])
    with pytest.raises(InvalidInputError, match="datum 0 has 5, datum 5 has 3"):
        ProspectorHead().fit([*graphs[:5], narrow], labels)


def test_a_map_token_or_target_that_is_not_there_is_refused(fitted: ProspectorHead) -> None:
    graph, _ = datum(True, 1)
    with pytest.raises(
        InvalidInputError, match="map must be one of 'evidence', 'decision', 'refined' for this head; got 'attention'"
    ):
        fitted.prospect(graph, "attention")
    with pytest.raises(InvalidInputError, match=rf"token must lie between 0 and {graph.n_tokens - 1}; got -1"):
        fitted.explain(graph, -1)
    with pytest.raises(InvalidInputError, match=r"target must be one of the classes .*; got 'cat'"):
        fitted.prospect(graph, target="cat")


def test_progress_is_reported_by_stage_and_may_stop_the_work() -> None:
    graphs, labels, _ = cohort(6)
    seen: list[tuple[str, int, int]] = []
    plain = ProspectorHead(n_concepts=3, radius=1, kernel="linear", refine=False)
    plain.fit(graphs, labels, report=lambda *step: seen.append(step))
    stages = ["sample tokens", "find concepts", "count pairs", "colour limits"]
    assert [stage for stage, done, total in seen if done == total] == stages
    seen.clear()
    ProspectorHead().fit(graphs, labels, report=lambda *step: seen.append(step))
    stages = [*stages[:-1], "teach"]  # one pass finds what the teacher says, and its colour limits
    assert {*stages, "read tokens", "compare kernels"} >= {stage for stage, _, _ in seen} >= {*stages}
    assert {stage for stage, done, total in seen if done == total} == {stage for stage, _, _ in seen}

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ProspectorHead(n_concepts=3).fit(graphs, labels, report=stop)


@pytest.mark.parametrize(
    "check",
    [
        check_parameters_default_constructible,
        check_get_params_invariance,
        check_set_params,
        check_no_attributes_set_in_init,
    ],
)
def test_it_is_a_scikit_learn_estimator(check: object) -> None:
    check("ProspectorHead", ProspectorHead())  # type: ignore[operator]
