"""What the covariances of some features are like, and how well the iteration takes their square root."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from mpncov_zoo.representations.covariance import ITERATIONS, covariance, isqrt_covariance, newton_schulz_sqrt


@dataclass(frozen=True)
class Diagnosis:
    """Facts of the sample covariance S of every image, in float64.

    Attributes:
        trace: of S, the sum of the channels' variances; (batch,).
        rank: eigenvalues above d times the machine epsilon of the largest, as NumPy's matrix_rank counts; (batch,).
        condition_number: the largest eigenvalue over the smallest; infinite where the rank is below d; (batch,).
        residuals: |Y^2 - A| after each iteration, Frobenius norm, of A = S / trace(S); (batch, iterations).
        spectrum: eigenvalues of S, largest first; (batch, d).
        normalized_spectrum: eigenvalues of the normalised covariance, which replaces S; (batch, d).
    """

    trace: np.ndarray
    rank: np.ndarray
    condition_number: np.ndarray
    residuals: np.ndarray
    spectrum: np.ndarray
    normalized_spectrum: np.ndarray

    def __str__(self) -> str:
        header = "image       trace   rank   condition   |Y^2 - A| after each iteration"
        rows = zip(self.trace, self.rank, self.condition_number, self.residuals, strict=True)
        lines = [
            f"{image:5d}{trace:12.4g}{rank:7d}{condition:12.3g}   {' '.join(f'{value:.1e}' for value in residuals)}"
            for image, (trace, rank, condition, residuals) in enumerate(rows)
        ]
        return "\n".join([header, *lines])


def diagnose(x: Any, *, iterations: int = ITERATIONS) -> Diagnosis:
    """Diagnose the input of covariance pooling.

    Args:
        x: features, (batch, height, width, d).
        iterations: Newton-Schulz steps, with the trace as pre-normalisation.

    Returns:
        A `Diagnosis`; `print` shows it as a table.

    Raises:
        ValueError: x has another rank, or iterations is less than 1.

    Example:
        >>> extract = mpncov_zoo.feature_extractor("mpncov_cifar_resnet20", ["reduction"])
        >>> print(diagnose(extract(extract.preprocess("boot.png"))["reduction"]))
    """
    features = ops.cast(ops.convert_to_tensor(x), "float64")
    if len(features.shape) != 4 or iterations < 1:
        raise ValueError(
            "diagnose expects features of (batch, height, width, d) and iterations of at least 1. "
            f"Received: shape {tuple(features.shape)}, iterations={iterations}"
        )
    matrices = ops.convert_to_numpy(covariance(features))
    spectrum = np.maximum(np.linalg.eigvalsh(matrices)[:, ::-1], 0)
    trace = np.trace(matrices, axis1=1, axis2=2)
    a = matrices / np.where(trace > 0, trace, 1)[:, None, None]
    roots = [ops.convert_to_numpy(newton_schulz_sqrt(ops.convert_to_tensor(a), k)) for k in range(1, iterations + 1)]
    rank = np.linalg.matrix_rank(matrices, hermitian=True)
    full = rank == spectrum.shape[1]
    smallest = np.where(full, spectrum[:, -1], 1)
    normalized = ops.convert_to_numpy(isqrt_covariance(features, iterations=iterations))
    return Diagnosis(
        trace=trace,
        rank=rank,
        condition_number=np.where(full, spectrum[:, 0] / smallest, np.inf),
        residuals=np.stack([np.linalg.norm(root @ root - a, axis=(1, 2)) for root in roots], axis=1),
        spectrum=spectrum,
        normalized_spectrum=np.linalg.eigvalsh(normalized)[:, ::-1],
    )
