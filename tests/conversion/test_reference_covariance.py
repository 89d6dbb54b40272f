"""iSQRT-COV in PyTorch against the published layer's values and against an eigendecomposition."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.parity

from conversion.reference import covariance  # noqa: E402 (needs torch)
from tests.published import GOLDEN, relative_error  # noqa: E402

with np.load(GOLDEN / "head.golden.npz") as _archive:
    HEAD = dict(_archive)
CASES = [key.removesuffix("/vector") for key in HEAD if key.endswith("/vector")]


def published_centering(positions: int, like: Any) -> Any:
    """The published layer's centring matrix, which is float32 in every precision."""
    matrix = torch.ones(positions, positions) * (-1.0 / positions / positions) + torch.eye(positions) / positions
    return matrix.to(like.dtype)


def vector(case: str) -> np.ndarray:
    name, iterations = case.split("/iter")
    root = covariance.isqrt_covariance(torch.from_numpy(HEAD[f"{name}/x_nchw"]), int(iterations))
    return covariance.upper_triangle(root).numpy()


@pytest.mark.parametrize("case", CASES)
def test_golden_values(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = vector(case)
    monkeypatch.setattr(covariance, "centering_matrix", published_centering)
    assert relative_error(vector(case), HEAD[f"{case}/vector"]) < 1e-13
    assert relative_error(exact, HEAD[f"{case}/vector"]) < 1e-7


def test_square_root() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 8, 9))
    root = covariance.isqrt_covariance(torch.from_numpy(x), 40).numpy()
    for actual, positions in zip(root, x.reshape(2, 4, 72), strict=True):
        values, vectors = np.linalg.eigh(np.cov(positions, bias=True))
        np.testing.assert_allclose(actual, (vectors * np.sqrt(values)) @ vectors.T, rtol=1e-10, atol=1e-12)
