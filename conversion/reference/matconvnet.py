"""MatConvNet's networks in PyTorch: pytorchcv's where there is one, VGG-M as MatConvNet lists its layers."""

# pyright: reportMissingImports=false
# (torch and pytorchcv are installed only where parity is checked)

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from conversion.reference import resnet as pytorchcv_resnet
from conversion.reference import vgg as pytorchcv_vgg
from conversion.reference.network import Network, Peer
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones import vgg_m as ours

LISTED = "MatConvNet's list of layers in PyTorch"
LEAVES = {
    "filters": "weight",
    "biases": "bias",
    "multipliers": "weight",
    "mean": "running_mean",
    "variance": "running_var",
}


def resnet(architecture: Architecture) -> Peer:
    """pytorchcv's, under MatConvNet's names: stages from 2 on, and a letter for each convolution of a block."""
    peer = pytorchcv_resnet.upstream(architecture)
    layers = {
        "conv1_conv": "trunk.init_block.conv.conv",
        "conv1_bn": "trunk.init_block.conv.bn",
        "conv_for_cova_conv": "head.reduction.0",
        "conv_for_cova_bn": "head.reduction.1",
        "prediction": "head.classifier.0",
    }
    for stage, count in enumerate(architecture.features_options["repeats"], 1):
        for block in range(1, count + 1):
            theirs, own = f"conv{stage + 1}_{block}", f"trunk.stage{stage}.unit{block}"
            places = {"_adapt_conv": "identity_conv", "a": "body.conv1", "b": "body.conv2", "c": "body.conv3"}
            for suffix, place in places.items():
                layers |= {f"{theirs}{suffix}_{leaf}": f"{own}.{place}.{leaf}" for leaf in ("conv", "bn")}
    return Peer(peer.name, peer.trunk, peer.stages, peer.channels, layers)


def vgg(architecture: Architecture) -> Peer:
    """pytorchcv's, under MatConvNet's names."""
    peer = pytorchcv_vgg.upstream(architecture)
    layers = {
        f"conv{stage}_{unit}": f"trunk.stage{stage}.unit{unit}.conv"
        for stage, count in enumerate(architecture.features_options["repeats"], 1)
        for unit in range(1, count + 1)
    }
    return Peer(peer.name, peer.trunk, peer.stages, peer.channels, layers | _linear(architecture))


def vgg_m(architecture: Architecture) -> Peer:
    """`cnn_imagenet_init`'s layers."""
    depth, kappa, alpha, beta = architecture.features_options.get("local_response", ours.LOCAL_RESPONSE)
    trunk, channels = nn.Sequential(), 3
    for stage, (width, size, stride, pad) in enumerate(ours.STAGES, 1):
        trunk.add_module(f"conv{stage}", nn.Conv2d(channels, width, size, stride, pad))
        trunk.add_module(f"relu{stage}", nn.ReLU())
        if stage in ours.POOLED:
            trunk.add_module(f"norm{stage}", nn.LocalResponseNorm(depth, alpha * depth, beta, kappa))
        below = ours.POOLED.get(stage, 0)
        trunk.add_module(f"pad{stage}", nn.ZeroPad2d((0, below, 0, below)) if below else nn.Identity())
        pooled = stage in ours.POOLED or stage == len(ours.STAGES)
        trunk.add_module(f"pool{stage}", nn.MaxPool2d(3, 2) if pooled else nn.Identity())
        channels = width
    trunk.add_module("end", nn.Identity())
    stages = {f"stage{stage}": f"pad{stage}" for stage in range(1, len(ours.STAGES) + 1)}
    if architecture.features_options.get("last_pool", True):
        stages["pool"] = "end"
    layers = {f"conv{stage}": f"trunk.conv{stage}" for stage in range(1, len(ours.STAGES) + 1)}
    return Peer(LISTED, trunk, stages, channels, layers | _linear(architecture))


def _linear(architecture: Architecture) -> dict[str, str]:
    hidden = len(architecture.classifier_options.get("hidden", ()))
    return {f"fc{6 + place}": f"head.classifier.{3 * place}" for place in range(hidden + 1)}


def by_layer(peer: Peer, network: Network, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """MatConvNet's weights in PyTorch's names and orders of axes."""
    state = {}
    for name, value in weights.items():
        layer, _, leaf = name.rpartition(".")
        target = peer.tensor(f"{layer}.{LEAVES[leaf]}")
        module = network.get_submodule(target.rpartition(".")[0])
        state[target] = value if leaf != "filters" else _filters(module, value, network.head.architecture)
    return state


def _filters(module: nn.Module, value: np.ndarray, architecture: Architecture) -> np.ndarray:
    """(height, width, in, out) -> (out, in, height, width), or (out, in) of a linear layer."""
    filters = value.transpose(3, 2, 0, 1)
    if not isinstance(module, nn.Linear):
        return filters
    matrix = filters.reshape(len(filters), -1)
    on_triangle = architecture.representation == "mpncov" and not architecture.classifier_options.get("hidden")
    return matrix[:, _by_columns(matrix.shape[1])] if on_triangle else matrix


def _by_columns(length: int) -> np.ndarray:
    """Where each entry of an upper triangle row by row lies in one column by column, which MatConvNet has.

    Columns of the upper triangle are the rows of the lower one: entries are numbered there, and read from here.
    """
    d = int((2 * length) ** 0.5)
    places = torch.zeros((d, d), dtype=torch.int64)
    lower = torch.tril_indices(d, d)
    places[lower[1], lower[0]] = torch.arange(length)
    upper = torch.triu_indices(d, d)
    return places[upper[0], upper[1]].numpy()
