"""Which tensor of a published checkpoint is which variable of ours, as tables: one function a family of names.

A table has a row a layer: its name there, its name here, and its kind, which says what the layer's tensors are called
on both sides and how their axes are ordered. `FAMILIES` lists the families of names by the family of our backbone.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from conversion.maps.efficientnet_lite import efficientnet_lite
from conversion.maps.resnet import pytorchcv_resnet, upstream_resnet
from conversion.maps.seed import count_by_role, h5_steps, mat_steps
from conversion.maps.tables import INVERSES, TRANSFORMS, Row, Rows, Step, pytorch_steps
from conversion.maps.vgg import upstream_vgg
from mpncov_zoo.registry import BACKBONES, Architecture, Options

__all__ = ["FAMILIES", "INVERSES", "TRANSFORMS", "Family", "Step", "families_of", "pytorch_steps"]

UNUSED_LEAVES = frozenset({"num_batches_tracked"})  # counts training steps; nothing here corresponds to it

Names = Mapping[str, str | None]  # a name in a file -> the family's name of it; None: it is not a weight


@dataclass(frozen=True)
class Family:
    """A way to name and order a network's tensors.

    Attributes:
        name: of the family, for plans and certificates.
        rows: an architecture's layers.
        steps: the tensors of these layers.
        names: the names in a file as the family's.
        fits: whether networks of an architecture have files of this family.
        reference: its network in PyTorch, "module:class" under conversion.reference.
        called: what to call that.
        options: architecture options of the networks that this family's files hold, by part.
        note: what a reader of the certificate must know.
    """

    name: str
    rows: Rows
    steps: Callable[[list[Row]], list[Step]]
    names: Callable[[Iterable[str]], Names]
    fits: Callable[[Architecture], bool]
    reference: str
    called: str = "the published network, written from its facts"
    options: Mapping[str, Options] = field(default_factory=dict)
    note: str = ""


def pytorch_names(spellings: Mapping[str, str] | None = None) -> Callable[[Iterable[str]], Names]:
    """Of a state_dict, without the `module.` that DataParallel puts anywhere, and with a layer's other spellings."""

    def names(found: Iterable[str]) -> Names:
        return {name: _pytorch_name(name, spellings or {}) for name in found}

    return names


def _pytorch_name(name: str, spellings: Mapping[str, str]) -> str | None:
    parts = [part for part in name.split(".") if part != "module"]
    if parts[-1] in UNUSED_LEAVES:
        return None
    plain = ".".join(parts)
    for theirs, usual in spellings.items():
        if plain.startswith(f"{theirs}."):
            return usual + plain[len(theirs) :]
    return plain


def mat_names(found: Iterable[str]) -> Names:
    """The reader's names of a list's entries are the family's."""
    return {name: name for name in found}


def h5_names(found: Iterable[str]) -> Names:
    """`any/path/kernel:0` is a kernel; its number is its place among the kernels, in the file's own order."""
    ordered = list(found)
    return dict(zip(ordered, count_by_role(_role(name) for name in ordered), strict=True))


def _role(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


FINE_TUNED_RESNET = {  # the published fine-tuning numbers the trunk's layers; 2, 3 and 10 are ReLU and pool
    "features.0": "conv1",
    "features.1": "bn1",
    **{f"features.{3 + stage}": f"layer{stage}" for stage in range(1, 5)},
    "features.8": "layer_reduce",
    "features.9": "layer_reduce_bn",
    "representation.conv_dr_block.0": "layer_reduce",
    "representation.conv_dr_block.1": "layer_reduce_bn",
    "classifier": "fc",
}

STRIDE_NOT_IN_THE_FILE = (
    "pytorchcv's 50 and 50b, 101 and 101b have the same tensors: the model's name alone says which it is"
)


def _of(*representations: str) -> Callable[[Architecture], bool]:
    """Networks with these representations, whose bottlenecks have their stride on the 3x3."""
    return lambda architecture: (
        architecture.representation in representations and not architecture.features_options.get("conv1_stride", False)
    )


def _isqrtcov(architecture: Architecture) -> bool:
    return architecture.representation == "mpncov"


FAMILIES: Mapping[str, tuple[Family, ...]] = {  # the first of PyTorch's is what a network is written as
    "resnet": (
        Family(
            "upstream PyTorch",
            upstream_resnet,
            pytorch_steps,
            pytorch_names(FINE_TUNED_RESNET),
            fits=_of("mpncov", "gap"),
            reference="resnet:ResNet",
        ),
        Family(
            "pytorchcv",
            pytorchcv_resnet,
            pytorch_steps,
            pytorch_names(),
            fits=_isqrtcov,
            reference="pytorchcv:PytorchcvResNet",
            called="pytorchcv's network",
            note=STRIDE_NOT_IN_THE_FILE,
        ),
        Family(
            "upstream TensorFlow, .mat", upstream_resnet, mat_steps, mat_names, _of("mpncov"), reference="resnet:ResNet"
        ),
        Family(
            "upstream TensorFlow, .h5", upstream_resnet, h5_steps, h5_names, _of("mpncov"), reference="resnet:ResNet"
        ),
    ),
    "vgg": (
        Family(
            "upstream PyTorch",
            upstream_vgg,
            pytorch_steps,
            pytorch_names(),
            fits=_of("mpncov", "flatten"),
            reference="vgg:VGG",
        ),
        Family(
            "upstream PyTorch, fine-tuned with one linear layer",
            upstream_vgg,
            pytorch_steps,
            pytorch_names(),
            fits=_of("mpncov"),
            reference="vgg:VGG",
            options={"classifier": {"hidden": ()}},
        ),
        Family("upstream TensorFlow, .mat", upstream_vgg, mat_steps, mat_names, _of("mpncov"), reference="vgg:VGG"),
        Family("upstream TensorFlow, .h5", upstream_vgg, h5_steps, h5_names, _of("mpncov"), reference="vgg:VGG"),
    ),
    "efficientnet_lite": (
        Family(
            "efficientnet_lite_pytorch",
            efficientnet_lite,
            pytorch_steps,
            pytorch_names(),
            fits=_of("gap", "mpncov"),  # the second with upstream's names for the reduction
            reference="efficientnet_lite:EfficientNetLite",
        ),
    ),
}


def families_of(architecture: Architecture) -> tuple[Family, ...]:
    """The families whose files may hold this network; none where nobody published any."""
    known = FAMILIES.get(BACKBONES[architecture.backbone].family, ())
    return tuple(family for family in known if family.fits(architecture))
