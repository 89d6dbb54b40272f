"""Data sets as they are published, and the tf.data pipelines that feed them to a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import cifar, elpv, fine_grained, folders, idx, shards
from mpncov_zoo.training.datasets.idx import FASHION_MNIST_LABELS, fashion_mnist, read_idx
from mpncov_zoo.training.datasets.pipelines import Share, evaluation_batches, training_batches, view_batches
from mpncov_zoo.training.datasets.splits import Files, Images, Split, require_usable, split_holdout

__all__ = [
    "DATASETS",
    "FASHION_MNIST_LABELS",
    "Files",
    "Images",
    "Share",
    "Split",
    "dataset_splits",
    "evaluation_batches",
    "fashion_mnist",
    "read_dataset",
    "read_idx",
    "split_holdout",
    "training_batches",
    "view_batches",
]


@dataclass(frozen=True)
class Reader:
    """How a data set is read.

    Attributes:
        read: (directory, split) -> the split.
        splits: directory -> the names of its splits, the one to train on first.
    """

    read: Callable[[Path, str], Split]
    splits: Callable[[Path], tuple[str, ...]]


def _always(*names: str) -> Callable[[Path], tuple[str, ...]]:
    return lambda directory: names


DATASETS: Mapping[str, Reader] = {
    "folders": Reader(folders.read_folders, folders.split_folders),
    "tfrecord": Reader(shards.read_shards, shards.packed_splits),
    "fashion_mnist": Reader(fashion_mnist, _always(*idx.SPLITS)),
    "cifar100": Reader(cifar.read_cifar100, _always(*cifar.SPLITS)),
    "imagenet": Reader(folders.read_imagenet, folders.split_folders),
    "imagenet_1k": Reader(folders.read_imagenet, folders.split_folders),  # the manifest's name for it
    "cub": Reader(fine_grained.read_cub, _always(*fine_grained.SPLITS)),
    "aircraft": Reader(fine_grained.read_aircraft, _always(*fine_grained.SPLITS)),
    "cars": Reader(fine_grained.read_cars, _always(*fine_grained.SPLITS)),
    "elpv": Reader(elpv.read_elpv, _always(*elpv.SPLITS)),
    "elpv_levels": Reader(elpv.read_elpv_levels, _always(*elpv.SPLITS)),
}


def read_dataset(name: str, directory: str | Path, split: str) -> Split:
    """A split of a data set of `DATASETS` from its directory.

    Raises:
        InputError: no such data set or split, or its files cannot be used.
    """
    found = _reader(name).read(Path(directory), split)
    try:
        require_usable(found, training=split == "train")
    except InputError as error:
        raise InputError(f"{directory}, {split}: {error}") from None
    return found


def dataset_splits(name: str, directory: str | Path) -> tuple[str, ...]:
    """The splits that a data set has in a directory, the one to train on first.

    Raises:
        InputError: no such data set, or the directory holds none of it.
    """
    return _reader(name).splits(Path(directory))


def _reader(name: str) -> Reader:
    if name not in DATASETS:
        raise InputError(f"No reader for the data set {name!r}; allowed are {', '.join(DATASETS)}.")
    return DATASETS[name]
