"""Plans which tensor becomes which variable, by the names that were recognised; each of both is used exactly once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conversion.maps import TRANSFORMS, UNUSED_LEAVES, Step
from conversion.recognition import LOGITS, MOST, Recognition, listed, shown
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import ConversionError

LOGITS_BIAS = f"{LOGITS}bias"  # its length is the number of classes


@dataclass(frozen=True)
class Placement:
    """One line of a plan: a tensor, its variable, and both shapes."""

    step: Step
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]

    def __str__(self) -> str:
        step = self.step
        return f"{shown(step.source)} {self.source_shape} -> {step.target} {self.target_shape}, {step.transform}"


@dataclass(frozen=True)
class Plan:
    """How a file's tensors become a network's variables, one to one.

    Attributes:
        family: name of the family that the file's names belong to.
        model: name of the network.
        num_classes: length of the network's logits; 0 where the file has no classifier.
        placements: a line for every tensor that becomes a variable, in the file's order.
        unused: the names of tensors that become no variable.
        key: where in the file the tensors are; None where they are all that it holds.
        notes: what else a reader must know, in sentences.
    """

    family: str
    model: str
    num_classes: int
    placements: tuple[Placement, ...]
    unused: tuple[str, ...]
    key: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the map: which name becomes which variable, and by which transform."""
        lines = (f"{p.step.source}\t{p.step.target}\t{p.step.transform}\n" for p in self.placements)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def __str__(self) -> str:
        unused = (f"{shown(name)}: not used, {_why_unused(name)}" for name in self.unused)
        under = "" if self.key is None else f" under the key {shown(self.key)}"
        classes = classes_text(self.num_classes)
        head = f"{self.model}, {classes}, from {self.family}: {len(self.placements)} tensors{under}"
        return "\n".join([head, *(f"note: {note}" for note in self.notes), *map(str, self.placements), *unused])


def _why_unused(name: str) -> str:
    return "counts training steps" if name.rpartition(".")[2] in UNUSED_LEAVES else "of a part that was left out"


def classes_text(count: int) -> str:
    """How many classes a network tells apart, said to people."""
    return f"{count} classes" if count else "no classifier"


def num_classes(recognition: Recognition, tensors: Mapping[str, np.ndarray]) -> int:
    """The number of classes: the last layer has a bias for each; 0 without that layer.

    Raises:
        ConversionError: there is that layer, and it is empty.
    """
    source = next((step.source for step in recognition.steps if step.target == LOGITS_BIAS), None)
    if source is None:
        return 0
    if not tensors[source].size:
        raise ConversionError(f"{shown(source)} is empty: the layer of the logits has no class.")
    return tensors[source].size


def make_plan(recognition: Recognition, tensors: Mapping[str, np.ndarray], model: ImageClassifier) -> Plan:
    """Check every shape, before anything is placed.

    Args:
        recognition: what the names of these tensors say.
        tensors: the file's tensors, by its own names.
        model: the network of the recognised architecture.

    Raises:
        ConversionError: shapes differ (the message lists the first), or the network has other variables.
    """
    shapes = {name: tuple(variable.shape) for name, variable in model.named_variables().items()}
    targets = {step.target for step in recognition.steps}
    if targets != shapes.keys():
        different = listed(sorted(targets ^ shapes.keys()))
        raise ConversionError(f"{model.name} has variables that {recognition.family.name} has not: {different}.")
    placements = tuple(Placement(s, tensors[s.source].shape, shapes[s.target]) for s in recognition.steps)
    misfits = sorted(str(p) for p in placements if _transformed(p) != p.target_shape)
    if misfits:
        more = f"; ... and {len(misfits) - MOST} more" if len(misfits) > MOST else ""
        raise ConversionError(f"{len(misfits)} tensors do not fit {model.name}: {'; '.join(misfits[:MOST])}{more}.")
    family, classes = recognition.family.name, model.num_classes
    return Plan(family, model.architecture.name, classes, placements, recognition.unused)


def _transformed(placement: Placement) -> tuple[int, ...] | None:
    """The shape after the transform; None where the transform does not apply to the tensor."""
    try:
        return TRANSFORMS[placement.step.transform](np.broadcast_to(np.float32(0), placement.source_shape)).shape
    except ValueError:
        return None
