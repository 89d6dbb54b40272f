"""The table of the trunks' stages against the networks; `python -m tests.test_trunk_stages` writes it from them."""

import json

import keras
import pytest

from mpncov_zoo import architectures, registry
from mpncov_zoo.assembly import deep_graph
from mpncov_zoo.backbones import FAMILIES
from mpncov_zoo.backbones.blocks import skip_initialization
from mpncov_zoo.trunk_stages import TABLE, TrunkStage, trunk_stages

SHALLOW = {"resnet": (1, 1, 1, 1), "cifar_resnet": 1, "vgg": (1, 1, 1, 1, 1)}  # repeats, which change no shape there


def measured(model: str, *, whole: bool = True) -> list[TrunkStage]:
    """The stages of the network itself, or of a shallow one with the same shapes."""
    row, options = registry.backbone_of(model), dict(architectures.of_model(model, stages=()).features_options)
    if not whole and row.family in SHALLOW:
        options["repeats"] = SHALLOW[row.family]
    with skip_initialization(), deep_graph():
        endpoints = FAMILIES[row.family](keras.Input((*row.input.size, row.input.channels)), **options)
    return [TrunkStage(name, *tensor.shape[1:]) for name, tensor in endpoints.items()]


@pytest.mark.parametrize("family", sorted({row.family for row in registry.BACKBONES.values()}))
def test_the_table_is_the_networks(family: str) -> None:
    for model in (name for name in registry.model_names() if registry.backbone_of(name).family == family):
        assert list(trunk_stages(model)) == measured(model, whole=False), model


if __name__ == "__main__":
    rows = (f"{json.dumps(model)}: {json.dumps(measured(model))}" for model in registry.model_names())
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
