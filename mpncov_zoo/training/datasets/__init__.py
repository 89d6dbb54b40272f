"""Data sets as they are published: DATASETS is the table of their readers, `pipelines` feeds them to a network.

Data sets are found and listed without TensorFlow.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import aid, cifar, dtd, elpv, fine_grained, folders, idx, shards
from mpncov_zoo.training.datasets.division import divide
from mpncov_zoo.training.datasets.idx import FASHION_MNIST_LABELS, fashion_mnist, read_idx
from mpncov_zoo.training.datasets.splits import Files, Images, Split, require_usable, split_holdout
from mpncov_zoo.training.shares import Shares

__all__ = [
    "DATASETS",
    "FASHION_MNIST_LABELS",
    "Files",
    "Images",
    "Shares",
    "Split",
    "dataset_splits",
    "divide",
    "fashion_mnist",
    "read_dataset",
    "read_idx",
    "split_holdout",
]


@dataclass(frozen=True)
class Reader:
    """How a data set is read.

    Attributes:
        read: (directory, split) -> the split.
        splits: directory -> the names of its splits, the one to train on first.
        homes: directory -> the folders whose own folders are taken for classes.
    """

    read: Callable[[Path, str], Split]
    splits: Callable[[Path], tuple[str, ...]]
    homes: Callable[[Path], Iterable[Path]] = lambda directory: ()


PARTS = ("test", "val")  # what can be taken from the training images


def _always(*names: str) -> Callable[[Path], tuple[str, ...]]:
    return lambda directory: names


DATASETS: Mapping[str, Reader] = {
    "folders": Reader(folders.read_folders, folders.split_folders, folders.homes),
    "tfrecord": Reader(shards.read_shards, shards.packed_splits),
    "fashion_mnist": Reader(fashion_mnist, _always(*idx.SPLITS)),
    "cifar100": Reader(cifar.read_cifar100, _always(*cifar.SPLITS)),
    "imagenet": Reader(folders.read_imagenet, folders.split_folders, folders.homes),
    "cub": Reader(fine_grained.read_cub, _always(*fine_grained.SPLITS)),
    "aircraft": Reader(fine_grained.read_aircraft, _always(*fine_grained.SPLITS)),
    "cars": Reader(fine_grained.read_cars, _always(*fine_grained.SPLITS)),
    "aid": Reader(aid.read_aid, _always(*aid.SPLITS), aid.homes),
    "dtd": Reader(dtd.read_dtd, _always(*dtd.SPLITS)),
    "elpv": Reader(elpv.read_elpv, _always(*elpv.SPLITS)),
    "elpv_levels": Reader(elpv.read_elpv_levels, _always(*elpv.SPLITS)),
}


ALIASES: Mapping[str, str] = {"imagenet_1k": "imagenet"}  # the manifest's name for it


def read_dataset(name: str, directory: str | PathLike[str], split: str, shares: Shares | None = None) -> Split:
    """A split of a data set of `DATASETS` from its directory.

    Args:
        name: of the data set's layout.
        directory: where it lies.
        split: one of `dataset_splits`.
        shares: splits that are taken from the training images, where the data set has none of that name.

    Raises:
        InputError: no such data set or split, or its files cannot be used.
    """
    splits = dataset_splits(name, directory, shares)
    if split in PARTS and split not in splits:
        hint = f"`--set split.{split}=0.2` takes a fifth of the training images for it"
        raise InputError(f"{directory} has the splits {', '.join(splits)}. Received: {split!r}. {hint}.")
    divided = shares is not None and split in ("train", *shares.parts())
    found = _reader(name).read(Path(directory), "train" if divided else split)
    try:
        require_usable(found, training=divided or split == "train")
        return divide(found, shares)[split] if shares is not None and divided else found
    except InputError as error:
        raise InputError(f"{directory}, {split}: {error}") from None


def dataset_splits(name: str, directory: str | PathLike[str], shares: Shares | None = None) -> tuple[str, ...]:
    """The splits that a data set has in a directory, the one to train on first, and those that are taken from it.

    Raises:
        InputError: no such data set, the directory holds none of it, or it has a split that is to be taken.
    """
    own = _reader(name).splits(Path(directory))
    taken = tuple(shares.parts()) if shares is not None else ()
    for part in taken:
        if part in own:
            raise InputError(f"{directory} has a split {part!r} of its own: leave out split.{part}.")
    return (*own, *taken)


def require_outside(name: str, directory: str | PathLike[str], output: str | PathLike[str]) -> None:
    """Refuse an output that would be taken for a class, or for an image, when the data set is read again.

    Raises:
        InputError: the output is among class folders.
    """
    output = Path(output).resolve()
    for home in _reader(name).homes(Path(directory)):
        if output.is_relative_to(home.resolve()):
            raise InputError(f"{output} is among the class folders of {home}. Give a directory outside of it.")


def _reader(name: str) -> Reader:
    layout = ALIASES.get(name, name)
    if layout not in DATASETS:
        raise InputError(f"No reader for the data set {name!r}; allowed are {', '.join(DATASETS)}.")
    return DATASETS[layout]
