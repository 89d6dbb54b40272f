"""MPA-Lya against Padé approximants by SciPy, and against eigendecompositions in float64."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo.representations.covariance import covariance
from mpncov_zoo.representations.mpncov import MPNCOV
from mpncov_zoo.representations.pade import lyapunov, pade_coefficients, pade_sqrt
from tests import layer_contract

EPSILON = {"float32": 2e-6, "float64": 1e-13}
GRADIENTS = ("analytic", "autodiff")
FEATURES = np.random.default_rng(0).normal(0.2, 1, (2, 3, 4, 6)).astype(np.float32)
WELL_CONDITIONED = [1.0, 0.9, 0.9, 0.9 + 1e-9, 0.6, 0.35]
RANK_DEFICIENT = [1.0, 0.9, 0.9, 0.5, 0.0, 0.0]


def spectral_matrices(eigenvalues: np.ndarray | list[float]) -> np.ndarray:
    """Two matrices of these eigenvalues, (2, d, d)."""
    size = len(eigenvalues)
    vectors, _ = np.linalg.qr(np.random.default_rng(0).normal(0, 1, (2, size, size)))
    return vectors * np.asarray(eigenvalues) @ vectors.swapaxes(1, 2)


def on_eigenvalues(matrices: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh(matrices)
    return vectors * function(np.maximum(eigenvalues, 0))[:, None, :] @ vectors.swapaxes(1, 2)


def approximant(eigenvalues: np.ndarray, degree: int = 5) -> np.ndarray:
    """The closed form of `pade_sqrt` on the eigenvalues of every matrix, (batch, d)."""
    norm = np.linalg.norm(eigenvalues, axis=-1, keepdims=True)
    root = np.sqrt(eigenvalues / norm)
    return np.sqrt(norm) * root * np.tanh((2 * degree + 1) * np.arctanh(np.minimum(root, 1 - 1e-16)))


def exact_gradient(matrices: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    """Of the square root: V (C_ij / (b_i + b_j)) V', with zero between two zero eigenvalues."""
    eigenvalues, vectors = np.linalg.eigh(matrices)
    roots = np.sqrt(np.where(eigenvalues > 1e-12, eigenvalues, 0))
    sums = roots[:, :, None] + roots[:, None, :]
    rotated = vectors.swapaxes(1, 2) @ (cotangent + cotangent.swapaxes(1, 2)) @ vectors / 2
    divided = np.where(sums > 0, rotated / np.where(sums > 0, sums, 1), 0)
    return vectors @ divided @ vectors.swapaxes(1, 2)


def gradient_of(function: Callable[..., Any], x: Any, cotangent: np.ndarray) -> np.ndarray:
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = function(x)
    seed: Any = tf.constant(cotangent, x.dtype)
    return np.asarray(tape.gradient(result, x, seed))


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, shape)


