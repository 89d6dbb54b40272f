"""`mpncov-zoo publish`: the entry on standard output, everything else on standard error, refusals in one line."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from mpncov_zoo.manifest import WeightsEntry
from tests.command_line import Capture, assert_refused, run
from tests.hub.huggingface_server import HuggingFaceServer
from tests.publishing.publications import FACTS, NAME, revise, trained

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "mpncov_zoo" / "bundled" / "mpncov_cifar_resnet20.fashion_mnist"
OPTIONS = [
    "--code-licence",
    FACTS.code_licence,
    "--weights-licence",
    FACTS.weights_licence,
    "--citation",
    FACTS.citation,
]


@pytest.fixture
def artifact(artifact_hub: Path, tmp_path: Path) -> Path:
    return trained(artifact_hub, tmp_path / "artifact", metrics=())


def test_to_a_directory_with_a_measurement(capsys: Capture, artifact: Path, tmp_path: Path, tiny_fashion: Path) -> None:
    hub = tmp_path / "hub"
    arguments = ["publish", artifact, "--to", hub, "--data", tiny_fashion, "--notes", "Small.", *OPTIONS]
    code, out, err = run(capsys, *arguments)
    entry = WeightsEntry.model_validate_json(out)
    assert (
        code == 0 and f"{NAME} passes its self-test" in err and "files were read back from there, and verified" in err
    )
    assert (entry.name, entry.dataset, entry.notes) == (NAME, "fashion_mnist", "Small.")
    assert json.loads(out)["sources"] == [{"kind": "file", "path": str(hub)}]
    measured = json.loads(run(capsys, "evaluate", NAME, "--hub", hub, "--data", tiny_fashion, "--json")[1])
    values = {metric.name: metric.value for metric in entry.metrics}
    expected = {"top-1 accuracy": measured["top1_accuracy"], "top-5 accuracy": measured["top5_accuracy"]}
    assert values == {name: round(value, 2) for name, value in expected.items()}
    assert run(capsys, "predict", NAME, "--hub", hub, ROOT / "examples" / "images" / "ankle-boot.png")[0] == 0


def test_dry_run_of_the_bundled_weights_needs_no_facts_and_writes_nothing(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for target, source in (
        ("hf:owner/name", {"kind": "huggingface", "repo": "owner/name", "revision": "<40-hex commit>"}),
        ("hub", {"kind": "file", "path": str(tmp_path / "hub")}),
    ):
        code, out, err = run(capsys, "publish", BUNDLED, "--to", target, "--dry-run")
        card, brace, entry = out.partition('\n{\n  "model"')
        assert code == 0 and "Nothing was published" in err
        assert ModelCard(card).data.to_dict()["license"] == "apache-2.0" and "## Files" in card
        shown: dict[str, Any] = json.loads(brace + entry)
        assert shown["sources"] == [source] and shown["default"] is True
        installed = json.loads((ROOT / "weights_manifest.json").read_text())["entries"]
        (known,) = [entry for entry in installed if f"{entry['model']}.{entry['tag']}" == BUNDLED.name]
        assert {**shown, "sources": known["sources"]} == known
    assert list(tmp_path.iterdir()) == []


def test_to_hugging_face_from_a_process_of_its_own(tmp_path: Path) -> None:
    """With nothing but the environment to say which hub and which token."""
    with HuggingFaceServer() as server:
        command = [sys.executable, "-m", "mpncov_zoo", "publish", str(BUNDLED), "--to", "hf:owner/name"]
        environment = {**os.environ, **server.environment(tmp_path / "home", token="hf_write")}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        entry, held = WeightsEntry.model_validate_json(result.stdout), server.repositories["owner/name"].head
        assert json.loads(result.stdout)["sources"][0]["revision"] == held.oid
        for file in entry.files:
            assert held.files[f"{BUNDLED.name}/{file.path}"] == (BUNDLED / file.path).read_bytes()
        assert set(held.files) - {f"{BUNDLED.name}/{file.path}" for file in entry.files} == {
            ".gitattributes",
            "README.md",
            "index.json",
        }


def test_the_examples_are_command_lines(
    capsys: Capture, artifact: Path, tmp_path: Path, tiny_fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = run(capsys, "publish", "--help")[1].partition("example:\n")[2].replace("\\\n", "")
    first, second = (shlex.split(line) for line in text.strip().splitlines())
    replaced = {"runs/fashion/mpncov_cifar_resnet20.mine": artifact, "/usr/share/datasets/fashion-mnist": tiny_fashion}
    words = [replaced.get(word, word) for word in first[1:]]
    assert run(capsys, *words, "--dry-run")[0] == 0
    second[second.index("converted/efficientnet_lite0")] = str(BUNDLED)
    assert run(capsys, *second[1:])[0] == 0


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals(capsys: Capture, artifact: Path, tmp_path: Path) -> None:
    def refused(*arguments: object, exit_code: int = 2, pieces: tuple[str, ...]) -> None:
        assert_refused(run(capsys, "publish", *arguments), *pieces, exit_code=exit_code, lines=1)
        assert not (tmp_path / "hub").exists()

    hub = ["--to", tmp_path / "hub"]
    refused(artifact, *hub, pieces=("--code-licence, --weights-licence, --citation", "For example: mpncov-zoo publish"))
    refused(artifact, *hub, *OPTIONS, pieces=("nothing says how well it does. Measure it: --data DIRECTORY",))
    refused(artifact, "--to", "hf:../name", *OPTIONS, pieces=("'hf:../name': allowed: hf:owner/name",))
    refused(artifact, *hub, *OPTIONS, "--weights-licence", "not stated", pieces=("Obtain the permission",))
    refused(artifact, *hub, *OPTIONS, "--private", pieces=("--private is of Hugging Face repositories",))
    (artifact / "extra").write_bytes(b"x")
    refused(artifact, *hub, *OPTIONS, exit_code=1, pieces=("'extra': expected no such file, got 1 bytes",))
    revise(artifact)
    (artifact / "assets" / "labels.txt").unlink()
    refused(artifact, *hub, *OPTIONS, exit_code=1, pieces=("'assets/labels.txt': expected", "got no such file"))
    code, out, err = run(capsys, "publish", artifact)
    assert (code, out) == (2, "") and err.endswith("error: the following arguments are required: --to\n")


def test_data_that_is_not_there(capsys: Capture, artifact: Path, tmp_path: Path) -> None:
    arguments = ["publish", artifact, "--to", tmp_path / "hub", *OPTIONS, "--data", tmp_path / "none"]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and not (tmp_path / "hub").exists()
    assert err.splitlines()[-1].startswith(f"mpncov-zoo: error: {tmp_path / 'none'}/t10k-images-idx3-ubyte.gz does not")


def test_without_a_token(capsys: Capture, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HuggingFaceServer() as server:
        server.use(monkeypatch, tmp_path / "home")
        code, out, err = run(capsys, "publish", BUNDLED, "--to", "hf:owner/name")
        assert (code, out) == (2, "") and not server.requests
        assert "error: hf:owner/name: there is no token on this machine. Log in with a token" in err.splitlines()[-1]
