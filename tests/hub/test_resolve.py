"""From a name to a verified directory: which artifact is meant, what it is checked against, and every refusal."""

import json
import os
from pathlib import Path

import pytest

from mpncov_zoo.errors import FetchError, IntegrityError, ManifestError, NoPretrainedWeights, OfflineError
from mpncov_zoo.hub import resolve as resolving
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.resolve import TRUST_MANIFEST, TRUST_OWN, resolve
from mpncov_zoo.hub.verification import describe_files, sha256
from mpncov_zoo.manifest import WeightsEntry, load_manifest
from tests.hub.artifacts import make_artifact, manifest, published, upstream

NOTHING_PUBLISHED = manifest()


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose wheel carries tiny.toy."""
    monkeypatch.setattr(resolving, "BUNDLED", tmp_path / "bundled")
    return make_artifact(tmp_path / "bundled" / "tiny.toy")


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A directory of three artifacts."""
    for model, tag in (("tiny", "toy"), ("tiny", "own"), ("other", "toy")):
        make_artifact(tmp_path / "hub" / f"{model}.{tag}", model=model, tag=tag)
    return tmp_path / "hub"


def make_consistent(artifact: Path) -> None:
    """Give model.json the digests of the files as they are now, as whoever edits them would."""
    data = json.loads((artifact / "model.json").read_text())
    data["files"] = [file.model_dump() for file in describe_files(artifact)]
    (artifact / "model.json").write_text(json.dumps(data))


# --- bundled ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [None, "toy"])
def test_bundled_weights_are_checked_against_the_manifest(bundled: Path, tag: str | None) -> None:
    known = manifest(published(bundled))
    artifact = resolve("tiny", tag, manifest=known)
    assert artifact.directory == bundled
    assert artifact.entry == known.entries[0]
    assert artifact.trust == TRUST_MANIFEST
    assert artifact.description.name == "tiny.toy"


def test_bundled_weights_edited_together_with_their_own_list_are_refused(bundled: Path) -> None:
    known = manifest(published(bundled))
    (bundled / "saved_model.pb").write_bytes(b"GRAPH")
    make_consistent(bundled)
    with pytest.raises(IntegrityError, match=r"tiny\.toy: 'model\.json': expected sha256"):
        resolve("tiny", None, manifest=known)


