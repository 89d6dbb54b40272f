"""Global covariance pooling: iSQRT-COV (fast MPN-COV), MPN-COV by eigendecomposition, MPA-Lya, the plain covariance."""

from typing import Any

import keras
from keras import KerasTensor, layers

from mpncov_zoo.backbones.blocks import conv_bn, full_precision
from mpncov_zoo.plausibility import check_layout
from mpncov_zoo.representations.covariance import (
    check_options,
    covariance,
    isqrt_covariance,
    matrix_power,
    upper_triangle,
)
from mpncov_zoo.representations.newton_schulz import ITERATIONS
from mpncov_zoo.representations.pade import pade_sqrt

SQUARE_ROOTS = (True, False, "pade")


def mpncov(
    features: KerasTensor,
    *,
    dimension_reduction: int | None = None,
    dropout: float = 0.0,
    suffix: str = "",
    **options: Any,
) -> dict[str, KerasTensor]:
    """The published head as layers of their own: 1x1 reduction, covariance and its square root, triangle, dropout.

    Args:
        features: (batch, height, width, channels).
        dimension_reduction: channels d after a 1x1 convolution, batch normalisation and ReLU; None for no reduction, or
            0, for recipes, which have no None.
        dropout: rate on the vector.
        suffix: of the names of the layers.
        options: of `MPNCOV` (iterations, normalization, square_root, power, form, gradient).

    Returns:
        The endpoints reduction (batch, height, width, d), covariance (batch, d, d) and representation
        (batch, d (d + 1) / 2).
    """
    endpoints, x = {}, features
    if dimension_reduction:
        endpoints["reduction"] = x = conv_bn(x, dimension_reduction, 1, prefix=f"reduction{suffix}")
    endpoints["covariance"] = x = MPNCOV(**options, vectorize=False, name=f"covariance{suffix}")(x)
    x = UpperTriangle(name=f"upper_triangle{suffix}")(x)
    if dropout:
        x = layers.Dropout(dropout, dtype=full_precision(), name=f"dropout{suffix}")(x)
    return {**endpoints, "representation": x}


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class MPNCOV(layers.Layer):
    """Global covariance pooling, by default iSQRT-COV (Li et al., CVPR 2018).

    Computed in float32 or better, also under mixed precision.

    Args:
        iterations: Newton-Schulz steps, at least 1. The published layer's default is 3, every published network uses 5.
        normalization: "trace", "frobenius" or None; undone after the square root (post-compensation, Sec. 3.2). None
            is for covariances whose eigenvalues lie in [0, 1] already; from 3 on the result is wrong.
        dimension_reduction: channels d after a 1x1 convolution, batch normalisation and ReLU before the covariance, 256
            in the published networks; None takes the features as they are.
        square_root: True for Newton-Schulz, False for the plain covariance, "pade" for MPA-Lya (Song, Sebe, Wang, ICLR
            2022). The last always divides by the Frobenius norm and works on the covariance form: `iterations` and
            `normalization`, which are Newton-Schulz's, must be left at their defaults.
        power: instead of the iteration, the matrix power by eigendecomposition (MPN-COV, ICCV 2017: 0.5); slower.
        vectorize: return the upper triangle row by row instead of the matrix.
        form: "covariance", "gram", or "auto" for the cheaper of the two; they compute the same.
        gradient: of the square root, "analytic" or "autodiff": equal, the first is faster and takes less memory. With
            "pade" they differ: the first solves the Lyapunov equation, the second differentiates the approximant and is
            the faster one.
        dropout: rate on the output, in training.

    Input shape: (batch, height, width, channels); height and width may be unknown.
    Output shape: (batch, d (d + 1) / 2), or (batch, d, d) without `vectorize`.

    Raises:
        ValueError: an argument is not one of these, `power` is given together with `square_root=False` or "pade", or
            "pade" with other `iterations` or another `normalization` than the defaults, or with `form="gram"`.

    Example:
        >>> MPNCOV(dimension_reduction=256)(keras.random.normal((2, 14, 14, 2048))).shape
        TensorShape([2, 32896])
    """

    def __init__(
        self,
        iterations: int = ITERATIONS,
        normalization: str | None = "trace",
        dimension_reduction: int | None = None,
        square_root: bool | str = True,
        vectorize: bool = True,
        form: str = "auto",
        gradient: str = "analytic",
        dropout: float = 0.0,
        *,
        power: float | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=full_precision(dtype))
        check_options(iterations, normalization, form, gradient)
        _require(
            dimension_reduction is None or dimension_reduction > 0,
            "dimension_reduction must be positive",
            dimension_reduction=dimension_reduction,
        )
        _require(power is None or power > 0, "power must be positive", power=power)
        _require(square_root in SQUARE_ROOTS, f"square_root must be one of {SQUARE_ROOTS}", square_root=square_root)
        _require(
            power is None or square_root not in (False, "pade"),
            "power replaces the square root",
            power=power,
            square_root=square_root,
        )
        _require(
            square_root != "pade" or (iterations == ITERATIONS and normalization == "trace" and form != "gram"),
            'square_root="pade" takes the default iterations and normalization, and no form="gram"',
            iterations=iterations,
            normalization=normalization,
            form=form,
        )
        self.iterations = int(iterations)
        self.normalization = normalization
        self.dimension_reduction = dimension_reduction
        self.square_root = square_root
        self.power = power
        self.vectorize = vectorize
        self.form = form
        self.gradient = gradient
        self.dropout = dropout
        self.input_spec = layers.InputSpec(ndim=4)
        self.reduction: keras.Model | None = None
        self.dropout_layer = layers.Dropout(dropout, dtype=self.dtype_policy.name)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the reduction, if there is one."""
        check_layout(input_shape)
        if self.dimension_reduction is not None:
            inputs = keras.Input((None, None, input_shape[-1]), dtype=self.compute_dtype)
            outputs = conv_bn(inputs, self.dimension_reduction, 1, prefix="reduction", dtype=self.dtype_policy.name)
            self.reduction = keras.Model(inputs, outputs, name="reduction")

    def call(self, inputs: KerasTensor, training: bool | None = None) -> KerasTensor:
        """(batch, height, width, channels) -> (batch, d (d + 1) / 2) or (batch, d, d)."""
        x = inputs if self.reduction is None else self.reduction(inputs, training=training)
        matrix = self._matrix(x)
        outputs = upper_triangle(matrix, self.gradient) if self.vectorize else matrix
        return self.dropout_layer(outputs, training=training)

    def _matrix(self, x: KerasTensor) -> KerasTensor:
        if not self.square_root:
            return covariance(x)
        if self.power is not None:
            return matrix_power(covariance(x), self.power)
        if self.square_root == "pade":
            return pade_sqrt(covariance(x), gradient=self.gradient)
        return isqrt_covariance(
            x, iterations=self.iterations, normalization=self.normalization, form=self.form, gradient=self.gradient
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the vector or matrix."""
        batch, dimension = input_shape[0], self.dimension_reduction or input_shape[-1]
        return _triangle_shape(batch, dimension) if self.vectorize else (batch, dimension, dimension)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "iterations": self.iterations,
            "normalization": self.normalization,
            "dimension_reduction": self.dimension_reduction,
            "square_root": self.square_root,
            "vectorize": self.vectorize,
            "form": self.form,
            "gradient": self.gradient,
            "dropout": self.dropout,
            "power": self.power,
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


def _require(condition: bool, rule: str, **received: Any) -> None:
    if not condition:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise ValueError(f"{rule}. Received: {values}")
