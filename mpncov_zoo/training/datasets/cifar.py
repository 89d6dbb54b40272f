"""Reads CIFAR-100 in its binary version: https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz."""

from pathlib import Path

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.listings import read_text, require_split, unpacked
from mpncov_zoo.training.datasets.splits import Images

SPLITS = ("train", "test")
RECORD = 2 + 3 * 32 * 32  # bytes: the coarse label, the fine one, then the planes of red, green and blue


def read_cifar100(directory: Path, split: str) -> Images:
    """CIFAR-100 (Krizhevsky, 2009) with its 100 fine labels.

    Args:
        directory: cifar-100-binary, or what holds it: train.bin, test.bin, fine_label_names.txt.
        split: "train" (50,000 images of 32x32x3) or "test" (10,000).

    Raises:
        InputError: a file is missing or not what it should be, or there is no such split.
    """
    require_split("CIFAR-100", split, SPLITS)
    root = unpacked(directory, "cifar-100-binary", "fine_label_names.txt")
    class_names = tuple(read_text(root / "fine_label_names.txt").split())
    path = root / f"{split}.bin"
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if data.size % RECORD:
        raise InputError(f"{path} holds {data.size} bytes, which are no whole images of {RECORD}: truncated?")
    records = data.reshape(-1, RECORD)
    labels = records[:, 1].astype(np.int32)
    if labels.max(initial=0) >= len(class_names):
        raise InputError(f"{path}: a label of {labels.max()}, but {len(class_names)} names of classes.")
    pixels = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(pixels), labels, class_names)
