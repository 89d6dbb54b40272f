"""What the fake Hugging Face Hub of huggingface_server.py knows, and how it answers: one function a route."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

GITATTRIBUTES = b"*.pb filter=lfs diff=lfs merge=lfs -text\n"  # begins every new repository
REPO = r"([\w.-]+/[\w.-]+)"


@dataclass(frozen=True)
class Request:
    """What a client asked; `storage`: of the other origin."""

    method: str
    path: str
    authorization: str | None
    range: str | None
    storage: bool


@dataclass
class Commit:
    """The files of a repository at one point; tests may change what is served."""

    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """Its commits, the first one first."""

    private: bool = False
    commits: list[Commit] = field(default_factory=list)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def commit(self, files: Mapping[str, bytes], message: str) -> str:
        """Add a commit of exactly these files."""
        digests = {path: hashlib.sha1(content).hexdigest() for path, content in sorted(files.items())}
        text = f"{len(self.commits)} {message} {digests}"
        self.commits.append(Commit(hashlib.sha1(text.encode()).hexdigest(), message, dict(files)))
        return self.head.oid

    def at(self, revision: str) -> Commit:
        """The commit of a 40-hex name, or of the branch `main`."""
        found = [commit for commit in self.commits if revision in (commit.oid, "main")]
        if not found:
            raise Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return found[-1]


@dataclass(frozen=True)
class Answer:
    """One of HTTP."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer from 400."""

    def __init__(self, status: int, message: str, *, code: str | None = None, **content: Any) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.answer = Answer(json.dumps({"error": message, **content}).encode(), status, headers)


@dataclass
class Hub:
    """A hub's state.

    Attributes:
        tokens: which there are, and the namespaces that each may write; each may read everything.
        lfs_from: bytes from which a file is an LFS object.
        redirect: answer requests for LFS objects by 302 to the other origin, as the real one does; else serve them.
        endpoint: what HF_ENDPOINT is to be.
        storage: the other origin, of LFS objects.
        repositories: by id.
        objects: the LFS objects that were uploaded, by sha256.
        requests: what was asked, in order.
        refused: status to answer with, by the beginning of a path.
    """

    tokens: Mapping[str, Collection[str]]
    lfs_from: int
    redirect: bool
    endpoint: str
    storage: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def is_lfs(self, size: int) -> bool:
        return size >= self.lfs_from

    def answer(self, asked: Request, body: bytes) -> Answer:
        """Of the first route that fits."""
        self.requests.append(asked)
        try:
            return self._route(asked, body)
        except Refusal as refusal:
            return refusal.answer

    def _route(self, asked: Request, body: bytes) -> Answer:
        for beginning, status in self.refused.items():
            if asked.path.startswith(beginning):
                raise Refusal(status, "refused by the test")
        method = "GET" if asked.method == "HEAD" else asked.method
        for verb, pattern, answer in STORAGE_ROUTES if asked.storage else ROUTES:
            match = re.fullmatch(pattern, asked.path)
            if match and verb == method:
                return answer(self, asked, body, *match.groups())
        raise Refusal(404, "Not Found")


# --- who may do what --------------------------------------------------------------------------------------------------


def _namespaces(hub: Hub, asked: Request) -> Collection[str] | None:
    """What the request's token may write; None without a token."""
    if asked.authorization is None:
        return None
    token = asked.authorization.removeprefix("Bearer ")
    if token not in hub.tokens:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return hub.tokens[token]


def _require_writer(hub: Hub, asked: Request, repo: str) -> None:
    allowed = _namespaces(hub, asked)
    if allowed is None:
        raise Refusal(401, "Invalid username or password.")
    if repo.partition("/")[0] not in allowed:
        raise Refusal(403, f"You don't have the rights to write to {repo}")


def _readable(hub: Hub, asked: Request, repo: str) -> Repository:
    """Without a token, a private repository cannot be told from none."""
    found, reader = hub.repositories.get(repo), _namespaces(hub, asked) is not None
    if found is None or (found.private and not reader):
        raise Refusal(404 if reader else 401, "Repository not found", code="RepoNotFound")
    return found


def _writable(hub: Hub, asked: Request, repo: str) -> Repository:
    found = _readable(hub, asked, repo)
    _require_writer(hub, asked, repo)
    return found


# --- the routes -------------------------------------------------------------------------------------------------------


def _json(content: Any) -> Answer:
    return Answer(json.dumps(content).encode())


def _create(hub: Hub, asked: Request, body: bytes) -> Answer:
    given = json.loads(body)
    repo = f"{given['organization']}/{given['name']}"
    url = f"{hub.endpoint}/{repo}"
    _require_writer(hub, asked, repo)
    if repo in hub.repositories:
        raise Refusal(409, "You already created this model repo", url=url)
    hub.repositories[repo] = Repository(given.get("visibility") == "private")
    hub.repositories[repo].commit({".gitattributes": GITATTRIBUTES}, "initial commit")
    return _json({"url": url, "name": repo})


def _validate_card(hub: Hub, asked: Request, body: bytes) -> Answer:
    front = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
    metadata = yaml.safe_load(front[1]) if front else None
    if not isinstance(metadata, dict):
        raise Refusal(400, "no metadata", errors=[{"message": "no metadata"}])
    return _json({"errors": [], "warnings": []})


