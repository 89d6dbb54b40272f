"""Global average pooling and VGG's flattened grid against NumPy."""

from pathlib import Path

import keras
import numpy as np
import pytest

from mpncov_zoo.representations.gap import GAP, flatten, gap
from tests import layer_contract

FEATURES = np.random.default_rng(0).normal(0, 1, (2, 5, 4, 3)).astype(np.float32)


def adaptive_average(x: np.ndarray, size: int) -> np.ndarray:
    """PyTorch's AdaptiveAvgPool2d: bin i covers floor(i n / size) to ceil((i + 1) n / size)."""
    _, height, width, _ = x.shape

    def bins(n: int) -> list[slice]:
        return [slice(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]

    return np.stack([np.stack([x[:, r, c].mean((1, 2)) for c in bins(width)], 1) for r in bins(height)], 1)


def test_gap_is_the_mean_over_positions() -> None:
    np.testing.assert_allclose(GAP()(FEATURES), FEATURES.mean((1, 2), dtype=np.float64), atol=1e-6)
    inputs = keras.Input((None, None, 3))
    endpoints = keras.Model(inputs, gap(inputs))(FEATURES)
    assert list(endpoints) == ["representation"]
    np.testing.assert_array_equal(endpoints["representation"], GAP()(FEATURES))


def test_gap_configuration_and_reload(tmp_path: Path) -> None:
    layer_contract.assert_complete_configuration(GAP(name="mean", dtype="float64"))
    layer_contract.assert_reloads(GAP(), FEATURES, tmp_path / "model.keras")


def test_gap_in_float32_under_mixed_precision() -> None:
    layer_contract.assert_float32_under_mixed_precision(lambda dtype: GAP(dtype=dtype), FEATURES)


@pytest.mark.parametrize("height_width", [(3, 3), (6, 6), (5, 4), (2, 7), (1, 1), (1, 4)])
def test_flatten_is_pytorchs_grid_channels_first(height_width: tuple[int, int]) -> None:
    x = np.random.default_rng(1).normal(0, 1, (2, *height_width, 4)).astype(np.float32)
    inputs = keras.Input((*height_width, 4))
    actual = keras.Model(inputs, flatten(inputs, size=3)).predict(x, verbose=0)["representation"]  # in a graph
    expected = adaptive_average(x.astype(np.float64), 3).transpose(0, 3, 1, 2).reshape(2, 36)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_flatten_is_to_vggs_7x7_unless_said_otherwise() -> None:
    inputs = keras.Input((14, 14, 2))
    x = np.random.default_rng(1).normal(0, 1, (1, 14, 14, 2)).astype(np.float32)
    expected = x.reshape(1, 7, 2, 7, 2, 2).mean((2, 4)).transpose(0, 3, 1, 2).reshape(1, 98)
    np.testing.assert_allclose(keras.Model(inputs, flatten(inputs))(x)["representation"], expected, atol=1e-6)


def test_flatten_of_unknown_sizes() -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, flatten(inputs, size=3))
    expected = adaptive_average(FEATURES.astype(np.float64), 3).transpose(0, 3, 1, 2).reshape(2, 27)
    np.testing.assert_allclose(model(FEATURES)["representation"], expected, atol=1e-6)
