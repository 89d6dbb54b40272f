"""AlexNet (Krizhevsky, One weird trick, arXiv 1404.5997), as published by torchvision: one column, no normalisation."""

from keras import KerasTensor, ops

from mpncov_zoo.backbones.blocks import conv, max_pool

STAGES = (((64, 11),), ((192, 5),), ((384, 3), (256, 3), (256, 3)))  # channels and size of every convolution


def alexnet(inputs: KerasTensor, *, last_pool: bool = True) -> dict[str, KerasTensor]:
    """Five convolutions in three stages, a 3x3 max-pool with stride 2 after each stage.

    Args:
        inputs: images, (batch, height, width, channels).
        last_pool: False leaves out the max-pool after stage 3, as second-order pooling does.

    Returns:
        The endpoints stage1..stage3, each before its pool (55x55, 27x27 and 13x13 positions at 224; 64, 192, 256
        channels), and `pool` (6x6) where there is a last pool.
    """
    x, endpoints = inputs, {}
    for stage, convolutions in enumerate(STAGES, 1):
        if stage > 1:
            x = max_pool(x, size=3, name=f"stage{stage - 1}_pool")
        for index, (width, size) in enumerate(convolutions, 1):
            strides, pad = (4, 2) if stage == 1 else (1, None)
            name = f"stage{stage}_conv{index}"
            x = ops.relu(conv(x, width, size, name=name, strides=strides, use_bias=True, pad=pad))
        endpoints[f"stage{stage}"] = x
    if last_pool:
        endpoints["pool"] = max_pool(x, size=3, name="stage3_pool")
    return endpoints
