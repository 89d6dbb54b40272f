"""Publishing from end to end: to a directory and to a server that the real client speaks to, and back by `load`."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpncov_zoo
from mpncov_zoo.errors import FetchError, InputError, IntegrityError, UnknownModel
from mpncov_zoo.hub.resolve import resolve
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.manifest import Manifest, WeightsEntry, load_manifest
from mpncov_zoo.publishing import publication
from mpncov_zoo.publishing.manifest_entry import plain
from mpncov_zoo.publishing.publication import prepare, publish
from tests.hub import artifacts
from tests.hub.huggingface_server import HuggingFaceServer
from tests.publishing.publications import CONVERSION, FACTS, MODEL, NAME, SOURCE, converted, revise, trained

IMAGE = Path(__file__).parents[2] / "examples" / "images" / "ankle-boot.png"
REPO = "owner/name"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HuggingFaceServer]:
    with HuggingFaceServer() as running:
        running.use(monkeypatch, tmp_path / "home", token="hf_write")
        monkeypatch.setenv("MPNCOV_ZOO_CACHE", str(tmp_path / "cache"))
        yield running


@pytest.fixture
def artifact(artifact_hub: Path, tmp_path: Path) -> Path:
    return trained(artifact_hub, tmp_path / "artifact")


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def logits(hub: str | Path) -> np.ndarray:
    model = mpncov_zoo.load(NAME, True, hub=hub)
    return np.asarray(model(model.preprocess(IMAGE)))


def with_entry(entry: WeightsEntry) -> Manifest:
    """What somebody makes of this installation's manifest who pastes the entry."""
    others = [plain(other) for other in load_manifest().entries]
    return Manifest.model_validate_json(json.dumps({"schema_version": 1, "entries": [*others, plain(entry)]}))


def run_example(card: str, hub: str) -> list[Any]:
    """What the card's Python prints for a real image."""
    code = card.partition("```python\n")[2].partition("```")[0].replace("image.jpg", str(IMAGE))
    printed: list[Any] = []
    exec(code.replace("<this folder, or its URL>", hub), {"print": printed.append})
    return printed


def test_to_a_directory(artifact: Path, tmp_path: Path) -> None:
    hub, before = tmp_path / "hub", contents(artifact)
    entry = publish(artifact, hub, facts=FACTS)
    assert contents(hub / NAME) == contents(artifact) == before
    assert json.loads((hub / "index.json").read_text())["artifacts"] == [NAME]
    assert plain(entry)["sources"] == [{"kind": "file", "path": str(hub)}]
    assert entry.files == describe_files(artifact, exclude=())
    assert (
        not entry.default and with_entry(entry).get(NAME) == entry
    )  # the model's default weights stay the bundled ones
    model = mpncov_zoo.load(NAME, True, hub=artifact)
    expected = model.decode(model(model.preprocess(IMAGE)), top=3)
    assert run_example((hub / f"{NAME}.md").read_text(), str(hub)) == [expected]
    assert publish(artifact, hub, facts=FACTS) == entry
    publish(revise(artifact, tag="second"), hub, facts=FACTS)
    assert json.loads((hub / "index.json").read_text())["artifacts"] == [f"{MODEL}.second", NAME]


def test_to_hugging_face(server: HuggingFaceServer, artifact: Path) -> None:
    entry = publish(artifact, f"hf:{REPO}", facts=FACTS, private=True)
    repository = server.repositories[REPO]
    assert repository.private
    files = {path: data for path, data in repository.head.files.items() if path.startswith(f"{NAME}/")}
    assert files == {f"{NAME}/{path}": data for path, data in contents(artifact).items()}
    assert json.loads(repository.head.files["index.json"])["artifacts"] == [NAME]
    assert repository.head.files["README.md"].decode() == prepare(artifact, f"hf:{REPO}", facts=FACTS).card
    revision = repository.head.oid
    assert plain(entry)["sources"] == [{"kind": "huggingface", "repo": REPO, "revision": revision}]
    resolved = resolve(MODEL, "test", manifest=with_entry(entry))  # from where the entry says
    assert contents(resolved.directory) == contents(artifact)
    assert np.array_equal(logits(f"hf:{REPO}@{revision}"), logits(artifact))
    assert {request.authorization for request in server.requests if request.storage} == {None}


