"""VGG (Simonyan and Zisserman, ICLR 2015): convolution biases, optional batch normalisation."""

from keras import KerasTensor, ops

from mpncov_zoo.backbones.blocks import conv, conv_bn, max_pool

WIDTHS = (64, 128, 256, 512, 512)


def vgg(
    inputs: KerasTensor, *, repeats: tuple[int, ...], batch_norm: bool = False, last_pool: bool = True
) -> dict[str, KerasTensor]:
    """Five stages of 3x3 convolutions, a 2x2 max-pool after each.

    Args:
        inputs: images, (batch, height, width, channels).
        repeats: convolutions in each of the five stages.
        batch_norm: normalise after every convolution.
        last_pool: False leaves out the max-pool after stage 5, as second-order pooling does.

    Returns:
        The endpoints stage1..stage5, each before its pool (1, 1/2, 1/4, 1/8, 1/16 of the size), and `pool` (1/32)
        where there is a last pool.
    """
    x, endpoints = inputs, {}
    for stage, (width, count) in enumerate(zip(WIDTHS, repeats, strict=True), 1):
        if stage > 1:
            x = max_pool(x, size=2, name=f"stage{stage - 1}_pool")
        for index in range(1, count + 1):
            x = _convolution(x, width, batch_norm=batch_norm, prefix=f"stage{stage}", index=index)
        endpoints[f"stage{stage}"] = x
    if last_pool:
        endpoints["pool"] = max_pool(x, size=2, name="stage5_pool")
    return endpoints


def _convolution(x: KerasTensor, width: int, *, batch_norm: bool, prefix: str, index: int) -> KerasTensor:
    if batch_norm:
        return conv_bn(x, width, 3, prefix=prefix, index=index, use_bias=True)
    return ops.relu(conv(x, width, 3, name=f"{prefix}_conv{index}", use_bias=True))
