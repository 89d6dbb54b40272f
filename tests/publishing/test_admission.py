"""What must not be published, however well it is wrapped."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpncov_zoo.description import parse_description
from mpncov_zoo.errors import ConversionError, InputError, IntegrityError
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.manifest import Upstream
from mpncov_zoo.publishing import admission
from mpncov_zoo.publishing.admission import require_publishable, require_same_source, self_test
from mpncov_zoo.publishing.manifest_entry import Facts, describe
from tests.hub import artifacts
from tests.publishing.publications import (
    CONVERSION,
    FACTS,
    METRIC,
    MODEL,
    NAME,
    SOURCE,
    converted,
    passed,
    revise,
    trained,
)


def check(artifact: Path, *, measured: bool = False, licence: str = "MIT") -> None:
    facts = Facts("fashion_mnist", FACTS.code_licence, licence, FACTS.citation)
    description = parse_description(artifact / "model.json")
    entry = describe(artifact, description, describe_files(artifact, exclude=()), facts, artifacts.manifest())
    require_publishable(artifact, description, entry, measured=measured)


def refusal(artifact: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        check(artifact, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", [trained, converted])
def test_trained_and_measured_or_converted_and_passed(artifact_hub: Path, tmp_path: Path, make: Any) -> None:
    check(make(artifact_hub, tmp_path / "artifact"))


@pytest.mark.parametrize("licence", ["not stated", "Not stated ", "NOT STATED"])
@pytest.mark.parametrize("make", [trained, converted])
def test_weights_without_a_licence(artifact_hub: Path, tmp_path: Path, make: Any, licence: str) -> None:
    message = refusal(make(artifact_hub, tmp_path / "artifact"), licence=licence)
    assert "must not be published. Obtain the permission" in message and "--weights-licence" in message


@pytest.mark.parametrize("kind", ["test", "merged", None, ["trained"], {"kind": "trained"}])
def test_origins_that_nobody_vouches_for(artifact_hub: Path, tmp_path: Path, kind: Any) -> None:
    artifact = revise(trained(artifact_hub, tmp_path / "artifact"), provenance={"kind": kind})
    message = refusal(artifact)
    assert f"received provenance of kind {kind!r}; allowed: 'conversion', 'trained'" in message


def test_trained_weights_that_nobody_measured(artifact_hub: Path, tmp_path: Path) -> None:
    reported = {**METRIC, "origin": "reported by upstream", "command": None}
    for number, metrics in enumerate(((), (reported,))):
        artifact = trained(artifact_hub, tmp_path / str(number), metrics=metrics)
        assert "Measure it: --data DIRECTORY" in refusal(artifact)
        check(artifact, measured=True)


def test_a_conversion_without_parity(artifact_hub: Path, tmp_path: Path) -> None:
    artifact = converted(artifact_hub, tmp_path / "artifact", parity=None, verdict="unchecked")
    assert "the verdict of certificate.json is 'unchecked'. Convert again with --parity" in refusal(artifact)
    (artifact / "certificate.json").unlink()
    assert "a conversion without certificate.json is not published" in refusal(revise(artifact, provenance=CONVERSION))


def test_a_conversion_that_drifts(artifact_hub: Path, tmp_path: Path) -> None:
    parity = json.loads(json.dumps(passed()["parity"]))
    parity["cases"][0]["stages"][0]["tensorflow"] = 0.5
    drifting = converted(artifact_hub, tmp_path / "drifting", parity=parity, verdict="failed")
    assert "the verdict of certificate.json is 'failed'" in refusal(drifting)
    with pytest.raises(ConversionError, match="verdict: received 'passed', the parity says 'failed'"):
        check(converted(artifact_hub, tmp_path / "lying", parity=parity))


@pytest.mark.parametrize(
    "changes",
    [{"tag": "other"}, {"model": "resnet50"}, {"map_sha256": "ef" * 32}, {"source": {**SOURCE, "sha256": "12" * 32}}],
)
def test_a_certificate_of_something_else(artifact_hub: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    artifact = converted(artifact_hub, tmp_path / "artifact", **changes)
    assert f"certificate.json is of another conversion than {NAME}" in refusal(artifact)


def test_weights_under_the_name_of_a_published_checkpoint(artifact_hub: Path, tmp_path: Path) -> None:
    upstream = {"url": "https://example.org/a.pth", "file_name": "a.pth", "converter": "upstream_pytorch"}
    theirs = parse_description(converted(artifact_hub, tmp_path / "theirs") / "model.json")
    own = parse_description(trained(artifact_hub, tmp_path / "own") / "model.json")
    for digest in ({"sha256": SOURCE["sha256"]}, {"sha256_prefix": SOURCE["sha256"][:8]}, {}):
        require_same_source(theirs, Upstream.model_validate({**upstream, **digest}))
        with pytest.raises(InputError, match=f"{NAME} is the name of a.pth .*come from something else"):
            require_same_source(own, Upstream.model_validate({**upstream, **digest}))
    with pytest.raises(InputError, match=f"with sha256 {'00' * 4}; these weights come from {SOURCE['sha256']}"):
        require_same_source(theirs, Upstream.model_validate({**upstream, "sha256_prefix": "00" * 4}))


def test_a_network_that_computes_something_else(artifact_hub: Path, tmp_path: Path) -> None:
    self_test(artifact_hub / NAME, MODEL)
    artifact = tmp_path / "artifact"
    shutil.copytree(artifact_hub / NAME, artifact)
    with np.load(artifact / "selftest.npz") as record:
        recorded = {name: record[name] for name in record.files}
    np.savez(artifact / "selftest.npz", **{**recorded, "logits": recorded["logits"] + 0.01})
    with pytest.raises(IntegrityError, match=r"logits differs by .* of its largest value from the record"):
        self_test(revise(artifact), MODEL)


def test_measurements_are_those_of_evaluate(artifact_hub: Path, tmp_path: Path, tiny_fashion: Path) -> None:
    from mpncov_zoo import load
    from mpncov_zoo.training.datasets import read_dataset

    artifact = trained(artifact_hub, tmp_path / "artifact", metrics=())
    description = parse_description(artifact / "model.json")
    entry = describe(artifact, description, describe_files(artifact, exclude=()), FACTS, artifacts.manifest())
    top1, top5 = admission.measure(artifact, entry, tiny_fashion)
    images, model = read_dataset("fashion_mnist", tiny_fashion, "test"), load(MODEL, True, hub=artifact)
    logits = np.concatenate([model(model.preprocess(list(images.pixels[..., 0])))])
    right = np.argsort(-logits, axis=1)[:, :5] == images.labels[:, None]
    assert (top1.value, top5.value) == (round(100 * right[:, 0].mean(), 2), round(100 * right.sum() / 60, 2))
    assert top1.protocol == "test, one view, 60 images, 28x28" and top1.origin == "measured here"
    assert top1.command == f"mpncov-zoo evaluate {NAME} --data {tiny_fashion}"
