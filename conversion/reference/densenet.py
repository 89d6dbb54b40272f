"""pytorchcv's DenseNets."""

# pyright: reportMissingImports=false
# (torch and pytorchcv are installed only where parity is checked)

from pytorchcv.models.densenet import DenseNet
from torch import nn

from conversion.maps.densenet import torchvision_densenet
from conversion.reference.network import PYTORCHCV, Peer, layers_in_order
from mpncov_zoo.architectures import Architecture


def torchvision(architecture: Architecture) -> Peer:
    """For files with torchvision's names, and upstream's for the reduction."""
    options = architecture.features_options
    width, channels = options["stem"], []
    for count in options["repeats"]:
        channels.append([width + options["growth"] * layer for layer in range(1, count + 1)])
        width = channels[-1][-1] // 2
    trunk = DenseNet(channels, options["stem"]).features
    del trunk.final_pool
    layers = layers_in_order(torchvision_densenet(architecture), trunk)
    layers |= {"representation.conv_dr_block": "head.reduction", "classifier": "head.classifier.0"}
    trunk.add_module("end", nn.Identity())
    followers = [*(f"stage{stage}" for stage in range(1, len(channels) + 1)), "post_activ", "end"]
    names = ["stem", *followers[: len(channels)], "norm"]
    return Peer(PYTORCHCV, trunk, dict(zip(names, followers, strict=True)), channels[-1][-1], layers)