def assert_close(actual: Any, expected: np.ndarray, bound: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= bound * np.abs(expected).max()


@pytest.mark.parametrize("degree", [1, 3, 5])
def test_coefficients_are_those_of_padés_approximant(degree: int) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    taylor = [1.0]
    for k in range(2 * degree):
        taylor.append(taylor[-1] * (k - 0.5) / (k + 1))  # of sqrt(1 - z)
    numerator, denominator = interpolate.pade(taylor, degree)
    z = np.linspace(0, 0.99, 50)
    p, q = (np.polynomial.polynomial.polyval(1 - z, row) for row in pade_coefficients(degree))
    np.testing.assert_allclose(p / q, numerator(z) / denominator(z), rtol=1e-8)


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("degree", [1, 3, 5])
def test_eigenvalues_go_through_the_approximant(degree: int, dtype: str) -> None:
    for eigenvalues in (WELL_CONDITIONED, RANK_DEFICIENT, np.geomspace(1, 1e-6, 12)):
        matrices = spectral_matrices(eigenvalues)
        expected = on_eigenvalues(matrices, partial(approximant, degree=degree))
        root = pade_sqrt(tf.constant(matrices, dtype), degree=degree)
        assert root.dtype == dtype
        assert_close(root, expected, 10 * EPSILON[dtype])


def test_distance_to_the_true_root() -> None:
    """Four digits where no eigenvalue is small; at most 0.026 of the root of the norm for any."""
    flat = spectral_matrices(WELL_CONDITIONED)
    assert_close(pade_sqrt(tf.constant(flat)), on_eigenvalues(flat, np.sqrt), 1e-4)
    assert_close(pade_sqrt(tf.constant(flat), degree=12), on_eigenvalues(flat, np.sqrt), 1e-9)
    steep = spectral_matrices(np.geomspace(1, 1e-6, 12))
    error = pade_sqrt(tf.constant(steep)).numpy() - on_eigenvalues(steep, np.sqrt)
    norms = np.sqrt(np.linalg.norm(steep, axis=(1, 2)))
    assert (np.linalg.norm(error, 2, axis=(1, 2)) <= 0.026 * norms).all()


def test_zero_eigenvalues_stay_zero() -> None:
    matrices = spectral_matrices(RANK_DEFICIENT)
    assert_close(pade_sqrt(tf.constant(matrices)), on_eigenvalues(matrices, np.sqrt), 1e-4)


@pytest.mark.parametrize("dtype", EPSILON)
def test_gradient_is_the_exact_one(dtype: str) -> None:
    """Of the true root, also where eigenvalues are equal or close, and for a cotangent that is not symmetric."""
    matrices, cotangent = spectral_matrices(WELL_CONDITIONED), draw(2, 6, 6)
    root = partial(pade_sqrt, degree=12, steps=20)
    gradient = gradient_of(root, tf.constant(matrices, dtype), cotangent)
    assert_close(gradient, exact_gradient(matrices, cotangent), {"float32": 1e-4, "float64": 1e-8}[dtype])
    assert_close(
        gradient_of(pade_sqrt, tf.constant(matrices, dtype), cotangent), exact_gradient(matrices, cotangent), 1e-3
    )


def test_autodiff_is_the_gradient_of_what_is_computed() -> None:
    matrices, cotangent = spectral_matrices(np.geomspace(1, 1e-2, 4)), draw(2, 4, 4)
    gradient = gradient_of(partial(pade_sqrt, gradient="autodiff"), tf.constant(matrices), cotangent)
    gradient = (gradient + gradient.swapaxes(1, 2)) / 2

    def loss(x: np.ndarray) -> float:
        return float((on_eigenvalues((x + x.swapaxes(1, 2)) / 2, approximant) * cotangent).sum())

    assert_close(gradient, layer_contract.central_differences(loss, matrices), 1e-6)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradient_of_features_fewer_than_channels(gradient: str) -> None:
    """5 positions of 12 channels: of the 12 eigenvalues 8 are zero, and the gradient of the features is finite."""
    x, cotangent = draw(2, 5, 1, 12), np.random.default_rng(2).normal(0, 1, (2, 12, 12))
    rows = x[:, :, 0] - x[:, :, 0].mean(1, keepdims=True)
    exact = 2 / 5 * rows @ exact_gradient(rows.swapaxes(1, 2) @ rows / 5, cotangent)
    root = partial(pade_sqrt, gradient=gradient)
    for dtype in EPSILON:
        actual = gradient_of(lambda x: root(covariance(x)), tf.constant(x, dtype), cotangent)
        assert_close(actual[:, :, 0], exact, 0.02)


@pytest.mark.parametrize("dtype", EPSILON)
def test_lyapunov_equation(dtype: str) -> None:
    root, right = spectral_matrices([1.0, 0.7, 0.3, 0.1]), draw(2, 4, 4)
    right = right + right.swapaxes(1, 2)
    solution = lyapunov(tf.constant(root, dtype), tf.constant(right, dtype), 16).numpy()
    assert_close(root @ solution + solution @ root, right, 10 * EPSILON[dtype])


def test_lyapunov_equation_of_a_singular_matrix() -> None:
    """Diagonal: between 1 and 0 the whole solution, between 0 and 0 a finite number."""
    solution = lyapunov(tf.constant([[[0.5, 0, 0], [0, 0, 0], [0, 0, 0]]]), tf.ones((1, 3, 3)), 8).numpy()[0]
    np.testing.assert_allclose(solution[0], [1, 2, 2], rtol=1e-5)
    np.testing.assert_allclose(solution[1:, 1:], 1.5**8 / 2, rtol=1e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("value", [0.0, 0.75])
def test_zero_variance_gives_zeros_and_finite_gradients(value: float, gradient: str) -> None:
    x = FEATURES.copy()
    x[0] = value
    layer = MPNCOV(square_root="pade", gradient=gradient)
    slope = gradient_of(layer, tf.constant(x), np.ones((2, 21)))
    assert not layer(x)[0].numpy().any() and not slope[0].any()
    assert np.isfinite(slope).all() and slope[1].any()
    assert_close(layer(x[1:]), layer(x)[1:].numpy(), 1e-6)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_small_and_large_features(scale: float, gradient: str) -> None:
    layer, cotangent = MPNCOV(square_root="pade", gradient=gradient), draw(2, 21)
    assert_close(layer(FEATURES * scale), layer(FEATURES).numpy() * scale, 1e-5)
    scaled, unscaled = (gradient_of(layer, tf.constant(x), cotangent) for x in (FEATURES * scale, FEATURES))
    assert_close(scaled, unscaled, 1e-4)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_traced_for_any_size(gradient: str) -> None:
    layer, cotangent = MPNCOV(square_root="pade", gradient=gradient), draw(2, 21)
    traced = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 6])])
    assert_close(traced(FEATURES), layer(FEATURES).numpy(), 1e-5)
    x = tf.constant(FEATURES)
    assert_close(gradient_of(traced, x, cotangent), gradient_of(layer, x, cotangent), 1e-4)


