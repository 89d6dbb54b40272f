"""A PyTorch network of conversion.reference held to the golden values and to our Keras network."""

# pyright: reportMissingImports=false

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conversion import maps
from conversion.maps.tables import Rows
from mpncov_zoo import registry
from mpncov_zoo.assembly import precision
from mpncov_zoo.classifier import FeatureExtractor
from tests import networks, published

SHAPES = ((2, 3, 224, 224), (1, 3, 193, 161))
Twin = Callable[..., Any]


def float64(twin: Any, state: Mapping[str, np.ndarray]) -> Any:
    """The network in float64 with a state_dict, which has exactly its tensors."""
    import torch

    network = twin.double().eval()
    network.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in state.items()}, strict=True)
    return network


def outputs(network: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every stage for images (batch, channels, height, width)."""
    import torch

    with torch.inference_mode():
        return {name: value.numpy() for name, value in network(torch.from_numpy(images.astype(np.float64))).items()}


def published_centering(positions: int, like: Any) -> Any:
    """The published layer's centring matrix, which is float32 in every precision."""
    import torch

    matrix = torch.ones(positions, positions) * (-1.0 / positions / positions) + torch.eye(positions) / positions
    return matrix.to(like.dtype)


def assert_golden(network: Any, net: str, shape: tuple[int, ...], stages: Mapping[str, str], bound: float) -> None:
    """Logits, and of every stage (theirs -> ours) shape, mean, deviation and corner; all of the golden values."""
    computed = outputs(network, published.seeded_images(net, shape))
    golden = published.golden(net, shape)
    assert published.relative_error(computed["logits"], golden.pop("logits")) <= bound
    for theirs, ours in stages.items():
        value = computed[ours]
        assert value.shape == tuple(golden.pop(f"{theirs}/shape"))
        np.testing.assert_allclose(value.mean(), golden.pop(f"{theirs}/mean"), rtol=bound)
        np.testing.assert_allclose(value.std(), golden.pop(f"{theirs}/std"), rtol=bound)
        assert published.relative_error(value[:, :8, :4, :4], golden.pop(f"{theirs}/corner")) <= bound
    assert not golden


def assert_keras_computes_the_same(twin: Twin, table: Rows, model: str, options: dict[str, Any], size: int) -> None:
    """Every stage under the same name, in float64; the weights go from ours to theirs by the map."""
    architecture = registry.architecture(model, options=options)
    with precision("float64"):
        ours = networks.of_architecture(architecture, 7, (size, size + 5, 3))
    networks.randomize(ours)
    variables = ours.named_variables()
    theirs = twin(architecture, 7)
    counters = {name: tensor for name, tensor in theirs.state_dict().items() if name.endswith(published.UNUSED)}
    state = {
        step.source: maps.INVERSES[step.transform](variables[step.target].numpy())
        for step in maps.pytorch_steps(table(architecture))
    }
    images = networks.images(ours).astype(np.float64)
    expected = outputs(float64(theirs, {**counters, **state}), images.transpose(0, 3, 1, 2))
    assert tuple(expected) == ours.stages
    for name, value in FeatureExtractor(ours, ours.stages)(images).items():
        actual = value.numpy()
        actual = actual.transpose(0, 3, 1, 2) if actual.ndim == 4 else actual
        assert published.relative_error(actual, expected[name]) < 1e-10, name
