"""Scores in parts that add up, against slow sums over tokens."""

import math

import numpy as np
import pytest

from napari_prospector.core.graph import TokenGraph, chain_graph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.splitting import region_parts, region_value, split_score, sum_by_concept
from napari_prospector.errors import InvalidInputError

N_DIMS, SHAPE = 5, (7, 11)


def datum(seed: int, positive: bool) -> TokenGraph:
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) > 0.2
    embeddings = rng.normal(size=(int(mask.sum()), N_DIMS)) + 4 * rng.integers(3, size=(int(mask.sum()), 1))
    embeddings[:9] += 6 * positive
    return grid_graph(mask, embeddings.astype(np.float32))


@pytest.fixture(scope="module", params=[0, 1, 2])
def head(request: pytest.FixtureRequest) -> ProspectorHead:
    graphs = [datum(seed, seed % 2 == 1) for seed in range(8)]
    fitted = ProspectorHead(n_concepts=4, radius=request.param).fit(graphs, ["no", "tumour"] * 4)
    assert fitted.refiner_ is not None
    object.__setattr__(fitted.refiner_, "amount", 0.3)
    return fitted


@pytest.mark.parametrize("map_name", ["evidence", "decision", "refined"])
@pytest.mark.parametrize("target", ["no", "tumour"])
def test_own_and_parts_add_up_to_the_score_of_the_map(head: ProspectorHead, map_name: str, target: str) -> None:
    graph = datum(99, True)
    scores = head.prospect(graph, map_name, target)
    for token in range(graph.n_tokens):
        split = split_score(head, graph, token, map_name, target)
        assert math.fsum((split.own, *(part.value for part in split.parts))) == split.score
        sizes = abs(split.own) + sum(abs(part.value) for part in split.parts)
        assert abs(split.score - scores[token]) <= (1e-5 if map_name == "refined" else 1e-12) * max(sizes, 1e-9)
        assert (split.token, split.map, split.concept) == (token, map_name, head.concepts(graph)[token])
        assert [abs(part.value) for part in split.parts] == sorted((abs(p.value) for p in split.parts), reverse=True)


def hops(graph: TokenGraph, token: int, radius: int) -> set[int]:
    found = {token}
    for _ in range(radius):
        found |= {int(n) for one in found for n in graph.indices[graph.indptr[one] : graph.indptr[one + 1]]}
    return found


def test_a_part_is_the_weight_of_a_pair_times_how_many_neighbours_have_the_concept(head: ProspectorHead) -> None:
    graph, kernel = datum(98, True), head.kernels_.evidence[0]
    pairs = {pair: 4 + i for i, pair in enumerate((a, b) for a in range(4) for b in range(a, 4))}
    concepts = head.concepts(graph).tolist()
    for token in range(graph.n_tokens):
        split = split_score(head, graph, token, "evidence")
        own, radius = concepts[token], head.radius_
        assert split.own == pytest.approx(kernel[own] + (kernel[pairs[own, own]] if radius else 0), abs=1e-12)
        others = [concepts[one] for one in hops(graph, token, radius) - {token}]
        for part in split.parts:
            weight = kernel[pairs[min(own, part.concept), max(own, part.concept)]]
            assert part.n_tokens == others.count(part.concept)
            assert part.value == pytest.approx(weight * part.n_tokens, abs=1e-12)
        assert sum(part.n_tokens for part in split.parts) == len(others)


def test_refined_parts_are_the_read_outs_of_direct_neighbours_by_their_share(head: ProspectorHead) -> None:
    graph, refiner = datum(97, True), head.refiner_
    assert refiner is not None
    readout = graph.embeddings.astype(float) @ refiner.weights[0] + refiner.offset[0]
    split, near = split_score(head, graph, 20, "refined"), hops(graph, 20, 1) - {20}
    concepts = head.concepts(graph)
    assert split.own == pytest.approx(0.7 * readout[20], rel=1e-4)
    for part in split.parts:
        share = [0.3 * readout[one] / len(near) for one in near if concepts[one] == part.concept]
        assert part.n_tokens == len(share)
        assert part.value == pytest.approx(sum(share), rel=1e-4, abs=1e-6)


def test_a_token_without_neighbours_has_its_own_part_alone(head: ProspectorHead) -> None:
    alone = datum(96, True)
    lonely = TokenGraph.from_edges(np.empty((0, 2), int), alone.embeddings)
    for map_name in head.maps_:
        split = split_score(head, lonely, 3, map_name)
        assert split.parts == ()
        assert split.own == split.score == pytest.approx(head.prospect(lonely, map_name)[3], rel=1e-5)


def test_without_a_name_the_best_map_is_split(head: ProspectorHead) -> None:
    assert split_score(head, datum(95, True), 0).map == head.best_map_
    assert region_value(head, datum(95, True), [0]).map == head.best_map_


