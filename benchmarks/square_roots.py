"""The square roots of MPNCOV beside each other: milliseconds, and the distance to a float64 eigendecomposition.

    python -m benchmarks.square_roots [--repeats 21]

float32 on the CPU, 256 channels, batch 8, compiled by tf.function. The ways take turns in one process; times are
medians. An error is the largest deviation over the largest value. The gradient is that of the features.
"""

import argparse
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mpncov_zoo.quiet import import_tensorflow

WAYS: dict[str, dict[str, Any]] = {  # options of MPNCOV
    "Newton-Schulz, 5 iterations": {"iterations": 5},
    "Newton-Schulz, 7 iterations": {"iterations": 7},
    "Padé, Lyapunov": {"square_root": "pade"},
    "Padé, autodiff": {"square_root": "pade", "gradient": "autodiff"},
}
SIZES, CHANNELS, BATCH = (7, 14, 28), 256, 8  # heights, which are the widths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21, metavar="N", help="turns (default: 21)")
    arguments = parser.parse_args()
    import_tensorflow()
    from mpncov_zoo.representations import MPNCOV

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of so many functions
    print("| positions | | forward, ms | forward + backward, ms | error | error of gradient |\n" + 6 * "|---" + "|")
    for size in SIZES:
        rng = np.random.default_rng(0)
        mixed = rng.normal(0.3, 1, (BATCH, size, size, CHANNELS)) @ rng.normal(0, 1, (CHANNELS, CHANNELS))
        x, cotangent = np.maximum(mixed, 0), rng.normal(0, 1, (BATCH, CHANNELS, CHANNELS))
        calls = {name: compiled(MPNCOV(vectorize=False, **options), x, cotangent) for name, options in WAYS.items()}
        seconds = measure([call for pair in calls.values() for call in pair], arguments.repeats)
        exact = eigendecomposition(x, cotangent)
        for index, (name, pair) in enumerate(calls.items()):
            errors = [np.abs(call() - e).max() / np.abs(e).max() for call, e in zip(pair, exact, strict=True)]
            cells = [f"{1000 * t:.1f}" for t in seconds[2 * index :][:2]] + [f"{e:.4f}" for e in errors]
            print(f"| {size}x{size} | {name} | {' | '.join(cells)} |", flush=True)


def compiled(layer: Any, x: np.ndarray, cotangent: np.ndarray) -> list[Callable[[], np.ndarray]]:
    """What gives the root, and what gives the gradient of the features."""
    import tensorflow as tf

    features, seed = [tf.constant(values, tf.float32) for values in (x, cotangent)]

    def gradient(features: Any, seed: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(features)
            root = layer(features)
        return tape.gradient(root, features, seed)

    forward, backward = tf.function(layer), tf.function(gradient)
    return [lambda: forward(features).numpy(), lambda: backward(features, seed).numpy()]


def measure(calls: list[Callable[[], np.ndarray]], repeats: int) -> list[float]:
    """Median seconds of each, in turns, after one untimed."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, times in zip(calls, taken, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [float(np.median(times[1:])) for times in taken]


def eigendecomposition(x: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The root, and the gradient of the features, which is finite although that of a singular covariance is not."""
    rows = x.reshape(BATCH, -1, CHANNELS) - x.mean((1, 2)).reshape(BATCH, 1, CHANNELS)
    eigenvalues, vectors = np.linalg.eigh(rows.swapaxes(1, 2) @ rows / rows.shape[1])
    roots = np.sqrt(np.where(eigenvalues > 1e-12 * eigenvalues[:, -1:], eigenvalues, 0))
    transposed, sums = vectors.swapaxes(1, 2), roots[:, :, None] + roots[:, None, :]
    rotated = transposed @ (cotangent + cotangent.swapaxes(1, 2)) @ vectors / np.where(sums > 0, sums, np.inf)
    gradient = rows @ vectors @ rotated @ transposed / rows.shape[1]
    return vectors * roots[:, None] @ transposed, gradient.reshape(x.shape)


if __name__ == "__main__":
    main()
