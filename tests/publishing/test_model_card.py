"""The model card: what the Hub reads from its front matter, and what people read."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from mpncov_zoo.description import ArtifactDescription, parse_description
from mpncov_zoo.manifest import WeightsEntry, load_manifest
from mpncov_zoo.publishing.model_card import model_card
from tests.hub.artifacts import INPUT
from tests.publishing.publications import METRIC

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "mpncov_zoo" / "bundled" / "mpncov_cifar_resnet20.fashion_mnist"
HUB = "hf:owner/name@<40-hex commit>"
FILE = {"path": "model.json", "size": 1234567, "sha256": "0f" * 32}


def entry(**changes: Any) -> WeightsEntry:
    facts = {"dataset": "toys", "num_classes": 2, "labels_file": None, "input": INPUT, "parameters": 10}
    licences = {"code_licence": "MIT", "weights_licence": "MIT", "citation": "A. Author: A network"}
    files = {"files": [FILE], "sources": [{"kind": "file", "path": "/hub"}]}
    return WeightsEntry.model_validate({"model": "tiny", "tag": "toy", **facts, **licences, **files, **changes})


def description(**architecture: Any) -> ArtifactDescription:
    known = {"model": "tiny", "tag": "toy", "num_classes": 2, "labels_file": None, "input": INPUT, "parameters": 1234}
    made = {"provenance": {"kind": "trained"}, "versions": {"keras": "3.15.1"}, "files": []}
    return ArtifactDescription.model_validate({"architecture": architecture, **known, **made})


def card(changed: WeightsEntry | None = None, **architecture: Any) -> str:
    return model_card(changed or entry(), description(**architecture), hub=HUB)


def front_matter(text: str) -> dict[str, Any]:
    beginning, block, _ = text.split("---\n", 2)
    assert beginning == ""
    return yaml.safe_load(block)


def test_the_bundled_weights() -> None:
    published = load_manifest().get(BUNDLED.name)
    assert published is not None
    text = model_card(published, parse_description(BUNDLED / "model.json"), hub=HUB)
    data = front_matter(text)
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == (
        "apache-2.0",
        "mpncov_zoo",
        "image-classification",
    )
    assert data["datasets"] == ["zalando-datasets/fashion_mnist"]
    assert data["tags"] == ["mpncov", "isqrt-cov", "covariance-pooling", "cifar_resnet20"]
    (results,) = data["model-index"][0]["results"]
    assert results["dataset"] == {"name": "fashion_mnist", "type": "zalando-datasets/fashion_mnist", "split": "test"}
    assert [(metric["type"], metric["value"]) for metric in results["metrics"]] == [
        ("accuracy", 94.34),
        ("top-5-accuracy", 99.94),
    ]
    for path in BUNDLED.rglob("*"):
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            row = f"| {path.relative_to(BUNDLED).as_posix()} | {path.stat().st_size:,} | `{digest}` |"
            assert row in text
    assert published.citation in text and published.notes in text and '"kind": "trained"' in text
    assert "| 94.34 % | fashion_mnist |" in text and f"`{published.metrics[0].command}`" in text


def test_the_hubs_own_reader_reads_it_back() -> None:
    text = card(entry(metrics=[METRIC]), representation="gap", backbone="cifar_resnet20")
    read = ModelCard(text)
    data: Any = read.data  # its fields are those of the text
    assert str(read) == text and data.license == "mit" and data.tags == ["cifar_resnet20"]
    (result,) = data.eval_results
    assert (result.metric_value, result.dataset_split, result.dataset_type) == (
        12.5,
        "test",
        "zalando-datasets/fashion_mnist",
    )


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("CC-BY-NC-SA-4.0", {"license": "cc-by-nc-sa-4.0"}),
        ("MIT; trained on Fashion-MNIST (MIT)", {"license": "mit"}),
        ("MIT; not for trade", {"license": "other", "license_name": "mit-not-for-trade"}),
        ("GPL-3.0-or-later", {"license": "other", "license_name": "gpl-3.0-or-later"}),
        ("unknown", {"license": "other", "license_name": "unknown"}),
        ("«»", {"license": "other", "license_name": "other"}),
    ],
)
def test_licences(licence: str, expected: dict[str, str]) -> None:
    text = card(entry(weights_licence=licence))
    assert {key: value for key, value in front_matter(text).items() if key.startswith("license")} == expected
    assert f"- weights: {licence}\n- code that made them: MIT\n" in text


def test_what_the_hub_does_not_know_is_left_out() -> None:
    assert set(front_matter(card())) == {"library_name", "license", "pipeline_tag", "model_name"}
    assert "None are known." in card()


def test_the_papers_numbers_are_in_the_text_alone() -> None:
    paper = {key: value for key, value in METRIC.items() if key != "command"} | {"origin": "paper", "value": 22.5}
    text = card(entry(metrics=[METRIC, paper]))
    (result,) = front_matter(text)["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == [12.5]
    assert "| 22.5 % | fashion_mnist | test, one view, 60 images, 28x28 | paper |  |" in text


def test_text_that_would_end_the_front_matter_or_a_table_cell() -> None:
    text = card(entry(metrics=[METRIC], notes="---\nlicense: mine\n---", weights_licence="a: b\n---\nlicense: mine"))
    assert front_matter(text)["license"] == "other"
    assert "| `mpncov-zoo evaluate x --data 'a\\|b'` |" in text


def test_usage_input_and_provenance() -> None:
    text = card(representation="mpncov")
    assert f'mpncov_zoo.load("tiny.toy", pretrained=True, hub="{HUB}")' in text and "1,234 trainable parameters" in text
    assert "28x28 L; squash bilinear resize with antialias, centre crop of 1" in text and "mean [0.25]" in text
    block = text.partition("## Provenance\n\n```json\n")[2].partition("```")[0]
    assert json.loads(block) == {"provenance": {"kind": "trained"}, "versions": {"keras": "3.15.1"}}
    assert f"| model.json | 1,234,567 | `{'0f' * 32}` |" in text
