"""A remote hub as `resolve` sees it: what it is asked, what is kept, and every way in which it can lie."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpncov_zoo.errors import FetchError, InputError, IntegrityError, ManifestError, NoPretrainedWeights, OfflineError
from mpncov_zoo.hub import transport
from mpncov_zoo.hub.locations import HUB_VARIABLE, HuggingFace, StaticServer, locate
from mpncov_zoo.hub.resolve import TRUST_MANIFEST, TRUST_OWN, ResolvedArtifact, resolve
from mpncov_zoo.hub.transport import OFFLINE_VARIABLE, Limits
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.manifest import Manifest
from tests.hub.artifacts import CONTENT, description, make_artifact, manifest, published, upstream
from tests.hub.fault_server import FaultServer, cut, serving, status, well_behaved
from tests.hub.huggingface_server import HuggingFaceServer

FILES = [*CONTENT, "model.json"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LIMITS", Limits(connect=10, read=30, answer=30, retries=1, backoff=0))
    for variable in (HUB_VARIABLE, OFFLINE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A hub of tiny.toy."""
    make_artifact(tmp_path / "served" / "tiny.toy")
    with serving(tmp_path / "served") as running:
        yield running


@pytest.fixture
def known(server: FaultServer) -> Manifest:
    """A manifest that knows tiny.toy, and this server as its source."""
    return published_at(server, server.url)


def published_at(server: FaultServer, *urls: str) -> Manifest:
    """A manifest of tiny.toy; sources of http are what validation refuses, and a test needs."""
    valid = manifest(published(server.root / "tiny.toy", kind="https"))
    entry = valid.entries[0]
    sources_ = [entry.sources[0].model_copy(update={"url": url}) for url in urls]
    return valid.model_copy(update={"entries": [entry.model_copy(update={"sources": sources_})]})


def found_in(tmp_path: Path, known: Manifest, **options: Any) -> ResolvedArtifact:
    return resolve("tiny", None, manifest=known, cache_dir=tmp_path / "cache", **options)


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def artifacts(tmp_path: Path) -> list[str]:
    """What of the cache can be seen as an artifact, or as one on its way."""
    return [path.name for path in (tmp_path / "cache").glob("artifacts/*")]


# --- a hub that does what it should -----------------------------------------------------------------------------------


def test_published_weights_are_fetched_once(tmp_path: Path, server: FaultServer, known: Manifest) -> None:
    first = found_in(tmp_path, known)
    assert (first.trust, first.entry) == (TRUST_MANIFEST, known.entries[0])
    assert content(first.directory) == content(server.root / "tiny.toy")
    assert sorted(server.paths) == sorted(f"/tiny.toy/{path}" for path in FILES)
    assert found_in(tmp_path, known) == first and len(server.requests) == len(FILES)
    assert found_in(tmp_path, known, offline=True) == first


def test_the_hub_may_be_the_artifact_itself(tmp_path: Path, server: FaultServer, known: Manifest) -> None:
    found = found_in(tmp_path, known, hub=f"{server.url}/tiny.toy/")
    assert content(found.directory) == content(server.root / "tiny.toy")


def test_unpublished_weights_vouch_for_themselves(tmp_path: Path, server: FaultServer) -> None:
    (server.root / "index.json").write_text('{"format_version": 1, "artifacts": ["tiny.toy", "other.toy"]}')
    found = found_in(tmp_path, manifest(upstream(tag="imagenet")), hub=server.url)
    assert found.entry is None and found.trust == f"{TRUST_OWN}. It came from {server.url}"
    assert content(found.directory) == content(server.root / "tiny.toy")
    asked = len(server.requests)
    again = found_in(tmp_path, manifest(), hub=server.url)
    assert again.directory == found.directory
    assert server.paths[asked:] == ["/index.json", "/tiny.toy/model.json"]  # it may have changed
    offline = resolve("tiny", "toy", hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache", offline=True)
    assert offline.directory == found.directory and len(server.requests) == asked + 2


def test_an_unpublished_artifact_that_changed_is_fetched_again(tmp_path: Path, server: FaultServer) -> None:
    first = resolve("tiny", "toy", hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache")
    artifact = server.root / "tiny.toy"
    (artifact / "saved_model.pb").write_bytes(b"a newer graph")
    files = [file.model_dump() for file in describe_files(artifact)]
    (artifact / "model.json").write_text(json.dumps(description(files=files)))
    second = resolve("tiny", "toy", hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache")
    assert (second.directory / "saved_model.pb").read_bytes() == b"a newer graph"
    assert (first.directory / "saved_model.pb").read_bytes() == b"graph"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"does not say which weights of 'tiny' it has: ask for 'tiny\.<tag>'"),
        ('{"format_version": 1, "artifacts": ["other.toy"]}', r"holds no weights of 'tiny'\. It holds: other\.toy"),
        ('{"format_version": 1, "artifacts": ["tiny.a", "tiny.b"]}', "several weights of 'tiny'.*allowed: a, b"),
    ],
)
def test_a_hub_that_does_not_say_or_have_it(
    tmp_path: Path, server: FaultServer, index: str | None, message: str
) -> None:
    if index is not None:
        (server.root / "index.json").write_text(index)
    with pytest.raises(NoPretrainedWeights, match=message):
        found_in(tmp_path, manifest(), hub=server.url)


