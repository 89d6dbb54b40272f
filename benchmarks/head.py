"""The covariance head against the published layers: time, peak memory, and how the time grows.

    python -m benchmarks.head [--repeats 31] [--plot docs/head_time.png]

Every side is a process of its own; they take turns, each after one untimed call, and the figures are medians. float32,
CPU; TensorFlow's sides run as a tf.function. Peak memory is what one more call takes above what the process held before
it (Linux; there without oneDNN, which keeps freed memory). The floor is the time that the products alone would take at
the rate of the machine's best large matrix product. Needs torch, and matplotlib for the plot.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks import published_heads
from benchmarks.side_by_side import Answer, Request, peak_memory, require_torch, serve, sides

SIDES = {
    "analytic": "mpncov_zoo",
    "autodiff": "mpncov_zoo, gradient='autodiff'",
    "pytorch": "published PyTorch",
    "tensorflow": "published TensorFlow",
}
WARM_UPS = 3
RELEASE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "TF_ENABLE_ONEDNN_OPTS": "0"}  # what is freed goes back at once
Case = tuple[int, int, int, bool]  # height (= width), channels, batch, backward
CASES: tuple[Case, ...] = (
    (14, 256, 8, True),
    (7, 256, 8, True),
    (28, 256, 8, True),
    (14, 256, 8, False),
    (7, 256, 8, False),
    (28, 256, 8, False),
    (14, 256, 1, True),
    (14, 64, 8, True),
    (14, 128, 8, True),
    (14, 512, 8, True),
)
GROWTH: dict[str, dict[int, Case]] = {  # axis of the plot -> value on it -> case
    "positions N (d = 256)": {size * size: (size, 256, 8, True) for size in (4, 7, 10, 14, 20, 28, 40)},
    "channels d (N = 196)": {d: (14, d, 8, True) for d in (32, 64, 128, 192, 256, 384, 512)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=31, help="timed calls of each side (default: 31)")
    parser.add_argument("--plot", metavar="FILE", help="also draw how the time grows with N and d")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(worker(arguments.worker))
        return
    require_torch(parser)
    with head_sides() as ask:
        rate = ask("analytic", {"rate": True})["rate"]
        print(f"matrix products: {rate / 1e9:.0f} G multiplications/s; medians of {arguments.repeats}, ms\n")
        print(f"| positions | d | batch | | {' | '.join(SIDES.values())} | / PyTorch | / TensorFlow | floor |")
        print(f"|{'---|' * (len(SIDES) + 7)}")
        for case in CASES:
            print(row(case, median_times(ask, case, arguments.repeats), rate), flush=True)
        if arguments.plot:
            panels = {axis: {v: median_times(ask, c, 11) for v, c in cases.items()} for axis, cases in GROWTH.items()}
            draw(arguments.plot, panels)
    print(f"\n| peak memory, MB | d | batch | | {' | '.join(SIDES.values())} |\n|{'---|' * (len(SIDES) + 4)}")
    for case in CASES:
        with head_sides(**RELEASE_MEMORY) as ask:
            memory = {side: ask(side, request(case, memory=True))["memory"] / 2**20 for side in SIDES}
        print(f"{label(case)} {' | '.join(f'{memory[side]:.1f}' for side in SIDES)} |", flush=True)


@contextmanager
def head_sides(**environment: str) -> Iterator[Callable[[str, Request], Answer]]:
    commands = {side: [sys.executable, "-m", "benchmarks.head", "--worker", side] for side in SIDES}
    with sides(commands, env={**os.environ, **environment}) as ask:
        yield ask


def request(case: Case, **more: Any) -> Request:
    return {**dict(zip(("size", "channels", "batch", "backward"), case, strict=True)), **more}


def median_times(ask: Callable[[str, Request], Answer], case: Case, repeats: int) -> dict[str, float]:
    """Milliseconds a call of every side."""
    turns = [{side: ask(side, request(case))["seconds"] for side in SIDES} for _ in range(repeats)]
    return {side: 1000 * statistics.median(turn[side] for turn in turns) for side in SIDES}


def label(case: Case) -> str:
    size, channels, batch, backward = case
    return f"| {size}x{size} | {channels} | {batch} | {'forward + backward' if backward else 'forward'} |"


def row(case: Case, times: dict[str, float], rate: float) -> str:
    ours = times["analytic"]
    ratios = f"**{times['pytorch'] / ours:.1f}x** | **{times['tensorflow'] / ours:.1f}x**"
    cells = " | ".join(f"{times[side]:.1f}" for side in SIDES)
    return f"{label(case)} {cells} | {ratios} | {1000 * multiplications(case) / rate:.1f} |"


def multiplications(case: Case) -> int:
    """Of the matrix products of the cheaper form with the analytic gradient."""
    from mpncov_zoo.representations import covariance

    size, channels, batch, backward = case
    forms = ("covariance", "gram")
    return batch * min(covariance.multiplications(form, size * size, channels, backward=backward) for form in forms)


def worker(side: str) -> Callable[[Request], Answer]:
    """Times or measures one call; what is prepared for a case is kept for the next request of it."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    prepare = pytorch_call if side == "pytorch" else tensorflow_call
    calls: dict[Case, Callable[[], Any]] = {}

    def answer(what: Request) -> Answer:
        if "rate" in what:
            return {"rate": matmul_rate()}
        case = (what["size"], what["channels"], what["batch"], what["backward"])
        if case not in calls:
            calls[case] = prepare(side, features(case), what["backward"])
            for _ in range(WARM_UPS):
                calls[case]()
        if "memory" in what:
            held = peak_memory(since="now")
            calls[case]()
            return {"memory": peak_memory() - held}
        calls[case]()  # while the others had their turn, this process slept
        start = time.perf_counter()
        calls[case]()
        return {"seconds": time.perf_counter() - start}

    return answer


