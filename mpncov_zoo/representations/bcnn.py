"""Bilinear pooling (Lin, RoyChowdhury, Maji: Bilinear CNN Models for Fine-grained Visual Recognition, ICCV 2015)."""

from typing import Any

import keras
from keras import KerasTensor, layers, ops

from mpncov_zoo.backbones.blocks import full_precision
from mpncov_zoo.plausibility import check_layout

SQRT_EPSILON = 1e-8


def bcnn(features: KerasTensor, *, suffix: str = "") -> dict[str, KerasTensor]:
    """The endpoint representation, (batch, channels^2), of a layer whose name ends with the suffix."""
    return {"representation": BCNN(name=f"bcnn{suffix}")(features)}


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

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """There is nothing to make."""
        check_layout(input_shape)

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """(batch, height, width, d) -> (batch, d * d)."""
        positions = ops.shape(inputs)[1] * ops.shape(inputs)[2]
        return normalize_signed_sqrt(flat_outer_products(inputs, inputs) / ops.cast(positions, inputs.dtype))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, d * d)."""
        batch, dimension = input_shape[0], input_shape[-1]
        if dimension is None:
            raise ValueError("The number of channels must be known. Received: input_shape[-1]=None")
        return batch, dimension**2

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype_policy.name}


def flat_outer_products(left: KerasTensor, right: KerasTensor) -> KerasTensor:
    """Outer products of two features, summed over positions: twice (batch, height, width, d) -> (batch, d * d)."""
    dimension = left.shape[-1]
    # not ops.matmul: Keras computes that in float32 on PyTorch, whatever the dtype
    products = ops.swapaxes(_rows(left), 1, 2) @ _rows(right)
    return ops.reshape(products, (-1, dimension * dimension))


def normalize_signed_sqrt(x: KerasTensor) -> KerasTensor:
    """sign(x) sqrt(|x| + 1e-8), divided by its L2 norm: (batch, features) -> (batch, features).

    The derivative of the root is 1 / (2 sqrt(|x| + 1e-8)). The root jumps at 0, where that does not hold: an entry of
    exactly 0 (rectified channels that never meet) stays 0 and passes no gradient, and so does a vector of them.
    """
    root = ops.sign(x) * ops.sqrt(ops.abs(x) + SQRT_EPSILON)
    squared_norm = ops.sum(ops.square(root), axis=-1, keepdims=True)
    return root / ops.sqrt(ops.where(squared_norm > 0, squared_norm, ops.ones_like(squared_norm)))


def _rows(x: KerasTensor) -> KerasTensor:
    """Positions as rows: (batch, height, width, d) -> (batch, height * width, d)."""
    shape = ops.shape(x)
    return ops.reshape(x, (-1, shape[1] * shape[2], x.shape[-1]))
