"""Networks that Octave wrote as MatConvNet does compute here what their layers say, whichever way they were saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpncov_zoo
from conversion import parity, preparation
from conversion.maps.matconvnet_layers import require_same
from conversion.preparation import PreparedConversion, prepare
from conversion.readers import read_checkpoint
from mpncov_zoo import architectures
from mpncov_zoo.backbones.vgg_m import LOCAL_RESPONSE
from mpncov_zoo.errors import ConversionError
from tests.command_line import Capture, assert_refused, run
from tests.conversion import matconvnet_networks as networks
from tests.published import relative_error

io = pytest.importorskip("scipy.io", reason="needs scipy")
BOUND = 3 * parity.PUBLISHED_ERROR
SHALLOW = {"features": {"repeats": (1, 1, 1, 1)}}
OPTIONS = {
    "mpncov_resnet50": SHALLOW,
    "vgg16": {"features": {"repeats": (1, 1, 1, 1, 1)}},
    "vgg_m": {},
}
FILES = [("resnet", "epoch", "mpncov_resnet50"), ("resnet", "deployed", "mpncov_resnet50")]
FILES += [("vgg_m", "vgg_m", "vgg_m"), ("vgg_vd", "vgg_vd", "vgg16")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matconvnet")
    for network in ("resnet", "vgg_m", "vgg_vd"):
        networks.write(network, folder)
    return folder


def prepared(path: Path, model: str, options: Any = None) -> PreparedConversion:
    architecture = architectures.of_model(model, options=options or OPTIONS[model])
    return prepare(path, model, architecture=architecture)


def in_order(conversion: PreparedConversion, names: list[str]) -> list[int]:
    """The file's number of each class of ours."""
    return [names.index(label) for label in conversion.model.labels or ()]


@pytest.mark.parametrize(("network", "name", "model"), FILES)
def test_what_is_computed(folder: Path, network: str, name: str, model: str) -> None:
    path = folder / f"{name}.mat"
    conversion = prepared(path, model)
    conversion.place()
    size = (224, 224) if model != "mpncov_resnet50" else (69, 64)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *size, 3))
    specification, net = conversion.model.input_specification, networks.loaded(path)
    normalization = net.meta.normalization if hasattr(net, "meta") else net.normalization
    average = np.asarray(normalization.averageImage, np.float64)
    colour = average.mean((0, 1)) if average.ndim == 3 else average
    ours = (pixels / 255 - specification.mean) / specification.std
    np.testing.assert_allclose(ours, pixels - colour, rtol=1e-6, atol=1e-4)
    values = networks.computed(path, pixels - colour)
    last = "prediction" if network == "resnet" else "fc8"
    expected = values[last][:, 0, 0]
    classes = net.meta.classes if hasattr(net, "meta") else net.classes
    order = in_order(conversion, [str(text) for text in classes.description])
    assert sorted(order) == list(range(len(order)))
    model_of_any_size = conversion.model if model != "mpncov_resnet50" else parity.of_any_size(conversion.model)
    if model_of_any_size is not conversion.model:
        parity.copy_weights(conversion.model, model_of_any_size)
    actual = np.asarray(model_of_any_size(ours.astype(np.float32)))
    assert relative_error(actual, expected[:, order]) <= BOUND
    assert np.abs(expected).max() > 1e-3 and np.ptp(expected, axis=0).min() > 0


def test_numbers_come_from_the_file(folder: Path) -> None:
    """The channels of the covariance, the hidden layers, the local response: none of them is the table's here."""
    resnet = prepared(folder / "epoch.mat", "mpncov_resnet50").model.architecture
    assert resnet.representation_options == {"dimension_reduction": 8}
    vgg_m = prepared(folder / "vgg_m.mat", "vgg_m").model.architecture
    assert vgg_m.classifier_options["hidden"] == (6, 5)
    assert vgg_m.features_options["local_response"] == (5, 2.0, 1e-4, 0.75) != LOCAL_RESPONSE


def test_images_and_classes_are_the_files(folder: Path) -> None:
    vgg_m, vgg = (prepared(folder / f"{name}.mat", model) for name, model in (("vgg_m", "vgg_m"), ("vgg_vd", "vgg16")))
    assert vgg_m.model.input_specification.interpolation == "bilinear"
    assert vgg_m.model.input_specification.resize == "short_side"
    assert any("average image" in note for note in vgg_m.plan.notes)
    assert vgg.model.input_specification.interpolation == "bicubic"
    assert (vgg.model.input_specification.resize, vgg.model.input_specification.crop_fraction) == ("squash", 0.875)
    np.testing.assert_allclose(vgg.model.input_specification.mean, np.array([123.68, 116.779, 103.939]) / 255, 1e-6)
    assert vgg.model.labels == tuple(f"class {name}, or so" for name in "bacd")  # no WordNet identifiers: as they are
    resnet = prepared(folder / "deployed.mat", "mpncov_resnet50")
    assert resnet.model.labels == tuple(f"class n0{number}000000, or so" for number in range(1, 6))
    assert any("WordNet" in note for note in resnet.plan.notes) and any("merged" in note for note in resnet.plan.notes)


