"""Sides that take turns, each in a process of its own: what the benchmarks here have in common."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Request = dict[str, Any]
Answer = dict[str, float]


def serve(answer: Callable[[Request], Answer]) -> None:
    """A side's process: a request a line on stdin, its answer a line on stdout."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


@contextmanager
def sides(commands: Mapping[str, list[str]], **environment: Any) -> Iterator[Callable[[str, Request], Answer]]:
    """Start a process a side; within the context `ask(side, request)` lets one of them work and returns its answer."""
    processes = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **environment)
        for name, command in commands.items()
    }

    def ask(side: str, request: Request) -> Answer:
        stdin, stdout = processes[side].stdin, processes[side].stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{json.dumps(request)}\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(
                f"The side {side!r} ended with exit code {processes[side].wait()}; its error stands above."
            )
        return json.loads(line)

    try:
        yield ask
    finally:
        for process in processes.values():
            process.communicate()


def require_torch(parser: argparse.ArgumentParser) -> None:
    """End the program with one line where PyTorch is not installed."""
    if find_spec("torch") is None:
        parser.error("PyTorch is measured against, and is not installed: pip install torch")


def peak_memory(since: str = "start") -> int:
    """Highest resident memory of this process, bytes (Linux); since="now" begins anew and returns the present one."""
    if since == "now":
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
