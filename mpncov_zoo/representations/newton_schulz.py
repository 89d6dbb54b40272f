"""The coupled Newton-Schulz iteration of iSQRT-COV (Li, Xie, Wang, Gao, CVPR 2018, Sec. 3.2) and its derivative.

Computed on W = Z Y alone: with T = (3I - W) / 2 it is Y <- Y T, Z <- Z T, W <- W T T. Y and Z are the same product of
the T, and all of them commute with the matrix, so one of the two is enough. W is carried as -W / 2, which makes T one
addition; it begins as `start` = -A / 2. The last two T are multiplied as one polynomial Q of the first of them. In all
3 K - 4 products for K > 2 iterations, and 4 K - 4 for the derivative (4 K - 5 of Z).
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from mpncov_zoo.representations.gradients import identity_like, plus_transpose, square_matrices, transpose

ITERATIONS = 5  # of every published network


def newton_schulz_sqrt(matrix: Any, iterations: int = ITERATIONS) -> Any:
    """Y -> matrix^(1/2), for a matrix whose eigenvalues lie in [0, 1]; up to 3 it converges, too.

    Args:
        matrix: symmetric positive semi-definite, (batch, d, d).
        iterations: at least 1.

    Returns:
        Y after the iterations, (batch, d, d).

    Raises:
        ValueError: not square matrices, or iterations that are no whole number from 1 on.
    """
    return -2.0 * iterate(_start(matrix), check_iterations(iterations), inverse=False).result


def newton_schulz_inverse_sqrt(matrix: Any, iterations: int = ITERATIONS) -> Any:
    """The Z of the same iteration, with Y = matrix Z: Z -> matrix^(-1/2); (batch, d, d) -> (batch, d, d)."""
    return iterate(_start(matrix), check_iterations(iterations), inverse=True).result


def check_iterations(iterations: int) -> int:
    """The number itself.

    Raises:
        ValueError: it is not a whole number from 1 on.
    """
    if not isinstance(iterations, Integral) or isinstance(iterations, bool) or iterations < 1:
        raise ValueError(f"iterations must be a whole number of at least 1. Received: iterations={iterations!r}")
    return int(iterations)


def _start(matrix: Any) -> Any:
    return -0.5 * square_matrices(matrix)


@dataclass(frozen=True)
class Iteration:
    """The result, and for the derivative every T or Q with what it was multiplied into, None for the first."""

    start: Any
    result: Any
    steps: list[tuple[Any, Any]]  # T, before
    last: tuple[Any, Any, Any]  # T, Q (or T again, where there is one iteration), before


def iterate(start: Any, iterations: int, inverse: bool) -> Iteration:
    """K iterations on A = -2 start; the result is Z if `inverse`, else -Y / 2."""
    identity = 1.5 * identity_like(start)
    w, result, steps = start, None, []
    for _ in range(iterations - 2):
        step = w + identity
        steps.append((step, result))
        product = w @ step
        result = (step if inverse else product) if result is None else result @ step
        w = product @ step
    step = factor = w + identity
    if iterations > 1:
        square = step @ step
        factor = (square - 1.5 * step) @ square + 1.5 * step  # T T' with T' = 1.5 I + W T T
    before, result = result, (factor if inverse else w @ factor) if result is None else result @ factor
    return Iteration(start, result, steps, (step, factor, before))


def adjoint(iteration: Iteration, cotangent: Any, inverse: bool) -> Any:
    """The derivative of `iterate`, transposed.

    Every derivative here is one of a polynomial of one symmetric matrix. For a symmetric direction it is the sum of a
    matrix and its transpose; what is added up, until `plus_transpose`, is the one matrix.

    Args:
        iteration: what `iterate` returned.
        cotangent: half of the result's, which is symmetric.
        inverse: as it was for `iterate`.

    Returns:
        The cotangent of `start`, symmetric.
    """
    step, factor, before = iteration.last
    if before is not None:  # result = before Q
        through_factor, cotangent = before @ cotangent, cotangent @ factor
        total = 0.0
    elif inverse:  # result = Q
        through_factor, total = cotangent, 0.0
    else:  # result = W Q
        symmetric = 0.5 * plus_transpose(cotangent)
        through_factor, total = symmetric @ iteration.start, symmetric @ factor
    if factor is not step:
        through_factor = _through_last_two(plus_transpose(through_factor), step)
    through_w = plus_transpose(through_factor + total)
    for step, before in reversed(iteration.steps):
        total = _through_step(through_w, step)
        if before is not None:  # result = before T
            total += before @ cotangent
            cotangent = cotangent @ step
        elif inverse:  # result = T
            total += cotangent
        else:  # result = W T = W^2 + 1.5 W
            symmetric = plus_transpose(cotangent)
            total += symmetric @ iteration.start + 0.75 * symmetric
        through_w = plus_transpose(total)
    return through_w


def _through_step(e: Any, t: Any) -> Any:
    """Of W' = T^3 - 1.5 T^2: two products where the product rule takes four."""
    f = e @ t
    return (f + 0.5 * transpose(f)) @ t - 1.5 * f


def _through_last_two(e: Any, t: Any) -> Any:
    """Of Q = T^4 - 1.5 T^3 + 1.5 T: three products."""
    f = e @ t
    transposed = transpose(f)
    return ((f + transposed) @ t - (1.5 * f + 0.75 * transposed)) @ t + 0.75 * e