def test_published_files_are_verified_before_model_json_is_parsed(bundled: Path) -> None:
    known = manifest(published(bundled))
    (bundled / "model.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"'model\.json': expected \d+ bytes, got 1"):
        resolve("tiny", None, manifest=known)


def test_bundled_directory_that_is_missing(bundled: Path) -> None:
    known = manifest(published(bundled))
    bundled.rename(bundled.with_name("elsewhere"))
    with pytest.raises(FetchError, match=r"tiny\.toy is missing.*Reinstall mpncov-zoo"):
        resolve("tiny", None, manifest=known)


def test_weights_that_would_have_to_be_downloaded_are_not_offline(bundled: Path, tmp_path: Path) -> None:
    known = manifest(published(bundled, kind="https"))
    with pytest.raises(OfflineError, match=r"^tiny\.toy of https://example\.org is not in the cache .*cache prefetch"):
        resolve("tiny", None, manifest=known, cache_dir=tmp_path / "cache", offline=True)
    assert not (tmp_path / "cache").exists()


def test_weights_that_would_have_to_be_converted() -> None:
    message = (
        r"^tiny\.toy is published as tiny\.pth at https://example\.org/tiny\.pth, which was not converted here yet: "
    )
    with pytest.raises(FetchError, match=message):
        resolve("tiny", None, manifest=manifest(upstream()))


DIGEST = "0123456789abcdef" * 4


class Conversion:
    """Stands in for the conversion of a checkpoint: an artifact appears in the cache, and is remembered."""

    def __init__(self, provenance: dict[str, object]) -> None:
        self.calls = 0
        self._provenance = provenance

    def __call__(self, cache: Cache, entry: WeightsEntry, offline: bool) -> None:
        self.calls += 1
        with cache.scratch("conversion") as scratch:
            artifact = make_artifact(scratch / entry.name)
            data = json.loads((artifact / "model.json").read_text())
            (artifact / "model.json").write_text(json.dumps({**data, "provenance": self._provenance}))
            digest = sha256(artifact / "model.json")
            cache.adopt(artifact, entry.name)
        cache.remember("converted", entry.name, digest)


@pytest.mark.parametrize(
    ("pinned", "trust"),
    [
        ({}, "for which no digest is published; the file is pinned by this one since its first use here"),
        ({"sha256": DIGEST}, "which agrees with the manifest's sha256"),
        ({"sha256_prefix": DIGEST[:8]}, "which agrees with the published prefix 01234567: that finds damage, and"),
    ],
)
def test_what_was_converted_from_the_published_file(tmp_path: Path, pinned: dict[str, str], trust: str) -> None:
    entry = upstream()
    entry["upstream"] |= pinned
    convert = Conversion({"source": {"sha256": DIGEST}})
    found = [
        resolve("tiny", None, manifest=manifest(entry), cache_dir=tmp_path / "cache", convert=convert) for _ in "ab"
    ]
    assert convert.calls == 1 and found[0] == found[1]
    assert found[0].directory.parent == tmp_path / "cache" / "artifacts"
    assert found[0].entry is not None and found[0].entry.name == "tiny.toy"
    assert f"(sha256 {DIGEST}, {trust}" in found[0].trust


@pytest.mark.parametrize("file", ["saved_model.pb", "model.json", "variables/variables.index"])
def test_a_conversion_that_was_edited_is_refused(tmp_path: Path, file: str) -> None:
    convert = Conversion({"source": {"sha256": DIGEST}})
    options = {"manifest": manifest(upstream()), "cache_dir": tmp_path, "convert": convert}
    path = resolve("tiny", None, **options).directory / file
    content = path.read_bytes()
    path.unlink()  # its blob is the same file under another name
    path.write_bytes(content + b" ")
    message = rf"'{file}': expected {len(content)} bytes, got {len(content) + 1}\..*mpncov-zoo cache repair"
    with pytest.raises(IntegrityError, match=message):
        resolve("tiny", None, **options)


@pytest.mark.parametrize("provenance", [{}, {"source": "x"}, {"source": {"sha256": "f" * 64}}])
def test_what_was_converted_from_another_file_is_refused(tmp_path: Path, provenance: dict[str, object]) -> None:
    entry = upstream()
    entry["upstream"]["sha256_prefix"] = "01234567"
    with pytest.raises(IntegrityError, match=r"expected a conversion of tiny\.pth with sha256 01234567, got one of"):
        resolve("tiny", None, manifest=manifest(entry), cache_dir=tmp_path, convert=Conversion(provenance))


def test_every_published_upstream_entry_says_where_it_is(tmp_path: Path) -> None:
    for entry in load_manifest().entries:
        if entry.upstream is not None:
            with pytest.raises(FetchError) as caught:
                resolve(entry.model, entry.tag, manifest=load_manifest(), cache_dir=tmp_path)
            assert entry.upstream.locations[0] in str(caught.value)


def test_unknown_tag_lists_the_tags_there_are() -> None:
    known = manifest(upstream(), upstream(tag="second", default=False))
    with pytest.raises(NoPretrainedWeights, match=r"Received: tag 'imagenet'; allowed: toy, second$"):
        resolve("tiny", "imagenet", manifest=known)


def test_model_without_weights() -> None:
    with pytest.raises(NoPretrainedWeights, match=r"^'resnet26' has no .*Received: the default tag; allowed: none$"):
        resolve("resnet26", None, manifest=NOTHING_PUBLISHED)


# --- hub=: one artifact -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [None, "own"])
def test_unpublished_artifact_vouches_for_itself(hub: Path, tag: str | None) -> None:
    artifact = resolve("tiny", tag, hub=hub / "tiny.own", manifest=manifest(upstream()))
    assert artifact.directory == hub / "tiny.own"
    assert artifact.entry is None
    assert artifact.trust == TRUST_OWN
    assert artifact.description.parameters == 10


def test_artifact_directory_may_have_any_name(tmp_path: Path) -> None:
    make_artifact(tmp_path / "run 7")
    assert resolve("tiny", None, hub=str(tmp_path / "run 7"), manifest=NOTHING_PUBLISHED).description.tag == "toy"


def test_artifact_converted_from_upstream_vouches_for_itself(hub: Path) -> None:
    artifact = resolve("tiny", "toy", hub=hub / "tiny.toy", manifest=manifest(upstream()))
    assert (artifact.entry, artifact.trust) == (None, TRUST_OWN)


def test_published_artifact_is_checked_against_the_manifest_wherever_it_lies(hub: Path) -> None:
    known = manifest(published(hub / "tiny.toy"))
    assert resolve("tiny", None, hub=hub / "tiny.toy", manifest=known).trust == TRUST_MANIFEST
    (hub / "tiny.toy" / "saved_model.pb").write_bytes(b"GRAPH")
    make_consistent(hub / "tiny.toy")
    with pytest.raises(IntegrityError, match="expected sha256"):
        resolve("tiny", None, hub=hub / "tiny.toy", manifest=known)


def test_artifact_of_another_model(hub: Path) -> None:
    with pytest.raises(NoPretrainedWeights, match=r"tiny\.own holds weights of 'tiny', not of 'other'$"):
        resolve("other", None, hub=hub / "tiny.own", manifest=NOTHING_PUBLISHED)


def test_artifact_of_another_tag(hub: Path) -> None:
    with pytest.raises(NoPretrainedWeights, match=r"Received: tag 'toy'; allowed: own$"):
        resolve("tiny", "toy", hub=hub / "tiny.own", manifest=NOTHING_PUBLISHED)


def test_edited_unpublished_artifact(hub: Path) -> None:
    (hub / "tiny.own" / "saved_model.pb").write_bytes(b"GRAPH")
    with pytest.raises(IntegrityError, match=r"tiny\.own: 'saved_model\.pb': expected sha256"):
        resolve("tiny", None, hub=hub / "tiny.own", manifest=NOTHING_PUBLISHED)


def test_unpublished_artifact_with_an_extra_file(hub: Path) -> None:
    (hub / "tiny.own" / "keras_metadata.pb").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"'keras_metadata\.pb': expected no such file, got 0 bytes"):
        resolve("tiny", None, hub=hub / "tiny.own", manifest=NOTHING_PUBLISHED)


