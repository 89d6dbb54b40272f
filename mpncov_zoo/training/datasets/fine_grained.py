"""Reads the fine-grained benchmarks from their unpacked archives. Their boxes and parts are not used."""

from pathlib import Path
from typing import Any

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.listings import files, read_table, read_text, require_split, unpacked
from mpncov_zoo.training.datasets.splits import Files

SPLITS = ("train", "test")
AIRCRAFT_LISTS = {"train": "trainval", "test": "test"}  # the published accuracies are of training on both halves


def read_cub(directory: Path, split: str) -> Files:
    """CUB-200-2011 (Wah et al., 2011): 200 birds, 5,994 images to train on and 5,794 to test.

    Args:
        directory: CUB_200_2011, or what holds it.
        split: "train" or "test".

    Raises:
        InputError: a file is missing or not what it should be, or there is no such split.
    """
    require_split("CUB-200-2011", split, SPLITS)
    root = unpacked(directory, "CUB_200_2011", "images.txt")
    names = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    images, labels, training, classes = (dict(read_table(root / name, 2)) for name in names)
    if not images.keys() == labels.keys() == training.keys():
        raise InputError(f"{root}: {', '.join(names[:3])} are not of the same images: unpack the archive again.")
    odd = {*training.values()} - {"0", "1"}
    if odd:
        raise InputError(f"{root / names[2]}: an image is of the training set (1) or not (0). Received: {min(odd)!r}.")
    chosen = [number for number in images if (training[number] == "1") == (split == "train")]
    numbers = {number: index for index, number in enumerate(classes)}
    unknown = {labels[number] for number in chosen} - numbers.keys()
    if unknown:
        raise InputError(f"{root / names[1]}: the class {min(unknown)} is not in {names[3]}.")
    return files(
        root / "images",
        [images[number] for number in chosen],
        [numbers[labels[number]] for number in chosen],
        list(classes.values()),
    )


def read_aircraft(directory: Path, split: str) -> Files:
    """FGVC-Aircraft (Maji et al., 2013): 100 variants, 6,667 images to train on (train and val) and 3,333 to test.

    The images keep the banner of 20 rows at their bottom, as in the published code. Resized to 512x512 and cropped
    to 448x448 from the centre, they lose more than that; random crops may show it.

    Args:
        directory: fgvc-aircraft-2013b, its data folder, or what holds it.
        split: "train" or "test".

    Raises:
        InputError: a file is missing or not what it should be, or there is no such split.
    """
    require_split("FGVC-Aircraft", split, SPLITS)
    root = unpacked(directory, "fgvc-aircraft-2013b/data", "variants.txt")
    class_names = [line.strip() for line in read_text(root / "variants.txt").splitlines() if line.strip()]
    path = root / f"images_variant_{AIRCRAFT_LISTS[split]}.txt"
    rows = read_table(path, 2)
    numbers = {name: index for index, name in enumerate(class_names)}
    unknown = {variant for _, variant in rows} - numbers.keys()
    if unknown:
        raise InputError(f"{path}: the variant {min(unknown)!r} is not in variants.txt.")
    paths = [f"{image}.jpg" for image, _ in rows]
    return files(root / "images", paths, [numbers[variant] for _, variant in rows], class_names)


def read_cars(directory: Path, split: str) -> Files:
    """Stanford Cars (Krause et al., 2013): 196 models, 8,144 images to train on and 8,041 to test.

    Args:
        directory: holds cars_train/, cars_test/ and devkit/, the latter with cars_test_annos_withlabels.mat (which was
            published apart, and may lie beside these folders, too).
        split: "train" or "test".

    Raises:
        InputError: a file is missing or not what it should be, there is no such split, or SciPy is not installed.
    """
    require_split("Stanford Cars", split, SPLITS)
    root = unpacked(directory, "stanford_cars", "devkit/cars_meta.mat")
    names = {"train": "cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    path = root / "devkit" / names[split]
    annotations = _read_mat(path if path.exists() else root / names[split], "annotations")
    if annotations.dtype.names is None or not {"class", "fname"} <= set(annotations.dtype.names):
        raise InputError(f"{path} must hold the annotations 'class' and 'fname'. Received: {annotations.dtype.names}.")
    class_names = [str(name) for name in _read_mat(root / "devkit" / "cars_meta.mat", "class_names")]
    paths = [str(name) for name in annotations["fname"]]
    labels = [int(number) - 1 for number in annotations["class"]]
    return files(root / f"cars_{split}", paths, labels, class_names)


def _read_mat(path: Path, variable: str) -> np.ndarray:
    """A MATLAB variable, as a one-dimensional array."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise InputError("Reading Stanford Cars needs SciPy: pip install 'mpncov-zoo[training]'.") from None
    try:
        found: dict[str, Any] = loadmat(path, squeeze_me=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: was the archive unpacked completely?") from None
    except Exception as error:  # SciPy raises all kinds on damaged files
        raise InputError(f"{path} is not a readable MATLAB file: {error}.") from error
    if variable not in found:
        raise InputError(f"{path} has no variable {variable!r}: unpack the archive again.")
    return np.atleast_1d(found[variable])
