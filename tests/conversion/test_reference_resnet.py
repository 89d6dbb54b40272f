"""The ResNets in PyTorch against what the published code computes, and against our Keras networks."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.parity

from conversion.maps.resnet import upstream_resnet  # noqa: E402 (needs torch)
from conversion.reference import covariance  # noqa: E402
from conversion.reference.resnet import ResNet  # noqa: E402
from mpncov_zoo import registry  # noqa: E402
from tests import published  # noqa: E402
from tests.conversion import twins  # noqa: E402

STAGES = {**{f"layer{number}": f"stage{number}" for number in range(1, 5)}, "layer_reduce_relu": "reduction"}
NETWORKS = {"mpncovresnet50": "mpncov_resnet50", "mpncovresnet101": "mpncov_resnet101"}


@pytest.fixture(scope="module", params=NETWORKS)
def seeded(request: pytest.FixtureRequest) -> tuple[str, Any]:
    network = ResNet(registry.architecture(NETWORKS[request.param]))
    assert list(network.state_dict()) == list(published.seeded_shapes(request.param))
    return request.param, twins.float64(network, published.seeded_state_dict(request.param))


@pytest.mark.parametrize("shape", twins.SHAPES)
def test_golden_values(seeded: tuple[str, Any], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    net, network = seeded
    monkeypatch.setattr(covariance, "centering_matrix", twins.published_centering)
    twins.assert_golden(network, net, shape, STAGES, bound=1e-13)


@pytest.mark.parametrize(
    ("model", "repeats", "options"),
    [
        ("resnet18", (2, 1, 1, 1), {}),
        ("resnet50", (1, 2, 1, 1), {}),
        ("resnet50_v1", (1, 1, 2, 1), {}),
        ("mpncov_resnet34", (1, 1, 1, 1), {"dimension_reduction": 8}),
        ("mpncov_resnet50", (1, 1, 1, 2), {"dimension_reduction": 8, "iterations": 1}),
        ("mpncov_resnet101_v1", (1, 1, 1, 1), {"dimension_reduction": 8, "iterations": 3}),
        ("mpncov_resnet18", (1, 1, 1, 1), {"dimension_reduction": None}),
    ],
)
def test_keras_computes_the_same(model: str, repeats: tuple[int, ...], options: dict[str, Any]) -> None:
    parts = {"features": {"repeats": repeats}, "representation": options}
    twins.assert_keras_computes_the_same(ResNet, upstream_resnet, model, parts, size=60)


@pytest.mark.parametrize(("model", "parameters"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_parameters_are_the_published_ones(model: str, parameters: int) -> None:
    """Torchvision's."""
    assert sum(p.numel() for p in ResNet(registry.architecture(model)).parameters()) == parameters


def test_other_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="Received: 'bcnn'"):
        ResNet(registry.architecture("bcnn_resnet18"))
    frobenius = {"representation": {"normalization": "frobenius"}}
    with pytest.raises(ValueError, match=r"no options.*normalization"):
        ResNet(registry.architecture("mpncov_resnet18", options=frobenius))
