"""The iSQRT-COV layer and the published head around it; its mathematics is tested in test_covariance.py."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mpncov_zoo.representations.mpncov import MPNCOV, UpperTriangle, mpncov
from tests import layer_contract

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "head.golden.npz")
FEATURES = np.random.default_rng(0).normal(0.2, 1, (2, 3, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("group", ["wide", "tall", "few"])
def test_layer_gives_the_published_vector(group: str, iterations: int) -> None:
    x = GOLDEN[f"{group}/x_nchw"].transpose(0, 2, 3, 1).astype(np.float32)
    golden = GOLDEN[f"{group}/iter{iterations}/vector"]
    actual = MPNCOV(iterations=iterations)(x).numpy()
    assert np.abs(actual - golden).max() <= 1e-5 * np.abs(golden).max()


def test_default_is_what_published_networks_use() -> None:
    np.testing.assert_array_equal(MPNCOV()(FEATURES), MPNCOV(iterations=5, normalization="trace")(FEATURES))


def test_vector_is_the_upper_triangle_of_the_matrix() -> None:
    matrix = MPNCOV(vectorize=False)(FEATURES).numpy()
    rows, columns = np.triu_indices(6)
    np.testing.assert_array_equal(MPNCOV()(FEATURES), matrix[:, rows, columns])
    np.testing.assert_array_equal(UpperTriangle()(matrix), matrix[:, rows, columns])
    np.testing.assert_allclose(matrix, matrix.swapaxes(1, 2), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"iterations": 3, "normalization": "frobenius", "vectorize": False, "form": "gram", "gradient": "autodiff"},
        {"normalization": None},
        {"dimension_reduction": 4, "dropout": 0.5},
        {"square_root": False},
        {"power": 0.5},
    ],
)
def test_configuration_and_reload(options: dict[str, Any], tmp_path: Path) -> None:
    layer_contract.assert_complete_configuration(MPNCOV(**options, name="head", dtype="float64"))
    layer_contract.assert_reloads(MPNCOV(**options), FEATURES / 4, tmp_path / "model.keras")


def test_upper_triangle_configuration() -> None:
    layer_contract.assert_complete_configuration(UpperTriangle(name="triangle", dtype="float64"))


@pytest.mark.parametrize("form", ["covariance", "gram"])
def test_float32_under_mixed_precision(form: str) -> None:
    layer_contract.assert_float32_under_mixed_precision(lambda dtype: MPNCOV(form=form, dtype=dtype), FEATURES)


def test_float64_policy_computes_in_float64() -> None:
    x = GOLDEN["few/x_nchw"].transpose(0, 2, 3, 1)
    golden = GOLDEN["few/iter5/vector"]
    assert np.abs(MPNCOV(dtype="float64")(x).numpy() - golden).max() <= 1e-10 * np.abs(golden).max()


@pytest.mark.parametrize("options", [{}, {"vectorize": False}, {"dimension_reduction": 4}])
@pytest.mark.parametrize("size", [(3, 4), (None, None)])
def test_symbolic_shape_is_the_computed_one(options: dict[str, Any], size: tuple[int | None, int | None]) -> None:
    layer = MPNCOV(**options)
    expected = layer(FEATURES).shape[1:]
    assert layer(keras.Input((*size, 6))).shape[1:] == expected == layer.compute_output_shape((2, *size, 6))[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations=0"),
        ({"normalization": "l1"}, "normalization='l1'"),
        ({"form": "fast"}, "form='fast'"),
        ({"gradient": "none"}, "gradient='none'"),
        ({"power": 0.0}, "power=0.0"),
        ({"iterations": 2.5}, "iterations=2.5"),
        ({"dimension_reduction": 0}, "dimension_reduction=0"),
        ({"power": 0.5, "square_root": False}, "power=0.5, square_root=False"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MPNCOV(**options)


def test_arguments_in_their_documented_order() -> None:
    config = MPNCOV(3, "frobenius", 4, True, False, "gram", "autodiff", 0.5).get_config()
    assert list(config.values())[2:] == [3, "frobenius", 4, True, False, "gram", "autodiff", 0.5, None]


def test_plain_covariance_and_matrix_power() -> None:
    matrices = np.stack([np.cov(image.reshape(12, 6), rowvar=False, bias=True) for image in FEATURES])
    eigenvalues, vectors = np.linalg.eigh(matrices)
    root = vectors * np.sqrt(eigenvalues)[:, None] @ vectors.swapaxes(1, 2)
    np.testing.assert_allclose(MPNCOV(square_root=False, vectorize=False)(FEATURES), matrices, atol=1e-6)
    np.testing.assert_allclose(MPNCOV(power=0.5, vectorize=False)(FEATURES), root, atol=1e-5)


def test_reduction_and_dropout_inside_the_layer_are_the_head() -> None:
    layer = MPNCOV(dimension_reduction=4, dropout=0.5)
    inputs = keras.Input((3, 4, 6))
    head = keras.Model(inputs, mpncov(inputs, dimension_reduction=4, dropout=0.5)["representation"])
    layer.build((None, 3, 4, 6))
    layer.set_weights([*head.get_weights(), *layer.get_weights()[len(head.get_weights()) :]])
    np.testing.assert_allclose(layer(FEATURES), head(FEATURES), rtol=1e-5, atol=1e-6)
    kept = layer(FEATURES, training=True).numpy() != 0
    assert 0 < kept.sum() < kept.size


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_reduction_computes_in_float32_under_mixed_precision(policy: str) -> None:
    layer = MPNCOV(dimension_reduction=4, dtype=policy)
    assert layer(FEATURES).dtype == "float32"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert layer.reduction.get_layer("reduction_conv").compute_dtype == "float32"


def test_head_takes_the_options_of_the_layer() -> None:
    endpoints = mpncov(keras.Input((3, 4, 6)), iterations=3, normalization="frobenius")
    layer = endpoints["covariance"]._keras_history.operation
    assert (layer.iterations, layer.normalization) == (3, "frobenius")


def test_features_must_have_positions_and_known_channels() -> None:
    with pytest.raises(ValueError, match="ndim=4"):
        MPNCOV()(FEATURES[0])
    with pytest.raises(ValueError, match="number of channels must be known"):
        MPNCOV().compute_output_shape((None, 4, 4, None))


def test_head_is_reduction_covariance_and_triangle() -> None:
    """Against NumPy in float64: 1x1 convolution, batch normalisation, ReLU, eigendecomposition, upper triangle."""
    rng = np.random.default_rng(1)
    inputs = keras.Input((3, 4, 6))
    endpoints = mpncov(inputs, dimension_reduction=4, dropout=0.5, iterations=25)
    model = keras.Model(inputs, endpoints)
    weights = [rng.uniform(0.5, 1.5, tuple(variable.shape)) for variable in model.weights]
    model.set_weights(weights)
    (kernel, gamma, beta, mean, variance), computed = weights, model(FEATURES)

    reduced = np.maximum((FEATURES @ kernel[0, 0] - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)
    eigenvalues, vectors = np.linalg.eigh([np.cov(r.reshape(12, 4), rowvar=False, bias=True) for r in reduced])
    root = vectors * np.sqrt(eigenvalues)[:, None] @ vectors.swapaxes(1, 2)
    rows, columns = np.triu_indices(4)
    assert list(computed) == ["reduction", "covariance", "representation"]
    np.testing.assert_allclose(computed["reduction"], reduced, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(computed["covariance"], root, atol=2e-4)
    np.testing.assert_allclose(computed["representation"], root[:, rows, columns], atol=2e-4)


def test_dropout_acts_in_training_only() -> None:
    inputs = keras.Input((3, 4, 6))
    endpoints = mpncov(inputs, dropout=0.5)
    model = keras.Model(inputs, endpoints)
    assert list(endpoints) == ["covariance", "representation"]
    trained = model(FEATURES, training=True)
    kept = trained["representation"].numpy() != 0
    expected = UpperTriangle()(trained["covariance"]).numpy()
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(trained["representation"].numpy()[kept], 2 * expected[kept], rtol=1e-6)
    np.testing.assert_array_equal(model(FEATURES)["representation"], expected)
