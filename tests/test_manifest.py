"""The published manifest's facts, and every way in which a manifest or a model.json can be wrong."""

import copy
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mpncov_zoo.description import FileEntry, Metric, parse_description
from mpncov_zoo.errors import ManifestError
from mpncov_zoo.manifest import Manifest, load_manifest
from mpncov_zoo.specification import InputSpecification
from tests.hub.artifacts import INPUT, description, make_artifact, published, upstream

ROOT = Path(__file__).parent.parent
Edit = Callable[[dict[str, Any]], object]


def document() -> dict[str, Any]:
    return {"schema_version": 1, "entries": [upstream(), upstream(tag="second", default=False)]}


def load_text(tmp_path: Path, text: str) -> Manifest:
    (tmp_path / "weights_manifest.json").write_text(text)
    return load_manifest(tmp_path / "weights_manifest.json")


def refusal(tmp_path: Path, text: str) -> str:
    """The ManifestError's message after the file's name, which it must begin with; one line."""
    with pytest.raises(ManifestError) as caught:
        load_text(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'weights_manifest.json'}: ")
    assert "\n" not in message and "pydantic" not in message
    return message.removeprefix(f"{tmp_path / 'weights_manifest.json'}: ")


# --- the manifest that ships ------------------------------------------------------------------------------------------

UPSTREAM_ROWS = {  # as published: error in percent, parameters, digest or prefix, first location
    "mpncov_resnet50.imagenet_pytorch": (21.71, 6.13, 56_929_832, "15991845", "mpncovresnet50-15991845.pth"),
    "mpncov_resnet101.imagenet_pytorch": (20.99, 5.56, 75_921_960, "ade9737a", "mpncovresnet101-ade9737a.pth"),
    "mpncov_vgg16_bn.imagenet_pytorch": (23.98, 7.12, 170_479_144, None, "mpncovvgg16_bn.pth"),
    "mpncov_resnet50.imagenet_tensorflow": (21.57, 6.14, 56_929_832, None, "mpncovresnet50.mat"),
    "mpncov_resnet101.imagenet_tensorflow": (20.50, 5.45, 75_921_960, None, "mpncovresnet101.mat"),
    "mpncov_vgg16_bn.imagenet_tensorflow": (23.98, 7.12, 170_479_144, None, "mpncov_vgg16bn_tf.h5"),
    "mpncov_resnet50.imagenet_matconvnet": (22.14, 6.22, 56_929_832, None, "fast-mpncov-resnet50.mat"),
    "mpncov_resnet101.imagenet_matconvnet": (21.21, 5.68, 75_921_960, None, "fast-mpncov-resnet101.mat"),
    "vgg_m.imagenet_matconvnet": (37.3, 15.9, 102_908_520, None, "imagenet-vgg-m.mat"),
    "vgg16.imagenet_matconvnet": (28.5, 9.9, 138_357_544, None, "imagenet-vgg-verydeep-16.mat"),
    "vgg19.imagenet_matconvnet": (28.7, 9.9, 143_667_240, None, "imagenet-vgg-verydeep-19.mat"),
}


@pytest.mark.parametrize("name", UPSTREAM_ROWS)
def test_published_rows(name: str) -> None:
    found = load_manifest().get(name)
    assert found is not None and found.upstream is not None
    reported = {metric.name: metric.value for metric in found.metrics if metric.origin == "reported by upstream"}
    top1, top5, parameters, prefix, file_name = UPSTREAM_ROWS[name]
    assert reported == {"top-1 error": top1, "top-5 error": top5}
    assert (found.parameters, found.upstream.file_name) == (parameters, file_name)
    assert (found.upstream.sha256_prefix, found.upstream.sha256, found.upstream.size_bytes) == (prefix, None, None)


def test_defaults_are_the_pytorch_weights() -> None:
    models = ("mpncov_resnet50", "mpncov_resnet101", "mpncov_vgg16_bn")
    defaults = [load_manifest().default(model) for model in models]
    assert [found.tag for found in defaults if found] == ["imagenet_pytorch"] * 3
    assert load_manifest().default("resnet26") is None
    assert load_manifest().get("resnet26.imagenet") is None


@pytest.mark.parametrize(("depth", "size"), [(0, 224), (1, 240), (2, 260)])
def test_efficientnet_lite_input(depth: int, size: int) -> None:
    found = load_manifest().default(f"efficientnet_lite{depth}")
    assert found is not None
    assert found.input.size == (size, size)
    assert found.input.interpolation == "bicubic"
    assert size / found.input.crop_fraction == size + 32  # exactly, so that neither floor nor round can miss it
    pixels = (0, 127, 255)
    normalised = [(pixel / 255 - found.input.mean[0]) / found.input.std[0] for pixel in pixels]
    assert normalised == pytest.approx([(pixel - 127) / 128 for pixel in pixels], abs=1e-12)


