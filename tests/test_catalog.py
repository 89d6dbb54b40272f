"""What there is: lists and facts, from the registry and the manifest."""

import pytest

from mpncov_zoo import catalog
from mpncov_zoo.catalog import info, list_models, split_name
from mpncov_zoo.errors import InputError, NoPretrainedWeights, UnknownModel
from mpncov_zoo.manifest import load_manifest
from tests.hub import artifacts


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest of three sets of weights: two of a model that is registered, one of a model that is not."""
    entries = [
        {**artifacts.upstream(tag="toy"), "model": "resnet18", "default": False},
        {**artifacts.upstream(tag="zoo"), "model": "resnet18", "default": True, "notes": "for tests"},
        {**artifacts.upstream(tag="toy"), "model": "of_the_future"},
    ]
    manifest = artifacts.manifest(*entries)
    monkeypatch.setattr(catalog, "load_manifest", lambda: manifest)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("mpncov_resnet1*", ["mpncov_resnet101", "mpncov_resnet101_v1", "mpncov_resnet152", "mpncov_resnet18"]),
        ("vgg16", ["vgg16"]),
        ("VGG*", []),
        ("cifar_resnet?1*", ["cifar_resnet110"]),
    ],
)
def test_models_by_pattern(pattern: str, expected: list[str]) -> None:
    assert list_models(pattern) == expected


def test_every_listed_model_has_information() -> None:
    names = list_models()
    assert len(names) == 74
    assert [info(name).model for name in names] == names


@pytest.mark.parametrize(
    ("name", "backbone", "representation", "num_classes", "size"),
    [
        ("resnet50", "resnet50", "gap", 1000, (224, 224)),
        ("mpncov_resnet50", "resnet50", "mpncov", 1000, (224, 224)),
        ("vgg16_bn", "vgg16_bn", "flatten", 1000, (224, 224)),
        ("mpncov_vgg16_bn", "vgg16_bn", "mpncov", 1000, (224, 224)),
        ("gap_vgg16", "vgg16", "gap", 1000, (224, 224)),
        ("cifar_resnet32", "cifar_resnet32", "gap", 100, (32, 32)),
        ("mpncov_cifar_preact_resnet164", "cifar_preact_resnet164", "mpncov", 100, (32, 32)),
        ("bcnn_cifar_resnet1202", "cifar_resnet1202", "bcnn", 100, (32, 32)),
    ],
)
def test_information_is_of_the_published_network(
    name: str, backbone: str, representation: str, num_classes: int, size: tuple[int, int]
) -> None:
    facts = info(name)
    assert (facts.backbone, facts.representation) == (backbone, representation)
    assert (facts.num_classes, facts.input.size) == (num_classes, size)


def test_every_listed_set_of_weights_has_information() -> None:
    """And so can be asked for: weights of networks that this version cannot build are not listed."""
    names = list_models(pretrained=True)
    assert names == sorted(names)
    assert {"mpncov_resnet50.imagenet_pytorch", "mpncov_resnet50.imagenet_tensorflow"} <= set(names)
    for name in names:
        assert info(name).name == name


@pytest.mark.usefixtures("toys")
def test_weights_by_pattern() -> None:
    assert list_models(pretrained=True) == ["resnet18.toy", "resnet18.zoo"]
    assert list_models("*.zoo", pretrained=True) == ["resnet18.zoo"]


@pytest.mark.usefixtures("toys")
def test_information_is_of_the_weights_asked_for_or_the_default_ones() -> None:
    assert info("resnet18").name == info("resnet18.zoo").name == "resnet18.zoo"
    assert info("resnet18").weights == ("resnet18.zoo", "resnet18.toy")  # the default one first
    assert (info("resnet18.toy").name, info("resnet18.toy").notes, info("resnet18").notes) == (
        "resnet18.toy",
        None,
        "for tests",
    )
    assert info("resnet18").num_classes == 2 and info("resnet18").source == "https://example.org/tiny.pth"


@pytest.mark.usefixtures("toys")
def test_information_of_a_model_without_weights_is_its_architectures() -> None:
    facts = info("mpncovresnet50")
    assert (facts.name, facts.model, facts.weights) == ("mpncov_resnet50", "mpncov_resnet50", ())
    assert facts.aliases == ("mpncovresnet50", "isqrtcovresnet50b")
    assert (facts.backbone, facts.representation, facts.num_classes) == ("resnet50", "mpncov", 1000)
    assert facts.input.size == (224, 224)
    nothing = ("parameters", "dataset", "code_licence", "weights_licence", "citation", "notes", "source")
    assert {getattr(facts, name) for name in nothing} == {None} and facts.metrics == ()


def test_information_is_the_manifests() -> None:
    """Against the published table of weights."""
    facts = info("mpncov_resnet101.imagenet_tensorflow")
    assert facts.parameters == 75_921_960
    reported = {metric.name: metric.value for metric in facts.metrics if metric.origin == "reported by upstream"}
    assert reported == {"top-1 error": 20.50, "top-5 error": 5.45}
    assert "gdrive:1RFdw2oEZLe03SCDFanwQKHUY13OeEzp0" in (facts.source or "")
    entry = load_manifest().get("mpncov_resnet101.imagenet_tensorflow")
    assert entry is not None
    assert (facts.citation, facts.weights_licence, facts.input) == (entry.citation, entry.weights_licence, entry.input)
    assert facts == info("mpncovresnet101.imagenet_tensorflow")


def test_information_about_what_does_not_exist() -> None:
    with pytest.raises(UnknownModel, match="resnet50"):
        info("resnet5O")
    with pytest.raises(NoPretrainedWeights, match="imagenet_pytorch, imagenet_tensorflow"):
        info("mpncov_resnet50.cub")
    with pytest.raises(NoPretrainedWeights, match="none"):
        info("resnet26.imagenet")


@pytest.mark.parametrize(
    ("name", "pretrained", "expected"),
    [
        ("mpncov_resnet50", False, ("mpncov_resnet50", None)),
        ("mpncov_resnet50", True, ("mpncov_resnet50", None)),
        ("mpncovresnet50", "imagenet_tensorflow", ("mpncov_resnet50", "imagenet_tensorflow")),
        ("mpncov_resnet50.imagenet_tensorflow", False, ("mpncov_resnet50", "imagenet_tensorflow")),
        ("mpncov_resnet50.imagenet_tensorflow", True, ("mpncov_resnet50", "imagenet_tensorflow")),
        ("mpncov_resnet50.cub", "cub", ("mpncov_resnet50", "cub")),
    ],
)
def test_name_and_tag(name: str, pretrained: bool | str, expected: tuple[str, str | None]) -> None:
    assert split_name(name, pretrained) == expected


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("mpncov_resnet50.cub", "aircraft", "different weights"),
        ("mpncov_resnet50", None, "None"),
        ("mpncov_resnet50", 1, "1"),
        (50, True, "50"),
        ("mpncov_resnet50", "", "''"),
        ("mpncov_resnet50.", True, "mpncov_resnet50."),
    ],
)
def test_names_that_cannot_be_meant(name: str, pretrained: bool | str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_name(name, pretrained)
