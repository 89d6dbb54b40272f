"""Small networks for the tests, and weights for them: seeded, with every variable away from its trivial value."""

from collections.abc import Collection
from typing import Any

import numpy as np

import mpncov_zoo
from mpncov_zoo import architectures, registry
from mpncov_zoo.classifier import ImageClassifier
from tests.numpy_networks import draw

SIZE = 12
TINY = {"features": {"repeats": 1}, "representation": {"dimension_reduction": 8}}


def tiny(num_classes: int = 5, **changes: Any) -> ImageClassifier:
    """The smallest iSQRT-COV network of the registry's cifar family, 12x12x3, randomised."""
    model = mpncov_zoo.build(
        "mpncov_cifar_resnet20",
        **{"num_classes": num_classes, "input_shape": (SIZE, SIZE, 3), "options": TINY, **changes},
    )
    randomize(model)
    return model


def bare(name: str, num_classes: int = 1000, input_shape: tuple[int | None, int | None, int] = (None, None, 3)):
    """A network of the registry, its representation on the end of the backbone, without the time that random initial
    weights take: to be filled, or counted."""
    return of_architecture(architectures.of_model(name, stages=()), num_classes, input_shape)


def of_architecture(
    architecture: architectures.Architecture, num_classes: int, input_shape: tuple[int | None, int | None, int]
) -> ImageClassifier:
    """The same for an architecture that has no name."""
    return ImageClassifier(
        architecture,
        num_classes=num_classes,
        input_shape=input_shape,
        input_specification=registry.BACKBONES[architecture.backbone].input,
        initialize=(),
    )


def randomize(model: ImageClassifier, seed: int = 0, but: Collection[str] = ("bins", "signs")) -> None:
    """Fill every variable: kernels by fan-in, variances and scales positive, all else around 0."""
    rng = np.random.default_rng(seed)
    for name, variable in model.named_variables().items():
        kind = name.rpartition("/")[2]
        if kind not in but:
            variable.assign(draw(rng, kind, tuple(variable.shape)))


def images(model: ImageClassifier, batch: int = 2, seed: int = 0) -> np.ndarray:
    """Seeded noise as preprocessed images, float32 (batch, height, width, channels)."""
    shape = tuple(size or SIZE for size in model.input_shape[1:])
    return np.random.default_rng(seed).normal(0, 1, (batch, *shape)).astype(np.float32)


def values(model: ImageClassifier) -> dict[str, np.ndarray]:
    """A copy of every variable, by name."""
    return {name: variable.numpy().copy() for name, variable in model.named_variables().items()}


def parameters(model: ImageClassifier) -> int:
    """Trainable numbers of a network in which nothing is frozen: what publications count."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
