"""The diagnosis of covariances whose spectrum is known."""

import numpy as np
import pytest

from mpncov_zoo.representations import diagnose
from tests.representations.test_covariance import polynomial

EIGENVALUES = np.array([4.0, 1.0, 0.25, 0.01])


def features_with(eigenvalues: np.ndarray, positions: int = 12) -> np.ndarray:
    """(1, positions, 1, d), whose sample covariance has these eigenvalues."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (positions, len(eigenvalues)))
    white, _ = np.linalg.qr(rows - rows.mean(axis=0))
    rotation, _ = np.linalg.qr(rng.normal(0, 1, (len(eigenvalues),) * 2))
    return (white * np.sqrt(positions * eigenvalues) @ rotation.T + 5)[None, :, None]


def test_known_spectrum() -> None:
    found = diagnose(features_with(EIGENVALUES))
    scaled = EIGENVALUES / EIGENVALUES.sum()
    residuals = [np.linalg.norm(polynomial(scaled, k) ** 2 - scaled) for k in range(1, 6)]
    np.testing.assert_allclose(found.trace, [5.26])
    np.testing.assert_allclose(found.condition_number, [400], rtol=1e-9)
    np.testing.assert_allclose(found.spectrum, [EIGENVALUES], rtol=1e-9)
    np.testing.assert_allclose(found.residuals, [residuals], rtol=1e-7)
    np.testing.assert_allclose(found.root_spectrum, [polynomial(scaled, 5) * np.sqrt(5.26)], rtol=1e-9)
    assert found.rank.tolist() == [4]


def test_rank_deficient_and_constant_features() -> None:
    x = np.concatenate([features_with(np.array([1.0, 0.5, 0, 0])), np.ones((1, 12, 1, 4))])
    found = diagnose(x, iterations=2)
    assert found.rank.tolist() == [2, 0]
    assert found.condition_number.tolist() == [np.inf, np.inf]
    assert found.residuals.shape == (2, 2) and not found.residuals[1].any() and not found.spectrum[1].any()


def test_table_has_a_line_an_image() -> None:
    lines = str(diagnose(features_with(EIGENVALUES).astype(np.float32), iterations=3)).splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:4] == ["0", "5.26", "4", "400"] and len(lines[1].split()) == 7


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"Received: shape \(12, 4\)"):
        diagnose(np.ones((12, 4)))
    with pytest.raises(ValueError, match="iterations=0"):
        diagnose(np.ones((1, 3, 4, 4)), iterations=0)


def test_features_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="finite features"):
        diagnose(np.full((1, 2, 2, 3), np.nan))
