"""A network as a directory: SavedModel, labels, self-test and description."""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from mpncov_zoo.artifact.reader import RANDOM_STATE, reason, require_written
from mpncov_zoo.artifact.selftest import write_record
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier, check_labels
from mpncov_zoo.complete import complete
from mpncov_zoo.description import DESCRIPTION_FILE, ArtifactDescription, Metric
from mpncov_zoo.documents import first_problem
from mpncov_zoo.errors import InputError
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.preprocessing import preprocess_encoded
from mpncov_zoo.quiet import require_tensorflow_backend
from mpncov_zoo.registry import REPRESENTATIONS
from mpncov_zoo.version import __version__

LABELS_FILE = "assets/labels.txt"
Labels = tuple[str, ...] | None
logger = logging.getLogger(__name__)


def write(
    model: ImageClassifier,
    directory: str | Path,
    *,
    tag: str,
    provenance: dict[str, Any],
    labels: Sequence[str] | None = None,
    metrics: Sequence[Metric] = (),
    documents: Mapping[str, str] | None = None,
) -> None:
    """Write a network as an artifact; the directory appears complete or not at all.

    What was written is read back and compared with the network, bit for bit.

    Args:
        model: in float32. Without a classifier its output is the representation.
        directory: the artifact's place, usually named `<model>.<tag>`; it must not exist.
        tag: name of this set of weights.
        provenance: where the weights come from (a recipe, a converted file), as plain data.
        labels: names of the classes, in the order of the logits; by default those of the model. A network without any
            is written with a warning.
        metrics: what was measured with them.
        documents: texts to lie beside them, by file name: a certificate, say.

    Raises:
        IntegrityError: the disk does not hold what was written.
        InputError: Keras is not on TensorFlow; the model is not float32, has a label of several lines or computes what
            is not finite; the tag is not a name, or the directory exists or cannot be written.
    """
    target = Path(directory)
    names = model.labels if labels is None else check_labels(labels, model.num_classes) or None
    _check_writable(model, names, target)
    if names is None and model.num_classes:
        logger.warning("%s: the classes have no names (labels= gives them to write, --labels to convert)", target)
    with complete(target) as partial:
        partial.mkdir()
        try:
            write_record(model, partial)  # it refuses a broken network, before the work begins
            _write_saved_model(model, names, partial)
            for name, text in (documents or {}).items():
                (partial / name).write_text(text, encoding="utf-8", newline="\n")
            _describe(model, names, partial, tag=tag, provenance=provenance, metrics=metrics)
        except tf.errors.OpError as error:  # TensorFlow writes the variables, and has errors of its own
            raise InputError(f"{target} cannot be written: {reason(error)}.") from error
        except ValidationError as error:
            raise InputError(f"{target} cannot be described: {first_problem(error)}.") from error
        except PydanticSerializationError as error:
            raise InputError(f"{target} cannot be described: provenance is no plain data ({error}).") from error


def _describe(
    model: ImageClassifier,
    labels: Labels,
    directory: Path,
    *,
    tag: str,
    provenance: dict[str, Any],
    metrics: Sequence[Metric],
) -> None:
    """Write an artifact's model.json for the files that are there."""
    description = ArtifactDescription(
        model=model.architecture.name,
        tag=tag,
        architecture={**model.architecture.to_dict(), "input_shape": list(model.input_shape[1:])},
        num_classes=model.num_classes,
        labels_file=LABELS_FILE if labels is not None else None,
        input=model.input_specification,
        parameters=model.num_parameters,
        provenance=provenance,
        metrics=list(metrics),
        versions={"mpncov-zoo": __version__, "tensorflow": tf.__version__, "keras": keras.__version__},
        files=describe_files(directory),
    )
    text = json.dumps(description.model_dump(mode="json"), indent=2)
    (directory / DESCRIPTION_FILE).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def require_labels(labels: Sequence[str]) -> None:
    """Refuse class names that an artifact cannot hold.

    Raises:
        InputError: one of several lines, or of characters that are not Unicode's.
    """
    for label in labels:
        if "\n" in label or "\r" in label or any("\ud800" <= character <= "\udfff" for character in label):
            raise InputError(f"A class name is one line of Unicode text in {LABELS_FILE}. Received: {label!r}.")


