"""ResNet against the papers in NumPy, and the published numbers of parameters."""

import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo import architectures
from mpncov_zoo.backbones.resnet import resnet
from tests import networks, numpy_networks

PARAMETERS = {  # (name, classes): torchvision's for the first-order networks, the published iSQRT-COV ones
    ("resnet18", 1000): 11_689_512,
    ("resnet34", 1000): 21_797_672,
    ("resnet50", 1000): 25_557_032,
    ("resnet101", 1000): 44_549_160,
    ("resnet152", 1000): 60_192_808,
    ("mpncov_resnet50", 1000): 56_929_832,
    ("mpncov_resnet101", 1000): 75_921_960,
}


@pytest.mark.parametrize(
    ("block", "last_stride", "size"),
    [
        ("basic", 2, (33, 42)),
        ("bottleneck", 1, (33, 42)),
        ("bottleneck", 2, (64, 31)),
    ],
)
def test_every_stage_is_the_papers(block: str, last_stride: int, size: tuple[int, int]) -> None:
    """Also at odd sizes, where paddings that differ from PyTorch's show; the model is built for any size."""
    options = {"block": block, "repeats": (1, 2, 1, 1), "last_stride": last_stride}
    model, weights = numpy_networks.filled(lambda inputs: resnet(inputs, **options))
    x = np.random.default_rng(1).normal(0, 1, (1, *size, 3)).astype(np.float32)
    numpy_networks.assert_same_endpoints(model(x), numpy_networks.resnet(weights, x, **options))


@pytest.mark.parametrize(("name", "classes"), PARAMETERS)
def test_parameters_are_the_published_ones(name: str, classes: int) -> None:
    assert networks.parameters(networks.bare(name, classes)) == PARAMETERS[name, classes]


@pytest.mark.parametrize(("name", "positions"), [("resnet26", 7), ("mpncov_resnet26", 14)])
def test_second_order_keeps_the_positions_of_the_last_stage(name: str, positions: int) -> None:
    """As published: 14x14 at 224 in the published iSQRT-COV networks, 7x7 in the plain ones."""
    model = networks.bare(name, input_shape=(224, 224, 3))
    assert model.features.output_shape == (None, positions, positions, 2048)
    assert architectures.of_model(name).features_options["repeats"] == (2, 2, 2, 2)


def test_every_variable_takes_part_in_training() -> None:
    model, _ = numpy_networks.filled(lambda x: resnet(x, block="bottleneck", repeats=(1, 1, 1, 2)), (33, 33))
    with tf.GradientTape() as tape:
        x = np.random.default_rng(1).normal(0, 1, (2, 33, 33, 3)).astype(np.float32)
        loss = tf.reduce_sum(model(x, training=True)["stage4"] ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.path
