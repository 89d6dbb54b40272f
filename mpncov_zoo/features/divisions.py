"""The images of a probe, and how they are divided into those to learn from and those to measure on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Files, Images, Shares, dataset_splits, read_dataset
from mpncov_zoo.training.datasets.division import positions

TRAIN = 0.2  # of each class, where the data set has no split of its own
OWN = "test"  # the split of a data set that is its own, on which it is measured


@dataclass(frozen=True)
class Divided:
    """The images of a data set in one row, and how they are divided, once for each split.

    Attributes:
        parts: the images; with the data set's own splits first those to learn from, then those to measure on.
        labels: int32 (images,), of all parts.
        class_names: in the order of the labels' numbers.
        train: the share of each class to learn from; None for the data set's own splits.
        divisions: for each split the positions of the images to learn from, and of those to measure on.
        learned: the positions of the images that a classifier to keep learns from: all, or those of the data set's own
            split.
    """

    parts: Sequence[Files | Images]
    labels: np.ndarray
    class_names: tuple[str, ...]
    train: float | None
    divisions: Sequence[tuple[np.ndarray, np.ndarray]]
    learned: np.ndarray

    def in_rows(self, rows: np.ndarray) -> Divided:
        """The labels and divisions of features; of the images themselves, which are in another order, none are left.

        Args:
            rows: int64 (images,), of each image its row among the features.
        """
        labels = np.empty_like(self.labels)
        labels[rows] = self.labels
        divisions = [(rows[training], rows[test]) for training, test in self.divisions]
        return replace(self, parts=(), labels=labels, divisions=divisions, learned=rows[self.learned])


def divided(dataset: str, data: str | PathLike[str], *, train: float | None, splits: int, seed: int) -> Divided:
    """Read a data set and divide it.

    Args:
        dataset: its layout, a name of `DATASETS`.
        data: its directory.
        train: the share of each class to learn from, in random splits of all of its images; None for its own splits
            "train" and "test", or for `TRAIN` where it has none.
        splits: how many random splits.
        seed: of the first; each other one has a seed greater by one. The same seed and share of
            `--set split.test=... split.seed=...` divide in the same way.

    Returns:
        The images and their divisions.

    Raises:
        InputError: an argument cannot be used, the data set cannot be read, or a class has too few images.
    """
    if train is not None and not 0 < train < 1:
        raise InputError(f"train is a share of the images of each class, above 0 and below 1. Received: {train!r}.")
    if splits < 1 or not 0 <= seed < 2**32 - splits:
        raise InputError(f"splits must be at least 1, and seed 0 or more. Received: splits={splits!r}, seed={seed!r}.")
    names = dataset_splits(dataset, data)
    own = train is None and OWN in names
    parts = [_images(dataset, data, name) for name in (("train", OWN) if own else names)]
    if own:
        first, count = len(parts[0]), sum(map(len, parts))
        divisions = [(np.arange(first), np.arange(first, count))]
    else:
        train = train or TRAIN
        parts = [_joined(parts, Path(data))]
        divisions = list(_random(parts[0], train, splits, seed))
    labels, class_names = np.concatenate([part.labels for part in parts]), parts[0].class_names
    for training, _ in divisions:
        counts = np.bincount(labels[training], minlength=len(class_names))
        if counts.min() < 2:
            raise InputError(
                f"{data}: the class {class_names[counts.argmin()]!r} would have {counts.min()} of its images to learn "
                "from, and a probe needs 2: add images, remove the class, or take a larger share, --train."
            )
    return Divided(parts, labels, class_names, train, divisions, np.arange(len(parts[0])))


def _images(dataset: str, data: str | PathLike[str], split: str) -> Files | Images:
    found = read_dataset(dataset, data, split)
    if not isinstance(found, Files | Images):
        raise InputError(f"A probe reads image files. Received: {data}, which is packed: give what it was packed from.")
    return found


def _joined(parts: Sequence[Files | Images], directory: Path) -> Files | Images:
    """Several splits as one."""
    if len(parts) == 1:
        return parts[0]
    labels, class_names = np.concatenate([part.labels for part in parts]), parts[0].class_names
    if all(isinstance(part, Images) for part in parts):
        return Images(np.concatenate([part.pixels for part in parts if isinstance(part, Images)]), labels, class_names)
    files = [part for part in parts if isinstance(part, Files)]
    paths = [os.path.relpath(part.root / path, directory) for part in files for path in part.paths]
    return Files(directory, tuple(paths), labels, class_names)


def _random(images: Files | Images, train: float, splits: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    try:
        for number in range(splits):
            parts = positions(images, Shares(test=1 - train, seed=seed + number))
            yield parts["train"], parts[OWN]
    except InputError as error:
        advice = "add images, remove the class, or take a larger share to learn from, --train"
        raise InputError(f"{str(error).partition(':')[0]}: {advice}.") from error
