"""Writes a network for another runtime and runs it there; the file appears only after its outputs were compared."""

import json
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mpncov_zoo.artifact.reader import reason, require_written
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.complete import complete
from mpncov_zoo.description import DESCRIPTION_FILE
from mpncov_zoo.errors import InputError, IntegrityError
from mpncov_zoo.exporting.formats import FORMATS, IMAGES, Order, Run, check_format
from mpncov_zoo.exporting.report import Comparison, ExportReport
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.inference import fold, require_float32
from mpncov_zoo.preprocessing import normalize
from mpncov_zoo.quiet import require_tensorflow_backend
from mpncov_zoo.registry import REPRESENTATIONS
from mpncov_zoo.representations import CBP, MPNCOV
from mpncov_zoo.representations.covariance import multiplications
from mpncov_zoo.specification import InputShape
from mpncov_zoo.version import __version__, versions_of

logger = logging.getLogger(__name__)

BOUNDS = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1, "int8": math.inf}  # of the largest output
BATCHES = (2, 1)
LARGER = 32  # pixels that the other size which is tried has more
COVARIANCE_FORMS = ("covariance", "gram")
FEWEST = 8  # images to calibrate int8 with


def export(
    model: ImageClassifier,
    directory: str | PathLike[str],
    format: str = "saved_model",
    dtype: str = "float32",
    *,
    calibration: Sequence[Any] | None = None,
) -> ExportReport:
    """Write a network for another runtime, with its batch normalisation folded into the convolutions.

    Before the directory appears, the file is run in its runtime (TensorFlow, ONNX Runtime, OpenVINO, LiteRT) on
    batches of two sizes, and of images of two sizes if it takes any, and compared with the network.

    Args:
        model: a network of float32; it stays as it is.
        directory: where to write; it must not exist. Beside the format's file it gets a `model.json`: input, labels,
            weights, digests, and what was compared.
        format: "saved_model", "onnx", "openvino" or "litert". LiteRT takes images of the published size alone, the
            others of any size that the network allows; the number of images is free in all.
        dtype: "float32" for all. "bfloat16" for a SavedModel computes the trunk in it. "float16" for OpenVINO and
            LiteRT stores the weights in it. "int8" for ONNX and OpenVINO quantises the convolutions; covariance,
            root and classifier stay float32.
        calibration: for int8, images such as those to come, at least 8: paths, PIL images or uint8 arrays. How often
            the first class of these stays the same stands first in the report; no bound is set on int8.

    Returns:
        What `model.json` says.

    Raises:
        InputError: the directory exists or cannot be written, packages are missing, an argument is none of these, the
            format cannot take the network, or its runtime computes something else: by more than 1e-4 of the largest
            logit in float32, 1e-2 in float16, 1e-1 in bfloat16. The message names the first stage that differs, if any
            does.

    Example:
        >>> model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True)
        >>> mpncov_zoo.export(model, "exported", format="onnx").check[0].difference < 1e-4
        True
    """
    target = Path(directory)
    network, pixels = _checked(model, target, format, dtype, calibration)
    weights = _weights(model)
    reference = network if dtype != "bfloat16" else fold(model, input_shape=network.input_shape[1:])
    _prepare(network)
    with complete(target) as partial:
        partial.mkdir()
        order = Order(network, dtype, pixels, _metadata(network, *weights))
        run = _written(order, partial, format)
        check = tuple(
            _compared(run, (model, reference), order, format, batches) for batches in _images(network, pixels)
        )
        report = _describe(order, partial, format, check, *weights)
    sizes = "any size" if network.input_shape[1] is None else "{}x{} pixels".format(*network.input_shape[1:3])
    largest = max(comparison.difference for comparison in check)
    logger.info("%s: %s for images of %s, within %.1e of the network", target, FORMATS[format].title, sizes, largest)
    return report


