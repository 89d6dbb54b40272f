"""ResNets for small images against the papers in NumPy, and the published numbers of parameters."""

import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo import registry
from mpncov_zoo.backbones.cifar_resnet import cifar_resnet
from mpncov_zoo.classifier import FeatureExtractor
from tests import networks, numpy_networks

# The number that pytorchcv publishes for CIFAR-10 (projected shortcuts, as here); millions as the papers print them.
PARAMETERS = {
    "cifar_resnet20": (272_474, 0.27),
    "cifar_resnet32": (466_906, 0.46),
    "cifar_resnet44": (661_338, 0.66),
    "cifar_resnet56": (855_770, 0.85),
    "cifar_resnet110": (1_730_714, 1.7),
    "cifar_resnet164": (1_704_154, 1.7),
    "cifar_resnet1001": (10_328_602, 10.2),
    "cifar_resnet1202": (19_424_026, 19.4),
    "cifar_preact_resnet110": (1_730_522, 1.7),
    "cifar_preact_resnet164": (1_703_258, 1.7),
    "cifar_preact_resnet1001": (10_327_706, 10.2),
}
VARIANTS = [("basic", False), ("basic", True), ("bottleneck", False), ("bottleneck", True)]


def count(name: str, repeats: int) -> int:
    options = {"features": {"repeats": repeats}}
    return networks.parameters(mpncov_zoo.build(name, num_classes=10, input_shape=(8, 8, 3), options=options))


@pytest.mark.parametrize(("block", "preactivation"), VARIANTS)
@pytest.mark.parametrize("size", [(12, 12), (15, 9)])
def test_every_stage_is_the_papers(block: str, preactivation: bool, size: tuple[int, int]) -> None:
    options: dict[str, Any] = {"block": block, "repeats": 2, "preactivation": preactivation}
    model, weights = numpy_networks.filled(lambda inputs: cifar_resnet(inputs, **options))
    x = np.random.default_rng(1).normal(0, 1, (2, *size, 3)).astype(np.float32)
    numpy_networks.assert_same_endpoints(model(x), numpy_networks.cifar_resnet(weights, x, **options))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    """Blocks after the first are alike in every stage, so two small networks tell the number of any depth."""
    repeats = registry.BACKBONES[name].options["repeats"]
    one, two = (count(name, repeats) for repeats in (1, 2))
    exact, millions = PARAMETERS[name]
    assert one + (two - one) * (repeats - 1) == exact
    assert exact / 1e6 == pytest.approx(millions, rel=0.02)


def test_depth_in_the_name_counts_weighted_layers() -> None:
    """6n + 2 for basic blocks, 9n + 2 for bottlenecks (projections are not counted)."""
    layers_per_block = {"basic": 2, "bottleneck": 3}
    for name in PARAMETERS:
        options = registry.BACKBONES[name].options
        depth = 3 * layers_per_block[options["block"]] * options["repeats"] + 2
        assert name.endswith(f"resnet{depth}")
        assert options["preactivation"] == ("preact" in name)


def test_networks_deeper_than_pythons_recursion_limit() -> None:
    """Keras walks a graph by recursion; cifar_resnet1001 and 1202 are to this limit what 56 is to a lower one."""
    before, low = sys.getrecursionlimit(), stack_depth() + 150  # cifar_resnet56 has 190 operations in a row
    sys.setrecursionlimit(low)
    try:
        model = networks.bare("cifar_resnet56", 10, (8, 8, 3))
        extractor = FeatureExtractor(model, ["stage1", "stage3"])
        assert sys.getrecursionlimit() == low
    finally:
        sys.setrecursionlimit(before)
    networks.randomize(model)
    x = networks.images(model)
    expected = model.features(x)
    np.testing.assert_allclose(extractor(x)["stage3"], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def stack_depth() -> int:
    """Frames above the caller, itself included."""
    frame, depth = sys._getframe(1), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


@pytest.mark.parametrize(("block", "preactivation"), VARIANTS)
def test_every_variable_takes_part_in_training(block: str, preactivation: bool) -> None:
    model, _ = numpy_networks.filled(
        lambda x: cifar_resnet(x, block=block, repeats=2, preactivation=preactivation), (9, 9)
    )
    with tf.GradientTape() as tape:
        x = np.random.default_rng(1).normal(0, 1, (2, 9, 9, 3)).astype(np.float32)
        loss = tf.reduce_sum(model(x, training=True)["stage3"] ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.path
