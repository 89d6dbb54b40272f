"""Several devices and several processes against one: this file is also the program that such a process runs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo.backbones.blocks import BATCH_NORM, BatchNormalization
from mpncov_zoo.cli import main
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.training import distribution, fit
from mpncov_zoo.training.datasets import read_dataset, split_holdout
from mpncov_zoo.training.datasets.pipelines import training_batches
from mpncov_zoo.training.divergence import DivergenceGuard
from mpncov_zoo.training.networks import build
from mpncov_zoo.training.optimization import compile_for
from mpncov_zoo.training.recipes import load_recipe
from mpncov_zoo.training.runs import Run
from mpncov_zoo.training.state import read_arrays, read_history
from tests.conftest import SPARE_VARIABLE, TINY_RECIPE
from tests.fashion import ONE_CONVOLUTION

PROGRAM = "tests.training.test_distribution"
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", SPARE_VARIABLE: "jax pandas sklearn"}  # no GPU, and a quicker start
TIMEOUT = 300  # seconds; a process takes 10 to 20 where nothing else runs
STEPS = 3
HOLDOUT = 7  # images: their last batch is a partial one, and its parts are of different sizes
Results = dict[str, np.ndarray]

CHANNELS = 4
IMAGES = np.random.default_rng(0).normal([0, 1, -3, 100], [1, 2, 0.5, 1], (6, 5, 4, CHANNELS)).astype(np.float32)
SHARES = (4, 2)  # images of the replicas


# --- what the processes compute ---------------------------------------------------------------------------------------


def trained(strategy: tf.distribute.Strategy, data: Path, precision: str) -> Results:
    """A small network after some steps: its variables, the optimiser's, and what `fit` said of every step.

    Args:
        strategy: who trains.
        data: directory of the images.
        precision: dtype policy. In float32 the steps diverge by rounding: a few of 10^5 activations are rectified by
            one and not by the other, each of which changes a gradient by 10^-2 of its largest.
    """
    settings = [*TINY_RECIPE, 'stages=["stem"]', "options.representation.dropout=0.0", "optimizer.warmup_epochs=0"]
    recipe = load_recipe("fashion_mnist", [*settings, f"holdout={HOLDOUT}"]).model_copy(update={"precision": precision})
    training, holdout = split_holdout(read_dataset(recipe.dataset, data, "train"), recipe.holdout, recipe.seed)
    distribution.require_shareable(strategy, recipe.batch_size, recipe.precision)
    keras.utils.set_random_seed(recipe.seed)
    with strategy.scope():
        model = build(recipe, training.class_names)
        compile_for(model, recipe, STEPS)

    def make_batches(share: Any) -> tf.data.Dataset:
        settings = {"batch_size": recipe.batch_size, "seed": recipe.seed, "epoch": 0, "share": share}
        return training_batches(training, recipe.input, recipe.augmentation, **settings)

    validation, validation_steps = distribution.distributed_evaluation(strategy, holdout, recipe.input, 2)
    said = Said()
    steps = STEPS if precision == "float64" else 1
    with distribution.losing_workers(strategy):
        history = model.fit(
            distribution.distributed_batches(strategy, make_batches, recipe.batch_size),
            steps_per_epoch=steps,
            shuffle=False,
            validation_data=validation,
            validation_steps=validation_steps,
            callbacks=[said],
            verbose=0,  # pyright: ignore[reportArgumentType]
        ).history
    results = {f"model/{name}": variable.numpy() for name, variable in model.named_variables().items()}
    results |= {f"optimizer/{variable.path}": variable.numpy() for variable in model.optimizer.variables}
    return results | {f"said/{name}": np.array(values) for name, values in [*said.logs.items(), *history.items()]}


class Said(keras.callbacks.Callback):
    """Notes loss and accuracy after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, list[float]] = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        for name, value in (logs or {}).items():
            self.logs.setdefault(f"step_{name}", []).append(float(value))


