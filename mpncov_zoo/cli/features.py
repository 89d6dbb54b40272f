"""The command `mpncov-zoo features`, which writes the features of images to files."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpncov_zoo.catalog import split_name
from mpncov_zoo.cli.images import FOLDERS, find_images
from mpncov_zoo.cli.options import PROGRAM, add_command, add_images, add_json, add_model, add_pool, positive
from mpncov_zoo.errors import InputError
from mpncov_zoo.features.extracting import DTYPES, ENGINES, ROWS_PER_FILE, UNREADABLE, ExtractReport, extract
from mpncov_zoo.features.extraction import REPRESENTATION, Extract, extractor
from mpncov_zoo.features.files import FORMATS, FeatureFile, feature_file
from mpncov_zoo.features.tables import SUFFIX
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.progress import progress_bar
from mpncov_zoo.quiet import import_tensorflow

Shape = tuple[int, ...]
OPTIONS = ("engine", "address", "workers", "gpus_per_worker", "dtype", "project", "pca", "seed", "rows_per_file")
FOR_PARQUET = (*OPTIONS, "max_unreadable")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "features",
        run,
        help="compute the features of images into files, one row an image",
        details=f"{FOLDERS}\n"
        "FILE.npz holds the arrays `paths` and `features`; FILE.npy the features alone, with the paths in\n"
        "FILE.paths.txt beside it. Such a file appears when all is done: after an error there is none, and an older\n"
        "one is as it was.\n\n"
        "A directory gets Parquet files with the columns `path`, `label` if it is known, and `features`, so does one\n"
        "FILE.parquet. After an interruption the same command computes what is left. INPUT may then also be a Parquet\n"
        "file with a column `bytes`, `image` or `path`, a TFRecord file, a pattern in quotes such as 'a/**/*.jpg', or\n"
        "a URL that fsspec knows (s3://, gs://, hf://); OUT may be a URL, too.",
        example=f"{PROGRAM} features mpncov_cifar_resnet20 photos/ --output features.npz\n"
        f"{PROGRAM} features efficientnet_lite0 photos/ --stage stage5 stage6 --pool mpncov --output features.npz\n"
        f"{PROGRAM} features efficientnet_lite0 s3://bucket/photos/ --engine ray --address auto --output s3://bucket/features",
    )
    add_model(parser)
    add_images(parser, nargs="*")  # `run` looks for them among the stages, too
    parser.add_argument("--output", required=True, metavar="OUT", help="a directory, or .npy, .npz, .parquet")
    parser.add_argument(
        "--stage",
        nargs="+",
        default=REPRESENTATION,
        metavar="STAGE",
        help="which features (default representation); several are joined by --pool",
    )
    add_pool(parser)
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out what cannot be read, and say so")
    _add_parquet(parser.add_argument_group("for Parquet"))
    add_json(parser, "the summary as one JSON object")


def _add_parquet(group: Any) -> None:
    group.add_argument("--engine", choices=ENGINES, help="this process (local, the default), or a Ray cluster")
    group.add_argument("--address", metavar="ADDRESS", help="of the cluster, or 'auto'; by default a new one, here")
    group.add_argument(
        "--workers", type=positive, metavar="N", help="of Ray; by default as many as machines or GPUs have room for"
    )
    group.add_argument("--gpus-per-worker", type=float, metavar="G", help="such as 1 or 0.5 (default 0)")
    group.add_argument(
        "--max-unreadable",
        type=int,
        metavar="N",
        help=f"images that may be left out, and are listed; one more ends the run (default {UNREADABLE}; with "
        "--skip-unreadable any number)",
    )
    group.add_argument("--dtype", choices=DTYPES, help="of the features (default float32)")
    group.add_argument(
        "--project", type=positive, metavar="N", help="shorten by a sparse random projection to N values"
    )
    group.add_argument("--pca", type=positive, metavar="N", help="shorten to N principal components of a sample")
    group.add_argument("--seed", type=int, metavar="S", help="of the projection or the sample (default 0)")
    group.add_argument(
        "--rows-per-file", type=positive, metavar="N", help=f"images written at once (default {ROWS_PER_FILE})"
    )


def run(args: argparse.Namespace) -> int:
    """Write the features and print what is there."""
    args.stage = list(args.stage)
    inputs = args.inputs or _inputs_among(args.stage)
    suffix = Path(args.output).suffix
    is_directory = args.output.endswith("/") or not suffix or (suffix not in FORMATS and os.path.isdir(args.output))
    if is_directory or suffix == SUFFIX:
        report = _extract(inputs, args)
        facts = report.to_dict()
        count, shape = report.images, report.shape
    else:
        count, shape = _to_file(inputs, suffix, args)
        facts = {"output": args.output, "images": count, "shape": shape}
    stage = {"stage": args.stage[0]} if args.pool is None else {"stages": args.stage, "pool": args.pool}
    named = f"{args.pool} of {', '.join(args.stage)}," if args.pool else args.stage[0]
    sizes = "x".join(map(str, shape))
    print(json.dumps(facts | stage) if args.json else f"{args.output}: {count} images, {named} of {sizes} values")
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


def _extract(inputs: Sequence[str], args: argparse.Namespace) -> ExtractReport:
    _require_name(args.model)
    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    unreadable = UNREADABLE if args.max_unreadable is None else args.max_unreadable
    if args.engine == "ray":
        _leave_gpus_to_workers()
    named = [name for given in inputs for name in (find_images([given]) if given == "-" else [given])]
    report = extract(
        args.model,
        named,
        args.output,
        stages=args.stage,
        pool=args.pool,
        batch_size=args.batch_size,
        skip_unreadable=sys.maxsize if args.skip_unreadable and args.max_unreadable is None else unreadable,
        hub=args.hub,
        progress=True,
        **options,
    )
    if report.errors:
        print(f"{PROGRAM}: left out: {report.unreadable} images, {report.errors} says why", file=sys.stderr)
    return report


def _leave_gpus_to_workers() -> None:
    """Keep this process, which only describes the network, off the GPUs."""
    import_tensorflow()
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def _require_name(model: str) -> None:
    """Refuse a misspelt name before TensorFlow's seconds."""
    if not is_path(model):
        split_name(model, True)


def _to_file(inputs: Sequence[str], suffix: str, args: argparse.Namespace) -> tuple[int, Shape]:
    """Write a file of NumPy; return how many rows it has, and the shape of one."""
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(
            f"--output must end with {known}, or be a directory (one with a dot in its name ends with a slash). "
            f"Received: {args.output!r}."
        )
    given = [name for name in FOR_PARQUET if getattr(args, name) is not None]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} is for Parquet: --output a directory or FILE{SUFFIX}.")
    paths = list(find_images(inputs))
    with feature_file(args.output, paths, argument="--output") as file:
        return _write(file, paths, args)


def _write(file: FeatureFile, paths: Sequence[str], args: argparse.Namespace) -> tuple[int, Shape]:
    """Write the rows; return how many, and the shape of one."""
    _require_name(args.model)
    extract = Extract(extractor(args.model, args.stage, args.pool, hub=args.hub)[1])
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
