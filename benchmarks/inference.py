"""Inference in every way that this package offers, against the published PyTorch network.

    python -m benchmarks.inference [--models mpncov_resnet50 efficientnet_lite0] [--batches 1 8] [--repeats 7]

Every side is a process of its own with the same architecture and random weights; they take turns on a batch of the
same shape, after untimed calls, and the figures are medians and ratios of medians to PyTorch in inference mode. Peak
memory is that of the process above the imported framework (Linux). The floor is the network's multiplications over the
rate at which TensorFlow multiplies two large float32 matrices, measured in the same turns. Needs torch, and the
formats' packages (`pip install -e ".[export]"`).
"""

# pyright: reportMissingImports=false
# (torch is installed only where it is measured against)

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side import Answer, Request, peak_memory, require_torch, serve, sides
from mpncov_zoo import architectures
from mpncov_zoo.quiet import import_tensorflow

PYTORCH, EAGER, PUBLISHED, FLOOR = "PyTorch", "Keras' own call", "published TensorFlow head", "floor"
WARM_UPS, SIZE = 2, 2048  # SIZE: of the square matrices whose product gives the rate
IMAGE = (224, 224, 3)
Call = Callable[[np.ndarray], Any]


def pytorch(model: str, *, compiled: bool = False) -> Call:
    """The published network, which parity is checked against, on as many threads as are fastest.

    On a busy machine the threads of PyTorch's depthwise convolutions wait for one another.
    """
    import torch

    from conversion.reference import efficientnet_lite, resnet
    from conversion.reference.network import Network

    published = architectures.of_model(model)
    peer = efficientnet_lite.published if "efficientnet" in model else resnet.upstream
    network: Any = Network(peer(published), published, 1000).eval()
    network = torch.compile(network) if compiled else network

    def call(images: np.ndarray) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())

    def seconds(threads: int, batch: int) -> float:
        torch.set_num_threads(threads)
        images = np.zeros((batch, *IMAGE), np.float32)
        call(images)
        return timeit.timeit(lambda: call(images), number=2)

    @cache
    def fastest(batch: int) -> int:
        return min((cores, 1), key=lambda threads: seconds(threads, batch))

    cores = torch.get_num_threads()

    def on_the_fastest(images: np.ndarray) -> Any:
        torch.set_num_threads(fastest(len(images)))  # chosen by the first call, when the other sides are ready and rest
        return call(images)

    return on_the_fastest


def ours(model: str, *, dtype: str | None = None, method: str = "__call__") -> Call:
    """The network itself, or optimized in a dtype; called, or asked by a method."""
    import mpncov_zoo

    network = mpncov_zoo.build(model)
    network = network if dtype is None else mpncov_zoo.optimize(network, dtype)
    if method == "eager":
        network.compile(run_eagerly=True)
        return lambda images: network(images).numpy()
    options: dict[str, Any] = {"verbose": 0} if method == "predict" else {}
    return lambda images: np.asarray(getattr(network, method)(images, **options))


def published_tensorflow(model: str) -> Call:
    """Our trunk before the head in the order of the published TensorFlow code, compiled as ours is."""
    import keras
    import tensorflow as tf

    import mpncov_zoo
    from benchmarks import published_heads
    from mpncov_zoo.representations import MPNCOV

    network, root = mpncov_zoo.build(model), published_heads.tensorflow()
    head = next(layer for layer in network.representation.layers if isinstance(layer, MPNCOV))
    reduction = keras.Model(network.representation.input, head.input)

    @tf.function
    def call(images: Any) -> Any:
        reduced = reduction(network.features(images, training=False), training=False)
        return network.classifier(root(reduced), training=False)

    return lambda images: call(tf.constant(images)).numpy()


def exported(model: str, *, format: str, dtype: str = "float32") -> Call:
    """An export in its runtime; another process writes it, and its file goes when this process ends."""
    from mpncov_zoo.exporting import FORMATS

    scratch = tempfile.TemporaryDirectory()
    directory = Path(scratch.name) / "export"
    write = f"mpncov_zoo.export(mpncov_zoo.build({model!r}), {str(directory)!r}, {format!r}, {dtype!r})"
    subprocess.run([sys.executable, "-c", f"import mpncov_zoo; {write}"], check=True)
    run = FORMATS[format].open(directory)

    def call(images: np.ndarray) -> Any:
        assert scratch  # as long as it is called
        return run(images)

    return call


