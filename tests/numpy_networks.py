"""The published networks in float64 NumPy, from their papers: the reference for the backbones.

Every function takes the weights as {variable path: array} and images (batch, height, width, channels), pads as PyTorch
does ((size - 1) // 2 on each side) and returns the endpoints of the function of the same name.
"""

from collections.abc import Callable, Mapping

import keras
import numpy as np

Weights = Mapping[str, np.ndarray]
Endpoints = dict[str, np.ndarray]
EPSILON = 1e-5


def convolve(
    x: np.ndarray, kernel: np.ndarray, strides: int = 1, bias: np.ndarray | None = None, pad: int | None = None
) -> np.ndarray:
    """Cross-correlate with a kernel (size, size, in, out), symmetrically padded with zeros."""
    size = kernel.shape[0]
    windows = _windows(x, size, strides, pad=(size - 1) // 2 if pad is None else pad, value=0.0)
    return np.einsum("bhwijc,ijco->bhwo", windows, kernel, optimize=True) + (0 if bias is None else bias)


def max_pool(x: np.ndarray, size: int, pad: int = 0) -> np.ndarray:
    """Stride 2, padded with minus infinity."""
    return _windows(x, size, 2, pad=pad, value=-np.inf).max((3, 4))


def _windows(x: np.ndarray, size: int, strides: int, *, pad: int, value: float) -> np.ndarray:
    """(batch, height, width, channels) -> (batch, new height, new width, size, size, channels)."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=value)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::strides, ::strides]
    return np.moveaxis(windows, 3, 5)


def normalize(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """Batch normalisation by the moving statistics."""
    gamma, beta, mean, variance = (
        weights[f"{name}/{kind}"].astype(np.float64) for kind in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def rectify(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def resnet(weights: Weights, x: np.ndarray, block: str, repeats: tuple[int, ...], last_stride: int) -> Endpoints:
    x = rectify(normalize(weights, "stem_bn", convolve(x, weights["stem_conv/kernel"], 2)))
    endpoints = {"stem": max_pool(x, 3, pad=1)}
    return _stages(weights, endpoints, repeats, (1, 2, 2, last_stride), RESIDUALS[block])


def cifar_resnet(weights: Weights, x: np.ndarray, block: str, repeats: int, preactivation: bool) -> Endpoints:
    x = convolve(x, weights["stem_conv/kernel"])
    if not preactivation:
        endpoints = {"stem": rectify(normalize(weights, "stem_bn", x))}
        return _stages(weights, endpoints, (repeats,) * 3, (1, 2, 1), RESIDUALS[block])
    endpoints = _stages(weights, {"stem": x}, (repeats,) * 3, (1, 2, 1), PREACTIVATED[block])
    endpoints["stage3"] = rectify(normalize(weights, "final_bn", endpoints["stage3"]))
    return endpoints


def vgg(weights: Weights, x: np.ndarray, repeats: tuple[int, ...], batch_norm: bool, last_pool: bool) -> Endpoints:
    endpoints = {}
    for stage, count in enumerate(repeats, 1):
        for index in range(1, count + 1):
            name = f"stage{stage}_conv{index}"
            x = convolve(x, weights[f"{name}/kernel"], 1, weights[f"{name}/bias"])
            x = rectify(normalize(weights, f"stage{stage}_bn{index}", x) if batch_norm else x)
        endpoints[f"stage{stage}"] = x
        x = max_pool(x, 2)
    return {**endpoints, "pool": x} if last_pool else endpoints


def vgg_m(
    weights: Weights, x: np.ndarray, local_response: tuple[int, float, float, float], last_pool: bool
) -> Endpoints:
    """As MatConvNet's `cnn_imagenet_init` lists it: strides and pads of the convolutions, of the second pool below."""
    endpoints = {}
    for stage, (strides, pad) in enumerate(((2, 0), (2, 1), (1, 1), (1, 1), (1, 1)), 1):
        name = f"stage{stage}_conv1"
        x = rectify(convolve(x, weights[f"{name}/kernel"], strides, weights[f"{name}/bias"], pad))
        if stage <= 2:
            x = local_response_normalization(x, *local_response)
        endpoints[f"stage{stage}"] = x
        if stage == 2:
            x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
        if stage <= 2:
            x = max_pool(x, 3)
    return {**endpoints, "pool": max_pool(x, 3)} if last_pool else endpoints


def local_response_normalization(x: np.ndarray, depth: int, kappa: float, alpha: float, beta: float) -> np.ndarray:
    """Channel by channel: x / (kappa + alpha * the sum of the squares in its window)^beta."""
    x = x.astype(np.float64)
    before, channels = (depth - 1) // 2, x.shape[-1]
    windows = [slice(max(0, c - before), c - before + depth) for c in range(channels)]
    sums = np.stack([(x[..., window] ** 2).sum(-1) for window in windows], -1)
    return x / (kappa + alpha * sums) ** beta


Residual = Callable[[Weights, str, np.ndarray, int], np.ndarray]


def _stages(weights: Weights, endpoints: Endpoints, repeats: tuple, strides: tuple, residual: Residual) -> Endpoints:
    x = endpoints["stem"]
    for stage, (count, stride) in enumerate(zip(repeats, strides, strict=True), 1):
        for index in range(1, count + 1):
            x = residual(weights, f"stage{stage}_block{index}", x, stride if index == 1 else 1)
        endpoints[f"stage{stage}"] = x
    return endpoints


def _basic(weights: Weights, prefix: str, x: np.ndarray, stride: int) -> np.ndarray:
    y = rectify(_conv_bn(weights, prefix, 1, x, stride))
    return rectify(_conv_bn(weights, prefix, 2, y) + _shortcut(weights, prefix, x, stride))


def _bottleneck(weights: Weights, prefix: str, x: np.ndarray, stride: int) -> np.ndarray:
    y = rectify(_conv_bn(weights, prefix, 1, x))
    y = rectify(_conv_bn(weights, prefix, 2, y, stride))
    return rectify(_conv_bn(weights, prefix, 3, y) + _shortcut(weights, prefix, x, stride))


def _conv_bn(weights: Weights, prefix: str, index: int, x: np.ndarray, stride: int = 1) -> np.ndarray:
    return normalize(weights, f"{prefix}_bn{index}", convolve(x, weights[f"{prefix}_conv{index}/kernel"], stride))


def _shortcut(weights: Weights, prefix: str, x: np.ndarray, stride: int) -> np.ndarray:
    kernel = weights.get(f"{prefix}_shortcut_conv/kernel")
    return x if kernel is None else normalize(weights, f"{prefix}_shortcut_bn", convolve(x, kernel, stride))


def _preactivated_basic(weights: Weights, prefix: str, x: np.ndarray, stride: int) -> np.ndarray:
    first = rectify(normalize(weights, f"{prefix}_bn1", x))
    y = convolve(first, weights[f"{prefix}_conv1/kernel"], stride)
    y = convolve(rectify(normalize(weights, f"{prefix}_bn2", y)), weights[f"{prefix}_conv2/kernel"])
    return y + _preactivated_shortcut(weights, prefix, x, first, stride)


def _preactivated_bottleneck(weights: Weights, prefix: str, x: np.ndarray, stride: int) -> np.ndarray:
    first = rectify(normalize(weights, f"{prefix}_bn1", x))
    y = convolve(first, weights[f"{prefix}_conv1/kernel"])
    y = convolve(rectify(normalize(weights, f"{prefix}_bn2", y)), weights[f"{prefix}_conv2/kernel"], stride)
    y = convolve(rectify(normalize(weights, f"{prefix}_bn3", y)), weights[f"{prefix}_conv3/kernel"])
    return y + _preactivated_shortcut(weights, prefix, x, first, stride)


def _preactivated_shortcut(
    weights: Weights, prefix: str, x: np.ndarray, activated: np.ndarray, stride: int
) -> np.ndarray:
    kernel = weights.get(f"{prefix}_shortcut_conv/kernel")
    return x if kernel is None else convolve(activated, kernel, stride)


RESIDUALS: Mapping[str, Residual] = {"basic": _basic, "bottleneck": _bottleneck}
PREACTIVATED: Mapping[str, Residual] = {"basic": _preactivated_basic, "bottleneck": _preactivated_bottleneck}


def filled(build: Callable[[keras.KerasTensor], Mapping], size: tuple[int | None, int | None] = (None, None)):
    """A backbone as a model from images to its endpoints, every variable drawn at random, and its weights by path."""
    inputs = keras.Input((*size, 3))
    model = keras.Model(inputs, build(inputs))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(draw(rng, variable.path.rpartition("/")[2], tuple(variable.shape)))
    return model, {variable.path: variable.numpy() for variable in model.weights}


def draw(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values for a variable of this kind, away from its trivial ones and keeping the scale of what passes."""
    if kind == "kernel":
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.2, shape)


def assert_same_endpoints(computed: Mapping, expected: Endpoints, bound: float = 1e-5) -> None:
    """Names in order, shapes, and values within `bound` of the largest one."""
    assert list(computed) == list(expected)
    for name, value in expected.items():
        actual = np.asarray(computed[name])
        assert actual.shape == value.shape, name
        assert np.abs(actual - value).max() <= bound * np.abs(value).max(), name
