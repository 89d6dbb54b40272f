"""Inception v3 (Szegedy et al., CVPR 2016), as published by torchvision, without its auxiliary classifier."""

from collections.abc import Callable
from functools import partial

from keras import KerasTensor, layers

from mpncov_zoo.backbones.blocks import BATCH_NORM_INCEPTION, conv_bn, max_pool

convolution = partial(conv_bn, constants=BATCH_NORM_INCEPTION)
Step = tuple[str, int, int | tuple[int, int]]  # name, channels and size of a convolution
TALL, WIDE = (7, 1), (1, 7)


def inception_v3(inputs: KerasTensor) -> dict[str, KerasTensor]:
    """Stem and eleven modules, of branches that are joined.

    Args:
        inputs: images, (batch, height, width, channels).

    Returns:
        The endpoints stem (35x35 positions at 299, 192 channels), mixed_5b, 5c, 5d (35x35; 256, 288, 288 channels),
        mixed_6a..6e (17x17, 768 channels), mixed_7a (8x8, 1280 channels), mixed_7b and 7c (8x8, 2048 channels).
    """
    x = convolution(inputs, 32, 3, prefix="conv2d_1a_3x3", strides=2, pad=0)
    x = convolution(x, 32, 3, prefix="conv2d_2a_3x3", pad=0)
    x = convolution(x, 64, 3, prefix="conv2d_2b_3x3")
    x = max_pool(x, size=3, name="stem_pool1")
    x = convolution(x, 80, 1, prefix="conv2d_3b_1x1")
    x = convolution(x, 192, 3, prefix="conv2d_4a_3x3", pad=0)
    endpoints = {"stem": max_pool(x, size=3, name="stem_pool2")}
    for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
        _extend(endpoints, f"mixed_5{letter}", partial(_module_a, pooled=pooled))
    _extend(endpoints, "mixed_6a", _reduction_b)
    for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
        _extend(endpoints, f"mixed_6{letter}", partial(_module_c, width=width))
    _extend(endpoints, "mixed_7a", _reduction_d)
    for letter in "bc":
        _extend(endpoints, f"mixed_7{letter}", _module_e)
    return endpoints


def _extend(endpoints: dict[str, KerasTensor], name: str, module: Callable[..., list[KerasTensor]]) -> None:
    """The branches of a module on the last endpoint, joined, become the next one."""
    *_, last = endpoints.values()
    endpoints[name] = layers.Concatenate(name=f"{name}_joined")(module(last, name))


def _module_a(x: KerasTensor, name: str, *, pooled: int) -> list[KerasTensor]:
    return [
        _branch(x, name, ("1x1", 64, 1)),
        _branch(x, name, ("5x5_1", 48, 1), ("5x5_2", 64, 5)),
        _branch(x, name, ("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3)),
        _pooled(x, name, pooled),
    ]


def _reduction_b(x: KerasTensor, name: str) -> list[KerasTensor]:
    return [
        _branch(x, name, ("3x3", 384, 3), halve=True),
        _branch(x, name, ("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3), halve=True),
        max_pool(x, size=3, name=f"{name}_pool"),
    ]


def _module_c(x: KerasTensor, name: str, *, width: int) -> list[KerasTensor]:
    double = (("7x7dbl_1", width, 1), ("7x7dbl_2", width, TALL), ("7x7dbl_3", width, WIDE), ("7x7dbl_4", width, TALL))
    return [
        _branch(x, name, ("1x1", 192, 1)),
        _branch(x, name, ("7x7_1", width, 1), ("7x7_2", width, WIDE), ("7x7_3", 192, TALL)),
        _branch(x, name, *double, ("7x7dbl_5", 192, WIDE)),
        _pooled(x, name, 192),
    ]


def _reduction_d(x: KerasTensor, name: str) -> list[KerasTensor]:
    seven = (("7x7x3_1", 192, 1), ("7x7x3_2", 192, WIDE), ("7x7x3_3", 192, TALL))
    return [
        _branch(x, name, ("3x3_1", 192, 1), ("3x3_2", 320, 3), halve=True),
        _branch(x, name, *seven, ("7x7x3_4", 192, 3), halve=True),
        max_pool(x, size=3, name=f"{name}_pool"),
    ]


def _module_e(x: KerasTensor, name: str) -> list[KerasTensor]:
    three = _branch(x, name, ("3x3_1", 384, 1))
    double = _branch(x, name, ("3x3dbl_1", 448, 1), ("3x3dbl_2", 384, 3))
    return [
        _branch(x, name, ("1x1", 320, 1)),
        _branch(three, name, ("3x3_2a", 384, (1, 3))),
        _branch(three, name, ("3x3_2b", 384, (3, 1))),
        _branch(double, name, ("3x3dbl_3a", 384, (1, 3))),
        _branch(double, name, ("3x3dbl_3b", 384, (3, 1))),
        _pooled(x, name, 192),
    ]


def _branch(x: KerasTensor, name: str, *steps: Step, halve: bool = False) -> KerasTensor:
    """Convolutions one after the other; with `halve` the last one has stride 2 and no padding."""
    for step, (called, width, size) in enumerate(steps, 1):
        strides, pad = (2, 0) if halve and step == len(steps) else (1, None)
        x = convolution(x, width, size, prefix=f"{name}_branch{called}", strides=strides, pad=pad)
    return x


def _pooled(x: KerasTensor, name: str, width: int) -> KerasTensor:
    """The mean of 3x3 positions, the padding counted, and a 1x1 convolution."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pool_pad")(x)
    x = layers.AveragePooling2D(3, strides=1, name=f"{name}_pool")(x)
    return _branch(x, name, ("_pool", width, 1))
