"""Compact bilinear pooling against the paper's algorithm: two count sketches a position, convolved by FFT, summed.

Its gradient is compared with central differences of that, and with PyTorch's.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

from mpncov_zoo.representations.cbp import CBP, cbp
from tests import layer_contract
from tests.representations.test_bcnn import (
    FEATURES,
    RECTIFIED,
    SCALES,
    assert_close,
    normalized_root,
    value_and_gradient,
)

DIMENSION = 32


def tensor_sketch(x: np.ndarray, layer: CBP) -> np.ndarray:
    """Algorithm 2 of the paper with the layer's own hashes, in float64: (batch, dimension)."""
    bins, signs = np.asarray(layer.bins).astype(int), np.asarray(layer.signs).astype(np.float64)
    sketch = np.zeros((len(x), layer.dimension))
    for image, position in np.ndindex(len(x), x.shape[1] * x.shape[2]):
        local = x[image].reshape(-1, x.shape[-1])[position].astype(np.float64)
        halves = np.zeros((2, layer.dimension))
        for half in range(2):
            np.add.at(halves[half], bins[half], signs[half] * local)
        sketch[image] += np.fft.irfft(np.fft.rfft(halves[0]) * np.fft.rfft(halves[1]), layer.dimension)
    return sketch


def empty(sketch: np.ndarray) -> np.ndarray:
    """The bins that nothing falls into: what the FFT leaves there is rounding."""
    return np.abs(sketch) <= 1e-13 * np.abs(sketch).max()


def reference(x: np.ndarray, layer: CBP) -> np.ndarray:
    sketch = tensor_sketch(x, layer)
    return normalized_root(sketch, empty(sketch))


def built(**options) -> CBP:
    layer = CBP(DIMENSION, **options)
    layer.build((None, None, None, 5))
    return layer


def test_layer_is_the_papers_algorithm() -> None:
    layer = built()
    np.testing.assert_allclose(layer(FEATURES), reference(FEATURES, layer), atol=1e-6)
    exact = built(dtype="float64")
    np.testing.assert_allclose(exact(FEATURES.astype(np.float64)), reference(FEATURES, exact), atol=1e-10)


def test_gathered_it_is_the_same() -> None:
    layer = built()
    x = FEATURES
    scattered = np.asarray(layer(x))
    layer.table = layer.entries_of_bins()
    assert (
        layer.table.shape[0] == DIMENSION and (layer.table < FEATURES.shape[-1] ** 2).sum() == FEATURES.shape[-1] ** 2
    )
    np.testing.assert_allclose(layer(x), scattered, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(x), reference(x, layer), rtol=1e-4, atol=1e-5)


def test_sum_over_positions_not_the_mean() -> None:
    """Seen where the features are small: the constant under the root then weighs more against a mean."""
    small = 1e-4 * FEATURES
    layer = built()
    np.testing.assert_allclose(layer(small), reference(small, layer), atol=1e-6)
    assert np.abs(layer(small).numpy() - reference(small / np.sqrt(12), layer)).max() > 1e-3


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


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("features", [FEATURES, RECTIFIED], ids=["dense", "rectified"])
def test_gradient_is_that_of_the_algorithm(features: np.ndarray, scale: float) -> None:
    """Bins that are exactly 0, where the root jumps, count as constants."""
    layer = built(dtype="float64")
    weights = np.random.default_rng(1).normal(0, 1, (2, DIMENSION))
    x = scale * features.astype(np.float64)
    zero = empty(tensor_sketch(x, layer))
    expected = layer_contract.central_differences(
        lambda x: float((normalized_root(tensor_sketch(x, layer), zero) * weights).sum()), x, step=1e-6 * scale
    )
    assert zero.any()
    assert_close(value_and_gradient(layer, x, weights)[1], expected, 1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_float32_of_any_scale(scale: float, jit_compile: bool) -> None:
    """28x28 rectified positions, plainly and by XLA, against the algorithm and the layer in float64."""
    x = (scale * np.maximum(np.random.default_rng(2).normal(0, 1, (2, 28, 28, 5)), 0)).astype(np.float32)
    weights = np.random.default_rng(1).normal(0, 1, (2, DIMENSION))
    vector, gradient = value_and_gradient(built(), x, weights, jit_compile)
    _, exact = value_and_gradient(built(dtype="float64"), x.astype(np.float64), weights)
    assert_close(vector, reference(x, built()), 1e-5)
    assert_close(gradient, exact, 1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_dead_image_gives_zeros_and_no_gradient(jit_compile: bool) -> None:
    """Next to an image that isn't dead, and whose result must not notice."""
    x, weights = RECTIFIED.astype(np.float32), np.random.default_rng(1).normal(0, 1, (2, DIMENSION))
    x[0] = 0
    vector, gradient = value_and_gradient(built(), x, weights, jit_compile)
    alone, gradient_alone = value_and_gradient(built(), x[1:], weights[1:], jit_compile)
    assert not vector[0].any() and not gradient[0].any()
    assert_close(vector[1:], alone, 1e-6)
    assert_close(gradient[1:], gradient_alone, 1e-6)


@pytest.mark.parity
def test_value_and_gradient_are_pytorchs() -> None:
    """The algorithm in one FFT over all positions; dense features, and hashes that fill every bin."""
    import torch

    layer, weights = CBP(8, seed=4, dtype="float64"), np.random.default_rng(1).normal(0, 1, (2, 8))
    layer.build((None, None, None, 5))
    x = torch.tensor(FEATURES, dtype=torch.float64, requires_grad=True)
    halves = [
        torch.nn.functional.one_hot(torch.tensor(bins.astype(int)), 8).double() * torch.tensor(signs)[:, None].double()
        for bins, signs in zip(np.asarray(layer.bins), np.asarray(layer.signs), strict=True)
    ]
    spectra = [torch.fft.rfft(x @ half) for half in halves]
    sketch = torch.fft.irfft((spectra[0] * spectra[1]).sum((1, 2)), 8)
    twin = torch.nn.functional.normalize(torch.sign(sketch) * torch.sqrt(torch.abs(sketch) + 1e-8))
    twin.backward(torch.tensor(weights))
    vector, gradient = value_and_gradient(layer, FEATURES.astype(np.float64), weights)
    assert not empty(sketch.detach().numpy()).any()
    assert_close(vector, twin.detach().numpy(), 1e-12)
    assert_close(gradient, x.grad.numpy(), 1e-12)


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
