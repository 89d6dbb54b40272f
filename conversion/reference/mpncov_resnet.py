"""The published mpncovresnet50/101 in PyTorch, with the tensor names of its published checkpoints."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

import torch
from torch import Tensor, nn

REPEATS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1; the shortcut is projected where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            projection = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, 4 width, height / stride, width / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return (self.bn3(self.conv3(x)) + shortcut).relu()


class MPNCOVResNet(nn.Module):
    """ResNet whose last stage keeps stride 1, a reduction to 256 channels, iSQRT-COV and one linear layer.

    Args:
        depth: 50 or 101.
        num_classes: length of the logits.
    """

    def __init__(self, depth: int, num_classes: int = 1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for index, (width, count, stride) in enumerate(
            zip((64, 128, 256, 512), REPEATS[depth], (1, 2, 2, 1), strict=True), 1
        ):
            blocks = [Bottleneck(channels, width, stride)]
            blocks += [Bottleneck(4 * width, width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
            channels = 4 * width
        self.layer_reduce = nn.Conv2d(channels, 256, 1, bias=False)
        self.layer_reduce_bn = nn.BatchNorm2d(256)
        self.fc = nn.Linear(256 * 257 // 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 3, height, width) -> logits (batch, num_classes)."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for index in range(1, 5):
            x = self.get_submodule(f"layer{index}")(x)
        x = self.layer_reduce_bn(self.layer_reduce(x)).relu()
        return self.fc(isqrt_covariance_vector(x))


def isqrt_covariance_vector(x: Tensor, iterations: int = 5) -> Tensor:
    """Covariance, trace normalisation, coupled Newton-Schulz, compensation, upper triangle: the published operations.

    Args:
        x: (batch, d, height, width).
        iterations: at least 2.

    Returns:
        (batch, d (d + 1) / 2), row by row.
    """
    batch, d, height, width = x.shape
    positions = height * width
    rows = x.reshape(batch, d, positions)
    centering = (torch.eye(positions, dtype=x.dtype, device=x.device) - 1 / positions) / positions
    covariance = rows @ centering @ rows.transpose(1, 2)
    identity3 = 3 * torch.eye(d, dtype=x.dtype, device=x.device)
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    a = covariance / trace
    step = 0.5 * (identity3 - a)
    y, z = a @ step, step
    for _ in range(iterations - 2):
        step = 0.5 * (identity3 - z @ y)
        y, z = y @ step, step @ z
    y = 0.5 * y @ (identity3 - z @ y) * trace.sqrt()
    row, column = torch.triu_indices(d, d, device=x.device)
    return y[:, row, column]
