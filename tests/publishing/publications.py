"""Artifacts that may be published, made of the session's one without TensorFlow, and one fact each that forbids it."""

import json
import shutil
from pathlib import Path
from typing import Any

from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.publishing.manifest_entry import Facts

MODEL = "mpncov_cifar_resnet20"
NAME = f"{MODEL}.test"
RECIPE = {"kind": "trained", "recipe": {"dataset": "fashion_mnist"}}
FACTS = Facts(code_licence="Apache-2.0", weights_licence="CC-BY-4.0", citation="A. Author: A network, 2026")
METRIC = {
    "name": "top-1 accuracy",
    "value": 12.5,
    "dataset": "fashion_mnist",
    "split": "test",
    "views": "single",
    "remark": "60 images, 28x28",
    "origin": "measured here",
    "command": "mpncov-zoo evaluate x --data 'a|b'",
}
SOURCE = {"name": "a.pth", "format": "zip", "size": 3, "sha256": "ab" * 32, "published": "unknown"}
CONVERSION = {
    "kind": "conversion",
    "source": SOURCE,
    "family": "upstream PyTorch",
    "map_sha256": "cd" * 32,
    "certificate": "certificate.json",
}


def trained(hub: Path, directory: Path, *, metrics: tuple[Any, ...] = (METRIC,)) -> Path:
    """A copy of the session's artifact, as if it had been trained and measured."""
    shutil.copytree(hub / NAME, directory)
    return revise(directory, provenance=RECIPE, metrics=list(metrics))


def converted(hub: Path, directory: Path, **certificate: Any) -> Path:
    """A copy of the session's artifact, as if it had been converted and passed; with other facts on its certificate."""
    shutil.copytree(hub / NAME, directory)
    (directory / "certificate.json").write_text(json.dumps({**passed(), **certificate}))
    return revise(directory, provenance=CONVERSION)


def revise(directory: Path, **changes: Any) -> Path:
    """Write other values, and the true digests, into an artifact's model.json."""
    path = directory / "model.json"
    files = [file.model_dump() for file in describe_files(directory)]
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes, "files": files}))
    return directory


def passed() -> dict[str, Any]:
    """The certificate of a conversion that passed."""
    stage = {"stage": "logits", "pytorch": 1e-6, "tensorflow": 1e-6, "bound": 4e-5}
    case = {"weights": "as read", "shape": [1, 28, 28, 1], "stages": [stage], "top5_agreement": 1.0}
    return {
        "format_version": 1,
        "model": MODEL,
        "tag": "test",
        "num_classes": 10,
        "parameters": 100,
        "source": SOURCE,
        "family": "upstream PyTorch",
        "map_sha256": "cd" * 32,
        "tensors": 3,
        "unused": [],
        "versions": {"torch": "2.13.0"},
        "parity": {"device": "cpu", "reference": "the published network", "cases": [case]},
        "verdict": "passed",
    }