def test_full_upstream_digests_are_the_computed_ones() -> None:
    """Of the files in the packages; the names of lite1 and lite2 carry the first eight digits."""
    digests = {e.name: e.upstream.sha256 for e in load_manifest().entries if e.upstream and e.upstream.sha256}
    assert digests == {
        "efficientnet_lite0.imagenet": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet_lite1.imagenet": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "efficientnet_lite2.imagenet": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    }


def test_default_manifest_is_the_top_level_file_and_read_once() -> None:
    assert load_manifest() == load_manifest(ROOT / "weights_manifest.json")
    assert load_manifest() is load_manifest()


def test_exported_schema_is_current() -> None:
    command = "python -m mpncov_zoo.manifest > docs/weights_manifest.schema.json"
    exported = (ROOT / "docs" / "weights_manifest.schema.json").read_text()
    assert json.loads(exported) == Manifest.model_json_schema(), f"renew it: {command}"


def test_schema_command_prints_the_schema() -> None:
    command = [sys.executable, "-m", "mpncov_zoo.manifest"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == Manifest.model_json_schema()


def test_import_brings_neither_tensorflow_nor_numpy() -> None:
    code = "import sys, mpncov_zoo.hub.resolve; print({'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "set()\n"


# --- reading ----------------------------------------------------------------------------------------------------------


def test_valid_document_with_files_and_with_upstream(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "tiny.toy")
    entries = [published(artifact), upstream(tag="second", default=False)]
    loaded = load_text(tmp_path, json.dumps({"schema_version": 1, "entries": entries}))
    assert [found.tag for found in loaded.for_model("tiny")] == ["toy", "second"]
    found = loaded.default("tiny")
    assert found is not None and found.name == "tiny.toy" and found.sources[0].kind == "bundled"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not valid JSON (damaged or truncated?): "),
        ("", "not valid JSON (damaged or truncated?): "),
        ("[" * 100_000, "not valid JSON (damaged or truncated?): "),
        ('{"schema_version": NaN}', "not valid JSON (damaged or truncated?): NaN is not a JSON number"),
        ('{"schema_version": 1, "schema_version": 1}', "field 'schema_version' stands more than once in one object"),
        ("[]", "received [], allowed: a JSON object"),
        ("{}", "schema_version: received None, allowed: 1. "),
        ('{"schema_version": true}', "schema_version: received True, allowed: 1. "),
        ('{"schema_version": 2, "novelty": []}', "schema_version: received 2, allowed: 1. Written by a newer mpncov_"),
        ('{"schema_version": 1, "novelty": []}', "document: unknown field 'novelty'; allowed: schema_version, entries"),
        ('{"schema_version": 1}', "entries: Field required"),
    ],
)
def test_unreadable_documents(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_newer_schema_says_how_to_upgrade(tmp_path: Path) -> None:
    assert refusal(tmp_path, '{"schema_version": 2}').endswith("Then upgrade: pip install --upgrade mpncov-zoo")


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"absent\.json: cannot be read: No such file or directory$"):
        load_manifest(tmp_path / "absent.json")
    with pytest.raises(ManifestError, match=r"expected a regular file, got a directory, pipe or device$"):
        load_manifest(tmp_path)


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "m.json", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(ManifestError, match=r"m\.json: expected at most 16,777,216 bytes, got 8,589,934,592"):
        load_manifest(tmp_path / "m.json")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b'{"schema_version": "\xff"}')
    with pytest.raises(ManifestError, match=r"m\.json: not valid JSON"):
        load_manifest(tmp_path / "m.json")


