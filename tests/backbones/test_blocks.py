"""Padding, pooling and batch normalisation against NumPy and Keras' own layer."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from mpncov_zoo import architectures
from mpncov_zoo.backbones import blocks
from mpncov_zoo.backbones.blocks import (
    BatchNormalization,
    batch_norm,
    conv,
    dense,
    full_precision,
    max_pool,
    skip_initialization,
)
from tests import layer_contract, networks, numpy_networks

CHANNELS = 4
FEATURES = np.random.default_rng(0).normal(1, 2, (3, 5, 6, CHANNELS)).astype(np.float32)
STATISTICS = {
    "gamma": np.array([0.5, 1.0, 1.5, 2.0], np.float32),
    "beta": np.array([-1.0, 0.0, 0.5, 1.0], np.float32),
    "moving_mean": np.array([0.1, -0.2, 0.3, 0.4], np.float32),
    "moving_variance": np.array([0.5, 0.9, 1.3, 4.0], np.float32),
}


@pytest.fixture
def precision():
    """Set the global policy; it is put back afterwards."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def normalization(kind: type = BatchNormalization, **options: Any) -> layers.BatchNormalization:
    """A built layer with non-trivial weights."""
    layer = kind(**{**blocks.BATCH_NORM, **options})
    layer.build((None, None, None, CHANNELS))
    for variable in layer.weights:
        variable.assign(STATISTICS[variable.name])
    return layer


def statistics(layer: layers.BatchNormalization) -> np.ndarray:
    return np.stack([layer.moving_mean.numpy(), layer.moving_variance.numpy()])


