"""Checkpoints of timm: what the config.json beside them says of images and classes is taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from conversion.preparation import PREPARED, prepare
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo.errors import ConversionError
from mpncov_zoo.labels import labels_of
from tests.conversion import checkpoints

CONFIG: dict[str, Any] = {  # as timm/resnet50.a1_in1k has it
    "architecture": "resnet18",
    "num_classes": 5,
    "num_features": 512,
    "pretrained_cfg": {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 5,
        "classifier": "fc",
        "license": "apache-2.0",
    },
    "label_names": ["a", "b", "c", "d", "e"],
}


def write(folder: Path, config: Any, classes: int = 5) -> Path:
    """A checkpoint of resnet18 with a config.json beside it."""
    write_safetensors(checkpoints.tensors("resnet18", num_classes=classes), folder / "model.safetensors")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder / "model.safetensors"


def changed(**values: Any) -> dict[str, Any]:
    return {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], **values}}


def test_images_and_classes_are_as_it_says(tmp_path: Path) -> None:
    prepared = prepare(write(tmp_path, CONFIG), "resnet18")
    specification = prepared.model.input_specification
    assert (specification.size, specification.interpolation) == ((224, 224), "bicubic")
    assert round(224 / specification.crop_fraction) == 235  # floor(224 / 0.95), as timm rounds
    assert prepared.model.labels == ("a", "b", "c", "d", "e")
    assert PREPARED in str(prepared.plan)


def test_labels_that_are_given_come_first(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("v\nw\nx\ny\nz\n")
    prepared = prepare(write(tmp_path, CONFIG), "resnet18", labels=tmp_path / "labels.txt")
    assert prepared.model.labels == ("v", "w", "x", "y", "z")


def test_classes_of_imagenet_are_known_by_the_tag(tmp_path: Path) -> None:
    config = {name: value for name, value in CONFIG.items() if name != "label_names"} | {"num_classes": 1000}
    assert prepare(write(tmp_path, config, 1000), "resnet18").model.labels == tuple(labels_of("imagenet_1k") or ())


@pytest.mark.parametrize("config", ["{}", '{"architectures": ["ResNet"]}', "no JSON"])
def test_other_files_of_that_name_are_passed_over(tmp_path: Path, config: str) -> None:
    prepared = prepare(write(tmp_path, config), "resnet18")
    assert prepared.model.input_specification.crop_fraction == 0.875 and prepared.model.labels is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"crop_mode": "border"}, "crop_mode.*'center'"),
        ({"interpolation": "random"}, "interpolation.*'bilinear' or 'bicubic'"),
        ({"input_size": [1, 28, 28]}, "input_size"),
        ({"crop_pct": 0}, "crop_pct"),
        ({"crop_pct": 1.2}, "crop_pct"),
        ({"crop_pct": 1e-6}, "crop_pct"),
        ({"input_size": [3, 0, 0]}, "input_size"),
        ({"std": [0, 0, 0]}, "std"),
        ({"mean": [123, 117, 104]}, "mean"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConversionError, match=f"config.json cannot be used: .*{expected}"):
        prepare(write(tmp_path, changed(**values)), "resnet18")


def test_that_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="json is of resnet34, not of resnet18"):
        prepare(write(tmp_path, {**CONFIG, "architecture": "resnet34"}), "resnet18")
