"""What the golden files were made with: the seeded weights and images of the published networks; golden/README.md."""

import json
import math
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"
PART = 2**16  # numbers drawn at once
LARGE = 10**7  # numbers in a tensor, 40 MB
UNUSED = ".num_batches_tracked"  # counts training steps


def golden(net: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Upstream's logits for images of a shape, and the facts of every stage: `<stage>/shape`, mean, std, corner."""
    prefix = "x".join(map(str, shape)) + "/"
    with np.load(GOLDEN / f"{net}.golden.npz") as archive:
        return {key.removeprefix(prefix): archive[key] for key in archive.files if key.startswith(prefix)}


def seeded_shapes(net: str) -> dict[str, tuple[int, ...]]:
    """Every tensor of upstream's state_dict, in order."""
    tensors = json.loads((GOLDEN / f"{net}.tensors.json").read_text())
    return {name: tuple(shape) for name, shape in tensors.items()}


def seeded_tensor(name: str, shape: tuple[int, ...], *, by_fan_in: bool = False) -> np.ndarray:
    """A tensor of upstream's state_dict, float32; of its first-order networks by the recipe with `by_fan_in`."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    if name.endswith(UNUSED):
        return np.array(1)
    if by_fan_in and len(shape) > 1:
        return _drawn(shape, lambda count: rng.normal(0, np.sqrt(2 / math.prod(shape[1:])), count))
    if len(shape) == 4:
        out, _, height, width = shape
        return _drawn(shape, lambda count: rng.normal(0, np.sqrt(2 / (out * height * width)), count))
    if len(shape) == 2:
        factor = 4 if name == "fc.weight" else 1
        return _drawn(shape, lambda count: rng.normal(0, np.sqrt(1 / shape[1]), count) * factor)
    if leaf in ("running_mean", "bias"):
        return _drawn(shape, lambda count: rng.normal(0, 0.1, count))
    if leaf == "running_var":
        return _drawn(shape, lambda count: rng.uniform(0.5, 1.5, count))
    small = not by_fan_in and (".bn2." in name or ".bn3." in name)
    return _drawn(shape, lambda count: rng.uniform(*(0.1, 0.4) if small else (0.5, 1.5), count))


def _drawn(shape: tuple[int, ...], draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """The next numbers of a generator, float32. They are drawn a part at a time, since fresh memory is slow."""
    tensor = np.empty(math.prod(shape), np.float32)
    for first in range(0, tensor.size, PART):
        tensor[first : first + PART] = draw(min(PART, tensor.size - first))
    return tensor.reshape(shape)


@lru_cache(maxsize=2)
def _kept(name: str, shape: tuple[int, ...], *, by_fan_in: bool) -> np.ndarray:
    """A large tensor, which networks have in common: those of the VGGs are made of it for the most part."""
    tensor = seeded_tensor(name, shape, by_fan_in=by_fan_in)
    tensor.flags.writeable = False
    return tensor


def seeded_state_dict(net: str) -> dict[str, np.ndarray]:
    """Upstream's state_dict, in order."""
    by_fan_in = not net.startswith("mpncov")
    return {
        name: (_kept if math.prod(shape) > LARGE else seeded_tensor)(name, shape, by_fan_in=by_fan_in)
        for name, shape in seeded_shapes(net).items()
    }


def seeded_images(net: str, shape: tuple[int, ...]) -> np.ndarray:
    """(batch, channels, height, width), float32."""
    rng = np.random.default_rng(zlib.crc32(f"input {net}{shape}".encode()))
    return rng.normal(0, 1, shape).astype(np.float32)


def seeded_tf_params(net: str) -> list[np.ndarray]:
    """The entries of the TensorFlow code's `.mat`, float32, as it holds them: vectors are (1, channels)."""
    order = json.loads((GOLDEN / f"seed_tf_{net}.order.json").read_text())
    return [np.atleast_2d(_seeded_tf_tensor(index, *entry)) for index, entry in enumerate(order)]


def _seeded_tf_tensor(index: int, role: str, shape: list[int]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(str(index).encode()))
    if len(shape) == 4:
        height, width, _, out = shape
        return _drawn(tuple(shape), lambda count: rng.normal(0, np.sqrt(2 / (height * width * out)), count))
    if len(shape) == 2:
        return _drawn(tuple(shape), lambda count: rng.normal(0, np.sqrt(1 / shape[0]), count))
    if role in ("gamma", "moving_variance"):
        low, high = {"gamma": (0.2, 0.6), "moving_variance": (0.5, 1.5)}[role]
        return _drawn(tuple(shape), lambda count: rng.uniform(low, high, count))
    return _drawn(tuple(shape), lambda count: rng.normal(0, 0.1, count))


def seeded_tf_logits(net: str) -> np.ndarray:
    """What the TensorFlow code computes from these, in float32."""
    with np.load(GOLDEN / f"seed_tf_{net}.golden.npz") as archive:
        return archive["logits_2x224"]


def seeded_tf_images() -> np.ndarray:
    """(batch, height, width, channels), float32."""
    return np.random.default_rng(zlib.crc32(b"input")).normal(0, 1, (2, 224, 224, 3)).astype(np.float32)


def relative_error(actual: np.ndarray, golden: np.ndarray) -> float:
    """Largest difference over largest golden value."""
    assert actual.shape == golden.shape
    return float(np.abs(actual - golden).max() / np.abs(golden).max())
