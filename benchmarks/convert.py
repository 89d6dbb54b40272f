"""Converting a seeded mpncov_resnet101 `.pth`, against Keras' own export of the same network and against torch.load.

    python -m benchmarks.convert [--repeats 5]

Three processes take turns; the figures are medians and the ratios of the medians. The conversion is the whole command,
from the file to the artifact, without parity; Keras exports a network that is built already. Reading is compared twice:
every number summed, and every tensor copied out of the mapped file, as torch.load does. Peak memory is that of the
first conversion in its process, above the imported framework, in units of the parameters' bytes (Linux); it counts the
pages of the mapped file that were looked at. The floor of a conversion is to read and place the weights, and to trace
the network for inference and for training, since an artifact can be called for both. Needs torch.
"""

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.side_by_side import Answer, Request, peak_memory, require_torch, serve, sides

MODEL, PARAMETER_BYTES = "mpncov_resnet101", 4 * 75_921_960
GOALS = {"convert": 1.5, "sum": 1.5, "copy": 1.5, "memory": 3.0}
Task = Callable[[], object]


def zoo_tasks(checkpoint: Path) -> Mapping[str, Task]:
    """The conversion, and its parts; the first process writes the checkpoint if it is not there."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    import conversion
    import mpncov_zoo
    from conversion.converter import convert
    from conversion.preparation import prepare
    from conversion.readers.pytorch import read_pth

    if not checkpoint.exists():
        keras.utils.set_random_seed(0)
        conversion.write_pytorch(mpncov_zoo.build(MODEL), checkpoint)
    output = checkpoint.with_name("artifact")
    return {
        "convert": lambda: convert(checkpoint, model=MODEL, output=output),
        "place": lambda: prepare(checkpoint, MODEL).place(),
        "sum": lambda: [np.sum(array) for array in read_pth(checkpoint).tensors.values()],
        "copy": lambda: [np.array(array) for array in read_pth(checkpoint).tensors.values()],
        "bytes": checkpoint.read_bytes,
        "remove": lambda: shutil.rmtree(output, ignore_errors=True),
    }


def keras_tasks(checkpoint: Path) -> Mapping[str, Task]:
    """Keras' export of the built network."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    import mpncov_zoo

    model, output = mpncov_zoo.build(MODEL), checkpoint.with_name("exported")
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)

    def trace() -> None:
        for training in (False, True):
            tf.function(model).get_concrete_function(images, training=training)

    return {
        "convert": lambda: model.export(str(output), verbose=False),
        "trace": trace,
        "remove": lambda: shutil.rmtree(output, ignore_errors=True),
    }


def pytorch_tasks(checkpoint: Path) -> Mapping[str, Task]:
    """PyTorch's reading of the same file."""
    import torch

    return {
        "sum": lambda: [tensor.sum() for tensor in torch.load(checkpoint, weights_only=True).values()],
        "copy": lambda: torch.load(checkpoint, weights_only=True),
    }


SIDES = {"mpncov_zoo": zoo_tasks, "Keras": keras_tasks, "PyTorch": pytorch_tasks}
TURN = (  # who does what, in this order
    ("mpncov_zoo", "convert"),
    ("Keras", "convert"),
    ("mpncov_zoo", "place"),
    ("Keras", "trace"),
    ("mpncov_zoo", "sum"),
    ("PyTorch", "sum"),
    ("mpncov_zoo", "copy"),
    ("PyTorch", "copy"),
    ("mpncov_zoo", "bytes"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed turns (default: 5)")
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "CHECKPOINT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, checkpoint = arguments.worker
        answer_requests(SIDES[side](Path(checkpoint)))
        return
    require_torch(parser)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder) / f"{MODEL}.pth")
        commands = {side: [sys.executable, "-m", "benchmarks.convert", "--worker", side, checkpoint] for side in SIDES}
        # once, so that the file is there and no writing of it counts as memory
        subprocess.run(commands["mpncov_zoo"], stdin=subprocess.DEVNULL, check=True)
        with sides(commands) as ask:  # the first turn is cold
            turns = [{step: ask(step[0], {"task": step[1]}) for step in TURN} for _ in range(arguments.repeats + 1)]
    report(turns)


def answer_requests(tasks: Mapping[str, Task]) -> None:
    """For each request do a task once and answer seconds, and the peak memory until then over the parameters'."""
    imported = peak_memory()

    def answer(what: Request) -> Answer:
        gc.collect()
        start = time.perf_counter()
        tasks[what["task"]]()
        seconds, memory = time.perf_counter() - start, peak_memory() - imported
        tasks.get("remove", list)()
        return {"seconds": seconds, "memory": memory / PARAMETER_BYTES}

    serve(answer)


def report(turns: list[dict[tuple[str, str], Answer]]) -> None:
    """A row a comparison: ours, theirs, their ratio and the goal; then what bounds them from below."""
    seconds = {step: statistics.median(turn[step]["seconds"] for turn in turns[1:]) for step in TURN}
    rows = (
        ("whole conversion / Keras' export (s)", "convert", "Keras"),
        ("read, every number summed / torch.load (s)", "sum", "PyTorch"),
        ("read, every tensor copied / torch.load (s)", "copy", "PyTorch"),
    )
    print(f"{f'{MODEL}, medians of {len(turns) - 1}':<44}{'mpncov_zoo':>12}{'other':>10}{'ratio':>8}{'goal':>8}")
    for label, task, other in rows:
        ours, theirs = seconds["mpncov_zoo", task], seconds[other, task]
        print(f"{label:<44}{ours:>12.2f}{theirs:>10.2f}{ours / theirs:>8.2f}{GOALS[task]:>8.1f}")
    memory = turns[0]["mpncov_zoo", "convert"]["memory"]
    print(f"{'peak memory of a conversion / parameters':<44}{memory:>12.2f}{'':>18}{GOALS['memory']:>8.1f}")
    place, trace = seconds["mpncov_zoo", "place"], seconds["Keras", "trace"]
    print(f"{'reading, building and placing alone (s)':<44}{place:>12.2f}")
    print(f"{'floor: that, and tracing twice (s)':<44}{place + trace:>12.2f}")
    print(f"{'floor of reading: the bytes of the file (s)':<44}{seconds['mpncov_zoo', 'bytes']:>12.2f}")


if __name__ == "__main__":
    main()
