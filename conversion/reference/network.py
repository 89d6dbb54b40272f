"""Joins a peer's network, from the images to its last features, and the head that all families share."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from conversion.maps.tables import Row
from conversion.reference.covariance import covariance_stages, reduced_channels
from mpncov_zoo.architectures import Architecture

REPRESENTATIONS = ("gap", "flatten", "mpncov")
PYTORCHCV = "pytorchcv's network with the published head"


@dataclass(frozen=True)
class Peer:
    """A network of another project, and how to read it.

    Attributes:
        name: what certificates call it.
        trunk: the network; what it does after its last features does not matter.
        stages: our name of a stage -> the module of the trunk that takes it as its input; in order.
        channels: of the last stage.
        layers: a layer's name in the files of a family -> its name in `Network`. The longest name that fits decides,
            and stands for the layers within it, too.
    """

    name: str
    trunk: nn.Module
    stages: Mapping[str, str]
    channels: int
    layers: Mapping[str, str]

    def tensor(self, name: str) -> str:
        """The name in `Network` of a tensor in a file."""
        fitting = [layer for layer in self.layers if name.startswith(f"{layer}." if layer else "")]
        layer = max(fitting, key=len)
        return f"{self.layers[layer]}.{name[len(layer) :].removeprefix('.')}"


def layers_in_order(rows: list[Row], trunk: nn.Module) -> dict[str, str]:
    """`Peer.layers` of a trunk that has the layers of a family's files in the files' order."""
    theirs = [name for name, ours, _ in rows if ours.startswith("features/")]
    weighted = [name for name, module in trunk.named_modules() if [*module.parameters(recurse=False)]]
    return {name: f"trunk.{layer}" for name, layer in zip(theirs, weighted, strict=True)}


class Network(nn.Module):
    """The peer's trunk and the head; the forward gives every stage under our names.

    Args:
        peer: whose trunk.
        architecture: of the whole network, with one of REPRESENTATIONS.
        num_classes: length of the logits; 0 for none.

    Raises:
        ValueError: another representation, or an option that the published layer has not.
    """

    def __init__(self, peer: Peer, architecture: Architecture, num_classes: int):
        super().__init__()
        self.trunk = peer.trunk
        self.head = Head(architecture, peer.channels, num_classes)
        self.kept: dict[str, Tensor] = {}
        for stage, taker in peer.stages.items():
            self.trunk.get_submodule(taker).register_forward_pre_hook(partial(self._keep, stage))

    def _keep(self, stage: str, taker: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.kept[stage] = inputs[0]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (batch, 3, height, width) -> every stage by name, from the first of the trunk's to the logits.

        Feature maps are (batch, channels, height, width); covariance (batch, d, d), representation (batch, features)
        and logits (batch, num_classes).
        """
        self.trunk(x)
        stages, self.kept = self.kept, {}
        *_, last = stages.values()
        return {**stages, **self.head(last)}


class Head(nn.Module):
    """What follows the last features: a reduction where there is one, the representation, and linear layers."""

    def __init__(self, architecture: Architecture, channels: int, num_classes: int):
        super().__init__()
        if architecture.representation not in REPRESENTATIONS:
            raise ValueError(f"Allowed are {REPRESENTATIONS}. Received: {architecture.representation!r}")
        self.architecture = architecture
        self.size = architecture.representation_options.get("size", 7)  # of VGG's grid
        self.reduction = None
        features = channels * self.size**2 if architecture.representation == "flatten" else channels
        if architecture.representation == "mpncov":
            reduced = reduced_channels(architecture) or channels
            if reduced_channels(architecture) is not None:
                convolution = nn.Conv2d(channels, reduced, 1, bias=False)
                self.reduction = nn.Sequential(convolution, nn.BatchNorm2d(reduced), nn.ReLU())
            features = reduced * (reduced + 1) // 2
        self.classifier = None
        if num_classes:
            hidden = architecture.classifier_options.get("hidden", ())
            layers: list[nn.Module] = []
            for before, units in pairwise((features, *hidden)):
                layers += [nn.Linear(before, units), nn.ReLU(), nn.Dropout()]  # which does nothing in inference
            self.classifier = nn.Sequential(*layers, nn.Linear((features, *hidden)[-1], num_classes))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(batch, channels, height, width) -> the stages after the trunk's."""
        stages = {}
        if self.reduction is not None:
            stages["reduction"] = x = self.reduction(x)
        stages |= self.represent(x)
        if self.classifier is not None:
            stages["logits"] = self.classifier(stages["representation"])
        return stages

    def represent(self, x: Tensor) -> dict[str, Tensor]:
        """(batch, d, height, width) -> the representation (batch, features), and the covariance where there is one."""
        if self.architecture.representation == "mpncov":
            return covariance_stages(x, self.architecture)
        if self.architecture.representation == "gap":
            return {"representation": x.mean((2, 3))}
        return {"representation": nn.functional.adaptive_avg_pool2d(x, self.size).flatten(1)}
