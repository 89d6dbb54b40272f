"""Which tensor of a published checkpoint is which variable of ours, as tables: one function a family of names.

A table has a row a layer: its name there, its name here, and its kind, which says what the layer's tensors are called
on both sides and how their axes are ordered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mpncov_zoo.registry import Architecture

Transform = Callable[[np.ndarray], np.ndarray]
Row = tuple[str, str, str]  # their layer, our layer, kind

UNUSED_LEAVES = ("num_batches_tracked",)  # counts training steps; nothing here corresponds to it


@dataclass(frozen=True)
class Step:
    """One tensor's way: from the checkpoint's name to the variable's, and how its axes change."""

    source: str
    target: str
    transform: str  # a name out of TRANSFORMS


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def _convolution(kernel: np.ndarray) -> np.ndarray:
    """(out, in, height, width) -> (height, width, in, out)."""
    return kernel.transpose(2, 3, 1, 0)


TRANSFORMS: Mapping[str, Transform] = {
    "as it is": _as_it_is,
    "OIHW to HWIO": _convolution,
    "transposed": np.transpose,
}
PYTORCH_KINDS: Mapping[str, tuple[tuple[str, str, str], ...]] = {  # their leaf, our leaf, transform
    "conv": (("weight", "kernel", "OIHW to HWIO"),),
    "conv with bias": (("weight", "kernel", "OIHW to HWIO"), ("bias", "bias", "as it is")),
    "bn": (
        ("weight", "gamma", "as it is"),
        ("bias", "beta", "as it is"),
        ("running_mean", "moving_mean", "as it is"),
        ("running_var", "moving_variance", "as it is"),
    ),
    "linear": (("weight", "kernel", "transposed"), ("bias", "bias", "as it is")),
}


def pytorch_steps(rows: list[Row]) -> list[Step]:
    """A table of layers as one of tensors, in PyTorch's names and orders of axes."""
    return [
        Step(f"{theirs}.{leaf}", f"{ours}/{variable}", transform)
        for theirs, ours, kind in rows
        for leaf, variable, transform in PYTORCH_KINDS[kind]
    ]


def upstream_resnet(architecture: Architecture) -> list[Row]:
    """Torchvision's names, and upstream's for the reduction: `conv1`, `layer1.0.conv1` ... `layer_reduce`, `fc`."""
    options = architecture.features_options
    convolutions = {"basic": 2, "bottleneck": 3}[options["block"]]
    rows = [("conv1", "features/stem_conv", "conv"), ("bn1", "features/stem_bn", "bn")]
    for stage, count in enumerate(options["repeats"], 1):
        for block in range(count):
            theirs, ours = f"layer{stage}.{block}", f"features/stage{stage}_block{block + 1}"
            for index in range(1, convolutions + 1):
                rows += [
                    (f"{theirs}.conv{index}", f"{ours}_conv{index}", "conv"),
                    (f"{theirs}.bn{index}", f"{ours}_bn{index}", "bn"),
                ]
            if block == 0 and (stage > 1 or options["block"] == "bottleneck"):
                rows += [
                    (f"{theirs}.downsample.0", f"{ours}_shortcut_conv", "conv"),
                    (f"{theirs}.downsample.1", f"{ours}_shortcut_bn", "bn"),
                ]
    if architecture.representation_options.get("dimension_reduction") is not None:
        rows += [
            ("layer_reduce", "representation/reduction_conv", "conv"),
            ("layer_reduce_bn", "representation/reduction_bn", "bn"),
        ]
    return [*rows, ("fc", "classifier/logits", "linear")]


def upstream_vgg(architecture: Architecture) -> list[Row]:
    """Torchvision's names, and upstream's for the reduction: `features.0` ... `representation.conv_dr_block.0`."""
    options = architecture.features_options
    rows, index = [], 0
    for stage, count in enumerate(options["repeats"], 1):
        for convolution in range(1, count + 1):
            rows.append((f"features.{index}", f"features/stage{stage}_conv{convolution}", "conv with bias"))
            if options["batch_norm"]:
                rows.append((f"features.{index + 1}", f"features/stage{stage}_bn{convolution}", "bn"))
            index += 3 if options["batch_norm"] else 2  # the ReLU has a number, too
        index += 1  # the max-pool
    if architecture.representation_options.get("dimension_reduction") is not None:
        rows += [
            ("representation.conv_dr_block.0", "representation/reduction_conv", "conv"),
            ("representation.conv_dr_block.1", "representation/reduction_bn", "bn"),
        ]
    hidden = len(architecture.classifier_options.get("hidden", ()))
    names = [f"fc{number}" for number in range(1, hidden + 1)] + ["logits"]
    return rows + [(f"classifier.{3 * place}", f"classifier/{name}", "linear") for place, name in enumerate(names)]
