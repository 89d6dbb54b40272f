"""Shorter vectors: a random projection, which keeps distances, or principal components, fitted on a sample."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np

from mpncov_zoo.errors import InputError


class Compact(Protocol):
    """From features to fewer of them."""

    @property
    def facts(self) -> dict[str, Any]:
        """What decides on the values, as plain data."""
        ...

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32 (images, features) -> float32 (images, fewer)."""
        ...


@dataclass(frozen=True)
class Projection:
    """A sparse random projection (Li, Hastie, Church, KDD 2006), by scikit-learn.

    It knows nothing of the images, so all machines project alike. Distances stay within `distance_bound`.

    Attributes:
        features: before.
        length: after, fewer.
        seed: of the projection.
    """

    features: int
    length: int
    seed: int

    def __post_init__(self) -> None:
        require_fewer("project", self.length, self.features)

    @property
    def facts(self) -> dict[str, Any]:
        matrix = self._fitted.components_
        digest = hashlib.sha256(matrix.indices.tobytes() + matrix.data.tobytes()).hexdigest()
        how = {"seed": self.seed, "sha256": digest}
        return {"kind": "sparse random projection", "from": self.features, "to": self.length, **how}

    @cached_property
    def _fitted(self) -> Any:
        from sklearn.random_projection import SparseRandomProjection

        projection = SparseRandomProjection(self.length, dense_output=True, random_state=self.seed)
        return projection.fit(np.zeros((1, self.features), np.float32))  # it looks at the shape alone

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return self._fitted.transform(features).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of a sample, by scikit-learn.

    Attributes:
        mean: (features,), of the sample.
        components: (length, features), orthonormal, the strongest first.
        explained: the share of the sample's variance that they keep.
        sample: how many images the sample had.
        seed: of the sample and of the solver.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: float
    sample: int
    seed: int

    @classmethod
    def fitted(cls, features: np.ndarray, length: int, seed: int) -> Components:
        """Fit them on a sample.

        Args:
            features: float32 (images, features).
            length: how many components.
            seed: of the solver.

        Raises:
            InputError: there are fewer images or features than components.
        """
        from sklearn.decomposition import PCA

        require_fewer("pca", length, features.shape[1])
        if length > len(features):
            raise InputError(f"pca={length} needs as many images to learn from. Received: {len(features)}.")
        found = PCA(length, svd_solver="randomized", random_state=seed).fit(features)
        mean, components = found.mean_.astype(np.float32), found.components_.astype(np.float32)
        return cls(mean, components, float(found.explained_variance_ratio_.sum()), len(features), seed)

    @property
    def facts(self) -> dict[str, Any]:
        length, features = self.components.shape
        digest = hashlib.sha256(self.mean.tobytes() + self.components.tobytes()).hexdigest()
        how = {"sample": self.sample, "seed": self.seed, "explained_variance": self.explained, "sha256": digest}
        return {"kind": "principal components", "from": features, "to": length, **how}

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.components.T

    def to_bytes(self) -> bytes:
        """As a file of NumPy, .npz."""
        stream = io.BytesIO()
        facts = np.array([self.explained, self.sample, self.seed], np.float64)
        np.savez(stream, mean=self.mean, components=self.components, facts=facts)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Components:
        """What `to_bytes` wrote.

        Raises:
            InputError: it is damaged.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                explained, sample, seed = file["facts"]
                return cls(file["mean"], file["components"], float(explained), int(sample), int(seed))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(f"The principal components of this output are damaged ({error}): begin anew.") from None


def distance_bound(length: int, images: int) -> float:
    """How far, as a share, squared distances between images may be from those before the projection.

    It is the e of the lemma of Johnson and Lindenstrauss, as scikit-learn's `johnson_lindenstrauss_min_dim` has it: 4
    ln(images) / (e^2 / 2 - e^3 / 3) = length. All pairs of images are within 1 - e and 1 + e with high probability. 1
    means that nothing is promised.
    """
    from scipy.optimize import brentq

    needed = 4 * np.log(max(images, 2)) / length
    if needed >= 1 / 6:  # the denominator at e = 1
        return 1.0
    return float(brentq(lambda e: e**2 / 2 - e**3 / 3 - needed, 0, 1))


def require_fewer(argument: str, length: int, features: int) -> None:
    """Refuse a length that is not less than that of the features."""
    if not 1 <= length < features:
        raise InputError(f"{argument} must be between 1 and {features - 1}, for features of {features}: {length}.")
