"""The head's mathematics against the published code's vectors and gradients, and a float64 eigendecomposition."""

import gc
import itertools
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mpncov_zoo.errors import InputError
from mpncov_zoo.representations.covariance import (
    covariance,
    isqrt_covariance,
    matrix_power,
    newton_schulz_inverse_sqrt,
    newton_schulz_sqrt,
    upper_triangle,
)
from tests.layer_contract import central_differences

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "head.golden.npz")
CASES = sorted(key.removesuffix("/vector") for key in GOLDEN.files if key.endswith("/vector"))
FORMS = ("covariance", "gram")
GRADIENTS = ("analytic", "autodiff")
NORMALIZATIONS = ("trace", "frobenius")
SIZES = {"N>d": (7, 6, 10), "N<d": (3, 2, 10), "N=d": (5, 2, 10)}
CENTRING_ROUNDING = 2**-24  # the published code rounds its centring matrix to float32, also when it runs in float64
EXACT_CENTRING = "few/"  # 16 positions: 1/16 and 1/256 have no rounding


def features(batch: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Correlated, off-centre, rectified: like a network's; float64 (batch, height, width, channels)."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0.3, 1, (batch, height, width, channels)) @ rng.normal(0, 1, (channels, channels))
    return np.maximum(mixed, 0)


def eigen_reference(x: np.ndarray, iterations: int, normalization: str | None) -> np.ndarray:
    """The same polynomial of the covariance, evaluated on its eigenvalues: (batch, d, d)."""
    return np.stack([eigen_root(matrix, iterations, normalization) for matrix in sample_covariances(x)])


def sample_covariances(x: np.ndarray) -> np.ndarray:
    """NumPy's, over positions: (batch, height, width, d) -> (batch, d, d)."""
    return np.stack([np.cov(sample, rowvar=False, bias=True) for sample in x.reshape(len(x), -1, x.shape[-1])])


def published_covariances(x: np.ndarray) -> np.ndarray:
    """X' (I - 11'/N) X / N with the matrix in the middle rounded to float32, as the published code has it."""
    rows = x.reshape(len(x), -1, x.shape[-1])
    positions = rows.shape[1]
    centring = np.float32(1 / positions) * np.eye(positions, dtype=np.float32) - np.float32(1 / positions**2)
    return rows.swapaxes(1, 2) @ centring.astype(np.float64) @ rows


def golden_features(group: str) -> np.ndarray:
    """float64 (batch, height, width, d)."""
    return GOLDEN[f"{group}/x_nchw"].transpose(0, 2, 3, 1)


def triangles(matrices: np.ndarray) -> np.ndarray:
    rows, columns = np.triu_indices(matrices.shape[-1])
    return matrices[:, rows, columns]


def eigen_root(matrix: np.ndarray, iterations: int, normalization: str | None) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    norms = {"trace": eigenvalues.sum(), "frobenius": np.sqrt((eigenvalues**2).sum()), None: 1.0}
    norm = norms[normalization]
    return vectors * polynomial(eigenvalues / norm, iterations) * np.sqrt(norm) @ vectors.T


def polynomial(eigenvalues: np.ndarray, iterations: int) -> np.ndarray:
    """The coupled iteration of the paper on numbers: y_K."""
    y, z = eigenvalues, np.ones_like(eigenvalues)
    for _ in range(iterations):
        step = (3 - z * y) / 2
        y, z = y * step, step * z
    return y


def gradient_of(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, cotangent: np.ndarray) -> np.ndarray:
    return pull_back(function, x, tf.constant(cotangent, x.dtype)).numpy()


def pull_back(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, cotangent: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = function(x)
    return tape.gradient(result, x, cotangent)


def assert_close(actual: np.ndarray, expected: np.ndarray, bound: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= bound * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_vector_and_gradient_are_the_published_ones(case: str, form: str, gradient: str, dtype: str) -> None:
    """The goldens' cotangents are random vectors: as matrices they are upper triangles, not symmetric."""
    group, _, count = case.partition("/iter")
    x = tf.constant(golden_features(group), dtype)
    golden = GOLDEN[f"{case}/vector"]
    cotangent = np.random.default_rng(int(GOLDEN[f"{case}/cotangent_seed"])).normal(0, 1, golden.shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        vector = upper_triangle(isqrt_covariance(x, iterations=int(count), form=form, gradient=gradient))
    actual = tape.gradient(vector, x, tf.constant(cotangent, dtype))
    exact = 1e-10 if case.startswith(EXACT_CENTRING) else CENTRING_ROUNDING
    bound = {"float32": 1e-5, "float64": exact}[dtype]
    assert vector.dtype == dtype
    assert_close(vector.numpy(), golden, bound)
    assert_close(actual.numpy().transpose(0, 3, 1, 2), GOLDEN[f"{case}/gradient_nchw"], bound)


@pytest.mark.parametrize("case", CASES)
def test_all_that_separates_us_from_the_published_values_is_their_rounded_centring(case: str) -> None:
    group, _, count = case.partition("/iter")
    x, iterations = golden_features(group), int(count)
    published = np.stack([eigen_root(matrix, iterations, "trace") for matrix in published_covariances(x)])
    assert_close(triangles(published), GOLDEN[f"{case}/vector"], 1e-12)
    for form in FORMS:
        ours = isqrt_covariance(tf.constant(x), iterations=iterations, form=form)
        assert_close(ours.numpy(), eigen_reference(x, iterations, "trace"), 1e-10)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_eigenvalues_go_through_the_same_polynomial(
    size: tuple[int, int, int], form: str, normalization: str, iterations: int
) -> None:
    x = features(2, *size)
    for dtype, bound in (("float32", 1e-5), ("float64", 1e-10)):
        root = isqrt_covariance(tf.constant(x, dtype), iterations=iterations, normalization=normalization, form=form)
        assert_close(root.numpy(), eigen_reference(x, iterations, normalization), bound)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("normalization", [*NORMALIZATIONS, None])
def test_gradients_are_equal_and_exact(normalization: str | None, iterations: int) -> None:
    """For a cotangent that is not symmetric, against differences of the eigenvalue reference."""
    x = features(2, 2, 2, 3) / 8
    cotangent = np.random.default_rng(1).normal(0, 1, (2, 3, 3))
    exact = central_differences(lambda x: float((eigen_reference(x, iterations, normalization) * cotangent).sum()), x)
    for form, gradient in itertools.product(FORMS, GRADIENTS):
        root = partial(
            isqrt_covariance, iterations=iterations, normalization=normalization, form=form, gradient=gradient
        )
        in_float64 = gradient_of(root, tf.constant(x), cotangent)
        assert_close(in_float64, exact, 1e-7)
        assert_close(
            in_float64,
            gradient_of(partial(root, form="covariance", gradient="autodiff"), tf.constant(x), cotangent),
            1e-10,
        )
        assert_close(gradient_of(root, tf.constant(x, tf.float32), cotangent), in_float64, 1e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offset", [1e2, 1e4])
def test_a_large_mean_does_not_reach_the_gradient(offset: float, form: str, gradient: str) -> None:
    x = (np.random.default_rng(0).normal(0, 1, (2, 5, 5, 6)) + offset).astype(np.float32)
    cotangent = np.random.default_rng(1).normal(0, 1, (2, 6, 6))
    root = partial(isqrt_covariance, form=form, gradient=gradient)
    exact = gradient_of(root, tf.constant(x, tf.float64), cotangent)
    assert_close(gradient_of(root, tf.constant(x), cotangent), exact, 1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5, 7, 12])
def test_distance_to_the_true_root_is_what_the_iterations_allow(iterations: int) -> None:
    """An eigenvalue a in [0, 1] becomes y_K(a) <= sqrt(a): the worst one bounds the distance of the matrices."""
    grid = np.linspace(0, 1, 100_001)
    allowed = np.abs(polynomial(grid, iterations) - np.sqrt(grid)).max()
    x = features(3, 7, 6, 10)
    root = isqrt_covariance(tf.constant(x), iterations=iterations).numpy()
    for actual, matrix in zip(root, sample_covariances(x), strict=True):
        eigenvalues, vectors = np.linalg.eigh(matrix)
        true_root = vectors * np.sqrt(np.maximum(eigenvalues, 0)) @ vectors.T
        assert np.linalg.norm(actual - true_root, 2) <= allowed * np.sqrt(np.trace(matrix))


@pytest.mark.parametrize("form", FORMS)
def test_without_normalization_the_covariance_is_taken_as_it_is(form: str) -> None:
    x = features(2, 7, 6, 10) / 20  # eigenvalues below 1
    root = isqrt_covariance(tf.constant(x), iterations=3, normalization=None, form=form)
    assert_close(root.numpy(), eigen_reference(x, 3, None), 1e-10)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_many_iterations_give_the_matrix_square_root(normalization: str) -> None:
    x = features(2, 7, 6, 5)
    root = isqrt_covariance(tf.constant(x), iterations=25, normalization=normalization).numpy()
    assert_close(root @ root, sample_covariances(x), 1e-8)
    assert np.linalg.eigvalsh(root).min() > 0


def test_iteration_converges_to_root_and_inverse_root() -> None:
    rng = np.random.default_rng(0)
    vectors, _ = np.linalg.qr(rng.normal(0, 1, (6, 6)))
    eigenvalues = rng.uniform(0.1, 1, 6)
    matrix = tf.constant((vectors * eigenvalues @ vectors.T)[None])
    assert_close(newton_schulz_sqrt(matrix, 20).numpy()[0], vectors * eigenvalues**0.5 @ vectors.T, 1e-10)
    assert_close(newton_schulz_inverse_sqrt(matrix, 20).numpy()[0], vectors * eigenvalues**-0.5 @ vectors.T, 1e-10)


def test_covariance_is_numpys() -> None:
    x = features(3, 4, 5, 6)
    assert_close(covariance(tf.constant(x)).numpy(), sample_covariances(x), 1e-12)


def test_upper_triangle_goes_row_by_row() -> None:
    matrix = tf.constant([[[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]])
    assert upper_triangle(matrix).numpy().tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]


@pytest.mark.parametrize("normalization", [*NORMALIZATIONS, None])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, 0.75])
def test_zero_variance_gives_zeros_and_finite_gradients(
    value: float, form: str, gradient: str, normalization: str | None
) -> None:
    """Next to a sample that has variance, and whose result must not notice."""
    x = features(2, 4, 3, 6).astype(np.float32)
    x[0] = value
    images = tf.constant(x)
    compute = partial(isqrt_covariance, normalization=normalization, form=form, gradient=gradient)
    root, slope = compute(images), gradient_of(compute, images, np.ones((2, 6, 6)))
    assert not root[0].numpy().any()
    assert np.isfinite(slope).all() and slope[1].any()
    assert_close(root[1:].numpy(), compute(images[1:]).numpy(), 1e-6)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("form", FORMS)
def test_a_constant_whose_mean_is_rounded(form: str, gradient: str) -> None:
    root = partial(isqrt_covariance, form=form, gradient=gradient)
    x = tf.fill((1, 7, 7, 8), 0.1)
    assert np.abs(root(x).numpy()).max() < 1e-6
    assert np.abs(gradient_of(root, x, np.ones((1, 8, 8)))).max() < 1e-4


def test_one_position_has_no_covariance() -> None:
    x = tf.constant(features(2, 1, 1, 6), tf.float32)
    for compute in (covariance, *(partial(isqrt_covariance, form=form) for form in FORMS)):
        with pytest.raises(InputError, match=r"at least 2 positions.*Received: features of 1x1"):
            compute(x)
        unknown = tf.function(compute, input_signature=[tf.TensorSpec([None, None, None, 6], tf.float32)])
        with pytest.raises(tf.errors.InvalidArgumentError, match="at least 2 positions: give larger images"):
            unknown(x)
        assert np.isfinite(unknown(tf.zeros((1, 1, 2, 6)))).all()


@pytest.mark.parametrize("way", GRADIENTS)
@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_unknown_sizes(form: str, way: str) -> None:
    root = partial(isqrt_covariance, form=form, gradient=way)
    unknown = tf.TensorSpec([None, None, None, 6], tf.float64)
    compute = tf.function(root, input_signature=[unknown])
    differentiate = tf.function(
        partial(pull_back, root), input_signature=[unknown, tf.TensorSpec([None, 6, 6], tf.float64)]
    )
    cotangent = np.random.default_rng(1).normal(0, 1, (3, 6, 6))
    for size in ((5, 4), (2, 2)):
        x = features(3, *size, 6)
        assert_close(compute(tf.constant(x)).numpy(), eigen_reference(x, 5, "trace"), 1e-10)
        assert_close(
            differentiate(tf.constant(x), tf.constant(cotangent)).numpy(),
            gradient_of(root, tf.constant(x), cotangent),
            1e-10,
        )


@pytest.mark.parametrize(("positions", "gram"), [(4, True), (11, True), (16, False), (400, False)])
def test_a_graph_for_any_size_runs_the_smaller_matrix(
    positions: int, gram: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def root(x: Any, iterations: int, normalization: str | None, gram: bool) -> tuple[Any, Any]:
        which = tf.fill((tf.shape(x)[0], 16, 16), float(gram))
        return which, lambda cotangent: float(gram) * tf.ones_like(x)

    monkeypatch.setattr("mpncov_zoo.representations.covariance._root", root)
    compute = tf.function(isqrt_covariance, input_signature=[tf.TensorSpec([None, None, None, 16], tf.float32)])
    x = tf.zeros((2, positions, 1, 16))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = compute(x)
    assert (value.numpy() == gram).all() and (tape.gradient(value, x).numpy() == gram).all()


def test_a_graph_is_released() -> None:
    """TensorFlow keeps what has a custom gradient for ever; the variables of a network are not among it."""
    weight = tf.Variable(tf.ones((4, 4)))

    def gradient(x: tf.Tensor, kept: tf.Variable = weight) -> Any:
        with tf.GradientTape() as tape:
            value = isqrt_covariance(x @ kept)
        return tape.gradient(value, kept)

    compute = tf.function(gradient)
    compute(tf.zeros((1, 2, 2, 4)))
    graph = weakref.ref(compute.get_concrete_function(tf.TensorSpec((1, 2, 2, 4))).graph)
    del weight, compute, gradient
    gc.collect()
    assert graph() is None


def products(options: dict[str, Any], shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], ...]]:
    """The shapes of the two factors of every matrix product of the forward propagation."""
    compute = tf.function(lambda x: isqrt_covariance(x, **options))
    concrete = compute.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    operations = convert_variables_to_constants_v2(concrete).graph.get_operations()  # in one graph
    of_matrices = ("BatchMatMulV2", "Einsum")
    return [tuple(tuple(x.shape[1:]) for x in op.inputs) for op in operations if op.type in of_matrices]


@pytest.mark.parametrize(("positions", "square"), [(4, 4), (64, 16)])
def test_auto_takes_the_smaller_matrix(positions: int, square: int) -> None:
    factors = products({}, (1, positions, 1, 16))
    assert factors.count(((square, square),) * 2) == 11


@pytest.mark.parametrize(
    ("form", "iterations", "square"),
    [(form, k, 3 * k - 4) for form in FORMS for k in (3, 5, 7)]
    + [("covariance", 1, 1), ("covariance", 2, 3), ("gram", 1, 0), ("gram", 2, 2)],
)
def test_number_of_products(form: str, iterations: int, square: int) -> None:
    """What the choice of the form counts with; 9 positions of 6 channels."""
    factors = products({"form": form, "iterations": iterations}, (1, 3, 3, 6))
    size, rectangular = {"covariance": (6, 1), "gram": (9, 3)}[form]
    assert (factors.count(((size, size),) * 2), len(factors)) == (square, square + rectangular)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e4, 1e6])
