"""pytorchcv's VGGs."""

# pyright: reportMissingImports=false
# (torch and pytorchcv are installed only where parity is checked)

from pytorchcv.models.vgg import VGG
from torch import nn

from conversion.reference.network import PYTORCHCV, Peer
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones.vgg import WIDTHS


def upstream(architecture: Architecture) -> Peer:
    """For files with the names of torchvision, and upstream's for the reduction and for a single linear layer."""
    options, hidden = architecture.features_options, architecture.classifier_options.get("hidden", ())
    layers = {
        "representation.conv_dr_block": "head.reduction",
        "classifier": "head.classifier" if hidden else "head.classifier.0",
    }
    number = 0  # every layer has one, the ReLU and the pool, too
    for stage, count in enumerate(options["repeats"], 1):
        for unit in range(1, count + 1):
            parts = ("conv", "bn", "relu") if options["batch_norm"] else ("conv", "relu")
            for part in parts:
                layers[f"features.{number}"] = f"trunk.stage{stage}.unit{unit}.{part}"
                number += 1
        number += 1
    channels = [[width] * count for width, count in zip(WIDTHS, options["repeats"], strict=True)]
    trunk = VGG(channels, use_bn=options["batch_norm"]).features
    trunk.add_module("end", nn.Identity())
    stages = {f"stage{stage}": f"stage{stage}.pool{stage}" for stage in range(1, len(WIDTHS) + 1)}
    if options.get("last_pool", True):
        stages["pool"] = "end"
    return Peer(PYTORCHCV, trunk, stages, WIDTHS[-1], layers)
