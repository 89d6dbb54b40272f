"""The head's mathematics against the published code's vectors and gradients, and a float64 eigendecomposition."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.representations.covariance import (
    covariance,
    isqrt_covariance,
    newton_schulz_factor,
    newton_schulz_sqrt,
    upper_triangle,
)

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "head.golden.npz")
CASES = sorted(key.removesuffix("/vector") for key in GOLDEN.files if key.endswith("/vector"))
FORMS = ("covariance", "gram")
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
    y, z = eigenvalues / norms[normalization], np.ones_like(eigenvalues)
    for _ in range(iterations):
        step = (3 - z * y) / 2
        y, z = y * step, step * z
    return vectors * y * np.sqrt(norms[normalization]) @ vectors.T


def assert_close(actual: np.ndarray, expected: np.ndarray, bound: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= bound * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_vector_and_gradient_are_the_published_ones(case: str, form: str, dtype: str) -> None:
    group, _, count = case.partition("/iter")
    x = tf.constant(golden_features(group), dtype)
    golden = GOLDEN[f"{case}/vector"]
    cotangent = np.random.default_rng(int(GOLDEN[f"{case}/cotangent_seed"])).normal(0, 1, golden.shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        vector = upper_triangle(isqrt_covariance(x, iterations=int(count), form=form))
    gradient = tape.gradient(vector, x, tf.constant(cotangent, dtype))
    exact = 1e-10 if case.startswith(EXACT_CENTRING) else CENTRING_ROUNDING
    bound = {"float32": 1e-5, "float64": exact}[dtype]
    assert vector.dtype == dtype
    assert_close(vector.numpy(), golden, bound)
    assert_close(gradient.numpy().transpose(0, 3, 1, 2), GOLDEN[f"{case}/gradient_nchw"], bound)


@pytest.mark.parametrize("case", CASES)
def test_all_that_separates_us_from_the_published_values_is_their_rounded_centring(case: str) -> None:
    group, _, count = case.partition("/iter")
    x, iterations = golden_features(group), int(count)
    published = np.stack([eigen_root(matrix, iterations, "trace") for matrix in published_covariances(x)])
    assert_close(triangles(published), GOLDEN[f"{case}/vector"], 1e-12)
    for form in FORMS:
        ours = isqrt_covariance(tf.constant(x), iterations=iterations, form=form)
        assert_close(ours.numpy(), eigen_reference(x, iterations, "trace"), 1e-10)


@pytest.mark.parametrize("normalization", ["trace", "frobenius"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(7, 6, 10), (3, 2, 10), (5, 2, 10)], ids=["N>d", "N<d", "N=d"])
def test_eigenvalues_go_through_the_same_polynomial(size: tuple[int, int, int], form: str, normalization: str) -> None:
    x = features(2, *size)
    root = isqrt_covariance(tf.constant(x), iterations=4, normalization=normalization, form=form)
    assert_close(root.numpy(), eigen_reference(x, 4, normalization), 1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_without_normalization_the_covariance_is_taken_as_it_is(form: str) -> None:
    x = features(2, 7, 6, 10) / 20  # eigenvalues below 1
    root = isqrt_covariance(tf.constant(x), iterations=3, normalization=None, form=form)
    assert_close(root.numpy(), eigen_reference(x, 3, None), 1e-10)


@pytest.mark.parametrize("normalization", ["trace", "frobenius"])
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
    assert_close(newton_schulz_factor(matrix, 20).numpy()[0], vectors * eigenvalues**-0.5 @ vectors.T, 1e-10)


def test_covariance_is_numpys() -> None:
    x = features(3, 4, 5, 6)
    assert_close(covariance(tf.constant(x)).numpy(), sample_covariances(x), 1e-12)


def test_upper_triangle_goes_row_by_row() -> None:
    matrix = tf.constant([[[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]])
    assert upper_triangle(matrix).numpy().tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]


@pytest.mark.parametrize("normalization", ["trace", "frobenius", None])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, 0.75])
def test_zero_variance_gives_zeros_and_finite_gradients(value: float, form: str, normalization: str | None) -> None:
    """Next to a sample that has variance, and whose result must not notice."""
    x = features(2, 4, 3, 6).astype(np.float32)
    x[0] = value
    images = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        root = isqrt_covariance(images, normalization=normalization, form=form)
    gradient = tape.gradient(root, images)
    assert not root[0].numpy().any()
    assert np.isfinite(gradient.numpy()).all() and gradient[1].numpy().any()
    alone = isqrt_covariance(images[1:], normalization=normalization, form=form)
    assert_close(root[1:].numpy(), alone.numpy(), 1e-6)


@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_one_position_has_no_variance(form: str) -> None:
    x = tf.constant(features(2, 1, 1, 6), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        root = isqrt_covariance(x, form=form)
    assert not root.numpy().any()
    assert np.isfinite(tape.gradient(root, x).numpy()).all()


@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_unknown_sizes(form: str) -> None:
    compute = tf.function(
        lambda x: isqrt_covariance(x, form=form), input_signature=[tf.TensorSpec([None, None, None, 6], tf.float64)]
    )
    for size in ((5, 4), (2, 2)):
        x = features(3, *size, 6)
        assert_close(compute(tf.constant(x)).numpy(), eigen_reference(x, 5, "trace"), 1e-10)


@pytest.mark.parametrize(("positions", "cheaper"), [(4, "gram"), (64, "covariance")])
def test_auto_takes_the_smaller_matrix(positions: int, cheaper: str) -> None:
    compute = tf.function(isqrt_covariance).get_concrete_function(tf.TensorSpec([1, positions, 1, 16], tf.float32))
    products = [tuple(op.outputs[0].shape[1:]) for op in compute.graph.get_operations() if "MatMul" in op.type]
    on_gram, on_covariance = products.count((positions, positions)), products.count((16, 16))
    assert on_gram > 5 * on_covariance if cheaper == "gram" else on_covariance > 5 and not on_gram


@pytest.mark.parametrize(("form", "size", "rectangular"), [("covariance", 6, 1), ("gram", 9, 3)])
def test_five_iterations_are_twelve_square_products(form: str, size: int, rectangular: int) -> None:
    """What the choice of the form counts with: 9 positions of 6 channels."""
    compute = tf.function(lambda x: isqrt_covariance(x, form=form))
    graph = compute.get_concrete_function(tf.TensorSpec([1, 3, 3, 6], tf.float32)).graph
    products = [[tuple(x.shape[1:]) for x in op.inputs] for op in graph.get_operations() if "MatMul" in op.type]
    assert (products.count([(size, size)] * 2), len(products)) == (12, 12 + rectangular)


def test_float32_survives_small_and_large_features() -> None:
    """The published pre-normalisation makes the iteration independent of the scale."""
    x = features(1, 7, 7, 8)
    for scale in (1e-6, 1e6):
        root = isqrt_covariance(tf.constant(x * scale, tf.float32)).numpy()
        assert_close(root, scale * eigen_reference(x, 5, "trace"), 1e-5)
