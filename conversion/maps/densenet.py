"""The layers of DenseNets under torchvision's names."""

import re

from conversion.maps.tables import CONV_DR_BLOCK, Row, conv_and_bn, reduction
from mpncov_zoo.architectures import Architecture

_FIRST_SPELLING = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\b")


def without_inner_points(name: str) -> str:
    """`...denselayer1.norm.1.weight`, as in the published files of 2017, is `...denselayer1.norm1.weight` since."""
    return _FIRST_SPELLING.sub(r"\1\2", name)


def torchvision_densenet(architecture: Architecture) -> list[Row]:
    """`features.conv0`, `features.denseblock1.denselayer1.norm1` ... `features.norm5`, `classifier`."""
    rows = conv_and_bn(("features.conv0", "features.norm0"), "features/stem")
    repeats = architecture.features_options["repeats"]
    for stage, count in enumerate(repeats, 1):
        for layer in range(1, count + 1):
            theirs, ours = f"features.denseblock{stage}.denselayer{layer}", f"features/stage{stage}_layer{layer}"
            rows.append((f"{theirs}.norm1", f"{ours}_bn1", "bn"))
            rows += [(f"{theirs}.conv1", f"{ours}_conv1", "conv"), (f"{theirs}.norm2", f"{ours}_bn2", "bn")]
            rows.append((f"{theirs}.conv2", f"{ours}_conv2", "conv"))
        if stage < len(repeats):
            theirs, ours = f"features.transition{stage}", f"features/stage{stage}_transition"
            rows += [(f"{theirs}.norm", f"{ours}_bn", "bn"), (f"{theirs}.conv", f"{ours}_conv", "conv")]
    rows.append(("features.norm5", "features/final_bn", "bn"))
    return [*rows, *reduction(architecture, CONV_DR_BLOCK), ("classifier", "classifier/logits", "linear")]
