"""The matrix square root of MPA-Lya: Song, Sebe, Wang, Fast Differentiable Matrix Square Root, ICLR 2022.

Forward is a matrix Padé approximant: products and one linear system. Backward solves the Lyapunov equation by an
iteration. `docs/representations.md` derives both, and measures the two points where we depart from the paper:

- The approximant of degree [m, m] of sqrt(1 - z) is P / Q, with P and Q below. It is 1 / (2 m + 1) where the root is 0.
  We compute A Q / P, the matrix times the approximant of its inverse root, which keeps zero eigenvalues at zero.
- Between a zero eigenvalue and another one the published iteration gives half of the solution. We give all of it.
"""

from functools import partial
from math import comb
from typing import Any

from keras import ops

from mpncov_zoo.representations.gradients import (
    Backward,
    frobenius_norm,
    identity_like,
    plus_transpose,
    square_matrices,
    transpose,
    with_gradient,
)

DEGREE = 5  # of both polynomials, as in the paper
STEPS = 8  # of the iteration for the Lyapunov equation, as in the paper


def pade_sqrt(matrix: Any, *, degree: int = DEGREE, steps: int = STEPS, gradient: str = "analytic") -> Any:
    """Square root of a symmetric positive semi-definite matrix by its Padé approximant.

    The matrix is divided by its Frobenius norm. An eigenvalue a of the result becomes A Q / P, which is
    sqrt(a) tanh((2 degree + 1) artanh(sqrt(a))): at most 0.026 below sqrt(a) for degree 5, and zero for zero.

    Args:
        matrix: (batch, d, d).
        degree: of the polynomials, at least 1. The linear system has the condition number 4^degree: 5 suits float32.
        steps: of the iteration backward, at least 1.
        gradient: "analytic" solves the Lyapunov equation, "autodiff" differentiates the approximant, which is faster.

    Returns:
        (batch, d, d); zeros for a matrix of zeros.

    Raises:
        ValueError: not square matrices.
    """
    root = partial(_root, degree=degree, steps=steps)
    square_matrices(matrix)
    return with_gradient(root, matrix) if gradient == "analytic" else root(matrix)[0]


def pade_coefficients(degree: int = DEGREE) -> tuple[list[int], list[int]]:
    """Of P and Q as polynomials of a = 1 - z, the constant first; P / Q is the [degree, degree] approximant of sqrt(a).

    With s = sqrt(a) and n = 2 degree + 1, the even powers in (1 - s)^n are P, and the odd ones are -s Q. So P - s Q
    vanishes to the order n at a = 1: the Taylor series of P / Q and of s agree there in n terms, as Padé's must.
    """
    n = 2 * degree + 1
    return [comb(n, 2 * k) for k in range(degree + 1)], [comb(n, 2 * k + 1) for k in range(degree + 1)]


def lyapunov(root: Any, right: Any, steps: int = STEPS) -> Any:
    """X with root X + X root = right, by the Newton-Schulz iteration for the sign of [[root, right], [0, -root]].

    Between two eigenvalues whose signs have come to s and t, the iteration has (s + t) / 2 of the solution. It has half
    of it where one of them is zero; it is multiplied by s + t + 1 - 2 s t, which is 2 there and 1 for s = t = 1.

    Args:
        root: symmetric, with eigenvalues in [0, 1], (batch, d, d).
        right: symmetric, (batch, d, d).
        steps: of the iteration; an eigenvalue b converges when 1.5^steps b is well above 1.

    Returns:
        (batch, d, d), symmetric; between two zero eigenvalues, where there is no solution, 1.5^steps / 2 of `right`.
    """
    sign, solution = root, 0.5 * right
    for _ in range(steps):
        product = solution @ sign
        solution = 1.5 * solution + plus_transpose((0.25 * transpose(product) - 0.5 * product) @ sign)
        sign = 1.5 * sign - 0.5 * (sign @ sign) @ sign
    product = sign @ solution
    return solution + plus_transpose(product - product @ sign)


def _root(matrix: Any, degree: int, steps: int) -> tuple[Any, Backward]:
    """sqrt(norm) A P^-1 Q with A = matrix / norm, and the solution of its Lyapunov equation."""
    norm = frobenius_norm(matrix)
    normalized = matrix / norm
    above, below = _polynomials(normalized, degree)
    # TensorFlow stops where an image's values are not numbers; so its system is another one, and its root NaN by Q.
    finite = ops.all(ops.isfinite(above), axis=(1, 2), keepdims=True)
    inverse_root = ops.solve(ops.where(finite, above, identity_like(above)), below)
    root = 0.5 * plus_transpose(normalized @ inverse_root)  # symmetric but for rounding

    def backward(cotangent: Any) -> Any:
        return lyapunov(root, 0.5 * plus_transpose(cotangent), steps) / ops.sqrt(norm)

    return root * ops.sqrt(norm), backward


def _polynomials(matrix: Any, degree: int) -> list[Any]:
    """P and Q of a matrix. All coefficients are positive, so nothing cancels, and P has eigenvalues from 1 on."""
    powers = [identity_like(matrix), matrix]
    while len(powers) <= degree:
        powers.append(powers[-1] @ matrix)
    return [sum(c * power for c, power in zip(row, powers, strict=True)) for row in pade_coefficients(degree)]