def normalized(strategy: tf.distribute.Strategy, shares: tuple[int, ...], dtype: str) -> Results:
    """Batch normalisation in training: outputs, gradients of a seeded weighting of them, and the moving statistics."""
    with strategy.scope():
        layer = BatchNormalization(**BATCH_NORM, dtype=dtype)
        layer.build((None, None, None, CHANNELS))
    layer.gamma.assign([0.5, 1.0, 1.5, 2.0])
    ends = np.cumsum(shares)
    weights = np.random.default_rng(1).normal(0, 1, IMAGES.shape).astype(np.float32)

    def part(values: np.ndarray) -> Any:
        def own(context: Any) -> tf.Tensor:
            end = ends[context.replica_id_in_sync_group]
            return tf.constant(values[end - shares[context.replica_id_in_sync_group] : end], layer.compute_dtype)

        return strategy.experimental_distribute_values_from_function(own)

    @tf.function
    def step(images: tf.Tensor, weights: tf.Tensor) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(outputs * weights)
        return outputs, *tape.gradient(loss, [images, layer.gamma.value, layer.beta.value])

    def joined(values: Any) -> np.ndarray:
        return np.concatenate([tf.cast(own, tf.float32).numpy() for own in strategy.experimental_local_results(values)])

    outputs, d_images, d_gamma, d_beta = strategy.run(step, args=(part(IMAGES), part(weights)))
    return {
        "outputs": joined(outputs),
        "d_images": joined(d_images),
        "d_gamma": strategy.reduce("SUM", d_gamma, axis=None).numpy(),
        "d_beta": strategy.reduce("SUM", d_beta, axis=None).numpy(),
        "moving_mean": layer.moving_mean.numpy(),
        "moving_variance": layer.moving_variance.numpy(),
    }


def dropout_masks(strategy: tf.distribute.Strategy) -> Results:
    """What dropout leaves of each replica's ones."""
    with strategy.scope():
        layer = keras.layers.Dropout(0.5, seed=1)
    masks = strategy.run(tf.function(lambda: layer(tf.ones((1, 64)), training=True)))
    return {"masks": strategy.gather(masks, axis=0).numpy()}


def on_two_devices(data: Path, _: Path) -> Results:
    """All that is compared with one device."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = distribution.make_strategy("mirrored")
    results = dropout_masks(strategy)
    for dtype in ("float32", "mixed_bfloat16"):
        results |= {f"{dtype}/{name}": value for name, value in normalized(strategy, SHARES, dtype).items()}
    for precision in ("float64", "float32"):
        results |= {f"{precision}/{name}": value for name, value in trained(strategy, data, precision).items()}
    return results


def as_worker(data: Path, run: Path) -> Results:
    """Train in a cluster, also a whole run; afterwards the workers are told different numbers of epochs."""
    strategy = distribution.make_strategy("multi_worker")
    chief = distribution.is_chief(strategy)
    distribution.meet(strategy, 0)
    results = trained(strategy, data, "float64")
    fit.make_strategy = lambda name: strategy  # a process has one
    assert main([str(argument) for argument in training(data, run)[1:]]) == 0
    with pytest.raises(InputError) as refusal:
        distribution.meet(strategy, 2 if chief else 1)
    return {**results, "chief": np.array(chief), "refusal": np.array(str(refusal.value))}


TASKS = {"two_devices": on_two_devices, "worker": as_worker}


def training(data: Path, run: Path, *options: str) -> list[Any]:
    """The command line of a worker that trains a whole run."""
    command = ["mpncov_zoo", "train", "fashion_mnist", "--data", data, "--output", run, "--strategy", "multi_worker"]
    return [*command, *options, "--set", *ONE_CONVOLUTION]


# --- how they are started ---------------------------------------------------------------------------------------------


def run_together(commands: list[list[Any]]) -> list[tuple[int, str]]:
    """Run Python programs as the workers of a cluster; exit status and standard error of each."""
    addresses = free_addresses(len(commands))
    processes, errors = [], []
    with ExitStack() as stack:
        for index, arguments in enumerate(commands):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            errors.append(stack.enter_context(tempfile.TemporaryFile("w+")))  # a full pipe would stop them all
            process = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT, "TF_CONFIG": json.dumps(cluster)},
                stdout=subprocess.DEVNULL,
                stderr=errors[-1],
            )
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        statuses = [process.wait(TIMEOUT) for process in processes]
        for error in errors:
            error.seek(0)
        return [(status, error.read()) for status, error in zip(statuses, errors, strict=True)]


def free_addresses(count: int) -> list[str]:
    """Of ports on this machine that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def task(name: str, output: Path, data: Path) -> list[Any]:
    """The command of one of this file's tasks."""
    return [PROGRAM, name, output, data, output.parent / "run"]


