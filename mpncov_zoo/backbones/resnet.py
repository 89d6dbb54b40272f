"""ResNet for ImageNet-sized images (He et al., CVPR 2016), as published for iSQRT-COV and by torchvision."""

from keras import KerasTensor, ops

from mpncov_zoo.backbones.blocks import conv_bn, max_pool

WIDTHS = (64, 128, 256, 512)
EXPANSION = {"basic": 1, "bottleneck": 4}


def resnet(
    inputs: KerasTensor, *, block: str, repeats: tuple[int, ...], last_stride: int = 2, conv1_stride: bool = False
) -> dict[str, KerasTensor]:
    """Stem and four stages.

    Args:
        inputs: images, (batch, height, width, channels).
        block: "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1).
        repeats: blocks in each of the four stages.
        conv1_stride: a bottleneck's stride sits on its first 1x1, as in the paper, instead of on its 3x3.
        last_stride: stride of the last stage; second-order pooling keeps 1, so that 14x14 positions remain at 224.

    Returns:
        The endpoints stem (1/4 of the size, 64 channels) and stage1..stage4 (1/4, 1/8, 1/16, and 1/16 or 1/32;
        64, 128, 256, 512 channels times the block's expansion).
    """
    x = conv_bn(inputs, 64, 7, prefix="stem", strides=2)
    x = max_pool(x, size=3, pad=1, name="stem_pool")
    endpoints = {"stem": x}
    for stage, (width, count, strides) in enumerate(zip(WIDTHS, repeats, (1, 2, 2, last_stride), strict=True), 1):
        for index in range(count):
            x = residual_block(
                x,
                width,
                block=block,
                strides=strides if index == 0 else 1,
                conv1_stride=conv1_stride,
                prefix=f"stage{stage}_block{index + 1}",
            )
        endpoints[f"stage{stage}"] = x
    return endpoints


def residual_block(
    x: KerasTensor, width: int, *, block: str, strides: int, conv1_stride: bool = False, prefix: str
) -> KerasTensor:
    """Return relu(x + F(x)); the shortcut is projected where the shape changes."""
    shortcut = x
    channels = width * EXPANSION[block]
    if strides != 1 or x.shape[-1] != channels:
        shortcut = conv_bn(x, channels, 1, prefix=f"{prefix}_shortcut", strides=strides, activation=None)
    if block == "bottleneck":
        first, second = (strides, 1) if conv1_stride else (1, strides)
        x = conv_bn(x, width, 1, prefix=prefix, index=1, strides=first)
        x = conv_bn(x, width, 3, prefix=prefix, index=2, strides=second)
        x = conv_bn(x, channels, 1, prefix=prefix, index=3, activation=None)
    else:
        x = conv_bn(x, width, 3, prefix=prefix, index=1, strides=strides)
        x = conv_bn(x, channels, 3, prefix=prefix, index=2, activation=None)
    return ops.relu(x + shortcut)
