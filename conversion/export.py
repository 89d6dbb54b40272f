"""Writes a network of ours as a file that the published PyTorch code loads."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import keras
import numpy as np

from conversion.maps import INVERSES, TRANSFORMS, Family, Step, families_of
from conversion.planning import Placement, Plan
from conversion.readers import read_checkpoint
from conversion.writers.pytorch import write_pth
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.complete import complete
from mpncov_zoo.errors import ConversionError, InputError

Writer = Callable[[Mapping[str, np.ndarray], Path], None]
WRITERS: Mapping[str, Writer] = {".pth": write_pth, ".safetensors": write_safetensors}


def plan(model: ImageClassifier) -> Plan:
    """What `write_pytorch` would write.

    Raises:
        ConversionError: no published PyTorch code has this network.
    """
    family, steps = _published_names(model)
    variables = model.named_variables()
    shapes = [np.broadcast_to(np.float32(0), tuple(variables[step.target].shape)) for step in steps]
    placements = tuple(
        Placement(step, INVERSES[step.transform](ours).shape, ours.shape)
        for step, ours in zip(steps, shapes, strict=True)
    )
    return Plan(family.name, model.architecture.name, model.num_classes, placements, ())


def write_pytorch(model: ImageClassifier, output: str | PathLike[str]) -> None:
    """Write a network's weights under the published PyTorch names; read back, they are the same bits.

    `num_batches_tracked` is left out: nobody counted, and PyTorch's `load_state_dict` sets it to 0 itself.

    Args:
        model: loaded, trained or fine-tuned. Without a classifier the file has none, and PyTorch's `load_state_dict`
            takes it with `strict=False`.
        output: a new file; its suffix, `.pth` or `.safetensors`, says the format.

    Raises:
        InputError: the suffix is another, or the file exists or cannot be written.
        ConversionError: no published PyTorch code has this network, or the disk does not hold what was written.

    Example:
        >>> model = mpncov_zoo.load("mpncov_resnet50", pretrained=True)
        >>> conversion.write_pytorch(model, "mpncov_resnet50.pth")
    """
    path = require_output(output)
    _, steps = _published_names(model)
    variables = model.named_variables()
    tensors = {step.source: INVERSES[step.transform](np.asarray(variables[step.target].value)) for step in steps}
    with complete(path) as partial:
        WRITERS[path.suffix](tensors, partial)
        _require_written(partial, steps, variables)


def require_output(output: str | PathLike[str]) -> Path:
    """The path, if `write_pytorch` can begin.

    Raises:
        InputError: no format has this suffix, or the file exists.
    """
    path = Path(output)
    if path.suffix not in WRITERS:
        raise InputError(f"output must end with {' or '.join(WRITERS)}. Received: {str(path)!r}.")
    if path.exists():
        raise InputError(f"{path} exists already; give a new file.")
    return path


def _published_names(model: ImageClassifier) -> tuple[Family, tuple[Step, ...]]:
    """The first family that can be written and whose networks have exactly this one's variables."""
    for family in (family for family in families_of(model.architecture) if family.naming.written):
        steps = tuple(family.steps(model.architecture, classifier=model.classifier is not None))
        if {step.target for step in steps} == model.named_variables().keys():
            return family, steps
    raise ConversionError(f"No published PyTorch code is known for {model.name} with these options.")


def _require_written(path: Path, steps: Sequence[Step], variables: Mapping[str, keras.Variable]) -> None:
    """Read the file as a conversion would read it, and compare every variable bit for bit."""
    stored = read_checkpoint(path).tensors
    if list(stored) != [step.source for step in steps]:
        raise ConversionError(f"{path} was not written as it is: is the disk full or damaged?")
    for step in steps:
        read = np.ascontiguousarray(TRANSFORMS[step.transform](stored[step.source]))
        if read.tobytes() != np.asarray(variables[step.target].value).tobytes():
            raise ConversionError(f"{path}: {step.source} is not what {step.target} is.")