def test_a_new_version_leaves_the_old_one_where_it_is(server: HuggingFaceServer, artifact: Path) -> None:
    (artifact / "report.html").write_text("old")
    first = publish(revise(artifact), f"hf:{REPO}", facts=FACTS)
    (artifact / "report.html").unlink()
    second = publish(revise(artifact), f"hf:{REPO}", facts=FACTS)
    assert f"{NAME}/report.html" not in server.repositories[REPO].head.files
    for entry in (first, second):
        found = resolve(MODEL, "test", manifest=with_entry(entry))
        assert (found.directory / "report.html").exists() == (entry is first)
    with pytest.raises(InputError, match=f"hf:{REPO} is the repository of {NAME}; one holds one set of weights"):
        publish(revise(artifact, tag="second"), f"hf:{REPO}", facts=FACTS)


def test_a_conversion_takes_the_place_of_its_checkpoint(artifact_hub: Path, tmp_path: Path) -> None:
    upstream = {"url": "https://example.org/a.pth", "file_name": "a.pth", "converter": "upstream_pytorch"}
    known = {**artifacts.upstream(tag="test"), "model": MODEL, "num_classes": 10}
    known["upstream"] = {**upstream, "sha256_prefix": SOURCE["sha256"][:8]}
    artifact = converted(artifact_hub, tmp_path / "artifact")
    entry = publish(artifact, tmp_path / "hub", manifest=artifacts.manifest(known))
    assert entry.upstream is None and entry.default and len(entry.files) == len(contents(artifact))
    assert (entry.dataset, entry.weights_licence) == ("toys", "Apache-2.0")
    known["upstream"]["sha256_prefix"] = "00" * 4
    with pytest.raises(InputError, match="Give them another tag"):
        publish(artifact, tmp_path / "hub", manifest=artifacts.manifest(known))


def test_measured_accuracy_takes_the_place_of_an_older_measurement(
    artifact: Path, tmp_path: Path, tiny_fashion: Path
) -> None:
    prepared = prepare(artifact, tmp_path / "hub", facts=FACTS, measured=True)
    (old,) = prepared.entry.metrics
    new = publication.examine(prepared, tiny_fashion)
    assert [metric.name for metric in new.entry.metrics] == ["top-1 accuracy", "top-5 accuracy"]
    assert old not in new.entry.metrics and old.protocol == new.entry.metrics[0].protocol
    assert f"| {new.entry.metrics[1].value:g} % |" in new.card


# --- what is refused, with nothing written ----------------------------------------------------------------------------


def test_files_that_are_not_the_artifacts(server: HuggingFaceServer, artifact: Path, tmp_path: Path) -> None:
    path = artifact / "variables" / "variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    for target in (f"hf:{REPO}", tmp_path / "hub"):
        with pytest.raises(IntegrityError, match=r"'variables/variables\.data.*expected sha256"):
            publish(artifact, target, facts=FACTS)
    assert not server.requests and not (tmp_path / "hub").exists()


def test_an_artifact_that_changes_while_it_is_examined(artifact: Path, tmp_path: Path) -> None:
    prepared = prepare(artifact, tmp_path / "hub", facts=FACTS)
    (artifact / "saved_model.pb").write_bytes(b"another")
    with pytest.raises(IntegrityError, match=r"was changed while it was examined\. Nothing was published"):
        publication.send(prepared)
    assert not (tmp_path / "hub").exists()


