"""`mpncov-zoo features`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.cli.feature_files import FeatureFile, feature_file
from mpncov_zoo.cli.images import FOLDERS, find_images, read_batches
from mpncov_zoo.cli.options import PROGRAM, add_command, add_images, add_json, add_model, load_pretrained
from mpncov_zoo.errors import InputError
from mpncov_zoo.progress import progress_bar

if TYPE_CHECKING:
    from mpncov_zoo.classifier import FeatureExtractor

Shape = tuple[int, ...]


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
        example=f"{PROGRAM} features mpncov_cifar_resnet20 photos/ --output features.npz",
    )
    add_model(parser)
    add_images(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="its suffix, .npy, .npz or .parquet, decides")
    parser.add_argument(
        "--stage", default="representation", metavar="STAGE", help="which features (default representation)"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out what cannot be read, and say so")
    add_json(parser, "the summary as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the file and print what it holds."""
    paths = list(find_images(args.inputs))
    with feature_file(args.output, paths) as file:
        extract = _extractor(args)
        count, shape = _write(file, extract, paths, args)
    summary = {"output": args.output, "images": count, "stage": args.stage, "shape": shape}
    sizes = "x".join(map(str, shape))
    print(json.dumps(summary) if args.json else f"{args.output}: {count} images, {args.stage} of {sizes} values")
    return 0


def _extractor(args: argparse.Namespace) -> FeatureExtractor:
    model = load_pretrained(args)
    from mpncov_zoo.zoo import feature_extractor

    return feature_extractor(model, [args.stage])


def _write(
    file: FeatureFile, extract: FeatureExtractor, paths: Sequence[str], args: argparse.Namespace
) -> tuple[int, Shape]:
    """Write the rows; return how many, and the shape of one."""
    count, shape = 0, None
    with progress_bar(len(paths), "image") as bar:
        for batch in read_batches(paths, extract.preprocess, args.batch_size):
            for error in (image for _, image in batch if isinstance(image, InputError)):
                if not args.skip_unreadable:
                    raise InputError(f"{error} (--skip-unreadable leaves such images out)")
                bar.write(f"{PROGRAM}: left out: {error}", file=sys.stderr)
            good = [(path, image) for path, image in batch if not isinstance(image, InputError)]
            if good:
                rows = extract.predict_on_batch(np.stack([image for _, image in good]))[args.stage]
                file.append([path for path, _ in good], rows)
                count, shape = count + len(good), rows.shape[1:]
            bar.update(len(batch))
    if shape is None:
        raise InputError("None of the images could be read.")
    return count, shape
