"""The layers of AlexNet under torchvision's names."""

from conversion.maps.tables import CONV_DR_BLOCK, Row, reduction
from mpncov_zoo.architectures import Architecture
from mpncov_zoo.backbones.alexnet import STAGES


def torchvision_alexnet(architecture: Architecture) -> list[Row]:
    """`features.0`, `features.3` ... `classifier.1`, or one linear layer `classifier`; the reduction is upstream's."""
    rows, index = [], 0
    for stage, convolutions in enumerate(STAGES, 1):
        for convolution in range(1, len(convolutions) + 1):
            rows.append((f"features.{index}", f"features/stage{stage}_conv{convolution}", "conv with bias"))
            index += 2  # the ReLU has a number, too
        index += 1  # the max-pool
    rows += reduction(architecture, CONV_DR_BLOCK)
    hidden = len(architecture.classifier_options.get("hidden", ()))
    if not hidden:
        return [*rows, ("classifier", "classifier/logits", "linear")]
    linear = {f"classifier.{3 * number - 2}": f"fc{number}" for number in range(1, hidden + 1)}
    linear[f"classifier.{3 * hidden}"] = "logits"
    return rows + [(theirs, f"classifier/{ours}", "linear") for theirs, ours in linear.items()]
