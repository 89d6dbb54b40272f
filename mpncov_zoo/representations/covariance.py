"""Covariance pooling with pure functions on tensors, written with keras.ops, in the input's precision.

iSQRT-COV is of Li, Xie, Wang, Gao: Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix
Square Root Normalization, CVPR 2018 (Sec. 3.2 is the forward propagation). `docs/representations.md` derives what is
computed here, in `newton_schulz` and in `matrix_power`. Tensors are eager or traced ones: in a functional Keras model
take the layer `MPNCOV`.
"""

from functools import cache, partial
from typing import Any

import numpy as np
from keras import ops

from mpncov_zoo.errors import InputError
from mpncov_zoo.representations import newton_schulz
from mpncov_zoo.representations.gradients import (
    Backward,
    frobenius_norm,
    identity_like,
    plus_transpose,
    square_matrices,
    with_gradient,
)
from mpncov_zoo.representations.matrix_power import matrix_power
from mpncov_zoo.representations.newton_schulz import (
    ITERATIONS,
    check_iterations,
    newton_schulz_inverse_sqrt,
    newton_schulz_sqrt,
)

__all__ = [
    "covariance",
    "isqrt_covariance",
    "matrix_power",
    "newton_schulz_inverse_sqrt",
    "newton_schulz_sqrt",
    "upper_triangle",
]

FORMS = ("auto", "covariance", "gram")
NORMALIZATIONS = ("trace", "frobenius", None)
GRADIENTS = ("analytic", "autodiff")
LEAST_POSITIONS = 2
_TOO_FEW = f"A covariance needs at least {LEAST_POSITIONS} positions: give larger images."


def covariance(x: Any) -> Any:
    """Sample covariance over positions: (batch, height, width, d) -> (batch, d, d).

    Raises:
        InputError: there is one position only, of which there is no covariance. Where a graph learns the size when it
            runs, it stops with TensorFlow's InvalidArgumentError.
    """
    rows = _centered_rows(x)
    return ops.einsum("bni,bnj->bij", rows, rows) / _number_of_rows(rows)


def isqrt_covariance(
    x: Any,
    *,
    iterations: int = ITERATIONS,
    normalization: str | None = "trace",
    form: str = "auto",
    gradient: str = "analytic",
) -> Any:
    """Square root of the covariance by Newton-Schulz, pre-normalised and post-compensated (Sec. 3.2).

    The polynomial of the d x d covariance BB' can be evaluated on the N x N Gram matrix B'B instead:
    Y_K(BB') = B Z_K(B'B) B'. Both give the same; the Gram form is cheaper for fewer positions than channels.

    Args:
        x: features, (batch, height, width, d).
        iterations: Newton-Schulz steps, at least 1.
        normalization: "trace", "frobenius", or None where the eigenvalues of the covariance already lie in [0, 1].
        form: "covariance", "gram", or "auto": the one with fewer multiplications. A graph for images of any size holds
            both, and chooses when it runs.
        gradient: "analytic" or "autodiff": the same gradient, exact for any cotangent. The analytic one is faster and
            keeps two matrices a step instead of four; benchmarks/README.md has the figures.

    Returns:
        (batch, d, d); zeros for an input of zero variance.

    Raises:
        ValueError: x is not of four axes, or an option is not one of these.
        InputError: of `covariance`.
    """
    check_options(iterations, normalization, form, gradient)
    if len(x.shape) != 4:
        raise ValueError(f"x must be (batch, height, width, d). Received: shape {tuple(x.shape)}")
    gram = form == "gram" if form != "auto" else _is_gram_cheaper(x, iterations)
    function = _root if isinstance(gram, bool) else _root_of_any_size
    root = partial(function, iterations=iterations, normalization=normalization, gram=gram)
    return with_gradient(root, x) if gradient == "analytic" else root(x)[0]


def check_options(iterations: int, normalization: str | None, form: str, gradient: str) -> None:
    """Refuse options that `isqrt_covariance` does not have.

    Raises:
        ValueError: naming the option, what it may be and what it is.
    """
    check_iterations(iterations)
    for name, value, allowed in (
        ("normalization", normalization, NORMALIZATIONS),
        ("form", form, FORMS),
        ("gradient", gradient, GRADIENTS),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}. Received: {name}={value!r}")


def multiplications(
    form: str, positions: int, dimension: int, iterations: int = ITERATIONS, backward: bool = False
) -> int:
    """How many numbers the matrix products of `isqrt_covariance` multiply for one image, with the analytic gradient."""
    n, d, k = positions, dimension, iterations
    if form == "gram":
        forward = 2 * n * n * d + n * d * d + max(3 * k - 4, 0) * n**3
        return forward + (3 * n * n * d + n * d * d + max(4 * k - 5, 0) * n**3 if backward else 0)
    few = max(3 - k, 0)  # iterations short of those from which on the last two are one polynomial
    forward = n * d * d + (3 * k - 4 + few) * d**3
    return forward + (n * d * d + (4 * k - 4 + few) * d**3 if backward else 0)


def upper_triangle(matrix: Any, gradient: str = "analytic") -> Any:
    """Upper triangle with the diagonal, row by row: (batch, d, d) -> (batch, d (d + 1) / 2).

    Raises:
        ValueError: not square matrices.
    """
    square_matrices(matrix)
    return with_gradient(_upper_triangle, matrix) if gradient == "analytic" else _upper_triangle(matrix)[0]


