"""Divides training images into parts, class by class, for data sets that come without a test or validation split.

Which images a part gets depends on the seed, their class and their names alone: neither on the order of a directory,
nor on other classes, nor on the version of a library.
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.splits import Split
from mpncov_zoo.training.shares import Shares


def divide(images: Split, shares: Shares) -> dict[str, Split]:
    """The parts of a split: "train", and those that `shares` keeps apart.

    Args:
        images: what is divided; each image is in exactly one part.
        shares: of each class, n images, a part gets round(share * n), and at least one.

    Raises:
        InputError: a class has too few images.

    Example:
        >>> len(divide(read_dataset("folders", "photos", "train"), Shares(test=0.2))["test"])
        9
    """
    return {part: images.take(indices) for part, indices in positions(images, shares).items()}


def positions(images: Split, shares: Shares) -> dict[str, np.ndarray]:
    """What `divide` divides, as ascending positions in the split."""
    chosen: dict[str, list[np.ndarray]] = {"train": [], **{part: [] for part in shares.parts()}}
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    by_class = np.split(np.argsort(images.labels, kind="stable"), np.cumsum(counts)[:-1])
    for name, indices in zip(images.class_names, by_class, strict=True):
        order = np.array(sorted(indices.tolist(), key=lambda index: _key(shares.seed, name, images.name(index))), int)
        first = 0
        for part, count in _counts(name, len(order), shares).items():
            chosen[part].append(order[first : first + count])
            first += count
        chosen["train"].append(order[first:])
    return {part: np.sort(np.concatenate(indices)) for part, indices in chosen.items()}


def _key(seed: int, class_name: str, image: str) -> bytes:
    """A number by which the images of a class are shuffled."""
    text = f"{seed}\0{class_name}\0{image}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _counts(class_name: str, images: int, shares: Shares) -> Mapping[str, int]:
    """How many images of a class each part gets."""
    counts = {part: max(1, round(share * images)) for part, share in shares.parts().items()}
    if sum(counts.values()) >= images:
        taken = " and ".join(f"split.{part}={shares.parts()[part]:g} takes {count}" for part, count in counts.items())
        raise InputError(
            f"The class {class_name!r} has {images} image{'s' * (images != 1)}, of which {taken}: none would be left "
            "to train on. Add images of that class, remove it, or take a smaller share."
        )
    return counts
