"""The layers of EfficientNet-Lite under the names of efficientnet_lite_pytorch."""

from conversion.maps.tables import LAYER_REDUCE, Row, conv_and_bn, reduction
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones.efficientnet_lite import blocks


def efficientnet_lite(architecture: Architecture) -> list[Row]:
    """`_conv_stem`, `_blocks.0._depthwise_conv` ... `_conv_head`, `_fc`; the reduction is upstream's."""
    options = architecture.features_options
    rows = conv_and_bn(("_conv_stem", "_bn0"), "features/stem")
    for place, block in enumerate(blocks(options["width"], options["depth"])):
        ours = f"features/stage{block.stage}_block{block.index}"
        rows += _block(f"_blocks.{place}", ours, expanded=block.expansion != 1)
    rows += conv_and_bn(("_conv_head", "_bn1"), "features/head") + reduction(architecture, LAYER_REDUCE)
    return [*rows, ("_fc", "classifier/logits", "linear")]


def _block(theirs: str, ours: str, *, expanded: bool) -> list[Row]:
    expansion = conv_and_bn((f"{theirs}._expand_conv", f"{theirs}._bn0"), f"{ours}_expand") if expanded else []
    return [
        *expansion,
        *conv_and_bn((f"{theirs}._depthwise_conv", f"{theirs}._bn1"), f"{ours}_depthwise", kind="depthwise conv"),
        *conv_and_bn((f"{theirs}._project_conv", f"{theirs}._bn2"), f"{ours}_project"),
    ]
