"""An artifact's entry: where each fact comes from, and what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from mpncov_zoo.description import parse_description
from mpncov_zoo.errors import InputError
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.manifest import Manifest, WeightsEntry
from mpncov_zoo.publishing.manifest_entry import Facts, describe, plain
from tests.hub import artifacts
from tests.publishing.publications import FACTS, METRIC, MODEL, NAME, trained

NOTHING = artifacts.manifest()


@pytest.fixture
def artifact(artifact_hub: Path, tmp_path: Path) -> Path:
    return trained(artifact_hub, tmp_path / "artifact")


def described(artifact: Path, facts: Facts = FACTS, manifest: Manifest = NOTHING) -> WeightsEntry:
    files = describe_files(artifact, exclude=())
    return describe(artifact, parse_description(artifact / "model.json"), files, facts, manifest)


def known(tag: str = "test", **changes: Any) -> dict[str, Any]:
    """An entry of the model that is published as a checkpoint."""
    return {**artifacts.upstream(tag=tag), "model": MODEL, "num_classes": 10, "dataset": "clothes", **changes}


def test_of_the_artifact_and_the_facts(artifact: Path) -> None:
    entry, description = described(artifact), json.loads((artifact / "model.json").read_text())
    assert entry.name == NAME and entry.default
    for field in ("num_classes", "labels_file", "input", "parameters", "metrics"):
        assert plain(entry)[field] == description[field], field
    assert (entry.dataset, entry.citation, entry.notes) == ("fashion_mnist", FACTS.citation, "")
    assert entry.options == {"features": {"repeats": 1}}  # what the fixture was built with; the table says 3
    assert {file.path for file in entry.files} == {file["path"] for file in description["files"]} | {"model.json"}


def test_it_survives_json(artifact: Path) -> None:
    text = json.dumps(plain(described(artifact)))
    assert WeightsEntry.model_validate_json(text) == described(artifact)
    assert {"upstream", "trunk", "notes"}.isdisjoint(json.loads(text))


def test_what_the_manifest_knows_is_kept_unless_told_otherwise(artifact: Path) -> None:
    reported = {**METRIC, "origin": "reported by upstream", "command": None, "value": 11.0}
    manifest = artifacts.manifest(known(metrics=[reported], notes="Old.", citation="Theirs"))
    entry = described(artifact, Facts(weights_licence="CC0-1.0"), manifest)
    assert (entry.dataset, entry.citation, entry.notes) == ("clothes", "Theirs", "Old.")
    assert (entry.code_licence, entry.weights_licence) == ("Apache-2.0", "CC0-1.0")
    assert [metric.value for metric in entry.metrics] == [11.0, 12.5]
    assert entry.upstream is None and entry.default


@pytest.mark.parametrize(
    ("others", "default"),
    [
        ([], True),
        ([known(tag="other")], False),
        ([known(tag="other"), known(default=False)], False),
        ([known(tag="other", default=False), known()], True),
    ],
)
def test_the_default_stays_what_it_is(artifact: Path, others: list[dict[str, Any]], default: bool) -> None:
    assert described(artifact, manifest=artifacts.manifest(*others)).default is default


def test_everything_that_is_missing_is_named_at_once(artifact: Path) -> None:
    with pytest.raises(InputError) as caught:
        described(artifact, Facts(citation="", weights_licence="MIT"))
    message = str(caught.value)
    assert f"{NAME} is not in the manifest, so it has to be told: --code-licence, --citation. For example: " in message
    assert f"mpncov-zoo publish {artifact} --to hf:owner/name" in message and "--dataset, " not in message


def test_the_data_set_has_to_be_told_where_no_recipe_says_it(artifact_hub: Path) -> None:
    with pytest.raises(InputError, match=r"told: --dataset, --code-licence, --weights-licence, --citation\. "):
        described(artifact_hub / NAME, Facts())


def test_an_artifact_that_makes_no_entry(artifact: Path) -> None:
    description = parse_description(artifact / "model.json").model_copy(update={"num_classes": 0})
    with pytest.raises(InputError, match=f"{NAME} makes no entry of a manifest: num_classes: "):
        describe(artifact, description, describe_files(artifact, exclude=()), FACTS, NOTHING)
