"""The VGGs in PyTorch against what the published code computes, and against our Keras networks."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.parity

from conversion.maps.vgg import upstream_vgg  # noqa: E402 (needs torch)
from conversion.reference import covariance  # noqa: E402
from conversion.reference.vgg import VGG  # noqa: E402
from mpncov_zoo import registry  # noqa: E402
from tests import published  # noqa: E402
from tests.conversion import twins  # noqa: E402

NET = "mpncovvgg16_bn"
STAGES = {"features": "stage5", "representation.conv_dr_block": "reduction"}
REPEATS = {"features": {"repeats": (1, 2, 1, 1, 1)}}


@pytest.fixture(scope="module")
def seeded() -> Any:
    network = VGG(registry.architecture("mpncov_vgg16_bn"))
    assert list(network.state_dict()) == list(published.seeded_shapes(NET))
    return twins.float64(network, published.seeded_state_dict(NET))


@pytest.mark.parametrize("shape", twins.SHAPES)
def test_golden_values(seeded: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covariance, "centering_matrix", twins.published_centering)
    twins.assert_golden(seeded, NET, shape, STAGES, bound=1e-13)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("vgg16", {"classifier": {"hidden": (6, 5)}}),
        ("vgg16_bn", {"classifier": {"hidden": (6,)}, "representation": {"size": 2}}),
        ("vgg16_bn", {"classifier": {"hidden": ()}}),
        ("mpncov_vgg16", {"classifier": {"hidden": ()}, "representation": {"dimension_reduction": 8}}),
        ("mpncov_vgg16_bn", {"classifier": {"hidden": (6, 5)}, "representation": {"dimension_reduction": None}}),
    ],
)
def test_keras_computes_the_same(model: str, options: dict[str, Any]) -> None:
    twins.assert_keras_computes_the_same(VGG, upstream_vgg, model, {**REPEATS, **options}, size=64)


def test_other_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="Received: 'cbp'"):
        VGG(registry.architecture("cbp_vgg16"))
