"""Reads data sets with one folder for each class, as the published code does, and ImageNet, which has this layout."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.listings import SHOWN, require_split
from mpncov_zoo.training.datasets.splits import Files

SPLITS = ("train", "val", "test")
SUFFIXES = (".gif", ".jfif", ".jpeg", ".jpg", ".png", ".webp")  # of the formats that TensorFlow decodes right
IGNORED = ("thumbs.db", "desktop.ini")  # what Windows leaves in folders of images
WNID = re.compile(r"n\d{8}")


def read_folders(directory: Path, split: str) -> Files:
    """Images in `<directory>/<split>/<class>/`; the classes are the folders of `train/`, sorted by name.

    Args:
        directory: holds `train/`, and `val/` or `test/` or both.
        split: one of these.

    Raises:
        InputError: another layout, a class that `train/` lacks, a folder without images, a file that is no image.
    """
    require_split(str(directory), split, split_folders(directory))
    class_names = _class_folders(directory / "train")
    found = _class_folders(directory / split)
    unknown = [name for name in found if name not in set(class_names)]
    if unknown:
        shown = ", ".join(unknown[:SHOWN])
        raise InputError(f"{directory / split} has classes that {directory / 'train'} lacks: {shown}.")
    numbers = {name: number for number, name in enumerate(class_names)}
    paths, labels = [], []
    for name in found:
        images = sorted(_images(directory / split / name))
        paths += [f"{name}/{image}" for image in images]
        labels += [numbers[name]] * len(images)
    return Files(directory / split, tuple(paths), np.array(labels, np.int32), class_names)


def read_imagenet(directory: Path, split: str) -> Files:
    """ImageNet (ILSVRC 2012): `train/<wnid>/` and `val/<wnid>/`, all of its classes or some.

    The classes are WordNet identifiers in sorted order, which is the order of the published networks' logits.

    Args:
        directory: holds both.
        split: "train" or "val".

    Raises:
        InputError: as `read_folders`, or a folder's name is no WordNet identifier.
    """
    found = read_folders(directory, split)
    other = [name for name in found.class_names if not WNID.fullmatch(name)]
    if other:
        shown = ", ".join(other[:SHOWN])
        raise InputError(f"{directory / 'train'}: ImageNet's classes are named like n01440764. Received: {shown}.")
    return found


def split_folders(directory: Path) -> tuple[str, ...]:
    """Those of `train/`, `val/` and `test/` that there are.

    Raises:
        InputError: there is no `train/`, which names the classes.
    """
    held = {entry.name for entry in _entries(directory)}
    if "train" not in held:
        shown = ", ".join(sorted(held)[:SHOWN]) or "nothing"
        wanted = "train/<class>/ with images, and val/<class>/ or test/<class>/"
        raise InputError(f"{directory} must hold {wanted}. It holds {shown}.")
    return tuple(name for name in SPLITS if name in held)


def _class_folders(directory: Path) -> tuple[str, ...]:
    entries = _entries(directory)
    loose = [entry.name for entry in entries if not entry.is_dir()]
    if loose:
        raise InputError(f"{directory} must hold a folder a class, with its images, and nothing else: {loose[0]!r}.")
    if not entries:
        raise InputError(f"{directory} is empty; it must hold a folder a class.")
    return tuple(sorted(entry.name for entry in entries))


def _images(folder: Path) -> Iterator[str]:
    """The names of the images in a class's folder."""
    entries = _entries(folder)
    if not entries:
        raise InputError(f"{folder} is empty: remove it, or put the images of that class into it.")
    for entry in entries:
        if not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
            kind = "a folder in a class's folder" if entry.is_dir() else "no image"
            raise InputError(f"{entry.path} is {kind}; allowed: {', '.join(SUFFIXES)}. Convert or move it.")
        yield entry.name


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """What a directory holds, apart from hidden files and thumbnails."""
    try:
        with os.scandir(directory) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.lower() not in IGNORED]
    except OSError as error:
        raise InputError(f"{directory} cannot be read: {error.strerror}.") from error
