"""EfficientNet-Lite against the paper in NumPy, and the published tables and numbers of parameters."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo import registry
from mpncov_zoo.backbones import blocks
from mpncov_zoo.backbones.efficientnet_lite import Block, efficientnet_lite, inverted_residual, scaled
from mpncov_zoo.backbones.efficientnet_lite import blocks as block_table
from mpncov_zoo.representations.gap import gap
from tests import networks, numpy_networks

# Counted in the published files; the authors print 4.7, 5.4 and 6.1 million.
PARAMETERS = {"efficientnet_lite0": 4_652_008, "efficientnet_lite1": 5_416_680, "efficientnet_lite2": 6_092_072}
CHANNELS = {
    "efficientnet_lite0": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite1": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite2": (16, 24, 48, 88, 120, 208, 352),
}
REPEATS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
STRIDES = (1, 2, 2, 2, 1, 2, 1)
KERNELS = (3, 3, 5, 3, 5, 5, 3)


def convolve(x: np.ndarray, kernel: np.ndarray, strides: int = 1) -> np.ndarray:
    """With TensorFlow's SAME padding; a kernel (size, size, channels, 1) is depthwise."""
    size = kernel.shape[0]
    totals = [max((-(-length // strides) - 1) * strides + size - length, 0) for length in x.shape[1:3]]
    rows, columns = ((total // 2, total - total // 2) for total in totals)
    padded = np.pad(x.astype(np.float64), ((0, 0), rows, columns, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::strides, ::strides]
    depthwise = kernel.shape[2:] == (x.shape[3], 1)
    return np.einsum("bhwcij,ijco->bhwc" if depthwise else "bhwcij,ijco->bhwo", windows, kernel, optimize=True)


def normalize(weights: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    gamma, beta, mean, variance = (
        weights[f"{name}/{kind}"].astype(np.float64) for kind in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def expected_endpoints(weights: Mapping[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    """The network whose blocks are those there are weights for."""

    def layer(name: str, x: np.ndarray, strides: int = 1, largest: float = 6) -> np.ndarray:
        x = convolve(x, weights[f"{name}_conv/kernel"], strides)
        return np.clip(normalize(weights, f"{name}_bn", x), 0 if largest == 6 else -largest, largest)

    endpoints = {"stem": layer("stem", x, 2)}
    x = endpoints["stem"]
    for stage, first in enumerate(STRIDES, 1):
        index = 1
        while f"stage{stage}_block{index}_project_conv/kernel" in weights:
            prefix, strides = f"stage{stage}_block{index}", first if index == 1 else 1
            y = layer(f"{prefix}_expand", x) if f"{prefix}_expand_conv/kernel" in weights else x
            y = layer(f"{prefix}_project", layer(f"{prefix}_depthwise", y, strides), largest=np.inf)
            x = x + y if x.shape == y.shape else y
            index += 1
        endpoints[f"stage{stage}"] = x
    return {**endpoints, "head": layer("head", x)}


def bare(name: str, size: int | None = None):
    return networks.bare(name, input_shape=(size, size, 3))


@pytest.mark.parametrize(
    ("width", "depth", "size"), [(1.0, 1.0, (64, 64)), (1.0, 1.1, (37, 50)), (1.1, 1.0, (50, 33)), (0.5, 1.0, (31, 64))]
)
def test_every_stage_is_the_papers(width: float, depth: float, size: tuple[int, int]) -> None:
    """At even and odd sizes, where PyTorch's padding would differ from SAME; the model is built for any size."""
    model, weights = numpy_networks.filled(lambda x: efficientnet_lite(x, width=width, depth=depth, drop_connect=0.2))
    x = np.random.default_rng(1).normal(0, 1, (2, *size, 3)).astype(np.float32)
    expected = expected_endpoints(weights, x)
    numpy_networks.assert_same_endpoints(model(x), expected)
    assert expected["stem"].max() == 6  # so that ReLU6 was told from ReLU


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert networks.parameters(bare(name)) == bare(name).num_parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_blocks_are_the_published_ones(name: str) -> None:
    options = registry.BACKBONES[name].options
    expected = [
        (stage, index, kernel, strides if index == 1 else 1, 1 if stage == 1 else 6, channels)
        for stage, (kernel, repeats, strides, channels) in enumerate(
            zip(KERNELS, REPEATS[name], STRIDES, CHANNELS[name], strict=True), 1
        )
        for index in range(1, repeats + 1)
    ]
    assert block_table(options["width"], options["depth"]) == expected


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(16, 0.25, 8), (16, 0.7, 16), (24, 1.5, 40), (80, 1.4, 112)]
)
def test_scaled_channels_are_multiples_of_8_and_not_far_below(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


@pytest.mark.parametrize("name", PARAMETERS)
def test_second_order_has_the_same_trunk(name: str) -> None:
    """Trunk weights of one fit the other; the stride is the published one, 7x7 positions at 224."""
    first, second = bare(name, 224).features, bare(f"mpncov_{name}", 224).features
    assert [(v.path, v.shape) for v in first.weights] == [(v.path, v.shape) for v in second.weights]
    assert first.output_shape == second.output_shape == (None, 7, 7, 1280)


def test_batch_normalization_is_fused_with_tensorflows_constants() -> None:
    model = bare("efficientnet_lite0").features
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(type(n), n.epsilon, n.momentum) for n in normalizations} == {(blocks.BatchNormalization, 1e-3, 0.99)}
    graph = tf.function(model).get_concrete_function(tf.TensorSpec((1, 64, 64, 3))).graph
    fused = [op.get_attr("epsilon") for op in graph.get_operations() if op.type == "FusedBatchNormV3"]
    assert len(fused) == len(normalizations) == 49
    assert set(fused) == {float(np.float32(1e-3))}


def test_rates_of_stochastic_depth_grow_linearly() -> None:
    """0.2 times the block's place, from 0, over the number of blocks; blocks without a shortcut have none."""
    layers = networks.bare("efficientnet_lite0").features.layers
    rates = {layer.name: layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)}
    places = {"stage2_block2": 2, "stage3_block2": 4, "stage4_block2": 6, "stage4_block3": 7, "stage5_block2": 9}
    places |= {"stage5_block3": 10, "stage6_block2": 12, "stage6_block3": 13, "stage6_block4": 14}
    assert rates == pytest.approx({f"{name}_drop": 0.2 * place / 16 for name, place in places.items()})


def residual(drop: float) -> keras.Model:
    return numpy_networks.filled(lambda x: {"y": inverted_residual(x, Block(1, 1, 3, 1, 6, 3), drop=drop)})[0]


def test_stochastic_depth_drops_whole_images_in_training_only() -> None:
    """The branch of an image is dropped, or scaled so that the mean stays."""
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(1).normal(0, 1, (64, 5, 4, 3)).astype(np.float32)
    always, sometimes = residual(0.0), residual(0.25)
    np.testing.assert_array_equal(sometimes(x, training=False)["y"], always(x, training=False)["y"])
    branch = np.asarray(always(x, training=True)["y"]) - x
    kept = np.asarray(sometimes(x, training=True)["y"]) - x
    dropped = ~kept.any((1, 2, 3))
    assert 4 <= dropped.sum() <= 32  # 16 on average
    np.testing.assert_allclose(kept[~dropped], branch[~dropped] / 0.75, atol=1e-5)


def test_skipped_initialization_draws_no_depthwise_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("random numbers were drawn")

    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 4, 2048))
    kernel = keras.Model(inputs, blocks.conv(inputs, None, 3, name="d")).weights[0].numpy()
    assert kernel.shape == (3, 3, 2048, 1) and kernel.std() == pytest.approx(np.sqrt(2 / 9), rel=0.02)
    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", drawn)
    assert not any(v.numpy().any() for v in bare("efficientnet_lite0").weights)


def test_gaps_dropout_is_on_the_vector_in_training_only() -> None:
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(1).uniform(1, 2, (4, 3, 3, 256)).astype(np.float32)
    inputs = keras.Input((None, None, 256))
    model = keras.Model(inputs, gap(inputs, dropout=0.25)["representation"])
    mean = x.mean((1, 2))
    np.testing.assert_allclose(model(x), mean, rtol=1e-5)
    trained = np.asarray(model(x, training=True))
    assert 0.15 < (trained == 0).mean() < 0.35
    np.testing.assert_allclose(trained[trained > 0], (mean / 0.75)[trained > 0], rtol=1e-5)


def test_every_variable_takes_part_in_training() -> None:
    model, _ = numpy_networks.filled(lambda x: efficientnet_lite(x, width=0.5, depth=1.0), (65, 65))
    with tf.GradientTape() as tape:
        x = np.random.default_rng(1).normal(0, 1, (2, 65, 65, 3)).astype(np.float32)
        loss = tf.reduce_sum(model(x, training=True)["head"] ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.path
