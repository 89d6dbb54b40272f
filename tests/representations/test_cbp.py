"""Compact bilinear pooling against the paper's algorithm: two count sketches a position, convolved by FFT, summed."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.representations.cbp import CBP, cbp
from tests import layer_contract

FEATURES = np.random.default_rng(0).normal(0.2, 1, (2, 3, 4, 5)).astype(np.float32)
DIMENSION = 32


def tensor_sketch(x: np.ndarray, layer: CBP) -> np.ndarray:
    """Algorithm 2 of the paper with the layer's own hashes, in float64: (batch, dimension), then sqrt and L2."""
    bins, signs = np.asarray(layer.bins).astype(int), np.asarray(layer.signs).astype(np.float64)
    sketch = np.zeros((len(x), layer.dimension))
    for image, position in np.ndindex(len(x), x.shape[1] * x.shape[2]):
        local = x[image].reshape(-1, x.shape[-1])[position].astype(np.float64)
        halves = np.zeros((2, layer.dimension))
        for half, channel in np.ndindex(2, len(local)):
            halves[half, bins[half, channel]] += signs[half, channel] * local[channel]
        sketch[image] += np.fft.ifft(np.fft.fft(halves[0]) * np.fft.fft(halves[1])).real
    root = np.sign(sketch) * np.sqrt(np.abs(sketch) + 1e-8)
    root[np.abs(sketch) < 1e-13] = 0  # empty bins: what the FFT leaves there is rounding
    return root / np.sqrt((root**2).sum(axis=1, keepdims=True))


def built(**options) -> CBP:
    layer = CBP(DIMENSION, **options)
    layer.build((None, None, None, 5))
    return layer


def test_layer_is_the_papers_algorithm() -> None:
    layer = built()
    np.testing.assert_allclose(layer(FEATURES), tensor_sketch(FEATURES, layer), atol=1e-6)
    exact = built(dtype="float64")
    np.testing.assert_allclose(exact(FEATURES.astype(np.float64)), tensor_sketch(FEATURES, exact), atol=1e-10)


def test_sum_over_positions_not_the_mean() -> None:
    """Seen where the features are small: the constant under the root then weighs more against a mean."""
    small = 1e-4 * FEATURES
    layer = built()
    np.testing.assert_allclose(layer(small), tensor_sketch(small, layer), atol=1e-6)
    assert np.abs(layer(small).numpy() - tensor_sketch(small / np.sqrt(12), layer)).max() > 1e-3


def test_hashes_cover_bins_and_signs() -> None:
    layer = CBP(64)
    layer.build((None, None, None, 2000))
    bins, signs = np.asarray(layer.bins), np.asarray(layer.signs)
    assert [set(row) for row in bins] == [set(range(64))] * 2
    assert [set(row) for row in signs] == [{-1.0, 1.0}] * 2
    assert (bins[0] != bins[1]).mean() > 0.9 and abs((signs[0] * signs[1]).mean()) < 0.1


def test_seed_draws_the_hashes() -> None:
    same, other = built(seed=0), built(seed=1)
    np.testing.assert_array_equal(built().bins, same.bins)
    assert (np.asarray(same.bins) != np.asarray(other.bins)).any()


def test_hashes_are_weights_but_not_trained() -> None:
    layer = built()
    assert not layer.trainable_variables
    assert [variable.name for variable in layer.non_trainable_variables] == ["bins", "signs"]


def test_endpoint_has_the_published_length() -> None:
    inputs = keras.Input((None, None, 5))
    endpoints = cbp(inputs)
    assert list(endpoints) == ["representation"] and endpoints["representation"].shape == (None, 8192)
    computed = keras.Model(inputs, endpoints)(FEATURES)["representation"]
    np.testing.assert_array_equal(computed, CBP(8192)(FEATURES))


def test_gradient_is_that_of_the_algorithm() -> None:
    layer = built(dtype="float64")
    weights = np.random.default_rng(1).normal(0, 1, (2, DIMENSION))
    x = tf.constant(FEATURES, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * weights)
    expected = layer_contract.central_differences(
        lambda x: float((tensor_sketch(x, layer) * weights).sum()), FEATURES.astype(np.float64)
    )
    np.testing.assert_allclose(tape.gradient(loss, x), expected, rtol=1e-4, atol=1e-6)


def test_dead_features_give_zeros_and_finite_gradients() -> None:
    x = tf.constant(np.stack([np.zeros_like(FEATURES[0]), FEATURES[1]]))
    layer = built()
    with tf.GradientTape() as tape:
        tape.watch(x)
        vector = layer(x)
    assert not vector[0].numpy().any()
    assert np.isfinite(tape.gradient(vector, x).numpy()).all()
    np.testing.assert_allclose(vector[1], tensor_sketch(FEATURES[1:], layer)[0], atol=1e-6)


def test_configuration_and_reload(tmp_path: Path) -> None:
    layer_contract.assert_complete_configuration(CBP(DIMENSION, seed=3, name="pool", dtype="float64"))
    redrawn = built(seed=3)
    redrawn.bins.assign(np.asarray(built(seed=4).bins))  # a reloaded model takes the file's hashes, not the seed's
    layer_contract.assert_reloads(redrawn, FEATURES, tmp_path / "model.keras")


def test_float32_under_mixed_precision() -> None:
    layer_contract.assert_float32_under_mixed_precision(lambda dtype: CBP(DIMENSION, dtype=dtype), FEATURES)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="dimension=0"):
        CBP(0)
    with pytest.raises(ValueError, match="ndim=4"):
        CBP(DIMENSION)(FEATURES[0])