def _info(hub: Hub, asked: Request, body: bytes, repo: str, revision: str | None) -> Answer:
    repository = _readable(hub, asked, repo)
    commit = repository.at(revision or "main")
    files = [{"rfilename": path} for path in sorted(commit.files)]
    return _json({"id": repo, "sha": commit.oid, "private": repository.private, "siblings": files})


def _tree(hub: Hub, asked: Request, body: bytes, repo: str, revision: str) -> Answer:
    files = _readable(hub, asked, repo).at(revision).files
    return _json([_tree_entry(hub, path, content) for path, content in sorted(files.items())])


def _tree_entry(hub: Hub, path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
    if hub.is_lfs(len(content)):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _preupload(hub: Hub, asked: Request, body: bytes, repo: str, revision: str) -> Answer:
    held = _writable(hub, asked, repo).at(revision).files
    files = json.loads(body)["files"]
    return _json({"files": [{**_upload_mode(hub, held, file), "path": file["path"]} for file in files]})


def _upload_mode(hub: Hub, held: Mapping[str, bytes], file: Mapping[str, Any]) -> dict[str, Any]:
    entry = _tree_entry(hub, file["path"], held[file["path"]]) if file["path"] in held else {}
    mode = "lfs" if hub.is_lfs(file["size"]) else "regular"
    return {"uploadMode": mode, "shouldIgnore": False, "oid": entry.get("lfs", entry).get("oid")}


def _lfs_batch(hub: Hub, asked: Request, body: bytes, repo: str) -> Answer:
    _writable(hub, asked, repo)
    objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in json.loads(body)["objects"]]
    for wanted in objects:
        if wanted["oid"] not in hub.objects:
            wanted["actions"] = {"upload": {"href": f"{hub.storage}/lfs/{wanted['oid']}", "header": {}}}
    return _json({"transfer": "basic", "objects": objects})


def _commit(hub: Hub, asked: Request, body: bytes, repo: str, revision: str) -> Answer:
    repository = _writable(hub, asked, repo)
    header, *changes = (json.loads(line) for line in body.splitlines())
    parent = header["value"].get("parentCommit", repository.head.oid)
    if parent != repository.head.oid:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repository.at(revision).files)
    for change in changes:
        _change(hub, files, change["key"], change["value"])
    oid = repository.commit(files, header["value"]["summary"])
    return _json({"success": True, "commitOid": oid, "commitUrl": f"{hub.endpoint}/{repo}/commit/{oid}"})


def _change(hub: Hub, files: dict[str, bytes], key: str, value: Mapping[str, Any]) -> None:
    path = value["path"]
    if key == "file":
        files[path] = base64.b64decode(value["content"], validate=True)
    elif key == "lfsFile" and value["oid"] in hub.objects:
        files[path] = hub.objects[value["oid"]]
    elif key == "deletedFile" and path in files:
        del files[path]
    else:
        raise Refusal(400, f"{key} {path}: no such file")


def _resolve(hub: Hub, asked: Request, body: bytes, repo: str, revision: str, path: str) -> Answer:
    commit = _readable(hub, asked, repo).at(revision)
    if path not in commit.files:
        raise Refusal(404, "Entry not found", code="EntryNotFound")
    content, headers = commit.files[path], {"X-Repo-Commit": commit.oid}
    if not hub.is_lfs(len(content)):
        return Answer(content, headers={**headers, "ETag": f'"{_git_oid(content)}"'})
    digest = hashlib.sha256(content).hexdigest()
    linked = {**headers, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
    if not hub.redirect:
        return Answer(content, headers={**linked, "ETag": f'"{digest}"'})
    hub.objects.setdefault(digest, content)
    return Answer(status=302, headers={**linked, "Location": f"{hub.storage}/lfs/{digest}"})


def _store(hub: Hub, asked: Request, body: bytes, digest: str) -> Answer:
    if hashlib.sha256(body).hexdigest() != digest:
        raise Refusal(400, "not the content of this digest")
    hub.objects[digest] = body
    return Answer()


def _object(hub: Hub, asked: Request, body: bytes, digest: str) -> Answer:
    if digest not in hub.objects:
        raise Refusal(404, "no such object")
    return Answer(hub.objects[digest], headers={"ETag": f'"{digest}"'})


Route = tuple[str, str, Callable[..., Answer]]
ROUTES: tuple[Route, ...] = (
    ("POST", "/api/repos/create", _create),
    ("POST", "/api/validate-yaml", _validate_card),
    ("GET", f"/api/models/{REPO}(?:/revision/([^/]+))?", _info),
    ("GET", f"/api/models/{REPO}/tree/([^/]+)", _tree),
    ("POST", f"/api/models/{REPO}/preupload/([^/]+)", _preupload),
    ("POST", f"/api/models/{REPO}/commit/([^/]+)", _commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", _lfs_batch),
    ("GET", f"/{REPO}/resolve/([^/]+)/(.+)", _resolve),
)
STORAGE_ROUTES: tuple[Route, ...] = (
    ("PUT", "/lfs/([0-9a-f]{64})", _store),
    ("GET", "/lfs/([0-9a-f]{64})", _object),
)
