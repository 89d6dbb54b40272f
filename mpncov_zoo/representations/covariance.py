"""The mathematics of iSQRT-COV: pure functions on tensors, written with keras.ops.

Li, Xie, Wang, Gao: Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix Square Root
Normalization, CVPR 2018; Sec. 3.2 is the forward propagation.
"""

import numpy as np
from keras import KerasTensor, ops

ITERATIONS = 5  # Newton-Schulz steps of every published network
FORMS = ("auto", "covariance", "gram")
NORMALIZATIONS = ("trace", "frobenius", None)


def center(x: KerasTensor) -> KerasTensor:
    """Positions as rows, their mean removed and divided by sqrt(N): (batch, height, width, d) -> (batch, N, d)."""
    x = ops.reshape(x, (-1, _positions(x), x.shape[-1]))
    scale = ops.sqrt(ops.cast(ops.shape(x)[1], x.dtype))
    return (x - ops.mean(x, axis=1, keepdims=True)) / scale


def covariance(x: KerasTensor) -> KerasTensor:
    """Sample covariance over positions: (batch, height, width, d) -> (batch, d, d)."""
    centered = center(x)
    return ops.matmul(_transpose(centered), centered)


def newton_schulz_sqrt(matrix: KerasTensor, iterations: int = ITERATIONS) -> KerasTensor:
    """Coupled Newton-Schulz iteration (Sec. 3.2): Y -> matrix^(1/2) for a matrix whose eigenvalues lie in [0, 1].

    Args:
        matrix: symmetric positive semi-definite, (batch, d, d).
        iterations: at least 1.

    Returns:
        Y after the iterations, (batch, d, d).
    """
    y, z = _newton_schulz(matrix, iterations - 1)
    return matrix @ _step(matrix) if z is None else y @ _step(z @ y)


def newton_schulz_factor(matrix: KerasTensor, iterations: int = ITERATIONS) -> KerasTensor:
    """The Z of the same iteration, with Y = matrix Z: Z -> matrix^(-1/2); (batch, n, n) -> (batch, n, n)."""
    y, z = _newton_schulz(matrix, iterations - 1)
    return _step(matrix) if z is None else _step(z @ y) @ z


def _newton_schulz(matrix: KerasTensor, iterations: int) -> tuple[KerasTensor, KerasTensor | None]:
    """Y and Z after `iterations` steps; None stands for the identity that Z starts from."""
    y, z = matrix, None
    for _ in range(iterations):
        step = _step(y if z is None else z @ y)
        y, z = y @ step, step if z is None else step @ z
    return y, z


def _step(zy: KerasTensor) -> KerasTensor:
    """(3 I - Z Y) / 2."""
    identity = ops.eye(zy.shape[-1] or ops.shape(zy)[-1], dtype=zy.dtype)
    return 1.5 * identity - 0.5 * zy


def isqrt_covariance(
    x: KerasTensor, *, iterations: int = ITERATIONS, normalization: str | None = "trace", form: str = "auto"
) -> KerasTensor:
    """Square root of the covariance by Newton-Schulz, pre-normalised and post-compensated (Sec. 3.2).

    The polynomial of the d x d covariance BB' can be evaluated on the N x N Gram matrix B'B instead:
    Y_K(BB') = B Z_K(B'B) B'. Both give the same; the Gram form is cheaper for fewer positions than channels.

    Args:
        x: features, (batch, height, width, d).
        iterations: Newton-Schulz steps, at least 1.
        normalization: "trace", "frobenius", or None where the eigenvalues of the covariance already lie in [0, 1].
        form: "covariance", "gram", or "auto": the one with fewer multiplications (covariance for unknown sizes).

    Returns:
        (batch, d, d); zeros for an input of zero variance.
    """
    rows = center(x)
    if form == "auto":
        form = _cheaper_form(rows.shape[1], rows.shape[2])
    columns = _transpose(rows)
    gram = form == "gram"
    matrix = rows @ columns if gram else columns @ rows
    scale = _norm(matrix, normalization)
    if scale is None:
        return (
            columns @ newton_schulz_factor(matrix, iterations) @ rows
            if gram
            else newton_schulz_sqrt(matrix, iterations)
        )
    if gram:  # B / sqrt(s) on both sides, times sqrt(s) afterwards, leaves one division by sqrt(s)
        return columns @ (newton_schulz_factor(matrix / scale, iterations) / ops.sqrt(scale)) @ rows
    return newton_schulz_sqrt(matrix / scale, iterations) * ops.sqrt(scale)


def upper_triangle(matrix: KerasTensor) -> KerasTensor:
    """Upper triangle with the diagonal, row by row: (batch, d, d) -> (batch, d (d + 1) / 2)."""
    dimension = matrix.shape[-1]
    rows, columns = np.triu_indices(dimension)
    flat = ops.reshape(matrix, (-1, dimension * dimension))
    return ops.take(flat, rows * dimension + columns, axis=1)


def _norm(matrix: KerasTensor, normalization: str | None) -> KerasTensor | None:
    """(batch, 1, 1), and 1 where it would be 0, so that a zero matrix stays zero with finite gradients."""
    if normalization is None:
        return None
    if normalization == "trace":
        norm = ops.sum(ops.diagonal(matrix, axis1=-2, axis2=-1), axis=-1)
    else:
        squared = ops.sum(ops.square(matrix), axis=(-2, -1))
        norm = ops.sqrt(ops.where(squared > 0, squared, ops.ones_like(squared)))
    return ops.where(norm > 0, norm, ops.ones_like(norm))[:, None, None]


def _positions(x: KerasTensor) -> int | KerasTensor:
    """Height * width: an int where the static shape has both, so that the form can be chosen."""
    height, width = x.shape[1:3]
    if height is None or width is None:
        shape = ops.shape(x)
        return shape[1] * shape[2]
    return height * width


def _cheaper_form(positions: int | None, dimension: int) -> str:
    """The form with fewer multiplications; 5 iterations are 12 products of square matrices in both."""
    if positions is None:
        return "covariance"
    on_covariance = positions * dimension**2 + 12 * dimension**3
    on_gram = 2 * dimension * positions**2 + positions * dimension**2 + 12 * positions**3
    return "gram" if on_gram < on_covariance else "covariance"


def _transpose(x: KerasTensor) -> KerasTensor:
    return ops.swapaxes(x, -1, -2)
