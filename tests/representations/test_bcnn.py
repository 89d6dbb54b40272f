"""Bilinear pooling against the formula in float64 NumPy; its gradient against central differences and PyTorch's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.representations.bcnn import BCNN, bcnn
from tests import layer_contract

FEATURES = np.random.default_rng(0).normal(0.2, 1, (2, 3, 4, 5)).astype(np.float32)
RECTIFIED = np.maximum(FEATURES, 0) * (np.arange(5) != 2)  # half of the values are 0, a channel is everywhere
SCALES = (1e-4, 1.0, 1e4)


def second_moments(x: np.ndarray) -> np.ndarray:
    """XX'/N as a sum of outer products, in float64: (batch, height, width, d) -> (batch, d * d)."""
    rows = x.astype(np.float64).reshape(len(x), -1, x.shape[-1])
    return np.einsum("bni,bnj->bij", rows, rows).reshape(len(x), -1) / rows.shape[1]


def normalized_root(x: np.ndarray, zero: np.ndarray | bool = False) -> np.ndarray:
    """sign(x) sqrt(|x| + 1e-8), divided by its L2 norm; entries that are held at zero stay so."""
    root = np.where(zero, 0, np.sign(x) * np.sqrt(np.abs(x) + 1e-8))
    norm = np.sqrt((root**2).sum(axis=1, keepdims=True))
    return root / np.where(norm > 0, norm, 1)


def reference(x: np.ndarray) -> np.ndarray:
    return normalized_root(second_moments(x))


def value_and_gradient(
    layer: Callable[[Any], Any], x: np.ndarray, weights: np.ndarray, jit_compile: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's output, and the gradient of its weighted sum with respect to its input."""

    @tf.function(jit_compile=jit_compile)
    def compute(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            vector = layer(x)
        return vector, tape.gradient(vector, x, tf.cast(weights, vector.dtype))

    vector, gradient = compute(tf.constant(x))
    return vector.numpy(), gradient.numpy()


def assert_close(actual: np.ndarray, expected: np.ndarray, bound: float) -> None:
    """Within `bound` of the largest value."""
    assert np.abs(actual - expected).max() <= bound * np.abs(expected).max()


def test_layer_is_the_papers_formula() -> None:
    np.testing.assert_allclose(BCNN()(FEATURES), reference(FEATURES), atol=1e-6)
    np.testing.assert_allclose(BCNN(dtype="float64")(FEATURES.astype(np.float64)), reference(FEATURES), atol=1e-12)


def test_endpoint() -> None:
    inputs = keras.Input((None, None, 5))
    endpoints = keras.Model(inputs, bcnn(inputs))(FEATURES)
    assert list(endpoints) == ["representation"]
    np.testing.assert_allclose(endpoints["representation"], reference(FEATURES), atol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("features", [FEATURES, RECTIFIED], ids=["dense", "rectified"])
def test_gradient_is_that_of_the_formula(features: np.ndarray, scale: float) -> None:
    """Moments that are exactly 0, where the root jumps, count as constants."""
    weights = np.random.default_rng(1).normal(0, 1, (2, 25))
    x = scale * features.astype(np.float64)
    zero = second_moments(x) == 0
    expected = layer_contract.central_differences(
        lambda x: float((normalized_root(second_moments(x), zero) * weights).sum()), x, step=1e-6 * scale
    )
    assert zero.any() == (features is RECTIFIED)
    assert_close(value_and_gradient(BCNN(dtype="float64"), x, weights)[1], expected, 1e-7)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_float32_of_any_scale(scale: float, jit_compile: bool) -> None:
    """28x28 rectified positions, plainly and by XLA, against the layer in float64."""
    x = (scale * np.maximum(np.random.default_rng(2).normal(0, 1, (2, 28, 28, 8)), 0)).astype(np.float32)
    weights = np.random.default_rng(1).normal(0, 1, (2, 64))
    vector, gradient = value_and_gradient(BCNN(), x, weights, jit_compile)
    _, exact = value_and_gradient(BCNN(dtype="float64"), x.astype(np.float64), weights)
    assert_close(vector, reference(x), 1e-6)
    assert_close(gradient, exact, 1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_dead_image_gives_zeros_and_no_gradient(jit_compile: bool) -> None:
    """Next to an image that isn't dead, and whose result must not notice."""
    x, weights = RECTIFIED.astype(np.float32), np.random.default_rng(1).normal(0, 1, (2, 25))
    x[0] = 0
    vector, gradient = value_and_gradient(BCNN(), x, weights, jit_compile)
    alone, gradient_alone = value_and_gradient(BCNN(), x[1:], weights[1:], jit_compile)
    assert not vector[0].any() and not gradient[0].any()
    assert_close(vector[1:], alone, 1e-6)
    assert_close(gradient[1:], gradient_alone, 1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("features", [FEATURES, RECTIFIED], ids=["dense", "rectified"])
def test_value_and_gradient_are_pytorchs(features: np.ndarray) -> None:
    import torch

    weights = np.random.default_rng(1).normal(0, 1, (2, 25))
    x = torch.tensor(features, dtype=torch.float64, requires_grad=True)
    rows = x.reshape(2, 12, 5)
    moments = (rows.mT @ rows / 12).reshape(2, 25)
    twin = torch.nn.functional.normalize(torch.sign(moments) * torch.sqrt(torch.abs(moments) + 1e-8))
    twin.backward(torch.tensor(weights))
    vector, gradient = value_and_gradient(BCNN(dtype="float64"), features.astype(np.float64), weights)
    assert_close(vector, twin.detach().numpy(), 1e-13)
    assert_close(gradient, x.grad.numpy(), 1e-13)


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
