"""Shorter vectors: a projection keeps distances within its bound, components are scikit-learn's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.compact import Components, Projection, distance_bound


def features(count: int, length: int) -> np.ndarray:
    """Float32, of falling variances."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, length)) / np.arange(1, length + 1) ** 0.3 + 1).astype(np.float32)


def test_a_projection_keeps_distances() -> None:
    x = features(60, 3000)
    project = Projection(3000, 500, seed=3)
    y = project(x)
    assert y.shape == (60, 500) and y.dtype == np.float32
    np.testing.assert_allclose(project(x[7:9]), y[7:9], rtol=1e-5, atol=1e-6)  # batch by batch
    assert np.abs(Projection(3000, 500, seed=4)(x) - y).max() > 0.1
    pairs = np.triu_indices(60, 1)
    ratios = (pairwise_distances(y) ** 2 / np.maximum(pairwise_distances(x) ** 2, 1e-9))[pairs]
    bound = distance_bound(500, 60)
    assert 1 - bound < ratios.min() and ratios.max() < 1 + bound < 1.35


@pytest.mark.parametrize(("images", "e"), [(1000, 0.3), (10**6, 0.5), (2, 0.1)])
def test_the_bound_is_that_of_scikit_learn(images: int, e: float) -> None:
    length = int(johnson_lindenstrauss_min_dim(images, eps=e))
    assert distance_bound(length, images) == pytest.approx(e, abs=1e-2)
    assert distance_bound(1, images) == 1


def test_components() -> None:
    x = features(200, 40)
    found = Components.fitted(x, 5, seed=1)
    truth = PCA(5, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(
        found(x) @ found.components, truth.inverse_transform(truth.transform(x)) - found.mean, atol=0.2
    )
    assert found.explained == pytest.approx(truth.explained_variance_ratio_.sum(), rel=1e-2)
    assert found(x).shape == (200, 5) and found(x).dtype == np.float32
    copy = Components.from_bytes(found.to_bytes())
    assert copy.facts == found.facts and found.facts["sample"] == 200
    with pytest.raises(InputError, match="are damaged"):
        Components.from_bytes(found.to_bytes()[:-9])


def test_lengths_that_cannot_be() -> None:
    with pytest.raises(InputError, match="project must be between 1 and 39"):
        Projection(40, 40, 0)
    with pytest.raises(InputError, match="pca must be between 1 and 39"):
        Components.fitted(features(50, 40), 0, 0)
    with pytest.raises(InputError, match="needs as many images"):
        Components.fitted(features(9, 40), 10, 0)
