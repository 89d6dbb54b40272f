"""Checkpoints for the tests: seeded tensors under the names of a family, for any network of ours."""

from collections.abc import Mapping

import numpy as np

from conversion.maps import INVERSES, Family, Step, families_of
from mpncov_zoo import registry
from tests import networks
from tests.numpy_networks import draw

MODEL = "mpncov_resnet18"  # the smallest network that somebody published
CLASSES = 3


def family(model: str, name: str) -> Family:
    """By its name."""
    return next(found for found in families_of(registry.architecture(model)) if found.name == name)


def tensors(
    model: str = MODEL,
    *,
    names: str = "upstream PyTorch",
    num_classes: int = CLASSES,
    seed: int = 0,
    options: Mapping[str, registry.Options] | None = None,
) -> dict[str, np.ndarray]:
    """Every tensor of a network, float32, in the family's order."""
    chosen = family(model, names)
    architecture = registry.with_options(registry.architecture(model, options=options), chosen.options)
    network = networks.of_architecture(architecture, num_classes, (None, None, 3))
    shapes = {name: tuple(variable.shape) for name, variable in network.named_variables().items()}
    rng = np.random.default_rng(seed)
    return {
        _own_name(step, names): INVERSES[step.transform](
            draw(rng, step.target.rpartition("/")[2], shapes[step.target]).astype(np.float32)
        )
        for step in chosen.steps(architecture)
    }


def _own_name(step: Step, names: str) -> str:
    """In an `.h5` a tensor has a layer's name before its role; elsewhere it is called as the family calls it."""
    return f"{step.target}:0" if names.endswith(".h5") else step.source
