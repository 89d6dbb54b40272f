"""mpncov_resnet50 on seeded weights against the published PyTorch code in float64; golden/README.md says how."""

import hashlib

import numpy as np
import pytest

from conversion import maps
from conversion.maps.resnet import upstream_resnet
from mpncov_zoo import architectures
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from tests import networks, published
from tests.published import GOLDEN, relative_error

NETWORK = "mpncovresnet50"
SHAPES = ((2, 3, 224, 224), (1, 3, 193, 161))
STAGES = {
    "layer1": "stage1",
    "layer2": "stage2",
    "layer3": "stage3",
    "layer4": "stage4",
    "layer_reduce_relu": "reduction",
}
BOUND = 3 * 1.4e-5  # the published code's own float32 error on the logits, three times

STEPS = {step.source: step for step in maps.pytorch_steps(upstream_resnet(architectures.of_model("mpncov_resnet50")))}


def fill(model: ImageClassifier) -> None:
    variables = model.named_variables()
    for name, tensor in published.seeded_state_dict(NETWORK).items():
        if not name.endswith(published.UNUSED):
            step = STEPS[name]
            variables[step.target].assign(maps.TRANSFORMS[step.transform](tensor))  # assign() refuses another shape


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    network = networks.bare("mpncov_resnet50")
    fill(network)
    return network


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def case(request: pytest.FixtureRequest, model: ImageClassifier) -> tuple[dict, dict]:
    """What the network computes, (batch, channels, height, width), and the golden values under the same names."""
    extract = FeatureExtractor(model, [*STAGES.values(), "logits"])
    images = published.seeded_images(NETWORK, request.param).transpose(0, 2, 3, 1)
    computed = {name: value.numpy() for name, value in extract(images).items()}
    golden = published.golden(NETWORK, request.param)
    stages = {theirs: computed[ours].transpose(0, 3, 1, 2) for theirs, ours in STAGES.items()}
    return {**stages, "logits": computed["logits"]}, golden


def test_golden_files_are_the_published_ones() -> None:
    listed = (GOLDEN / "README.md").read_text().split("```")[1].split()
    for digest, name in zip(listed[::2], listed[1::2], strict=True):
        assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == digest, name


def test_golden_values_are_all_compared(case: tuple[dict, dict]) -> None:
    _, golden = case
    compared = {f"{stage}/{fact}" for stage in STAGES for fact in ("shape", "mean", "std", "corner")}
    assert set(golden) == {*compared, "logits"}


def test_logits(case: tuple[dict, dict]) -> None:
    computed, golden = case
    error = relative_error(computed["logits"], golden["logits"])
    print(f"{NETWORK}: logits differ by {error:.1e} of the largest")
    assert error <= BOUND


@pytest.mark.parametrize("stage", STAGES)
def test_stage(case: tuple[dict, dict], stage: str) -> None:
    computed, golden = case
    actual = computed[stage].astype(np.float64)
    assert actual.shape == tuple(golden[f"{stage}/shape"])
    assert actual.mean() == pytest.approx(golden[f"{stage}/mean"], rel=1e-6)
    assert actual.std() == pytest.approx(golden[f"{stage}/std"], rel=1e-6)
    assert relative_error(actual[:, :8, :4, :4], golden[f"{stage}/corner"]) <= BOUND
