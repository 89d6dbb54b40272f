"""iSQRT-COV (fast MPN-COV): covariance pooling normalised by an iterative matrix square root."""

from typing import Any

import keras
from keras import KerasTensor, layers

from mpncov_zoo.backbones.blocks import conv_bn, full_precision
from mpncov_zoo.representations.covariance import FORMS, ITERATIONS, NORMALIZATIONS, isqrt_covariance, upper_triangle


def mpncov(
    features: KerasTensor, *, dimension_reduction: int | None = None, dropout: float = 0.0, iterations: int = ITERATIONS
) -> dict[str, KerasTensor]:
    """The published head: 1x1 reduction, covariance and its square root, upper triangle, dropout.

    Returns:
        The endpoints reduction (batch, height, width, d), covariance (batch, d, d) and representation
        (batch, d (d + 1) / 2).
    """
    endpoints, x = {}, features
    if dimension_reduction is not None:
        endpoints["reduction"] = x = conv_bn(x, dimension_reduction, 1, prefix="reduction")
    endpoints["covariance"] = x = MPNCOV(iterations=iterations, vectorize=False, name="covariance")(x)
    x = UpperTriangle(name="upper_triangle")(x)
    if dropout:
        x = layers.Dropout(dropout, dtype=full_precision(), name="dropout")(x)
    return {**endpoints, "representation": x}


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class MPNCOV(layers.Layer):
    """iSQRT-COV pooling (Li et al., CVPR 2018): always computed in float32 or better, also under mixed precision.

    Args:
        iterations: Newton-Schulz steps, at least 1. The published layer's default is 3, every published network uses 5.
        normalization: "trace", "frobenius" or None; undone after the square root (post-compensation, Sec. 3.2).
        vectorize: return the upper triangle row by row instead of the matrix.
        form: "covariance", "gram", or "auto" for the cheaper of the two; they compute the same.

    Input shape: (batch, height, width, d); height and width may be unknown.
    Output shape: (batch, d (d + 1) / 2), or (batch, d, d) without `vectorize`.

    Example:
        >>> MPNCOV()(keras.random.normal((2, 14, 14, 256))).shape
        TensorShape([2, 32896])
    """

    def __init__(
        self,
        *,
        iterations: int = ITERATIONS,
        normalization: str | None = "trace",
        vectorize: bool = True,
        form: str = "auto",
        name: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=full_precision(dtype))
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1. Received: iterations={iterations}")
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization must be one of {NORMALIZATIONS}. Received: normalization={normalization!r}"
            )
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}. Received: form={form!r}")
        self.iterations = iterations
        self.normalization = normalization
        self.vectorize = vectorize
        self.form = form
        self.input_spec = layers.InputSpec(ndim=4)

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """(batch, height, width, d) -> (batch, d (d + 1) / 2) or (batch, d, d)."""
        matrix = isqrt_covariance(inputs, iterations=self.iterations, normalization=self.normalization, form=self.form)
        return upper_triangle(matrix) if self.vectorize else matrix

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the vector or matrix."""
        batch, dimension = input_shape[0], input_shape[-1]
        return _triangle_shape(batch, dimension) if self.vectorize else (batch, dimension, dimension)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "iterations": self.iterations,
            "normalization": self.normalization,
            "vectorize": self.vectorize,
            "form": self.form,
        }


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class UpperTriangle(layers.Layer):
    """Upper triangle of a symmetric matrix, row by row: (batch, d, d) -> (batch, d (d + 1) / 2)."""

    def __init__(self, *, name: str | None = None, dtype: str | None = None):
        super().__init__(name=name, dtype=full_precision(dtype))

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """(batch, d, d) -> (batch, d (d + 1) / 2)."""
        return upper_triangle(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, d (d + 1) / 2)."""
        return _triangle_shape(input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype_policy.name}


def _triangle_shape(batch: int | None, dimension: int | None) -> tuple[int | None, int]:
    if dimension is None:
        raise ValueError("The number of channels must be known. Received: input_shape[-1]=None")
    return batch, dimension * (dimension + 1) // 2
