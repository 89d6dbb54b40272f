"""The statistics that the demo shows, against NumPy's own in float64."""

import numpy as np
import pytest

from mpncov_zoo.demo import second_order


@pytest.fixture(params=[(6, 7, 5), (3, 4, 20)], ids=["full rank", "fewer positions than channels"])
def features(request: pytest.FixtureRequest) -> np.ndarray:
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(request.param[-1], request.param[-1]))
    return (rng.normal(size=request.param) @ mixing + rng.normal(size=request.param[-1])).astype(np.float32)


def numpy_covariance(features: np.ndarray) -> np.ndarray:
    return np.cov(features.astype(np.float64).reshape(-1, features.shape[-1]), rowvar=False, bias=True)


def test_covariance(features: np.ndarray) -> None:
    np.testing.assert_allclose(second_order.covariance(features), numpy_covariance(features), rtol=1e-12, atol=1e-12)


def test_spectrum_is_of_the_covariance(features: np.ndarray) -> None:
    expected = np.linalg.eigvalsh(numpy_covariance(features))[::-1]
    found = second_order.spectrum(features)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(second_order.eigenvalues(numpy_covariance(features)), expected.clip(0), atol=1e-10)
    positions = features.shape[0] * features.shape[1]
    assert second_order.rank(found) == np.linalg.matrix_rank(numpy_covariance(features))
    assert second_order.rank(found) == min(positions - 1, features.shape[-1])


def test_strongest_pairs(features: np.ndarray) -> None:
    matrix = numpy_covariance(features)
    pairs = second_order.strongest_pairs(matrix, 2)
    beside = np.abs(matrix - np.diag(np.diag(matrix)))
    i, j = np.unravel_index(beside.argmax(), beside.shape)
    assert {pairs[0].first, pairs[0].second} == {i, j} and pairs[0].first < pairs[0].second
    beside[[i, j]] = beside[:, [i, j]] = 0  # the next has none of these two
    assert abs(pairs[1].covariance) == beside.max()
    correlations = np.corrcoef(features.astype(np.float64).reshape(-1, features.shape[-1]), rowvar=False)
    for pair in pairs:
        assert pair.covariance == matrix[pair.first, pair.second]
        assert pair.correlation == pytest.approx(correlations[pair.first, pair.second])


def test_no_pair_where_nothing_varies_together() -> None:
    assert second_order.strongest_pairs(np.eye(4), 3) == []
    assert second_order.strongest_pairs(np.ones((1, 1)), 3) == []
    assert len(second_order.strongest_pairs(np.ones((5, 5)), 9)) == 2


def test_the_mean_of_the_product_is_the_covariance(features: np.ndarray) -> None:
    (pair,) = second_order.strongest_pairs(numpy_covariance(features), 1)
    product = second_order.product_map(features, pair)
    assert product.shape == features.shape[:2]
    assert product.mean() == pytest.approx(pair.covariance)
    own = features[..., pair.first].astype(np.float64)
    np.testing.assert_allclose(second_order.channel_map(features, pair.first), own - own.mean(), atol=1e-12)


def test_most_varying_channels_are_in_ascending_order() -> None:
    assert second_order.most_varying(np.diag([1.0, 5.0, 2.0, 9.0]), 3).tolist() == [1, 2, 3]
    assert second_order.most_varying(np.diag([1.0, 5.0]), 9).tolist() == [0, 1]
