"""VGG-M (Chatfield et al., BMVC 2014), MatConvNet's CNN-M: five convolutions, two local response normalisations."""

from typing import Any

import keras
from keras import KerasTensor, layers, ops

from mpncov_zoo.backbones.blocks import conv, full_precision, max_pool

STAGES = (  # channels, size, stride and padding of the convolution
    (96, 7, 2, 0),
    (256, 5, 2, 1),
    (512, 3, 1, 1),
    (512, 3, 1, 1),
    (512, 3, 1, 1),
)
POOLED = {1: 0, 2: 1}  # the stages with a normalisation and a max-pool behind them -> rows it adds below and right
LOCAL_RESPONSE = (5, 1.0, 2e-5, 0.75)  # depth, kappa, alpha and beta of MatConvNet's training code


def vgg_m(
    inputs: KerasTensor, *, local_response: tuple[int, float, float, float] = LOCAL_RESPONSE, last_pool: bool = True
) -> dict[str, KerasTensor]:
    """Five convolutions, one a stage; local response normalisation and a 3x3 max-pool after stages 1 and 2.

    Args:
        inputs: images, (batch, height, width, channels).
        local_response: depth, kappa, alpha and beta of both normalisations, as `LocalResponseNormalization` has them.
        last_pool: False leaves out the max-pool after stage 5, as second-order pooling does.

    Returns:
        The endpoints stage1..stage5, each before its pool (109x109, 26x26 and three of 13x13 positions at 224; 96, 256,
        512 channels), and `pool` (6x6) where there is a last pool.
    """
    depth, kappa, alpha, beta = local_response
    x, endpoints = inputs, {}
    for stage, (width, size, strides, pad) in enumerate(STAGES, 1):
        name = f"stage{stage}"
        x = ops.relu(conv(x, width, size, name=f"{name}_conv1", strides=strides, use_bias=True, pad=pad))
        if stage in POOLED:
            x = LocalResponseNormalization(depth, kappa, alpha, beta, name=f"{name}_local_response")(x)
        endpoints[name] = x
        if stage in POOLED:
            x = _pool(x, below=POOLED[stage], name=f"{name}_pool")
    if last_pool:
        endpoints["pool"] = _pool(x, name="stage5_pool")
    return endpoints


def _pool(x: KerasTensor, *, below: int = 0, name: str) -> KerasTensor:
    """3x3 with stride 2; a row and a column of zeros change no maximum, because what is pooled is not negative."""
    if below:
        x = layers.ZeroPadding2D(((0, below), (0, below)), data_format="channels_last", name=f"{name}_pad")(x)
    return max_pool(x, size=3, name=name)


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class LocalResponseNormalization(layers.Layer):
    """Divide by a power of the squares of neighbouring channels (Krizhevsky et al., NIPS 2012, Sec. 3.3).

    y = x / (kappa + alpha * S)^beta, where S is the sum of x^2 over `depth` channels around each; beyond the first and
    the last channel there are zeros. These are MatConvNet's terms: PyTorch's and Caffe's alpha is `depth` times ours.
    Computed in float32 or better, also under mixed precision.

    Args:
        depth: channels in a window, at least 1; of an even number one more lies after the channel than before it.
        kappa: positive.
        alpha: of the sum, not of the mean.
        beta: the power.

    Input shape: (batch, ..., channels).
    Output shape: the same.

    Raises:
        ValueError: `depth` is not a whole number from 1 on, or `kappa` is not positive.

    Example:
        >>> LocalResponseNormalization()(keras.random.normal((2, 109, 109, 96))).shape
        TensorShape([2, 109, 109, 96])
    """

    def __init__(
        self,
        depth: int = LOCAL_RESPONSE[0],
        kappa: float = LOCAL_RESPONSE[1],
        alpha: float = LOCAL_RESPONSE[2],
        beta: float = LOCAL_RESPONSE[3],
        *,
        name: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=full_precision(dtype))
        if int(depth) != depth or depth < 1 or not kappa > 0:
            raise ValueError(
                "depth must be a whole number from 1 on, and kappa positive. "
                f"Received: depth={depth!r}, kappa={kappa!r}"
            )
        self.depth, self.kappa, self.alpha, self.beta = int(depth), float(kappa), float(alpha), float(beta)

    def call(self, inputs: Any) -> Any:
        """(batch, ..., channels) -> the same shape."""
        before = (self.depth - 1) // 2
        pads = [(0, 0)] * (len(inputs.shape) - 1) + [(before, self.depth - 1 - before)]
        squares, channels = ops.pad(ops.square(inputs), pads), inputs.shape[-1]
        windows = squares[..., :channels]
        for shift in range(1, self.depth):
            windows = windows + squares[..., shift : shift + channels]
        return inputs * ops.power(self.kappa + self.alpha * windows, -self.beta)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "depth": self.depth,
            "kappa": self.kappa,
            "alpha": self.alpha,
            "beta": self.beta,
        }
