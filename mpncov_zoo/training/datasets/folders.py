"""Reads data sets with one folder for each class, divided or not, and ImageNet, which has this layout."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.images import IMAGE_SUFFIXES, has_image_suffix
from mpncov_zoo.training.datasets.listings import SHOWN, require_split
from mpncov_zoo.training.datasets.splits import Files

SPLITS = ("train", "val", "test")
IGNORED = ("thumbs.db", "desktop.ini")  # what Windows leaves in folders of images
LOOKED_AT = 20  # entries of a folder by which a class's folder is told from one of folders
WNID = re.compile(r"n\d{8}")


def read_folders(directory: Path, split: str) -> Files:
    """Images in `<directory>/<split>/<class>/`; the classes are the folders of `train/`, sorted by name.

    A directory without `train/` may hold the class folders themselves: then all of its images are the split "train".

    Args:
        directory: holds `train/`, and `val/` or `test/` or both; or class folders.
        split: one of these.

    Raises:
        InputError: another layout, a class that `train/` lacks, a folder without images, a file that is no image.
    """
    homes = class_homes(directory)
    require_split(str(directory), split, homes)
    class_names = _class_folders(homes["train"], undivided=homes["train"] == directory)
    home = homes[split]
    found = class_names if split == "train" else _class_folders(home)
    unknown = [name for name in found if name not in set(class_names)]
    if unknown:
        shown = ", ".join(unknown[:SHOWN])
        raise InputError(f"{home} has classes that {homes['train']} lacks: {shown}.")
    numbers = {name: number for number, name in enumerate(class_names)}
    paths, labels = [], []
    for name in found:
        images = sorted(_images(home / name))
        paths += [f"{name}/{image}" for image in images]
        labels += [numbers[name]] * len(images)
    return Files(home, tuple(paths), np.array(labels, np.int32), class_names)


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
        raise InputError(f"{directory}: ImageNet's classes are named like n01440764. Received: {shown}.")
    return found


def split_folders(directory: Path) -> tuple[str, ...]:
    """Those of `train/`, `val/` and `test/` that there are; "train" alone for class folders that are not divided.

    Raises:
        InputError: there is no `train/`, which names the classes, and no class folder either.
    """
    return tuple(class_homes(directory))


def homes(directory: Path) -> Collection[Path]:
    """The folders that hold the class folders of each split."""
    return class_homes(directory).values()


def class_homes(directory: Path) -> Mapping[str, Path]:
    """The folder that holds the class folders of each split, "train" first; it may be the directory itself.

    Raises:
        InputError: as `split_folders`.
    """
    held = sorted(_entries(directory), key=lambda entry: entry.name)
    names = {entry.name for entry in held}
    if "train" in names:
        return {name: directory / name for name in SPLITS if name in names}
    if names & {*SPLITS}:
        _refuse(directory, held, "Name the folder with the training images train")
    folders = [entry for entry in held if entry.is_dir()]
    if not folders:
        _refuse(directory, held, "Make a folder for each class, and move its images there")
    for folder in folders:
        inner = next((entry.name for entry in _entries(Path(folder.path), LOOKED_AT) if entry.is_dir()), None)
        if inner is not None and len(folders) == 1:
            _refuse(directory, held, f"Give the folder that holds the classes: --data {folder.path}")
        if inner is not None:
            hint = f"{folder.name}/{inner} is a folder too: if its parent holds the training images, name that train"
            _refuse(directory, held, hint)
    return {"train": directory}


def _refuse(directory: Path, held: list[os.DirEntry[str]], hint: str) -> NoReturn:
    shown = ", ".join([entry.name for entry in held][:SHOWN]) or "nothing"
    divided = "train/<class>/ with images, and val/<class>/ or test/<class>/"
    raise InputError(f"{directory} must hold {divided}, or <class>/ with images alone. It holds {shown}. {hint}.")


def _class_folders(directory: Path, *, undivided: bool = False) -> tuple[str, ...]:
    """The names of the class folders, sorted. Beside those of an undivided data set its licence may lie, or a list."""
    entries = _entries(directory)
    if undivided:
        entries = [entry for entry in entries if not entry.is_file() or has_image_suffix(entry.name)]
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
        if not has_image_suffix(entry.name) or not entry.is_file():
            kind = "a folder in a class's folder" if entry.is_dir() else "no image"
            raise InputError(f"{entry.path} is {kind}; allowed: {', '.join(IMAGE_SUFFIXES)}. Convert or move it.")
        yield entry.name


def _entries(directory: Path, first: int | None = None) -> list[os.DirEntry[str]]:
    """What a directory holds, apart from hidden files and thumbnails; all of it, or as much as comes first."""
    try:
        with os.scandir(directory) as entries:
            shown = (e for e in entries if not e.name.startswith(".") and e.name.lower() not in IGNORED)
            return [*islice(shown, first)]
    except OSError as error:
        raise InputError(f"{directory} cannot be read: {error.strerror}.") from error
