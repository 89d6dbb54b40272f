"""A Hugging Face Hub on 127.0.0.1, as far as the real huggingface_hub client needs one to publish and to fetch.

>>> with HuggingFaceServer() as server:
...     revision = server.add("owner/name", {"index.json": b"{}", "tiny.toy/model.json": b"{}"})
...     hf_hub_download("owner/name", "index.json", revision=revision, endpoint=server.endpoint)

Files from `lfs_from` bytes are LFS objects, which a second origin (another port) stores and serves. X-Xet-Hash is never
sent, so downloads are plain HTTP; uploads are where HF_HUB_DISABLE_XET is set, which `use` does.
"""

import hashlib
import re
import threading
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest

from tests.hub.huggingface_routes import Answer, Hub, Repository, Request

TOKENS: Mapping[str, Collection[str]] = {"hf_write": {"owner"}, "hf_read": ()}


class HuggingFaceServer(Hub):
    """A context in which a hub runs.

    Args:
        tokens: which there are, and the namespaces that each may write; each may read everything.
        lfs_from: bytes from which a file is an LFS object.
        redirect: answer requests for LFS objects by 302 to the other origin, as the real one does; else serve them.
    """

    def __init__(
        self, *, tokens: Mapping[str, Collection[str]] = TOKENS, lfs_from: int = 2**13, redirect: bool = True
    ) -> None:
        self._servers = [_listening(self, storage) for storage in (False, True)]
        endpoint, storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        super().__init__(tokens, lfs_from, redirect, endpoint, storage)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, repo: str, files: Mapping[str, bytes] | Path, *, private: bool = False) -> str:
        """Add a commit of exactly these files, or of those below a directory; the repository may be new.

        Returns:
            The commit's 40-hex name.
        """
        if isinstance(files, Path):
            paths = [path for path in files.rglob("*") if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        repository = self.repositories.setdefault(repo, Repository(private))
        for content in files.values():
            if self.is_lfs(len(content)):
                self.objects[hashlib.sha256(content).hexdigest()] = content
        return repository.commit(files, "add")

    def use(self, monkeypatch: pytest.MonkeyPatch, home: Path, *, token: str | None = None) -> None:
        """Let huggingface_hub in this process ask this server, with this token, and touch nothing outside `home`."""
        template = f"{self.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        settings = {
            "ENDPOINT": self.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
            "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in settings.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(variable, raising=False)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)

    def environment(self, home: Path, *, token: str | None = None) -> dict[str, str]:
        """The same for another process."""
        given = {} if token is None else {"HF_TOKEN": token}
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **given}


def _listening(hub: Hub, storage: bool) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub, "storage": storage}))
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    """HTTP around the hub's answers: whole, or the range that was asked for."""

    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]
    storage: ClassVar[bool]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        asked = Request(self.command, path, self.headers["Authorization"], self.headers["Range"], self.storage)
        self._send(self.hub.answer(asked, body))

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""

    def _send(self, answer: Answer) -> None:
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if wanted and status == 200 and self.headers.get("If-Range", headers.get("ETag")) == headers.get("ETag"):
            body, status, headers = _part(body, headers, int(wanted[1]), int(wanted[2] or len(body)))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _part(body: bytes, headers: dict[str, str], first: int, last: int) -> tuple[bytes, int, dict[str, str]]:
    if first >= len(body):
        return b"", 416, {"Content-Range": f"bytes */{len(body)}"}
    part = body[first : last + 1]
    return part, 206, {**headers, "Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(body)}"}
