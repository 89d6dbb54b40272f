"""The command `mpncov-zoo data`, which checks a data set, or packs it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.cli.options import PROGRAM, add_command, add_json, positive
from mpncov_zoo.errors import InputError
from mpncov_zoo.quiet import import_tensorflow
from mpncov_zoo.training.datasets import DATASETS, dataset_splits, read_dataset
from mpncov_zoo.training.recipes import load_shares

if TYPE_CHECKING:
    from mpncov_zoo.training.datasets.splits import Split

CORRUPT = 1  # exit code
PACKED = "tfrecord"
READERS = ", ".join(DATASETS)
FILES = ", ".join(name for name in DATASETS if name != PACKED)

FOLDERS = (
    "folders: train/CLASS/, and val/CLASS/ or test/CLASS/; or CLASS/ alone: all of that is the split train, unless\n"
    "--set split.test=0.2 or split.val=0.2 takes a part of it."
)


def add(commands: Any) -> None:
    """Declare the command and its actions."""
    parser = add_command(
        commands,
        "data",
        run_check,
        help="check a data set before training on it, or pack it into TFRecord shards",
        details=f"DATASET is the layout of the files: {READERS}.\n{FOLDERS}",
        example=f"{PROGRAM} data check folders --data photos\n"
        f"{PROGRAM} data pack folders --data photos --output packed",
    )
    below = parser.add_subparsers(metavar="ACTION", required=True)
    _add_check(below)
    _add_pack(below)


def _add_check(below: Any) -> None:
    parser = add_command(
        below,
        "check",
        run_check,
        help="read the whole data set, decode every image and name those that are corrupt",
        details=f"DATASET is one of {READERS}.\n{FOLDERS}\n"
        "Of shards every byte is compared with what was packed. Exit code 1: something is corrupt.",
        example=f"{PROGRAM} data check cub --data /data/CUB_200_2011",
    )
    _add_source(parser)
    add_json(parser, "a JSON object a split")


def _add_pack(below: Any) -> None:
    parser = add_command(
        below,
        "pack",
        run_pack,
        help="write a data set as TFRecord shards, with its labels and class names; prints the files of the index",
        details=f"DATASET is one of {FILES}.\n"
        'Training on shards needs no other files: `dataset = "tfrecord"`, --data DIR. A run that was stopped goes on\n'
        "where it was when the command is given again. Every shard is read back when it is written.",
        example=f"{PROGRAM} data pack imagenet --data /data/imagenet --output /data/packed --size 256 --shards 128",
    )
    _add_source(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="where to write, the same for all splits")
    parser.add_argument("--shards", type=positive, metavar="N", help="files a split (default: one for 2,048 images)")
    parser.add_argument(
        "--size",
        type=positive,
        metavar="SHORT_SIDE",
        help="shrink larger images to it, in pixels (default: keep bytes)",
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.001, metavar="SHARE", help="of images that may be corrupt (default 0.001)"
    )
    parser.add_argument("--verify", action="store_true", help="read all shards once more at the end, kept ones too")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="layout of the files")
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set's files, as they are published")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="split.test=SHARE",
        help="take a test or val split from each class of the training images, as `train` does; also split.seed",
    )
    parser.add_argument("--split", metavar="NAME", help="one split only, such as train (default: all there are)")


def run_check(args: argparse.Namespace) -> int:
    """Print what each split holds, and what of it is corrupt."""
    import_tensorflow()
    from mpncov_zoo.training.datasets.checking import find_corrupt
    from mpncov_zoo.training.packing import verify

    found_corrupt = False
    for name, split in _splits(args):
        corrupt = [vars(image) for image in find_corrupt(split, progress=True)]
        if args.dataset == PACKED:
            verify(args.data, name, progress=True)
        found_corrupt |= bool(corrupt)
        counts = np.bincount(split.labels, minlength=len(split.class_names)).tolist()
        if args.json:
            classes = dict(zip(split.class_names, counts, strict=True))
            print(json.dumps({"split": name, "images": len(split), "classes": classes, "corrupt": corrupt}))
            continue
        spread = f"{len(counts)} classes of {min(counts):,} to {max(counts):,}"
        print(f"{name}: {len(split):,} images, {spread}, {len(corrupt)} corrupt")
        for image in corrupt:
            print(f"  {image['name']}: {image['reason']}")
    return CORRUPT if found_corrupt else 0


def run_pack(args: argparse.Namespace) -> int:
    """Print where the index of each split is."""
    if not 0 <= args.tolerance <= 1:
        raise InputError(f"--tolerance is a share of the images, 0 to 1. Received: {args.tolerance:g}.")
    import_tensorflow()
    from mpncov_zoo.training.packing import pack, verify

    for name, split in _splits(args):
        index = pack(
            split,
            args.output,
            name,
            dataset=args.dataset,
            shards=args.shards,
            short_side=args.size,
            tolerance=args.tolerance,
            progress=True,
        )
        if args.verify:
            verify(args.output, name, progress=True)
        print(f"{args.output}/{name}.json: {index.images:,} images in {len(index.shards)} shards")
    return 0


def _splits(args: argparse.Namespace) -> list[tuple[str, Split]]:
    """Read all splits before the work on the first begins, so that an error in the last one costs no time."""
    shares = load_shares(args.set)
    names = [args.split] if args.split else dataset_splits(args.dataset, args.data, shares)
    return [(name, read_dataset(args.dataset, args.data, name, shares)) for name in names]
