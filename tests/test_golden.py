"""mpncov_resnet50 on seeded weights against the published PyTorch code in float64; golden/README.md says how."""

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from tests import networks

GOLDEN = Path(__file__).parent / "golden"
NETWORK = "mpncovresnet50"
SHAPES = ((2, 3, 224, 224), (1, 3, 193, 161))
BLOCKS = (3, 4, 6, 3)
STAGES = {
    "layer1": "stage1",
    "layer2": "stage2",
    "layer3": "stage3",
    "layer4": "stage4",
    "layer_reduce_relu": "reduction",
}
BOUND = 3 * 1.4e-5  # the published code's own float32 error on the logits, three times

Transform = Callable[[np.ndarray], np.ndarray]


def as_is(tensor: np.ndarray) -> np.ndarray:
    return tensor


def hwio(kernel: np.ndarray) -> np.ndarray:
    """PyTorch's convolution kernel (out, in, height, width) as (height, width, in, out)."""
    return kernel.transpose(2, 3, 1, 0)


CONVOLUTION = {"weight": ("kernel", hwio)}
BATCH_NORM = {
    "weight": ("gamma", as_is),
    "bias": ("beta", as_is),
    "running_mean": ("moving_mean", as_is),
    "running_var": ("moving_variance", as_is),
}
LINEAR = {"weight": ("kernel", np.transpose), "bias": ("bias", as_is)}
BOTTLENECK = (
    ("conv1", "conv1", CONVOLUTION),
    ("bn1", "bn1", BATCH_NORM),
    ("conv2", "conv2", CONVOLUTION),
    ("bn2", "bn2", BATCH_NORM),
    ("conv3", "conv3", CONVOLUTION),
    ("bn3", "bn3", BATCH_NORM),
)
SHORTCUT = (("downsample.0", "shortcut_conv", CONVOLUTION), ("downsample.1", "shortcut_bn", BATCH_NORM))
OUTER_LAYERS = (
    ("conv1", "features/stem_conv", CONVOLUTION),
    ("bn1", "features/stem_bn", BATCH_NORM),
    ("layer_reduce", "representation/reduction_conv", CONVOLUTION),
    ("layer_reduce_bn", "representation/reduction_bn", BATCH_NORM),
    ("fc", "classifier/logits", LINEAR),
)


def block_layers() -> list[tuple[str, str, dict]]:
    return [
        (f"layer{stage}.{block}.{theirs}", f"features/stage{stage}_block{block + 1}_{ours}", kind)
        for stage, count in enumerate(BLOCKS, 1)
        for block in range(count)
        for theirs, ours, kind in (*BOTTLENECK, *(SHORTCUT if block == 0 else ()))
    ]


TABLE: dict[str, tuple[str, Transform]] = {  # upstream's name -> (our name, transform)
    f"{theirs}.{leaf}": (f"{ours}/{variable}", transform)
    for theirs, ours, kind in (*OUTER_LAYERS, *block_layers())
    for leaf, (variable, transform) in kind.items()
}


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
        ours, transform = TABLE[name]
        variables[ours].assign(transform(seeded_tensor(name, shape)))  # assign() refuses another shape


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


def test_table_uses_every_tensor_and_every_variable_once(model: ImageClassifier) -> None:
    ours = [name for name, _ in TABLE.values()]
    assert sorted(TABLE) == sorted(published_shapes())
    assert sorted(ours) == sorted(model.named_variables())


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