# --- entries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda e: e.update(speed=3), "entries[1]: unknown field 'speed'; allowed: model, tag, default, "),
        (lambda e: e["input"].update(sise=3), "entries[1].input: unknown field 'sise'; allowed: size, channel_order, "),
        (lambda e: e.pop("citation"), "entries[1].citation: Field required"),
        (lambda e: e.update(parameters="10"), "entries[1].parameters: Input should be a valid integer; received '10'"),
        (lambda e: e.update(parameters=0), "entries[1].parameters: Input should be greater than 0; received 0"),
        (lambda e: e.update(model="../tiny"), "entries[1].model: String should match pattern"),
        (lambda e: e.update(tag="x" * 200 + "/"), "entries[1].tag: String should match pattern"),
        (lambda e: e.update(default="yes"), "entries[1].default: Input should be a valid boolean; received 'yes'"),
        (lambda e: e.update(default=True), "document: model tiny has 2 default entries; allowed: exactly one"),
        (lambda e: e.update(model="lone"), "document: model lone has 0 default entries; allowed: exactly one"),
        (lambda e: e.update(tag="toy"), "document: tiny.toy stands more than once"),
        (lambda e: e.pop("upstream"), "entries[1]: tiny.second: allowed: files and sources, or upstream alone"),
        (lambda e: e.update(sources=[{"kind": "bundled"}]), "allowed: files and sources, or upstream alone"),
        (lambda e: e["upstream"].pop("url"), "entries[1].upstream: one of url, mirrors, package is required"),
        (lambda e: e["upstream"].update(url="ftp://x/y"), "entries[1].upstream.url: String should match pattern"),
        (lambda e: e["upstream"].update(file_name="../x"), "entries[1].upstream.file_name: String should match"),
        (lambda e: e["upstream"].update(sha256="0" * 8), "entries[1].upstream.sha256: String should match"),
        (lambda e: e["upstream"].update(sha256_prefix="ABCDEF01"), "entries[1].upstream.sha256_prefix: String should"),
        (
            lambda e: e["upstream"].update(sha256_prefix="0" * 8, sha256="0" * 64),
            "entries[1].upstream: sha256_prefix is for where the full sha256 is not known",
        ),
        (lambda e: e["upstream"].update(converter="magic"), "or 'matconvnet'; received 'magi"),
    ],
)
def test_refused_entries(tmp_path: Path, edit: Edit, expected: str) -> None:
    data = document()
    data["entries"][1]["input"] = dict(INPUT)
    edit(data["entries"][1])
    assert expected in refusal(tmp_path, json.dumps(data))


def test_long_values_are_cut_and_further_problems_counted(tmp_path: Path) -> None:
    data = document()
    data["entries"][0].update(tag="/" * 500, num_classes=0)
    message = refusal(tmp_path, json.dumps(data))
    assert len(message) < 250
    assert message.endswith("//... (1 more)")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"kind": "torrent"}, "'bundled', 'huggingface', 'https', 'file'"),
        ({}, "Unable to extract tag"),
        ({"kind": "https", "url": "http://example.org/x"}, "sources[0].https.url: String should match pattern"),
        ({"kind": "huggingface", "repo": "a/b", "revision": "main"}, "sources[0].huggingface.revision: String should"),
        (
            {"kind": "huggingface", "repo": "a", "revision": "0" * 40},
            "sources[0].huggingface.repo: allowed: owner/",
        ),
        ({"kind": "bundled", "path": "x"}, "sources[0].bundled: unknown field 'path'; allowed: kind"),
        ({"kind": "file", "path": ""}, "sources[0].file.path: String should have at least 1 character"),
    ],
)
def test_refused_sources(tmp_path: Path, source: dict[str, str], expected: str) -> None:
    data = {**published(make_artifact(tmp_path / "tiny.toy")), "sources": [source]}
    assert expected in refusal(tmp_path, json.dumps({"schema_version": 1, "entries": [data]}))


@pytest.mark.parametrize("absent", ["model.json", "assets/labels.txt"])
def test_published_files_hold_model_json_and_the_labels(tmp_path: Path, absent: str) -> None:
    data = published(make_artifact(tmp_path / "tiny.toy"))
    data["files"] = [file for file in data["files"] if file["path"] != absent]
    message = refusal(tmp_path, json.dumps({"schema_version": 1, "entries": [data]}))
    assert f"tiny.toy: files lacks {absent!r}" in message


def test_files_without_a_source(tmp_path: Path) -> None:
    data = {**published(make_artifact(tmp_path / "tiny.toy")), "sources": []}
    message = refusal(tmp_path, json.dumps({"schema_version": 1, "entries": [data]}))
    assert "allowed: files and sources, or upstream alone" in message


def test_paths_that_differ_in_case_only(tmp_path: Path) -> None:
    data = published(make_artifact(tmp_path / "tiny.toy"))
    data["files"].append({**data["files"][0], "path": data["files"][0]["path"].upper()})
    message = refusal(tmp_path, json.dumps({"schema_version": 1, "entries": [data]}))
    assert "entries[0].files: path 'assets/labels.txt' stands more than once" in message


# --- single models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a/..", ".", "./a", "a//b", "a/", "a\\b", "C:/x", "C:x", "a\0b", "a\n",
     "~ /x", "a:stream", "//server/share", "ä", "a b"],
)  # fmt: skip
def test_hostile_paths(path: str) -> None:
    with pytest.raises(ValidationError, match="allowed: a relative path"):
        FileEntry(path=path, size=1, sha256="0" * 64)


