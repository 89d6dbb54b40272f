"""Reads DTD, textures in the wild, from its unpacked archive."""

from pathlib import Path

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.listings import files, read_text, require_split, unpacked
from mpncov_zoo.training.datasets.splits import Files

SPLITS = ("train", "val", "test")


def read_dtd(directory: Path, split: str) -> Files:
    """DTD (Cimpoi et al., CVPR 2014): 47 textures, 1,880 images for each of three splits; for research only.

    These are the first of the ten divisions that its authors publish.

    Args:
        directory: dtd, or what holds it.
        split: "train", "val" or "test".

    Returns:
        The images and their classes, sorted by name.

    Raises:
        InputError: a file is missing or not what it should be, or there is no such split.
    """
    require_split("DTD", split, SPLITS)
    root = unpacked(directory, "dtd", "labels/train1.txt")
    lists = {name: read_text(root / "labels" / f"{name}1.txt").split() for name in {"train", split}}
    class_names = sorted({path.partition("/")[0] for path in lists["train"]})
    numbers = {name: number for number, name in enumerate(class_names)}
    unknown = {path.partition("/")[0] for path in lists[split]} - numbers.keys()
    if unknown:
        raise InputError(f"{root}/labels: the class {min(unknown)!r} is in {split}1.txt, and not in train1.txt.")
    paths = lists[split]
    return files(root / "images", paths, [numbers[path.partition("/")[0]] for path in paths], class_names)
