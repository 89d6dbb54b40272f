"""What a network of the demo answers is what the library computes, and which features its covariance is of."""

from pathlib import Path

import numpy as np
import pytest

import mpncov_zoo
from mpncov_zoo.demo import networks
from mpncov_zoo.demo.networks import Network, bundled_names, check_names, covariance_stage, load_network
from mpncov_zoo.errors import InputError, OfflineError, UnknownModel
from mpncov_zoo.preprocessing import resize_and_crop
from tests.photos import photo_image


@pytest.fixture(scope="module")
def model(artifact_hub: Path) -> mpncov_zoo.ImageClassifier:
    return mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=artifact_hub)


def test_an_answer_is_what_the_library_computes(model: mpncov_zoo.ImageClassifier) -> None:
    network, image = Network(model), photo_image(60, 44, "L")
    answer = network.answer(resize_and_crop(image, network.specification))
    assert network.name == "mpncov_cifar_resnet20.test" and network.stage == "reduction" and network.has_covariance
    x = model.preprocess(image)
    assert [label for label, _ in answer.prediction or ()] == [label for label, _ in model.decode(model(x))[0]]
    names = ["reduction", "covariance", "representation"]
    expected = mpncov_zoo.feature_extractor(model, names)(x)
    for name, found in zip(names, (answer.features, answer.root, answer.representation), strict=True):
        assert found is not None
        np.testing.assert_allclose(found, expected[name][0], rtol=1e-4, atol=1e-5)
    assert network.length == answer.representation.size == 2080


@pytest.mark.parametrize(
    ("name", "stages", "expected"),
    [
        ("mpncov_cifar_resnet20", None, ("reduction", "covariance")),
        ("cifar_resnet20", None, ("stage3", None)),
        ("mpncov_cifar_resnet20", ["stage2"], ("stage2", "covariance_stage2")),
        ("mpncov_cifar_resnet20", ["stage2", "stage3"], ("stage3", "covariance_stage3")),
    ],
)
def test_the_stage_that_the_covariance_is_of(
    name: str, stages: list[str] | None, expected: tuple[str, str | None]
) -> None:
    built = mpncov_zoo.build(name, num_classes=3, stages=stages, options={"features": {"repeats": 1}})
    stage, matrix = covariance_stage(built)
    assert (stage, matrix) == expected
    if matrix is not None:  # as many channels as the matrix has
        shapes = built.stage_outputs([stage, matrix])
        assert shapes[stage].shape[-1] == shapes[matrix].shape[-1]


def test_a_fresh_classifier_makes_no_prediction(artifact_hub: Path) -> None:
    network = Network(mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=artifact_hub, num_classes=3))
    answer = network.answer(np.zeros((28, 28, 1), np.uint8))
    assert answer.prediction is None and not network.has_classifier
    with pytest.raises(InputError, match="random weights"):
        Network(mpncov_zoo.build("cifar_resnet20", num_classes=3, options={"features": {"repeats": 1}}))


def test_names() -> None:
    assert bundled_names() == [
        "mpncov_cifar_resnet20.fashion_mnist",
        "cifar_resnet20.fashion_mnist",
        "mpncov_cifar_resnet20.cifar100",
        "cifar_resnet20.cifar100",
    ]
    check_names(["mpncov_resnet50", "runs/birds"])
    with pytest.raises(UnknownModel, match="mpncov_resnet50"):
        check_names(["mpncov_resnet5"])
    with pytest.raises(InputError, match="twice"):
        check_names(["resnet18", "resnet18"])


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPNCOV_ZOO_UPSTREAM", raising=False)
    with pytest.raises(OfflineError, match="the network is switched off"):
        load_network("mpncov_resnet50")


def test_loading_is_that_of_the_package(model: mpncov_zoo.ImageClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("mpncov_zoo.zoo.load", lambda *given, **options: calls.append((given, options)) or model)
    assert networks.load_network("any").name == "mpncov_cifar_resnet20.test"
    assert calls == [(("any", True), {"offline": True})]
