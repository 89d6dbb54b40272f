"""Small data sets in Fashion-MNIST's format, and runs of `mpncov-zoo train` on them."""

import gzip
import struct
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from mpncov_zoo.cli import main

ONE_CONVOLUTION = [  # batch normalisation, dropout and a classifier behind it: all that a run needs, soon traced
    "model=cifar_resnet20",
    'stages=["stem"]',
    "options.features.repeats=1",
    "options.representation.dropout=0.5",
    "epochs=2",
    "batch_size=30",
    "precision=float32",
    "seed=5",
    "optimizer.warmup_epochs=1",
    "holdout=30",
]


def idx(array: np.ndarray) -> bytes:
    """A uint8 array as an idx file's content, not compressed."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_fashion(directory: Path, *, train: int, test: int) -> Path:
    """The four files: blurred rectangles whose place and size depend on the class, under noise."""
    rng = np.random.default_rng(3)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = rng.integers(0, 60, (count, 28, 28))
        for image, label in zip(pixels, labels, strict=True):
            image[2 * label : 2 * label + 8, 4 : 12 + label] += 150
        write_idx(directory / f"{prefix}-images-idx3-ubyte.gz", pixels.astype(np.uint8))
        write_idx(directory / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return directory


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(gzip.compress(idx(array), mtime=0))


def run_train(data: Path, output: Path, settings: list[str], *options: str) -> tuple[str, str]:
    """Run `mpncov-zoo train fashion_mnist`; returns what it wrote to standard output and to standard error."""
    out, err = StringIO(), StringIO()
    command = ["train", "fashion_mnist", "--data", str(data), "--output", str(output), *options, "--set", *settings]
    with redirect_stdout(out), redirect_stderr(err):
        assert main(command) == 0, err.getvalue()
    return out.getvalue(), err.getvalue()
