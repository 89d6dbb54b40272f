"""First-order representations: global average pooling, and the flattened grid of VGG."""

from typing import Any

import keras
from keras import KerasTensor, layers

from mpncov_zoo.backbones.blocks import full_precision


def gap(features: KerasTensor, *, dropout: float = 0.0) -> dict[str, KerasTensor]:
    """The mean over positions.

    Args:
        features: (batch, height, width, channels).
        dropout: rate on the vector.

    Returns:
        The endpoint representation, (batch, channels).
    """
    x = GAP(name="gap")(features)
    if dropout:
        x = layers.Dropout(dropout, dtype=full_precision(), name="dropout")(x)
    return {"representation": x}


def flatten(features: KerasTensor, *, size: int = 7) -> dict[str, KerasTensor]:
    """The published VGG's grid: averaged to size x size, flattened channels first as PyTorch does.

    Returns:
        The endpoint representation, (batch, channels * size * size).
    """
    x = features
    single = tuple(2 if length == 1 else 1 for length in x.shape[1:3])
    if size > 1 and single != (
        1,
        1,
    ):  # Keras 3.15 cannot make several of one position in a graph; of two equal ones it can
        x = layers.UpSampling2D(single, name="repeat")(x)
    if x.shape[1:3] != (size, size):
        x = layers.AdaptiveAveragePooling2D(size, name="adaptive_pool")(x)
    x = layers.Permute((3, 1, 2), name="channels_first")(x)
    return {"representation": layers.Flatten(data_format="channels_last", name="flatten")(x)}


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

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype_policy.name}