def _check_writable(model: ImageClassifier, labels: Labels, target: Path) -> None:
    require_tensorflow_backend("Writing an artifact, which is a SavedModel,")
    if model.folded:
        raise InputError(
            f"An artifact holds the network that learns; {model.name} is optimized. Write the network it was made of."
        )
    if model.dtype_policy.name != "float32":
        raise InputError(f"An artifact holds a float32 network; {model.name} computes in {model.dtype_policy.name}.")
    require_labels(labels or ())
    if target.exists():
        raise InputError(f"{target} exists already; give a new directory.")


def _write_saved_model(model: ImageClassifier, labels: Labels, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, model.keeping_flags():
        model.freeze(None)  # a frozen layer would be traced as one; an artifact is the network, whatever was trained
        inference = _inference(model)
        servable = _servable(model, inference, labels, Path(scratch))
        signatures = _signatures(model, inference)
        tf.saved_model.save(servable, str(directory), signatures=signatures)
    require_written(model, directory)


def _inference(model: ImageClassifier) -> Any:
    """The stages that the signatures give, of images: traced once, for all of them and for the network's own call."""
    stages = FeatureExtractor(model, list(dict.fromkeys([*_summaries(model), _output(model)])))

    @tf.function(autograph=False)
    def inference(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return stages(images, training=False)

    with _as_when_saving():
        inference.get_concrete_function(_images(model))
    return inference


def _summaries(model: ImageClassifier) -> list[str]:
    """The stages that the signature `features` gives."""
    return [name for name in model.stages if name.split("_")[0] in ("covariance", "representation")]


def _output(model: ImageClassifier) -> str:
    """The stage that the network returns."""
    return model.stages[-1]


def _servable(model: ImageClassifier, inference: Any, labels: Labels, scratch: Path) -> Any:
    """TensorFlow Hub's reusable SavedModel: callable, with its variables; each is owned once, under its stable name."""

    class Servable(tf.Module):
        variables: Any = ()  # plain attributes instead of tf.Module's properties, which would not be saved
        trainable_variables: Any = ()
        regularization_losses: Any = ()
        labels: Any = None

    @tf.function(autograph=False)
    def call(images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return model(images, training=True) if training else inference(images)[_output(model)]

    servable: Any = Servable()
    servable.__call__ = call
    weights = model.named_variables()
    for name, variable in weights.items():
        setattr(servable, name, variable.value)
    owned = {id(variable) for variable in weights.values()}
    for index, variable in enumerate(variable for variable in model.variables if id(variable) not in owned):
        setattr(servable, f"{RANDOM_STATE}{index}", variable.value)  # Keras numbers their paths by the process
    servable.variables = [v.value for v in weights.values()]
    servable.trainable_variables = [v.value for v in model.learned_variables().values()]
    servable.regularization_losses = []
    if labels is not None:
        path = scratch / Path(LABELS_FILE).name
        path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8", newline="\n")
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


def _signatures(model: ImageClassifier, inference: Any) -> dict[str, Any]:
    def answers(output: tf.Tensor) -> dict[str, tf.Tensor]:
        if model.classifier is None:
            return {"representation": output}
        return {
            "logits": output,
            "probabilities": tf.nn.sigmoid(output) if output.shape[1] == 1 else tf.nn.softmax(output),
        }

    @tf.function(autograph=False, input_signature=[_images(model)])
    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(inference(images)[_output(model)])

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "encoded")])
    def from_bytes(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(inference(preprocess_encoded(encoded, model.input_specification))[_output(model)])

    @tf.function(autograph=False, input_signature=[_images(model)])
    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        computed = inference(images)
        return {name: computed[name] for name in _summaries(model)}

    return {"serving_default": serving_default, "from_bytes": from_bytes, "features": features}


def _images(model: ImageClassifier) -> tf.TensorSpec:
    """What the SavedModel takes: images of any size, if the network does not fix it."""
    *size, channels = model.input_shape[1:]
    if not REPRESENTATIONS[model.architecture.representation].fixes_size:
        size = [None, None]
    return tf.TensorSpec([None, *size, channels], tf.float32, "images")
