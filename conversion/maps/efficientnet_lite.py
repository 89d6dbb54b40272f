"""EfficientNet-Lite's layers in the names of efficientnet_lite_pytorch."""

from conversion.maps.tables import Row
from mpncov_zoo.backbones.efficientnet_lite import blocks
from mpncov_zoo.registry import Architecture


def efficientnet_lite(architecture: Architecture) -> list[Row]:
    """`_conv_stem`, `_blocks.0._depthwise_conv` ... `_conv_head`, `_fc`; the reduction as in upstream's ResNet."""
    options = architecture.features_options
    rows = [("_conv_stem", "features/stem_conv", "conv"), ("_bn0", "features/stem_bn", "bn")]
    for place, block in enumerate(blocks(options["width"], options["depth"])):
        ours = f"features/stage{block.stage}_block{block.index}"
        rows += _block(f"_blocks.{place}", ours, expanded=block.expansion != 1)
    rows += [("_conv_head", "features/head_conv", "conv"), ("_bn1", "features/head_bn", "bn")]
    if architecture.representation_options.get("dimension_reduction") is not None:
        rows += [
            ("layer_reduce", "representation/reduction_conv", "conv"),
            ("layer_reduce_bn", "representation/reduction_bn", "bn"),
        ]
    return [*rows, ("_fc", "classifier/logits", "linear")]


def _block(theirs: str, ours: str, *, expanded: bool) -> list[Row]:
    expansion = [
        (f"{theirs}._expand_conv", f"{ours}_expand_conv", "conv"),
        (f"{theirs}._bn0", f"{ours}_expand_bn", "bn"),
    ]
    return [
        *(expansion if expanded else ()),
        (f"{theirs}._depthwise_conv", f"{ours}_depthwise_conv", "depthwise conv"),
        (f"{theirs}._bn1", f"{ours}_depthwise_bn", "bn"),
        (f"{theirs}._project_conv", f"{ours}_project_conv", "conv"),
        (f"{theirs}._bn2", f"{ours}_project_bn", "bn"),
    ]
