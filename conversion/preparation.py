"""Prepares a conversion: reads a checkpoint, recognises its names, builds the network and plans what goes where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from conversion.maps import TRANSFORMS
from conversion.maps.matconvnet import adapted
from conversion.maps.matconvnet_layers import require_same
from conversion.planning import Plan, classes_text, make_plan, num_classes
from conversion.readers import StoredTensors, read_checkpoint
from conversion.readers.reading import Described, release
from conversion.recognition import Recognition, listed, recognise, shown
from conversion.timm_config import CONFIG_FILE, Neighbour, beside
from mpncov_zoo import architectures, registry
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import ConversionError, InputError
from mpncov_zoo.labels import labels_of, read_labels
from mpncov_zoo.manifest import WeightsEntry

NO_CLASSIFIER = (
    "The file has no logits: the network ends with the representation, and load(..., num_classes=N) gives it a new "
    "classifier."
)
PREPARED = f"Images are prepared, and classes named if there are any, as timm's {CONFIG_FILE} beside the file says."


@dataclass(frozen=True)
class PreparedConversion:
    """A checkpoint that was read and planned, and the network that will hold its weights.

    Attributes:
        model: the network; its weights are undefined until `place`.
        recognition: what the file's names say.
        plan: which tensor goes to which variable.
        path: the file.
        tensors: the file's tensors, by its own names.
        format: the file's format.
    """

    model: ImageClassifier
    recognition: Recognition
    plan: Plan
    path: Path
    tensors: Mapping[str, np.ndarray]
    format: str

    def place(self) -> None:
        """Assign every tensor to its variable, or none of them.

        Raises:
            ConversionError: a tensor cannot be float32 without loss, is not finite, or is a negative variance.
        """
        for step in self.recognition.steps:
            try:
                _require_sound(step.source, step.target, self.tensors[step.source])
            except ConversionError as error:
                raise ConversionError(f"{self.path}: {error}") from None
            release(self.tensors[step.source])
        variables = self.model.named_variables()
        largest_first = sorted(self.recognition.steps, key=lambda step: -self.tensors[step.source].size)
        for step in largest_first:  # whose copies are in the way while there is little else
            value = _as_tensor(TRANSFORMS[step.transform](self.tensors[step.source]))
            release(self.tensors[step.source])
            variables[step.target].assign(value)


def prepare(
    path: Path,
    model: str,
    *,
    entry: WeightsEntry | None = None,
    labels: str | Path | None = None,
    architecture: architectures.Architecture | None = None,
    key: str | None = None,
) -> PreparedConversion:
    """Read a checkpoint, recognise its names, build its network and plan the conversion.

    Args:
        path: the checkpoint.
        model: canonical name of the network.
        entry: the manifest's entry of a published file: it says how images are prepared and what the classes are.
        labels: a file of class names, which takes the place of the entry's.
        architecture: a network with options of its own; by default the published one.
        key: where in the file the state_dict is; None where the file has only one.

    Raises:
        ConversionError, InputError: of `conversion.convert`.
    """
    stored = read_checkpoint(path, key)
    row = registry.backbone_of(model)
    described = stored.network
    unknown = entry is None and described is None
    neighbour = beside(path, architectures.of_model(model).backbone) if unknown else None
    specification = described.input if described is not None else (entry or neighbour or row).input
    try:
        standard = architectures.of_model(model, options=entry.options if entry is not None else None, stages=())
        wanted = architecture or standard
        if described is not None:
            wanted = adapted(wanted, described, stored.tensors)
        alone = key is not None or not stored.passed_over
        recognition = recognise(stored.tensors, wanted, may_lack_classifier=alone)
        classes = num_classes(recognition, stored.tensors)
        if described is not None:
            require_same(recognition.architecture, described, logits=bool(classes))
        network = ImageClassifier(
            recognition.architecture,
            num_classes=classes,
            input_shape=(*specification.size, specification.channels),
            input_specification=specification,
            labels=_labels(labels, entry, neighbour, classes, described),
            initialize=(),
        )
        plan = make_plan(recognition, stored.tensors, network)
        notes = _notes(recognition, stored) + (() if neighbour is None else (PREPARED,))
        notes += () if classes else (NO_CLASSIFIER,)
        plan = replace(plan, key=stored.key, notes=notes)
    except ConversionError as error:
        parts = (
            "If all belong to one network, save them in one state_dict, under its names. "
            f"With the key {shown(stored.key or '')} these are converted alone."
        )
        advice = f" {_beside(stored)} {parts}" if stored.passed_over else ""
        raise ConversionError(f"{path}: {error}{advice}") from None
    return PreparedConversion(network, recognition, plan, path, stored.tensors, stored.format)


def _notes(recognition: Recognition, stored: StoredTensors) -> tuple[str, ...]:
    """What a reader of the plan and of the certificate must know."""
    notes = [recognition.family.note] if recognition.family.note else []
    if recognition.prefix:
        notes.append(f"All names in the file begin with {recognition.prefix!r}, which was left out.")
    if stored.network is not None:
        notes += stored.network.notes
    if stored.others:
        notes.append(f"Beside the tensors lie values that are none, which were passed over: {listed(stored.others)}.")
    if stored.passed_over:
        notes.append(_beside(stored))
    return tuple(notes)


def _beside(stored: StoredTensors) -> str:
    """What else the file holds, as a sentence."""
    where = "at the top of the file" if stored.key is None else f"under the key {shown(stored.key)}"
    return f"The tensors {where} were read. Those under other keys were passed over: {listed(stored.passed_over)}."


def _labels(
    given: str | Path | None,
    entry: WeightsEntry | None,
    neighbour: Neighbour | None,
    classes: int,
    described: Described | None,
) -> Sequence[str] | None:
    """The names of the classes: those given, else those of the file, of timm's configuration or of the data set.

    A file that describes its network has its own or none.
    """
    if given is None and described is not None:
        return described.labels if classes else None
    if given is None and neighbour is not None:
        return neighbour.labels if neighbour.labels is not None and len(neighbour.labels) == classes else None
    if given is None:
        return labels_of(entry.dataset) if entry is not None and entry.num_classes == classes else None
    try:
        labels = read_labels(Path(given))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{given} cannot be read as a list of class names: {error}.") from error
    if len(labels) != classes:
        raise InputError(f"{given} has {len(labels)} lines; the file's network has {classes_text(classes)}.")
    return labels


def _as_tensor(array: np.ndarray) -> Any:
    """In float32; the array's contiguous copy is gone again, so that large weights do not lie here three times."""
    return ops.convert_to_tensor(np.ascontiguousarray(array, np.float32))


def _require_sound(source: str, target: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "fV" or (array.dtype.kind == "V" and array.dtype.name != "bfloat16"):
        raise ConversionError(f"{shown(source)} is of {array.dtype}; allowed are floating-point numbers.")
    single = array.astype(np.float32, copy=False)
    if not np.isfinite(single).all():
        raise ConversionError(f"{shown(source)} holds NaN or infinity; nothing was converted.")
    if array.dtype.itemsize > 4 and not np.array_equal(single, array):
        raise ConversionError(
            f"{shown(source)} is of {array.dtype} and would lose digits in float32; nothing was converted."
        )
    if target.endswith("/moving_variance") and single.min(initial=0) < 0:
        raise ConversionError(f"{shown(source)} holds a negative variance; nothing was converted.")
