"""ResNets in PyTorch, upstream's with iSQRT-COV and torchvision's, with the tensor names of their checkpoints."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

from torch import Tensor, nn

from conversion.reference.covariance import covariance_stages, reduced_channels
from mpncov_zoo.registry import Architecture

WIDTHS = (64, 128, 256, 512)
EXPANSION = {"basic": 1, "bottleneck": 4}
REPRESENTATIONS = ("gap", "mpncov")


class ResNet(nn.Module):
    """Stem, four stages, the representation and one linear layer.

    Args:
        architecture: of a ResNet with one of REPRESENTATIONS.
        num_classes: length of the logits.

    Raises:
        ValueError: another representation, or an option that the published layer has not.
    """

    def __init__(self, architecture: Architecture, num_classes: int = 1000):
        super().__init__()
        if architecture.representation not in REPRESENTATIONS:
            raise ValueError(f"Allowed are {REPRESENTATIONS}. Received: {architecture.representation!r}")
        options = dict(architecture.features_options)
        kind, repeats = options.pop("block"), options.pop("repeats")
        strides = (1, 2, 2, options.pop("last_stride", 2))
        self.architecture = architecture
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for index, (width, count, stride) in enumerate(zip(WIDTHS, repeats, strides, strict=True), 1):
            stage = [Block(channels, width, stride, kind, **options)]
            channels = width * EXPANSION[kind]
            stage += [Block(channels, width, 1, kind, **options) for _ in range(count - 1)]
            self.add_module(f"layer{index}", nn.Sequential(*stage))
        self.layer_reduce = None
        if architecture.representation == "mpncov":
            channels = self._reduce(channels, reduced_channels(architecture))
            channels = channels * (channels + 1) // 2
        self.fc = nn.Linear(channels, num_classes)

    def _reduce(self, channels: int, reduced: int | None) -> int:
        if reduced is None:
            return channels
        self.layer_reduce = nn.Conv2d(channels, reduced, 1, bias=False)
        self.layer_reduce_bn = nn.BatchNorm2d(reduced)
        return reduced

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (batch, 3, height, width) -> every stage by name, stem to logits.

        Feature maps are (batch, channels, height, width); covariance (batch, d, d), representation (batch, features)
        and logits (batch, num_classes).
        """
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        outputs = {"stem": x}
        for index in range(1, 5):
            outputs[f"stage{index}"] = x = self.get_submodule(f"layer{index}")(x)
        outputs |= self._represent(x)
        return {**outputs, "logits": self.fc(outputs["representation"])}

    def _represent(self, x: Tensor) -> dict[str, Tensor]:
        if self.architecture.representation == "gap":
            return {"representation": x.mean((2, 3))}
        if self.layer_reduce is None:
            return covariance_stages(x, self.architecture)
        x = self.layer_reduce_bn(self.layer_reduce(x)).relu()
        return {"reduction": x, **covariance_stages(x, self.architecture)}


class Block(nn.Module):
    """Two 3x3 ("basic") or 1x1, 3x3, 1x1 ("bottleneck"); the shortcut is projected where the shape changes.

    Args:
        channels: of the input.
        width: channels of the 3x3.
        stride: of the first 3x3.
        kind: "basic" or "bottleneck".
        conv1_stride: a bottleneck's stride sits on its first 1x1 instead.
    """

    def __init__(self, channels: int, width: int, stride: int, kind: str, conv1_stride: bool = False):
        super().__init__()
        first, second = (stride, 1) if conv1_stride else (1, stride)
        outputs = width * EXPANSION[kind]
        layers = {
            "basic": ((width, 3, stride), (outputs, 3, 1)),
            "bottleneck": ((width, 1, first), (width, 3, second), (outputs, 1, 1)),
        }[kind]
        self.convolutions = len(layers)
        before = channels
        for index, (filters, size, step) in enumerate(layers, 1):
            self.add_module(f"conv{index}", nn.Conv2d(before, filters, size, step, size // 2, bias=False))
            self.add_module(f"bn{index}", nn.BatchNorm2d(filters))
            before = filters
        self.downsample = None
        if stride != 1 or channels != outputs:
            projection = nn.Conv2d(channels, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, outputs, ceil(height / stride), ceil(width / stride))."""
        y, shortcut = x, x if self.downsample is None else self.downsample(x)
        for index in range(1, self.convolutions + 1):
            y = self.get_submodule(f"bn{index}")(self.get_submodule(f"conv{index}")(y))
            y = y.relu() if index < self.convolutions else y
        return (y + shortcut).relu()