def features(case: Case) -> np.ndarray:
    """Rectified, as a network's: (batch, height, width, channels)."""
    size, channels, batch, _ = case
    return np.maximum(np.random.default_rng(0).normal(0.3, 1, (batch, size, size, channels)), 0).astype(np.float32)


def tensorflow_call(side: str, x: np.ndarray, backward: bool) -> Callable[[], Any]:
    import tensorflow as tf

    from mpncov_zoo.representations import MPNCOV

    head = published_heads.tensorflow() if side == "tensorflow" else MPNCOV(gradient=side)
    images = tf.constant(x)

    @tf.function
    def call(images: Any) -> Any:
        if not backward:
            return head(images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            vector = head(images)
        return tape.gradient(vector, images)

    return lambda: call(images)[0, 0].numpy()


def pytorch_call(side: str, x: np.ndarray, backward: bool) -> Callable[[], Any]:
    import torch  # pyright: ignore[reportMissingImports]

    head = published_heads.pytorch()
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_(backward)

    def call() -> Any:
        if not backward:
            with torch.no_grad():
                return head(images)
        images.grad = None
        head(images).sum().backward()
        return images.grad

    return call


def matmul_rate(size: int = 2048, repeats: int = 15) -> float:
    """Multiplications a second of one large product, the fastest of some."""
    import tensorflow as tf

    matrix = tf.random.normal((size, size))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        tf.matmul(matrix, matrix)[0, 0].numpy()
        seconds.append(time.perf_counter() - start)
    return size**3 / min(seconds)


def draw(path: str, panels: dict[str, dict[int, dict[str, float]]]) -> None:
    """A panel an axis, a line a side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(10, 4), sharey=True)
    for panel, (axis, times) in zip(axes, panels.items(), strict=True):
        for side, name in SIDES.items():
            panel.plot([*times], [time[side] for time in times.values()], marker="o", label=name)
        panel.set(xscale="log", yscale="log", xlabel=axis)
        panel.set_xticks([*times], labels=[*times])
        panel.set_xticks([], minor=True)
    axes[0].set_ylabel("forward + backward, batch 8 (ms)")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
