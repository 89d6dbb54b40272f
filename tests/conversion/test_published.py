"""Every published network: seeded checkpoints of each kind compute the golden logits, one of them by the command."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mpncov_zoo
from conversion.maps import TRANSFORMS
from conversion.maps.upstream_tensorflow import VARIABLES
from conversion.preparation import prepare
from conversion.writers.pytorch import write_pth
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo.classifier import ImageClassifier
from tests import networks, published
from tests.command_line import Capture, run
from tests.conversion.checkpoints import family

BOUND = 3 * 1.4e-5  # the published code's own float32 error on the logits, three times
SEED_BOUND = 1e-5  # the TensorFlow code's goldens are float32, as we are; 3e-6 was seen
SHAPES = ((2, 3, 224, 224), (1, 3, 193, 161))
Names = dict[str, np.ndarray]


def data_parallel(names: Names) -> Names:
    """As the published VGG's checkpoint may have them: `features.module.0.weight`."""
    return {name.replace("features.", "features.module."): tensor for name, tensor in names.items()}


def without_counters(names: Names) -> Names:
    """As PyTorch wrote them before 0.4.1."""
    return {name: tensor for name, tensor in names.items() if not name.endswith(published.UNUSED)}


def placed(checkpoint: Path, model: str) -> ImageClassifier:
    """The network for images of any size that holds the file's weights; the file is removed, since some are large."""
    prepared = replace(prepare(checkpoint, model), model=networks.bare(model))
    prepared.place()
    checkpoint.unlink()
    return prepared.model


def assert_golden_logits(network: ImageClassifier, net: str, shape: tuple[int, ...]) -> None:
    logits = network(published.seeded_images(net, shape).transpose(0, 2, 3, 1)).numpy()
    error = published.relative_error(logits, published.golden(net, shape)["logits"])
    print(f"{net}, {shape}: logits differ by {error:.1e} of the largest")
    assert error <= BOUND


@pytest.mark.parametrize(
    ("net", "model", "write", "change"),
    [
        ("mpncovresnet101", "mpncov_resnet101", write_safetensors, without_counters),
        ("mpncovvgg16_bn", "mpncov_vgg16_bn", write_pth, data_parallel),
    ],
)
def test_upstream_pytorch(
    tmp_path: Path, net: str, model: str, write: Callable[[Names, Path], None], change: Callable[[Names], Names]
) -> None:
    write(change(published.seeded_state_dict(net)), tmp_path / "net")
    network = placed(tmp_path / "net", model)
    for shape in SHAPES:
        assert_golden_logits(network, net, shape)


def test_the_command_makes_an_artifact_that_computes_the_same(capsys: Capture, tmp_path: Path) -> None:
    net, model = "mpncovresnet50", "mpncov_resnet50"
    write_pth(published.seeded_state_dict(net), tmp_path / "net.pth")
    arguments = ["--model", model, "--output", tmp_path / "artifact", "--json"]
    code, out, err = run(capsys, "convert", tmp_path / "net.pth", *arguments)
    assert code == 0 and json.loads(out)["verdict"] == "unchecked", err
    for shape in SHAPES:
        network = mpncov_zoo.load(model, pretrained=True, hub=tmp_path / "artifact", input_shape=(*shape[2:], 3))
        assert_golden_logits(network, net, shape)


@pytest.mark.parametrize(
    ("net", "model"), [("mpncovresnet50", "mpncov_resnet50"), ("mpncovresnet101", "mpncov_resnet101")]
)
def test_upstream_tensorflow_mat(tmp_path: Path, net: str, model: str) -> None:
    io = pytest.importorskip("scipy.io", reason="needs scipy")
    params = published.seeded_tf_params(net)
    cells = np.empty((1, len(params)), object)
    cells[0, :] = params
    io.savemat(tmp_path / "net.mat", {"params": cells})
    assert_seed_logits(placed(tmp_path / "net.mat", model), net)


def test_upstream_tensorflow_vgg(tmp_path: Path) -> None:
    """Its `.h5` computes the golden logits, and its `.mat` would put the same arrays into the same variables.

    The `.h5` is in Keras' layout: a group a layer, here with all its statistics after its parameters, as a nested model
    has.
    """
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    net, model = "mpncovvgg16bn", "mpncov_vgg16_bn"
    params = published.seeded_tf_params(net)
    order = json.loads((published.GOLDEN / f"seed_tf_{net}.order.json").read_text())
    named = [(role, tensor if len(shape) > 1 else tensor[0]) for (role, shape), tensor in zip(
        order, params, strict=True
    )]  # fmt: skip
    statistics = VARIABLES["bn"][2:]
    ordered = sorted(enumerate(named), key=lambda item: item[1][0] in statistics)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        group = file.create_group("network")
        names = [f"network/layer_{index}/{role}:0" for index, (role, _) in ordered]
        for name, (_, (_, tensor)) in zip(names, ordered, strict=True):
            group.create_dataset(name, data=tensor)
        group.attrs["weight_names"] = [name.encode() for name in names]
        file.attrs["layer_names"] = [b"network"]
    network = placed(tmp_path / "net.h5", model)
    assert_seed_logits(network, net)
    variables, of_mat = network.named_variables(), family(model, "upstream TensorFlow, .mat")
    steps = of_mat.steps(network.architecture)
    assert {step.target for step in steps} == variables.keys() and len(steps) == len(params)
    for step, tensor in zip(steps, params, strict=True):
        assert np.array_equal(variables[step.target].numpy(), TRANSFORMS[step.transform](tensor)), step.source


def assert_seed_logits(network: ImageClassifier, net: str) -> None:
    error = published.relative_error(network(published.seeded_tf_images()).numpy(), published.seeded_tf_logits(net))
    print(f"{net}: logits differ by {error:.1e} of the largest")
    assert error <= SEED_BOUND