@pytest.mark.parametrize("tag", ["imagenet", "../tiny.toy", "toy/../toy", "a b", "%2e%2e"])
def test_weights_that_it_does_not_have(tmp_path: Path, server: FaultServer, tag: str) -> None:
    with pytest.raises((FetchError, NoPretrainedWeights), match="tiny"):
        resolve("tiny", tag, hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache")
    assert not [path for path in server.paths if ".." in path or "%" in path]
    assert artifacts(tmp_path) == []


# --- a hub that lies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(  # of an unpublished artifact model.json vouches for the others, and nobody for it
    ("published_here", "file"), [*((True, file) for file in FILES), *((False, file) for file in CONTENT)]
)
def test_one_flipped_byte(
    tmp_path: Path, server: FaultServer, known: Manifest, file: str, published_here: bool
) -> None:
    path = server.root / "tiny.toy" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    source = rf"^{server.url}/tiny\.toy/{file}: '{file}': expected sha256 [0-9a-f]{{64}}, got [0-9a-f]{{64}}\. Nothing"
    trusted = known if published_here else manifest()
    with pytest.raises(IntegrityError, match=source):
        resolve("tiny", "toy", hub=server.url, manifest=trusted, cache_dir=tmp_path / "cache")
    assert artifacts(tmp_path) == []


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file(tmp_path: Path, server: FaultServer, known: Manifest, file: str) -> None:
    (server.root / "tiny.toy" / file).unlink()
    with pytest.raises(FetchError, match=f"holds no tiny.toy|{file}: no such file there"):
        found_in(tmp_path, known)
    assert artifacts(tmp_path) == []


def test_an_extra_file_is_not_asked_for(tmp_path: Path, server: FaultServer, known: Manifest) -> None:
    (server.root / "tiny.toy" / "sitecustomize.py").write_text("raise SystemExit")
    assert "sitecustomize.py" not in content(found_in(tmp_path, known).directory)