def test_small_and_large_features(scale: float, normalization: str, form: str, gradient: str) -> None:
    """The pre-normalisation makes the iteration independent of the scale; so is the derivative."""
    x = features(2, 4, 3, 8)
    cotangent = np.random.default_rng(1).normal(0, 1, (2, 8, 8))
    root = partial(isqrt_covariance, normalization=normalization, form=form, gradient=gradient)
    small = tf.constant(x * scale, tf.float32)
    assert_close(root(small).numpy(), scale * eigen_reference(x, 5, normalization), 1e-5)
    assert_close(gradient_of(root, small, cotangent), gradient_of(root, tf.constant(x), cotangent), 1e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("form", FORMS)
def test_rank_deficient_covariance(form: str, gradient: str) -> None:
    """Two different positions out of twelve, a dead channel and two equal ones."""
    x = np.repeat(features(2, 1, 2, 8), 6, axis=1)
    x[..., 3], x[..., 5] = 0, x[..., 4]
    root = partial(isqrt_covariance, form=form, gradient=gradient)
    assert np.linalg.matrix_rank(sample_covariances(x)).tolist() == [1, 1]
    assert_close(root(tf.constant(x, tf.float32)).numpy(), eigen_reference(x, 5, "trace"), 1e-5)
    exact = gradient_of(partial(root, gradient="autodiff"), tf.constant(x), np.ones((2, 8, 8)))
    assert_close(gradient_of(root, tf.constant(x, tf.float32), np.ones((2, 8, 8))), exact, 1e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("form", FORMS)
def test_compiled_by_xla(form: str, gradient: str) -> None:
    x = tf.constant(features(2, 4, 3, 8), tf.float32)
    cotangent = np.random.default_rng(1).normal(0, 1, (2, 36))

    def vector(x: tf.Tensor) -> tf.Tensor:
        return upper_triangle(isqrt_covariance(x, form=form, gradient=gradient))

    compiled = tf.function(partial(pull_back, vector), jit_compile=True)
    assert_close(compiled(x, tf.constant(cotangent, tf.float32)).numpy(), gradient_of(vector, x, cotangent), 1e-5)


def spectral_matrix(eigenvalues: list[float]) -> np.ndarray:
    vectors, _ = np.linalg.qr(np.random.default_rng(0).normal(0, 1, (len(eigenvalues),) * 2))
    return (vectors * np.array(eigenvalues) @ vectors.T)[None]


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0, 2.0])
def test_matrix_power(power: float) -> None:
    eigenvalues = [3.0, 1.0, 1.0, 0.2, 1e-3]
    matrix = spectral_matrix(eigenvalues)
    expected = spectral_matrix([value**power for value in eigenvalues])
    for dtype, bound in (("float32", 1e-5), ("float64", 1e-12)):
        assert_close(matrix_power(tf.constant(matrix, dtype), power).numpy(), expected, bound)


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0, 2.0])
def test_gradient_of_matrix_power_with_equal_and_close_eigenvalues(power: float) -> None:
    matrix = spectral_matrix([3.0, 1.0, 1.0, 1.0 + 1e-9, 0.2])
    cotangent = np.random.default_rng(1).normal(0, 1, matrix.shape)

    def loss(m: np.ndarray) -> float:
        eigenvalues, vectors = np.linalg.eigh((m[0] + m[0].T) / 2)
        return float((vectors * eigenvalues**power @ vectors.T * cotangent[0]).sum())

    gradient = gradient_of(lambda m: matrix_power(m, power), tf.constant(matrix), cotangent)
    assert_close(gradient, central_differences(loss, matrix), 1e-7)


