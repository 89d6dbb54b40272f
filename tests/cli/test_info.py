"""`mpncov-zoo info`: every field of a model or an artifact, for people and as JSON."""

import json
from pathlib import Path

import pytest

import mpncov_zoo
from mpncov_zoo.manifest import Manifest
from tests.command_line import Capture, assert_refused, run

NAME = "mpncov_cifar_resnet20"


def test_info_shows_every_field(capsys: Capture) -> None:
    code, out, _ = run(capsys, "info", "mpncovresnet50")
    fields = {line.split()[0]: line for line in out.splitlines() if not line.startswith(" ")}
    assert code == 0 and list(fields) == list(mpncov_zoo.ModelInfo.__dataclass_fields__)
    assert fields["parameters"].split() == ["parameters", "56,929,832"]
    assert "224x224 RGB, short_side bilinear resize, centre crop of 0.875, mean 0.485 0.456 0.406" in fields["input"]
    assert "top-1 error 22.14 %, imagenet_1k val, one view" in out and "(paper)\n" in out


def test_info_of_an_artifact_by_its_path(capsys: Capture, artifact_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = artifact_hub / f"{NAME}.test"
    shown = {}
    for place in (path, artifact_hub):  # the only one there is
        code, out, _ = run(capsys, "info", place)
        shown = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert (code, shown["name"], shown["num_classes"]) == (0, f"{NAME}.test", "10")
        assert shown["source"] == str(path) and shown["available"] == "here, in this directory"
    monkeypatch.chdir(path)
    assert run(capsys, "info", ".")[0] == 0
    assert_refused(run(capsys, "info", "./nothing"), "no such directory")


def test_info_of_a_model_without_weights(capsys: Capture) -> None:
    fields = dict(line.split(maxsplit=1) for line in run(capsys, "info", "cifar_resnet1202")[1].splitlines())
    assert fields["weights"] == fields["citation"] == fields["parameters"] == "-"


@pytest.mark.usefixtures("model")
def test_info_shows_the_command_of_what_was_measured(capsys: Capture, measured: Manifest) -> None:
    out = run(capsys, "info", NAME)[1]
    assert "top-1 accuracy 94.56 %, fashion_mnist test, one view (measured here: measure test)" in out


def test_info_as_json(capsys: Capture) -> None:
    facts, info = json.loads(run(capsys, "info", "mpncov_resnet101", "--json")[1]), mpncov_zoo.info("mpncov_resnet101")
    assert list(facts) == list(mpncov_zoo.ModelInfo.__dataclass_fields__)
    assert (facts["parameters"], facts["weights"]) == (75_921_960, list(info.weights))
    assert facts["input"]["size"] == [224, 224]
    assert facts["metrics"] == [metric.model_dump(mode="json") for metric in info.metrics]
