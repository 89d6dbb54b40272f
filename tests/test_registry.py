"""The tables: names, aliases, and what each name stands for."""

import pytest

from conversion.maps import FAMILIES as MAPS
from mpncov_zoo import architectures, backbones, registry, representations
from mpncov_zoo.errors import UnknownModel
from mpncov_zoo.manifest import load_manifest

BACKBONES = {  # as README names them
    *(f"resnet{depth}" for depth in (18, 26, 34, 50, 101, 152)),
    *(f"resnet{depth}_v1" for depth in (50, 101)),
    "alexnet",
    *(f"vgg{depth}" for depth in (11, 13, 16, 19)),
    *(f"vgg{depth}_bn" for depth in (11, 13, 16, 19)),
    "vgg_m",
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    "inception_v3",
    *(f"efficientnet_lite{depth}" for depth in (0, 1, 2)),
    *(f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110, 164, 1001, 1202)),
    *(f"cifar_preact_resnet{depth}" for depth in (110, 164, 1001)),
}
ALIASES = {  # the first-order representation spelt out, and the spellings of others
    "gap_resnet50": "resnet50",
    "flatten_vgg16": "vgg16",
    "mpncovresnet50": "mpncov_resnet50",
    "mpncovresnet101": "mpncov_resnet101",
    "mpncovvgg16_bn": "mpncov_vgg16_bn",
    "isqrtcovresnet50b": "mpncov_resnet50",
    "isqrtcovresnet101b": "mpncov_resnet101",
    "isqrtcovresnet50": "mpncov_resnet50_v1",
    "isqrtcovresnet101": "mpncov_resnet101_v1",
    "isqrtcovresnet18": "mpncov_resnet18",
    "cifar_mpncovresnet20": "mpncov_cifar_resnet20",
    "cifar_mpncovresnet1001": "mpncov_cifar_resnet1001",
}


def test_published_families_are_listed() -> None:
    assert registry.model_names() == sorted([*BACKBONES, *(f"mpncov_{name}" for name in BACKBONES)])


def test_every_row_has_its_function_and_every_function_its_row() -> None:
    families = {row.family for row in registry.BACKBONES.values()}
    assert families | {architectures.ATTACHED} == backbones.FAMILIES.keys()
    assert registry.REPRESENTATIONS.keys() == representations.BUILDERS.keys()
    assert MAPS.keys() <= backbones.FAMILIES.keys()


@pytest.mark.parametrize("alias", ALIASES)
def test_spellings_of_others(alias: str) -> None:
    assert registry.canonical_name(alias) == ALIASES[alias]


def test_every_alias_leads_to_a_model_and_shadows_none() -> None:
    assert set(registry.ALIASES.values()) <= set(registry.model_names())
    assert not set(registry.ALIASES) & set(registry.MODELS)
    # <first-order representation>_<backbone>; upstream's and one spelling more, pytorchcv's, the TensorFlow code's
    assert len(registry.ALIASES) == len(BACKBONES) + 26 + 1 + 6 + 8
    assert not [alias for alias in registry.ALIASES if "mpncov" in alias and "preact" in alias]


@pytest.mark.parametrize(
    ("name", "close"),
    [("mpncov_resnet51", "'mpncov_resnet50'"), ("resnet_50", "'resnet50'"), ("mpncovresnet5", "'mpncovresnet50'")],
)
def test_unknown_name_gets_close_matches(name: str, close: str) -> None:
    with pytest.raises(UnknownModel, match=f"{name}.*Did you mean .*{close}"):
        registry.canonical_name(name)


def test_unknown_name_without_close_matches_says_where_to_look() -> None:
    with pytest.raises(UnknownModel, match="list_models"):
        registry.canonical_name("?")


def test_input_specifications_are_valid_and_imagenets_as_published() -> None:
    specifications = {name: row.input for name, row in registry.BACKBONES.items()}
    imagenet = specifications["resnet50"]
    assert (imagenet.size, imagenet.crop_fraction) == ((224, 224), 224 / 256)
    assert (imagenet.mean, imagenet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert {specification.size for name, specification in specifications.items() if "cifar" in name} == {(32, 32)}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_efficientnet_lites_input_is_the_manifests(depth: int) -> None:
    entry = load_manifest().default(f"efficientnet_lite{depth}")
    assert entry is not None
    row = registry.BACKBONES[f"efficientnet_lite{depth}"]
    assert row.input == entry.input
