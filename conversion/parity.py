"""Compares a converted network with its source network, stage by stage, on any backend of Keras.

The reference is the source network in PyTorch in float64 on the CPU. The error of the source network in float32 is
rounding alone. The error of ours may be three times as large. It may also be three times 1.4e-5, where that is more:
the published code's float32 was seen to differ by as much on the logits. A wrong weight or operation differs by orders
of magnitude more.

Where PyTorch is not at hand, the network itself in float64 on the CPU can be the reference: it shows what a device does
to the numbers.
"""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from conversion.certificate import Case, Parity, StageErrors, Weights
from conversion.devices import on, require_device, tf32
from conversion.itself import NAME, Itself, Stages, computed, copy_weights, of_any_size
from conversion.preparation import PreparedConversion, prepare
from conversion.reference.source import source_network
from mpncov_zoo import registry
from mpncov_zoo.classifier import FeatureExtractor
from mpncov_zoo.errors import InputError, ParityError

logger = logging.getLogger("mpncov_zoo.conversion")

PUBLISHED_ERROR = 1.4e-5  # of the published code in float32, over the largest logit
FACTOR = 3
CEILING = 1e-2  # of any bound: a network so ill-conditioned that PyTorch itself is off by this proves nothing
LARGEST = 1e30  # stands for what is not finite, which JSON cannot say
ODD_SIZES = ((3, (193, 161)), (1, (129, 225)))  # batch, (height, width): what rounds differently at every stride
TOP = 5
SEED = 0


@dataclass(frozen=True)
class Truth:
    """The reference that a network is compared with.

    Attributes:
        name: what certificates call it.
        exact: images (batch, height, width, channels) -> every stage in float64.
        rounded: the same in float32, by other code than ours; None where there is none.
    """

    name: str
    exact: Callable[[np.ndarray], Stages]
    rounded: Callable[[np.ndarray], Stages] | None = None


def check(
    source: str | PathLike[str],
    *,
    model: str,
    device: str = "cpu",
    reference: str = "pytorch",
    key: str | None = None,
) -> Parity:
    """Fill a network from a checkpoint and measure how far it is from its reference; nothing is written.

    It works on every backend of Keras, and needs TensorFlow only on the backend of that name.

    Args:
        source: the file, as for `convert`.
        model: name or alias of the network.
        device: "cpu" or "gpu", where ours computes.
        reference: "pytorch", the source network, which needs torch; or "itself", ours in float64 on the CPU, which
            needs nothing and shows what the device does to the numbers.
        key: where in the file the state_dict is, as for `convert`.

    Returns:
        The errors of every stage; `first_drift` names the first that is past its bound.

    Raises:
        UnknownModel, ConversionError: as `convert` raises them.
        ParityError: the reference gives NaN or infinity.
        InputError: an argument cannot be used, or PyTorch, a GPU or the reference's package is missing.

    Example:
        >>> conversion.check("mpncovresnet50-15991845.pth", model="mpncov_resnet50", device="gpu").first_drift
    """
    name = registry.canonical_name(model)
    require_parity(device, reference)
    with on(device):
        prepared = prepare(Path(source), name, key=key)
    return measure(prepared, device, reference)


def require_parity(device: str, reference: str = "pytorch", *, report: bool = False) -> None:
    """Refuse early where parity cannot be checked.

    Args:
        device: "cpu" or "gpu".
        reference: as for `check`.
        report: whether a page is to be written, too.

    Raises:
        InputError: another device or reference, a package is not installed, or a library sees no GPU.
    """
    if reference not in TRUTHS:
        raise InputError(f"reference must be {' or '.join(map(repr, TRUTHS))}. Received: {reference!r}.")
    libraries = ["torch"] if reference == "pytorch" else []
    absent = [name for name in (*libraries, *(["matplotlib"] if report else [])) if find_spec(name) is None]
    if absent:
        needs = f"Parity and its report need {' and '.join(absent)}"
        raise InputError(f'{needs}, not installed here: pip install "mpncov-zoo[conversion]"')
    require_device(device, keras.backend.backend(), *libraries)


def torch_version() -> str:
    """The version of the PyTorch that parity runs."""
    import torch

    return str(torch.__version__)


def measure(conversion: PreparedConversion, device: str = "cpu", reference: str = "pytorch") -> Parity:
    """Run both networks on seeded images of several sizes, under the file's weights and under random statistics.

    Args:
        conversion: what to check; afterwards its model holds the file's weights.
        device: "cpu" or "gpu"; a GPU computes everything with TF32 off, and ours once more with TF32 on.
        reference: as for `check`.

    Returns:
        The errors of every stage in every case, and the name of the network that they are measured against.

    Raises:
        InputError: PyTorch, a GPU or the package of the reference network is missing.
        ParityError: the reference gives NaN or infinity.
    """
    require_parity(device, reference)
    with on(device):
        return _measure(conversion, device, reference)


