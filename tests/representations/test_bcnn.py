"""Bilinear pooling against the paper's formula in float64 NumPy."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.representations.bcnn import BCNN, bcnn
from tests import layer_contract

FEATURES = np.random.default_rng(0).normal(0.2, 1, (2, 3, 4, 5)).astype(np.float32)


def reference(x: np.ndarray) -> np.ndarray:
    """XX'/N as a sum of outer products, sign(x) sqrt(|x| + 1e-8), divided by its L2 norm."""
    outer = np.stack([sum(np.outer(p, p) for p in sample.reshape(-1, x.shape[-1])) for sample in x.astype(np.float64)])
    moment = outer.reshape(len(x), -1) / (x.shape[1] * x.shape[2])
    root = np.sign(moment) * np.sqrt(np.abs(moment) + 1e-8)
    return root / np.sqrt((root**2).sum(axis=1, keepdims=True))


def test_layer_is_the_papers_formula() -> None:
    np.testing.assert_allclose(BCNN()(FEATURES), reference(FEATURES), atol=1e-6)
    np.testing.assert_allclose(BCNN(dtype="float64")(FEATURES.astype(np.float64)), reference(FEATURES), atol=1e-12)


def test_endpoint() -> None:
    inputs = keras.Input((None, None, 5))
    endpoints = keras.Model(inputs, bcnn(inputs))(FEATURES)
    assert list(endpoints) == ["representation"]
    np.testing.assert_allclose(endpoints["representation"], reference(FEATURES), atol=1e-6)


def test_gradient_is_that_of_the_formula() -> None:
    weights = np.random.default_rng(1).normal(0, 1, (2, 25))
    x = tf.constant(FEATURES, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(BCNN(dtype="float64")(x) * weights)
    expected = layer_contract.central_differences(
        lambda x: float((reference(x) * weights).sum()), FEATURES.astype(np.float64)
    )
    np.testing.assert_allclose(tape.gradient(loss, x), expected, rtol=1e-5, atol=1e-7)


def test_dead_features_give_zeros_and_finite_gradients() -> None:
    """All channels of one image, and one channel of the other, are zero everywhere, as after a ReLU."""
    dead = FEATURES.copy()
    dead[0], dead[1, ..., 2] = 0, 0
    x = tf.constant(dead)
    with tf.GradientTape() as tape:
        tape.watch(x)
        vector = BCNN()(x)
    assert not vector[0].numpy().any()
    assert np.isfinite(tape.gradient(vector, x).numpy()).all()
    np.testing.assert_allclose(vector[1], reference(dead[1:])[0], atol=1e-6)


def test_configuration_and_reload(tmp_path: Path) -> None:
    layer_contract.assert_complete_configuration(BCNN(name="pool", dtype="float64"))
    layer_contract.assert_reloads(BCNN(), FEATURES, tmp_path / "model.keras")


def test_float32_under_mixed_precision() -> None:
    layer_contract.assert_float32_under_mixed_precision(lambda dtype: BCNN(dtype=dtype), FEATURES)


def test_features_must_have_positions_and_known_channels() -> None:
    with pytest.raises(ValueError, match="ndim=4"):
        BCNN()(FEATURES[0])
    with pytest.raises(ValueError, match="number of channels must be known"):
        BCNN().compute_output_shape((None, 4, 4, None))
