"""The network itself in float64 on the CPU: what parity holds it to where the source network is not at hand.

It finds what a device or a precision does to the numbers. An error in a map it cannot find: both have the same weights.
"""

from collections.abc import Mapping

import numpy as np
from keras import ops

from conversion.devices import gradients_off, in_float64
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier

NAME = "the network itself in float64 on the CPU"
Stages = Mapping[str, np.ndarray]  # by name; feature maps are (batch, height, width, channels)


class Itself:
    """A network's twin in float64, for images of any size; `fill` gives it the network's weights.

    Args:
        model: the network.
    """

    def __init__(self, model: ImageClassifier):
        with in_float64():
            self.network = of_any_size(model)
            self.extract = FeatureExtractor(self.network, self.network.stages)

    def fill(self, model: ImageClassifier) -> None:
        """Take the weights that the network has now."""
        with in_float64():
            copy_weights(model, self.network)

    def stages(self, images: np.ndarray) -> Stages:
        """What every stage computes for images (batch, height, width, channels), float64."""
        with in_float64():
            return computed(self.extract, images)


def computed(extract: FeatureExtractor, images: np.ndarray) -> Stages:
    """What every stage of an extractor computes."""
    with gradients_off():
        return {name: ops.convert_to_numpy(value) for name, value in extract(images, training=False).items()}


def of_any_size(model: ImageClassifier) -> ImageClassifier:
    """The same network for images of any size, its weights undefined."""
    return ImageClassifier(
        model.architecture,
        num_classes=model.num_classes,
        input_shape=(None, None, model.input_shape[3]),
        input_specification=model.input_specification,
        initialize=(),
    )


def copy_weights(source: ImageClassifier, target: ImageClassifier) -> None:
    """Give a network the weights of another, by way of the CPU, for they may lie on different devices."""
    weights = source.named_variables()
    for name, variable in target.named_variables().items():
        variable.assign(weights[name].numpy())
