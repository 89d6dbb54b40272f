"""What maps are made of: a row for each layer, and the steps for each of its tensors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from mpncov_zoo.architectures import Architecture

GRIDS = (6, 7)  # sizes of the grids before a linear layer, of VGG-M and VGG
Transform = Callable[[np.ndarray], np.ndarray]
Row = tuple[str, str, str]  # their layer, our layer, kind
Rows = Callable[[Architecture], list[Row]]
Leaves = Mapping[str, tuple[tuple[str, str, str], ...]]  # kind -> their leaf, our leaf, transform


@dataclass(frozen=True)
class Step:
    """The way of one tensor: its name in the checkpoint, its variable here, and how its axes change."""

    source: str
    target: str
    transform: str  # a name out of TRANSFORMS


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def _convolution(kernel: np.ndarray) -> np.ndarray:
    """(out, in, height, width) -> (height, width, in, out)."""
    return kernel.transpose(2, 3, 1, 0)


def _depthwise(kernel: np.ndarray) -> np.ndarray:
    """(channels, 1, height, width) -> (height, width, channels, 1)."""
    return kernel.transpose(2, 3, 0, 1)


def _row(array: np.ndarray) -> np.ndarray:
    """(1, channels), which is how MATLAB's files hold vectors, -> (channels,)."""
    return array[0] if array.ndim == 2 and len(array) == 1 else array  # another shape is refused as it is


def _matrix(kernel: np.ndarray) -> np.ndarray:
    """(1, 1, in, out), a convolution of one position, -> (in, out)."""
    if kernel.shape[:2] != (1, 1):
        raise ValueError("not of one position")
    return kernel[0, 0]


def _grid(size: int, kernel: np.ndarray) -> np.ndarray:
    """(size, size, in, out), a convolution of a whole grid, -> (in * size * size, out), channels first."""
    if kernel.shape[:2] != (size, size):
        raise ValueError(f"not of {size}x{size} positions")
    return kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[3])


def _grid_back(size: int, matrix: np.ndarray) -> np.ndarray:
    return matrix.reshape(-1, size, size, matrix.shape[1]).transpose(1, 2, 0, 3)


def _triangle(kernel: np.ndarray) -> np.ndarray:
    """(1, 1, d (d + 1) / 2, out), of an upper triangle column by column, -> (d (d + 1) / 2, out), of one row by row."""
    return _matrix(kernel)[_by_columns(kernel.shape[2])]


def _triangle_back(matrix: np.ndarray) -> np.ndarray:
    kernel = np.empty_like(matrix)
    kernel[_by_columns(len(matrix))] = matrix
    return kernel[np.newaxis, np.newaxis]


def _by_columns(length: int) -> np.ndarray:
    """The place in a triangle column by column of each entry of the same row by row: j (j + 1) / 2 + i for i <= j."""
    d = (math.isqrt(8 * length + 1) - 1) // 2
    if d * (d + 1) // 2 != length:
        raise ValueError("no triangle has that many entries")
    row, column = np.triu_indices(d)
    return column * (column + 1) // 2 + row


TRANSFORMS: Mapping[str, Transform] = {
    "as it is": _as_it_is,
    "OIHW to HWIO": _convolution,
    "OIHW to HWOI": _depthwise,
    "transposed": np.transpose,
    "first row": _row,
    "HWIO to IO": _matrix,
    **{f"{size}x{size} grid to rows": partial(_grid, size) for size in GRIDS},
    "triangle by columns to rows": _triangle,
}
INVERSES: Mapping[str, Transform] = {
    "as it is": _as_it_is,
    "OIHW to HWIO": lambda kernel: kernel.transpose(3, 2, 0, 1),
    "OIHW to HWOI": lambda kernel: kernel.transpose(2, 3, 0, 1),
    "transposed": np.transpose,
    "first row": lambda array: array[np.newaxis],
    "HWIO to IO": lambda matrix: matrix[np.newaxis, np.newaxis],
    **{f"{size}x{size} grid to rows": partial(_grid_back, size) for size in GRIDS},
    "triangle by columns to rows": _triangle_back,
}

PYTORCH: Leaves = {
    "conv": (("weight", "kernel", "OIHW to HWIO"),),
    "conv with bias": (("weight", "kernel", "OIHW to HWIO"), ("bias", "bias", "as it is")),
    "depthwise conv": (("weight", "kernel", "OIHW to HWOI"),),
    "bn": (
        ("weight", "gamma", "as it is"),
        ("bias", "beta", "as it is"),
        ("running_mean", "moving_mean", "as it is"),
        ("running_var", "moving_variance", "as it is"),
    ),
    "linear": (("weight", "kernel", "transposed"), ("bias", "bias", "as it is")),
}


LAYER_REDUCE = ("layer_reduce", "layer_reduce_bn")  # upstream's names of the reduction in a ResNet
CONV_DR_BLOCK = ("representation.conv_dr_block.0", "representation.conv_dr_block.1")  # and in its own representation


def conv_and_bn(theirs: tuple[str, str], ours: str, index: int | str = "", kind: str = "conv") -> list[Row]:
    """The rows of a convolution and of the normalisation behind it, which have two names there."""
    return [(theirs[0], f"{ours}_conv{index}", kind), (theirs[1], f"{ours}_bn{index}", "bn")]


def reduction(architecture: Architecture, theirs: tuple[str, str]) -> list[Row]:
    """The rows of the convolution before the covariance, in networks that have one."""
    if not architecture.representation_options.get("dimension_reduction"):
        return []
    return conv_and_bn(theirs, "representation/reduction")


def pytorch_steps(rows: list[Row]) -> list[Step]:
    """The tensors of a table's layers, with PyTorch's names and orders of axes."""
    return [
        Step(f"{theirs}.{leaf}", f"{ours}/{variable}", transform)
        for theirs, ours, kind in rows
        for leaf, variable, transform in PYTORCH[kind]
    ]
