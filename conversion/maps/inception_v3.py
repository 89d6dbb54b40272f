"""The layers of Inception v3 under torchvision's names."""

from conversion.maps.tables import CONV_DR_BLOCK, Row, conv_and_bn, reduction
from mpncov_zoo.architectures import Architecture

AUXILIARY = "AuxLogits"  # the classifier beside the trunk, which only training has

CONVOLUTIONS = {  # of every module, in the file's order
    "": ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    **{f"Mixed_5{letter}": ("1x1", "5x5_1", "5x5_2", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", "_pool") for letter in "bcd"},
    "Mixed_6a": ("3x3", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3"),
    **{
        f"Mixed_6{letter}": ("1x1", *(f"7x7_{n}" for n in range(1, 4)), *(f"7x7dbl_{n}" for n in range(1, 6)), "_pool")
        for letter in "bcde"
    },
    "Mixed_7a": ("3x3_1", "3x3_2", "7x7x3_1", "7x7x3_2", "7x7x3_3", "7x7x3_4"),
    **{
        f"Mixed_7{letter}": (
            *("1x1", "3x3_1", "3x3_2a", "3x3_2b"),
            *("3x3dbl_1", "3x3dbl_2", "3x3dbl_3a", "3x3dbl_3b", "_pool"),
        )
        for letter in "bc"
    },
}


def torchvision_inception_v3(architecture: Architecture) -> list[Row]:
    """`Conv2d_1a_3x3.conv`, `Mixed_5b.branch1x1.conv` ... `fc`; the reduction is upstream's."""
    rows: list[Row] = []
    for module, names in CONVOLUTIONS.items():
        for name in names:
            theirs = f"{module}.branch{name}" if module else name
            rows += conv_and_bn((f"{theirs}.conv", f"{theirs}.bn"), f"features/{theirs.lower().replace('.', '_')}")
    return [*rows, *reduction(architecture, CONV_DR_BLOCK), ("fc", "classifier/logits", "linear")]
