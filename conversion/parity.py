"""Compares a converted network with its source network, stage by stage.

The reference is the source network in PyTorch in float64. The error of the source network in float32 is rounding alone.
The error of ours may be three times as large. It may also be three times 1.4e-5, where that is more: so much was the
published code's float32 seen to differ on the logits. A wrong weight or operation differs by orders of
magnitude more.
"""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import tensorflow as tf

from conversion.certificate import Case, Parity, StageErrors, Weights
from conversion.preparation import PreparedConversion
from conversion.reference.source import Reference, source_network
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.errors import InputError, ParityError

logger = logging.getLogger("mpncov_zoo.conversion")

PUBLISHED_ERROR = 1.4e-5  # of the published code in float32, over the largest logit
FACTOR = 3
CEILING = 1e-2  # of any bound: a network so ill-conditioned that PyTorch itself is off by this proves nothing
LARGEST = 1e30  # stands for what is not finite, which JSON cannot say
ODD_SIZES = ((3, (193, 161)), (1, (129, 225)))  # batch, (height, width): what rounds differently at every stride
TOP = 5
SEED = 0

Stages = Mapping[str, np.ndarray]  # by name; feature maps are (batch, height, width, channels)


def require_device(device: str) -> None:
    """Refuse early where parity cannot be checked.

    Raises:
        InputError: torch or matplotlib is not installed, or there is no GPU for PyTorch or for TensorFlow.
    """
    if device not in ("cpu", "gpu"):
        raise InputError(f"device must be 'cpu' or 'gpu'. Received: {device!r}.")
    absent = [package for package in ("torch", "matplotlib") if find_spec(package) is None]
    if absent:
        needs = f"Parity and its report need {' and '.join(absent)}"
        raise InputError(f'{needs}, not installed here: pip install "mpncov-zoo[conversion]"')
    if device == "gpu":
        import torch

        found = {"TensorFlow": bool(tf.config.list_physical_devices("GPU")), "PyTorch": torch.cuda.is_available()}
        blind = [name for name, sees in found.items() if not sees]
        if blind:
            raise InputError(f"device='gpu': {' and '.join(blind)} see{'' if blind[1:] else 's'} no GPU here.")


def torch_version() -> str:
    """The version of the PyTorch that parity runs."""
    import torch

    return str(torch.__version__)


def check(conversion: PreparedConversion, device: str = "cpu") -> Parity:
    """Run both networks on seeded images of several sizes, under the file's weights and under random statistics.

    Args:
        conversion: what to check; afterwards its model holds the file's weights.
        device: "cpu" or "gpu"; a GPU computes everything with TF32 off, and ours once more with TF32 on.

    Returns:
        The errors of every stage in every case, and the name of the network that they are measured against.

    Raises:
        InputError: PyTorch, a GPU or the package of the reference network is missing.
        ParityError: the source network gives NaN or infinity.
    """
    require_device(device)
    rng = np.random.default_rng(SEED)
    flexible = _of_any_size(conversion.model)
    cases, name = [], ""
    variants: tuple[tuple[Weights, Any], ...] = (
        ("random statistics", _random_statistics(conversion, rng)),
        ("as read", None),
    )
    for weights, tensors in variants:
        variant = conversion if tensors is None else replace(conversion, tensors=tensors)
        variant.place()
        _copy_weights(conversion.model, flexible)
        reference, name = source_network(variant.recognition, conversion.model.num_classes, variant.tensors)
        for batch, size in ((1, conversion.model.input_shape[1:3]), *ODD_SIZES):
            images = rng.normal(0, 1, (batch, *size, conversion.model.input_shape[3])).astype(np.float32)
            ours = conversion.model if size == conversion.model.input_shape[1:3] else flexible
            case = _case(weights, images, ours, reference, device)
            logger.info("parity, %s, images %s: logits %.1e", weights, case.shape, case.stages[-1].tensorflow)
            cases.append(case)
    return Parity(device=device, reference=name, cases=cases)


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


def _of_any_size(model: ImageClassifier) -> ImageClassifier:
    return ImageClassifier(
        model.architecture,
        num_classes=model.num_classes,
        input_shape=(None, None, model.input_shape[3]),
        input_specification=model.input_specification,
        initialize=(),
    )


def _copy_weights(source: ImageClassifier, target: ImageClassifier) -> None:
    weights = source.named_variables()
    for name, variable in target.named_variables().items():
        variable.assign(weights[name].value)


def _case(weights: Weights, images: np.ndarray, ours: ImageClassifier, reference: Reference, device: str) -> Case:
    """Run one input through the reference in float64 and in float32, and through our network."""
    exact = reference.stages(images, device, precision="float64")
    endless = [stage for stage, values in exact.items() if not np.isfinite(values).all()]
    if endless:
        raise ParityError(f"Nothing to compare with: the source network itself is not finite from {endless[0]} on.")
    with _tf32(False):
        rounded, computed = reference.stages(images, device, precision="float32"), _stages(ours, images, device)
    coarse: Stages = {}
    if device == "gpu":
        with _tf32(True):
            coarse = _stages(ours, images, device)
    errors = []
    for stage in (name for name in ours.stages if name in exact):
        pytorch = _error(rounded[stage], exact[stage])
        errors.append(
            StageErrors(
                stage=stage,
                pytorch=pytorch,
                tensorflow=_error(computed[stage], exact[stage]),
                tensorflow_tf32=_error(coarse[stage], exact[stage]) if coarse else None,
                bound=min(FACTOR * max(pytorch, PUBLISHED_ERROR), CEILING),
            )
        )
    agreement = _top5_agreement(computed["logits"], exact["logits"])
    return Case(weights=weights, shape=images.shape, stages=errors, top5_agreement=agreement)


def _stages(model: ImageClassifier, images: np.ndarray, device: str) -> Stages:
    with tf.device(f"/{device.upper()}:0"):
        outputs = FeatureExtractor(model, model.stages)(images, training=False)
        return {name: np.asarray(value) for name, value in outputs.items()}


def _error(actual: np.ndarray, exact: np.ndarray) -> float:
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


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid both libraries the GPU's 19-bit TF32 for float32 products; afterwards all is as before."""
    import torch

    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = tf.config.experimental.tensor_float_32_execution_enabled(), matmul.allow_tf32, cudnn.allow_tf32
    try:
        tf.config.experimental.enable_tensor_float_32_execution(allowed)
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before[0])
        matmul.allow_tf32, cudnn.allow_tf32 = before[1:]
