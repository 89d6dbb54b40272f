"""The layers of VGGs under the names of upstream and torchvision."""

from conversion.maps.tables import CONV_DR_BLOCK, Row, reduction
from mpncov_zoo.architectures import Architecture


def upstream_vgg(architecture: Architecture) -> list[Row]:
    """Torchvision's names, with upstream's for the reduction: `features.0` ... `representation.conv_dr_block.0`."""
    options = architecture.features_options
    rows, index = [], 0
    for stage, count in enumerate(options["repeats"], 1):
        for convolution in range(1, count + 1):
            rows.append((f"features.{index}", f"features/stage{stage}_conv{convolution}", "conv with bias"))
            if options["batch_norm"]:
                rows.append((f"features.{index + 1}", f"features/stage{stage}_bn{convolution}", "bn"))
            index += 3 if options["batch_norm"] else 2  # the ReLU has a number, too
        index += 1  # the max-pool
    rows += reduction(architecture, CONV_DR_BLOCK)
    hidden = len(architecture.classifier_options.get("hidden", ()))
    if not hidden:  # what the published fine-tuning puts in place of the three
        return [*rows, ("classifier", "classifier/logits", "linear")]
    names = [f"fc{number}" for number in range(1, hidden + 1)] + ["logits"]
    return rows + [(f"classifier.{3 * place}", f"classifier/{name}", "linear") for place, name in enumerate(names)]
