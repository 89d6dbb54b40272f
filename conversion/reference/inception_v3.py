"""pytorchcv's Inception v3."""

# pyright: reportMissingImports=false
# (torch and pytorchcv are installed only where parity is checked)

from pytorchcv.models.inceptionv3 import inceptionv3
from torch import nn

from conversion.maps.inception_v3 import CONVOLUTIONS, torchvision_inception_v3
from conversion.reference.network import PYTORCHCV, Peer, layers_in_order
from mpncov_zoo.architectures import Architecture

CHANNELS = 2048  # of the last features


def torchvision(architecture: Architecture) -> Peer:
    """For files with torchvision's names, and upstream's for the reduction."""
    trunk = inceptionv3().features
    del trunk.final_pool
    layers = layers_in_order(torchvision_inception_v3(architecture), trunk)
    layers |= {"representation.conv_dr_block": "head.reduction", "fc": "head.classifier.0"}
    trunk.add_module("end", nn.Identity())
    stages = ("stage1", "stage2", "stage3")
    units = [f"{stage}.{unit}" for stage in stages for unit, _ in trunk.get_submodule(stage).named_children()]
    names = ["stem", *(module.lower() for module in CONVOLUTIONS if module)]
    return Peer(PYTORCHCV, trunk, dict(zip(names, [*units, "end"], strict=True)), CHANNELS, layers)
