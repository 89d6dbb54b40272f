"""The command `mpncov-zoo probe`, which measures a linear classifier on frozen features, and makes one."""

import argparse
import json
import os
from typing import Any

from mpncov_zoo.catalog import split_name
from mpncov_zoo.cli.data import FILES, FOLDERS
from mpncov_zoo.cli.options import (
    PROGRAM,
    add_batch_size,
    add_command,
    add_json,
    add_model,
    add_pool,
    as_argument,
    positive,
)
from mpncov_zoo.features.divisions import TRAIN
from mpncov_zoo.features.linear import require_scikit_learn
from mpncov_zoo.features.probing import SPLITS, probe
from mpncov_zoo.features.report import ProbeReport, Score
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.quiet import import_tensorflow


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "probe",
        run,
        help="measure a linear classifier on frozen features, and make a classifier for one's own photos",
        details=f"DATASET is the layout of the files: {FILES}.\n{FOLDERS}\n"
        "The classifier is a linear support vector machine (scikit-learn). Features stay in the cache, so that a\n"
        "second probe of the same images is quick.",
        example=f"{PROGRAM} probe efficientnet_lite0 --data photos --stage stage5 --pool mpncov --output classifiers",
    )
    add_model(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="the images")
    parser.add_argument("--dataset", default="folders", metavar="DATASET", help="their layout (default folders)")
    parser.add_argument(
        "--stage", nargs="+", metavar="STAGE", help="stages of the trunk (default: MODEL's, most often its end)"
    )
    add_pool(parser)
    parser.add_argument(
        "--train",
        type=float,
        metavar="SHARE",
        help="the share of each class that the classifier learns from, in random splits of all images (default: the "
        f"data set's own test split is measured on; {TRAIN:g} if it has none)",
    )
    parser.add_argument(
        "--splits", type=positive, default=SPLITS, metavar="N", help=f"random splits (default {SPLITS})"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the splits (default 0)")
    parser.add_argument("--balanced", action="store_true", help="weigh classes by the inverse of their size")
    parser.add_argument("--size", type=positive, metavar="PIXELS", help="of the images (default: the network's)")
    parser.add_argument("--output", metavar="DIR", help="write the network with the classifier into this directory")
    parser.add_argument("--tag", default="probe", metavar="TAG", help="name of those weights (default probe)")
    add_batch_size(parser, 32)
    add_json(parser, "the report as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what was measured."""
    if not is_path(args.model):
        split_name(args.model, True)  # a misspelt name is refused before TensorFlow's seconds
    require_scikit_learn()
    import_tensorflow()
    report = probe(
        args.model,
        args.data,
        dataset=args.dataset,
        stages=args.stage,
        pool=args.pool,
        train=args.train,
        splits=args.splits,
        seed=args.seed,
        balanced=args.balanced,
        size=args.size,
        batch_size=args.batch_size,
        output=args.output,
        tag=args.tag,
        hub=args.hub,
        progress=True,
    )
    if args.json:
        print(json.dumps(report.to_dict()))
        return 0
    for line in _lines(report):
        print(line)
    return 0


def _lines(report: ProbeReport) -> list[str]:
    where = f" of {', '.join(report.stages)}" if report.stages else ""
    own = "the data set's own split" if report.train is None else f"{report.train:.0%} of each class to learn from"
    lines = [
        f"features           {report.model}{where}, {report.dimension:,} values",
        f"images             {report.images:,} of {report.classes} classes, {own}",
        f"top-1 accuracy     {_shown(report.top1)}",
        f"balanced accuracy  {_shown(report.balanced_accuracy)}",
    ]
    if report.artifact:
        name = as_argument(os.path.relpath(report.artifact))
        lines.append(f"classifier         {report.artifact}: {PROGRAM} predict {name} PHOTO ...")
    return lines


def _shown(score: Score) -> str:
    each = ", ".join(f"{100 * value:.2f}" for value in score.splits)
    if len(score.splits) == 1:
        return f"{each} %"
    return f"{100 * score.mean:.2f} % +- {100 * score.std:.2f} over {len(score.splits)} splits: {each}"