def _checked(
    model: ImageClassifier, target: Path, format: str, dtype: str, calibration: Sequence[Any] | None
) -> tuple[ImageClassifier, np.ndarray | None]:
    """The network that is written, and the images to calibrate with, preprocessed."""
    require_tensorflow_backend("Exporting")
    require_float32(model)
    row = check_format(format, dtype, calibration is not None)
    if isinstance(calibration, str | PathLike):
        raise InputError(f"calibration is a list of images. Received: {calibration!r}.")
    images = None if calibration is None else list(calibration)
    if images is not None and len(images) < FEWEST:
        raise InputError(f"calibration needs {FEWEST} images or more. Received: {len(images)}.")
    if os.path.lexists(target):
        raise InputError(f"{target} exists already; give a new directory.")
    pixels = None if images is None else model.preprocess(images)
    return fold(model, "bfloat16" if dtype == "bfloat16" else "float32", _input_shape(model, row.any_size)), pixels


def _input_shape(model: ImageClassifier, any_size: bool) -> InputShape:
    height, width, channels = model.input_shape[1:]
    if any_size and not REPRESENTATIONS[model.architecture.representation].fixes_size:
        return None, None, channels
    usual = model.input_specification.size
    return height or usual[0], width or usual[1], channels


def _prepare(network: ImageClassifier) -> None:
    """Give a network the graph for other runtimes.

    A covariance gets the form that is cheaper at the published size, instead of a choice in the graph. A compact
    bilinear sketch gathers: ONNX Runtime loses sums when it scatters.
    """
    size = network.input_specification.size
    shapes: Any = network.features.compute_output_shape((1, *size, network.input_shape[3]))
    shapes = shapes if isinstance(shapes[0], Sequence) else [shapes]
    covariances = [layer for layer in network.representation.layers if isinstance(layer, MPNCOV)]
    for layer, shape in zip(covariances, shapes if covariances else [], strict=True):
        layer.form = _cheaper_form(layer, positions=shape[1] * shape[2])
    for layer in network.representation.layers:
        if isinstance(layer, CBP):
            layer.table = layer.entries_of_bins()


def _cheaper_form(layer: MPNCOV, positions: int) -> str:
    channels = layer.input.shape[-1]  # of the reduction, where there is one
    return min(COVARIANCE_FORMS, key=lambda form: multiplications(form, positions, channels, layer.iterations))


def _written(order: Order, directory: Path, format: str) -> Run:
    """The format's file, written into a directory and opened there; what goes wrong there, or later, is one error."""
    row = FORMATS[format]
    with _failing_as_one(order, format):
        row.write(order, directory)
        run = row.open(directory)

    def careful(images: np.ndarray) -> dict[str, np.ndarray]:
        with _failing_as_one(order, format):
            return run(images)

    return careful


@contextmanager
def _failing_as_one(order: Order, format: str) -> Iterator[None]:
    """Turn the errors of a converter or a runtime, each of its own kind, into an InputError of one line."""
    try:
        yield
    except (OSError, MemoryError, InputError):
        raise
    except tf.errors.OpError as error:
        raise InputError(f"{FORMATS[format].title} cannot be written: {reason(error)}. Nothing was.") from error
    except Exception as error:
        others = ", ".join(name for name in FORMATS if name != format)
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
        raise InputError(
            f"{FORMATS[format].title} cannot be made of {order.network.name}: {line.rstrip('.')}. Nothing was "
            f"written; other formats are {others}."
        ) from error


def _images(network: ImageClassifier, pixels: np.ndarray | None) -> list[list[np.ndarray]]:
    """What is compared, each a list of batches: two sizes of batch and of images, and what int8 was calibrated with."""
    size = network.input_specification.size
    batches = [[_noise(network, batch, size)] for batch in BATCHES]
    if network.input_shape[1] is None:
        batches.append([_noise(network, 1, (size[0] + LARGER, size[1] + LARGER))])
    return batches if pixels is None else [np.array_split(pixels, len(pixels)), *batches]