def test_a_failed_self_test(artifact: Path, tmp_path: Path) -> None:
    with np.load(artifact / "selftest.npz") as record:
        recorded = {name: record[name] for name in record.files}
    np.savez(artifact / "selftest.npz", **{**recorded, "stage1": 2 * recorded["stage1"]})
    with pytest.raises(IntegrityError, match="stage1 differs by"):
        publish(revise(artifact), tmp_path / "hub", facts=FACTS)
    assert not (tmp_path / "hub").exists()


def test_what_is_no_artifact_or_of_no_network(artifact: Path, artifact_hub: Path, tmp_path: Path) -> None:
    for directory in (artifact_hub, tmp_path / "missing", artifact / "model.json"):
        with pytest.raises(InputError, match=r"expected an artifact directory, which holds model\.json"):
            prepare(directory, tmp_path / "hub", facts=FACTS)
    with pytest.raises(UnknownModel, match="mpncov_cifar_resnet21"):
        prepare(revise(artifact, model="mpncov_cifar_resnet21"), tmp_path / "hub", facts=FACTS)


def test_the_name_of_other_published_weights(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{MODEL}.fashion_mnist is published with other files"):
        prepare(revise(artifact, tag="fashion_mnist"), tmp_path / "hub", facts=FACTS)


@pytest.mark.parametrize("target", ["hf:", "hf:name", "hf:owner/name@main", "hf:../..", "hf:owner/a b", "hf:a/b/c"])
def test_repositories_that_are_none(artifact: Path, target: str) -> None:
    with pytest.raises(InputError, match="allowed: hf:owner/name, of letters"):
        prepare(artifact, target, facts=FACTS)


def test_directories_that_are_none(artifact: Path, tmp_path: Path) -> None:
    before = contents(artifact)
    for target, message in (
        ("https://example.org/hub", "whose files any https server can serve"),
        ("s3://bucket/hub", "allowed: hf:owner/name, or a directory"),
        (artifact, "an artifact holds its own files alone"),
        (artifact / "hub", "an artifact holds its own files alone"),
        (artifact / "model.json", "an artifact holds its own files alone"),
    ):
        with pytest.raises(InputError, match=message):
            prepare(artifact, target, facts=FACTS)
    with pytest.raises(InputError, match="--private is of Hugging Face repositories"):
        prepare(artifact, tmp_path / "hub", facts=FACTS, private=True)
    assert contents(artifact) == before and not (tmp_path / "hub").exists()


def test_a_conversion_needs_its_certificate_here_too(artifact_hub: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact_hub / NAME, tmp_path / "artifact")
    with pytest.raises(InputError, match=r"a conversion without certificate\.json"):
        facts = publication.Facts("toys", "MIT", "MIT", "A. Author")
        prepare(revise(tmp_path / "artifact", provenance=CONVERSION), tmp_path / "hub", facts=facts)


# --- read back --------------------------------------------------------------------------------------------------------


def test_what_comes_back_is_held_to_what_was_sent(
    server: HuggingFaceServer, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = publication.upload

    def damaged(*args: Any, **options: Any) -> str:
        commit = upload(*args, **options)
        files = server.repositories[REPO].head.files
        files[f"{NAME}/saved_model.pb"] = files[f"{NAME}/saved_model.pb"][:-1] + b"!"
        return commit

    monkeypatch.setattr(publication, "upload", damaged)
    with pytest.raises(IntegrityError) as caught:
        publish(artifact, f"hf:{REPO}", facts=FACTS)
    message = str(caught.value)
    assert message.startswith(f"hf:{REPO}@{server.repositories[REPO].head.oid} was written, but does not come back")
    assert "saved_model.pb" in message


def test_a_hub_that_forbids_reading_back(
    server: HuggingFaceServer, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refused[f"/{REPO}/resolve"] = 403
    with pytest.raises(FetchError, match="was written, but does not come back as it should; publish again: "):
        publish(artifact, f"hf:{REPO}", facts=FACTS)
