"""Fetching a file of 300 MB over loopback, verified, against huggingface_hub, which checks its size alone.

    python -m benchmarks.fetch [--megabytes 300] [--repeats 7]

A server in a process of its own gives the same file to both; two processes, both warm, take turns. The second part is
a hit: an artifact of that size in the cache, every sha256 computed, against `hashlib.file_digest` of the same bytes.
Figures are medians and the ratio of the medians; peak memory is that of the fetches, above the imports (Linux).
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import Answer, Request, peak_memory, serve, sides

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "owner/name"
FILE = "variables.data"
MEGABYTE = 1_000_000


class Handler(BaseHTTPRequestHandler):
    """One file under every path, with what huggingface_hub wants to know of it."""

    protocol_version = "HTTP/1.1"
    path_of_file: Path

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(self.path_of_file.stat().st_size))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.flush()
        with open(self.path_of_file, "rb") as file:
            self.connection.sendfile(file)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def run_server(file: Path) -> None:
    """Serve until the standard input ends; the port is printed."""
    Handler.path_of_file = file
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        print(httpd.server_port, flush=True)
        import threading

        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        sys.stdin.read()
        httpd.shutdown()


Fetch = Callable[[Path], float]  # into this folder; returns seconds


def zoo_side(url: str, file: Path) -> Fetch:
    """Ours: streamed, hashed, synchronized, renamed."""
    from mpncov_zoo.hub.cache import Cache
    from mpncov_zoo.hub.download import Expected, download
    from mpncov_zoo.hub.transport import Address
    from mpncov_zoo.hub.verification import sha256

    expected = Expected(FILE, sha256(file), file.stat().st_size)

    def fetch(folder: Path) -> float:
        start = time.perf_counter()
        download(Address(f"{url}/{FILE}"), expected, Cache(folder))
        return time.perf_counter() - start

    return fetch


def hugging_face_side(url: str, file: Path) -> Fetch:
    """huggingface_hub's own download of one file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()

    def fetch(folder: Path) -> float:
        start = time.perf_counter()
        hf_hub_download(NAME, FILE, revision=COMMIT, cache_dir=folder, endpoint=url)
        return time.perf_counter() - start

    return fetch


def hit_side(url: str, file: Path) -> Fetch:
    """A verified directory of the cache, found and verified again."""
    from mpncov_zoo.hub.cache import Cache
    from mpncov_zoo.hub.verification import describe_files, verify_files

    cache, entries = Cache(file.parent / "cache"), describe_files(file.parent / "served", exclude=())
    if not cache.tree("hit.toy", entries).is_dir():
        with cache.scratch("copy") as scratch:
            shutil.copytree(file.parent / "served", scratch / "copy")
            cache.adopt(scratch / "copy", "hit.toy")

    def verify(_: Path) -> float:
        start = time.perf_counter()
        verify_files(cache.tree("hit.toy", entries), entries)
        return time.perf_counter() - start

    return verify


def digest_side(url: str, file: Path) -> Fetch:
    """hashlib's own way through the bytes."""

    def verify(_: Path) -> float:
        start = time.perf_counter()
        with open(file, "rb") as opened:
            hashlib.file_digest(opened, "sha256").hexdigest()
        return time.perf_counter() - start

    return verify


SIDES = {
    "mpncov_zoo": zoo_side,
    "huggingface_hub": hugging_face_side,
    "hit": hit_side,
    "hashlib.file_digest": digest_side,
}


def work(side: str, url: str, file: Path) -> None:
    """Answer requests with seconds and peak memory above the imports."""
    fetch = SIDES[side](url, file)
    before = peak_memory(since="now")

    def answer(_: Request) -> Answer:
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            seconds = fetch(Path(folder))
        return {"seconds": seconds, "memory": (peak_memory() - before) / MEGABYTE}

    serve(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300, help="size of the file (default: 300)")
    parser.add_argument("--repeats", type=int, default=7, help="timed turns of each side (default: 7)")
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "URL", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--server", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.server:
        return run_server(Path(arguments.server))
    if arguments.worker:
        side, url, file = arguments.worker
        return work(side, url, Path(file))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "served" / FILE
        file.parent.mkdir()
        with open(file, "wb") as opened:
            for _ in range(arguments.megabytes):
                opened.write(os.urandom(MEGABYTE))
        shutil.copyfile(file, Path(folder) / FILE)
        report(measure(Path(folder) / FILE, arguments.repeats), arguments.megabytes)


def measure(file: Path, repeats: int) -> dict[str, list[Answer]]:
    """Let all sides take turns; the first turn settles everybody and is left out."""
    command = [sys.executable, "-m", "benchmarks.fetch"]
    server = subprocess.Popen(
        [*command, "--server", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with sides({side: [*command, "--worker", side, url, str(file)] for side in SIDES}) as ask:
            turns = [{side: ask(side, {}) for side in SIDES} for _ in range(repeats + 1)]
    finally:
        server.communicate()
    return {side: [turn[side] for turn in turns[1:]] for side in SIDES}


def report(answers: dict[str, list[Answer]], megabytes: int) -> None:
    seconds = {side: statistics.median(answer["seconds"] for answer in rows) for side, rows in answers.items()}
    memory = {side: max(answer["memory"] for answer in rows) for side, rows in answers.items()}
    print(f"{megabytes} MB, medians of {len(answers['hit'])}")
    for ours, other, what in (
        ("mpncov_zoo", "huggingface_hub", "fetch"),
        ("hit", "hashlib.file_digest", "verify a hit"),
    ):
        print(
            f"{what:<14}{ours:>12} {seconds[ours]:.3f} s{other:>22} {seconds[other]:.3f} s   "
            f"ratio {seconds[ours] / seconds[other]:.2f}   peak memory {memory[ours]:.0f} MB, {memory[other]:.0f} MB"
        )


if __name__ == "__main__":
    main()
