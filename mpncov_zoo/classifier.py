"""ImageClassifier, features, representation and classifier in one Keras model; FeatureExtractor, some of its stages."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import KerasTensor

from mpncov_zoo import preprocessing
from mpncov_zoo.architectures import PARTS, Architecture
from mpncov_zoo.assembly import as_list, assemble, deep_graph, precision
from mpncov_zoo.backbones.blocks import folding, is_folding
from mpncov_zoo.compiled import Inference
from mpncov_zoo.errors import InputError
from mpncov_zoo.load_report import CONFIGURATION, LoadReport
from mpncov_zoo.plausibility import check_images
from mpncov_zoo.specification import InputShape, InputSpecification

DRAWN = frozenset({"bins", "signs"})  # CBP's hash tables, the same in every network
NOT_LEARNED = DRAWN | {"moving_mean", "moving_variance"}  # BatchNormalization's


class OfImages(keras.Model):
    """A model of preprocessed images: it preprocesses them, warns once of raw pixels, and is compiled for inference.

    Attributes:
        input_specification: how images become its input.
    """

    input_specification: InputSpecification

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs, as every Keras model does; warn once of raw pixels."""
        check_images(inputs, self.input_specification)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """What Keras runs when the model is called: a compiled function for concrete images outside of training."""
        if not training and mask is None and self._inference.takes(inputs):
            return self._inference(inputs)
        return super().call(inputs, training=training, mask=mask)

    @cached_property
    def _inference(self) -> Inference:
        return Inference(self, super().call)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs batch by batch, as every Keras model does; warn once of raw pixels."""
        check_images(x, self.input_specification)
        return super().predict(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Compute the outputs of one batch, as every Keras model does; warn once of raw pixels.

        On TensorFlow without XLA it is computed as by a call of the model, whose graph serves batches of every size.
        Keras would trace a second graph, and a third for a batch of another size.

        Args:
            x: preprocessed images (batch, height, width, channels).

        Returns:
            The outputs as NumPy arrays, in the structure of the model's output.
        """
        check_images(x, self.input_specification)
        if keras.backend.backend() == "tensorflow" and not self.jit_compile and self._inference.takes(x):
            return keras.tree.map_structure(keras.ops.convert_to_numpy, self.predict_step((x,)))
        return super().predict_on_batch(x)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, as every Keras model does; warn once of raw pixels."""
        check_images(x, self.input_specification)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measure, as every Keras model does; warn once of raw pixels."""
        check_images(x, self.input_specification)
        return super().evaluate(x, *args, **kwargs)

    def preprocess(self, images: Any) -> np.ndarray:
        """Images as the network wants them.

        Args:
            images: a path, encoded bytes, PIL image or uint8 array, or a list of these.

        Returns:
            float32 (batch, height, width, channels).

        Raises:
            InputError: something is not an image, or of a form that cannot be used.
        """
        return preprocessing.preprocess(images, self.input_specification)


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class ImageClassifier(OfImages):
    """A network of three sub-models: images -> features -> representation -> logits.

    A functional Keras model: it trains under `fit`, and saves and reloads as `.keras`.

    Args:
        architecture: the network; a row of the registry.
        num_classes: length of the logits; 0 leaves the classifier out, the output is then the representation.
        input_shape: (height, width, channels); height and width may be None.
        input_specification: how images become the network's input.
        labels: names of the classes, in the order of the logits.
        initialize: the parts whose kernels are drawn at random; the others start undefined, about to be read.

    Input shape: (batch, height, width, channels), float32, preprocessed (`preprocess`).
    Output shape: (batch, num_classes), logits; or (batch, features) for 0 classes.

    Raises:
        InputError: the architecture's options, the shape or the number of classes or labels do not make a network.

    Attributes:
        features, representation, classifier: the sub-models (`classifier` is None for 0 classes).
        load_report: what was loaded and what is fresh, a `LoadReport`.
        folded: whether it is for inference alone, without a normalisation behind a convolution (`optimize`).
        behind_stages: names of the weights that the whole trunk has behind the last of the architecture's `stages`.

    Example:
        >>> model = mpncov_zoo.build("mpncov_cifar_resnet20", num_classes=10)
        >>> model(model.preprocess("bird.jpg")).shape
        TensorShape([1, 10])
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        num_classes: int,
        input_shape: InputShape,
        input_specification: InputSpecification,
        labels: Sequence[str] | None = None,
        initialize: Collection[str] = PARTS,
        name: str | None = None,
    ):
        parts = assemble(architecture, num_classes, input_shape, initialize)
        super().__init__(parts.inputs, parts.outputs, name=name or architecture.name)
        self.architecture = architecture
        self.folded = is_folding()
        self.num_classes = num_classes
        self.input_specification = input_specification
        self.labels = labels
        self.features = parts.features.model
        self.representation = parts.representation.model
        self.classifier = parts.classifier.model if parts.classifier is not None else None
        self.behind_stages = parts.features.left_out
        self._endpoints = {"features": parts.features.endpoints, "representation": parts.representation.endpoints}
        self.load_report = LoadReport(fresh=tuple(self.named_variables()))

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as every Keras model does, but not a network that is for inference alone; that is an InputError."""
        self._require_trainable()
        return super().fit(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Take one step, as every Keras model does, under the condition of `fit`."""
        self._require_trainable()
        return super().train_on_batch(*args, **kwargs)

    def _require_trainable(self) -> None:
        if self.folded:
            raise InputError(f"{self.name} is optimized, for inference alone: train the network that it was made of.")

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the logits, or None.

        Raises:
            InputError: what it is set to is no list of as many texts as there are classes.
        """
        return self._labels

    @labels.setter
    def labels(self, labels: Sequence[str] | None) -> None:
        self._labels = None if labels is None else check_labels(labels, self.num_classes)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names that `feature_extractor` takes, from the image to the logits."""
        last = ("logits",) if self.classifier is not None else ()
        return (*self._endpoints["features"], *self._endpoints["representation"], *last)

    def stage_outputs(self, names: Sequence[str]) -> dict[str, KerasTensor]:
        """The tensors of these stages, for a functional model on this one's `input` that shares its layers.

        Raises:
            InputError: a name that is not in `stages`.
        """
        unknown = sorted(set(names) - set(self.stages))
        if isinstance(names, str) or unknown or not names:
            raise InputError(f"{self.name} has the stages {', '.join(self.stages)}. Received: {names!r}.")
        stages, summary = self._endpoints["features"], self._endpoints["representation"]
        with deep_graph():
            trunk = keras.Model(self.features.input, [*stages.values()])
        head = keras.Model(self.representation.input, [*summary.values()])
        outputs = dict(zip(stages, as_list(trunk(self.input)), strict=True))
        chosen = [outputs[name] for name in self.architecture.stages or [*outputs][-1:]]
        outputs |= zip(summary, as_list(head(chosen[0] if len(chosen) == 1 else chosen)), strict=True)
        if self.classifier is not None:
            outputs["logits"] = self.classifier(outputs["representation"])
        return {name: outputs[name] for name in names}

    def part_of(self, stage: str) -> str:
        """The part that computes a stage: "features", "representation" or "classifier".

        Raises:
            InputError: a name that is not in `stages`.
        """
        for part, endpoints in self._endpoints.items():
            if stage in endpoints:
                return part
        self.stage_outputs([stage])  # refuses what is none
        return "classifier"

    def freeze(self, stage: str | None) -> None:
        """Keep a stage and all before it as they are in training; what comes after it learns.

        Batch normalisation in frozen layers uses its moving statistics and leaves them alone. A compiled model must be
        compiled again.

        Args:
            stage: one of `stages` but "logits", or "features", the whole trunk; None lets everything learn.

        Raises:
            InputError: no such stage, or the network is for inference alone.

        Example:
            >>> model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True, num_classes=2)
            >>> model.freeze("stage2")
        """
        self._require_trainable()
        allowed = (*self._endpoints["features"], "features", *self._endpoints["representation"])
        if stage is not None and stage not in allowed:
            raise InputError(f"{self.name} can be frozen up to {', '.join(allowed)}. Received: {stage!r}.")
        for layer in self.named_layers().values():
            layer.trainable = True  # one by one: TensorFlow ignores an assignment of the value that there is already
        if stage is None:
            return
        outputs = self._endpoints["features"] | {"features": self.features.output}
        if stage in outputs:
            _freeze_between(self.features.input, outputs[stage])
        else:
            self.features.trainable = False
            _freeze_between(self.representation.input, self._endpoints["representation"][stage])

    def decode(self, logits: Any, top: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable classes of every image: [[(label, probability), ...], ...], best first.

        Probabilities are the softmax of the logits, or the sigmoid where there is one logit: how sure the network is of
        its only class.

        Args:
            logits: the network's output, (batch, num_classes).
            top: how many classes an image; all of them where there are fewer.

        Raises:
            InputError: logits of another shape, or not finite; top less than 1; the network has no classifier.
        """
        if top < 1:
            raise InputError(f"top must be at least 1. Received: {top}.")
        if self.classifier is None:
            raise InputError(f"{self.name} has no classifier: its output is the representation, which names no class.")
        values = keras.ops.convert_to_numpy(logits).astype(np.float64)
        if values.ndim != 2 or values.shape[1] != self.num_classes:
            raise InputError(f"decode expects logits of shape (batch, {self.num_classes}). Received: {values.shape}.")
        if not np.isfinite(values).all():
            raise InputError("decode expects finite logits. Received NaN or infinity: was the image preprocessed?")
        probabilities = _probabilities(values)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        names = self.labels or tuple(f"class {index}" for index in range(self.num_classes))
        return [[(names[i], float(row[i])) for i in order] for row, order in zip(probabilities, best, strict=True)]

    def named_variables(self) -> dict[str, keras.Variable]:
        """Every weight under its stable name, `<part>/<layer>/<variable>`, as the artifact's checkpoint has it."""
        named = {f"{part.name}/{variable.path}": variable for part in self._parts() for variable in part.weights}
        if len(named) != len(self.weights):
            raise RuntimeError(f"Variable names of {self.name} are not unique.")  # a defect of a builder
        return named

    @contextmanager
    def keeping_flags(self) -> Iterator[None]:
        """Within this context `trainable` may be set anywhere in the network; afterwards all is as it was."""
        flags = {name: layer.trainable for name, layer in self.named_layers().items()}
        try:
            yield
        finally:
            for name, layer in self.named_layers().items():  # a part before its layers, which it sets, too
                layer.trainable = flags[name]

    def named_layers(self) -> dict[str, keras.Layer]:
        """The network itself, "", its parts and their layers, each after what holds it."""
        parts = {part.name: part for part in self._parts()}
        return {"": self, **parts} | {f"{name}/{layer.name}": layer for name in parts for layer in parts[name].layers}

    def _parts(self) -> list[keras.Model]:
        return [model for model in (getattr(self, part) for part in PARTS) if model is not None]

    def learned_variables(self) -> dict[str, keras.Variable]:
        """What training changes of `named_variables`, by kind: `trainable` flags of frozen layers do not count."""
        return {name: v for name, v in self.named_variables().items() if name.rpartition("/")[2] not in NOT_LEARNED}

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned, frozen or not: what publications count."""
        return sum(math.prod(variable.shape) for variable in self.learned_variables().values())

    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` builds the same network."""
        return {
            "architecture": self.architecture.to_dict(),
            "num_classes": self.num_classes,
            "input_shape": list(self.input_shape[1:]),
            "input_specification": self.input_specification.model_dump(mode="json"),
            "labels": list(self.labels) if self.labels is not None else None,
            "name": self.name,
            "precision": self.dtype_policy.name,
            "folded": self.folded,
            "frozen": [name for name, layer in self.named_layers().items() if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "ImageClassifier":
        """Build the network that `get_config` describes."""
        values = dict(config)
        architecture = Architecture.from_dict(values.pop("architecture"))
        specification = InputSpecification.model_validate(values.pop("input_specification"))
        frozen = values.pop("frozen", ())  # which files of earlier versions do not have
        folded = values.pop("folded", False)
        with precision(values.pop("precision")), folding() if folded else nullcontext():
            model = cls(architecture, input_specification=specification, **values)
        named = model.named_layers()
        for name, layer in named.items():  # a part before its layers, which it sets, too
            layer.trainable = name not in frozen
        model.load_report = LoadReport(source=CONFIGURATION)
        return model


def check_labels(labels: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """The names of the classes as a tuple.

    Raises:
        InputError: they are no sequence of texts, or not one for each class.
    """
    if isinstance(labels, str | bytes | Mapping | Set) or not isinstance(labels, Iterable):
        raise InputError(f"labels must be a list of names in the order of the logits. Received: {labels!r}.")
    names = tuple(labels)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"labels must be texts. Received: {name!r}, of type {type(name).__name__}.")
    if len(names) != num_classes:
        raise InputError(f"{num_classes} classes need as many labels. Received: {len(names)} labels.")
    return names


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class FeatureExtractor(OfImages):
    """An ImageClassifier up to some of its stages; the layers are shared with it.

    Args:
        classifier: the network.
        stages: names out of `classifier.stages`.

    Input shape: (batch, height, width, channels), preprocessed (`preprocess`).
    Output shape: {stage: tensor}; feature maps are (batch, height, width, channels).
    """

    def __init__(self, classifier: ImageClassifier, stages: Sequence[str], *, name: str | None = None):
        outputs = classifier.stage_outputs(stages)
        super().__init__(classifier.input, outputs, name=name or f"{classifier.name}_features")
        self.stages = tuple(stages)
        self._classifier_config = classifier.get_config()
        self.input_specification = classifier.input_specification
        self.load_report = classifier.load_report

    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` builds the same network."""
        return {"classifier": self._classifier_config, "stages": list(self.stages), "name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "FeatureExtractor":
        """Build the network that `get_config` describes."""
        return cls(ImageClassifier.from_config(config["classifier"]), config["stages"], name=config["name"])


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """Logits float64 (batch, classes) -> their softmax, or their sigmoid where there is one class."""
    if logits.shape[1] == 1:  # against the logit 0 of "not this class"
        logits = np.concatenate([logits, np.zeros_like(logits)], axis=1)
        return _probabilities(logits)[:, :1]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _freeze_between(inputs: KerasTensor, output: KerasTensor) -> None:
    with deep_graph():
        for layer in keras.Model(inputs, output).layers:
            layer.trainable = False