def test_an_explanation_is_summed_as_it_is(head: ProspectorHead) -> None:
    graph = datum(94, False)
    assert sum_by_concept(head.explain(graph, 5, "decision")) == split_score(head, graph, 5, "decision")


@pytest.mark.parametrize("map_name", ["evidence", "decision", "refined"])
def test_a_region_is_the_sum_and_the_mean_of_its_scores_by_concept(head: ProspectorHead, map_name: str) -> None:
    graph = datum(93, True)
    chosen = np.arange(3, 41, 2)
    scores, concepts = head.prospect(graph, map_name)[chosen], head.concepts(graph)[chosen]
    value = region_value(head, graph, chosen, map_name)
    assert value.n_tokens == len(chosen)
    assert value.total == pytest.approx(scores.sum(), abs=1e-9)
    assert value.mean == value.total / len(chosen)
    assert math.fsum(part.value for part in value.parts) == value.total
    for part in value.parts:
        assert part.value == pytest.approx(sum(scores[concepts == part.concept]), abs=1e-9)
        assert part.n_tokens == (concepts == part.concept).sum()
    mask = np.isin(np.arange(graph.n_tokens), chosen)
    assert region_value(head, graph, mask, map_name) == value
    assert region_parts(map_name, scores, concepts) == value


def test_what_cannot_be_split_is_said_plainly(head: ProspectorHead) -> None:
    graph = datum(92, True)
    rng = np.random.default_rng(0)
    words = [chain_graph(rng.integers(3, size=(23, 1)).astype(np.float32)) for _ in range(8)]
    categories = ProspectorHead(n_concepts=3, radius=1, quantize="identity").fit(words, [0, 1] * 4)
    with pytest.raises(InvalidInputError, match="of tokens that are categories cannot be split"):
        split_score(categories, words[0], 0, "refined")
    plain = ProspectorHead(n_concepts=3, radius=1, quantize="identity", refine=False).fit(words, [0, 1] * 4)
    with pytest.raises(InvalidInputError, match="draws no refined map. Pass map='evidence'"):
        split_score(plain, words[0], 0, "refined")
    with pytest.raises(InvalidInputError, match=rf"between 0 and {graph.n_tokens - 1}; got -1"):
        split_score(head, graph, -1, "refined")
    with pytest.raises(InvalidInputError, match="got map='heat'"):
        split_score(head, graph, 0, "heat")


@pytest.mark.parametrize("tokens", [[], [0, 0], [-1], [10_000], [0.5], [[1]]])
def test_a_region_must_be_a_set_of_tokens(head: ProspectorHead, tokens: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="tokens must be"):
        region_value(head, datum(91, True), tokens)


def test_a_mask_of_another_datum_is_refused(head: ProspectorHead) -> None:
    with pytest.raises(InvalidInputError, match=r"a mask of tokens must have shape \(\d+,\); got \(3,\)"):
        region_value(head, datum(91, True), np.ones(3, bool))


@pytest.mark.parametrize(("scores", "concepts"), [([], []), ([1.0], [1, 2]), ([np.nan], [1])])
def test_parts_need_finite_scores_of_the_same_tokens(scores: list[float], concepts: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="at least one, and finite"):
        region_parts("evidence", scores, concepts)


@pytest.mark.parametrize("map_name", ["evidence", "decision", "refined"])
def test_with_hidden_concepts_parts_add_up_to_the_score_of_the_map_too(head: ProspectorHead, map_name: str) -> None:
    graph = datum(97, True)
    hiding = head.with_edits(head.concept_edits_.hide([1, 2]))
    scores = hiding.prospect(graph, map_name)
    for token in range(graph.n_tokens):
        assert split_score(hiding, graph, token, map_name).score == pytest.approx(scores[token], abs=1e-5)


@pytest.mark.parametrize("map_name", ["evidence", "decision", "refined"])
def test_merged_concepts_are_one_part_and_change_no_sum(head: ProspectorHead, map_name: str) -> None:
    graph, merged = datum(90, True), head.with_edits(head.concept_edits_.merge([1, 3]))
    for token in range(0, graph.n_tokens, 7):
        apart, together = (split_score(one, graph, token, map_name) for one in (head, merged))
        assert together.own == apart.own
        assert together.score == pytest.approx(apart.score, abs=1e-9)
        values = {part.concept: part.value for part in together.parts}
        assert 3 not in values
        assert values.get(1, 0) == pytest.approx(sum(p.value for p in apart.parts if p.concept in (1, 3)), abs=1e-9)
        assert together.concept == (1 if apart.concept == 3 else apart.concept)
    tokens = np.arange(0, graph.n_tokens, 3)
    apart_, together_ = (region_value(one, graph, tokens, map_name) for one in (head, merged))
    assert {p.concept for p in together_.parts} == {min(p.concept, 1 if p.concept == 3 else 9) for p in apart_.parts}
    assert together_.total == pytest.approx(apart_.total, abs=1e-9)
