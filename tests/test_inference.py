"""optimize: the same network with its normalisations in its convolutions, in float32 and bfloat16."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import mpncov_zoo
from mpncov_zoo import artifact, inference
from mpncov_zoo.backbones.blocks import BatchNormalization
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.inference import optimize
from tests import networks

NETWORKS: tuple[tuple[str, dict[str, Any]], ...] = (  # every family, every kind of block
    ("mpncov_cifar_resnet20", {"features": {"repeats": 1}, "representation": {"dimension_reduction": 8}}),
    ("cifar_preact_resnet110", {"features": {"repeats": 2}}),
    ("cbp_cifar_preact_resnet164", {"features": {"repeats": 1}}),
    ("bcnn_resnet18", {"features": {"repeats": (1, 1, 1, 1)}}),
    ("resnet50", {"features": {"repeats": (1, 1, 1, 1)}}),
    ("vgg16", {"features": {"repeats": (1, 1, 1, 1, 1)}, "classifier": {"hidden": (8,)}}),
    ("mpncov_vgg16_bn", {"features": {"repeats": (1, 1, 1, 1, 1)}, "representation": {"dimension_reduction": 8}}),
    ("mpncov_efficientnet_lite0", {}),
)


def built(name: str, options: dict[str, Any]) -> ImageClassifier:
    size = 64 if name == "vgg16" else None
    model = mpncov_zoo.build(name, num_classes=4, input_shape=(size, size, 3), options=options)
    networks.randomize(model)
    return model


def images(batch: int = 2, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (batch, size, size, 3)).astype(np.float32)


def norms(model: ImageClassifier) -> list[str]:
    return [name for name, layer in model.named_layers().items() if isinstance(layer, BatchNormalization)]


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_every_network_computes_what_it_did(name: str, options: dict[str, Any]) -> None:
    model, x = built(name, options), images()
    fast, expected = optimize(model), model(x).numpy()
    assert np.abs(fast(x).numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
    left = set(norms(fast))
    assert all("preact" in name and ("bn1" in norm or "final" in norm) for norm in left), left
    assert fast.stages == model.stages and not fast.trainable_variables
    half = optimize(model, "bfloat16")
    assert half(x).dtype == "float32" and half.features(x)[0].dtype == "bfloat16"
    assert np.abs(half(x).numpy() - expected).max() <= 0.1 * np.abs(expected).max()


def test_float64_is_what_both_come_close_to() -> None:
    """Folding is exact: in float64 the two differ by float64's own rounding."""
    model = built(*NETWORKS[0])
    with mpncov_zoo.zoo._policy("float64"):
        wide = ImageClassifier.from_config({**model.get_config(), "precision": "float64"})
    wide.set_weights([weight.astype(np.float64) for weight in model.get_weights()])
    expected = wide(images().astype(np.float64)).numpy()
    for computed in (model(images()), optimize(model)(images())):
        assert np.abs(computed - expected).max() <= 1e-5 * np.abs(expected).max()


def test_it_carries_what_the_network_does(artifact_hub: Path) -> None:
    model = mpncov_zoo.load("mpncov_cifar_resnet20.test", hub=artifact_hub)
    fast = optimize(model)
    assert (fast.labels, fast.load_report, fast.input_specification) == (
        model.labels,
        model.load_report,
        model.input_specification,
    )
    assert fast.folded and not model.folded and norms(model)
    pixels = np.zeros((28, 28), np.uint8)
    assert fast.decode(fast(fast.preprocess(pixels)), top=1)[0][0][0] in (model.labels or ())


def test_it_is_saved_and_extracted_from(tmp_path: Path) -> None:
    fast = optimize(built(*NETWORKS[0]))
    fast.save(tmp_path / "fast.keras")
    reloaded = keras.models.load_model(tmp_path / "fast.keras")
    assert reloaded.folded and not reloaded.trainable_variables
    np.testing.assert_array_equal(reloaded(images()), fast(images()))
    extract = mpncov_zoo.feature_extractor(fast, ["stage1", "covariance"])
    rebuilt = type(extract).from_config(extract.get_config())
    rebuilt.set_weights(extract.get_weights())
    for name, value in extract(images()).items():
        np.testing.assert_allclose(rebuilt(images())[name], value, rtol=1e-5, atol=1e-5)


def test_it_is_for_inference_alone(tmp_path: Path) -> None:
    fast = optimize(built(*NETWORKS[0]))
    fast.compile("sgd", "mse")
    with pytest.raises(InputError, match="train the network that it was made of"):
        fast.fit(images(), np.zeros((2, 4)))
    with pytest.raises(InputError, match="train the network that it was made of"):
        fast.train_on_batch(images(), np.zeros((2, 4)))
    with pytest.raises(InputError, match="train the network that it was made of"):
        fast.freeze(None)
    with pytest.raises(InputError, match=r"optimized\. Write the network it was made of"):
        artifact.write(fast, tmp_path / "a", tag="a", provenance={})
    assert not list(tmp_path.iterdir())


def test_refusals() -> None:
    model = built(*NETWORKS[0])
    for given, dtype, message in (
        (model, "int8", "float32 or bfloat16"),
        (optimize(model), "float32", "optimized already"),
        (keras.Sequential(), "float32", "a network of mpncov_zoo"),
        (mpncov_zoo.build("mpncov_cifar_resnet20", dtype="mixed_bfloat16"), "float32", "load it in float32"),
    ):
        with pytest.raises(InputError, match=message):
            optimize(given, dtype)


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        ("flags : fpu avx2 avx512f", "no instructions for bfloat16"),
        ("flags : avx512f avx512_bf16", ""),
        ("flags : amx_bf16 amx_tile", ""),
        ("Features : asimd bf16", ""),
        (None, "does not say"),
    ],
)
def test_bfloat16_is_warned_of_where_it_is_slow(
    flags: str | None, warned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inference, "CPU_FLAGS", tmp_path / "cpuinfo")
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    with caplog.at_level(logging.WARNING, logger="mpncov_zoo"):
        optimize(built(*NETWORKS[0]), "bfloat16")
    assert warned in caplog.text and bool(warned) == bool(caplog.records)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float64"])
def test_load_takes_a_dtype_policy(dtype: str, artifact_hub: Path) -> None:
    model = mpncov_zoo.load("mpncov_cifar_resnet20.test", hub=artifact_hub)
    other = mpncov_zoo.load("mpncov_cifar_resnet20.test", hub=artifact_hub, dtype=dtype)
    x = np.random.default_rng(0).normal(0, 1, (2, 28, 28, 1)).astype(np.float32)
    expected = model(x).numpy()
    assert other.dtype_policy.name == dtype and keras.config.dtype_policy().name == "float32"
    assert np.abs(other(x).numpy() - expected).max() <= 0.1 * np.abs(expected).max()
    for name, variable in other.named_variables().items():
        if "_bn" in name and dtype != "float64":
            assert variable.dtype == "float32"


def test_a_policy_that_keras_has_not() -> None:
    with pytest.raises(InputError, match=r"dtype must be one of float32, mixed_bfloat16.*Received: 'int32'"):
        mpncov_zoo.build("mpncov_cifar_resnet20", dtype="int32")
