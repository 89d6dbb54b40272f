"""A network as a directory: SavedModel, labels, self-test and description; and back, without executing its graph."""

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from pydantic import ValidationError

from mpncov_zoo import __version__
from mpncov_zoo.classifier import PARTS, FeatureExtractor, ImageClassifier
from mpncov_zoo.documents import first_problem
from mpncov_zoo.errors import InputError, IntegrityError, ManifestError
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.manifest import DESCRIPTION_FILE, ArtifactDescription, Metric
from mpncov_zoo.preprocessing import preprocess_encoded
from mpncov_zoo.selftest import write_record

LABELS_FILE = "assets/labels.txt"
_KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # what a TensorFlow checkpoint appends to the name of an object's variable
_RANDOM_STATE = "random_state/"  # of dropout: belongs to the SavedModel's training trace, is no weight


@dataclass(frozen=True)
class Checkpoint:
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


def write(
    model: ImageClassifier,
    directory: str | Path,
    *,
    tag: str,
    provenance: dict[str, Any],
    metrics: Sequence[Metric] = (),
    documents: Mapping[str, str] | None = None,
) -> None:
    """Write a network as an artifact; the directory appears complete or not at all.

    What was written is read back and compared with the network, bit for bit.

    Args:
        model: with a classifier, in float32.
        directory: the artifact's place, usually named `<model>.<tag>`; it must not exist.
        tag: name of this set of weights.
        provenance: where the weights come from (a recipe, a converted file), as plain data.
        metrics: what was measured with them.
        documents: texts to lie beside them, by file name: a certificate, say.

    Raises:
        IntegrityError: the disk does not hold what was written.
        InputError: the model has no classifier, is not float32, has a label of several lines or computes what is not
            finite, the tag is not a name, or the directory exists or cannot be written.
    """
    target = Path(directory)
    _check_writable(model, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}.") from error
    try:
        _write_saved_model(model, partial)
        for name, text in (documents or {}).items():
            (partial / name).write_text(text, encoding="utf-8")
        write_record(model, partial)
        describe(model, partial, tag=tag, provenance=provenance, metrics=metrics)
        os.chmod(partial, 0o755)
        partial.rename(target)
    except (OSError, tf.errors.OpError) as error:  # TensorFlow writes the variables, and has errors of its own
        raise InputError(f"{target} cannot be written: {_reason(error)}.") from error
    except ValidationError as error:
        raise InputError(f"{target} cannot be described: {first_problem(error)}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def describe(
    model: ImageClassifier, directory: Path, *, tag: str, provenance: dict[str, Any], metrics: Sequence[Metric] = ()
) -> None:
    """Write an artifact's model.json for the files that are there."""
    description = ArtifactDescription(
        model=model.architecture.name,
        tag=tag,
        architecture={**model.architecture.to_dict(), "input_shape": list(model.input_shape[1:])},
        num_classes=model.num_classes,
        labels_file=LABELS_FILE if model.labels is not None else None,
        input=model.input_specification,
        parameters=model.parameters,
        provenance=provenance,
        metrics=list(metrics),
        versions={"mpncov-zoo": __version__, "tensorflow": tf.__version__, "keras": keras.__version__},
        files=describe_files(directory),
    )
    text = json.dumps(description.model_dump(mode="json"), indent=2)
    (directory / DESCRIPTION_FILE).write_text(f"{text}\n")


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


