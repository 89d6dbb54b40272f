"""Which tensor of a published checkpoint is which variable of ours, as tables: one function for each family of names.

A table has a row for each layer: its name there, its name here, and its kind, which says what the layer's tensors are
called on both sides and how their axes are ordered. `FAMILIES` lists the tables by the family of our backbone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from conversion.maps.alexnet import torchvision_alexnet
from conversion.maps.densenet import torchvision_densenet, without_inner_points
from conversion.maps.efficientnet_lite import efficientnet_lite
from conversion.maps.inception_v3 import AUXILIARY, torchvision_inception_v3
from conversion.maps.matconvnet import grid_of, matconvnet_resnet, matconvnet_vgg, matconvnet_vgg_m
from conversion.maps.namings import H5, MAT, MATCONVNET, STATE_DICT, UNUSED_LEAVES, Naming, other_names, state_dict
from conversion.maps.resnet import FINE_TUNED, pytorchcv_resnet, upstream_resnet
from conversion.maps.tables import GRIDS, INVERSES, TRANSFORMS, Rows, Step, pytorch_steps
from conversion.maps.vgg import upstream_vgg
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.registry import Options

__all__ = ["FAMILIES", "INVERSES", "TRANSFORMS", "UNUSED_LEAVES", "Family", "Step", "families_of", "pytorch_steps"]


@dataclass(frozen=True)
class Family:
    """A way to name and order a network's tensors.

    Attributes:
        name: what plans and certificates call the family.
        rows: gives the layers of an architecture.
        naming: how the family's files call the tensors of these layers.
        fits: whether networks of an architecture have files of this family.
        reference: the function that gives the source network in PyTorch, "module:function" under conversion.reference.
        options: architecture options of the networks that this family's files hold, by part.
        note: what a reader of the certificate must know.
    """

    name: str
    rows: Rows
    naming: Naming
    fits: Callable[[Architecture], bool]
    reference: str
    options: Mapping[str, Options] = field(default_factory=dict)
    note: str = ""

    def steps(self, architecture: Architecture, *, classifier: bool = True) -> list[Step]:
        """Every tensor of a network, or of one without its classifier, in the order of the table."""
        steps = self.naming.steps(self.rows(architecture))
        return [step for step in steps if classifier or not step.target.startswith("classifier/")]


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


def _bottlenecks(architecture: Architecture) -> bool:
    usual = architecture.features_options["block"] == "bottleneck"
    return usual and architecture.representation in ("mpncov", "gap")


def _plain(architecture: Architecture) -> bool:
    """VGG of the first order without batch normalisation, which deployed files have no more."""
    plain = architecture.representation == "flatten" and not architecture.features_options.get("batch_norm", False)
    return plain and grid_of(architecture) in GRIDS


FAMILIES: Mapping[str, tuple[Family, ...]] = {  # a network is written as the first that can be written
    "alexnet": (
        Family("torchvision", torchvision_alexnet, STATE_DICT, _of("mpncov", "flatten"), "alexnet:torchvision"),
    ),
    "densenet": (
        Family(
            "torchvision",
            torchvision_densenet,
            state_dict(without_inner_points),
            _of("mpncov", "gap"),
            "densenet:torchvision",
        ),
    ),
    "inception_v3": (
        Family(
            "torchvision",
            torchvision_inception_v3,
            state_dict(unused=AUXILIARY),
            _of("mpncov", "gap"),
            "inception_v3:torchvision",
        ),
    ),
    "resnet": (
        Family(
            "upstream PyTorch",
            upstream_resnet,
            state_dict(other_names(FINE_TUNED)),
            _of("mpncov", "gap"),
            "resnet:upstream",
        ),
        Family(
            "pytorchcv",
            pytorchcv_resnet,
            STATE_DICT,
            _isqrtcov,
            "resnet:pytorchcv",
            note=STRIDE_NOT_IN_THE_FILE,
        ),
        Family("upstream TensorFlow, .mat", upstream_resnet, MAT, _of("mpncov"), "resnet:upstream"),
        Family("upstream TensorFlow, .h5", upstream_resnet, H5, _of("mpncov"), "resnet:upstream"),
        Family("MatConvNet", matconvnet_resnet, MATCONVNET, _bottlenecks, "matconvnet:resnet"),
    ),
    "vgg": (
        Family("upstream PyTorch", upstream_vgg, STATE_DICT, _of("mpncov", "flatten"), "vgg:upstream"),
        Family(
            "upstream PyTorch, fine-tuned with one linear layer",
            upstream_vgg,
            STATE_DICT,
            _of("mpncov"),
            "vgg:upstream",
            options={"classifier": {"hidden": ()}},
        ),
        Family("upstream TensorFlow, .mat", upstream_vgg, MAT, _of("mpncov"), "vgg:upstream"),
        Family("upstream TensorFlow, .h5", upstream_vgg, H5, _of("mpncov"), "vgg:upstream"),
        Family("MatConvNet", matconvnet_vgg, MATCONVNET, _plain, "matconvnet:vgg"),
    ),
    "vgg_m": (Family("MatConvNet", matconvnet_vgg_m, MATCONVNET, _plain, "matconvnet:vgg_m"),),
    "efficientnet_lite": (
        Family(
            "efficientnet_lite_pytorch",
            efficientnet_lite,
            STATE_DICT,
            _of("gap", "mpncov"),  # nobody published the second; its reduction has upstream's names
            "efficientnet_lite:published",
        ),
    ),
}


def families_of(architecture: Architecture) -> tuple[Family, ...]:
    """The families whose files may hold this network; there is none where nobody published such networks."""
    known = FAMILIES.get(architecture.family, ())
    return tuple(family for family in known if family.fits(architecture))