def _root(x: Any, iterations: int, normalization: str | None, gram: bool) -> tuple[Any, Backward]:
    """Features -> the compensated root (batch, d, d), and its derivative transposed."""
    rows = _centered_rows(x)
    positions = _number_of_rows(rows)
    moment = ops.einsum("bid,bjd->bij" if gram else "bni,bnj->bij", rows, rows)  # N times the covariance, or the Gram
    scale = _scale(moment, rows, normalization, gram)
    iteration = newton_schulz.iterate(moment * (-0.5 / scale), iterations, inverse=gram)
    compensation = ops.rsqrt(scale * positions) if gram else -2.0 * ops.sqrt(scale / positions)
    inner = iteration.result * compensation
    root = ops.einsum("bni,bnj->bij", rows, inner @ rows) if gram else inner

    def backward(cotangent: Any) -> Any:
        through_inner = twice = plus_transpose(cotangent)  # root is symmetric: twice the symmetric cotangent
        if gram:
            through_rows = rows @ twice
            through_inner = ops.einsum("bid,bjd->bij", through_rows, rows)
        through_start = newton_schulz.adjoint(iteration, through_inner * (0.25 * compensation), inverse=gram)
        through_moment = through_start * (-1.0 / scale)  # twice its cotangent, since moment is rows times rows
        if normalization is not None:
            exponent = -0.5 if gram else 0.5  # of scale in compensation
            through_scale = exponent * _inner_product(through_inner, inner)
            through_scale -= 2.0 * _inner_product(through_start, iteration.start)
            through_moment += _scale_gradient(moment, scale, normalization) * (through_scale / scale)
        gradient = through_moment @ rows + inner @ through_rows if gram else rows @ through_moment
        return ops.reshape(_centered(gradient), ops.shape(x))

    return root, backward


def _root_of_any_size(x: Any, iterations: int, normalization: str | None, gram: Any) -> tuple[Any, Backward]:
    """What `_root` returns, where a graph learns when it runs, from a bool scalar, which form is the cheaper one.

    The derivative computes the root again: what one branch of a graph remembers is not seen by another.
    """
    roots = [partial(_root, x, iterations, normalization, form) for form in (True, False)]

    def backward(cotangent: Any) -> Any:
        return ops.cond(gram, *(lambda root=root: root()[1](cotangent) for root in roots))

    return ops.cond(gram, *(lambda root=root: root()[0] for root in roots)), backward


def _scale(moment: Any, rows: Any, normalization: str | None, gram: bool) -> Any:
    """What the moment is divided by, (batch, 1, 1); 1 where it would be 0, so that a zero matrix stays zero."""
    if normalization is None:
        return ops.ones_like(moment[:, :1, :1]) * _number_of_rows(rows)
    if normalization == "frobenius":
        return frobenius_norm(moment)
    diagonal = ops.sum(ops.square(rows), axis=2 if gram else 1)  # of the moment, by operations that every runtime has
    trace = ops.sum(diagonal, axis=-1)
    return ops.where(trace > 0, trace, ops.ones_like(trace))[:, None, None]


def _scale_gradient(moment: Any, scale: Any, normalization: str) -> Any:
    """The derivative of `_scale` with respect to the moment."""
    return identity_like(moment) if normalization == "trace" else moment / scale


def _upper_triangle(matrix: Any) -> tuple[Any, Backward]:
    """Two gathers, with whole rows of the batch moved at a time; the derivative of one would be a scatter."""
    dimension = matrix.shape[-1]
    places, sources = _triangle_indices(dimension)

    def gather(flat: Any, indices: np.ndarray) -> Any:
        return ops.transpose(ops.take(ops.transpose(flat), indices, axis=0))

    def backward(cotangent: Any) -> Any:
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


def _centered_rows(x: Any) -> Any:
    """Positions as rows, their mean removed: (batch, height, width, d) -> (batch, N, d)."""
    shape, positions = ops.shape(x), _positions(x)
    if positions is not None and positions < LEAST_POSITIONS:
        raise InputError(f"{_TOO_FEW} Received: features of {x.shape[1]}x{x.shape[2]}")
    rows = ops.reshape(x, (shape[0], positions or shape[1] * shape[2], x.shape[-1]))
    return _centered(rows)


def _centered(rows: Any) -> Any:
    return rows - ops.sum(rows, axis=1, keepdims=True) / _number_of_rows(rows)  # Keras' mean may be of lower precision


def _positions(x: Any) -> int | None:
    """Height * width, where both are known."""
    height, width = x.shape[1:3]
    return None if height is None or width is None else height * width


def _number_of_rows(rows: Any) -> Any:
    """N, as a number or a scalar of the rows' dtype; the graph stops where it turns out too small for a covariance."""
    static = rows.shape[1]
    if static is not None:
        return float(static)
    import tensorflow as tf  # of the backends it alone has graphs for unknown sizes

    count = tf.shape(rows)[1]
    enough = tf.debugging.Assert(count >= LEAST_POSITIONS, [_TOO_FEW, "Received positions:", count])
    with tf.control_dependencies([enough]):
        return tf.cast(count, rows.dtype)


def _is_gram_cheaper(x: Any, iterations: int) -> Any:
    """Whether the Gram form has fewer multiplications forward: a bool, or a scalar where the positions are unknown."""
    positions = _positions(x)
    if positions is None:
        shape = ops.cast(ops.shape(x), "float32")  # of whole numbers the products would overflow
        positions = shape[1] * shape[2]
    gram, covariance = (multiplications(form, positions, x.shape[-1], iterations) for form in ("gram", "covariance"))
    return gram < covariance


def _inner_product(a: Any, b: Any) -> Any:
    """(batch, 1, 1)."""
    return ops.sum(a * b, axis=(1, 2), keepdims=True)