def affine(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return (x - mean) / np.sqrt(variance + 1e-5) * STATISTICS["gamma"] + STATISTICS["beta"]


def gradients(layer: layers.Layer, x: np.ndarray, *, training: bool) -> list[np.ndarray]:
    """Of a seeded weighting of the outputs, with respect to x, gamma and beta."""
    weights = tf.constant(np.random.default_rng(1).normal(0, 1, x.shape), layer.compute_dtype)
    images = tf.constant(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(layer(images, training=training) * weights)
    return [g.numpy() for g in tape.gradient(loss, [images, layer.gamma.value, layer.beta.value])]


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("height_width", [(8, 9), (7, 12), (5, 5)])
def test_convolution_pads_as_pytorch(height_width: tuple[int, int], size: int, strides: int, use_bias: bool) -> None:
    """TensorFlow's own SAME at stride 2 would differ on the even sizes."""
    model, weights = numpy_networks.filled(
        lambda x: {"y": conv(x, 4, size, name="c", strides=strides, use_bias=use_bias)}, height_width
    )
    x = np.random.default_rng(1).normal(0, 1, (2, *height_width, 3)).astype(np.float32)
    expected = numpy_networks.convolve(x, weights["c/kernel"], strides, weights.get("c/bias"))
    numpy_networks.assert_same_endpoints(model(x), {"y": expected})


@pytest.mark.parametrize(("size", "pad"), [(3, 1), (2, 0)])
@pytest.mark.parametrize("height_width", [(8, 9), (7, 12), (5, 5)])
def test_max_pool_is_pytorchs_on_rectified_inputs(height_width: tuple[int, int], size: int, pad: int) -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, max_pool(inputs, size=size, pad=pad, name="pool"))
    x = np.maximum(np.random.default_rng(1).normal(-1, 1, (2, *height_width, 3)), 0).astype(np.float32)
    np.testing.assert_array_equal(model(x), numpy_networks.max_pool(x, size, pad))


@pytest.mark.parametrize(
    ("name", "alone"),  # how many norms have no convolution directly before them, of a block a stage
    [
        ("mpncov_resnet50", 0),
        ("mpncov_vgg16_bn", 0),
        ("efficientnet_lite0", 0),
        ("mpncov_cifar_resnet20", 0),
        ("mpncov_cifar_preact_resnet110", 3 + 1),
        ("mpncov_cifar_preact_resnet164", 3 + 1),
    ],
)
def test_every_norm_behind_a_convolution_is_made_with_it(
    name: str, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def recorded(x: keras.KerasTensor, *, name: str, **options: Any) -> keras.KerasTensor:
        made.append(name)
        return batch_norm(x, name=name, **options)

    monkeypatch.setattr(blocks, "batch_norm", recorded)  # the builders' own name for it stays
    cifar = {"features": {"repeats": 1}} if "cifar" in name else {}
    network = networks.of_architecture(architectures.of_model(name, options=cifar), 2, (64, 64, 3))
    parts = [*network.features.layers, *network.representation.layers]
    norms = {layer.name: layer.input for layer in parts if isinstance(layer, BatchNormalization)}
    stages = set(map(id, network._endpoints["features"].values()))  # a pre-activation network's stem, not normalised
    convolutions = layers.Conv2D | layers.DepthwiseConv2D
    behind = [
        layer
        for layer, x in norms.items()
        if isinstance(x._keras_history.operation, convolutions) and id(x) not in stages
    ]
    assert sorted(made) == sorted(behind) and len(norms) - len(behind) == alone


def test_dense_and_convolution_start_as_published() -> None:
    """Linear as torch.nn.Linear: uniform within 1/sqrt(in); convolutions: normal with variance 2 / (out * area)."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 4, 64))
    kernel = keras.Model(inputs, conv(inputs, 128, 3, name="c")).weights[0].numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (128 * 9)), rel=0.02)
    assert np.abs(kernel).max() > 3.5 * kernel.std()  # not truncated
    inputs = keras.Input((400,))
    kernel, bias = (v.numpy() for v in keras.Model(inputs, dense(inputs, 100, name="fc")).weights)
    assert 0.999 / 20 < np.abs(kernel).max() <= 1 / 20 and kernel.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert not bias.any()


def test_skipped_initialization_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("random numbers were drawn")

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", drawn)
    inputs = keras.Input((4, 4, 3))
    with skip_initialization():
        x = layers.Flatten()(conv(inputs, 8, 3, name="c"))
        model = keras.Model(inputs, dense(x, 2, name="fc"))
    assert [variable.shape for variable in model.weights] == [(3, 3, 3, 8), (128, 2), (2,)]
    with pytest.raises(AssertionError, match="random numbers were drawn"):
        conv(inputs, 8, 3, name="c")  # the context has ended


def test_variables_that_skipped_initialization_are_independent() -> None:
    inputs = keras.Input((4, 4, 8))
    with skip_initialization():
        x = conv(conv(inputs, 8, 3, name="c1"), 8, 3, name="c2")
        model = keras.Model(inputs, batch_norm(x, name="bn"))
    first, second, *norms = model.weights
    first.assign_add(np.ones(first.shape))
    norms[0].assign(np.ones(8))
    assert [float(keras.ops.max(v)) for v in (first, second, *norms)] == [1, 0, 1, 0, 0, 0]


def test_part_built_without_initialization_can_be_saved_alone(tmp_path: Path) -> None:
    """Users take `model.features` of a loaded network as a model of its own."""
    inputs = keras.Input((4, 4, 3))
    with skip_initialization():
        model = keras.Model(inputs, conv(inputs, 8, 3, name="c"))
    model.weights[0].assign(np.random.default_rng(0).normal(0, 1, (3, 3, 3, 8)))
    model.save(tmp_path / "part.keras")
    x = np.ones((1, 4, 4, 3), np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "part.keras")(x), model(x))


@pytest.mark.parametrize(
    ("policy", "computed"),
    [
        ("float32", "float32"),
        ("mixed_bfloat16", "float32"),
        ("mixed_float16", "float32"),
        ("bfloat16", "float32"),
        ("float64", "float64"),
    ],
)
def test_full_precision(policy: str, computed: str, precision) -> None:
    assert full_precision(policy) == computed
    precision(policy)
    assert full_precision() == computed
    inputs = keras.Input((4,))
    assert keras.backend.standardize_dtype(dense(inputs, 2, name="fc").dtype) == computed


def test_inference_normalizes_by_the_moving_statistics() -> None:
    expected = affine(FEATURES.astype(np.float64), STATISTICS["moving_mean"], STATISTICS["moving_variance"])
    layer = normalization()
    np.testing.assert_allclose(layer(FEATURES, training=False), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer(FEATURES), expected, rtol=1e-5, atol=1e-5)
    keras_own = normalization(layers.BatchNormalization)
    np.testing.assert_allclose(layer(FEATURES), keras_own(FEATURES), rtol=1e-5, atol=1e-5)


def test_training_normalizes_by_the_batch_and_tracks_the_unbiased_variance() -> None:
    """As PyTorch: the biased variance normalises, the unbiased one is tracked, with momentum 0.1."""
    layer = normalization()
    rows = FEATURES.reshape(-1, CHANNELS).astype(np.float64)
    outputs = layer(FEATURES, training=True)
    np.testing.assert_allclose(outputs, affine(FEATURES, rows.mean(0), rows.var(0)), rtol=1e-4, atol=1e-5)
    expected = [
        0.9 * STATISTICS["moving_mean"] + 0.1 * rows.mean(0),
        0.9 * STATISTICS["moving_variance"] + 0.1 * rows.var(0, ddof=1),
    ]
    np.testing.assert_allclose(statistics(layer), expected, rtol=1e-5)
    keras_own = normalization(layers.BatchNormalization)
    np.testing.assert_allclose(outputs, keras_own(FEATURES, training=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_keras_layer_in_float64(training: bool) -> None:
    exact = gradients(normalization(layers.BatchNormalization, dtype="float64"), FEATURES, training=training)
    for actual, expected in zip(gradients(normalization(), FEATURES, training=training), exact, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_frozen_layer_uses_and_keeps_its_statistics_also_in_training() -> None:
    layer = normalization()
    layer.trainable = False
    before = statistics(layer)
    np.testing.assert_array_equal(layer(FEATURES, training=True), layer(FEATURES, training=False))
    np.testing.assert_array_equal(statistics(layer), before)


def test_float64_goes_keras_own_way() -> None:
    layer, keras_own = (
        normalization(kind, dtype="float64") for kind in (BatchNormalization, layers.BatchNormalization)
    )
    x = FEATURES.astype(np.float64)
    for training in (True, False):
        np.testing.assert_array_equal(layer(x, training=training), keras_own(x, training=training))
    np.testing.assert_array_equal(statistics(layer), statistics(keras_own))


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}, {"axis": 1}, {"renorm": True}])
def test_options_without_a_fused_kernel_go_keras_own_way(options: dict[str, Any]) -> None:
    outputs = []
    for kind in (BatchNormalization, layers.BatchNormalization):
        layer = kind(**options)
        outputs.append([layer(FEATURES, training=training).numpy() for training in (True, False)])
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(("policy", "rounding"), [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-11)])
def test_mixed_precision_rounds_only_what_goes_in_and_out(policy: str, rounding: float) -> None:
    layer, exact = normalization(dtype=policy), normalization()
    low = keras.ops.cast(FEATURES, layer.compute_dtype)
    for training in (False, True):
        actual = layer(low, training=training)
        expected = exact(keras.ops.cast(low, "float32"), training=training)
        assert keras.backend.standardize_dtype(actual.dtype) == layer.compute_dtype
        np.testing.assert_allclose(keras.ops.cast(actual, "float32"), expected, rtol=rounding, atol=rounding / 100)
    assert layer.moving_mean.dtype == "float32"
    np.testing.assert_allclose(statistics(layer), statistics(exact), rtol=1e-5)


def test_batch_norm_configuration_reload_and_graph(tmp_path: Path) -> None:
    layer_contract.assert_reloads(normalization(), FEATURES, tmp_path / "model.keras")
    layer = normalization()
    traced = tf.function(lambda x: layer(x, training=True))
    np.testing.assert_allclose(traced(FEATURES), normalization()(FEATURES, training=True), rtol=1e-5, atol=1e-6)
    eager = normalization()
    eager(FEATURES, training=True)
    np.testing.assert_allclose(statistics(layer), statistics(eager), rtol=1e-6)


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_pure_16_bit_policies_take_keras_own_way(policy: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    ours = blocks.BatchNormalization(dtype=policy, **blocks.BATCH_NORM)(x, training=True)
    keras_own = keras.layers.BatchNormalization(dtype=policy, **blocks.BATCH_NORM)(x, training=True)
    np.testing.assert_array_equal(np.asarray(ours, np.float32), np.asarray(keras_own, np.float32))
