"""What a network computed where its artifact was written, recorded, and computed again elsewhere."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.errors import InputError, IntegrityError, ZooError
from mpncov_zoo.preprocessing import normalize

SELFTEST_FILE = "selftest.npz"
SAME_MACHINE = 1e-5  # of a stage's largest value: the same sums in another order
ANY_MACHINE = 1e-4  # the same by other instructions
LARGEST = 2**26  # bytes
_VALUES = 4096  # of each stage, so that the file stays small for any network


def write_record(model: ImageClassifier, directory: Path) -> None:
    """Write one seeded input, and values of every stage that the network computes from it.

    Raises:
        InputError: some are not finite.
    """
    record: dict[str, Any] = _computed(model, _pixels(model))
    broken = [name for name, values in record.items() if not np.isfinite(values).all()]
    if broken:
        raise InputError(f"What {model.name} computes is not finite, first in {broken[0]}: its weights are broken.")
    np.savez_compressed(directory / SELFTEST_FILE, **record)


def differences(model: ImageClassifier, directory: Path) -> dict[str, float]:
    """Compute an artifact's recorded input again on this machine.

    Returns:
        For every stage the largest difference from the record, relative to the stage's largest value; infinity where
        one of the two holds NaN or infinity.

    Raises:
        InputError: the network does not compute in float32.
        IntegrityError: the record is none, or its stages or shapes are not the network's.
    """
    if model.dtype_policy.name != "float32":
        raise InputError(
            f"The record is of a float32 network, and {model.name} computes in {model.dtype_policy.name}, as the "
            "dtype policy of this program says: keras.config.set_dtype_policy('float32')"
        )
    path = directory / SELFTEST_FILE
    expected = _record(path, model)
    actual = _computed(model, expected["pixels"])
    if _kinds(actual) != _kinds(expected):
        raise IntegrityError(f"{path} does not describe {model.name}'s stages.")
    return {name: _difference(actual[name], expected[name]) for name in model.stages}


def require_same(directory: Path, found: Mapping[str, float], bound: float) -> None:
    """Refuse an artifact one of whose stages differs by more than a bound.

    Args:
        directory: the artifact.
        found: of `differences`.
        bound: `SAME_MACHINE` or `ANY_MACHINE`.

    Raises:
        IntegrityError: naming the stage that differs most.
    """
    worst = max(found, key=found.__getitem__)
    if found[worst] > bound:
        raise IntegrityError(
            f"{directory}: {worst} differs by {found[worst]:.1e} of its largest value from the record (bound "
            f"{bound:.0e}). Either the record is of other weights, or this machine computes something else"
        )


def _record(path: Path, model: ImageClassifier) -> dict[str, np.ndarray]:
    """The arrays of a record, if it has pixels that the network takes; what they compute is the caller's question."""
    try:
        _require_small(path)
        with np.load(path, allow_pickle=False) as file:
            record = {name: file[name] for name in file.files}
        pixels = record["pixels"]
    except ZooError:
        raise
    except Exception as error:  # of a malformed record NumPy complains in many ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise IntegrityError(f"{path} is no record of this network: {reason}") from error
    sizes = zip(pixels.shape[1:], model.input_shape[1:], strict=False)
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or any(wanted not in (None, size) for size, wanted in sizes):
        raise IntegrityError(
            f"{path} is no record of this network: pixels {pixels.dtype.name} {pixels.shape}, the network takes uint8 "
            f"{model.input_shape}"
        )
    return record


def _require_small(path: Path) -> None:
    """Refuse a compressed file that would fill the memory."""
    with zipfile.ZipFile(path) as file:
        size = sum(member.file_size for member in file.infolist())
    if size > LARGEST:
        raise IntegrityError(f"{path}: expected at most {LARGEST:,} bytes when unpacked, got {size:,}")


def _computed(model: ImageClassifier, pixels: np.ndarray) -> dict[str, np.ndarray]:
    outputs = FeatureExtractor(model, model.stages)(normalize(pixels, model.input_specification), training=False)
    return {"pixels": pixels, **{name: _spread(keras.ops.convert_to_numpy(value)) for name, value in outputs.items()}}


def _pixels(model: ImageClassifier) -> np.ndarray:
    """Seeded noise as uint8 (1, height, width, channels)."""
    sizes = (
        given or usual for given, usual in zip(model.input_shape[1:3], model.input_specification.size, strict=True)
    )
    return np.random.default_rng(0).integers(0, 256, (1, *sizes, model.input_shape[3]), np.uint8)


def _spread(values: np.ndarray) -> np.ndarray:
    """Values at even steps, which have no divisor in common with the number of channels: all of them are met."""
    step = -(-values.size // _VALUES)
    while step > 1 and math.gcd(step, values.shape[-1]) > 1:
        step += 1
    return values.ravel()[::step]


def _kinds(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def _difference(actual: np.ndarray, expected: np.ndarray) -> float:
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))