def test_layer_is_the_root_of_the_covariance() -> None:
    matrices = np.stack([np.cov(image.reshape(12, 6), rowvar=False, bias=True) for image in FEATURES])
    expected = on_eigenvalues(matrices, approximant)
    assert_close(MPNCOV(square_root="pade", vectorize=False)(FEATURES), expected, 1e-5)
    rows, columns = np.triu_indices(6)
    assert_close(MPNCOV(square_root="pade")(FEATURES), expected[:, rows, columns], 1e-5)


@pytest.mark.parametrize("options", [{}, {"gradient": "autodiff", "form": "covariance"}, {"dimension_reduction": 4}])
def test_configuration_and_reload(options: dict[str, Any], tmp_path: Path) -> None:
    layer = MPNCOV(**options, square_root="pade", name="head", dtype="float64")
    assert layer.get_config()["square_root"] == "pade"
    layer_contract.assert_complete_configuration(layer)
    layer_contract.assert_reloads(MPNCOV(**options, square_root="pade"), FEATURES, tmp_path / "model.keras")


def test_float32_under_mixed_precision() -> None:
    layer_contract.assert_float32_under_mixed_precision(lambda dtype: MPNCOV(square_root="pade", dtype=dtype), FEATURES)


def test_option_of_a_network() -> None:
    model = mpncov_zoo.build("mpncov_cifar_resnet20", options={"representation": {"square_root": "pade"}})
    layer = next(layer for layer in model._flatten_layers() if isinstance(layer, MPNCOV))
    assert layer.square_root == "pade"
    images = np.zeros((1, 32, 32, 3), np.float32)
    assert np.isfinite(keras.ops.convert_to_numpy(model(images))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 7}, "iterations=7"),
        ({"normalization": None}, "normalization=None"),
        ({"normalization": "frobenius"}, "normalization='frobenius'"),
        ({"form": "gram"}, "form='gram'"),
        ({"power": 0.5}, "power=0.5, square_root='pade'"),
        ({"square_root": "newton"}, "square_root='newton'"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MPNCOV(**{"square_root": "pade", **options})


def test_matrices_must_be_square() -> None:
    with pytest.raises(ValueError, match=r"Received: shape \(2, 3, 4\)"):
        pade_sqrt(tf.ones((2, 3, 4)))


def test_an_image_that_is_no_number_leaves_the_others() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 4, 6)).astype(np.float32)
    expected = MPNCOV(square_root="pade")(x)
    x[0] = np.nan
    computed = np.asarray(MPNCOV(square_root="pade")(x))
    assert np.isnan(computed[0]).all()
    np.testing.assert_allclose(computed[1], np.asarray(expected)[1], rtol=1e-5, atol=1e-6)
