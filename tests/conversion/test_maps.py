"""Every tensor of the published networks has its variable, once, with the right shape."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from conversion import maps
from conversion.maps.resnet import upstream_resnet
from conversion.maps.vgg import upstream_vgg
from mpncov_zoo import registry
from tests import networks

GOLDEN = Path(__file__).parents[1] / "golden"


def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
    tensors = json.loads((GOLDEN / f"{name}.tensors.json").read_text())
    return {key: tuple(shape) for key, shape in tensors.items() if key.rpartition(".")[2] not in maps.UNUSED_LEAVES}


@pytest.mark.parametrize(
    ("upstream", "model", "table"),
    [
        ("mpncovresnet50", "mpncov_resnet50", upstream_resnet),
        ("mpncovvgg16_bn", "mpncov_vgg16_bn", upstream_vgg),
    ],
)
def test_published_network(upstream: str, model: str, table) -> None:
    steps = maps.pytorch_steps(table(registry.architecture(model)))
    shapes = published_shapes(upstream)
    assert sorted(step.source for step in steps) == sorted(shapes)
    with keras.device("cpu"):
        variables = networks.bare(model).named_variables()
    assert sorted(step.target for step in steps) == sorted(variables)
    for step in steps:
        source = np.broadcast_to(np.float32(0), shapes[step.source])
        assert maps.TRANSFORMS[step.transform](source).shape == tuple(variables[step.target].shape), step


@pytest.mark.parametrize("model", ["resnet18", "resnet34", "resnet101", "vgg16"])
def test_first_order_networks_have_no_reduction(model: str) -> None:
    table = upstream_vgg if model.startswith("vgg") else upstream_resnet
    steps = maps.pytorch_steps(table(registry.architecture(model)))
    variables = networks.bare(model).named_variables()
    assert sorted(step.target for step in steps) == sorted(variables)
    assert sum(math.prod(variables[step.target].shape) for step in steps) > 10**7
