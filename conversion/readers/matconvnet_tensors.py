"""The weights of MatConvNet's layers as the tensors of a network of ours: what is computed stays the same.

A batch normalisation there divides by a deviation that holds its epsilon. Ours divides by the root of a variance plus
epsilon. In MatConvNet's ResNets, where ours have no biases, a normalisation takes them over.
"""

from collections.abc import Sequence

import numpy as np

from conversion.readers.matconvnet import Layer
from conversion.readers.matconvnet_program import Program
from conversion.readers.reading import Refused, short
from mpncov_zoo.backbones.blocks import BATCH_NORM

EPSILON = BATCH_NORM["epsilon"]
CONVOLUTION, NORMALIZATION = "_conv", "_bn"  # how the names of a ResNet's layers end, of the same beginning
FOLDED = "Biases of convolutions before a batch normalisation were taken off its means."
MERGED = (
    "Batch normalisation was merged into the convolutions of the file: here every convolution has one that adds the "
    "biases and changes nothing else."
)
SMALL = "Where a deviation is less than the root of epsilon, the variance is 0 and the scale is smaller."


def tensors_of(layers: Sequence[Layer], program: Program) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """What the layers hold, and notes on what was changed beyond the deviations.

    Args:
        layers: of the network.
        program: what they compute.

    Returns:
        Arrays as `<layer>.<what>`: filters (height, width, in, out), biases, multipliers, mean, variance (channels,).

    Raises:
        Refused: a normalisation was never trained, or is of another number of channels than its convolution.
    """
    by_name = {layer.name: layer for layer in layers}
    tensors: dict[str, np.ndarray] = {}
    notes: dict[str, None] = {}
    for layer in layers:
        if layer.kind != "conv":
            continue
        tensors[f"{layer.name}.filters"] = layer.weights["filters"]
        biases, own = layer.weights.get("biases"), layer.name.removesuffix(CONVOLUTION)
        if layer.name in program.norms:
            norm = by_name[program.norms[layer.name]]
            tensors |= _normalization(norm, notes)
            if biases is not None and own != layer.name:
                mean = f"{norm.name}.mean"
                _require_channels(norm.name, biases, tensors[mean])
                tensors[mean] = _single(tensors[mean].astype(np.float64) - biases)
                notes[FOLDED] = biases = None
        elif biases is not None and own != layer.name:
            tensors |= _neutral(f"{own}{NORMALIZATION}", biases)
            notes[MERGED] = biases = None
        if biases is not None:
            tensors[f"{layer.name}.biases"] = biases
    return tensors, tuple(notes)


def _normalization(layer: Layer, notes: dict[str, None]) -> dict[str, np.ndarray]:
    """(x - mean) / deviation, as (x - mean) / sqrt(variance + epsilon), times the multipliers."""
    multipliers, moments = layer.weights["multipliers"], layer.weights["moments"].astype(np.float64)
    _require_channels(layer.name, multipliers, moments[:, 0])
    deviation = moments[:, 1]
    if not (deviation > 0).all():
        raise Refused(f"layer {short(layer.name)} has deviations that are not positive: it was not trained")
    variance = deviation**2 - EPSILON
    if (variance < 0).any():
        notes[SMALL] = None
        scale = np.where(variance < 0, np.sqrt(EPSILON) / deviation, 1)
        multipliers = _single(multipliers * scale)
    return {
        f"{layer.name}.multipliers": multipliers,
        f"{layer.name}.biases": layer.weights["biases"],
        f"{layer.name}.mean": frozen(layer.weights["moments"][:, 0]),
        f"{layer.name}.variance": _single(np.maximum(variance, 0)),
    }


def _neutral(name: str, biases: np.ndarray) -> dict[str, np.ndarray]:
    """A normalisation that adds the biases and changes nothing else."""
    ones = np.ones(biases.shape)
    return {
        f"{name}.multipliers": _single(ones),
        f"{name}.biases": biases,
        f"{name}.mean": _single(0 * ones),
        f"{name}.variance": _single(ones - EPSILON),
    }


def _require_channels(name: str, first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise Refused(f"layer {short(name)}: {first.shape[0]} channels and {second.shape[0]} do not fit together")


def _single(array: np.ndarray) -> np.ndarray:
    return frozen(array.astype(np.float32))


def frozen(array: np.ndarray) -> np.ndarray:
    """The array itself, read-only."""
    array.flags.writeable = False
    return array
