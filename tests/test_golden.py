"""mpncov_resnet50 on seeded weights against the published PyTorch code in float64; golden/README.md says how."""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from conversion import maps
from conversion.maps.resnet import upstream_resnet
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.registry import architecture
from tests import networks

GOLDEN = Path(__file__).parent / "golden"
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

STEPS = {step.source: step for step in maps.pytorch_steps(upstream_resnet(architecture("mpncov_resnet50")))}


def seeded_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """golden/README.md's weights, float32."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    if len(shape) == 4:
        out, _, height, width = shape
        tensor = rng.normal(0, np.sqrt(2 / (out * height * width)), shape)
    elif len(shape) == 2:
        tensor = rng.normal(0, np.sqrt(1 / shape[1]), shape) * (4 if name == "fc.weight" else 1)
    elif leaf in ("running_mean", "bias"):
        tensor = rng.normal(0, 0.1, shape)
    elif leaf == "running_var":
        tensor = rng.uniform(0.5, 1.5, shape)
    else:
        low, high = (0.1, 0.4) if ".bn2." in name or ".bn3." in name else (0.5, 1.5)
        tensor = rng.uniform(low, high, shape)
    return tensor.astype(np.float32)


def seeded_images(shape: tuple[int, ...]) -> np.ndarray:
    """(batch, height, width, channels), float32."""
    rng = np.random.default_rng(zlib.crc32(f"input {NETWORK}{shape}".encode()))
    return rng.normal(0, 1, shape).astype(np.float32).transpose(0, 2, 3, 1)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Upstream's tensors; num_batches_tracked counts training steps and has no counterpart here."""
    tensors = json.loads((GOLDEN / f"{NETWORK}.tensors.json").read_text())
    return {name: tuple(shape) for name, shape in tensors.items() if not name.endswith(".num_batches_tracked")}


def fill(model: ImageClassifier) -> None:
    variables = model.named_variables()
    for name, shape in published_shapes().items():
        step = STEPS[name]
        tensor = maps.TRANSFORMS[step.transform](seeded_tensor(name, shape))
        variables[step.target].assign(tensor)  # assign() refuses another shape


def relative_error(actual: np.ndarray, golden: np.ndarray) -> float:
    """Largest difference over largest golden value."""
    assert actual.shape == golden.shape
    return float(np.abs(actual - golden).max() / np.abs(golden).max())


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    network = networks.bare("mpncov_resnet50")
    fill(network)
    return network


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def case(request: pytest.FixtureRequest, model: ImageClassifier) -> tuple[dict, dict]:
    """What the network computes, (batch, channels, height, width), and the golden values under the same names."""
    extract = FeatureExtractor(model, [*STAGES.values(), "logits"])
    computed = {name: value.numpy() for name, value in extract(seeded_images(request.param)).items()}
    prefix = "x".join(map(str, request.param)) + "/"
    with np.load(GOLDEN / f"{NETWORK}.golden.npz") as archive:
        golden = {key.removeprefix(prefix): archive[key] for key in archive.files if key.startswith(prefix)}
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
