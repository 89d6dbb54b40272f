"""Plans which tensor becomes which variable: the names tell the family, and every tensor and variable is used once."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from conversion.maps import TRANSFORMS, Family, Step, families_of
from mpncov_zoo import registry
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import ConversionError

MOST = 10  # names in a message
LOGITS = "classifier/logits/bias"  # as long as there are classes


@dataclass(frozen=True)
class Recognition:
    """What the names in a file say about it.

    Attributes:
        family: the family that the names belong to.
        architecture: the network asked for, as the files of that family hold it.
        names: the file's name of every tensor that is a weight -> the family's name, in the file's order.
        steps: what becomes of these tensors, under the file's own names.
        unused: the names of tensors that are not weights.
    """

    family: Family
    architecture: registry.Architecture
    names: Mapping[str, str]
    steps: tuple[Step, ...]
    unused: tuple[str, ...]


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
        num_classes: length of the network's logits.
        placements: a line for every tensor that is a weight, in the file's order.
        unused: the names of tensors that are not weights.
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
        unused = (f"{shown(name)}: not used, counts training steps" for name in self.unused)
        under = "" if self.key is None else f" under the key {shown(self.key)}"
        head = f"{self.model}, {self.num_classes} classes, from {self.family}: {len(self.placements)} tensors{under}"
        return "\n".join([head, *(f"note: {note}" for note in self.notes), *map(str, self.placements), *unused])


def recognise(names: Iterable[str], architecture: registry.Architecture) -> Recognition:
    """Find the family whose names for this network are exactly those of the file.

    Args:
        names: the names of the file's tensors, in its order.
        architecture: the network asked for.

    Raises:
        ConversionError: nobody published such networks, two names mean one tensor, or the names differ. The message
            then lists what is too many and what is missing, for the family that comes closest.
    """
    found = list(names)
    families = families_of(architecture)
    if not families:
        raise ConversionError(f"No published checkpoints of networks like {architecture.name!r} are known.")
    attempts = [_Attempt(family, architecture, found) for family in families]
    closest = max(attempts, key=lambda attempt: attempt.common)
    if closest.missing or closest.extra or closest.repeated:
        _refuse(found, architecture, closest)
    return closest.recognition()


class _Attempt:
    """The names in a file, read as names of one family."""

    def __init__(self, family: Family, architecture: registry.Architecture, found: list[str]):
        self.family = family
        self.architecture = registry.with_options(architecture, family.options)
        self.steps = {step.source: step for step in family.steps(self.architecture)}
        self.names = {name: usual for name, usual in family.naming.names(found).items() if usual is not None}
        self.unused = tuple(name for name in found if name not in self.names)
        usual = Counter(self.names.values())
        self.common = len(self.steps.keys() & usual.keys())
        self.extra = sorted(name for name, called in self.names.items() if called not in self.steps)
        self.missing = sorted(step.target for source, step in self.steps.items() if source not in usual)
        self.repeated = sorted(name for name, called in self.names.items() if usual[called] > 1)

    def recognition(self) -> Recognition:
        steps = (
            Step(name, self.steps[usual].target, self.steps[usual].transform) for name, usual in self.names.items()
        )
        return Recognition(self.family, self.architecture, self.names, tuple(steps), self.unused)


def _refuse(found: list[str], architecture: registry.Architecture, closest: _Attempt) -> NoReturn:
    other = _model_of(found)
    hint = f" They are those of {other}: pass that as the model. Here" if other else ""
    sides = (
        ("tensors without a variable", closest.extra),
        ("variables without a tensor", closest.missing),
        ("tensors of one meaning", closest.repeated),
    )
    lists = "; ".join(f"{len(names)} {what}: {listed(names)}" for what, names in sides if names)
    raise ConversionError(
        f"The file's {len(found)} tensors are not those of {architecture.name} ({closest.family.name}).{hint} {lists}."
    )


def shown(name: str) -> str:
    """A name from a file as one line of printable text, whatever the name holds."""
    return name if name.isprintable() else ascii(name)


def listed(names: Sequence[str]) -> str:
    """Names for a message: the first of them, and how many more there are."""
    more = f", ... and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(map(shown, names[:MOST])) + more


def _model_of(found: list[str]) -> str | None:
    """The first of the published models whose files have exactly these names; None if there is none."""
    for model in registry.model_names():
        architecture = registry.architecture(model)
        for family in families_of(architecture):
            attempt = _Attempt(family, architecture, found)
            if not (attempt.missing or attempt.extra or attempt.repeated):
                return model
    return None


def num_classes(recognition: Recognition, tensors: Mapping[str, np.ndarray]) -> int:
    """The number of classes: the last layer has a bias for each."""
    return next(tensors[step.source].size for step in recognition.steps if step.target == LOGITS)


def make_plan(recognition: Recognition, tensors: Mapping[str, np.ndarray], model: ImageClassifier) -> Plan:
    """Check every shape, before anything is placed.

    Args:
        recognition: what the names of these tensors say.
        tensors: the file's tensors, by its own names.
        model: the network of the recognised architecture.

    Raises:
        ConversionError: shapes differ (the message lists all that do), or the network has other variables.
    """
    shapes = {name: tuple(variable.shape) for name, variable in model.named_variables().items()}
    targets = {step.target for step in recognition.steps}
    if targets != shapes.keys():
        different = ", ".join(sorted(targets ^ shapes.keys()))
        raise ConversionError(f"{model.name} has variables that {recognition.family.name} has not: {different}.")
    placements = tuple(Placement(s, tensors[s.source].shape, shapes[s.target]) for s in recognition.steps)
    misfits = sorted(str(p) for p in placements if _transformed(p) != p.target_shape)
    if misfits:
        raise ConversionError(f"{len(misfits)} tensors do not fit {model.name}: {'; '.join(misfits)}.")
    family, classes = recognition.family.name, model.num_classes
    return Plan(family, model.architecture.name, classes, placements, recognition.unused)


def _transformed(placement: Placement) -> tuple[int, ...] | None:
    """The shape after the transform; None where the transform does not apply to the tensor."""
    try:
        return TRANSFORMS[placement.step.transform](np.broadcast_to(np.float32(0), placement.source_shape)).shape
    except ValueError:
        return None
