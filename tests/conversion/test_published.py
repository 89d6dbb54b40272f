"""Every published network, through the public command: seeded checkpoints of each kind compute the golden logits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mpncov_zoo
from conversion.maps.seed import VARIABLES
from conversion.writers.pytorch import write_pth
from conversion.writers.safetensors import write_safetensors
from tests import published
from tests.command_line import Capture, run

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


def converted(capsys: Capture, checkpoint: Path, model: str) -> Path:
    """The artifact that the command makes; the checkpoint is removed, since some are large."""
    code, out, err = run(
        capsys, "convert", checkpoint, "--model", model, "--output", checkpoint.with_name("artifact"), "--json"
    )
    assert code == 0, err
    assert json.loads(out)["verdict"] == "unchecked"
    checkpoint.unlink()
    return checkpoint.with_name("artifact")


@pytest.mark.parametrize(
    ("net", "model", "write", "change"),
    [
        ("mpncovresnet50", "mpncov_resnet50", write_pth, dict),
        ("mpncovresnet101", "mpncov_resnet101", write_safetensors, without_counters),
        ("mpncovvgg16_bn", "mpncov_vgg16_bn", write_pth, data_parallel),
    ],
)
def test_upstream_pytorch(
    capsys: Capture,
    tmp_path: Path,
    net: str,
    model: str,
    write: Callable[[Names, Path], None],
    change: Callable[[Names], Names],
) -> None:
    write(change(published.seeded_state_dict(net)), tmp_path / "net")
    artifact = converted(capsys, tmp_path / "net", model)
    for shape in SHAPES:
        network = mpncov_zoo.load(model, pretrained=True, hub=artifact, input_shape=(*shape[2:], 3))
        logits = network(published.seeded_images(net, shape).transpose(0, 2, 3, 1)).numpy()
        error = published.relative_error(logits, published.golden(net, shape)["logits"])
        print(f"{net}, {shape}: logits differ by {error:.1e} of the largest")
        assert error <= BOUND


@pytest.mark.parametrize(
    ("net", "model"),
    [
        ("mpncovresnet50", "mpncov_resnet50"),
        ("mpncovresnet101", "mpncov_resnet101"),
        ("mpncovvgg16bn", "mpncov_vgg16_bn"),
    ],
)
def test_upstream_tensorflow_mat(capsys: Capture, tmp_path: Path, net: str, model: str) -> None:
    io = pytest.importorskip("scipy.io", reason="needs scipy")
    params = published.seeded_tf_params(net)
    cells = np.empty((1, len(params)), object)
    cells[0, :] = params
    io.savemat(tmp_path / "net.mat", {"params": cells})
    assert_seed_logits(converted(capsys, tmp_path / "net.mat", model), net, model)


def test_upstream_tensorflow_h5(capsys: Capture, tmp_path: Path) -> None:
    """In Keras' layout: a group a layer, here with all its statistics after its parameters, as a nested model has."""
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    net, model = "mpncovvgg16bn", "mpncov_vgg16_bn"
    order = json.loads((published.GOLDEN / f"seed_tf_{net}.order.json").read_text())
    named = [(role, tensor if len(shape) > 1 else tensor[0]) for (role, shape), tensor in zip(
        order, published.seeded_tf_params(net), strict=True
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
    assert_seed_logits(converted(capsys, tmp_path / "net.h5", model), net, model)


def assert_seed_logits(artifact: Path, net: str, model: str) -> None:
    network = mpncov_zoo.load(model, pretrained=True, hub=artifact)
    error = published.relative_error(network(published.seeded_tf_images()).numpy(), published.seeded_tf_logits(net))
    print(f"{net}: logits differ by {error:.1e} of the largest")
    assert error <= SEED_BOUND
