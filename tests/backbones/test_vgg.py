"""VGG against the paper in NumPy, and the published names and numbers of parameters."""

import json
from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.backbones.vgg import vgg
from tests import networks, numpy_networks

GOLDEN = Path(__file__).parent.parent / "golden"
PARAMETERS = {"vgg16": 138_357_544, "vgg16_bn": 138_365_992}  # torchvision's
STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")


@pytest.mark.parametrize("size", [(32, 32), (37, 50)])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("last_pool", [True, False])
def test_every_stage_is_the_papers(batch_norm: bool, last_pool: bool, size: tuple[int, int]) -> None:
    options = {"repeats": (1, 2, 1, 1, 1), "batch_norm": batch_norm, "last_pool": last_pool}
    model, weights = numpy_networks.filled(lambda inputs: vgg(inputs, **options))
    x = np.random.default_rng(1).normal(0, 1, (1, *size, 3)).astype(np.float32)
    numpy_networks.assert_same_endpoints(model(x), numpy_networks.vgg(weights, x, **options))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert networks.parameters(networks.bare(name)) == PARAMETERS[name]


def test_mpncov_vgg16_bn_has_the_published_tensors() -> None:
    """Every trainable tensor's shape, in PyTorch's order of axes, as often as upstream has it."""
    upstream = json.loads((GOLDEN / "mpncovvgg16_bn.tensors.json").read_text())
    shapes = [tuple(shape) for name, shape in upstream.items() if not name.endswith(STATISTICS)]
    model = networks.bare("mpncov_vgg16_bn")
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    ours = [
        tuple(variable.shape[axis] for axis in order[len(variable.shape)]) for variable in model.trainable_variables
    ]
    assert Counter(ours) == Counter(shapes)
    assert networks.parameters(model) == sum(map(prod, shapes)) == 170_479_144


@pytest.mark.parametrize(("name", "positions"), [("vgg16_bn", 7), ("mpncov_vgg16_bn", 14)])
def test_second_order_leaves_out_the_last_pool(name: str, positions: int) -> None:
    """As published: 14x14x512 at 224 before the published covariance."""
    model = networks.bare(name, input_shape=(224, 224, 3))
    assert model.features.output_shape == (None, positions, positions, 512)


def test_every_variable_takes_part_in_training() -> None:
    model, _ = numpy_networks.filled(lambda x: vgg(x, repeats=(1, 1, 1, 1, 2), batch_norm=True), (32, 32))
    with tf.GradientTape() as tape:
        x = np.random.default_rng(1).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
        loss = tf.reduce_sum(model(x, training=True)["pool"] ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    normalized = {"bias"}  # batch normalisation takes a convolution's bias out again: its gradient is rounding
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0 or variable.name in normalized, variable.path
