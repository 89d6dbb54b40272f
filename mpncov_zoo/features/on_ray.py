"""The workers of a run over many images on a Ray cluster, scheduled by Ray Data."""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.features.chunks import Chunk
from mpncov_zoo.features.places import reason
from mpncov_zoo.features.work import Done, Work, Worker
from mpncov_zoo.quiet import import_tensorflow, native_stderr_held, spare_imports

PASSED_ON = ("MPNCOV_ZOO_", "HF_HUB_OFFLINE")  # beginnings of the variables that workers get: where weights come from
SECONDS = 10  # until an address has answered


class RayWorker:
    """A `Worker` in a process of Ray, on some of the machine's cores.

    Args:
        work: what is to be done.
        environment: variables of the process.
        cores: how many it may use.
    """

    def __init__(self, work: Work, environment: dict[str, str], cores: int):
        os.environ.update(environment)
        self.failure: ZooError | None = None
        try:
            self.worker = _worker(work, cores)
        except ZooError as error:  # raised once by the caller, not by Ray with a traceback for each worker
            self.failure = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with a chunk -> one with what became of it, a `Done` or a ZooError."""
        try:
            found = self.failure or self.worker(pickle.loads(row["chunk"]))
        except ZooError as error:
            found = error
        return {"found": pickle.dumps(found)}


def compute(
    work: Work, chunks: Sequence[Chunk], *, address: str | None, workers: int | None, gpus_per_worker: float
) -> Iterator[Done]:
    """What becomes of each chunk, as it is done. A chunk whose worker is lost is done again by another.

    Args:
        work: for all workers.
        chunks: to be done.
        address: of the cluster, "auto" for the one that this machine belongs to; None for the one that Ray is
            connected to, or else a new one on this machine.
        workers: how many; by default as many as there is room for, where each has the cores of the largest machine, or
            `gpus_per_worker`.
        gpus_per_worker: of each, 0 for none.

    Raises:
        InputError: no cluster is at the address, it has no room for a worker, or Ray fails.
        ZooError: of a worker.
    """
    with _cluster(address) as ray:
        count, cores = _shares(ray, workers, gpus_per_worker)
        environment = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
        rows = ray.data.from_items(
            [{"chunk": pickle.dumps(chunk)} for chunk in chunks], override_num_blocks=len(chunks)
        )
        size = min(count, len(chunks))
        found = rows.map(
            RayWorker,
            fn_constructor_args=(work, environment, cores),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size),
            num_cpus=cores,
            num_gpus=gpus_per_worker,
        )
        try:
            for row in found.iter_rows():
                done = pickle.loads(row["found"])
                if isinstance(done, ZooError):
                    raise done
                yield done
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1:]  # what a traceback ends with
            raise InputError(f"Ray ended the run: {''.join(last) or type(error).__name__}") from error


def require_ray() -> Any:
    """Ray, without its chatter.

    Raises:
        ZooError: it is not installed.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ZooError("engine ray needs Ray: pip install 'mpncov-zoo[ray]'.") from None
    return ray


def share(cores: Sequence[float], workers: int) -> int:
    """How many cores each of so many workers has, on machines with so many cores.

    Raises:
        InputError: there are fewer cores than workers.
    """
    for each in range(int(max(cores, default=0)), 0, -1):
        if sum(int(own // each) for own in cores) >= workers:
            return each
    raise InputError(f"{workers} workers need a core each; the cluster has {sum(map(int, cores))}.")


def _shares(ray: Any, workers: int | None, gpus_per_worker: float) -> tuple[int, int]:
    """How many workers there are, and how many cores each has."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit = [node for node in nodes if node.get("GPU", 0) >= gpus_per_worker]
    if not fit:
        raise InputError(f"No machine of the cluster has {gpus_per_worker:g} GPUs.")
    cores = [node.get("CPU", 0) for node in fit]
    if workers is not None:
        return workers, share(cores, workers)
    if gpus_per_worker:
        workers = sum(int(node["GPU"] // gpus_per_worker) for node in fit)
        return workers, share(cores, workers)
    each = share(cores, 1)
    return sum(int(own // each) for own in cores), each


def _worker(work: Work, cores: int) -> Worker:
    spare_imports()
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    return Worker(work)


def _require_answer(address: str | None) -> None:
    """Refuse an address where nobody listens, for which Ray would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), SECONDS).close()
        except OSError as error:
            raise InputError(f"No Ray cluster at {address}: {reason(error)}.") from None


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected, and silent; a cluster that was connected before stays so.

    Raises:
        InputError: there is no cluster at the address.
    """
    ray = require_ray()
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    connected = ray.is_initialized()
    if not connected:
        _connect(ray, address)
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars, level = before
        log.setLevel(level)
        if not connected:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    _require_answer(address)
    with native_stderr_held():
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"No Ray cluster at {address or 'this machine'}: {reason(error)}") from None
