"""Tiny artifact directories for the tests of the hub: real digests, no TensorFlow."""

import json
from pathlib import Path
from typing import Any

from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.manifest import Manifest

INPUT = {
    "size": [28, 28],
    "channel_order": "L",
    "resize": "squash",
    "crop_fraction": 1.0,
    "interpolation": "bilinear",
    "antialias": True,
    "mean": [0.25],
    "std": [0.5],
}
CONTENT = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"0123456789",
    "assets/labels.txt": b"shirt\nboot\n",
}


def description(*, model: str = "tiny", tag: str = "toy", files: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The JSON object of a valid model.json."""
    labels = {"path": "assets/labels.txt", "size": 11, "sha256": "0" * 64}
    return {
        "format_version": 1,
        "model": model,
        "tag": tag,
        "architecture": {"backbone": model},
        "num_classes": 2,
        "labels_file": "assets/labels.txt",
        "input": INPUT,
        "parameters": 10,
        "provenance": {"made": "in a test"},
        "versions": {"tensorflow": "2.21.0"},
        "files": [labels] if files is None else files,
    }


def make_artifact(directory: Path, *, model: str = "tiny", tag: str = "toy") -> Path:
    """Write an artifact whose model.json lists the true digests of its other files."""
    for path, content in CONTENT.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    files = [file.model_dump() for file in describe_files(directory)]
    (directory / "model.json").write_text(json.dumps(description(model=model, tag=tag, files=files)))
    return directory


def entry(*, model: str = "tiny", tag: str = "toy", default: bool = True) -> dict[str, Any]:
    """The part of a manifest's entry that says what the weights are, without where they come from."""
    return {
        "model": model,
        "tag": tag,
        "default": default,
        "dataset": "toys",
        "num_classes": 2,
        "labels_file": "assets/labels.txt",
        "input": INPUT,
        "parameters": 10,
        "code_licence": "Apache-2.0",
        "weights_licence": "Apache-2.0",
        "citation": "none",
    }


def published(directory: Path, *, kind: str = "bundled", tag: str = "toy", default: bool = True) -> dict[str, Any]:
    """An entry with the true digests of an artifact directory and one source."""
    source = {"bundled": {}, "https": {"url": "https://example.org"}}[kind]
    files = [file.model_dump() for file in describe_files(directory, exclude=())]
    return {**entry(tag=tag, default=default), "files": files, "sources": [{"kind": kind, **source}]}


def upstream(*, tag: str = "toy", default: bool = True) -> dict[str, Any]:
    """An entry that is to be converted from a published checkpoint."""
    checkpoint = {"url": "https://example.org/tiny.pth", "file_name": "tiny.pth", "converter": "upstream_pytorch"}
    return {**entry(tag=tag, default=default), "upstream": checkpoint}


def manifest(*entries: dict[str, Any]) -> Manifest:
    """A validated manifest of these entries."""
    return Manifest.model_validate({"schema_version": 1, "entries": list(entries)})