def read_checkpoint(directory: Path, parts: Sequence[str] = PARTS) -> Checkpoint:
    """Read the weights of some parts from an artifact's checkpoint; the artifact's graph is not looked at.

    Args:
        directory: the artifact, its files already verified.
        parts: which of features, representation and classifier.

    Raises:
        IntegrityError: TensorFlow cannot read the checkpoint, a value is not finite, or a variance is negative.
    """
    prefix = str(directory / "variables" / "variables")
    with _readable(directory):
        reader = tf.train.load_checkpoint(prefix)
    dtypes = reader.get_variable_to_dtype_map()
    keys = {_name(key): key for key in dtypes if key.endswith(_KEY_SUFFIX)}
    stored = {name: key for name, key in keys.items() if not name.startswith(_RANDOM_STATE)}
    used = [name for name in stored if name.split("/")[0] not in {*PARTS} - {*parts}]
    with _readable(directory):
        values = _restore(prefix, [stored[name] for name in used], [dtypes[stored[name]] for name in used])
    for name, value in zip(used, values, strict=True):
        _require_sound(directory, name, value)
    return Checkpoint(directory, tuple(parts), dict(zip(used, values, strict=True)), tuple(sorted({*stored} - {*used})))


def assign_weights(model: ImageClassifier, checkpoint: Checkpoint) -> None:
    """Fill a network from a checkpoint, by name.

    Every variable of the checkpoint's parts, on both sides, is used exactly once, or nothing is assigned.

    Args:
        model: the network.
        checkpoint: what was read; it is used up.

    Raises:
        IntegrityError: names, shapes or dtypes differ.
    """
    directory, values = checkpoint.directory, checkpoint.values
    wanted = {name: v for name, v in model.named_variables().items() if name.split("/")[0] in checkpoint.parts}
    _require_same_names(directory, wanted.keys() - values.keys(), values.keys() - wanted.keys())
    for name, variable in wanted.items():
        found, expected, dtype = tuple(values[name].shape), tuple(variable.shape), values[name].dtype
        if found != expected or dtype != tf.float32:
            raise IntegrityError(f"{directory}: {name} is {dtype.name} {found}, the network needs float32 {expected}.")
    for name, variable in wanted.items():
        variable.assign(values.pop(name))


def read_weights(model: ImageClassifier, directory: Path, parts: Sequence[str] = PARTS) -> tuple[str, ...]:
    """Fill parts of a network from an artifact: `read_checkpoint` and `assign_weights`.

    Returns:
        The names in the checkpoint that belong to other parts.

    Raises:
        IntegrityError: of the two.
    """
    checkpoint = read_checkpoint(directory, parts)
    assign_weights(model, checkpoint)
    return checkpoint.unused


def require_labels(labels: Sequence[str]) -> None:
    """Refuse class names that an artifact cannot hold.

    Raises:
        InputError: one of several lines, or of characters that are not Unicode's.
    """
    for label in labels:
        if "\n" in label or "\r" in label or any("\ud800" <= character <= "\udfff" for character in label):
            raise InputError(f"A class name is one line of Unicode text in {LABELS_FILE}. Received: {label!r}.")


def _check_writable(model: ImageClassifier, target: Path) -> None:
    if model.classifier is None:
        raise InputError(f"An artifact needs a classifier; {model.name} was built with num_classes=0.")
    if model.dtype_policy.name != "float32":
        raise InputError(f"An artifact holds a float32 network; {model.name} computes in {model.dtype_policy.name}.")
    require_labels(model.labels or ())
    if target.exists():
        raise InputError(f"{target} exists already; give a new directory.")


def _write_saved_model(model: ImageClassifier, directory: Path) -> None:
    _trace_and_save(model, directory)
    gc.collect()  # the graphs, which hold on to one another, before weights are read back
    _require_written(model, directory)


