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
from mpncov_zoo.features.work import Done, Work, Worker
from mpncov_zoo.quiet import import_tensorflow, native_stderr_held

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
        self.failure: str | None = None
        try:
            self.worker = _worker(work, cores)
        except (ZooError, OSError) as error:  # said once by the caller, not by Ray with a traceback for each worker
            self.failure = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with a chunk -> one with what became of it, or of a failure what it says."""
        if self.failure is None:
            try:
                return {"done": pickle.dumps(self.worker(pickle.loads(row["chunk"]))), "failure": ""}
            except (ZooError, OSError) as error:
                return {"done": b"", "failure": str(error)}
        return {"done": b"", "failure": self.failure}


def compute(
    work: Work, chunks: Sequence[Chunk], *, address: str | None, workers: int | None, gpus_per_worker: float
) -> Iterator[Done]:
    """What becomes of each chunk, as it is done. A chunk whose worker is lost is done again by another.

    Args:
        work: for all workers.
        chunks: to be done.
        address: of the cluster, "auto" for the one that this machine belongs to; None for a new one on this machine.
        workers: how many; by default one for each machine, or one for each share of a GPU.
        gpus_per_worker: of each, 0 for none.

    Raises:
        InputError: no cluster is at the address, it has no room for a worker, or a worker failed.
    """
    with _cluster(address) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        count, cores = share(
            [node.get("CPU", 0) for node in nodes], workers or _default_workers(nodes, gpus_per_worker)
        )
        gpus = sum(node.get("GPU", 0) for node in nodes)
        if gpus_per_worker > gpus:
            raise InputError(f"The cluster has {gpus:g} GPUs; a worker needs {gpus_per_worker:g}.")
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
                if row["failure"]:
                    raise InputError(row["failure"])
                yield pickle.loads(row["done"])
        except ray.exceptions.RayError as error:
            raise InputError(f"Ray ended the run: {str(error).strip().splitlines()[-1]}") from error


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


def share(cores: Sequence[float], workers: int) -> tuple[int, int]:
    """How many workers machines with so many cores take, and how many cores each of them has.

    Raises:
        InputError: there are fewer cores than workers.
    """
    for each in range(int(max(cores, default=0)), 0, -1):
        if sum(int(own // each) for own in cores) >= workers:
            return workers, each
    raise InputError(f"{workers} workers need a core each; the cluster has {sum(map(int, cores))}.")


def _default_workers(nodes: Sequence[dict[str, float]], gpus_per_worker: float) -> int:
    if gpus_per_worker:
        return max(1, sum(int(node.get("GPU", 0) // gpus_per_worker) for node in nodes))
    return sum(node.get("CPU", 0) >= 1 for node in nodes)


def _worker(work: Work, cores: int) -> Worker:
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
            raise InputError(f"No Ray cluster at {address}: {error.strerror or error}.") from None


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected, and silent; a cluster that was connected before stays so.

    Raises:
        InputError: there is no cluster at the address.
    """
    ray = require_ray()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    _require_answer(address)
    with native_stderr_held():
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"No Ray cluster at {address or 'this machine'}: {reason}") from None
    try:
        yield ray
    finally:
        ray.shutdown()