@pytest.mark.parametrize(
    ("name", "model", "options", "message"),
    [
        (
            "epoch",
            "mpncov_resnet50_v1",
            {"features": {"repeats": (1, 1, 1, 1)}},
            "In the file conv3_1a_conv is: .*stride 1 of .*it is: .*stride 2 of",
        ),
        ("epoch", "mpncov_resnet50", {"features": {"repeats": (1, 1, 1, 1), "last_stride": 2}}, "conv5_1_adapt_conv"),
        ("epoch", "mpncov_resnet50", {"features": {"repeats": (1, 1, 1, 2)}}, "variables without a tensor"),
        ("epoch", "mpncov_resnet50", {}, "variables without a tensor"),
        ("epoch", "mpncov_resnet18", {}, "tensors are not those of mpncov_resnet18"),
        ("vgg_m", "vgg16", {}, "They are those of vgg_m: pass that as the model"),
        ("vgg_m", "mpncov_vgg_m", {}, "No published checkpoints of networks like 'mpncov_vgg_m' are known"),
    ],
)
def test_another_network_is_refused(folder: Path, name: str, model: str, options: dict, message: str) -> None:
    architecture = architectures.of_model(model, options=options)
    with pytest.raises(ConversionError, match=rf"{name}\.mat: .*{message}"):
        prepare(folder / f"{name}.mat", model, architecture=architecture)


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("conv2", "of max of 3x3, stride 2 of relu(conv1)", "stride 2 of local response 5 2 0.0001 0.75(relu(conv1))"),
        ("conv5", "convolution of 3x3, stride 1, pad 1 of conv4", "of relu(conv4)"),
        ("fc6", "not there", "convolution of 6x6, stride 1"),
        ("output", "relu(fc8)", "In the network it is: fc8"),
    ],
)
def test_layers_that_no_tensor_tells(folder: Path, name: str, theirs: str, ours: str) -> None:
    """VGG-M as MatConvNet trained it with batch normalisation has these tensors, and no local response, for one."""
    conversion = prepared(folder / "vgg_m.mat", "vgg_m")
    described = read_checkpoint(folder / "vgg_m.mat").network
    assert described is not None
    require_same(conversion.model.architecture, described)
    lines = {**described.lines, name: theirs}
    if theirs == "not there":
        del lines[name]
    with pytest.raises(ConversionError) as raised:
        require_same(conversion.model.architecture, replace(described, lines=lines))
    assert f"In the file {name} is: {theirs}" in str(raised.value) and ours in str(raised.value)


def test_images_of_another_size_are_refused(folder: Path) -> None:
    """Of 256 pixels the file's network makes logits at four positions, which ours would average before."""
    conversion = prepared(folder / "vgg_m.mat", "vgg_m")
    described = read_checkpoint(folder / "vgg_m.mat").network
    assert described is not None
    for size, message in (((256, 256), "makes logits at 2x2 positions"), ((100, 100), "has a window of 6 on")):
        with pytest.raises(ConversionError, match=f"images are of .*{message}"):
            require_same(conversion.model.architecture, replace(described, size=size))


def without(source: Path, target: Path, *names: str) -> Path:
    """A copy of a file without some of its network's layers and their parameters."""
    content = {key: value for key, value in io.loadmat(source).items() if key[0] != "_"}
    layers = content["layers"][0]
    structs = [layer if isinstance(layer, np.void) else layer[0, 0] for layer in layers]  # of a DagNN, of a SimpleNN
    kept = [str(layer["name"].item()) not in names for layer in structs]
    content["layers"] = layers[kept][np.newaxis]
    if "params" in content:
        own = [
            str(name.item())
            for layer, keeps in zip(structs, kept, strict=True)
            if keeps
            for name in layer["params"].ravel()
        ]
        params = content["params"][0]
        content["params"] = params[[str(param["name"].item()) in own for param in params]][np.newaxis]
    io.savemat(target, content)
    return target


FC8, FC7, FC6 = ("fc8", "prob"), ("fc7", "relu7"), ("fc6", "relu6")


