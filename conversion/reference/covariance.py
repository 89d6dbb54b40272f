"""iSQRT-COV in PyTorch: the published operations, without their derivative."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

import torch
from torch import Tensor

from mpncov_zoo.architectures import Architecture

ITERATIONS = 5  # of every published network


def reduced_channels(architecture: Architecture) -> int | None:
    """To how many channels features are reduced before the covariance; None: they are not.

    Raises:
        ValueError: an option that the published layer has not.
    """
    options = dict(architecture.representation_options)
    reduced = options.pop("dimension_reduction", None) or None
    if options.keys() - {"iterations", "dropout"}:
        raise ValueError(f"The published layer has no options {sorted(options.keys() - {'iterations', 'dropout'})}.")
    return reduced


def covariance_stages(x: Tensor, architecture: Architecture) -> dict[str, Tensor]:
    """Features (batch, d, height, width) -> covariance (batch, d, d) and representation (batch, d (d + 1) / 2)."""
    root = isqrt_covariance(x, architecture.representation_options.get("iterations", ITERATIONS))
    return {"covariance": root, "representation": upper_triangle(root)}


def isqrt_covariance(x: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Covariance, trace normalisation, coupled Newton-Schulz, compensation.

    Args:
        x: (batch, d, height, width).
        iterations: at least 1.

    Returns:
        (batch, d, d).
    """
    batch, d, height, width = x.shape
    rows = x.reshape(batch, d, height * width)
    covariance = rows @ centering_matrix(height * width, x) @ rows.transpose(1, 2)
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    y, z = covariance / trace, identity
    for _ in range(iterations):
        step = 0.5 * (3 * identity - z @ y)
        y, z = y @ step, step @ z
    return y * trace.sqrt()


def centering_matrix(positions: int, like: Tensor) -> Tensor:
    """(I - 11'/N) / N, in the precision of a tensor; the published layer rounds it to float32 in every precision."""
    return (torch.eye(positions, dtype=like.dtype, device=like.device) - 1 / positions) / positions


def upper_triangle(matrix: Tensor) -> Tensor:
    """(batch, d, d) -> (batch, d (d + 1) / 2), row by row."""
    d = matrix.shape[-1]
    row, column = torch.triu_indices(d, d, device=matrix.device)
    return matrix[:, row, column]
