"""The layers of ResNets under the names of upstream and torchvision, and under those of pytorchcv."""

from collections.abc import Callable, Iterator

from conversion.maps.tables import CONV_DR_BLOCK, LAYER_REDUCE, Row, conv_and_bn, reduction
from mpncov_zoo.architectures import Architecture

_CONVOLUTIONS = {"basic": 2, "bottleneck": 3}  # in a block

FINE_TUNED = {  # the published fine-tuning numbers the trunk's layers; 2, 3 and 10 are ReLU and pool
    "features.0": "conv1",
    "features.1": "bn1",
    **{f"features.{3 + stage}": f"layer{stage}" for stage in range(1, 5)},
    **dict(zip(("features.8", "features.9"), LAYER_REDUCE, strict=True)),
    **dict(zip(CONV_DR_BLOCK, LAYER_REDUCE, strict=True)),
    "classifier": "fc",
}


def upstream_resnet(architecture: Architecture) -> list[Row]:
    """Torchvision's names, with upstream's for the reduction: `conv1`, `layer1.0.conv1` ... `layer_reduce`, `fc`."""

    def convolution(stage: int, block: int, index: int) -> tuple[str, str]:
        return f"layer{stage}.{block}.conv{index}", f"layer{stage}.{block}.bn{index}"

    def shortcut(stage: int, block: int) -> tuple[str, str]:
        return f"layer{stage}.{block}.downsample.0", f"layer{stage}.{block}.downsample.1"

    blocks = _blocks(architecture, convolution, shortcut)
    head = [*reduction(architecture, LAYER_REDUCE), ("fc", "classifier/logits", "linear")]
    return [*conv_and_bn(("conv1", "bn1"), "features/stem"), *blocks, *head]


def pytorchcv_resnet(architecture: Architecture) -> list[Row]:
    """The names in pytorchcv: `features.init_block.conv.conv`, `features.stage1.unit1.body.conv1.conv` ... `output`."""

    def convolution(stage: int, block: int, index: int) -> tuple[str, str]:
        return _inside(f"features.stage{stage}.unit{block + 1}.body.conv{index}")

    def shortcut(stage: int, block: int) -> tuple[str, str]:
        return _inside(f"features.stage{stage}.unit{block + 1}.identity_conv")

    blocks = _blocks(architecture, convolution, shortcut)
    head = [*reduction(architecture, _inside("features.final_block")), ("output", "classifier/logits", "linear")]
    return [*conv_and_bn(_inside("features.init_block.conv"), "features/stem"), *blocks, *head]


def _inside(block: str) -> tuple[str, str]:
    return f"{block}.conv", f"{block}.bn"


def _blocks(
    architecture: Architecture,
    convolution: Callable[[int, int, int], tuple[str, str]],
    shortcut: Callable[[int, int], tuple[str, str]],
) -> Iterator[Row]:
    """The rows of the four stages. Two functions give the names of a convolution and of its normalisation there.

    Both take the stage, counted from 1, and the block, from 0; `convolution` also which one in the block, from 1.
    """
    kind = architecture.features_options["block"]
    for stage, count in enumerate(architecture.features_options["repeats"], 1):
        for block in range(count):
            ours = f"features/stage{stage}_block{block + 1}"
            for index in range(1, _CONVOLUTIONS[kind] + 1):
                yield from conv_and_bn(convolution(stage, block, index), ours, index)
            if block == 0 and (stage > 1 or kind == "bottleneck"):
                yield from conv_and_bn(shortcut(stage, block), f"{ours}_shortcut")