def computed(name: str, directory: Path, data: Path, *, processes: int = 1) -> list[Results]:
    """What a task's processes saved. They end when they are told to, which several workers' TensorFlow would not."""
    outputs = [directory / f"{index}.npz" for index in range(processes)]
    for status, error in run_together([task(name, output, data) for output in outputs]):
        assert status == -signal.SIGTERM, error
    return [dict(np.load(output)) for output in outputs]


# --- several devices compute what one does ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_device(tiny_fashion: Path) -> Results:
    return trained(distribution.make_strategy("single"), tiny_fashion, "float64")


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory, tiny_fashion: Path) -> Results:
    return computed("two_devices", tmp_path_factory.mktemp("two_devices"), tiny_fashion)[0]


def part(results: Results, prefix: str) -> Results:
    """Those below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in results.items() if name.startswith(prefix)}


def assert_same(actual: Results, expected: Results, tolerance: float) -> None:
    """Every array, relative to its largest element."""
    assert actual.keys() == expected.keys()
    differences = {name: float(np.abs(actual[name] - value).max()) for name, value in expected.items()}
    limits = {name: tolerance * float(np.abs(value).max()) for name, value in expected.items()}
    assert {name: value for name, value in differences.items() if value > limits[name]} == {}


def assert_trained_the_same(actual: Results, expected: Results) -> None:
    """Also the momenta; the loss itself is float32 in Keras, whatever the precision of the network."""
    for prefix, tolerance in (("model/", 1e-7), ("optimizer/", 1e-6), ("said/", 1e-6)):
        assert_same(part(actual, prefix), part(expected, prefix), tolerance)


def test_two_devices_train_as_one(two_devices: Results, one_device: Results) -> None:
    assert_trained_the_same(part(two_devices, "float64/"), one_device)


def test_two_devices_step_as_one_in_float32(two_devices: Results, tiny_fashion: Path) -> None:
    """Losses and all layers' statistics of a step: no gradient has come into them yet."""
    actual = part(two_devices, "float32/")
    expected = trained(distribution.make_strategy("single"), tiny_fashion, "float32")
    names = [name for name in expected if "/moving_" in name or name in ("said/step_loss", "said/loss")]
    assert_same({name: actual[name] for name in names}, {name: expected[name] for name in names}, 1e-5)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory, tiny_fashion: Path) -> tuple[list[Results], Path]:
    """What the chief and the other computed, and the directory of the run that they trained."""
    directory = tmp_path_factory.mktemp("two_workers")
    return computed("worker", directory, tiny_fashion, processes=2), directory / "run"


def test_two_workers_train_as_one(two_workers: tuple[list[Results], Path], one_device: Results) -> None:
    assert [bool(results["chief"]) for results in two_workers[0]] == [True, False]
    for results in two_workers[0]:
        assert "The workers do not see the same run: complete epochs are 2, 1." in str(results["refusal"])
        assert_trained_the_same(results, one_device)


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("mixed_bfloat16", 2**-7)])
def test_batch_norm_of_two_devices_is_the_fused_kernels_on_all_images(
    two_devices: Results, dtype: str, rounding: float
) -> None:
    """Also where they have different numbers of images, and where the mean is 100 standard deviations."""
    expected = normalized(distribution.make_strategy("single"), (len(IMAGES),), dtype)
    actual = {name: two_devices[f"{dtype}/{name}"] for name in expected}
    assert_same(part(actual, "moving_"), part(expected, "moving_"), 1e-6)
    assert_same(actual, expected, rounding)


def test_all_devices_draw_the_same_dropout_masks(two_devices: Results) -> None:
    """As docs/scaling.md says: with dropout, several devices are not one."""
    first, second = two_devices["masks"]
    np.testing.assert_array_equal(first, second)
    assert 0 < np.count_nonzero(first) < first.size


# --- a worker is killed -----------------------------------------------------------------------------------------------


