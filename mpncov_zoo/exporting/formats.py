"""The formats: SavedModel, ONNX, OpenVINO and LiteRT, each with what it needs, how it is written and how it is run."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.errors import InputError

if TYPE_CHECKING:
    from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier

Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # images (batch, height, width, channels) -> outputs by their names

IMAGES = "images"  # the name of a network's input in every format
OPSET = 18  # of ONNX
EXTRA = 'pip install "mpncov-zoo[export]"'


@dataclass(frozen=True)
class Order:
    """What is to be written.

    Attributes:
        network: folded, without trainable variables; its input's shape is the exported one's.
        dtype: one of the format's.
        calibration: preprocessed images (images, height, width, channels) for int8, else None.
        metadata: what the file is to say of itself, where the format has room for it.
    """

    network: ImageClassifier | FeatureExtractor
    dtype: str = "float32"
    calibration: np.ndarray | None = None
    metadata: Mapping[str, str] | None = None

    def outputs(self, images: Any, weights: Any = None) -> dict[str, Any]:
        """The network's outputs under their names, computed with other weights if they are given."""
        if weights is None:
            computed = self.network(images, training=False)
        else:
            computed = self.network.stateless_call([], weights, images, training=False)[0]
        return computed if isinstance(computed, dict) else {self.output: computed}

    @property
    def output(self) -> str:
        """The name of a single output."""
        return "representation" if getattr(self.network, "num_classes", None) == 0 else "logits"

    @property
    def function(self) -> Any:
        """A tf.function from images to the named outputs."""
        import tensorflow as tf

        spec = tf.TensorSpec(self.network.input_shape, tf.float32, IMAGES)
        return tf.function(self.outputs, autograph=False, input_signature=[spec])


@dataclass(frozen=True)
class Format:
    """What a format is.

    Attributes:
        title: its name for people.
        file: the name of its main file, below its directory.
        packages: what must be installed to write and to run it, under the names of the modules.
        dtypes: which it can have; the first is the usual one.
        any_size: whether it takes images of any size; else of one size alone.
        write: an order, into a directory that exists.
        open: a directory's file in the format's runtime.
    """

    title: str
    file: str
    packages: tuple[str, ...]
    dtypes: tuple[str, ...]
    any_size: bool
    write: Callable[[Order, Path], None]
    open: Callable[[Path], Run]


def check_format(name: str, dtype: str, calibrated: bool) -> Format:
    """The row of a format that can be written here.

    Args:
        name: of the format.
        dtype: which it is to have.
        calibrated: whether there are images to calibrate with.

    Raises:
        InputError: there is no such format, it is not written in this dtype, images to calibrate with are missing or
            of no use, or packages are not installed; the message says which there are, or what installs them.
    """
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}. Received: {name!r}.")
    row = FORMATS[name]
    if dtype not in row.dtypes:
        others = ", ".join(other for other, its in FORMATS.items() if dtype in its.dtypes)
        also = f" {dtype} is for {others}." if others else ""
        raise InputError(f"{row.title} is written in {' or '.join(row.dtypes)}. Received: dtype={dtype!r}.{also}")
    if calibrated != (dtype == "int8"):
        raise InputError("Images to calibrate with are for dtype='int8', and needed there: such as those to come.")
    missing = [package for package in row.packages if find_spec(package) is None]
    if missing:
        raise InputError(f"{row.title} needs {', '.join(missing)}, not installed here: {EXTRA}")
    return row


def _write_saved_model(order: Order, directory: Path) -> None:
    import tensorflow as tf

    servable = tf.Module()
    servable.weights = [v.value for v in order.network.variables]  # pyright: ignore[reportAttributeAccessIssue]
    with _quiet():
        tf.saved_model.save(servable, str(directory), signatures={"serving_default": order.function})


def _open_saved_model(directory: Path) -> Run:
    import tensorflow as tf

    loaded: Any = tf.saved_model.load(str(directory))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        answers = loaded.signatures["serving_default"](images=tf.constant(images))  # `loaded` keeps its variables
        return {name: value.numpy() for name, value in answers.items()}

    return run


def _write_onnx(order: Order, directory: Path) -> None:
    import onnx

    path, model = directory / FORMATS["onnx"].file, _onnx(order)
    onnx.helper.set_model_props(model, dict(order.metadata or {}))
    if order.dtype == "int8":
        _quantize(model, path, order.calibration)
    else:
        onnx.save(model, str(path))


