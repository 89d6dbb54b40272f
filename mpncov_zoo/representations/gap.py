"""First-order representations: global average pooling, and the flattened grid of VGG."""

from typing import Any

import keras
from keras import KerasTensor, layers, ops

from mpncov_zoo.backbones.blocks import full_precision, loses_float64


def gap(features: KerasTensor, *, dropout: float = 0.0, suffix: str = "") -> dict[str, KerasTensor]:
    """The mean over positions.

    Args:
        features: (batch, height, width, channels).
        dropout: rate on the vector.
        suffix: of the names of the layers.

    Returns:
        The endpoint representation, (batch, channels).
    """
    return {"representation": _dropped(GAP(name=f"gap{suffix}")(features), dropout, suffix)}


def _dropped(x: KerasTensor, rate: float, suffix: str) -> KerasTensor:
    return layers.Dropout(rate, dtype=full_precision(), name=f"dropout{suffix}")(x) if rate else x


def flatten(features: KerasTensor, *, size: int = 7, dropout: float = 0.0, suffix: str = "") -> dict[str, KerasTensor]:
    """The published VGG's and AlexNet's grid: averaged to size x size, flattened channels first as PyTorch does.

    Args:
        features: (batch, height, width, channels).
        size: of the grid.
        dropout: rate on the vector.
        suffix: of the names of the layers.

    Returns:
        The endpoint representation, (batch, channels * size * size).
    """
    x = features
    single = tuple(2 if length == 1 else 1 for length in x.shape[1:3])
    if size > 1 and single != (
        1,
        1,
    ):  # Keras 3.15 cannot make several of one position in a graph; of two equal ones it can
        x = layers.UpSampling2D(single, name=f"repeat{suffix}")(x)
    if x.shape[1:3] != (size, size):
        x = layers.AdaptiveAveragePooling2D(size, name=f"adaptive_pool{suffix}")(x)
    x = layers.Permute((3, 1, 2), name=f"channels_first{suffix}")(x)
    x = layers.Flatten(data_format="channels_last", name=f"flatten{suffix}")(x)
    return {"representation": _dropped(x, dropout, suffix)}


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class GAP(layers.GlobalAveragePooling2D):
    """Global average pooling (the published TensorFlow code's GAvP), in float32 or better.

    Input shape: (batch, height, width, channels); height and width may be unknown.
    Output shape: (batch, channels).

    Example:
        >>> GAP()(keras.random.normal((2, 7, 7, 512))).shape
        TensorShape([2, 512])
    """

    def __init__(self, *, name: str | None = None, dtype: str | None = None):
        super().__init__(name=name, dtype=full_precision(dtype), data_format="channels_last")

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """(batch, height, width, channels) -> (batch, channels)."""
        if not loses_float64(self):
            return super().call(inputs)
        return ops.sum(inputs, axis=(1, 2)) / (inputs.shape[1] * inputs.shape[2])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype_policy.name}
