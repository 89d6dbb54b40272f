"""The ResNets' layers in the names of upstream and torchvision, and in those of pytorchcv."""

from collections.abc import Callable, Iterator

from conversion.maps.tables import Row
from mpncov_zoo.registry import Architecture

_CONVOLUTIONS = {"basic": 2, "bottleneck": 3}  # in a block


def upstream_resnet(architecture: Architecture) -> list[Row]:
    """Torchvision's names, and upstream's for the reduction: `conv1`, `layer1.0.conv1` ... `layer_reduce`, `fc`."""

    def convolution(stage: int, block: int, index: int) -> tuple[str, str]:
        return f"layer{stage}.{block}.conv{index}", f"layer{stage}.{block}.bn{index}"

    def shortcut(stage: int, block: int) -> tuple[str, str]:
        return f"layer{stage}.{block}.downsample.0", f"layer{stage}.{block}.downsample.1"

    blocks = _blocks(architecture, convolution, shortcut)
    return _network(architecture, ("conv1", "bn1"), blocks, ("layer_reduce", "layer_reduce_bn"), "fc")


def pytorchcv_resnet(architecture: Architecture) -> list[Row]:
    """The names in pytorchcv: `features.init_block.conv.conv`, `features.stage1.unit1.body.conv1.conv` ... `output`."""

    def convolution(stage: int, block: int, index: int) -> tuple[str, str]:
        return _conv_and_bn(f"features.stage{stage}.unit{block + 1}.body.conv{index}")

    def shortcut(stage: int, block: int) -> tuple[str, str]:
        return _conv_and_bn(f"features.stage{stage}.unit{block + 1}.identity_conv")

    stem, reduction = _conv_and_bn("features.init_block.conv"), _conv_and_bn("features.final_block")
    return _network(architecture, stem, _blocks(architecture, convolution, shortcut), reduction, "output")


def _conv_and_bn(name: str) -> tuple[str, str]:
    return f"{name}.conv", f"{name}.bn"


def _network(
    architecture: Architecture, stem: tuple[str, str], blocks: Iterator[Row], reduction: tuple[str, str], linear: str
) -> list[Row]:
    rows = [*_pair(stem, "features/stem"), *blocks]
    if architecture.representation_options.get("dimension_reduction") is not None:
        rows += _pair(reduction, "representation/reduction")
    return [*rows, (linear, "classifier/logits", "linear")]


def _blocks(
    architecture: Architecture,
    convolution: Callable[[int, int, int], tuple[str, str]],
    shortcut: Callable[[int, int], tuple[str, str]],
) -> Iterator[Row]:
    """The rows of the four stages; their names of a convolution and its normalisation come from two functions.

    Both take the stage, counted from 1, and the block, from 0; `convolution` also which one in the block, from 1.
    """
    kind = architecture.features_options["block"]
    for stage, count in enumerate(architecture.features_options["repeats"], 1):
        for block in range(count):
            ours = f"features/stage{stage}_block{block + 1}"
            for index in range(1, _CONVOLUTIONS[kind] + 1):
                yield from _pair(convolution(stage, block, index), ours, index)
            if block == 0 and (stage > 1 or kind == "bottleneck"):
                yield from _pair(shortcut(stage, block), f"{ours}_shortcut")


def _pair(theirs: tuple[str, str], ours: str, index: int | str = "") -> list[Row]:
    return [(theirs[0], f"{ours}_conv{index}", "conv"), (theirs[1], f"{ours}_bn{index}", "bn")]