class DiesInSecondEpoch(DivergenceGuard):
    """Kills its process after three batches of the second epoch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self._epoch, batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)


def states(run: Path) -> dict[str, bytes]:
    """All variables after the last epoch."""
    return {name: array.tobytes() for name, array in read_arrays(Run(run).state).items() if name != "history"}


def test_after_a_worker_is_killed_all_resume(
    two_workers: tuple[list[Results], Path], tiny_fashion: Path, tmp_path: Path
) -> None:
    """Bit by bit as if nothing had happened."""
    _, whole = two_workers
    run = tmp_path / "run"
    command = training(tiny_fashion, run)
    (status, error), (killed, _) = run_together([command, [PROGRAM, *command]])
    assert (status, killed) == (2, -signal.SIGKILL)
    assert "Another worker ended or cannot be reached. Start all of them again with --resume." in error
    assert len(read_history(Run(run).state)) == 1
    for status, error in run_together([training(tiny_fashion, run, "--resume")] * 2):
        assert status == 0, error
    assert states(run) == states(whole)
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in whole.iterdir())


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InputError, match=r"strategy is one of single, mirrored, multi_worker\. Received: 'tpu'"):
        distribution.make_strategy("tpu")


WORKERS = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        '{"cluster":',
        "[]",
        json.dumps({"cluster": WORKERS}),
        json.dumps({"cluster": {}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": "0"}}),
        json.dumps({"cluster": WORKERS, "task": {"type": "chief", "index": 0}}),
        json.dumps({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {"worker": ["a:b"]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {"worker": ["a:65536"]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {**WORKERS, "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}),
    ],
)
def test_workers_without_a_usable_cluster_are_told_what_one_is(
    config: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match=r'TF_CONFIG: \{"cluster": \{"worker": \["host0:2222", .* Received: '):
        distribution.make_strategy("multi_worker")


@pytest.mark.parametrize(
    ("language", "workers"),
    [("bash", ["node-7:10042", "node-9:10042"]), ("yaml", ["mpncov-0.mpncov:2222", "mpncov-1.mpncov:2222"])],
)
def test_the_documented_programs_print_the_cluster(language: str, workers: list[str], tmp_path: Path) -> None:
    """Those of Slurm and Kubernetes, as the second of two workers."""
    text = (ROOT / "docs" / "scaling.md").read_text()
    (program,) = re.findall(
        rf"```{language}\n(?:(?!```).)*?<<'PYTHON'\n(.*?)^ *PYTHON$", text, re.DOTALL | re.MULTILINE
    )
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node-[7,9]" ] && printf "node-7\\nnode-9\\n"\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node-[7,9]", "SLURM_JOB_ID": "50042", "SLURM_PROCID": "1"}
    kubernetes = {"WORKERS": "2", "JOB_COMPLETION_INDEX": "1"}
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **slurm, **kubernetes}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    printed = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout
    assert json.loads(printed) == {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}}


def test_workers_begin_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tf.constant(1)
    cluster = {"cluster": {"worker": free_addresses(1)}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(InputError, match="multi_worker must be chosen in a new process"):
        distribution.make_strategy("multi_worker")


def replicas(count: int) -> Any:
    """Of a strategy, all that is looked at before training."""
    return SimpleNamespace(num_replicas_in_sync=count)


def test_what_replicas_cannot_train_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size=32 cannot be shared equally by 3 replicas"):
        distribution.require_shareable(replicas(3), 32, "float32")
    with pytest.raises(InputError, match="mixed_float16 cannot be trained by 2 replicas"):
        distribution.require_shareable(replicas(2), 32, "mixed_float16")
    for count, precision in ((1, "mixed_float16"), (2, "mixed_bfloat16"), (4, "float32")):
        distribution.require_shareable(replicas(count), 32, precision)


def test_fewer_images_than_replicas_cannot_be_measured(tiny_fashion: Path) -> None:
    recipe = load_recipe("fashion_mnist")
    split = read_dataset(recipe.dataset, tiny_fashion, "test").take(np.arange(3))
    with pytest.raises(InputError, match="3 images cannot be shared by 4 replicas"):
        distribution.distributed_evaluation(replicas(4), split, recipe.input)


def test_one_device_loses_nobody() -> None:
    """An error of TensorFlow's remains what it is."""
    with pytest.raises(tf.errors.AbortedError), distribution.losing_workers(distribution.make_strategy("single")):
        raise tf.errors.AbortedError(None, None, "something else")


if __name__ == "__main__":
    if sys.argv[1] == "mpncov_zoo":
        fit.DivergenceGuard = DiesInSecondEpoch
        sys.exit(main(sys.argv[2:]))
    try:
        np.savez(sys.argv[2], **TASKS[sys.argv[1]](*map(Path, sys.argv[3:])))
    except ZooError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    os.kill(os.getpid(), signal.SIGTERM)  # as Slurm and Kubernetes do; TensorFlow takes it to itself, and would go on
    time.sleep(TIMEOUT)
