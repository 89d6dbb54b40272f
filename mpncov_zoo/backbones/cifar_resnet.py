"""ResNet and pre-activation ResNet for small images (He et al., CVPR and ECCV 2016).

The last stage keeps stride 1, as in the published TensorFlow iSQRT-COV code: 16x16 positions remain of 32x32.
"""

from keras import KerasTensor, ops

from mpncov_zoo.backbones.blocks import batch_norm, conv, conv_bn
from mpncov_zoo.backbones.resnet import EXPANSION, residual_block

WIDTHS = (16, 32, 64)
STRIDES = (1, 2, 1)


def cifar_resnet(
    inputs: KerasTensor, *, block: str, repeats: int, preactivation: bool = False
) -> dict[str, KerasTensor]:
    """Stem and three stages.

    Args:
        inputs: images, (batch, height, width, channels).
        block: "basic" or "bottleneck".
        repeats: blocks in every stage.
        preactivation: normalise and rectify before each convolution instead of after it.

    Returns:
        The endpoints stem (full size, 16 channels) and stage1..stage3 (full, half, half size; 16, 32, 64 channels
        times the block's expansion).
    """
    if preactivation:
        x, build_block = conv(inputs, 16, 3, name="stem_conv"), preactivation_block
    else:
        x, build_block = conv_bn(inputs, 16, 3, prefix="stem"), residual_block
    endpoints = {"stem": x}
    for stage, (width, strides) in enumerate(zip(WIDTHS, STRIDES, strict=True), 1):
        for index in range(repeats):
            x = build_block(
                x, width, block=block, strides=strides if index == 0 else 1, prefix=f"stage{stage}_block{index + 1}"
            )
        endpoints[f"stage{stage}"] = x
    if preactivation:
        endpoints["stage3"] = ops.relu(batch_norm(x, name="final_bn"))
    return endpoints


def preactivation_block(x: KerasTensor, width: int, *, block: str, strides: int, prefix: str) -> KerasTensor:
    """Return x + F(x); a projected shortcut is taken after the first BN and ReLU, an identity one before them."""
    shortcut = x
    channels = width * EXPANSION[block]
    x = ops.relu(batch_norm(x, name=f"{prefix}_bn1"))
    if strides != 1 or shortcut.shape[-1] != channels:
        shortcut = conv(x, channels, 1, name=f"{prefix}_shortcut_conv", strides=strides)
    if block == "bottleneck":
        x = conv_bn(x, width, 1, prefix=prefix, index=1, bn_index=2)
        x = conv_bn(x, width, 3, prefix=prefix, index=2, bn_index=3, strides=strides)
        x = conv(x, channels, 1, name=f"{prefix}_conv3")
    else:
        x = conv_bn(x, width, 3, prefix=prefix, index=1, bn_index=2, strides=strides)
        x = conv(x, channels, 3, name=f"{prefix}_conv2")
    return x + shortcut
