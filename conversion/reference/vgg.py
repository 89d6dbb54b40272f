"""VGGs in PyTorch, upstream's with iSQRT-COV and torchvision's, with the tensor names of their checkpoints."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

from itertools import pairwise

from torch import Tensor, nn

from conversion.reference.covariance import covariance_stages, reduced_channels
from mpncov_zoo.registry import Architecture

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, the representation, and linear layers.

    Args:
        architecture: of a VGG with one of REPRESENTATIONS.
        num_classes: length of the logits.

    Raises:
        ValueError: another representation, or an option that the published layer has not.
    """

    def __init__(self, architecture: Architecture, num_classes: int = 1000):
        super().__init__()
        if architecture.representation not in REPRESENTATIONS:
            raise ValueError(f"Allowed are {(*REPRESENTATIONS,)}. Received: {architecture.representation!r}")
        self.features = _features(**architecture.features_options)
        self.last = "pool" if isinstance(self.features[-1], nn.MaxPool2d) else f"stage{len(WIDTHS)}"
        self.representation = REPRESENTATIONS[architecture.representation](architecture)
        self.classifier = _classifier(self.representation.features, num_classes, **architecture.classifier_options)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (batch, 3, height, width) -> every stage by name, stage1 to logits.

        Feature maps are (batch, channels, height, width), stages those before their pool; covariance (batch, d, d),
        representation (batch, features) and logits (batch, num_classes).
        """
        outputs = {}
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                outputs[f"stage{len(outputs) + 1}"] = x
            x = layer(x)
        outputs = {**outputs, self.last: x, **self.representation(x)}
        return {**outputs, "logits": self.classifier(outputs["representation"])}


def _features(repeats: tuple[int, ...], batch_norm: bool = False, last_pool: bool = True) -> nn.Sequential:
    layers, channels = [], 3
    for width, count in zip(WIDTHS, repeats, strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] if batch_norm else []
            layers.append(nn.ReLU())
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*(layers if last_pool else layers[:-1]))


def _classifier(
    features: int, num_classes: int, hidden: tuple[int, ...] = (), dropout: float = 0.0
) -> nn.Sequential | nn.Linear:
    """One linear layer, or hidden ones before it with ReLU and dropout; the published one layer has no number."""
    if not hidden:
        return nn.Linear(features, num_classes)
    layers: list[nn.Module] = []
    for before, units in pairwise((features, *hidden)):
        layers += [nn.Linear(before, units), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], num_classes))


class Covariance(nn.Module):
    """1x1 reduction, batch normalisation and ReLU, then iSQRT-COV."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        channels, reduced = WIDTHS[-1], reduced_channels(architecture)
        self.conv_dr_block = None
        if reduced is not None:
            layers = nn.Conv2d(channels, reduced, 1, bias=False), nn.BatchNorm2d(reduced), nn.ReLU()
            self.conv_dr_block, channels = nn.Sequential(*layers), reduced
        self.features = channels * (channels + 1) // 2

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(batch, channels, height, width) -> reduction, covariance and representation."""
        if self.conv_dr_block is None:
            return covariance_stages(x, self.architecture)
        x = self.conv_dr_block(x)
        return {"reduction": x, **covariance_stages(x, self.architecture)}


class Grid(nn.Module):
    """Averaged to size x size and flattened, channels first."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        size = architecture.representation_options.get("size", 7)
        self.pool = nn.AdaptiveAvgPool2d(size)
        self.features = WIDTHS[-1] * size * size

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(batch, channels, height, width) -> representation (batch, channels size size)."""
        return {"representation": self.pool(x).flatten(1)}


REPRESENTATIONS = {"flatten": Grid, "mpncov": Covariance}
