"""The command `mpncov-zoo features`, which writes the features of images to a file."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from mpncov_zoo.cli.images import FOLDERS, find_images
from mpncov_zoo.cli.options import PROGRAM, add_command, add_images, add_json, add_model, add_pool, load_pretrained
from mpncov_zoo.errors import InputError
from mpncov_zoo.features.extraction import Extract
from mpncov_zoo.features.files import FeatureFile, feature_file
from mpncov_zoo.progress import progress_bar

Shape = tuple[int, ...]
REPRESENTATION = ["representation"]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "features",
        run,
        help="compute the features of images into a file, one row an image",
        details=f"{FOLDERS}\n"
        "FILE.npz holds the arrays `paths` and `features`; FILE.parquet the columns `path` and `features`; FILE.npy\n"
        "the features alone, with the paths in FILE.paths.txt beside it. The file appears when all is done: after\n"
        "an error there is none, and an older one is as it was.",
        example=f"{PROGRAM} features mpncov_cifar_resnet20 photos/ --output features.npz\n"
        f"{PROGRAM} features efficientnet_lite0 photos/ --stage stage5 stage6 --pool mpncov --output features.npz",
    )
    add_model(parser)
    add_images(parser, nargs="*")  # `run` looks for them among the stages, too
    parser.add_argument("--output", required=True, metavar="FILE", help="its suffix, .npy, .npz or .parquet, decides")
    parser.add_argument(
        "--stage",
        nargs="+",
        default=REPRESENTATION,
        metavar="STAGE",
        help="which features (default representation); several are joined by --pool",
    )
    add_pool(parser)
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out what cannot be read, and say so")
    add_json(parser, "the summary as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the file and print what it holds."""
    args.stage = list(args.stage)
    paths = list(find_images(args.inputs or _inputs_among(args.stage)))
    with feature_file(args.output, paths, argument="--output") as file:
        count, shape = _write(file, _extract(args), paths, args)
    named = f"{args.pool} of {', '.join(args.stage)}," if args.pool else args.stage[0]
    stage = {"stage": args.stage[0]} if args.pool is None else {"stages": args.stage, "pool": args.pool}
    summary = {"output": args.output, "images": count, **stage, "shape": shape}
    sizes = "x".join(map(str, shape))
    print(json.dumps(summary) if args.json else f"{args.output}: {count} images, {named} of {sizes} values")
    return 0


def _inputs_among(stages: list[str]) -> list[str]:
    """Take from the end of --stage what are inputs, for `--stage stage3 photos/`; what is left are the stages.

    Raises:
        InputError: there is none.
    """
    inputs = []
    while len(stages) > 1 and (stages[-1] == "-" or os.path.exists(stages[-1])):
        inputs.insert(0, stages.pop())
    if not inputs:
        raise InputError("No INPUT: give image files or folders, or '-' for paths on standard input.")
    return inputs


def _extract(args: argparse.Namespace) -> Extract:
    if args.pool is None:
        if len(args.stage) > 1:
            joined = " ".join(args.stage)
            raise InputError(f"--stage {joined}: join several stages by --pool, such as --pool mpncov.")
        return Extract(load_pretrained(args, args.stage[0]), args.stage)
    if args.stage == REPRESENTATION:
        raise InputError(f"--pool {args.pool} needs a stage of the trunk to pool, such as --stage stage2.")
    return Extract(load_pretrained(args, "representation", num_classes=0, representation=args.pool, stages=args.stage))


def _write(file: FeatureFile, extract: Extract, paths: Sequence[str], args: argparse.Namespace) -> tuple[int, Shape]:
    """Write the rows; return how many, and the shape of one."""
    count, shape = 0, None
    with progress_bar(len(paths), "image") as bar:
        for batch, rows in extract.files(paths, args.batch_size):
            for error in rows.unreadable:
                if not args.skip_unreadable:
                    raise InputError(f"{error} (--skip-unreadable leaves such images out)")
                bar.write(f"{PROGRAM}: left out: {error}", file=sys.stderr)
            if rows.read:
                (features,) = rows.features.values()
                file.append([batch[index] for index in rows.read], features)
                count, shape = count + len(features), features.shape[1:]
            bar.update(len(batch))
    if shape is None:
        raise InputError("None of the images could be read.")
    return count, shape