def test_matrix_power_takes_rounding_for_zero() -> None:
    """Rank 2 of 5 in float32, and a matrix of zeros."""
    matrices = np.concatenate([spectral_matrix([2.0, 0.5, 0, 0, 0]), np.zeros((1, 5, 5))])
    expected = np.concatenate([spectral_matrix([2.0**0.5, 0.5**0.5, 0, 0, 0]), np.zeros((1, 5, 5))])
    matrix = tf.constant(matrices, tf.float32)
    assert_close(matrix_power(matrix).numpy(), expected, 1e-5)
    assert np.isfinite(gradient_of(matrix_power, matrix, np.ones((2, 5, 5)))).all()


def test_power_one_is_the_identity_on_rank_deficient_matrices() -> None:
    matrix = spectral_matrix([2.0, 0.5, 0, 0])
    cotangent = np.eye(4)[None]
    assert_close(gradient_of(lambda m: matrix_power(m, 1.0), tf.constant(matrix), cotangent), cotangent, 1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "grm"}, "form='grm'"),
        ({"normalization": "l1"}, "normalization='l1'"),
        ({"gradient": "none"}, "gradient='none'"),
        ({"iterations": 0}, "iterations=0"),
        ({"iterations": 2.5}, "iterations=2.5"),
    ],
)
def test_unknown_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        isqrt_covariance(tf.ones((1, 2, 2, 3)), **options)


def test_wrong_shapes_and_values() -> None:
    for function in (newton_schulz_sqrt, newton_schulz_inverse_sqrt, matrix_power, upper_triangle):
        with pytest.raises(ValueError, match=r"Received: shape \(3, 4, 6\)"):
            function(tf.ones((3, 4, 6)))
    with pytest.raises(ValueError, match=r"Received: shape \(3, 4, 6\)"):
        isqrt_covariance(tf.ones((3, 4, 6)))
    with pytest.raises(ValueError, match="iterations=0"):
        newton_schulz_sqrt(tf.ones((1, 2, 2)), 0)
    with pytest.raises(ValueError, match=r"power=-0\.5"):
        matrix_power(tf.ones((1, 2, 2)), -0.5)


def test_upper_triangle_has_its_true_gradient() -> None:
    cotangent = np.arange(1.0, 7.0)[None]
    gradient = gradient_of(upper_triangle, tf.zeros((1, 3, 3)), cotangent)
    assert gradient.tolist() == [[[1, 2, 3], [0, 4, 5], [0, 0, 6]]]
