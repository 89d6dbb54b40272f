"""Bilinear pooling (Lin, RoyChowdhury, Maji: Bilinear CNN Models for Fine-grained Visual Recognition, ICCV 2015)."""

from typing import Any

import keras
from keras import KerasTensor, layers, ops

from mpncov_zoo.backbones.blocks import full_precision

SQRT_EPSILON = 1e-8


def bcnn(features: KerasTensor) -> dict[str, KerasTensor]:
    """The endpoint representation, (batch, channels^2)."""
    return {"representation": BCNN(name="bcnn")(features)}


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class BCNN(layers.Layer):
    """X'X / N, signed square root, L2 normalisation; in float32 or better.

    Input shape: (batch, height, width, d); height and width may be unknown.
    Output shape: (batch, d * d).

    Example:
        >>> BCNN()(keras.random.normal((2, 28, 28, 64))).shape
        TensorShape([2, 4096])
    """

    def __init__(self, *, name: str | None = None, dtype: str | None = None):
        super().__init__(name=name, dtype=full_precision(dtype))
        self.input_spec = layers.InputSpec(ndim=4)

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """(batch, height, width, d) -> (batch, d * d)."""
        positions = ops.shape(inputs)[1] * ops.shape(inputs)[2]
        return normalize_signed_sqrt(flat_outer_products(inputs) / ops.cast(positions, inputs.dtype))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, d * d)."""
        batch, dimension = input_shape[0], input_shape[-1]
        if dimension is None:
            raise ValueError("The number of channels must be known. Received: input_shape[-1]=None")
        return batch, dimension**2

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype_policy.name}


def flat_outer_products(x: KerasTensor) -> KerasTensor:
    """X'X, the outer products summed over positions: (batch, height, width, d) -> (batch, d * d)."""
    dimension = x.shape[-1]
    shape = ops.shape(x)
    rows = ops.reshape(x, (-1, shape[1] * shape[2], dimension))
    return ops.reshape(ops.matmul(ops.swapaxes(rows, 1, 2), rows), (-1, dimension * dimension))


def normalize_signed_sqrt(x: KerasTensor) -> KerasTensor:
    """sign(x) sqrt(|x| + 1e-8), divided by its L2 norm: (batch, features) -> (batch, features).

    The constant under the root bounds the gradient at 0; automatic differentiation through it is exact elsewhere.
    """
    root = ops.sign(x) * ops.sqrt(ops.abs(x) + SQRT_EPSILON)
    return ops.normalize(root, axis=-1, order=2)
