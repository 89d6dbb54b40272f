"""The mathematics of second-order pooling: pure functions on tensors, written with keras.ops, in the input's precision.

iSQRT-COV is of Li, Xie, Wang, Gao: Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix
Square Root Normalization, CVPR 2018 (Sec. 3.2 is the forward propagation); MPN-COV, its predecessor, of Li, Xie, Wang,
Zuo: Is Second-order Information Helpful for Large-scale Visual Recognition?, ICCV 2017. `docs/representations.md`
derives what this module computes.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from keras import KerasTensor, backend, ops

ITERATIONS = 5  # Newton-Schulz steps of every published network
FORMS = ("auto", "covariance", "gram")
NORMALIZATIONS = ("trace", "frobenius", None)
GRADIENTS = ("analytic", "autodiff")

Backward = Callable[[Any], Any]  # from the cotangent of an output to that of the input


def covariance(x: KerasTensor) -> KerasTensor:
    """Sample covariance over positions: (batch, height, width, d) -> (batch, d, d)."""
    rows = _centered_rows(x)
    return ops.einsum("bni,bnj->bij", rows, rows) / _number_of_rows(rows)


def newton_schulz_sqrt(matrix: KerasTensor, iterations: int = ITERATIONS) -> KerasTensor:
    """Coupled Newton-Schulz iteration (Sec. 3.2): Y -> matrix^(1/2) for a matrix whose eigenvalues lie in [0, 1].

    Args:
        matrix: symmetric positive semi-definite, (batch, d, d).
        iterations: at least 1.

    Returns:
        Y after the iterations, (batch, d, d).
    """
    root, _ = _newton_schulz(-0.5 * matrix, iterations, inverse=False)
    return -2.0 * root


def newton_schulz_inverse_sqrt(matrix: KerasTensor, iterations: int = ITERATIONS) -> KerasTensor:
    """The Z of the same iteration, with Y = matrix Z: Z -> matrix^(-1/2); (batch, d, d) -> (batch, d, d)."""
    return _newton_schulz(-0.5 * matrix, iterations, inverse=True)[0]


def isqrt_covariance(
    x: KerasTensor,
    *,
    iterations: int = ITERATIONS,
    normalization: str | None = "trace",
    form: str = "auto",
    gradient: str = "analytic",
) -> KerasTensor:
    """Square root of the covariance by Newton-Schulz, pre-normalised and post-compensated (Sec. 3.2).

    The polynomial of the d x d covariance BB' can be evaluated on the N x N Gram matrix B'B instead:
    Y_K(BB') = B Z_K(B'B) B'. Both give the same; the Gram form is cheaper for fewer positions than channels.

    Args:
        x: features, (batch, height, width, d); a tensor, in a functional Keras model take the layer `MPNCOV`.
        iterations: Newton-Schulz steps, at least 1.
        normalization: "trace", "frobenius", or None where the eigenvalues of the covariance already lie in [0, 1].
        form: "covariance", "gram", or "auto": the one with fewer multiplications (covariance for unknown sizes).
        gradient: "analytic" or "autodiff": the same gradient, exact for any cotangent. The analytic one keeps two
            matrices a step instead of four and multiplies a third less; benchmarks/README.md has time and memory.

    Returns:
        (batch, d, d); zeros for an input of zero variance.
    """
    rows = _centered_rows(x)
    if form == "auto":
        form = _cheaper_form(rows.shape[1], rows.shape[2], iterations)
    root = partial(_root, iterations=iterations, normalization=normalization, gram=form == "gram")
    return _with_gradient(root, rows) if gradient == "analytic" else root(rows)[0]


def matrix_power(matrix: KerasTensor, power: float = 0.5) -> KerasTensor:
    """Power of a symmetric positive semi-definite matrix by its eigendecomposition (MPN-COV, ICCV 2017).

    Eigenvalues below d times the machine epsilon of the largest are rounding (NumPy's matrix_rank draws the same line):
    they count as zero. The gradient is the exact one, also where eigenvalues are equal; between two zero eigenvalues,
    where it is infinite, it is taken for zero.

    Args:
        matrix: (batch, d, d).
        power: positive; 0.5 is the square root.

    Returns:
        (batch, d, d).
    """
    return _with_gradient(partial(_power, power=power), matrix)


def upper_triangle(matrix: KerasTensor) -> KerasTensor:
    """Upper triangle with the diagonal, row by row: (batch, d, d) -> (batch, d (d + 1) / 2)."""
    return _with_gradient(_upper_triangle, matrix)


def _root(rows: KerasTensor, iterations: int, normalization: str | None, gram: bool) -> tuple[KerasTensor, Backward]:
    """Centred rows (batch, N, d) -> the compensated root (batch, d, d), and its derivative's adjoint."""
    moment = ops.einsum(
        "bid,bjd->bij" if gram else "bni,bnj->bij", rows, rows
    )  # N times the covariance's non-zero part
    positions = _number_of_rows(rows)
    scale = _scale(moment, normalization, positions)
    half = moment * (-0.5 / scale)
    polynomial, steps = _newton_schulz(half, iterations, inverse=gram)
    compensation = ops.rsqrt(scale * positions) if gram else -2.0 * ops.sqrt(scale / positions)
    inner = polynomial * compensation
    root = ops.einsum("bni,bnj->bij", rows, _matmul(inner, rows)) if gram else inner

    def backward(cotangent: KerasTensor) -> KerasTensor:
        cotangent = 0.5 * _plus_transpose(cotangent)  # root is symmetric whatever rows are
        if gram:
            outer = _matmul(rows, cotangent)
            through_inner = ops.einsum("bid,bjd->bij", outer, rows)
        else:
            outer, through_inner = None, cotangent
        through_half = _newton_schulz_adjoint(through_inner * compensation, half, steps, inverse=gram)
        through_moment = through_half * (-0.5 / scale)
        if normalization is not None:
            sign = -0.5 if gram else 0.5  # of the compensation's exponent
            inner_part = sign * _inner_product(through_inner, inner) - _inner_product(through_half, half)
            through_moment += _scale_gradient(moment, scale, normalization) * (inner_part / scale)
        if outer is None:
            return 2.0 * (_matmul(rows, through_moment))
        return 2.0 * (_matmul(through_moment, rows) + _matmul(inner, outer))

    return root, backward


def _newton_schulz(half: KerasTensor, iterations: int, inverse: bool) -> tuple[KerasTensor, list[Any]]:
    """The iteration on A = -2 half, with W = Z Y alone: T = (3I - W) / 2, Y <- Y T, Z <- Z T, W <- W T T.

    Y and Z are the same product of the T, and all of them commute with A, so one of the two is enough; W is carried as
    -W / 2, which makes T one addition. 3 K - 3 products for K > 1 iterations.

    Returns:
        Z if `inverse`, else -Y / 2; and for the adjoint of every step T and what it was multiplied into.
    """
    identity = 1.5 * _identity(half)
    w, result, steps = half, None, []
    for index in range(iterations):
        step = w + identity
        steps.append((step, result))
        last = index == iterations - 1
        product = _matmul(w, step) if not last or (index == 0 and not inverse) else None
        result = (step if inverse else product) if index == 0 else _matmul(result, step)
        if not last:
            w = _matmul(product, step)
    return result, steps


def _newton_schulz_adjoint(cotangent: KerasTensor, half: KerasTensor, steps: list[Any], inverse: bool) -> KerasTensor:
    """Of `_newton_schulz`: from the result's symmetric cotangent to that of `half`, symmetric too; 4 K - 3 products.

    W' = T^3 - 1.5 T^2 has the derivative E -> sym(E T^2 + T E T / 2 - 1.5 E T) for a symmetric E, twice; with F = E T
    that is sym((F + F' / 2) T - 1.5 F), twice: two products instead of the four of the product rule.
    """
    through_w = None
    for step, before in reversed(steps):
        if through_w is None:
            twice = 0.0
        else:
            f = _matmul(through_w, step)
            twice = _matmul(f + 0.5 * _transpose(f), step) - 1.5 * f
        if before is not None:  # result' = before T
            twice += 0.5 * (_matmul(before, cotangent))
            cotangent = _matmul(cotangent, step)
        elif inverse:  # result' = T = W + 1.5 I
            twice += 0.5 * cotangent
        else:  # result' = W T = W^2 + 1.5 W
            symmetric = 0.5 * _plus_transpose(cotangent)
            twice += _matmul(symmetric, half) + 0.75 * symmetric
        through_w = _plus_transpose(twice)
    return through_w


def _scale(moment: KerasTensor, normalization: str | None, positions: KerasTensor) -> KerasTensor:
    """What the moment is divided by, (batch, 1, 1); 1 where it would be 0, so that a zero matrix stays zero."""
    if normalization is None:
        return ops.ones_like(moment[:, :1, :1]) * positions
    if normalization == "trace":
        norm = ops.sum(ops.diagonal(moment, axis1=-2, axis2=-1), axis=-1)
    else:
        squared = _inner_product(moment, moment)[:, 0, 0]
        norm = ops.sqrt(ops.where(squared > 0, squared, ops.ones_like(squared)))
    return ops.where(norm > 0, norm, ops.ones_like(norm))[:, None, None]


def _scale_gradient(moment: KerasTensor, scale: KerasTensor, normalization: str) -> KerasTensor:
    """The derivative of `_scale` with respect to the moment."""
    return _identity(moment) if normalization == "trace" else moment / scale


def _power(matrix: KerasTensor, power: float) -> tuple[KerasTensor, Backward]:
    """V f(L) V' with f(l) = l^power, and its derivative's adjoint by the divided differences of f (Daleckii, Krein)."""
    eigenvalues, vectors = ops.eigh(matrix)
    largest = eigenvalues[:, -1:]
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    relative = eigenvalues / largest
    dtype = backend.standardize_dtype(relative.dtype)
    kept = relative > relative.shape[-1] * np.finfo(dtype).eps
    relative = ops.where(kept, relative, ops.ones_like(relative))
    powered = ops.where(kept, relative**power, ops.zeros_like(relative)) * largest**power

    def backward(cotangent: KerasTensor) -> KerasTensor:
        slope = relative ** (power - 1)  # to an eigenvalue of zero
        logarithm = ops.log(relative)
        ratio = logarithm[:, :, None] - logarithm[:, None, :]
        differ = ratio != 0
        safe = ops.where(differ, ratio, ops.ones_like(ratio))
        quotient = ops.where(differ, ops.expm1(power * safe) / ops.expm1(safe), power * ops.ones_like(safe))
        row, column = kept[:, :, None], kept[:, None, :]
        differences = ops.where(row, slope[:, :, None], ops.where(column, slope[:, None, :], ops.zeros_like(ratio)))
        differences = ops.where(row & column, quotient * slope[:, None, :], differences)
        differences *= (largest ** (power - 1))[:, :, None]
        rotated = _matmul(_transpose(vectors), _matmul(0.5 * _plus_transpose(cotangent), vectors))
        return _matmul(vectors, _matmul(rotated * differences, _transpose(vectors)))

    return _matmul(vectors * powered[:, None, :], _transpose(vectors)), backward


def _upper_triangle(matrix: KerasTensor) -> tuple[KerasTensor, Backward]:
    """Two gathers, with whole rows of the batch moved at a time; the derivative of one would be a scatter."""
    dimension = matrix.shape[-1]
    places, sources = _triangle_indices(dimension)

    def gather(flat: KerasTensor, indices: np.ndarray) -> KerasTensor:
        return ops.transpose(ops.take(ops.transpose(flat), indices, axis=0))

    def backward(cotangent: KerasTensor) -> KerasTensor:
        below = ops.zeros_like(cotangent[:, :1])
        flat = gather(ops.concatenate([cotangent, below], axis=1), sources)
        return ops.reshape(flat, (-1, dimension, dimension))

    return gather(ops.reshape(matrix, (-1, dimension * dimension)), places), backward


@cache
def _triangle_indices(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every entry of the triangle its place in the flat matrix; of every place its entry, or one past the last."""
    places = np.ravel_multi_index(np.triu_indices(dimension), (dimension, dimension)).astype("int32")
    sources = np.full(dimension * dimension, len(places), "int32")
    sources[places] = np.arange(len(places))
    return places, sources


def _with_gradient(function: Callable[[Any], tuple[Any, Backward]], x: Any) -> Any:
    """The first of what a function returns, differentiated by the second."""

    @ops.custom_gradient
    def value(x: Any) -> tuple[Any, Callable[..., Any]]:
        result, backward = function(x)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:  # torch has the cotangent in `upstream`
            return backward(arguments[0] if upstream is None else upstream)

        return result, gradient

    return value(x)


def _centered_rows(x: KerasTensor) -> KerasTensor:
    """Positions as rows, their mean removed: (batch, height, width, d) -> (batch, N, d)."""
    rows = ops.reshape(x, (-1, _positions(x), x.shape[-1]))
    return rows - ops.mean(rows, axis=1, keepdims=True)


def _positions(x: KerasTensor) -> int | KerasTensor:
    """Height * width: an int where the static shape has both, so that the form can be chosen."""
    height, width = x.shape[1:3]
    if height is None or width is None:
        shape = ops.shape(x)
        return shape[1] * shape[2]
    return height * width


def _number_of_rows(rows: KerasTensor) -> Any:
    """N, as a number or a scalar of the rows' dtype."""
    static = rows.shape[1]
    return float(static) if static is not None else ops.cast(ops.shape(rows)[1], rows.dtype)


def _cheaper_form(positions: int | None, dimension: int, iterations: int) -> str:
    """The form with fewer multiplications; the iteration's products of square matrices are as many in both."""
    if positions is None:
        return "covariance"
    square = 3 * iterations - 3
    on_covariance = positions * dimension**2 + max(square, 1) * dimension**3
    on_gram = 2 * dimension * positions**2 + positions * dimension**2 + square * positions**3
    return "gram" if on_gram < on_covariance else "covariance"


def _matmul(a: KerasTensor, b: KerasTensor) -> KerasTensor:
    """Of batches of matrices. As an einsum, TensorFlow on a CPU is a fifth faster than as a matmul."""
    return ops.einsum("bij,bjk->bik", a, b)


def _inner_product(a: KerasTensor, b: KerasTensor) -> KerasTensor:
    """(batch, 1, 1)."""
    return ops.sum(a * b, axis=(1, 2), keepdims=True)


def _identity(matrix: KerasTensor) -> KerasTensor:
    return ops.eye(matrix.shape[-1] or ops.shape(matrix)[-1], dtype=matrix.dtype)


def _transpose(x: KerasTensor) -> KerasTensor:
    return ops.swapaxes(x, -1, -2)


def _plus_transpose(x: KerasTensor) -> KerasTensor:
    return x + _transpose(x)