def _measure(conversion: PreparedConversion, device: str, reference: str) -> Parity:
    rng, model = np.random.default_rng(SEED), conversion.model
    flexible = of_any_size(model)
    own_size, any_size = (FeatureExtractor(network, network.stages) for network in (model, flexible))
    truth_of, cases, name = TRUTHS[reference](conversion, device), [], ""
    variants: tuple[tuple[Weights, Any], ...] = (
        ("random statistics", _random_statistics(conversion, rng)),
        ("as read", None),
    )
    for weights, tensors in variants:
        variant = conversion if tensors is None else replace(conversion, tensors=tensors)
        variant.place()
        copy_weights(model, flexible)
        truth = truth_of(variant)
        for batch, size in ((1, model.input_shape[1:3]), *ODD_SIZES):
            images = rng.normal(0, 1, (batch, *size, model.input_shape[3])).astype(np.float32)
            ours = own_size if size == model.input_shape[1:3] else any_size
            case, name = _case(weights, images, ours, truth, device), truth.name
            last = case.stages[-1]
            logger.info("parity, %s, images %s: %s %.1e", weights, case.shape, last.stage, last.ours)
            cases.append(case)
    return Parity(device=device, backend=keras.backend.backend(), reference=name, cases=cases)


def _source_network(conversion: PreparedConversion, device: str) -> Callable[[PreparedConversion], Truth]:
    def truth(variant: PreparedConversion) -> Truth:
        network, name = source_network(variant.recognition, variant.model.num_classes, variant.tensors)
        return Truth(
            name,
            lambda images: network.stages(images, "cpu", precision="float64"),
            lambda images: network.stages(images, device, precision="float32"),
        )

    return truth


def _itself(conversion: PreparedConversion, device: str) -> Callable[[PreparedConversion], Truth]:
    twin = Itself(conversion.model)

    def truth(variant: PreparedConversion) -> Truth:
        twin.fill(variant.model)
        return Truth(NAME, twin.stages)

    return truth


TRUTHS: Mapping[str, Callable[[PreparedConversion, str], Callable[[PreparedConversion], Truth]]] = {
    "pytorch": _source_network,
    "itself": _itself,
}


def _random_statistics(conversion: PreparedConversion, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The file's tensors with other moving means and variances of the same magnitude.

    Statistics that were never trained are 0 and 1 everywhere. They would hide that one mean was taken for another.
    """
    source = {step.target: step.source for step in conversion.recognition.steps}
    tensors = dict(conversion.tensors)
    for target, name in source.items():
        if target.endswith("/moving_variance"):
            variance, mean = tensors[name], source[target.replace("/moving_variance", "/moving_mean")]
            noise = rng.normal(0, 0.1, variance.shape) * np.sqrt(variance.astype(np.float64))
            tensors[mean] = (tensors[mean] + noise).astype(np.float32)
            tensors[name] = (variance * rng.uniform(0.5, 1.5, variance.shape)).astype(np.float32)
    return tensors


def _case(weights: Weights, images: np.ndarray, ours: FeatureExtractor, truth: Truth, device: str) -> Case:
    """Run one input through the reference in float64 and in float32, and through our network."""
    exact, rounded, coarse = truth.exact(images), None, None
    endless = [stage for stage, values in exact.items() if not np.isfinite(values).all()]
    if endless:
        raise ParityError(f"Nothing to compare with: the reference itself is not finite from {endless[0]} on.")
    with tf32(False):
        single = computed(ours, images)
        if truth.rounded is not None:
            rounded = truth.rounded(images)
    if device == "gpu":
        with tf32(True):
            coarse = computed(ours, images)
    errors = []
    for stage in (name for name in ours.stages if name in exact):
        pytorch = relative_error(rounded[stage], exact[stage]) if rounded else None
        errors.append(
            StageErrors(
                stage=stage,
                pytorch=pytorch,
                ours=relative_error(single[stage], exact[stage]),
                ours_tf32=relative_error(coarse[stage], exact[stage]) if coarse else None,
                bound=min(FACTOR * max(pytorch or 0, PUBLISHED_ERROR), CEILING),
            )
        )
    agreement = _top5_agreement(single["logits"], exact["logits"]) if "logits" in exact else None
    return Case(weights=weights, shape=images.shape, stages=errors, top5_agreement=agreement)


def relative_error(actual: np.ndarray, exact: np.ndarray) -> float:
    """The largest difference, divided by the largest exact value."""
    if actual.shape != exact.shape:
        return LARGEST
    error = np.abs(actual - exact).max() / max(np.abs(exact).max(), 1 / LARGEST)
    return float(min(error, LARGEST)) if np.isfinite(error) else LARGEST


def _top5_agreement(actual: np.ndarray, exact: np.ndarray) -> float:
    """The share of the reference's five best classes that are among ours, averaged over the images."""
    top = min(TOP, exact.shape[1])
    pairs = zip(_best(actual, top), _best(exact, top), strict=True)
    return float(np.mean([len({*ours} & {*theirs}) / top for ours, theirs in pairs]))


def _best(logits: np.ndarray, count: int) -> list[list[int]]:
    return np.argsort(-logits, axis=1, kind="stable")[:, :count].tolist()
