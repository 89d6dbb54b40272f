"""EfficientNet-Lite: EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation, with ReLU6."""

from functools import partial
from math import ceil
from typing import NamedTuple

from keras import KerasTensor, layers, ops

from mpncov_zoo.backbones.blocks import BATCH_NORM_TENSORFLOW, conv_bn

STEM, HEAD = 32, 1280  # channels, the same in every width
STAGES = (  # kernel size, repeats, stride, expansion, channels; of width 1 and depth 1
    (3, 1, 1, 1, 16),
    (3, 2, 2, 6, 24),
    (5, 2, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (5, 3, 1, 6, 112),
    (5, 4, 2, 6, 192),
    (3, 1, 1, 6, 320),
)

layer = partial(conv_bn, same=True, constants=BATCH_NORM_TENSORFLOW, activation=ops.relu6)


class Block(NamedTuple):
    """One inverted residual: its stage and its place there, both from 1, its depthwise convolution and its channels."""

    stage: int
    index: int
    kernel: int
    strides: int
    expansion: int
    channels: int


def blocks(width: float, depth: float) -> list[Block]:
    """The blocks of all stages, in order; the depth of the first and of the last stage is not scaled."""
    rows = []
    for stage, (kernel, repeats, strides, expansion, channels) in enumerate(STAGES, 1):
        count = repeats if stage in (1, len(STAGES)) else ceil(depth * repeats)
        for index in range(1, count + 1):
            first = strides if index == 1 else 1
            rows.append(Block(stage, index, kernel, first, expansion, scaled(channels, width)))
    return rows


def scaled(channels: int, width: float) -> int:
    """The nearest multiple of 8, but none more than a tenth below `channels * width`."""
    wanted = channels * width
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8


def efficientnet_lite(
    inputs: KerasTensor, *, width: float, depth: float, drop_connect: float = 0.0
) -> dict[str, KerasTensor]:
    """Stem, seven stages of inverted residuals, head.

    Padding is TensorFlow's SAME throughout, batch normalisation has TensorFlow's constants.

    Args:
        inputs: images, (batch, height, width, channels).
        width: factor on the channels of the stages.
        depth: factor on the number of blocks in a stage.
        drop_connect: how often, in training, an image skips a block (stochastic depth): from 0 at the first block
            growing linearly towards this rate after the last.

    Returns:
        The endpoints stem (1/2 of the size, 32 channels), stage1..stage7 (1/2, 1/4, 1/8, 1/16, 1/16, 1/32, 1/32; at
        width 1 16, 24, 40, 80, 112, 192, 320 channels) and head (1/32, 1280 channels).
    """
    x = layer(inputs, STEM, 3, prefix="stem", strides=2)
    endpoints, rows = {"stem": x}, blocks(width, depth)
    for place, block in enumerate(rows):
        x = inverted_residual(x, block, drop=drop_connect * place / len(rows))
        endpoints[f"stage{block.stage}"] = x  # the last block of a stage stays
    endpoints["head"] = layer(x, HEAD, 1, prefix="head")
    return endpoints


def inverted_residual(x: KerasTensor, block: Block, *, drop: float = 0.0) -> KerasTensor:
    """Expand, convolve every channel, project; x is added where the shape is kept, F(x) then dropped at rate `drop`."""
    shortcut, prefix = x, f"stage{block.stage}_block{block.index}"
    if block.expansion != 1:
        x = layer(x, x.shape[-1] * block.expansion, 1, prefix=f"{prefix}_expand")
    x = layer(x, None, block.kernel, prefix=f"{prefix}_depthwise", strides=block.strides)
    x = layer(x, block.channels, 1, prefix=f"{prefix}_project", activation=None)
    if block.strides != 1 or shortcut.shape[-1] != block.channels:
        return x
    if drop:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{prefix}_drop")(x)
    return x + shortcut