SIDES: Mapping[str, Callable[[str], Call]] = {
    PYTORCH: pytorch,
    "PyTorch, torch.compile": lambda model: pytorch(model, compiled=True),
    EAGER: lambda model: ours(model, method="eager"),
    PUBLISHED: published_tensorflow,
    "model(images)": ours,
    "model.predict": lambda model: ours(model, method="predict"),
    "optimize, float32": lambda model: ours(model, dtype="float32"),
    "optimize, bfloat16": lambda model: ours(model, dtype="bfloat16"),
    "SavedModel": lambda model: exported(model, format="saved_model"),
    "ONNX Runtime": lambda model: exported(model, format="onnx"),
    "OpenVINO": lambda model: exported(model, format="openvino"),
    "LiteRT": lambda model: exported(model, format="litert"),
}


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mpncov_resnet50", "efficientnet_lite0"], metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="N", help="default: 1 8")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each side (default: 7)")
    parser.add_argument("--only", nargs="+", choices=SIDES, default=[*SIDES], metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(worker(*arguments.worker))
        return
    require_torch(parser)
    for model in arguments.models:
        without = {PYTORCH} | ({PUBLISHED} if architectures.of_model(model).representation != "mpncov" else set())
        names = [PYTORCH, *(name for name in arguments.only if name not in without)]
        print("\n".join(table(model, names, arguments.batches, arguments.repeats)), flush=True)


def worker(side: str, model: str) -> Callable[[Request], Answer]:
    """Answers with the seconds of a call, and the peak memory so far above the imported framework."""
    if side == FLOOR:
        import_tensorflow()
        needed = multiplications(model)
        return lambda what: {"multiplications": needed, "rate": rate()}
    if side.startswith(PYTORCH):
        import conversion.reference.resnet  # noqa: F401
    elif side not in ("ONNX Runtime", "OpenVINO", "LiteRT"):
        import_tensorflow()
        import mpncov_zoo.zoo  # noqa: F401
    imported = peak_memory()
    call = SIDES[side](model)

    def answer(what: Request) -> Answer:
        if what.get("ready"):
            return {}
        images = np.random.default_rng(0).normal(0, 1, (what["batch"], *IMAGE)).astype(np.float32)
        for _ in range(what.get("warm_ups", 0)):
            call(images)
        start = time.perf_counter()
        call(images)
        return {"seconds": time.perf_counter() - start, "memory": peak_memory() - imported}

    return answer


def table(model: str, names: list[str], batches: list[int], repeats: int) -> list[str]:
    """One row a side: milliseconds and the ratio to PyTorch for each batch, and the peak memory."""
    measured = measure(model, names, batches, repeats)
    rates = [answer for answers in measured.pop(FLOOR) for answer in answers]
    heads = "".join(f" batch {batch}, ms | ratio |" for batch in batches)
    lines = [f"| {model} |{heads} peak memory, MB |", "|---|" + "---|" * (2 * len(batches) + 1)]
    for name in names:
        cells = ""
        for index, answers in enumerate(measured[name]):
            seconds, theirs = (
                statistics.median(answer["seconds"] for answer in of) for of in (answers, measured[PYTORCH][index])
            )
            cells += f" {1000 * seconds:,.0f} | {seconds / theirs:.2f} |"
        memory = max(answer["memory"] for answers in measured[name] for answer in answers) / 2**20
        lines.append(f"| {name} |{cells} {memory:,.0f} |")
    best = max(found["rate"] for found in rates)
    floor = "".join(f" {1000 * batch * rates[0]['multiplications'] / best:,.0f} | |" for batch in batches)
    return [*lines, f"| floor: {rates[0]['multiplications'] / 1e9:.2f} G at {best / 1e9:,.0f} G/s |{floor} |", ""]


def measure(model: str, names: list[str], batches: list[int], repeats: int) -> dict[str, list[list[Answer]]]:
    """The answers of each side, and of the floor, for each batch, in turns."""
    everyone = [*names, FLOOR]
    commands = {name: [sys.executable, "-m", "benchmarks.inference", "--worker", name, model] for name in everyone}
    measured: dict[str, list[list[Answer]]] = {name: [] for name in everyone}
    with sides(commands) as ask:
        for name in everyone:
            ask(name, {"ready": True})
        for batch in batches:
            for name in names:
                ask(name, {"batch": batch, "warm_ups": WARM_UPS})
            turns = [{name: ask(name, {"batch": batch}) for name in everyone} for _ in range(repeats)]
            for name in everyone:
                measured[name].append([turn[name] for turn in turns])
    return measured


def rate() -> float:
    """Multiplications a second of a large float32 product."""
    import tensorflow as tf

    matrix = tf.ones((SIZE, SIZE))
    tf.matmul(matrix, matrix).numpy()
    start = time.perf_counter()
    tf.matmul(matrix, matrix).numpy()
    return SIZE**3 / (time.perf_counter() - start)


def multiplications(model: str) -> int:
    """Of the convolutions, the head and the classifier, for one image of 224x224."""
    import mpncov_zoo

    return multiplications_of(mpncov_zoo.build(model))


def multiplications_of(network: Any) -> int:
    """The same for one image of a network's own size."""
    import keras

    from mpncov_zoo.representations import MPNCOV, covariance

    total = 0
    for layer in network.named_layers().values():
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            height, width = layer.output.shape[1:3]
            total += height * width * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape))
        elif isinstance(layer, MPNCOV):
            _, height, width, channels = layer.input.shape
            forms = ("gram", "covariance")
            total += min(covariance.multiplications(form, height * width, channels) for form in forms)
    return total


if __name__ == "__main__":
    main()