def _trace_and_save(model: ImageClassifier, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, _unfrozen(model):
        servable = _servable(model, Path(scratch))
        signatures = _signatures(model, servable)
        tf.saved_model.save(servable, str(directory), signatures=signatures)


def _require_written(model: ImageClassifier, directory: Path) -> None:
    prefix = str(directory / "variables" / "variables")
    for name, variable in model.named_variables().items():
        key = name.replace(".", "..").replace("/", ".S") + _KEY_SUFFIX
        with _readable(directory):
            (written,) = _restore(prefix, [key], [tf.as_dtype(variable.dtype)])  # one at a time: weights are large
        if not _same_bits(np.asarray(written), np.asarray(variable.value)):
            raise IntegrityError(f"{directory}: {name} was not written as it is: is the disk full or damaged?")


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    whole = f"u{first.dtype.itemsize}"  # bits compare as whole numbers, also those of NaN
    return first.dtype == second.dtype and np.array_equal(first.view(whole), second.view(whole))


@contextmanager
def _unfrozen(model: ImageClassifier) -> Iterator[None]:
    """A frozen layer would be traced as one; an artifact is the network, whatever its last training left alone."""
    parts = [part for part in (getattr(model, name) for name in PARTS) if part is not None]
    layers = [model, *parts, *(layer for part in parts for layer in part.layers)]  # setting one sets those inside it
    flags = [layer.trainable for layer in layers]
    for layer in layers:
        layer.trainable = True
    try:
        yield
    finally:
        for layer, flag in zip(layers, flags, strict=True):
            layer.trainable = flag


def _servable(model: ImageClassifier, scratch: Path) -> Any:
    """TensorFlow Hub's reusable SavedModel: callable, with its variables; each is owned once, under its stable name."""

    class Servable(tf.Module):
        variables: Any = ()  # plain attributes instead of tf.Module's properties, which would not be saved
        trainable_variables: Any = ()
        regularization_losses: Any = ()
        labels: Any = None

    def call(images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return model(images, training=training)

    servable: Any = Servable()
    servable.__call__ = tf.function(call, autograph=False)
    weights = model.named_variables()
    for name, variable in weights.items():
        setattr(servable, name, variable.value)
    owned = {id(variable) for variable in weights.values()}
    for index, variable in enumerate(variable for variable in model.variables if id(variable) not in owned):
        setattr(servable, f"{_RANDOM_STATE}{index}", variable.value)  # Keras numbers their paths by the process
    servable.variables = [v.value for v in weights.values()]
    servable.trainable_variables = [v.value for v in model.learned_variables().values()]
    servable.regularization_losses = []
    if model.labels is not None:
        path = scratch / Path(LABELS_FILE).name
        path.write_text("".join(f"{label}\n" for label in model.labels), encoding="utf-8")
        servable.labels = tf.saved_model.Asset(str(path))
    with _as_when_saving():
        for training in (False, True):
            servable.__call__.get_concrete_function(_images(model), training=training)
    return servable


def _as_when_saving() -> Any:
    """TensorFlow's context of saving: what was traced outside of it is traced again inside, which takes as long.

    It has no public name; without it the artifact is the same, and takes longer.
    """
    try:
        from tensorflow.python.saved_model import save_context
    except ImportError:
        return nullcontext()
    return save_context.save_context(tf.saved_model.SaveOptions())


def _signatures(model: ImageClassifier, servable: Any) -> dict[str, Any]:
    stages = FeatureExtractor(model, [name for name in ("covariance", "representation") if name in model.stages])

    def answers(logits: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    @tf.function(autograph=False, input_signature=[_images(model)])
    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(servable.__call__(images, training=False))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "encoded")])
    def from_bytes(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(servable.__call__(preprocess_encoded(encoded, model.input_specification), training=False))

    @tf.function(autograph=False, input_signature=[_images(model)])
    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return stages(images, training=False)

    return {"serving_default": serving_default, "from_bytes": from_bytes, "features": features}


def _images(model: ImageClassifier) -> tf.TensorSpec:
    return tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "images")


def _name(key: str) -> str:
    """A checkpoint's key as the variable's name: TensorFlow writes '/' in an attribute's name as '.S', '.' as '..'."""
    return key.removesuffix(_KEY_SUFFIX).replace(".S", "/").replace("..", ".")


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, ValueError) as error:
        raise IntegrityError(f"{directory}: its checkpoint cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """The first line of what the system or TensorFlow says, without the path or operation that it was said of."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = str(getattr(error, "message", error)).splitlines()[0]
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
    with tf.device("CPU"):
        return list(
            tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), dtypes=dtypes)
        )
