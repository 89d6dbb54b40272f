"""DenseNet-BC for ImageNet (Huang et al., CVPR 2017), as published by torchvision."""

from keras import KerasTensor, layers, ops

from mpncov_zoo.backbones.blocks import batch_norm, conv, conv_bn, max_pool

BOTTLENECK = 4  # channels of a layer's 1x1 convolution, in growths


def densenet(inputs: KerasTensor, *, stem: int, growth: int, repeats: tuple[int, ...]) -> dict[str, KerasTensor]:
    """Stem and four dense blocks; between them a transition halves the channels and the size.

    Args:
        inputs: images, (batch, height, width, channels).
        stem: channels of the first convolution.
        growth: channels that every layer adds.
        repeats: layers in each of the four blocks.

    Returns:
        The endpoints stem (1/4 of the size), stage1..stage4 (1/4, 1/8, 1/16, 1/32: what the dense blocks join, not
        rectified) and `norm` (1/32), the last one normalised and rectified.
    """
    x = conv_bn(inputs, stem, 7, prefix="stem", strides=2)
    x = max_pool(x, size=3, pad=1, name="stem_pool")
    endpoints = {"stem": x}
    for stage, count in enumerate(repeats, 1):
        if stage > 1:
            x = _transition(x, prefix=f"stage{stage - 1}_transition")
        for index in range(1, count + 1):
            x = _dense_layer(x, growth, prefix=f"stage{stage}_layer{index}")
        endpoints[f"stage{stage}"] = x
    endpoints["norm"] = ops.relu(batch_norm(x, name="final_bn"))
    return endpoints


def _dense_layer(x: KerasTensor, growth: int, *, prefix: str) -> KerasTensor:
    """The channels so far and `growth` new ones."""
    new = ops.relu(batch_norm(x, name=f"{prefix}_bn1"))
    new = conv_bn(new, BOTTLENECK * growth, 1, prefix=prefix, index=1, bn_index=2)
    new = conv(new, growth, 3, name=f"{prefix}_conv2")
    return layers.Concatenate(name=f"{prefix}_joined")([x, new])


def _transition(x: KerasTensor, *, prefix: str) -> KerasTensor:
    x = ops.relu(batch_norm(x, name=f"{prefix}_bn"))
    x = conv(x, x.shape[-1] // 2, 1, name=f"{prefix}_conv")
    return layers.AveragePooling2D(2, name=f"{prefix}_pool")(x)