@pytest.mark.parametrize("path", ["model.json", "variables/variables.data-00000-of-00001", "..a", "a/b.c/d_e", ".x"])
def test_plain_paths(path: str) -> None:
    assert FileEntry(path=path, size=0, sha256="0" * 64).path == path


@pytest.mark.parametrize("digest", ["0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_digests_are_64_lower_case_hex_digits(digest: str) -> None:
    with pytest.raises(ValidationError, match="sha256"):
        FileEntry(path="a", size=1, sha256=digest)


def test_input_specification_is_frozen_hashable_and_survives_json() -> None:
    specification = InputSpecification.model_validate(INPUT)
    again = InputSpecification.model_validate(json.loads(json.dumps(specification.model_dump(mode="json"))))
    assert again == specification and hash(again) == hash(specification)
    assert (specification.channels, specification.size) == (1, (28, 28))
    assert InputSpecification.model_validate({**INPUT, **RGB}).channels == 3
    with pytest.raises(ValidationError, match="frozen"):
        specification.crop_fraction = 0.5  # pyright: ignore[reportAttributeAccessIssue]


RGB = {"channel_order": "RGB", "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("size", [28], "size"),
        ("size", [28, 0], "greater than 0"),
        ("size", [28.0, 28.5], "valid integer"),
        ("channel_order", "GBR", "'RGB', 'BGR' or 'L'"),
        ("resize", "long_side", "'short_side' or 'squash'"),
        ("crop_fraction", 0, "greater than 0"),
        ("crop_fraction", 1.01, "less than or equal to 1"),
        ("interpolation", "nearest", "'bilinear' or 'bicubic'"),
        ("antialias", False, "should be True"),
        ("mean", [0.1, 0.2, 0.3], "mean has 3 values; allowed: 1 for L"),
        ("std", [], "std has 0 values; allowed: 1 for L"),
        ("std", [0.0], "greater than 0"),
        ("mean", [math.nan], "finite"),
        ("mean", ["0.1"], "valid number"),
    ],
)
def test_refused_input_specifications(field: str, value: object, expected: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(expected)):
        InputSpecification.model_validate({**INPUT, field: value})


def test_metric_states_the_command_exactly_where_measured_here() -> None:
    known = {"name": "top-1 accuracy", "value": 94, "dataset": "toys", "split": "test"}
    measured = Metric.model_validate({**known, "origin": "measured here", "command": "mpncov-zoo evaluate tiny"})
    assert measured.value == 94.0
    for origin, command in (("measured here", None), ("paper", "mpncov-zoo evaluate tiny")):
        with pytest.raises(ValidationError, match=f"command is for origin 'measured here'.*origin is '{origin}'"):
            Metric.model_validate({**known, "origin": origin, "command": command})


# --- model.json -------------------------------------------------------------------------------------------------------


def description_refusal(tmp_path: Path, edit: Edit) -> str:
    data = copy.deepcopy(description())
    edit(data)
    (tmp_path / "model.json").write_text(json.dumps(data))
    with pytest.raises(ManifestError) as caught:
        parse_description(tmp_path / "model.json")
    return str(caught.value).removeprefix(f"{tmp_path / 'model.json'}: ")


def test_description_is_read_as_written(tmp_path: Path) -> None:
    parsed = parse_description(make_artifact(tmp_path, tag="own") / "model.json")
    assert (parsed.name, parsed.num_classes, parsed.labels_file) == ("tiny.own", 2, "assets/labels.txt")
    assert parsed.input == InputSpecification.model_validate(INPUT)
    assert len(parsed.files) == 4


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            lambda d: d.update(format_version=2),
            "format_version: received 2, allowed: 1. Written by a newer mpncov_zoo?",
        ),
        (lambda d: d.pop("format_version"), "format_version: received None, allowed: 1. "),
        (lambda d: d.update(run="x"), "document: unknown field 'run'; allowed: format_version, model, "),
        (lambda d: d["files"].append({**d["files"][0], "path": "model.json"}), "cannot carry its own digest"),
        (lambda d: d["files"][0].update(path="../labels.txt"), "files[0].path: allowed: a relative path"),
        (lambda d: d.update(labels_file="assets/names.txt"), "files lacks labels_file 'assets/names.txt'"),
        (lambda d: d.update(parameters=1.5), "parameters: Input should be a valid integer"),
    ],
)
def test_refused_descriptions(tmp_path: Path, edit: Edit, expected: str) -> None:
    assert expected in description_refusal(tmp_path, edit)
