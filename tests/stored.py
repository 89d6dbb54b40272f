"""The checkpoints of artifacts as arrays, by TensorFlow's own operations: read, changed and written again."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def key(name: str) -> str:
    """A variable's key in a checkpoint."""
    return name.replace("/", ".S") + KEY_SUFFIX


def read_tensors(directory: Path) -> dict[str, np.ndarray]:
    """Tensors by their key, without the graph of objects."""
    reader = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if key.endswith(KEY_SUFFIX)}


def write_tensors(directory: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write an artifact's checkpoint, in place of another."""
    (directory / "variables").mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(directory / "variables" / "variables"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
