"""The benchmark of inference counts what a network multiplies; its figures are measured, not tested."""

import keras
import numpy as np
import pytest

import mpncov_zoo
from benchmarks import inference


def test_multiplications_are_those_of_the_literature() -> None:
    """EfficientNet-Lite0 has 407 million (its authors' README), ResNet-50 4.1 billion at stride 2 in the last stage."""
    assert 0.38e9 < inference.multiplications("efficientnet_lite0") < 0.41e9
    assert 4.0e9 < inference.multiplications("resnet50") < 4.2e9


def test_a_side_answers_with_seconds_and_memory() -> None:
    answer = inference.worker("optimize, float32", "efficientnet_lite0")
    assert answer({"batch": 1, "warm_ups": 1})["seconds"] > 0
    assert inference.worker(inference.FLOOR, "efficientnet_lite0")({}).keys() == {"multiplications", "rate"}


def test_the_published_head_gives_the_networks_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(1)
    network = mpncov_zoo.build("mpncov_cifar_resnet20", num_classes=5)
    monkeypatch.setattr(mpncov_zoo, "build", lambda model: network)
    images = np.random.default_rng(1).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    expected = network(images).numpy()
    found = inference.published_tensorflow("mpncov_cifar_resnet20")(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
