"""The fake Hugging Face Hub, held to what the real client and plain HTTP see of it."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import requests
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.hub.huggingface_server import HuggingFaceServer

LARGE = bytes(range(256)) * 40
FILES = {"index.json": b"{}", "tiny.toy/model.json": b"{...}", "tiny.toy/variables/large": LARGE}


@pytest.fixture
def server() -> Iterator[HuggingFaceServer]:
    with HuggingFaceServer() as running:
        yield running


def test_the_client_fetches_a_repository(
    server: HuggingFaceServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    revision = server.add("owner/name", FILES, private=True)
    server.use(monkeypatch, tmp_path / "home", token="hf_read")
    snapshot = Path(huggingface_hub.snapshot_download("owner/name", revision="main"))
    assert snapshot.name == revision
    assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES
    asked = [request for request in server.requests if request.path.startswith(("/lfs", "/owner"))]
    assert {request.authorization for request in asked if request.storage} == {None}
    assert {request.authorization for request in asked if not request.storage} == {"Bearer hf_read"}


def test_the_client_commits(server: HuggingFaceServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server.use(monkeypatch, tmp_path / "home", token="hf_write")
    api = huggingface_hub.HfApi()
    api.create_repo("owner/name", private=True)
    operations = [huggingface_hub.CommitOperationAdd(path, content) for path, content in FILES.items()]
    first = api.create_commit("owner/name", operations, commit_message="first")
    delete = [huggingface_hub.CommitOperationDelete("index.json")]
    second = api.create_commit("owner/name", delete, commit_message="second", parent_commit=first.oid)
    repository = server.repositories["owner/name"]
    assert repository.private and [commit.oid for commit in repository.commits][1:] == [first.oid, second.oid]
    assert {path: repository.at(first.oid).files[path] for path in FILES} == FILES
    assert set(repository.head.files) == {*FILES, ".gitattributes"} - {"index.json"}
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("owner/name", delete, commit_message="third", parent_commit=first.oid)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_wrong", 401), ("hf_read", 403)])
def test_tokens(
    server: HuggingFaceServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None, status: int
) -> None:
    server.add("owner/name", FILES, private=True)
    server.use(monkeypatch, tmp_path / "home", token=token)
    with pytest.raises(HfHubHTTPError) as caught:
        huggingface_hub.HfApi().create_repo("owner/new")
    assert caught.value.response.status_code == status
    if token is None:
        with pytest.raises(RepositoryNotFoundError):
            huggingface_hub.HfApi().model_info("owner/name")


@pytest.mark.parametrize("redirect", [True, False])
def test_ranges_and_redirects(redirect: bool) -> None:
    with HuggingFaceServer(redirect=redirect) as server:
        revision = server.add("owner/name", FILES)
        url = f"{server.endpoint}/owner/name/resolve/{revision}/tiny.toy/variables/large"
        whole = requests.get(url, timeout=10)
        assert whole.content == LARGE and [answer.status_code for answer in whole.history] == [302] * redirect
        etag, place = whole.headers["ETag"], whole.url
        part = requests.get(place, headers={"Range": "bytes=300-", "If-Range": etag}, timeout=10)
        assert (part.status_code, part.content) == (206, LARGE[300:])
        assert part.headers["Content-Range"] == f"bytes 300-{len(LARGE) - 1}/{len(LARGE)}"
        assert requests.get(place, headers={"Range": "bytes=2-5"}, timeout=10).content == LARGE[2:6]
        changed = requests.get(place, headers={"Range": "bytes=300-", "If-Range": '"other"'}, timeout=10)
        assert (changed.status_code, changed.content) == (200, LARGE)
        assert requests.get(place, headers={"Range": f"bytes={len(LARGE)}-"}, timeout=10).status_code == 416
        head = requests.head(url, timeout=10, allow_redirects=False)
        assert head.headers["X-Repo-Commit"] == revision and head.headers["X-Linked-Size"] == str(len(LARGE))
        assert "X-Xet-Hash" not in head.headers
        missing = f"{server.endpoint}/owner/name/resolve/{'0' * 40}/index.json"
        assert requests.get(missing, timeout=10).status_code == 404
