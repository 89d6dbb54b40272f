"""The convolutional trunks. Each family is a file with one function: `(inputs, *, options) -> endpoints`.

`endpoints` maps the name of every stage to its tensor, (batch, height, width, channels), in order; the last is the
trunk's output. `mpncov_zoo.registry.BACKBONES` says which family and which options a network's name stands for.
"""

from collections.abc import Callable, Mapping

from keras import KerasTensor

from mpncov_zoo.backbones import (
    alexnet,
    cifar_resnet,
    densenet,
    efficientnet_lite,
    inception_v3,
    keras_trunk,
    resnet,
    vgg,
    vgg_m,
)

__all__ = ["FAMILIES"]

FAMILIES: Mapping[str, Callable[..., dict[str, KerasTensor]]] = {
    "alexnet": alexnet.alexnet,
    "cifar_resnet": cifar_resnet.cifar_resnet,
    "densenet": densenet.densenet,
    "efficientnet_lite": efficientnet_lite.efficientnet_lite,
    "inception_v3": inception_v3.inception_v3,
    "keras": keras_trunk.keras_trunk,
    "resnet": resnet.resnet,
    "vgg": vgg.vgg,
    "vgg_m": vgg_m.vgg_m,
}
