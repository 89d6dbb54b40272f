"""Architectures: what a name, a representation, stages and options make of the tables' rows."""

import json

import pytest

from mpncov_zoo import architectures, registry
from mpncov_zoo.errors import InputError


@pytest.mark.parametrize("representation", ["mpncov", "gap", "bcnn", "cbp"])
def test_any_backbone_with_any_representation_has_a_name(representation: str) -> None:
    for backbone in registry.BACKBONES:
        architecture = architectures.of_model(backbone, representation)
        assert (architecture.backbone, architecture.representation) == (backbone, representation)
        assert architectures.of_model(architecture.name) == architecture


@pytest.mark.parametrize(
    ("name", "features", "representation", "classifier"),
    [
        ("resnet50", {"last_stride": None}, {}, {}),
        ("mpncov_resnet50", {"last_stride": 1}, {"dimension_reduction": 256}, {}),
        ("bcnn_resnet50", {"last_stride": 1}, {}, {}),
        ("vgg16_bn", {"last_pool": None}, {}, {"hidden": (4096, 4096), "dropout": 0.5}),
        (
            "mpncov_vgg16_bn",
            {"last_pool": False},
            {"dimension_reduction": 256},
            {"hidden": (4096, 4096), "dropout": 0.5},
        ),
        ("vgg_m", {"last_pool": None}, {"size": 6}, {"hidden": (4096, 4096), "dropout": 0.5}),
        (
            "mpncov_vgg_m",
            {"last_pool": False},
            {"dimension_reduction": 256},
            {"hidden": (4096, 4096), "dropout": 0.5},
        ),
        ("efficientnet_lite0", {"width": 1.0, "depth": 1.0, "drop_connect": 0.2}, {"dropout": 0.2}, {}),
        ("efficientnet_lite1", {"width": 1.0, "depth": 1.1, "drop_connect": 0.2}, {"dropout": 0.2}, {}),
        ("efficientnet_lite2", {"width": 1.1, "depth": 1.2, "drop_connect": 0.2}, {"dropout": 0.3}, {}),
        ("mpncov_efficientnet_lite2", {"width": 1.1, "depth": 1.2}, {}, {}),
        ("mpncov_cifar_preact_resnet164", {}, {"dimension_reduction": 128, "dropout": 0.5}, {}),
    ],
)
def test_options_are_those_of_the_published_networks(
    name: str, features: dict, representation: dict, classifier: dict
) -> None:
    """Facts of the published networks; None stands for the backbone's own default."""
    architecture = architectures.of_model(name)
    assert {key: architecture.features_options.get(key) for key in features} == features
    assert architecture.representation_options == representation
    assert architecture.classifier_options == classifier


def test_a_model_may_stand_on_stages_of_its_own() -> None:
    """Unless others are asked for; the table's reduction is for the backbone's end alone."""
    own = architectures.of_model("mpncov_efficientnet_lite0")
    assert own == architectures.of_model("efficientnet_lite0", representation="mpncov")
    assert (own.stages, own.representation_options) == (("stage5", "stage6"), {})
    end = architectures.of_model("mpncov_efficientnet_lite0", stages=[])
    assert (end.stages, end.representation_options) == ((), {"dimension_reduction": 256})
    assert architectures.of_model("mpncov_efficientnet_lite0", stages=["stage4"]).stages == ("stage4",)
    assert architectures.of_model("bcnn_efficientnet_lite0").stages == ()


def test_overrides_change_their_part_only() -> None:
    standard = architectures.of_model("mpncov_resnet50")
    changed = architectures.of_model("mpncov_resnet50", options={"representation": {"dimension_reduction": 128}})
    assert changed.representation_options == {"dimension_reduction": 128}
    assert (
        changed.features_options
        == standard.features_options
        == architectures.of_model("mpncovresnet50").features_options
    )
    assert registry.BACKBONES["resnet50"].representation["mpncov"] == {"dimension_reduction": 256}


def test_wrong_part_and_representation_are_refused() -> None:
    with pytest.raises(InputError, match=r"'head'.*'features', 'representation', 'classifier'"):
        architectures.of_model("resnet50", options={"head": {}})
    with pytest.raises(InputError, match=r"'vlad'.*'mpncov'"):
        architectures.of_model("resnet50", "vlad")


@pytest.mark.parametrize("name", sorted(registry.MODELS))
def test_architecture_survives_json(name: str) -> None:
    architecture = architectures.of_model(name)
    assert architectures.Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


def test_an_empty_representation_is_not_the_default() -> None:
    with pytest.raises(InputError, match="Unknown representation ''"):
        architectures.of_model("mpncov_resnet50", representation="")
