"""What every public layer promises: a complete configuration, `.keras` reload, float32 under mixed precision."""

import inspect
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

Make = Callable[..., layers.Layer]


def assert_complete_configuration(layer: layers.Layer) -> None:
    """Every argument of the constructor is in the configuration, and the configuration makes the same layer."""
    config = layer.get_config()
    assert set(config) == set(inspect.signature(type(layer).__init__).parameters) - {"self"}
    assert type(layer).from_config(config).get_config() == config


def assert_reloads(layer: layers.Layer, features: np.ndarray, path: Path) -> None:
    """A model of the layer, saved and loaded again, gives the same numbers for any image size."""
    inputs = keras.Input((None, None, features.shape[-1]))
    model = keras.Model(inputs, layer(inputs))
    model.save(path)
    reloaded = keras.models.load_model(path)
    np.testing.assert_array_equal(reloaded(features), model(features))
    assert np.asarray(model(features)).any()


def assert_float32_under_mixed_precision(make: Make, features: np.ndarray) -> None:
    """16-bit inputs are widened before anything is computed: the result is float32's on the rounded inputs."""
    for policy, rounding in (("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")):
        rounded = keras.ops.cast(features, rounding)
        expected = make(dtype="float32")(keras.ops.cast(rounded, "float32"))
        actual = make(dtype=policy)(rounded)
        assert keras.backend.standardize_dtype(actual.dtype) == "float32"
        np.testing.assert_array_equal(actual, expected)


def central_differences(function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Gradient of a scalar function, in float64, one entry at a time."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        shifted = [x.copy(), x.copy()]
        for array, sign in zip(shifted, (1, -1), strict=True):
            array[index] += sign * step
        gradient[index] = (function(shifted[0]) - function(shifted[1])) / (2 * step)
    return gradient