@pytest.mark.parametrize("names", [FC8, FC8 + FC7, FC8 + FC7 + FC6])
def test_a_chain_whose_classifier_was_dropped(folder: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    path = without(folder / "vgg_m.mat", tmp_path / "a.mat", *names)
    conversion = prepared(path, "vgg_m")
    conversion.place()
    assert (conversion.model.num_classes, conversion.model.labels) == (0, None)
    hidden = [f"{name}.{what}" for name in ("fc6", "fc7") if name not in names for what in ("filters", "biases")]
    assert list(conversion.plan.unused) == hidden and preparation.NO_CLASSIFIER in conversion.plan.notes
    images = np.random.default_rng(0).uniform(-99, 99, (1, 224, 224, 3))
    expected = networks.computed(path, images)["pool5"].transpose(0, 3, 1, 2).reshape(1, -1)
    assert relative_error(np.asarray(conversion.model(images.astype(np.float32))), expected) <= BOUND


def test_a_graph_whose_classifier_was_dropped(folder: Path, tmp_path: Path) -> None:
    """As it is before a fine-tuning on other classes."""
    path = without(folder / "deployed.mat", tmp_path / "a.mat", "prediction", "prob")
    whole, headless = (prepared(source, "mpncov_resnet50") for source in (folder / "deployed.mat", path))
    assert headless.plan.unused == () and headless.model.num_classes == 0
    for conversion in (whole, headless):
        conversion.place()
    ours = headless.model.named_variables()
    assert whole.model.named_variables().keys() - ours.keys() == {"classifier/logits/kernel", "classifier/logits/bias"}
    for name, variable in ours.items():
        np.testing.assert_array_equal(variable, whole.model.named_variables()[name])


def test_what_else_was_dropped_is_refused(folder: Path, tmp_path: Path) -> None:
    path = without(folder / "vgg_m.mat", tmp_path / "a.mat", *FC8, *FC7, *FC6, "pool5")
    with pytest.raises(ConversionError, match=r"output is: relu\(conv5\)\. In the network it is: max of 3x3"):
        prepared(path, "vgg_m")


def test_a_wrong_shape_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the number of channels not taken from the file."""
    monkeypatch.setattr(preparation, "adapted", lambda architecture, described, tensors: architecture)
    with pytest.raises(ConversionError, match=r"do not fit .*conv_for_cova_bn\.biases \(8,\) -> .*\(256,\)"):
        prepared(folder / "epoch.mat", "mpncov_resnet50")


def test_from_the_command_line_to_predictions(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    """VGG-M as it is, with hidden layers of its own: the artifact's images and classes are those of the file."""
    source, directory = str(folder / "vgg_m.mat"), tmp_path / "vgg_m"
    code, out, _ = run(capsys, "convert", source, "--model", "vgg_m", "--dry-run")
    assert code == 0 and "conv1.filters (7, 7, 3, 96) -> features/stage1_conv1/kernel (7, 7, 3, 96), as it is" in out
    assert "note: The file subtracts an average image" in out and not directory.exists()
    assert run(capsys, "convert", source, "--model", "vgg_m", "--output", str(directory))[0] == 0
    model = mpncov_zoo.load("vgg_m", pretrained=True, hub=directory)
    assert model.labels == tuple(f"class n0{number}000000, or so" for number in range(1, 5))
    assert model.architecture.features_options["local_response"] == (5, 2.0, 1e-4, 0.75)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    normalised = (pixels / 255 - model.input_specification.mean) / model.input_specification.std
    expected = networks.computed(folder / "vgg_m.mat", normalised)["fc8"][:, 0, 0]
    assert relative_error(np.asarray(model(normalised.astype(np.float32))), expected) <= BOUND
    assert run(capsys, "verify", str(directory))[0] == 0


def test_a_refused_file_leaves_nothing(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.mat").write_bytes((folder / "vgg_m.mat").read_bytes()[:-100_000])
    command = ["convert", str(tmp_path / "a.mat"), "--model", "vgg_m", "--output", str(tmp_path / "out")]
    assert_refused(run(capsys, *command), "a.mat")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mat"]


@pytest.mark.parity("pytorchcv")
@pytest.mark.parametrize(("network", "name", "model"), FILES)
def test_the_twin_in_pytorch(folder: Path, network: str, name: str, model: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(parity, "ODD_SIZES", ((1, (97, 65)),) if model == "mpncov_resnet50" else ())
    checked = parity.measure(prepared(folder / f"{name}.mat", model))
    assert checked.first_drift is None
    assert min(case.top5_agreement for case in checked.cases) == 1
