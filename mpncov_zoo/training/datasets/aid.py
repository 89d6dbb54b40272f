"""Reads AID, aerial photos, from its unpacked archive."""

from pathlib import Path

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets.folders import read_folders
from mpncov_zoo.training.datasets.listings import require_split, unpacked
from mpncov_zoo.training.datasets.splits import Files

SPLITS = ("train",)  # all images; papers measure on random splits, with a share of 0.2 or 0.5 to learn from
CLASSES = 30
FIRST = "Airport"  # the class by which the folder is recognised


def read_aid(directory: Path, split: str) -> Files:
    """AID (Xia et al., TGRS 2017): 30 scenes, 10,000 images of 600x600; for research only.

    It has no split of its own: `--set split.test=0.8` takes one, and `mpncov-zoo probe` several.

    Args:
        directory: AID, or what holds it.
        split: "train", all images.

    Returns:
        The images and their classes, sorted by name.

    Raises:
        InputError: a class is missing, something is no image, or there is no such split.
    """
    require_split("AID", split, SPLITS)
    (root,) = homes(directory)
    found = read_folders(root, split)
    if len(found.class_names) != CLASSES:
        raise InputError(f"{root} holds {len(found.class_names)} classes, and AID {CLASSES}: unpack the archive again.")
    return found


def homes(directory: Path) -> tuple[Path]:
    """The folder that holds the class folders."""
    return (unpacked(directory, "AID", FIRST),)