def _compared(
    run: Run, networks: Sequence[ImageClassifier], order: Order, format: str, batches: Sequence[np.ndarray]
) -> Comparison:
    """The runtime's outputs against those of the first network that takes the images.

    Raises:
        InputError: they are not finite, or differ by more than the dtype's bound.
    """
    shape = batches[0].shape
    network = next(
        each
        for each in networks
        if all(own in (None, given) for own, given in zip(each.input_shape[1:], shape[1:], strict=True))
    )
    outputs = np.concatenate([run(images)[order.output] for images in batches])
    expected = np.concatenate([np.asarray(network(images, training=False)) for images in batches])
    difference = _difference(outputs, expected)
    if not np.isfinite(difference) or difference > BOUNDS[order.dtype]:
        raise InputError(
            f"{FORMATS[format].title} computes something else than {order.network.name} for {len(expected)} images of "
            f"{shape[1]}x{shape[2]}: {difference:.1e} of the largest value, allowed are {BOUNDS[order.dtype]:.0e}"
            f"{_first_apart(order, format, batches[0])}. Nothing was written."
        )
    return Comparison(
        images=(len(expected), *shape[1:]),
        difference=difference,
        same_class=float(np.mean(outputs.argmax(1) == expected.argmax(1))) if network.num_classes else None,
    )


def _difference(outputs: np.ndarray, expected: np.ndarray) -> float:
    """The largest one, relative to the largest expected value; NaN where an output is NaN."""
    return float(np.abs(outputs - expected).max() / max(np.abs(expected).max(), 1e-30))


def _noise(network: ImageClassifier, batch: int, size: tuple[int, int]) -> np.ndarray:
    """Seeded images (batch, height, width, channels), normalised."""
    pixels = np.random.default_rng(batch).integers(0, 256, (batch, *size, network.input_shape[3]), np.uint8)
    return normalize(pixels, network.input_specification)


def _first_apart(order: Order, format: str, images: np.ndarray) -> str:
    """Words for the first stage at which the runtime computes something else; all stages are written for that."""
    network = order.network
    assert isinstance(network, ImageClassifier)
    stages = FeatureExtractor(network, network.stages)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            outputs = _written(replace(order, network=stages), Path(scratch), format)(images)
        except InputError:  # with all stages as outputs it cannot be written
            return ""
        expected = stages(images, training=False)
        for name in [stage for stage in network.stages if stage in outputs]:
            if not _difference(np.asarray(outputs[name]), np.asarray(expected[name])) <= BOUNDS[order.dtype]:
                return f". They part at stage {name!r}"
    return ""


def _weights(model: ImageClassifier) -> tuple[str | None, str | None]:
    """Name of the weights set that the network holds bit for bit, and what that was verified against; or None twice."""
    report = model.load_report
    if report.weights is None or report.source is None or not Path(report.source).is_dir():
        return None, None
    try:
        require_written(model, Path(report.source))
    except IntegrityError:  # a fresh classifier, say, or training since
        return None, None
    return report.weights, report.trust


def _metadata(network: ImageClassifier, weights: str | None, trust: str | None) -> dict[str, str]:
    """What stands in files that have room for it."""
    return {
        "model": network.name,
        "weights": weights or "",
        "trust": trust or "",
        "input": network.input_specification.model_dump_json(),
        "labels": json.dumps(network.labels),
        "written_by": f"mpncov-zoo {__version__}",
    }


def _describe(
    order: Order,
    directory: Path,
    format: str,
    check: tuple[Comparison, ...],
    weights: str | None,
    trust: str | None,
) -> ExportReport:
    """Write model.json for the files that are there."""
    network = order.network
    report = ExportReport(
        format=format,
        dtype=order.dtype,
        model=network.name,
        weights=weights,
        trust=trust,
        input_name=IMAGES,
        input_shape=network.input_shape,
        input=network.input_specification,
        outputs=(order.output,),
        labels=network.labels,
        check=check,
        versions={"mpncov-zoo": __version__, **versions_of((*FORMATS[format].packages, "tensorflow", "keras"))},
        files=describe_files(directory),
    )
    text = json.dumps(report.model_dump(mode="json"), indent=2)
    (directory / DESCRIPTION_FILE).write_text(f"{text}\n", encoding="utf-8", newline="\n")
    return report
