"""Concepts: nearest centres, streams, whitening, categories."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
)

from napari_prospector.core.concepts import ConceptQuantizer, assign_all, sample_rows
from napari_prospector.errors import InvalidInputError, ProspectorWarning


def clouds(n_clouds: int, n_dims: int, n_each: int, seed: int = 0, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=10, size=(n_clouds, n_dims))
    return np.concatenate([rng.normal(size=(n_each, n_dims)) + centre for centre in centres]) + offset


def nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """The slow loop that the matrix product is held against."""
    return np.array([np.argmin([((point - center) ** 2).sum() for center in centers]) for point in points])


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_token_goes_to_its_nearest_centre_even_far_from_the_origin(offset: float) -> None:
    tokens = clouds(5, 7, 31, offset=offset)
    quantizer = ConceptQuantizer(5).fit(tokens)
    np.testing.assert_array_equal(quantizer.predict(tokens), nearest(tokens, quantizer.centers_.astype(float)))


def test_clouds_far_apart_become_one_concept_each() -> None:
    concepts = ConceptQuantizer(5).fit(clouds(5, 7, 31)).predict(clouds(5, 7, 31))
    assert [len(set(part)) for part in concepts.reshape(5, 31)] == [1] * 5
    assert len(set(concepts)) == 5


def test_standardized_concepts_are_those_of_scikit_learn_on_scaled_tokens() -> None:
    tokens = clouds(3, 5, 53) * np.array([1, 10, 100, 0.1, 1])
    scaled = StandardScaler().fit_transform(tokens.astype(np.float32))
    expected = KMeans(3, n_init=3, random_state=0).fit(scaled)
    found = ConceptQuantizer(3, whiten="standardize").fit(tokens).predict(tokens)
    pairs = set(zip(found.tolist(), expected.labels_.tolist(), strict=True))
    assert len(pairs) == 3


def test_pca_whitening_makes_concepts_blind_to_a_linear_map_of_the_embeddings() -> None:
    tokens = clouds(4, 5, 41)
    mixing = np.random.default_rng(3).normal(size=(5, 5)) + 3 * np.eye(5)
    plain = ConceptQuantizer(4, whiten="pca").fit(tokens).predict(tokens)
    mixed = ConceptQuantizer(4, whiten="pca").fit(tokens @ mixing).predict(tokens @ mixing)
    assert len(set(zip(plain.tolist(), mixed.tolist(), strict=True))) == 4


def test_cosine_concepts_do_not_see_the_length_of_a_centred_embedding() -> None:
    tokens = clouds(4, 5, 41)
    quantizer = ConceptQuantizer(4, geometry="cosine").fit(tokens)
    longer = (tokens - quantizer.mean_) * np.random.default_rng(1).uniform(0.5, 3, (len(tokens), 1)) + quantizer.mean_
    np.testing.assert_array_equal(quantizer.predict(tokens), quantizer.predict(longer))


def test_a_stream_gives_the_same_concepts_as_the_whole() -> None:
    tokens = clouds(3, 5, 101)
    whole = ConceptQuantizer(3, max_sample=97).fit(tokens)
    streamed = ConceptQuantizer(3, max_sample=97).fit(iter([tokens[:17], tokens[17:200], tokens[200:]]))
    np.testing.assert_array_equal(whole.centers_, streamed.centers_)


def test_several_quantizers_at_once_equal_one_after_the_other() -> None:
    tokens = clouds(6, 11, 29, offset=50.0)
    quantizers = [
        ConceptQuantizer(3).fit(tokens[:90]),
        ConceptQuantizer(5, whiten="pca", geometry="cosine").fit(tokens),
        ConceptQuantizer(7, whiten="standardize").fit(tokens[60:]),
    ]
    for together, alone in zip(assign_all(quantizers, tokens), quantizers, strict=True):
        np.testing.assert_array_equal(together, alone.predict(tokens))


def test_half_precision_embeddings_are_welcome() -> None:
    tokens = clouds(3, 5, 13)
    quantizer = ConceptQuantizer(3).fit(tokens)
    np.testing.assert_array_equal(quantizer.predict(tokens.astype(np.float16)), quantizer.predict(tokens))


def test_large_samples_are_clustered_by_mini_batches() -> None:
    tokens = clouds(3, 5, 211)
    concepts = ConceptQuantizer(3, minibatch_above=100).fit(tokens).predict(tokens)
    assert len(set(concepts)) == 3


def test_identity_takes_categories_as_they_are() -> None:
    tokens = np.array([[3], [0], [4], [3]])
    np.testing.assert_array_equal(ConceptQuantizer(5, method="identity").fit(tokens).predict(tokens), [3, 0, 4, 3])


@pytest.mark.parametrize("wrong", [5.0, -1.0, 1.5])
def test_a_category_out_of_range_is_refused_by_token(wrong: float) -> None:
    quantizer = ConceptQuantizer(5, method="identity").fit([[0]])
    with pytest.raises(InvalidInputError, match="whole numbers from 0 to 4; token 1 is"):
        quantizer.predict(np.array([[0.0], [wrong]]))


def test_fewer_distinct_tokens_than_concepts_is_said() -> None:
    tokens = np.repeat(np.array([[0.0, 0.0], [5.0, 5.0]]), 11, axis=0)
    with pytest.warns(ProspectorWarning, match="only 2 distinct concepts"):
        quantizer = ConceptQuantizer(4).fit(tokens)
    assert quantizer.n_concepts_ == 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "dbscan"}, "method must be one of 'k-means', 'identity'; got 'dbscan'"),
        ({"geometry": "flat"}, "geometry must be one of"),
        ({"whiten": "zca"}, "whiten must be one of None"),
        ({"n_concepts": 0}, "n_concepts must be a whole number of at least 1; got 0"),
        ({"n_concepts": 2.5}, "n_concepts must be a whole number"),
        ({"n_concepts": 100}, "got 31 tokens and n_concepts=100. Lower n_concepts"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ConceptQuantizer(**parameters).fit(clouds(1, 3, 31))  # type: ignore[arg-type]


def test_nan_is_refused_with_the_token_that_holds_it() -> None:
    tokens = clouds(1, 3, 31)
    tokens[7, 1] = np.nan
    with pytest.raises(InvalidInputError, match="1 of 31 tokens hold NaN or infinity, the first is token 7"):
        ConceptQuantizer(3).fit(tokens)


def test_one_vector_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInputError, match=r"got \(3,\). Pass one vector as embeddings\[None\]"):
        ConceptQuantizer(1).fit(np.zeros(3))


def test_another_width_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(n_tokens, 3\); got \(2, 5\)"):
        ConceptQuantizer(2).fit(clouds(2, 3, 7)).predict(np.zeros((2, 5)))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 60))
def test_a_sample_depends_on_the_rows_and_not_on_the_cuts(sizes: list[int], n_rows: int) -> None:
    rows = np.arange(sum(sizes), dtype=np.float32)[:, None]
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    np.testing.assert_array_equal(sample_rows(parts, n_rows), sample_rows([rows], n_rows))
    assert len(sample_rows(parts, n_rows)) == min(n_rows, len(rows))


def test_a_sample_is_uniform_over_the_stream() -> None:
    drawn = np.concatenate(
        [sample_rows([np.arange(50)[:, None], np.arange(50, 100)[:, None]], 10, s) for s in range(300)]
    )
    counts = np.bincount(drawn[:, 0].astype(int), minlength=100)
    # 30 expected each; beyond 5 standard deviations something is wrong
    assert abs(counts - 30).max() < 5 * np.sqrt(30)


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
    check("ConceptQuantizer", ConceptQuantizer())  # type: ignore[operator]
    assert clone(ConceptQuantizer(7)).n_concepts == 7
