"""The layers of networks under the names of MatConvNet's `examples/imagenet`."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from conversion.maps.tables import GRIDS, Row, Step, conv_and_bn
from conversion.readers.reading import Described
from mpncov_zoo.architectures import Architecture, with_options
from mpncov_zoo.backbones import vgg_m
from mpncov_zoo.errors import ConversionError
from mpncov_zoo.representations.newton_schulz import ITERATIONS

LEAVES = {  # kind -> their leaf, our leaf, transform
    "conv": (("filters", "kernel", "as it is"),),
    "conv with bias": (("filters", "kernel", "as it is"), ("biases", "bias", "as it is")),
    "bn": (
        ("multipliers", "gamma", "as it is"),
        ("biases", "beta", "as it is"),
        ("mean", "moving_mean", "as it is"),
        ("variance", "moving_variance", "as it is"),
    ),
    "linear": (("filters", "kernel", "HWIO to IO"), ("biases", "bias", "as it is")),
    **{
        f"linear on {size}x{size}": (
            ("filters", "kernel", f"{size}x{size} grid to rows"),
            ("biases", "bias", "as it is"),
        )
        for size in GRIDS
    },
    "linear on a triangle": (("filters", "kernel", "triangle by columns to rows"), ("biases", "bias", "as it is")),
}
VGG_GRID = 7  # the flattened grid's default
REDUCTION = "conv_for_cova_conv.filters"  # its last axis is the channels of the covariance
HIDDEN = ("fc6.filters", "fc7.filters")  # and theirs are the lengths of the hidden layers
RESNET_LINEAR = {"mpncov": "linear on a triangle", "gap": "linear"}  # kind of the layer behind a representation


def matconvnet_steps(rows: list[Row]) -> list[Step]:
    """The tensors of a table's layers, as the reader names them."""
    return [
        Step(f"{theirs}.{leaf}", f"{ours}/{variable}", transform)
        for theirs, ours, kind in rows
        for leaf, variable, transform in LEAVES[kind]
    ]


def matconvnet_resnet(architecture: Architecture) -> list[Row]:
    """`conv1_conv`, `conv2_1_adapt_conv_conv`, `conv2_1a_conv` ... `conv_for_cova_conv`, `prediction`."""
    rows = conv_and_bn(("conv1_conv", "conv1_bn"), "features/stem")
    for stage, count in enumerate(architecture.features_options["repeats"], 1):
        for block in range(1, count + 1):
            theirs, ours = f"conv{stage + 1}_{block}", f"features/stage{stage}_block{block}"
            if block == 1:
                rows += conv_and_bn((f"{theirs}_adapt_conv_conv", f"{theirs}_adapt_conv_bn"), f"{ours}_shortcut")
            for index, letter in enumerate("abc", 1):
                rows += conv_and_bn((f"{theirs}{letter}_conv", f"{theirs}{letter}_bn"), ours, index)
    if architecture.representation_options.get("dimension_reduction"):
        rows += conv_and_bn(("conv_for_cova_conv", "conv_for_cova_bn"), "representation/reduction")
    return [*rows, ("prediction", "classifier/logits", RESNET_LINEAR[architecture.representation])]


def matconvnet_vgg(architecture: Architecture) -> list[Row]:
    """`conv1_1`, `conv1_2` ... `conv5_3`, `fc6`, `fc7`, `fc8`, of the first order."""
    rows = [
        (f"conv{stage}_{index}", f"features/stage{stage}_conv{index}", "conv with bias")
        for stage, count in enumerate(architecture.features_options["repeats"], 1)
        for index in range(1, count + 1)
    ]
    return [*rows, *_linear(architecture)]


def matconvnet_vgg_m(architecture: Architecture) -> list[Row]:
    """`conv1` ... `conv5`, `fc6`, `fc7`, `fc8`, of the first order."""
    rows = [
        (f"conv{stage}", f"features/stage{stage}_conv1", "conv with bias") for stage in range(1, len(vgg_m.STAGES) + 1)
    ]
    return [*rows, *_linear(architecture)]


def linear_layers(architecture: Architecture) -> list[str]:
    """The names of the classifier's layers, in order."""
    if architecture.family == "resnet":
        return ["prediction"]
    return [f"fc{6 + place}" for place in range(len(architecture.classifier_options.get("hidden", ())) + 1)]


def _linear(architecture: Architecture) -> list[Row]:
    """The last layers, of which the first takes the whole grid."""
    *hidden, last = linear_layers(architecture)
    ours = [*(f"classifier/fc{number}" for number, _ in enumerate(hidden, 1)), "classifier/logits"]
    size = grid_of(architecture)
    kinds = [f"linear on {size}x{size}", *["linear"] * len(hidden)]
    return [*zip((*hidden, last), ours, kinds, strict=True)]


def grid_of(architecture: Architecture) -> int:
    """Height and width of what the first linear layer takes, in positions."""
    return architecture.representation_options.get("size", VGG_GRID)


def _require_fitting(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse filters that do not take what the filters before them give, before a network of such sizes is built."""
    taken = {
        after: tensors[before].shape[3] for before, after in pairwise((*HIDDEN, "fc8.filters")) if before in tensors
    }
    if REDUCTION in tensors:
        channels = tensors[REDUCTION].shape[3]
        taken["prediction.filters"] = channels * (channels + 1) // 2
    for name, count in taken.items():
        if name in tensors and tensors[name].shape[2] != count:
            raise ConversionError(f"{name} has the shape {tensors[name].shape}, where {count} inputs are given.")


def adapted(architecture: Architecture, described: Described, tensors: Mapping[str, np.ndarray]) -> Architecture:
    """The architecture with what a file says of it: numbers that its layers and the shapes of its tensors tell."""
    options: dict[str, dict[str, Any]] = {"features": {}, "representation": {}, "classifier": {}}
    _require_fitting(tensors)
    if architecture.family == "vgg_m":
        options["features"] |= described.options["features"]
    if architecture.representation == "mpncov":
        usual = {"iterations": ITERATIONS, "normalization": "trace"}
        said = described.options["representation"].items()
        options["representation"] |= {name: value for name, value in said if usual.get(name) != value}
        if REDUCTION in tensors and architecture.representation_options.get("dimension_reduction"):
            options["representation"]["dimension_reduction"] = tensors[REDUCTION].shape[3]
    if architecture.classifier_options.get("hidden") and all(name in tensors for name in HIDDEN):
        options["classifier"]["hidden"] = tuple(tensors[name].shape[3] for name in HIDDEN)
    return with_options(architecture, options)
