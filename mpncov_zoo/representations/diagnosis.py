"""What the covariances of some features are like, and how well the iteration takes their square root."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from mpncov_zoo.representations.newton_schulz import ITERATIONS, check_iterations


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Facts of the sample covariance S of every image, computed in float64.

    Attributes:
        trace: of S, the sum of the channels' variances; (batch,).
        rank: eigenvalues above d times the machine epsilon of the largest, as NumPy's matrix_rank counts; (batch,).
        condition_number: the largest eigenvalue over the smallest; infinite where the rank is below d, also for S = 0;
            (batch,).
        residuals: |Y^2 - A| after each iteration, Frobenius norm, of A = S / trace(S); (batch, iterations).
        spectrum: eigenvalues of S, largest first; (batch, d).
        root_spectrum: eigenvalues of the compensated root that the layer puts in the place of S; (batch, d).
    """

    trace: np.ndarray
    rank: np.ndarray
    condition_number: np.ndarray
    residuals: np.ndarray
    spectrum: np.ndarray
    root_spectrum: np.ndarray

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
        ValueError: x has another number of axes, is empty or not finite, or iterations is less than 1.

    Example:
        >>> extract = mpncov_zoo.feature_extractor("mpncov_cifar_resnet20", ["reduction"])
        >>> print(diagnose(extract(extract.preprocess("boot.png"))["reduction"]))
    """
    features = np.asarray(ops.convert_to_numpy(x)).astype(np.float64)
    check_iterations(iterations)
    if features.ndim != 4:
        raise ValueError(f"diagnose expects features of (batch, height, width, d). Received: shape {features.shape}")
    if not features.size or not np.isfinite(features).all():
        raise ValueError("diagnose expects finite features of one position or more. Received NaN, infinity or nothing.")
    rows = features.reshape(len(features), -1, features.shape[-1])
    rows = rows - rows.mean(axis=1, keepdims=True)
    matrices = rows.swapaxes(1, 2) @ rows / rows.shape[1]
    spectrum = np.maximum(np.linalg.eigvalsh(matrices)[:, ::-1], 0)
    trace = spectrum.sum(axis=1)
    rank = (spectrum > spectrum[:, :1] * spectrum.shape[1] * np.finfo(np.float64).eps).sum(axis=1)
    smallest = np.where(rank == spectrum.shape[1], spectrum[:, -1], 1)
    scaled = spectrum / np.where(trace > 0, trace, 1)[:, None]
    roots = _iterate(scaled, iterations)
    return Diagnosis(
        trace=trace,
        rank=rank,
        condition_number=np.where(rank == spectrum.shape[1], spectrum[:, 0] / smallest, np.inf),
        residuals=np.stack([np.linalg.norm(root**2 - scaled, axis=1) for root in roots], axis=1),
        spectrum=spectrum,
        root_spectrum=roots[-1] * np.sqrt(trace)[:, None],
    )


def _iterate(eigenvalues: np.ndarray, iterations: int) -> list[np.ndarray]:
    """What each iteration makes of the eigenvalues of A: those of Y."""
    y, w, roots = eigenvalues, eigenvalues, []
    for _ in range(iterations):
        step = (3 - w) / 2
        y, w = y * step, w * step**2
        roots.append(y)
    return roots