def test_truncated_model_json(hub: Path) -> None:
    path = hub / "tiny.own" / "model.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ManifestError, match=r"model\.json: not valid JSON \(damaged or truncated\?\)"):
        resolve("tiny", None, hub=hub / "tiny.own", manifest=NOTHING_PUBLISHED)


def test_model_json_that_is_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.json")
    with pytest.raises(ManifestError, match=r"model\.json: expected a regular file, got a directory, pipe or device"):
        resolve("tiny", None, hub=tmp_path, manifest=NOTHING_PUBLISHED)


# --- hub=: a directory of artifacts -----------------------------------------------------------------------------------


def test_directory_of_artifacts_with_a_tag(hub: Path) -> None:
    assert resolve("tiny", "own", hub=hub, manifest=NOTHING_PUBLISHED).directory == hub / "tiny.own"


def test_directory_of_artifacts_prefers_the_manifests_default(hub: Path) -> None:
    known = manifest(upstream(tag="own"), upstream(tag="toy", default=False))
    assert resolve("tiny", None, hub=hub, manifest=known).directory == hub / "tiny.own"


def test_directory_of_artifacts_takes_the_only_one_of_the_model(hub: Path) -> None:
    assert resolve("other", None, hub=hub, manifest=NOTHING_PUBLISHED).directory == hub / "other.toy"


def test_directory_of_artifacts_with_several_and_no_default(hub: Path) -> None:
    with pytest.raises(NoPretrainedWeights, match=r"several weights of 'tiny'.*allowed: own, toy$"):
        resolve("tiny", None, hub=hub, manifest=NOTHING_PUBLISHED)


@pytest.mark.parametrize("tag", ["imagenet", "../other.toy", "toy/../../x"])
def test_directory_of_artifacts_without_the_tag(hub: Path, tag: str) -> None:
    with pytest.raises(NoPretrainedWeights, match=r"other weights of 'tiny'. Received: tag '.*'; allowed: own, toy$"):
        resolve("tiny", tag, hub=hub, manifest=NOTHING_PUBLISHED)


def test_directory_of_artifacts_without_the_model(hub: Path) -> None:
    with pytest.raises(NoPretrainedWeights, match=r"of 'vgg16'\. It holds: other\.toy, tiny\.own, tiny\.toy$"):
        resolve("vgg16", None, hub=hub, manifest=NOTHING_PUBLISHED)


def test_directory_name_that_contradicts_model_json(hub: Path) -> None:
    (hub / "other.toy").rename(hub / "vgg16.toy")
    with pytest.raises(IntegrityError, match=r"vgg16\.toy: expected weights 'vgg16\.toy', got 'other\.toy' in model"):
        resolve("vgg16", None, hub=hub, manifest=NOTHING_PUBLISHED)


# --- hub=: neither ----------------------------------------------------------------------------------------------------


def test_missing_hub_and_file_as_hub(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(FetchError, match=r"no such directory\. Allowed: an artifact directory"):
            resolve("tiny", None, hub=path, manifest=NOTHING_PUBLISHED)
