"""pytorchcv's ResNets: the plain ones, and those of its iSQRT-COV networks, whose last stage keeps stride 1."""

# pyright: reportMissingImports=false
# (torch and pytorchcv are installed only where parity is checked)

from collections.abc import Mapping

from pytorchcv.models.isqrtcovresnet import iSQRTCOVResNet
from pytorchcv.models.resnet import ResNet
from torch import nn

from conversion.reference.network import PYTORCHCV, Peer
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones.resnet import EXPANSION, WIDTHS


def pytorchcv(architecture: Architecture) -> Peer:
    """For files with pytorchcv's own names."""
    head = {
        "features.final_block.conv": "head.reduction.0",
        "features.final_block.bn": "head.reduction.1",
        "output": "head.classifier.0",
    }
    return _peer(architecture, {"features": "trunk", **head})


def upstream(architecture: Architecture) -> Peer:
    """For files with the names of torchvision, and upstream's for the reduction."""
    layers = {
        "conv1": "trunk.init_block.conv.conv",
        "bn1": "trunk.init_block.conv.bn",
        "layer_reduce": "head.reduction.0",
        "layer_reduce_bn": "head.reduction.1",
        "fc": "head.classifier.0",
    }
    for stage, count in enumerate(architecture.features_options["repeats"], 1):
        for block in range(count):
            theirs, ours = f"layer{stage}.{block}", f"trunk.stage{stage}.unit{block + 1}"
            layers |= {f"{theirs}.conv{place}": f"{ours}.body.conv{place}.conv" for place in (1, 2, 3)}
            layers |= {f"{theirs}.bn{place}": f"{ours}.body.conv{place}.bn" for place in (1, 2, 3)}
            layers |= {f"{theirs}.downsample.0": f"{ours}.identity_conv.conv"}
            layers |= {f"{theirs}.downsample.1": f"{ours}.identity_conv.bn"}
    return _peer(architecture, layers)


def _peer(architecture: Architecture, layers: Mapping[str, str]) -> Peer:
    options = architecture.features_options
    widths = [width * EXPANSION[options["block"]] for width in WIDTHS]
    published = {
        "channels": [[width] * count for width, count in zip(widths, options["repeats"], strict=True)],
        "init_block_channels": WIDTHS[0],
        "bottleneck": options["block"] == "bottleneck",
        "conv1_stride": options.get("conv1_stride", False),
    }
    if options.get("last_stride", 2) == 1:
        features = iSQRTCOVResNet(**published, final_block_channels=1).features
    else:
        features = ResNet(**published).features
    trunk = nn.Sequential()
    for name in ("init_block", "stage1", "stage2", "stage3", "stage4"):
        trunk.add_module(name, features.get_submodule(name))
    trunk.add_module("end", nn.Identity())
    stages = {"stem": "stage1", "stage1": "stage2", "stage2": "stage3", "stage3": "stage4", "stage4": "end"}
    return Peer(PYTORCHCV, trunk, stages, widths[-1], layers)