def _onnx(order: Order) -> Any:
    """The graph with its weights, which are inputs while it is converted: the converter copies constants many times."""
    import tensorflow as tf
    import tf2onnx
    from onnx import checker, numpy_helper

    network = order.network
    weights = {f"weight_{index}": variable for index, variable in enumerate(network.non_trainable_variables)}
    specs = [tf.TensorSpec(network.input_shape, tf.float32, IMAGES)]
    specs += [tf.TensorSpec(variable.shape, variable.dtype, name) for name, variable in weights.items()]

    @tf.function(autograph=False, input_signature=specs)
    def function(images: Any, *values: Any) -> dict[str, Any]:
        return order.outputs(images, list(values))

    with _quiet():
        model, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=OPSET)
    values = {name: np.asarray(variable.value) for name, variable in weights.items()}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Transpose" and node.input[0] in values:  # of a kernel, now instead of at every call
            axes = next(attribute.ints for attribute in node.attribute if attribute.name == "perm")
            values[node.output[0]] = np.ascontiguousarray(values[node.input[0]].transpose(axes))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    del model.graph.node[:], model.graph.input[1:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, n) for n, array in values.items() if n in used)
    checker.check_model(model)
    return model


def _quantize(model: Any, path: Path, calibration: np.ndarray | None) -> None:
    """To int8, by ONNX Runtime: the convolutions alone, so that covariance and root stay float32."""
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        """One image at a time."""

        def __init__(self) -> None:
            self.rest = iter(() if calibration is None else calibration)

        def get_next(self) -> Any:
            image = next(self.rest, None)
            return None if image is None else {IMAGES: image[None]}

    with _quiet():
        quantization.quantize_static(model, str(path), Images(), op_types_to_quantize=["Conv"], per_channel=True)


def _open_onnx(directory: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(directory / FORMATS["onnx"].file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {IMAGES: images}), strict=True))


def _write_openvino(order: Order, directory: Path) -> None:
    """By way of ONNX, which OpenVINO's own reader takes."""
    openvino = _openvino()
    _write_onnx(order, directory)
    source = directory / FORMATS["onnx"].file
    model = openvino.Core().read_model(str(source))
    for name, text in (order.metadata or {}).items():
        model.set_rt_info(text, ["model_info", name])
    openvino.save_model(model, str(directory / FORMATS["openvino"].file), compress_to_fp16=order.dtype == "float16")
    del model  # it holds the file open
    source.unlink()


def _open_openvino(directory: Path) -> Run:
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # by default it is bfloat16 where the processor has that
    model = _openvino().Core().compile_model(str(directory / FORMATS["openvino"].file), "CPU", exact)
    return lambda images: {name: value for output, value in model([images]).items() for name in output.names}


def _openvino() -> Any:
    """The package, imported without the one by which it reports its use to its makers."""
    name, absent = "openvino_telemetry", object()
    before = sys.modules.get(name, absent)
    sys.modules[name] = None  # pyright: ignore[reportArgumentType] - so that importing it fails, which OpenVINO allows
    try:
        import openvino
    finally:
        del sys.modules[name]
        if before is not absent:
            sys.modules[name] = before  # pyright: ignore[reportArgumentType]
    return openvino


def _write_litert(order: Order, directory: Path) -> None:
    """By way of a SavedModel: from a function that was not saved the converter makes one that computes NaN."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as scratch, _quiet():
        _write_saved_model(order, Path(scratch))
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        if order.dtype == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        (directory / FORMATS["litert"].file).write_bytes(converter.convert())


def _open_litert(directory: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    path = str(directory / FORMATS["litert"].file)
    run = Interpreter(model_path=path, num_threads=os.cpu_count()).get_signature_runner()  # by default it takes one
    return lambda images: dict(run(**{IMAGES: images}))


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this context the converters keep from the log which of their passes they run."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl", None)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


FORMATS: Mapping[str, Format] = {
    "saved_model": Format(
        title="SavedModel",
        file="saved_model.pb",
        packages=(),
        dtypes=("float32", "bfloat16"),
        any_size=True,
        write=_write_saved_model,
        open=_open_saved_model,
    ),
    "onnx": Format(
        title="ONNX",
        file="model.onnx",
        packages=("onnx", "onnxruntime", "tf2onnx"),
        dtypes=("float32", "int8"),
        any_size=True,
        write=_write_onnx,
        open=_open_onnx,
    ),
    "openvino": Format(
        title="OpenVINO",
        file="model.xml",
        packages=("onnx", "onnxruntime", "openvino", "tf2onnx"),
        dtypes=("float32", "float16", "int8"),
        any_size=True,
        write=_write_openvino,
        open=_open_openvino,
    ),
    "litert": Format(
        title="LiteRT",
        file="model.tflite",
        packages=("ai_edge_litert",),
        dtypes=("float32", "float16"),
        any_size=False,
        write=_write_litert,
        open=_open_litert,
    ),
}
