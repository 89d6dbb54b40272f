"""The cache among processes: killed ones, several at once, a full disk, another user's cache."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpncov_zoo.hub.verification import describe_files
from tests.hub.artifacts import description, make_artifact
from tests.hub.fault_server import Behaviour, FaultServer, Handler, etag, serving, well_behaved

BIG = bytes(range(256)) * 20_000  # 5 MB
FILES = 5  # of the artifact: model.json, graph, index, data, labels
CHILD = """
import sys
from mpncov_zoo.hub import transport
from mpncov_zoo.hub.resolve import resolve
from mpncov_zoo.manifest import Manifest
hub, cache, setup = sys.argv[1:]
transport.LIMITS = transport.Limits(connect=5, read=60, retries=1, backoff=0, window=60)
exec(setup)
try:
    found = resolve("tiny", "toy", hub=hub, manifest=Manifest(schema_version=1, entries=[]), cache_dir=cache)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(found.directory)
"""
WITHOUT_LOCKS = """
import mpncov_zoo.hub.cache
def no_lock(path): raise OSError("locks do not work here")
mpncov_zoo.hub.cache.FileLock = no_lock
"""
SMALL_FILES_ONLY = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""
AS_NOBODY = """
import os
os.setgid(65534); os.setuid(65534)
"""
FORBID_CONNECTIONS = """
import socket
def connect(*_): raise AssertionError("a connection")
socket.socket.connect = connect
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A hub of tiny.toy with a file of 5 MB."""
    artifact = make_artifact(tmp_path / "served" / "tiny.toy")
    (artifact / "variables" / "variables.data-00000-of-00001").write_bytes(BIG)
    files = [file.model_dump() for file in describe_files(artifact)]
    (artifact / "model.json").write_text(json.dumps(description(files=files)))
    with serving(tmp_path / "served") as running:
        yield running


def child(server: FaultServer, cache: Path, setup: str = "") -> subprocess.Popen[str]:
    """A process that resolves tiny.toy; its directory is printed, or its error ends it."""
    command = [sys.executable, "-c", CHILD, server.url, str(cache), setup]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out.strip(), err.strip().splitlines()[-1] if err.strip() else ""


def content(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def artifacts(cache: Path) -> list[Path]:
    return [path for path in cache.glob("artifacts/*") if not path.name.startswith(".")]


def pausing(count: int, reached: threading.Event) -> Behaviour:
    """The big file stops after so many bytes, and waits for its reader to go."""

    def answer(handler: Handler) -> None:
        data = handler.content or b""
        if len(data) != len(BIG):
            return well_behaved(handler)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("ETag", etag(data))
        handler.end_headers()
        handler.wfile.write(data[:count])
        handler.wfile.flush()
        reached.set()
        handler.rfile.read(1)

    return answer


@pytest.mark.parametrize("offset", [0, 1, 1_500_000, len(BIG) - 1])
def test_a_killed_fetch_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, server: FaultServer, offset: int
) -> None:
    reached = threading.Event()
    server.behaviour = pausing(offset, reached)
    process = child(server, tmp_path / "cache")
    assert reached.wait(60)
    for _ in range(6000):  # the server was faster than the file system
        if offset <= 1 or received(tmp_path / "cache") >= offset - 2**20 or process.poll() is not None:
            break
        threading.Event().wait(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert artifacts(tmp_path / "cache") == []
    server.behaviour = well_behaved
    code, directory, _ = finished(child(server, tmp_path / "cache"))
    assert code == 0 and content(Path(directory)) == content(server.root / "tiny.toy")
    assert list((tmp_path / "cache" / "partial").glob("*.partial")) == []


def received(cache: Path) -> int:
    """Bytes of the largest download under way; small ones come and go."""
    sizes = [0]
    for path in cache.glob("partial/*.partial"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return max(sizes)


@pytest.mark.parametrize("setup", ["", WITHOUT_LOCKS])
def test_processes_at_once(tmp_path: Path, server: FaultServer, setup: str) -> None:
    processes = [child(server, tmp_path / "cache", setup) for _ in range(4)]
    results = [finished(process) for process in processes]
    assert {code for code, *_ in results} == {0}, results
    (directory,) = {directory for _, directory, _ in results}
    assert content(Path(directory)) == content(server.root / "tiny.toy")
    assert artifacts(tmp_path / "cache") == [Path(directory)]
    assert list((tmp_path / "cache" / "partial").glob("*.partial")) == []
    fetched = [path for path in server.paths if not path.endswith(".json")]
    if not setup:  # each asks for model.json, which nothing vouches for; all else comes once
        assert sorted(fetched) == sorted(set(fetched)) and len(fetched) == FILES - 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disk(tmp_path: Path, server: FaultServer) -> None:
    code, _, error = finished(child(server, tmp_path / "cache", SMALL_FILES_ONLY))
    assert code == 1 and error.startswith(
        f"FetchError: the cache {tmp_path / 'cache'} cannot be written: File too large"
    )
    assert artifacts(tmp_path / "cache") == [] and not list((tmp_path / "cache" / "partial").glob("*.partial"))
    assert finished(child(server, tmp_path / "cache"))[0] == 0


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only the superuser can become another user")
def test_a_cache_of_another_user_serves_what_it_has(tmp_path: Path, server: FaultServer) -> None:
    cache = tmp_path / "cache"
    code, directory, _ = finished(child(server, cache))
    assert code == 0
    for parent in [*cache.parents]:
        if parent.owner() == cache.owner() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    offline = f"{AS_NOBODY}{FORBID_CONNECTIONS}\nimport os\nos.environ['MPNCOV_ZOO_OFFLINE'] = '1'"
    assert finished(child(server, cache, offline)) == (0, directory, "")
    assert finished(child(server, cache, AS_NOBODY)) == (0, directory, "")  # online, where model.json is asked for anew
    (server.root / "tiny.toy" / "fingerprint.pb").write_bytes(b"new")
    files = [file.model_dump() for file in describe_files(server.root / "tiny.toy")]
    (server.root / "tiny.toy" / "model.json").write_text(json.dumps(description(files=files)))
    code, _, error = finished(child(server, cache, AS_NOBODY))
    assert code == 1 and f"the cache {cache} cannot be written: Permission denied" in error
    assert content(Path(directory)) and len(artifacts(cache)) == 1
