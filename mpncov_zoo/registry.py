"""The tables: which models there are. A backbone, a representation, a model is a row; no TensorFlow here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from mpncov_zoo.errors import UnknownModel
from mpncov_zoo.specification import InputSpecification

Options = Mapping[str, Any]

IMAGENET_INPUT = InputSpecification(
    size=(224, 224),
    channel_order="RGB",
    resize="short_side",
    crop_fraction=0.875,
    interpolation="bilinear",
    antialias=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
CIFAR_INPUT = IMAGENET_INPUT.model_copy(
    update={
        "size": (32, 32),
        "crop_fraction": 1.0,
        "mean": (0.5071, 0.4865, 0.4409),  # of CIFAR-100's training images, as the deviation is
        "std": (0.2673, 0.2564, 0.2762),
    }
)


@dataclass(frozen=True)
class Backbone:
    """A row of BACKBONES.

    Attributes:
        family: name of the function that builds it, a key of mpncov_zoo.backbones.FAMILIES.
        options: the function's arguments.
        second_order: the arguments that change under a second-order representation, which wants more positions.
        first_order: representation of the published first-order network.
        representation: options of each representation on this backbone.
        classifier: options of the classifier on each representation; none is a single dense layer.
        stages: those that each representation stands on; none is the end. Where a trunk is pretrained and its
            iSQRT-COV network is not: those that were best on AID with efficientnet_lite0 (docs/second_order.md).
        input: the published network's input specification.
        num_classes: of the published network.
    """

    family: str
    options: Options
    second_order: Options = field(default_factory=dict)
    first_order: str = "gap"
    representation: Mapping[str, Options] = field(default_factory=dict)
    classifier: Mapping[str, Options] = field(default_factory=dict)
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    input: InputSpecification = IMAGENET_INPUT
    num_classes: int = 1000


@dataclass(frozen=True)
class Representation:
    """A row of REPRESENTATIONS, whose name is a key of mpncov_zoo.representations.BUILDERS, too.

    Attributes:
        second_order: it multiplies features with each other, which wants more positions than a mean.
        least_positions: how many positions of the features it needs: of one there is no covariance.
        fixes_size: it is built for one size of the features, and so is the network for one size of images.
    """

    second_order: bool
    least_positions: int = 1
    fixes_size: bool = False


def _resnet(block: str, *repeats: int, conv1_stride: bool = False) -> Backbone:
    return Backbone(
        "resnet",
        {"block": block, "repeats": repeats, **({"conv1_stride": True} if conv1_stride else {})},
        second_order={"last_stride": 1},
        representation={"mpncov": {"dimension_reduction": 256}},
    )


def _cifar(block: str, repeats: int, *, preactivation: bool = False) -> Backbone:
    # The published reduction to 128 is for the 256 channels of bottlenecks; basic blocks end with 64 channels.
    reduction = 128 if block == "bottleneck" else 64
    return Backbone(
        "cifar_resnet",
        {"block": block, "repeats": repeats, "preactivation": preactivation},
        representation={"mpncov": {"dimension_reduction": reduction, "dropout": 0.5}},
        input=CIFAR_INPUT,
        num_classes=100,
    )


def _vgg(*repeats: int, batch_norm: bool) -> Backbone:
    hidden = {"hidden": (4096, 4096), "dropout": 0.5}
    return Backbone(
        "vgg",
        {"repeats": repeats, "batch_norm": batch_norm},
        second_order={"last_pool": False},
        first_order="flatten",
        representation={"mpncov": {"dimension_reduction": 256}},
        classifier={"mpncov": hidden, "flatten": hidden},
    )


def _alexnet() -> Backbone:
    return Backbone(
        "alexnet",
        {},
        second_order={"last_pool": False},
        first_order="flatten",
        representation={"flatten": {"size": 6, "dropout": 0.5}},
        classifier={"flatten": {"hidden": (4096, 4096), "dropout": (0.5, 0.0)}},
    )


def _vgg_m() -> Backbone:
    hidden = {"hidden": (4096, 4096), "dropout": 0.5}
    return Backbone(
        "vgg_m",
        {},
        second_order={"last_pool": False},
        first_order="flatten",
        representation={"flatten": {"size": 6}, "mpncov": {"dimension_reduction": 256}},
        classifier={"mpncov": hidden, "flatten": hidden},
        input=IMAGENET_INPUT.model_copy(update={"std": (1 / 255,) * 3}),  # it takes 0..255 less the mean
    )


def _densenet(*repeats: int, stem: int = 64, growth: int = 32) -> Backbone:
    return Backbone(
        "densenet",
        {"stem": stem, "growth": growth, "repeats": repeats},
        representation={"mpncov": {"dimension_reduction": 256}},
    )


def _inception_v3() -> Backbone:
    return Backbone(
        "inception_v3",
        {},
        representation={"gap": {"dropout": 0.5}, "mpncov": {"dimension_reduction": 256}},
        input=IMAGENET_INPUT.model_copy(  # torchvision's `transform_input` makes the usual mean and deviation these
            update={"size": (299, 299), "crop_fraction": 299 / 342, "mean": (0.5,) * 3, "std": (0.5,) * 3}
        ),
    )


def _efficientnet_lite(width: float, depth: float, *, size: int, dropout: float) -> Backbone:
    return Backbone(
        "efficientnet_lite",
        {"width": width, "depth": depth, "drop_connect": 0.2},
        representation={"gap": {"dropout": dropout}, "mpncov": {"dimension_reduction": 256}},
        stages={"mpncov": ("stage5", "stage6")},
        input=IMAGENET_INPUT.model_copy(
            update={
                "interpolation": "bicubic",
                "size": (size, size),
                "crop_fraction": size / (size + 32),  # the short side is resized to 32 pixels more than is cut out
                "mean": (127 / 255,) * 3,
                "std": (128 / 255,) * 3,
            }
        ),
    )


BACKBONES: Mapping[str, Backbone] = {
    "resnet18": _resnet("basic", 2, 2, 2, 2),
    "resnet26": _resnet("bottleneck", 2, 2, 2, 2),
    "resnet34": _resnet("basic", 3, 4, 6, 3),
    "resnet50": _resnet("bottleneck", 3, 4, 6, 3),
    "resnet101": _resnet("bottleneck", 3, 4, 23, 3),
    "resnet152": _resnet("bottleneck", 3, 8, 36, 3),
    "resnet50_v1": _resnet("bottleneck", 3, 4, 6, 3, conv1_stride=True),
    "resnet101_v1": _resnet("bottleneck", 3, 4, 23, 3, conv1_stride=True),
    "alexnet": _alexnet(),
    "vgg11": _vgg(1, 1, 2, 2, 2, batch_norm=False),
    "vgg11_bn": _vgg(1, 1, 2, 2, 2, batch_norm=True),
    "vgg13": _vgg(2, 2, 2, 2, 2, batch_norm=False),
    "vgg13_bn": _vgg(2, 2, 2, 2, 2, batch_norm=True),
    "vgg16": _vgg(2, 2, 3, 3, 3, batch_norm=False),
    "vgg16_bn": _vgg(2, 2, 3, 3, 3, batch_norm=True),
    "vgg19": _vgg(2, 2, 4, 4, 4, batch_norm=False),
    "vgg19_bn": _vgg(2, 2, 4, 4, 4, batch_norm=True),
    "vgg_m": _vgg_m(),
    "densenet121": _densenet(6, 12, 24, 16),
    "densenet161": _densenet(6, 12, 36, 24, stem=96, growth=48),
    "densenet169": _densenet(6, 12, 32, 32),
    "densenet201": _densenet(6, 12, 48, 32),
    "inception_v3": _inception_v3(),
    "efficientnet_lite0": _efficientnet_lite(1.0, 1.0, size=224, dropout=0.2),
    "efficientnet_lite1": _efficientnet_lite(1.0, 1.1, size=240, dropout=0.2),
    "efficientnet_lite2": _efficientnet_lite(1.1, 1.2, size=260, dropout=0.3),
    "cifar_resnet20": _cifar("basic", 3),
    "cifar_resnet32": _cifar("basic", 5),
    "cifar_resnet44": _cifar("basic", 7),
    "cifar_resnet56": _cifar("basic", 9),
    "cifar_resnet110": _cifar("basic", 18),
    "cifar_resnet164": _cifar("bottleneck", 18),
    "cifar_resnet1001": _cifar("bottleneck", 111),
    "cifar_resnet1202": _cifar("basic", 200),
    "cifar_preact_resnet110": _cifar("basic", 18, preactivation=True),
    "cifar_preact_resnet164": _cifar("bottleneck", 18, preactivation=True),
    "cifar_preact_resnet1001": _cifar("bottleneck", 111, preactivation=True),
}

REPRESENTATIONS: Mapping[str, Representation] = {
    "mpncov": Representation(second_order=True, least_positions=2),
    "gap": Representation(second_order=False),
    "flatten": Representation(second_order=False, fixes_size=True),
    "bcnn": Representation(second_order=True),
    "cbp": Representation(second_order=True),
}

ALIASES: Mapping[str, str] = {
    **{f"{row.first_order}_{name}": name for name, row in BACKBONES.items()},
    # upstream, PyTorch
    **{f"mpncov{name}": f"mpncov_{name}" for name, row in BACKBONES.items() if row.num_classes == 1000},
    "mpncovvgg16bn": "mpncov_vgg16_bn",
    # pytorchcv: its 50b and 101b have the stride on the 3x3, as upstream; its 50 and 101 on the first 1x1
    **{f"isqrtcov{name}": f"mpncov_{name}" for name in ("resnet18", "resnet34")},
    **{f"isqrtcov{name}": f"mpncov_{name}_v1" for name in ("resnet50", "resnet101")},
    **{f"isqrtcov{name}b": f"mpncov_{name}" for name in ("resnet50", "resnet101")},
    # the TensorFlow code
    **{
        f"cifar_mpncov{name.removeprefix('cifar_')}": f"mpncov_{name}"
        for name, row in BACKBONES.items()
        if row.options.get("preactivation") is False
    },
}


def model_name(backbone: str, representation: str) -> str:
    """The name of the network of a backbone and a representation, both of the tables."""
    if representation == BACKBONES[backbone].first_order:
        return backbone
    return f"{representation}_{backbone}"


MODELS: Mapping[str, tuple[str, str]] = {  # name -> (backbone, representation)
    model_name(backbone, representation): (backbone, representation)
    for backbone in BACKBONES
    for representation in REPRESENTATIONS
}


def model_names() -> list[str]:
    """The published families, sorted: each backbone's first-order network and its iSQRT-COV version."""
    return sorted([*BACKBONES, *(f"mpncov_{name}" for name in BACKBONES)])


def canonical_name(name: str) -> str:
    """The registry's spelling of a model name, an alias, or `<representation>_<backbone>`.

    Raises:
        UnknownModel: no such model; the message lists close matches.
    """
    known = ALIASES.get(name, name)
    if known in MODELS:
        return known
    close = get_close_matches(name, [*model_names(), *ALIASES], n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(map(repr, close))}?" if close else "mpncov_zoo.list_models() lists all."
    raise UnknownModel(f"Unknown model {name!r}. {hint}")


def backbone_of(name: str) -> Backbone:
    """The table row of a canonical model name."""
    return BACKBONES[MODELS[name][0]]
