"""EfficientNet-Lite's layers in the names of efficientnet_lite_pytorch."""

from conversion.maps.tables import Row
from mpncov_zoo.registry import Architecture


def efficientnet_lite(architecture: Architecture) -> list[Row]:
    """`_conv_stem`, `_blocks.0._depthwise_conv` ... `_conv_head`, `_fc`."""
    raise NotImplementedError
