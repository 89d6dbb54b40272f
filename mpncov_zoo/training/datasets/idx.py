"""Reads Fashion-MNIST, and the idx format in which it is published."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.listings import require_split
from mpncov_zoo.training.datasets.splits import Images

FASHION_MNIST_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SPLITS = {"train": "train", "test": "t10k"}  # and how their files begin
_WHERE = (
    "On Debian `apt install dataset-fashion-mnist` puts them into /usr/share/datasets/fashion-mnist; elsewhere "
    "`python -c 'import keras; keras.datasets.fashion_mnist.load_data()'` into ~/.keras/datasets/fashion-mnist."
)


def fashion_mnist(directory: str | Path, split: str) -> Images:
    """Fashion-MNIST (Xiao et al., 2017; MIT licence) from its four idx files.

    Args:
        directory: holds train-images-idx3-ubyte.gz and its three siblings; they may be unzipped, without .gz.
        split: "train" (60,000 images of 28x28x1) or "test" (10,000).

    Raises:
        InputError: a file is missing or not what it should be, or there is no such split.
    """
    require_split("Fashion-MNIST", split, SPLITS)
    prefix = Path(directory) / SPLITS[split]
    pixels = read_idx(prefix.with_name(f"{prefix.name}-images-idx3-ubyte.gz"), dimensions=3)
    labels = read_idx(prefix.with_name(f"{prefix.name}-labels-idx1-ubyte.gz"), dimensions=1)
    if not pixels.size:
        raise InputError(f"{prefix}-images: no pixels; the shape is {pixels.shape}.")
    if len(pixels) != len(labels):
        raise InputError(f"{prefix}-*: {len(pixels)} images but {len(labels)} labels.")
    if labels.max(initial=0) >= len(FASHION_MNIST_LABELS):
        raise InputError(f"{prefix}-labels: a label of {labels.max()}; Fashion-MNIST has 0 to 9.")
    return Images(pixels[..., None], labels.astype(np.int32), FASHION_MNIST_LABELS)


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """An idx file of unsigned bytes as a uint8 array.

    Args:
        path: the gzipped file, ending in .gz; where it is missing, the one without that ending, unzipped.
        dimensions: how many the array has.

    Raises:
        InputError: missing, damaged, or of another kind.
    """
    unzipped = path.with_name(path.name.removesuffix(".gz"))
    if not path.exists() and unzipped.exists():
        path = unzipped
    data = _content(path, zipped=path != unzipped)
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"{path} is not an idx file of bytes in {dimensions} dimensions.")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != np.prod(shape, dtype=np.int64):
        raise InputError(f"{path} holds {len(data) - header} bytes, its header says {shape}: a truncated download?")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _content(path: Path, *, zipped: bool) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if zipped else data
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. {_WHERE}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a readable {'gzip ' * zipped}file: {error}.") from error
