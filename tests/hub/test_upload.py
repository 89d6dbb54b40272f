"""Uploads by the real client to a server on this machine: what it then holds, and how everything else is refused."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from mpncov_zoo.errors import FetchError, InputError, ManifestError, OfflineError
from mpncov_zoo.hub.upload import require_repository, upload
from tests.hub.artifacts import CONTENT, make_artifact
from tests.hub.huggingface_server import HuggingFaceServer

CARD = "---\nlicense: mit\n---\n\n# tiny.toy\n"
INDEX = b'{"format_version": 1, "artifacts": ["%s"]}'
LARGE = bytes(range(256)) * 64


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HuggingFaceServer]:
    with HuggingFaceServer() as running:
        running.use(monkeypatch, tmp_path / "home", token="hf_write")
        yield running


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact")


def held(server: HuggingFaceServer, repo: str = "owner/name") -> dict[str, bytes]:
    return {path: data for path, data in server.repositories[repo].head.files.items() if path != ".gitattributes"}


def published(artifact: Path, card: str = CARD) -> dict[str, bytes]:
    """What a repository should hold."""
    paths = [path for path in artifact.rglob("*") if path.is_file()]
    files = {f"tiny.toy/{path.relative_to(artifact).as_posix()}": path.read_bytes() for path in paths}
    index = json.dumps({"format_version": 1, "artifacts": ["tiny.toy"]}, indent=2)
    return {**files, "index.json": f"{index}\n".encode(), "README.md": card.encode()}


def test_a_new_repository_holds_the_files_the_index_and_the_card(server: HuggingFaceServer, artifact: Path) -> None:
    (artifact / "variables" / "large").write_bytes(LARGE)
    commit = upload("owner/name", "tiny.toy", artifact, CARD)
    repository = server.repositories["owner/name"]
    assert held(server) == published(artifact) and len(held(server)) == len(CONTENT) + 4
    assert commit == repository.head.oid and len(repository.commits) == 2 and not repository.private
    stored = [request for request in server.requests if request.storage]
    assert len(stored) == 1 and stored[0].method == "PUT" and stored[0].authorization is None
    client = [request for request in server.requests if "agent-harnesses" not in request.path and not request.storage]
    assert {request.authorization for request in client} == {"Bearer hf_write"}


def test_another_version_replaces_the_files(server: HuggingFaceServer, artifact: Path) -> None:
    (artifact / "report.html").write_bytes(b"old")
    first = upload("owner/name", "tiny.toy", artifact, CARD)
    before = published(artifact)
    server.repositories["owner/name"].head.files["LICENSE"] = b"mine"
    (artifact / "report.html").unlink()
    (artifact / "saved_model.pb").write_bytes(b"another graph")
    second = upload("owner/name", "tiny.toy", artifact, CARD.replace("mit", "isc"))
    assert held(server) == {**published(artifact, CARD.replace("mit", "isc")), "LICENSE": b"mine"}
    assert server.repositories["owner/name"].at(first).files.items() >= before.items() and first != second


def test_the_same_again_makes_no_commit(server: HuggingFaceServer, artifact: Path) -> None:
    commits = {upload("owner/name", "tiny.toy", artifact, CARD) for _ in range(2)}
    assert len(commits) == 1 and len(server.repositories["owner/name"].commits) == 2


def test_private(server: HuggingFaceServer, artifact: Path) -> None:
    upload("owner/name", "tiny.toy", artifact, CARD, private=True)
    upload("owner/name", "tiny.toy", artifact, CARD, private=True)
    assert server.repositories["owner/name"].private
    server.add("owner/open", {})
    with pytest.raises(InputError, match="hf:owner/open is public"):
        upload("owner/open", "tiny.toy", artifact, CARD, private=True)
    assert held(server, "owner/open") == {}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"index.json": INDEX % b"tiny.other"}, "is the repository of tiny.other; one holds one set"),
        ({"index.json": INDEX % b"tiny.toy", "a.b/model.json": b"{}"}, "is the repository of a.b"),
        ({"config.json": b"{}", "README.md": b""}, "holds other files (config.json) and no index.json"),
    ],
)
def test_repositories_of_others_are_left_alone(
    server: HuggingFaceServer, artifact: Path, files: dict[str, bytes], message: str
) -> None:
    commit = server.add("owner/name", files)
    with pytest.raises(InputError) as caught:
        upload("owner/name", "tiny.toy", artifact, CARD)
    assert message in str(caught.value) and server.repositories["owner/name"].head.oid == commit


def test_a_repository_begun_on_the_web_site_is_used(server: HuggingFaceServer, artifact: Path) -> None:
    server.add("owner/name", {".gitattributes": b"", "README.md": b"---\nlicense: mit\n---\n"})
    upload("owner/name", "tiny.toy", artifact, CARD)
    assert held(server) == published(artifact)


def test_a_malformed_index(server: HuggingFaceServer, artifact: Path) -> None:
    server.add("owner/name", {"index.json": b"[]"})
    with pytest.raises(ManifestError, match=r"^hf:owner/name: index\.json: "):
        upload("owner/name", "tiny.toy", artifact, CARD)


# --- the hub refuses, or is not there ---------------------------------------------------------------------------------


def refusal(artifact: Path, kind: type[Exception], repo: str = "owner/name") -> str:
    with pytest.raises(kind) as caught:
        upload(repo, "tiny.toy", artifact, CARD)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("token", "status"),
    [("hf_wrong", "401 (Invalid credentials in Authorization header)"), ("hf_read", "403 (You don't")],
)
@pytest.mark.parametrize("exists", [False, True])
def test_tokens_that_may_not_write(
    server: HuggingFaceServer, artifact: Path, monkeypatch: pytest.MonkeyPatch, token: str, status: str, exists: bool
) -> None:
    if exists:
        server.add("owner/name", {"index.json": INDEX % b"tiny.toy"})
    monkeypatch.setenv("HF_TOKEN", token)
    message = refusal(artifact, FetchError)
    assert f"hf:owner/name: the hub answers {status}" in message and "hf auth login" in message
    assert len(server.repositories) == exists


def test_no_token(server: HuggingFaceServer, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token on this machine" in refusal(artifact, InputError)
    assert not server.requests


@pytest.mark.parametrize("ours", [True, False])
def test_offline(server: HuggingFaceServer, artifact: Path, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    if ours:
        monkeypatch.setenv("MPNCOV_ZOO_OFFLINE", "1")
    else:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "unset MPNCOV_ZOO_OFFLINE and HF_HUB_OFFLINE" in refusal(artifact, OfflineError)
    assert not server.requests


def test_nobody_answers(server: HuggingFaceServer, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert "hf:owner/name cannot be published to: " in refusal(artifact, FetchError)


@pytest.mark.parametrize(
    ("path", "status", "remedy"),
    [
        ("/api/models/owner/name/commit", 412, "It was changed meanwhile; publish again"),
        ("/api/models/owner/name/preupload", 404, "Is the name right? Log in"),
        ("/api/models/owner/name/tree", 400, "Try again later"),
        ("/lfs/", 403, "Log in with a token"),
    ],
)
def test_a_refusal_on_the_way_leaves_no_commit(
    server: HuggingFaceServer, artifact: Path, path: str, status: int, remedy: str
) -> None:
    (artifact / "variables" / "large").write_bytes(LARGE)
    server.refused[path] = status
    message = refusal(artifact, FetchError)
    assert f"the hub answers {status} (refused by the test)" in message and remedy in message
    assert held(server) == {}


def test_a_change_meanwhile(server: HuggingFaceServer, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody commits between the look at the repository and the commit."""
    add = huggingface_hub.HfApi.create_commit

    def late(*args: object, **options: object) -> object:
        server.repositories["owner/name"].commit({"index.json": INDEX % b"tiny.other"}, "theirs")
        return add(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", late)
    assert "It was changed meanwhile; publish again" in refusal(artifact, FetchError)
    assert server.repositories["owner/name"].head.message == "theirs"


def test_a_card_that_the_hub_does_not_take(server: HuggingFaceServer, artifact: Path) -> None:
    with pytest.raises(FetchError, match=r"Invalid metadata in README\.md"):
        upload("owner/name", "tiny.toy", artifact, "no front matter")
    assert held(server) == {}


NO_REPOSITORIES = (
    *("", "name", "owner/", "/name", "a/b/c", "../name", "owner/..", "-owner/name", "owner/name\n", "owner/na me"),
    *("owner/name@main", "owner/a--b", "owner/name.git", "owner/nämé", "https://huggingface.co/owner/name"),
    f"o/{'n' * 97}",
)


@pytest.mark.parametrize("repo", NO_REPOSITORIES)
def test_repositories_that_are_none(repo: str) -> None:
    with pytest.raises(InputError, match="allowed: hf:owner/name"):
        require_repository(repo)


def test_repositories_that_are_some() -> None:
    assert [require_repository(repo) for repo in ("owner/name", "O-1/n_a.me")] == ["owner/name", "O-1/n_a.me"]
