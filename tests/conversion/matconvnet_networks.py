"""MatConvNet's networks for the tests: GNU Octave writes them, and NumPy computes what their layers say.

What MatConvNet computes is taken from its own functions, layer by layer and in float64, of the file as SciPy reads it;
nothing of the code under test takes part.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import numpy_networks

SCRIPT = Path(__file__).with_name("write_matconvnet.m")
REQUIRED = "MPNCOV_ZOO_REQUIRE_OCTAVE"  # set where a missing Octave is an error, as in CI
ITERATIONS = 5

Values = dict[str, np.ndarray]


def write(network: str, folder: Path, channels: int = 1) -> None:
    """Let Octave write a network; the test is skipped where there is no Octave."""
    octave = shutil.which("octave-cli")
    if octave is None and os.environ.get(REQUIRED):
        pytest.fail("no octave-cli: apt-get install --no-install-recommends octave")
    if octave is None:
        pytest.skip("needs octave-cli")
    command = [octave, "--no-init-file", str(SCRIPT), network, str(folder), str(channels)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def loaded(path: Path) -> Any:
    """The network's struct, as SciPy reads it."""
    io = pytest.importorskip("scipy.io", reason="needs scipy")
    content = io.loadmat(path, squeeze_me=True, struct_as_record=False)
    return content["net"] if "net" in content else type("net", (), content)


def computed(path: Path, images: np.ndarray) -> Values:
    """Every variable of the network for images (batch, height, width, 3) in 0..255, less the average colour.

    Vectors of covariances are (batch, 1, 1, d (d + 1) / 2).
    """
    net = loaded(path)
    return _of_dag(net, images) if hasattr(net, "params") else _of_chain(net, images)


def _list(value: Any) -> list:
    return list(np.atleast_1d(np.asarray(value, object)))


def _of_chain(net: Any, images: np.ndarray) -> Values:
    values, x = {}, images
    for layer in net.layers:
        weights = _list(layer.weights) if hasattr(layer, "weights") else [getattr(layer, "filters", None)]
        weights += [layer.biases] if hasattr(layer, "biases") else []
        (x,) = OPERATIONS[layer.type](layer, [x], weights)
        values[layer.name] = x
    return values


def _of_dag(net: Any, images: np.ndarray) -> Values:
    params = {param.name: param.value for param in net.params}
    values, waiting = {"input": images}, [layer for layer in net.layers if layer.type != "dagnn.Loss"]
    while waiting:
        layer = next(layer for layer in waiting if all(name in values for name in _list(layer.inputs)))
        waiting.remove(layer)
        inputs = [values[name] for name in _list(layer.inputs)]
        outputs = OPERATIONS[layer.type](layer.block, inputs, [params[name] for name in _list(layer.params)])
        values |= dict(zip(_list(layer.outputs), outputs, strict=False))
    return values


def _conv(layer: Any, inputs: list, weights: list) -> tuple:
    """vl_nnconv: filters (height, width, in, out) are not turned."""
    filters = np.asarray(weights[0], np.float64)
    if filters.ndim == 2:  # of 1x1, which SciPy squeezed
        filters = filters[None, None]
    x, stride = _padded(inputs[0], layer, 0.0), int(np.ravel(layer.stride)[0])
    windows = np.lib.stride_tricks.sliding_window_view(x, filters.shape[:2], (1, 2))[:, ::stride, ::stride]
    y = np.einsum("bhwcij,ijco->bhwo", windows, filters, optimize=True)
    return (y + np.ravel(weights[1]) if len(weights) > 1 else y,)


def _pool(layer: Any, inputs: list, _: list) -> tuple:
    size = tuple(int(side) for side in np.ravel(layer.poolSize if hasattr(layer, "poolSize") else layer.pool))
    x, stride = _padded(inputs[0], layer, -np.inf), int(np.ravel(layer.stride)[0])
    windows = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))[:, ::stride, ::stride]
    return (windows.max((4, 5)),)


def _padded(x: np.ndarray, layer: Any, value: float) -> np.ndarray:
    top, bottom, left, right = np.broadcast_to(np.ravel(layer.pad).astype(int), 4)
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _bnorm(_: Any, inputs: list, weights: list) -> tuple:
    """vl_nnbnorm with moments: the second is what is divided by, whatever epsilon is."""
    multipliers, biases, moments = (np.asarray(value, np.float64) for value in weights)
    return ((inputs[0] - moments[:, 0]) / moments[:, 1] * multipliers + biases,)


def _lrn(layer: Any, inputs: list, _: list) -> tuple:
    depth, kappa, alpha, beta = np.ravel(layer.param)
    return (numpy_networks.local_response_normalization(inputs[0], int(depth), kappa, alpha, beta),)


def _covariance(_: Any, inputs: list, __: list) -> tuple:
    rows = inputs[0].reshape(len(inputs[0]), -1, inputs[0].shape[-1])
    centered = rows - rows.mean(1, keepdims=True)
    return (np.einsum("bni,bnj->bij", centered, centered) / rows.shape[1],)


def _trace_norm(_: Any, inputs: list, __: list) -> tuple:
    trace = np.trace(inputs[0], axis1=1, axis2=2)
    return inputs[0] / trace[:, None, None], trace


def _root(layer: Any, inputs: list, _: list) -> tuple:
    """vl_nncov_sqrtm: the upper triangle of the matrix that Newton-Schulz gives, column by column."""
    y, identity = inputs[0], np.eye(inputs[0].shape[-1])
    z = np.broadcast_to(identity, y.shape)
    for _step in range(int(layer.iterNum)):
        step = (3 * identity - z @ y) / 2
        y, z = y @ step, step @ z
    columns = [y[:, : column + 1, column] for column in range(y.shape[-1])]
    return (np.concatenate(columns, 1)[:, None, None],)


OPERATIONS: Mapping[str, Callable[[Any, list, list], tuple]] = {
    "conv": _conv,
    "pool": _pool,
    "relu": lambda _, inputs, __: (np.maximum(inputs[0], 0),),
    "lrn": _lrn,
    "dropout": lambda _, inputs, __: (inputs[0],),
    "softmax": lambda _, inputs, __: (inputs[0],),  # the logits
    "dagnn.Conv": _conv,
    "dagnn.Pooling": _pool,
    "dagnn.ReLU": lambda _, inputs, __: (np.maximum(inputs[0], 0),),
    "dagnn.BatchNorm": _bnorm,
    "dagnn.Sum": lambda _, inputs, __: (inputs[0] + inputs[1],),
    "dagnn.SoftMax": lambda _, inputs, __: (inputs[0],),
    "dagnn.OBJ_ConvNet_COV_Pool": _covariance,
    "dagnn.OBJ_ConvNet_Cov_TraceNorm": _trace_norm,
    "dagnn.OBJ_ConvNet_Cov_Sqrtm": _root,
    "dagnn.OBJ_ConvNet_COV_ScaleTr": lambda _, inputs, __: (inputs[0] * np.sqrt(inputs[1])[:, None, None, None],),
}
