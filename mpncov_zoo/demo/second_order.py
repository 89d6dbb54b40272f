"""The second-order statistics of one image that the demonstration page shows: pure functions of NumPy, in float64.

The sample covariance is that of `docs/representations.md`: S = X' (I - 11'/N) X / N over the N positions.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pair:
    """Two different channels.

    Attributes:
        first, second: their numbers, counted from 0; the first is the smaller one.
        covariance: their entry of the matrix.
        correlation: the entry divided by both standard deviations, between -1 and 1.
    """

    first: int
    second: int
    covariance: float
    correlation: float


def centred_rows(features: np.ndarray) -> np.ndarray:
    """The features of one image less the mean of each channel: (height, width, d) -> float64 (height * width, d)."""
    rows = features.astype(np.float64).reshape(-1, features.shape[-1])
    return rows - rows.mean(axis=0)


def covariance(features: np.ndarray) -> np.ndarray:
    """The sample covariance over positions: (height, width, d) -> float64 (d, d)."""
    rows = centred_rows(features)
    return rows.T @ rows / len(rows)


def spectrum(features: np.ndarray) -> np.ndarray:
    """The eigenvalues of the sample covariance, largest first: (height, width, d) -> float64 (d,).

    They are the squared singular values of the centred features, which takes no d x d matrix of 2,048 channels.
    """
    rows = centred_rows(features)
    values = np.linalg.svd(rows / np.sqrt(len(rows)), compute_uv=False) ** 2
    return np.pad(values, (0, rows.shape[1] - len(values)))


def eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """The eigenvalues of a symmetric matrix (d, d), largest first, none below 0: float64 (d,)."""
    return np.maximum(np.linalg.eigvalsh(matrix.astype(np.float64))[::-1], 0)


def rank(values: np.ndarray) -> int:
    """How many eigenvalues (d,), largest first, are above d times float32's epsilon of the largest.

    It is the rank that a float32 covariance would show; one of float64 may have more.
    """
    return int((values > values[0] * len(values) * np.finfo(np.float32).eps).sum())


def strongest_pairs(matrix: np.ndarray, count: int) -> list[Pair]:
    """The pairs with the largest covariances, positive or negative, strongest first; no channel stands in two of them.

    Args:
        matrix: a covariance, (d, d).
        count: at most so many pairs; fewer where no others vary together.
    """
    first, second = np.triu_indices(len(matrix), k=1)
    sizes = np.abs(matrix[first, second])
    deviations, free, pairs = np.sqrt(np.diag(matrix)), np.ones(len(matrix), bool), []
    while len(pairs) < count and sizes.size and sizes.max() > 0:
        best = sizes.argmax()
        i, j = int(first[best]), int(second[best])
        pairs.append(Pair(i, j, float(matrix[i, j]), float(matrix[i, j] / (deviations[i] * deviations[j]))))
        free[[i, j]] = False
        sizes = np.where(free[first] & free[second], sizes, 0)
    return pairs


def channel_map(features: np.ndarray, channel: int) -> np.ndarray:
    """One channel less its mean: (height, width, d) -> float64 (height, width)."""
    return centred_rows(features)[:, channel].reshape(features.shape[:2])


def product_map(features: np.ndarray, pair: Pair) -> np.ndarray:
    """The product of two centred channels, whose mean over the positions is their covariance: (height, width)."""
    return channel_map(features, pair.first) * channel_map(features, pair.second)


def most_varying(matrix: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the channels with the largest variances, at most `count` of them, in ascending order."""
    return np.sort(np.argsort(-np.diag(matrix), kind="stable")[:count])
