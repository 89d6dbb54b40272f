"""export: every format is run in its runtime before it appears, and holds what its model.json says."""

import errno
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.exporting import FORMATS, ExportReport, exporter, formats
from mpncov_zoo.hub.verification import sha256
from mpncov_zoo.inference import optimize
from tests import networks
from tests.command_line import Capture, assert_refused, run
from tests.photos import photo

Exported = tuple[Path, ExportReport]
HEADS: tuple[dict[str, Any], ...] = (
    {"representation": "bcnn", "options": {"features": {"repeats": 1}}},
    {"representation": "cbp", "options": {"features": {"repeats": 1}, "representation": {"dimension": 64}}},
    {"options": {"features": {"repeats": 1}, "representation": {"square_root": False}}},
    {"options": {"features": {"repeats": 1}, "representation": {"normalization": "frobenius", "form": "gram"}}},
    {
        "stages": ["stage1", "stage3"],
        "options": {"features": {"repeats": 1}, "representation": {"dimension_reduction": 8, "l2_normalize": True}},
    },
)


@pytest.fixture(scope="module")
def model(artifact_hub: Path) -> ImageClassifier:
    return mpncov_zoo.load("mpncov_cifar_resnet20.test", hub=artifact_hub)


@pytest.fixture(scope="module")
def exported(model: ImageClassifier, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Where the network lies in a format, in float32, and what was reported; each is written once, and only read."""

    @cache
    def write(format: str) -> Exported:
        directory = tmp_path_factory.mktemp(format) / "out"
        return directory, mpncov_zoo.export(model, directory, format)

    return write


def photos(count: int) -> list[np.ndarray]:
    return [photo(40, 40)[:, :, 0] // (index + 1) for index in range(count)]


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_computes_what_the_network_does(
    format: str, model: ImageClassifier, exported: Callable[[str], Exported]
) -> None:
    """Opened anew, by the test: batches of three sizes, and images of another size where any is taken."""
    directory, report = exported(format)
    opened = FORMATS[format].open(directory)
    for batch in (3, 1, 4):
        x = networks.images(model, batch)
        expected = model(x).numpy()
        outputs = opened(x)["logits"]
        assert outputs.dtype == np.float32 and np.abs(outputs - expected).max() <= 1e-5 * np.abs(expected).max()
    assert report.input_shape == ((None, 28, 28, 1) if format == "litert" else (None, None, None, 1))
    if format != "litert":
        x = np.random.default_rng(1).normal(0, 1, (2, 41, 33, 1)).astype(np.float32)
        of_any_size = ImageClassifier.from_config({**model.get_config(), "input_shape": [None, None, 1]})
        of_any_size.set_weights(model.get_weights())
        expected = of_any_size(x).numpy()
        assert np.abs(opened(x)["logits"] - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("format", FORMATS)
def test_model_json_says_what_there_is(
    format: str, model: ImageClassifier, exported: Callable[[str], Exported]
) -> None:
    directory, report = exported(format)
    text = (directory / "model.json").read_text(encoding="utf-8")
    assert ExportReport.model_validate(json.loads(text)) == report
    assert (report.format, report.dtype, report.model) == (format, "float32", model.name)
    assert (report.weights, report.labels) == ("mpncov_cifar_resnet20.test", model.labels)
    assert report.input == model.input_specification
    assert [check.images[:3] for check in report.check][:2] == [(2, 28, 28), (1, 28, 28)]
    assert len(report.check) == (2 if format == "litert" else 3)
    assert all(check.difference < 1e-5 and check.same_class == 1 for check in report.check)
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert {file.path for file in report.files} == files - {"model.json"} and FORMATS[format].file in files
    for file in report.files:
        assert sha256(directory / file.path) == file.sha256


@pytest.mark.parametrize("options", HEADS)
def test_every_head_exports_to_every_format(options: dict[str, Any], tmp_path: Path) -> None:
    """But for the SavedModel, which every network is, and the converters begin with."""
    network = mpncov_zoo.build("mpncov_cifar_resnet20", num_classes=3, input_shape=(16, 16, 3), **options)
    networks.randomize(network)
    for format in FORMATS.keys() - {"saved_model"}:
        report = mpncov_zoo.export(network, tmp_path / format, format)
        assert max(check.difference for check in report.check) <= 1e-5


def test_operations_are_those_that_every_runtime_has(
    model: ImageClassifier, exported: Callable[[str], Exported]
) -> None:
    graph = onnx.load(exported("onnx")[0] / "model.onnx")
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"BatchNormalization", "If", "Loop", "EyeLike", "Einsum", "Dropout"}
    assert {node.domain for node in graph.graph.node} == {""}
    kernels = [node for node in graph.graph.node if node.op_type == "Transpose" and "weight" in node.input[0]]
    assert not kernels
    stored = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(stored["labels"]) == [*(model.labels or ())] and stored["weights"] == model.load_report.weights
    assert json.loads(stored["input"])["size"] == [28, 28]


@pytest.mark.parametrize(
    ("format", "dtype"), [("litert", "float16"), ("openvino", "float16"), ("saved_model", "bfloat16")]
)
def test_halves_take_less_room(
    format: str, dtype: str, model: ImageClassifier, exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    """Half of it, but for the classifier of bfloat16, which is a third of this network and stays float32."""

    def weights(report: ExportReport) -> int:
        return sum(file.size for file in report.files if not file.path.endswith((".xml", ".pb")))

    _, whole = exported(format)
    half = mpncov_zoo.export(model, tmp_path / "half", format, dtype)
    assert half.dtype == dtype and weights(half) < 0.65 * weights(whole)
    assert 0 < half.check[0].difference < exporter.BOUNDS[dtype]


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8_is_calibrated_and_its_drop_is_said(format: str, model: ImageClassifier, tmp_path: Path) -> None:
    images = photos(9)
    report = mpncov_zoo.export(model, tmp_path / "out", format, "int8", calibration=images)
    check = report.check[0]
    assert check.images == (9, 28, 28, 1) and 0 < check.difference < 0.5
    assert [other.images[:3] for other in report.check[1:]] == [(2, 28, 28), (1, 28, 28), (1, 60, 60)]
    x = model.preprocess(images)
    outputs = np.concatenate([FORMATS[format].open(tmp_path / "out")(x[i : i + 1])["logits"] for i in range(9)])
    assert np.mean(outputs.argmax(1) == model(x).numpy().argmax(1)) == check.same_class
    if format == "onnx":
        nodes = onnx.load(tmp_path / "out" / "model.onnx").graph.node
        quantized = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
        assert {node.op_type for node in nodes if set(node.input) & quantized} <= {
            "Conv",
            "Relu",
            "Add",
            "QuantizeLinear",
        }


def test_a_sketch_is_not_scattered(tmp_path: Path) -> None:
    """ONNX Runtime's ScatterND loses sums where two threads add in one place, which batches of one image show."""
    network = mpncov_zoo.build("cbp_resnet18", num_classes=3, options={"features": {"repeats": (1, 1, 1, 1)}})
    networks.randomize(network)
    mpncov_zoo.export(network, tmp_path / "out", "onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
    assert not [kind for kind in kinds if kind.startswith("Scatter")]


def test_only_weights_that_are_still_those_are_named(artifact_hub: Path, tmp_path: Path) -> None:
    name = "mpncov_cifar_resnet20.test"
    fresh = mpncov_zoo.load(name, hub=artifact_hub, num_classes=3)
    changed = mpncov_zoo.load(name, hub=artifact_hub)
    changed.classifier.layers[-1].bias.assign_add(np.ones(10, np.float32))
    for place, network in (("fresh", fresh), ("changed", changed)):
        report = mpncov_zoo.export(network, tmp_path / place)
        assert (report.weights, report.trust) == (None, None)


def test_without_classes_the_output_is_the_representation(tmp_path: Path) -> None:
    report = mpncov_zoo.export(networks.tiny(0), tmp_path / "out", "onnx")
    assert report.outputs == ("representation",) and report.check[0].same_class is None


def test_a_size_that_the_network_has_not_is_compared_with_float32(model: ImageClassifier, tmp_path: Path) -> None:
    assert mpncov_zoo.export(model, tmp_path / "out", dtype="bfloat16").check[2].difference > 1e-5


def test_an_export_is_no_artifact(exported: Callable[[str], Exported]) -> None:
    with pytest.raises(mpncov_zoo.ManifestError, match=r"this is an export.*load mpncov_cifar_resnet20\.test"):
        mpncov_zoo.load(str(exported("saved_model")[0]))


def test_an_optimized_network_exports_too(model: ImageClassifier, tmp_path: Path) -> None:
    report = mpncov_zoo.export(optimize(model), tmp_path / "out", "onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    x = networks.images(model)
    np.testing.assert_allclose(session.run(None, {"images": x})[0], model(x), rtol=1e-4, atol=1e-4)
    assert report.model == model.name


def test_a_network_for_one_size_stays_one(tmp_path: Path) -> None:
    network = mpncov_zoo.build("mpncov_cifar_resnet20", representation="flatten", num_classes=2, input_shape=(8, 8, 3))
    assert mpncov_zoo.export(network, tmp_path / "out").input_shape == (None, 8, 8, 3)


def wrong(stage: str):
    """A writer of a SavedModel whose network has another weight than the one it is compared with."""
    write, layers = FORMATS["saved_model"].write, []

    def damaged(order: formats.Order, directory: Path) -> None:
        if isinstance(order.network, ImageClassifier):  # all stages are written afterwards, of the same layers
            layers.append(order.network.features.get_layer(f"{stage}_conv2"))
        (layer,) = layers
        weights = layer.get_weights()
        layer.set_weights([weights[0] + 0.1, *weights[1:]])
        try:
            write(order, directory)
        finally:
            layer.set_weights(weights)

    return damaged


def replaced(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    row = formats.Format(**{**vars(FORMATS["saved_model"]), **changes})
    monkeypatch.setattr(formats, "FORMATS", {**FORMATS, "saved_model": row})
    monkeypatch.setattr(exporter, "FORMATS", formats.FORMATS)


def test_what_computes_something_else_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.tiny()
    replaced(monkeypatch, write=wrong("stage2_block1"))
    with pytest.raises(InputError, match=r"SavedModel computes something else.*They part at stage 'stage2'\. Nothing"):
        mpncov_zoo.export(network, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_converter_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(order: formats.Order, directory: Path) -> None:
        raise RuntimeError("\nNo conversion rule for MatrixDiag.\nand so on")

    replaced(monkeypatch, write=fails)
    with pytest.raises(InputError, match=r"cannot be made of .*: No conversion rule for MatrixDiag\. Nothing.*onnx"):
        mpncov_zoo.export(networks.tiny(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_runtime_that_computes_nan_or_fails_is_refused(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(images: np.ndarray) -> dict[str, np.ndarray]:
        raise RuntimeError("Non-zero status code returned")

    def nothing(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": np.full((len(images), 5), np.nan)}

    for opened, message in (
        (nothing, "nan of the largest value"),
        (fails, "made of .*: Non-zero status code returned"),
    ):
        with monkeypatch.context() as context:
            replaced(context, open=lambda directory, opened=opened: opened)
            with pytest.raises(InputError, match=message):
                mpncov_zoo.export(networks.tiny(), tmp_path / "out", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(order: formats.Order, directory: Path) -> None:
        (directory / "part").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    replaced(monkeypatch, write=full)
    with pytest.raises(InputError, match="out cannot be written: No space left on device"):
        mpncov_zoo.export(networks.tiny(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_refusals(model: ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    for arguments, message in (
        ({"directory": tmp_path / "there"}, "exists already"),
        ({"format": "torchscript"}, "one of saved_model, onnx, openvino, litert. Received: 'torchscript'"),
        ({"format": "litert", "dtype": "int8"}, "LiteRT is written in float32 or float16.*int8 is for onnx, openvino"),
        ({"format": "onnx", "dtype": "int8"}, "needed there"),
        ({"format": "onnx", "calibration": photos(9)}, "are for dtype='int8'"),
        ({"format": "onnx", "dtype": "int8", "calibration": photos(3)}, "8 images or more. Received: 3"),
        ({"format": "onnx", "dtype": "int8", "calibration": "photos"}, "is a list of images. Received: 'photos'"),
        ({"model": tf.keras.Sequential()}, "a network of mpncov_zoo"),
        ({"model": mpncov_zoo.build("mpncov_cifar_resnet20", dtype="float64")}, "load it in float32"),
    ):
        with pytest.raises(InputError, match=message):
            mpncov_zoo.export(**{"model": model, "directory": tmp_path / "new", **arguments})
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(InputError, match=r"OpenVINO needs onnxruntime, not installed here: pip install .*\[export\]"):
        mpncov_zoo.export(model, tmp_path / "new", "openvino")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_openvino_reports_to_nobody() -> None:
    """Its package of telemetry is not imported, neither by ours nor by its own."""
    import subprocess

    code = "from mpncov_zoo.exporting.formats import _openvino as o; o().Core(); import sys; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "openvino" in printed and not [name for name in printed if name.startswith("openvino_telemetry")]


def test_command(artifact_hub: Path, tmp_path: Path, capsys: Capture) -> None:
    name = "mpncov_cifar_resnet20.test"
    options = ("--hub", artifact_hub, "--format", "onnx", "--output", tmp_path / "out")
    code, out, _ = run(capsys, "export", name, *options)
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"{tmp_path / 'out'}: ONNX of {name}, float32"
    assert lines[1].startswith("file        model.onnx, ")
    assert lines[2].startswith("compared    2 images of 28x28: within ") and lines[2].endswith("same class in 100.0%")
    assert_refused(run(capsys, "export", name, *options), "exists already")
    assert_refused(run(capsys, "export", name, *options, "--dtype", "int8"), "Images to calibrate with")
    code, out, _ = run(capsys, "export", name, *options[:4], "--output", tmp_path / "json", "--json")
    assert code == 0 and json.loads(out) == json.loads((tmp_path / "json" / "model.json").read_text(encoding="utf-8"))
