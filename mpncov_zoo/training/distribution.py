"""Trains on several devices by TensorFlow's strategies; every worker reads its own part of each batch.

A replica is a device with a copy of the network. A worker is a process with one or more replicas. A batch size is
always that of all replicas together.
"""

import json
import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.datasets import Split
from mpncov_zoo.training.datasets.pipelines import WHOLE, Share, evaluation_batches

logger = logging.getLogger(__name__)

STRATEGIES = ("single", "mirrored", "multi_worker")
ENDLESS = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
TF_CONFIG_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}, '
    "with the same cluster on all workers and each one's own index"
)


class _ReducesForKeras(tf.distribute.Strategy):
    """Answers two calls of `reduce` by the `fit` of Keras 3.15 that TensorFlow refuses (keras-team/keras#20585).

    Keras reduces a whole batch, which is a tuple, to learn the shapes in it. With several workers it reduces scalars
    along an axis.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """What TensorFlow's method does, and the two calls besides."""
        if isinstance(value, tuple):
            return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
        scalar = self.experimental_local_results(value)[0].shape.rank == 0
        return super().reduce(reduce_op, value, axis=None if scalar else axis)


class _Mirrored(_ReducesForKeras, tf.distribute.MirroredStrategy):
    pass


class _MultiWorker(_ReducesForKeras, tf.distribute.MultiWorkerMirroredStrategy):
    pass


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy under which a network is built and trained.

    Args:
        name: "single" is one device, "mirrored" all devices of this process. "multi_worker" is all devices of all
            processes that TF_CONFIG in the environment names; it must be made before TensorFlow computes anything.

    Raises:
        InputError: there is no such strategy; or, for "multi_worker", TF_CONFIG cannot be used or TensorFlow has
            computed something already.
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy is one of {', '.join(STRATEGIES)}. Received: {name!r}.")
    if name == "single":
        return tf.distribute.get_strategy()
    strategy = _Mirrored() if name == "mirrored" else _multi_worker()
    replicas = strategy.num_replicas_in_sync
    logger.info("%s: %d replicas, here %s", name, replicas, ", ".join(strategy.extended.worker_devices))
    if replicas == 1:
        logger.warning("%s found one device only: this is the same as single", name)
    return strategy


def _multi_worker() -> tf.distribute.Strategy:
    _require_cluster(os.environ.get("TF_CONFIG"))
    stops = signal.getsignal(signal.SIGTERM)
    try:
        strategy = _MultiWorker()
        if threading.current_thread() is threading.main_thread() and stops is not None:
            signal.signal(signal.SIGTERM, stops)  # TensorFlow took it, and would go on
        return strategy
    except RuntimeError as error:  # "Collective ops must be configured at program startup"
        raise InputError(f"multi_worker must be chosen in a new process: {error}.") from error


def _require_cluster(text: str | None) -> None:
    """Refuse a TF_CONFIG that TensorFlow would misunderstand, or that would end the process."""
    try:
        values = json.loads(text or "")
        hosts = values["cluster"][values["task"]["type"]]
        known = {*values["cluster"]} <= {"chief", "worker"} and all(_is_address(host) for host in hosts)
        usable = known and values["task"]["index"] in range(len(hosts))
    except (AttributeError, ValueError, KeyError, TypeError, IndexError):
        usable = False
    if not usable:
        raise InputError(f"multi_worker needs the environment's TF_CONFIG: {TF_CONFIG_EXAMPLE}. Received: {text!r}.")


def _is_address(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return bool(name) and port.isdecimal() and 0 < int(port) < 2**16


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Does this process write files? Of several workers only the first one does."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def require_shareable(strategy: tf.distribute.Strategy, batch_size: int, precision: str) -> None:
    """Refuse a batch size or a precision that several replicas cannot train with.

    Args:
        strategy: the strategy, which knows the number of replicas.
        batch_size: images of a training batch.
        precision: the precision of the recipe.

    Raises:
        InputError: the batch cannot be divided equally, or the precision is mixed_float16. In Keras 3.15 each replica
            decides by its own gradients whether all take a step, so they would wait for one another for ever.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(f"batch_size={batch_size} cannot be shared equally by {replicas} replicas.")
    if replicas > 1 and precision == "mixed_float16":
        raise InputError(f"mixed_float16 cannot be trained by {replicas} replicas; mixed_bfloat16 and float32 can.")


def distributed_batches(
    strategy: tf.distribute.Strategy, make_batches: Callable[[Share], tf.data.Dataset], batch_size: int
) -> Any:
    """Endless training batches for `fit`; every worker reads its share of each, and divides it among its replicas.

    Args:
        strategy: the strategy of the workers.
        make_batches: returns the share of a worker: endless batches of batch_size / workers images.
        batch_size: images of a whole batch, which the replicas can share equally.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return make_batches(WHOLE)

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batches = make_batches(Share(context.input_pipeline_id, context.num_input_pipelines))
        return batches.rebatch(batch_size // replicas).apply(ENDLESS)  # else each step asks all workers

    return strategy.distribute_datasets_from_function(own)


def distributed_evaluation(
    strategy: tf.distribute.Strategy, split: Split, spec: InputSpecification, batch_size: int = 250
) -> tuple[Any, int]:
    """`evaluation_batches` for `fit`, divided among all replicas: each image is seen once, by one of them.

    Args:
        strategy: the strategy of the workers.
        split: the images.
        spec: the network's input specification.
        batch_size: images at once, at most, of each replica.

    Returns:
        (validation_data, validation_steps). The data seem endless, and the number of steps is given: Keras begins data
        of a known length a second time at the end of each evaluation. Of several replicas it also counts the batches of
        each.

    Raises:
        InputError: there are fewer images than replicas. TensorFlow's convolutions on a CPU fail without an image.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        batches = evaluation_batches(split, spec, batch_size)
        return batches.apply(ENDLESS), len(batches)  # repeated, they would be read ahead for the next epoch
    if len(split) < replicas:
        raise InputError(f"{len(split)} images cannot be shared by {replicas} replicas: each needs one.")
    batches = np.array_split(np.arange(len(split)), math.ceil(len(split) / (batch_size * replicas)))
    parts = [np.array_split(batch, replicas) for batch in batches]

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        mine = [part for batch in parts for part in batch[first : first + local]]
        images = split.take(np.concatenate(mine))
        return evaluation_batches(images, spec, batch_size).rebatch(np.array([len(part) for part in mine])).repeat()

    return strategy.distribute_datasets_from_function(own), len(batches)


@contextmanager
def chief_first(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Within this context the chief works first; the other workers wait until it is done."""
    if not is_chief(strategy):
        meet(strategy, 0)
    yield
    if is_chief(strategy):
        meet(strategy, 0)


def meet(strategy: tf.distribute.Strategy, epochs: int) -> None:
    """Wait until all workers are here.

    Args:
        strategy: of the workers.
        epochs: how many epochs are complete, as this worker sees it.

    Raises:
        InputError: another worker sees another number of epochs.
    """
    if strategy.cluster_resolver is None:
        return
    seen = strategy.gather(strategy.run(tf.function(lambda: tf.constant([epochs]))), axis=0).numpy()
    if (seen != epochs).any():
        raise InputError(
            f"The workers do not see the same run: complete epochs are {', '.join(map(str, seen))}. "
            "Its directory must be on a file system that all of them share."
        )


@contextmanager
def losing_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Within this context an error because another worker is lost says so.

    Raises:
        ZooError: another worker ended, or cannot be reached.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if strategy.cluster_resolver is None:
            raise
        raise ZooError("Another worker ended or cannot be reached. Start all of them again with --resume.") from error
