"""pytorchcv's own iSQRT-COV ResNets, with their stages under our names."""

# pyright: reportMissingImports=false
# (pytorchcv is installed only where parity is checked)

from typing import Any

from pytorchcv.models.isqrtcovresnet import iSQRTCOVResNet
from torch import Tensor

from mpncov_zoo.backbones.resnet import EXPANSION, WIDTHS
from mpncov_zoo.errors import InputError
from mpncov_zoo.registry import Architecture

STAGES = {"init_block": "stem", "final_block": "reduction", "final_pool": "representation"}  # the others are stageN


class PytorchcvResNet(iSQRTCOVResNet):
    """isqrtcovresnet18/34/50/50b/101/101b; the tensor names are pytorchcv's.

    Args:
        architecture: of one of our mpncov_resnet*.
        num_classes: length of the logits.
    """

    def __init__(self, architecture: Architecture, num_classes: int):
        if architecture.representation != "mpncov":
            raise InputError(f"pytorchcv's reference is of iSQRT-COV networks alone. Received: {architecture.name}.")
        options = architecture.features_options
        channels = [
            [width * EXPANSION[options["block"]]] * count
            for width, count in zip(WIDTHS, options["repeats"], strict=True)
        ]
        super().__init__(
            channels=channels,
            init_block_channels=WIDTHS[0],
            final_block_channels=architecture.representation_options["dimension_reduction"],
            bottleneck=options["block"] == "bottleneck",
            conv1_stride=options.get("conv1_stride", False),
            num_classes=num_classes,
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (batch, 3, height, width) -> every stage."""
        stages: dict[str, Tensor] = {}
        layers: Any = self.features
        for name, layer in layers.named_children():
            x = layer(x)
            stages[str(STAGES.get(name, name))] = x
        x = stages["representation"] = x.flatten(1)
        return {**stages, "logits": self.output(x)}
