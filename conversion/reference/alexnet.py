"""pytorchcv's AlexNet of torchvision's kind."""

# pyright: reportMissingImports=false
# (torch and pytorchcv are installed only where parity is checked)

from pytorchcv.models.alexnet import alexnetb
from torch import nn

from conversion.maps.alexnet import torchvision_alexnet
from conversion.reference.network import PYTORCHCV, Peer, layers_in_order
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones.alexnet import STAGES


def torchvision(architecture: Architecture) -> Peer:
    """For files with torchvision's names, and upstream's for the reduction and for a single linear layer."""
    trunk = alexnetb().features
    for stage in range(1, len(STAGES) + 1):
        trunk.get_submodule(f"stage{stage}.pool{stage}").ceil_mode = False  # torchvision drops what is left over
    rows = torchvision_alexnet(architecture)
    linear = [theirs for theirs, _, kind in rows if kind == "linear"]
    layers = layers_in_order(rows, trunk)
    layers |= {
        theirs: f"head.classifier.{3 * place}" for place, theirs in enumerate(linear)
    }  # ReLU and dropout between
    layers |= {"representation.conv_dr_block": "head.reduction"}
    trunk.add_module("end", nn.Identity())
    stages = {f"stage{stage}": f"stage{stage}.pool{stage}" for stage in range(1, len(STAGES) + 1)}
    if architecture.features_options.get("last_pool", True):
        stages["pool"] = "end"
    return Peer(PYTORCHCV, trunk, stages, STAGES[-1][-1][0], layers)
