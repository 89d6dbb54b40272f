"""Powers of covariances by eigendecomposition: MPN-COV (Li, Xie, Wang, Zuo, ICCV 2017), before iSQRT-COV."""

from functools import partial
from typing import Any

import numpy as np
from keras import backend, ops

from mpncov_zoo.representations.gradients import Backward, plus_transpose, square_matrices, transpose, with_gradient


def matrix_power(matrix: Any, power: float = 0.5) -> Any:
    """Power of a symmetric positive semi-definite matrix by its eigendecomposition (MPN-COV, ICCV 2017).

    Eigenvalues below d times the machine epsilon of the largest are rounding (NumPy's matrix_rank draws the same line):
    they count as zero. The gradient is the exact one, also where eigenvalues are equal; between two zero eigenvalues,
    where it is infinite for a power below 1, it is taken for zero.

    Args:
        matrix: (batch, d, d).
        power: positive; 0.5 is the square root.

    Returns:
        (batch, d, d).

    Raises:
        ValueError: not square matrices, or a power that is not positive.
    """
    if not power > 0:
        raise ValueError(f"power must be positive. Received: power={power!r}")
    return with_gradient(partial(_power, power=power), square_matrices(matrix))


def _power(matrix: Any, power: float) -> tuple[Any, Backward]:
    """V f(L) V' with f(l) = l^power, and its derivative's adjoint by the divided differences of f (Daleckii, Krein)."""
    eigenvalues, vectors = ops.eigh(matrix)
    largest = eigenvalues[:, -1:]
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    relative = eigenvalues / largest
    dtype = backend.standardize_dtype(relative.dtype)
    kept = relative > relative.shape[-1] * np.finfo(dtype).eps
    relative = ops.where(kept, relative, ops.ones_like(relative))
    powered = ops.where(kept, relative**power, ops.zeros_like(relative)) * largest**power

    def backward(cotangent: Any) -> Any:
        differences = _divided_differences(relative, kept, power) * (largest ** (power - 1))[:, :, None]
        rotated = transpose(vectors) @ (0.5 * plus_transpose(cotangent)) @ vectors
        return vectors @ (rotated * differences) @ transpose(vectors)

    return (vectors * powered[:, None, :]) @ transpose(vectors), backward


def _divided_differences(relative: Any, kept: Any, power: float) -> Any:
    """(f(a) - f(b)) / (a - b) for every two eigenvalues, f'(a) where they are equal: (batch, d) -> (batch, d, d).

    By the ratio of a and b, which keeps its accuracy where they meet. Those not `kept` are zero, whatever they hold.
    """
    slope = relative ** (power - 1)  # to an eigenvalue of zero
    logarithm = ops.log(relative)
    ratio = logarithm[:, :, None] - logarithm[:, None, :]
    differ = ratio != 0
    safe = ops.where(differ, ratio, ops.ones_like(ratio))
    quotient = ops.where(differ, ops.expm1(power * safe) / ops.expm1(safe), power * ops.ones_like(safe))
    row, column = kept[:, :, None], kept[:, None, :]
    of_two_zeros = float(power == 1) * ops.ones_like(ratio)
    to_zero = ops.where(row, slope[:, :, None], ops.where(column, slope[:, None, :], of_two_zeros))
    return ops.where(row & column, quotient * slope[:, None, :], to_zero)
