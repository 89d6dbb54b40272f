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
            matrices a step instead of four and takes a quarter less time; benchmarks/README.md has the figures.

    Returns:
        (batch, d, d); zeros for an input of zero variance.
    """
    if form == "auto":
        form = _cheaper_form(_positions(x), x.shape[-1], iterations)
    root = partial(_root, iterations=iterations, normalization=normalization, gram=form == "gram")
    return _with_gradient(root, x) if gradient == "analytic" else root(x)[0]


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


def _root(x: KerasTensor, iterations: int, normalization: str | None, gram: bool) -> tuple[KerasTensor, Backward]:
    """Features -> the compensated root (batch, d, d), and its derivative's adjoint."""
    rows = _centered_rows(x)
    positions = _number_of_rows(rows)
    moment = ops.einsum("bid,bjd->bij" if gram else "bni,bnj->bij", rows, rows)  # N times (1), or its Gram matrix
    scale = _scale(moment, normalization, positions)
    half = moment * (-0.5 / scale)
    polynomial, steps = _newton_schulz(half, iterations, inverse=gram)
    compensation = ops.rsqrt(scale * positions) if gram else -2.0 * ops.sqrt(scale / positions)
    inner = polynomial * compensation
    root = ops.einsum("bni,bnj->bij", rows, inner @ rows) if gram else inner

    def backward(cotangent: KerasTensor) -> KerasTensor:
        through_inner = twice = _plus_transpose(cotangent)  # root is symmetric whatever x is; both are twice the thing
        if gram:
            through_rows = rows @ twice
            through_inner = ops.einsum("bid,bjd->bij", through_rows, rows)
        through_half = _newton_schulz_adjoint(through_inner * (0.25 * compensation), half, steps, inverse=gram)
        through_moment = through_half * (-1.0 / scale)  # twice, from here on
        if normalization is not None:
            exponent = -0.5 if gram else 0.5  # of scale in compensation
            through_scale = exponent * _inner_product(through_inner, inner) - 2.0 * _inner_product(through_half, half)
            through_moment += _scale_gradient(moment, scale, normalization) * (through_scale / scale)
        gradient = through_moment @ rows + inner @ through_rows if gram else rows @ through_moment
        return ops.reshape(gradient, ops.shape(x))  # its mean over positions is 0, as that of rows is

    return root, backward


def _newton_schulz(half: KerasTensor, iterations: int, inverse: bool) -> tuple[KerasTensor, list[Any]]:
    """The iteration on A = -2 half, with W = Z Y alone: T = (3I - W) / 2, Y <- Y T, Z <- Z T, W <- W T T.

    Y and Z are the same product of the T, and all of them commute with A, so one of the two is enough; W is carried as
    -W / 2, which makes T one addition. The last two T are multiplied as one polynomial Q of the first of them. In all
    3 K - 4 products for K > 2 iterations.

    Returns:
        Z if `inverse`, else -Y / 2; and for the adjoint the T and Q, each with what it was multiplied into.
    """
    identity = 1.5 * _identity(half)
    w, result, factors = half, None, []
    for _ in range(iterations - 2):
        step = w + identity
        factors.append((step, result))
        product = w @ step
        result = (step if inverse else product) if result is None else result @ step
        w = product @ step
    step = last = w + identity
    if iterations > 1:
        square = step @ step
        last = (square - 1.5 * step) @ square + 1.5 * step  # T T' with T' = 1.5 I + W T T
    before, result = result, (last if inverse else w @ last) if result is None else result @ last
    return result, [*factors, (step, last, before)]


def _newton_schulz_adjoint(cotangent: KerasTensor, half: KerasTensor, factors: list[Any], inverse: bool) -> KerasTensor:
    """Of `_newton_schulz`: from half the result's symmetric cotangent to that of `half`; 4 K - 4 products for K > 2.

    Every derivative here is that of a polynomial of one symmetric matrix, for a symmetric E the sum of a matrix and its
    transpose; what is added up, until `_plus_transpose`, is the one matrix. With F = E T, W' = T^3 - 1.5 T^2 has
    (F + F' / 2) T - 1.5 F, two products instead of the product rule's four, and Q = T^4 - 1.5 T^3 + 1.5 T has
    ((F + F') T - 1.5 (F + F' / 2)) T + 0.75 E.
    """
    *factors, (step, last, before) = factors
    through_w = 0.0
    if before is not None:
        through_last, cotangent = before @ cotangent, cotangent @ last
    elif inverse:
        through_last = cotangent
    else:
        symmetric = 0.5 * _plus_transpose(cotangent)
        through_last, through_w = symmetric @ half, symmetric @ last
    if last is not step:
        e = _plus_transpose(through_last)
        f = e @ step
        transposed = _transpose(f)
        through_last = ((f + transposed) @ step - (1.5 * f + 0.75 * transposed)) @ step + 0.75 * e
    through_w = _plus_transpose(through_last + through_w)
    for step, before in reversed(factors):
        f = through_w @ step
        total = (f + 0.5 * _transpose(f)) @ step - 1.5 * f
        if before is not None:  # result' = before T
            total += before @ cotangent
            cotangent = cotangent @ step
        elif inverse:  # result' = T
            total += cotangent
        else:  # result' = W T = W^2 + 1.5 W
            symmetric = _plus_transpose(cotangent)
            total += symmetric @ half + 0.75 * symmetric
        through_w = _plus_transpose(total)
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
        rotated = _transpose(vectors) @ (0.5 * _plus_transpose(cotangent)) @ vectors
        return vectors @ (rotated * differences) @ _transpose(vectors)

    return (vectors * powered[:, None, :]) @ _transpose(vectors), backward


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
    shape = ops.shape(x)
    rows = ops.reshape(x, (shape[0], _positions(x) or shape[1] * shape[2], x.shape[-1]))
    return rows - ops.mean(rows, axis=1, keepdims=True)


def _positions(x: KerasTensor) -> int | None:
    """Height * width, where both are known."""
    height, width = x.shape[1:3]
    return None if height is None or width is None else height * width


def _number_of_rows(rows: KerasTensor) -> Any:
    """N, as a number or a scalar of the rows' dtype."""
    static = rows.shape[1]
    return float(static) if static is not None else ops.cast(ops.shape(rows)[1], rows.dtype)


def _cheaper_form(positions: int | None, dimension: int, iterations: int) -> str:
    """The form with fewer multiplications."""
    if positions is None:
        return "covariance"
    square = max(3 * iterations - 4, 0)
    on_covariance = positions * dimension**2 + (square + (iterations < 3)) * dimension**3
    on_gram = 2 * dimension * positions**2 + positions * dimension**2 + square * positions**3
    return "gram" if on_gram < on_covariance else "covariance"


def _inner_product(a: KerasTensor, b: KerasTensor) -> KerasTensor:
    """(batch, 1, 1)."""
    return ops.sum(a * b, axis=(1, 2), keepdims=True)


def _identity(matrix: KerasTensor) -> KerasTensor:
    return ops.eye(matrix.shape[-1] or ops.shape(matrix)[-1], dtype=matrix.dtype)


def _transpose(x: KerasTensor) -> KerasTensor:
    return ops.swapaxes(x, -1, -2)


def _plus_transpose(x: KerasTensor) -> KerasTensor:
    return x + _transpose(x)