HOSTILE = [
    "../outside", "/etc/passwd", "variables/../../x", "C:/x", "c:x", "a\\b", "a\0b", "\\\\host\\share", "", ".", "a//b",
    "a/", "nul", "assets/CON.txt", "x.", "con/x", "a b", "f\u0131le", "~/x", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_names(tmp_path: Path, server: FaultServer, name: str) -> None:
    listed = [file.model_dump() for file in describe_files(server.root / "tiny.toy")]
    data = description(files=[*listed, {"path": name, "size": 1, "sha256": "0" * 64}])
    (server.root / "tiny.toy" / "model.json").write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=r"files\[\d\]\.path"):
        resolve("tiny", "toy", hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache")
    assert server.paths == ["/tiny.toy/model.json"] and artifacts(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["Saved_Model.pb", "ASSETS/labels.txt", "model.json", "MODEL.JSON", "Variables", "model.json/x"]
)
def test_names_that_are_one_file_elsewhere(tmp_path: Path, server: FaultServer, name: str) -> None:
    listed = [file.model_dump() for file in describe_files(server.root / "tiny.toy")]
    data = description(files=[*listed, {"path": name, "size": 1, "sha256": "0" * 64}])
    (server.root / "tiny.toy" / "model.json").write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=r"more than once|cannot carry its own digest|is a file, and other"):
        resolve("tiny", "toy", hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache")
    assert artifacts(tmp_path) == []


@pytest.mark.parametrize("document", ["index.json", "tiny.toy/model.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": 2}', "[" * 100_000, " " * 2**21])
def test_malformed_documents(tmp_path: Path, server: FaultServer, document: str, text: str) -> None:
    (server.root / document).write_text(text)
    tag = None if document == "index.json" else "toy"
    with pytest.raises((ManifestError, IntegrityError), match=rf"^{server.url}/{document}: "):
        resolve("tiny", tag, hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache")
    assert artifacts(tmp_path) == []


def test_an_artifact_of_another_name(tmp_path: Path, server: FaultServer) -> None:
    (server.root / "tiny.toy").rename(server.root / "tiny.other")
    with pytest.raises(NoPretrainedWeights, match=r"holds no 'tiny\.other'\. It holds: tiny\.toy"):
        resolve("tiny", "other", hub=server.url, manifest=manifest(), cache_dir=tmp_path / "cache")


def test_one_of_several_files_breaks_off(tmp_path: Path, server: FaultServer, known: Manifest) -> None:
    big = server.root / "tiny.toy" / "variables" / "variables.data-00000-of-00001"
    big.write_bytes(bytes(range(256)) * 4000)
    files = [file.model_dump() for file in describe_files(server.root / "tiny.toy")]
    (server.root / "tiny.toy" / "model.json").write_text(json.dumps(description(files=files)))
    known = published_at(server, server.url)
    server.behaviour = cut(1000)
    with pytest.raises(FetchError, match=r"variables\.data.*(broke off|ended after)"):
        found_in(tmp_path, known)
    assert artifacts(tmp_path) == []
    server.behaviour = well_behaved
    assert content(found_in(tmp_path, known).directory) == content(server.root / "tiny.toy")
    assert any(request.headers.get("range") == "bytes=2000-" for request in server.requests)


# --- fail-over --------------------------------------------------------------------------------------------------------


def test_the_manifests_sources_are_tried_in_order(
    tmp_path: Path, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(server.root, status(503)) as first:
        known = published_at(server, first.url, server.url)
        found = found_in(tmp_path, known)
    assert content(found.directory) == content(server.root / "tiny.toy")
    assert first.requests and f"{first.url}/tiny.toy/" in caplog.text and "Trying the next source" in caplog.text


def test_a_source_that_lies_is_passed_over(
    tmp_path: Path, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    make_artifact(tmp_path / "liar" / "tiny.toy")
    (tmp_path / "liar" / "tiny.toy" / "saved_model.pb").write_bytes(b"GRAPH")
    with serving(tmp_path / "liar") as liar:
        found = found_in(tmp_path, published_at(server, liar.url, server.url))
    assert content(found.directory) == content(server.root / "tiny.toy")
    assert f"{liar.url}/tiny.toy/saved_model.pb: 'saved_model.pb': expected sha256" in caplog.text


def test_where_no_source_has_it_each_is_named(tmp_path: Path, server: FaultServer) -> None:
    with serving(server.root, status(500)) as first, serving(server.root, status(404)) as second:
        known = published_at(server, first.url, second.url)
        with pytest.raises(FetchError, match=rf"^No source has it\. \(1\) {first.url}.* 500 .*\(2\) {second.url}"):
            found_in(tmp_path, known)
    assert artifacts(tmp_path) == []


def test_the_sites_hub_comes_before_the_manifest(
    tmp_path: Path, server: FaultServer, known: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(server.root) as site:
        monkeypatch.setenv(HUB_VARIABLE, site.url)
        found_in(tmp_path, known)
    assert len(site.requests) == len(FILES) and server.requests == []


@pytest.mark.parametrize("site", ["http://127.0.0.1:1", "/no/such/directory", "s3://bucket", "http://example.org"])
def test_the_sites_hub_may_be_away(
    tmp_path: Path,
    server: FaultServer,
    known: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    site: str,
) -> None:
    monkeypatch.setenv(HUB_VARIABLE, site)
    assert found_in(tmp_path, known).trust == TRUST_MANIFEST
    assert site in caplog.text and "Trying the next source" in caplog.text


def test_weights_that_only_the_site_has(tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HUB_VARIABLE, server.url)
    found = resolve("tiny", "toy", manifest=manifest(), cache_dir=tmp_path / "cache")
    assert found.trust == f"{TRUST_OWN}. It came from {server.url}"


def test_a_hub_that_is_asked_for_is_the_only_one(
    tmp_path: Path, server: FaultServer, known: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HUB_VARIABLE, server.url)
    with pytest.raises(FetchError, match=r"^http://127\.0\.0\.1:1/"):
        found_in(tmp_path, known, hub="http://127.0.0.1:1")
    assert server.requests == []


def test_the_manifests_default_may_come_from_a_directory(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "share" / "tiny.toy")
    entry = {**published(artifact), "sources": [{"kind": "file", "path": str(tmp_path / "share")}]}
    assert resolve("tiny", None, manifest=manifest(entry)).directory == artifact


# --- offline ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["argument", OFFLINE_VARIABLE, "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(
    tmp_path: Path, server: FaultServer, known: Manifest, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    found = found_in(tmp_path, known)
    if switch == OFFLINE_VARIABLE:
        monkeypatch.setenv(switch, "1")
    if switch == "HF_HUB_OFFLINE":  # huggingface_hub reads it when it is imported
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    options: dict[str, Any] = {"offline": True} if switch == "argument" else {}
    assert found_in(tmp_path, known, **options) == found
    with pytest.raises(OfflineError, match=r"tiny\.toy of http.* not in the cache .*second.*mpncov-zoo cache prefetch"):
        resolve("tiny", None, manifest=known, cache_dir=tmp_path / "second", **options)
    with pytest.raises(OfflineError):
        resolve("tiny", "own", hub=f"hf:a/b@{COMMIT}", manifest=known, cache_dir=tmp_path / "second", **options)
    assert not (tmp_path / "second").exists()


def test_a_switch_that_is_neither(tmp_path: Path, known: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, "maybe")
    with pytest.raises(InputError, match="MPNCOV_ZOO_OFFLINE='maybe'; allowed: 1 or 0"):
        found_in(tmp_path, known)


# --- the cache is trusted no more than the network --------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_a_tampered_cache(tmp_path: Path, known: Manifest, file: str) -> None:
    path = found_in(tmp_path, known).directory / file
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)  # and its blob, which is the same file
    with pytest.raises(IntegrityError, match=rf"'{file}': expected sha256 .*, got .*mpncov-zoo cache repair"):
        found_in(tmp_path, known)


# --- Hugging Face -----------------------------------------------------------------------------------------------------


def test_a_repository_at_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Manifest) -> None:
    artifact = make_artifact(tmp_path / "repo" / "tiny.toy")
    with HuggingFaceServer(lfs_from=8) as server:
        server.use(monkeypatch, tmp_path / "home", token="hf_read")
        commit = server.add("owner/name", tmp_path / "repo")
        found = found_in(tmp_path, known, hub=f"hf:owner/name@{commit}")
        assert content(found.directory) == content(artifact)
        asked = [request for request in server.requests if request.path.startswith("/owner/name/resolve/")]
        assert {request.path for request in asked} >= {
            f"/owner/name/resolve/{commit}/tiny.toy/{path}" for path in FILES
        }
        assert all(request.authorization == "Bearer hf_read" for request in asked)
        stored = [request for request in server.requests if request not in asked]
        assert stored and all(request.authorization is None for request in stored)


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        ("hf:owner/name", "expected a commit of 40 hex digits, got none"),
        ("hf:owner/name@main", "expected a commit of 40 hex digits, got main: what a branch names changes"),
        ("hf:owner/name@v1.0", "expected a commit of 40 hex digits, got v1"),
        (f"hf:name@{COMMIT}", "allowed: hf:owner/name@<40-hex commit>"),
        (f"hf:../name@{COMMIT}", "allowed: hf:owner/name@<40-hex commit>"),
        (f"hf:owner/a/b@{COMMIT}", "allowed: hf:owner/name@<40-hex commit>"),
        ("https://example.org/x?y=z", r"a URL without '\?' and '#'"),
    ],
)
def test_names_of_hubs_that_are_none(known: Manifest, hub: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve("tiny", None, hub=hub, manifest=known)


def test_names_of_hubs(tmp_path: Path) -> None:
    assert locate(f"hf:a/b.c-d_e@{COMMIT}") == HuggingFace("a/b.c-d_e", COMMIT)
    assert locate("https://example.org/hub/") == StaticServer("https://example.org/hub")
    assert locate(tmp_path) == tmp_path
    with pytest.raises(FetchError, match=r"s3://bucket.*Allowed: a directory, https://host/path, or hf:"):
        locate("s3://bucket")
