"""An artifact's labels and weights, read and checked, and placed by name; its graph is never looked at.

TensorFlow is imported when a checkpoint is read: a network that is built, and not loaded, does without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.architectures import PARTS
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.description import DESCRIPTION_FILE, ArtifactDescription
from mpncov_zoo.errors import InputError, IntegrityError, ManifestError

if TYPE_CHECKING:
    import tensorflow as tf

_KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # what a TensorFlow checkpoint appends to the name of an object's variable
RANDOM_STATE = "random_state/"  # of dropout: belongs to the SavedModel's training trace, is no weight


@dataclass(frozen=True)
class StoredWeights:
    """Weights that were read and are sound, but not yet placed.

    Attributes:
        directory: the artifact.
        parts: which of features, representation and classifier were read.
        values: their tensors by name, and those of no known part.
        unused: names that belong to other parts.
    """

    directory: Path
    parts: tuple[str, ...]
    values: dict[str, tf.Tensor]
    unused: tuple[str, ...]


def read_labels(directory: Path, description: ArtifactDescription) -> tuple[str, ...] | None:
    """The classes' names in the order of the logits, or None where the artifact has none.

    Raises:
        ManifestError: the file is not UTF-8, or not of one line a class.
    """
    if description.labels_file is None:
        return None
    path = directory / description.labels_file
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8: {error}.") from error
    labels = tuple(text.removesuffix("\n").split("\n"))  # str.splitlines would break at rarer characters, too
    if len(labels) != description.num_classes:
        raise ManifestError(
            f"{directory / DESCRIPTION_FILE}: num_classes is {description.num_classes}, but {description.labels_file} "
            f"has {len(labels)} labels."
        )
    return labels


def stored_weights(directory: Path, parts: Sequence[str] = PARTS) -> StoredWeights:
    """Read the weights of some parts from an artifact's checkpoint; the artifact's graph is not looked at.

    Args:
        directory: the artifact, its files already verified.
        parts: which of features, representation and classifier.

    Raises:
        IntegrityError: TensorFlow cannot read the checkpoint, a value is not finite, or a variance is negative.
        InputError: TensorFlow is not installed.
    """
    reader = _checkpoint(directory)
    keys, dtypes = _keys(reader), reader.get_variable_to_dtype_map()
    used = [name for name in keys if name.split("/")[0] not in {*PARTS} - {*parts}]
    with _readable(directory):
        values = _restore(_prefix(directory), [keys[name] for name in used], [dtypes[keys[name]] for name in used])
    for name, value in zip(used, values, strict=True):
        _require_sound(directory, name, value)
    unused = tuple(sorted({*keys} - {*used}))
    return StoredWeights(directory, tuple(parts), dict(zip(used, values, strict=True)), unused)


def stored_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of an artifact's weights by name; no weight is read.

    Raises:
        IntegrityError: TensorFlow cannot read the checkpoint.
    """
    reader = _checkpoint(directory)
    shapes = reader.get_variable_to_shape_map()
    return {name: tuple(shapes[key]) for name, key in _keys(reader).items()}


def assign_weights(model: ImageClassifier, stored: StoredWeights) -> tuple[str, ...]:
    """Fill a network from a checkpoint, by name.

    Every variable of the checkpoint's parts, on both sides, is used exactly once, or nothing is assigned. A network
    that ends at a stage of the trunk leaves those behind it.

    Args:
        model: the network.
        stored: what was read; it is used up.

    Returns:
        The names that were left, sorted.

    Raises:
        IntegrityError: names, shapes or dtypes differ.
    """
    directory, values = stored.directory, stored.values
    wanted = {name: v for name, v in model.named_variables().items() if name.split("/")[0] in stored.parts}
    behind = model.behind_stages & values.keys()
    _require_same_names(directory, wanted.keys() - values.keys(), values.keys() - wanted.keys() - behind)
    for name, variable in wanted.items():
        found, expected, dtype = tuple(values[name].shape), tuple(variable.shape), values[name].dtype
        if found != expected or dtype.name != "float32":
            raise IntegrityError(f"{directory}: {name} is {dtype.name} {found}, the network needs float32 {expected}.")
    for name, variable in wanted.items():
        variable.assign(values.pop(name))
    return tuple(sorted(behind))


def require_written(model: ImageClassifier, directory: Path) -> None:
    """Hold a checkpoint that was just written to its network, bit for bit.

    Raises:
        IntegrityError: a variable is another in the file.
    """
    import tensorflow as tf

    prefix = _prefix(directory)
    for name, variable in model.named_variables().items():
        key = name.replace(".", "..").replace("/", ".S") + _KEY_SUFFIX
        with _readable(directory):
            (written,) = _restore(prefix, [key], [tf.as_dtype(variable.dtype)])  # one at a time: weights are large
        if not _same_bits(np.asarray(written), np.asarray(variable.value)):
            raise IntegrityError(f"{directory}: {name} was not written as it is: is the disk full or damaged?")


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    whole = f"u{first.dtype.itemsize}"  # bits compare as whole numbers, also those of NaN
    return first.dtype == second.dtype and np.array_equal(first.view(whole), second.view(whole))


def _prefix(directory: Path) -> str:
    return str(directory / "variables" / "variables")


def _checkpoint(directory: Path) -> Any:
    try:
        import tensorflow as tf
    except ModuleNotFoundError:  # with Keras on another backend
        raise InputError("Reading an artifact's weights needs TensorFlow: pip install tensorflow") from None
    with _readable(directory):
        return tf.train.load_checkpoint(_prefix(directory))


def _keys(reader: Any) -> dict[str, str]:
    """Names of weights, and the keys that they have in a checkpoint."""
    keys = {_name(key): key for key in reader.get_variable_to_dtype_map() if key.endswith(_KEY_SUFFIX)}
    return {name: key for name, key in keys.items() if not name.startswith(RANDOM_STATE)}


def _name(key: str) -> str:
    """A checkpoint's key as the variable's name: TensorFlow writes '/' in an attribute's name as '.S', '.' as '..'."""
    return key.removesuffix(_KEY_SUFFIX).replace(".S", "/").replace("..", ".")


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, ValueError) as error:
        raise IntegrityError(f"{directory}: its checkpoint cannot be read: {reason(error)}.") from error


def reason(error: Exception) -> str:
    """The first line of what the system or TensorFlow says, without the path or operation that it was said of."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(getattr(error, "message", error)) or type(error).__name__).splitlines()[0]
    return line.rpartition("}} ")[2].partition(" [Op:")[0].rstrip(".")


def _require_same_names(directory: Path, missing: set[str], extra: set[str]) -> None:
    if missing or extra:
        lists = [f"{what}: {', '.join(sorted(n))}" for what, n in (("missing", missing), ("unexpected", extra)) if n]
        raise IntegrityError(f"{directory}: the checkpoint is of another network; {'; '.join(lists)}.")


def _require_sound(directory: Path, name: str, value: tf.Tensor) -> None:
    if not value.dtype.is_floating:
        return  # refused by its dtype when it is placed
    array = np.asarray(value)  # the memory itself, no copy
    if not np.isfinite(array).all():
        raise IntegrityError(f"{directory}: {name} holds NaN or infinity; nothing was loaded.")
    if name.endswith("/moving_variance") and array.min() < 0:
        raise IntegrityError(f"{directory}: {name} holds a negative variance; nothing was loaded.")


def _restore(prefix: str, keys: list[str], dtypes: list[tf.DType]) -> list[tf.Tensor]:
    """The tensors under these keys, in one parallel read."""
    import tensorflow as tf

    with tf.device("CPU"):
        return list(
            tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), dtypes=dtypes)
        )
