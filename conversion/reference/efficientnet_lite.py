"""The EfficientNet-Lite of the package whose weights are published, efficientnet_lite_pytorch."""

# pyright: reportMissingImports=false
# (torch and the package are installed only where parity is checked)

from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from conversion.reference.network import Peer
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones.efficientnet_lite import HEAD, blocks


def published(architecture: Architecture) -> Peer:
    """For files with the package's own names, and upstream's for the reduction that nobody published."""
    options = architecture.features_options
    trunk = EfficientNet.from_name(
        "efficientnet-lite0",  # all of them differ in these two numbers, and in the size of the images
        width_coefficient=options["width"],
        depth_coefficient=options["depth"],
        image_size=None,  # padding follows the image at hand, as TensorFlow's SAME does
    )
    trunk._fc = nn.Identity()
    stages = {"stem": "_blocks.0"}
    for index, block in enumerate(blocks(options["width"], options["depth"]), 1):
        stages[f"stage{block.stage}"] = f"_blocks.{index}" if index < len(trunk._blocks) else "_conv_head"
    layers = {
        "": "trunk",
        "layer_reduce": "head.reduction.0",
        "layer_reduce_bn": "head.reduction.1",
        "_fc": "head.classifier.0",
    }
    stages["head"] = "_avg_pooling"
    return Peer("efficientnet_lite_pytorch's network", trunk, stages, HEAD, layers)
