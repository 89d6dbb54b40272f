"""Where a published checkpoint is looked for, and that only the published one is taken; a real server on 127.0.0.1."""

import hashlib
import importlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mpncov_zoo.errors import FetchError, IntegrityError, OfflineError
from mpncov_zoo.hub.cache import CACHE_VARIABLE, Cache, cache_root
from mpncov_zoo.hub.checkpoints import LOCAL_VARIABLE, obtain
from mpncov_zoo.manifest import Upstream

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def upstream(**changes: Any) -> Upstream:
    fields = {"url": "https://example.org/net.pth", "file_name": "net.pth", "converter": "upstream_pytorch"}
    return Upstream.model_validate({**fields, "sha256_prefix": DIGEST[:8], **changes})


@pytest.fixture
def server() -> Iterator[str]:
    """Serves CONTENT under /net.pth, a byte more under /other.pth, nothing elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/net.pth": CONTENT, "/other.pth": CONTENT + b"!"}.get(self.path)
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_the_local_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pth").write_bytes(CONTENT)
    monkeypatch.setenv(LOCAL_VARIABLE, str(tmp_path))
    assert obtain("net.toy", upstream(), Cache(tmp_path / "cache")) == tmp_path / "net.pth"
    assert list((tmp_path / "cache").glob("*/*.pth")) == []


def test_another_file_of_the_published_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pth").write_bytes(CONTENT + b"!")
    monkeypatch.setenv(LOCAL_VARIABLE, str(tmp_path))
    with pytest.raises(IntegrityError, match=rf"net\.pth: expected sha256 {DIGEST[:8]}\.\.\., got [0-9a-f]{{64}}\."):
        obtain("net.toy", upstream(), Cache(tmp_path / "cache"))
    assert (tmp_path / "net.pth").exists()  # it is the user's: nothing is removed


@pytest.mark.parametrize("prefix", [None, DIGEST[:8]])
def test_a_file_without_a_whole_published_digest_is_pinned_by_its_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str | None
) -> None:
    cache, published = Cache(tmp_path / "cache"), upstream(sha256_prefix=prefix)
    (tmp_path / "net.pth").write_bytes(CONTENT)
    monkeypatch.setenv(LOCAL_VARIABLE, str(tmp_path))
    assert obtain("net.toy", published, cache) == tmp_path / "net.pth"
    assert cache.recall("checkpoints", "net.pth") == DIGEST
    if prefix is not None:  # a second file of the same eight digits is not at hand: take them for less
        published = upstream(sha256_prefix=None)
    (tmp_path / "net.pth").write_bytes(CONTENT + b"!")
    with pytest.raises(IntegrityError, match=rf"expected sha256 {DIGEST}, which net\.pth had when .*remove .*net\.pth"):
        obtain("net.toy", published, cache)


def test_a_file_whose_digest_is_published_needs_no_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pth").write_bytes(CONTENT)
    monkeypatch.setenv(LOCAL_VARIABLE, str(tmp_path))
    obtain("net.toy", upstream(sha256_prefix=None, sha256=DIGEST), Cache(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_an_installed_package_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "net_package"
    (installed / "models").mkdir(parents=True)
    (installed / "models" / "net.pth").write_bytes(CONTENT)
    (installed / "__init__.py").write_text("raise SystemExit('the package must not be imported')")
    information = tmp_path / "net_package-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: net-package\nVersion: 0.1.0\n")
    (information / "RECORD").write_text("net_package/__init__.py,,\nnet_package/models/net.pth,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    package = {"kind": "python-package", "name": "net-package", "version": "0.1.0"}
    found = obtain("net.toy", upstream(url=None, package=package), Cache(tmp_path / "cache"))
    assert found.samefile(installed / "models" / "net.pth")


@pytest.mark.parametrize(
    ("extra", "remedy"),
    [
        ({"extra": "imagenet"}, r'pip install "mpncov-zoo\[imagenet\]" \(or pip install no-such-package==0\.1\.0\)'),
        ({}, r"It comes with a package: pip install no-such-package==0\.1\.0$"),
    ],
)
def test_a_package_that_is_not_installed(tmp_path: Path, extra: dict[str, str], remedy: str) -> None:
    package = {"kind": "python-package", "name": "no-such-package", "version": "0.1.0", **extra}
    with pytest.raises(FetchError, match=remedy):
        obtain("net.toy", upstream(url=None, package=package), Cache(tmp_path))


def test_offline_and_nowhere(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=rf"download it as net\.pth, and set {LOCAL_VARIABLE}"):
        obtain("net.toy", upstream(), Cache(tmp_path), offline=True)
    drive = upstream(url=None, mirrors=["gdrive:abc"])
    with pytest.raises(FetchError, match=r"published at gdrive:abc"):
        obtain("net.toy", drive, Cache(tmp_path))


def test_it_is_fetched_once_and_verified(tmp_path: Path, server: str) -> None:
    found = obtain("net.toy", upstream(url=f"{server}/net.pth"), Cache(tmp_path / "cache"))
    assert found.read_bytes() == CONTENT and [p.name for p in found.parent.iterdir()] == ["net.pth"]
    assert obtain("net.toy", upstream(url="http://127.0.0.1:1/net.pth"), Cache(tmp_path / "cache")) == found


@pytest.mark.parametrize(
    ("path", "limits", "error", "message"),
    [
        ("other.pth", {}, IntegrityError, f"expected sha256 {DIGEST[:8]}"),
        ("net.pth", {"size_bytes": 6999}, IntegrityError, "expected 6999 bytes, got 7000"),
        ("missing.pth", {}, FetchError, "404.*MPNCOV_ZOO_UPSTREAM"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(
    tmp_path: Path, server: str, path: str, limits: dict[str, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        obtain("net.toy", upstream(url=f"{server}/{path}", **limits), Cache(tmp_path / "cache"))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="cannot be fetched"):
        obtain("net.toy", upstream(url="http://127.0.0.1:1/net.pth"), Cache(tmp_path / "cache"))


def test_the_cache_is_the_argument_or_the_variable_or_the_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "variable"))
    assert cache_root(tmp_path / "argument") == tmp_path / "argument"
    assert cache_root() == tmp_path / "variable"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_root().name == "mpncov_zoo"
