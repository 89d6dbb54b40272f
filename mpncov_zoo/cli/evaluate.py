"""The command `mpncov-zoo evaluate`, which measures the accuracy of a network."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpncov_zoo.cli.options import PROGRAM, add_batch_size, add_command, add_json, add_model, load_pretrained
from mpncov_zoo.description import VIEWS
from mpncov_zoo.errors import InputError

if TYPE_CHECKING:
    from mpncov_zoo.classifier import ImageClassifier
    from mpncov_zoo.description import Metric
    from mpncov_zoo.training.evaluate import Evaluation

DEFAULT_SPLITS = ("test", "val")  # the first that there is
ACCURACY_OF: Mapping[str, str] = {"top-1 error": "top-1 accuracy", "top-5 error": "top-5 accuracy"}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "evaluate",
        run,
        help="measure a model's accuracy on a data set, beside what the manifest states",
        details="Of several views of an image the probabilities are averaged: mirror takes the image and its mirror\n"
        "image, ten_crops the corners and the centre of both.\n"
        "Where the network's own run kept images apart (split.test=0.2), --split test takes exactly those. --split\n"
        "all takes all images of a folder of class folders that is not divided.\n"
        "--output gets evaluation.json (what --json prints), classes.csv (a row a class: recall, precision, with what\n"
        "it was confused most) and confusion.png.",
        example=f"{PROGRAM} evaluate mpncov_cifar_resnet20.fashion_mnist --data /usr/share/datasets/fashion-mnist\n"
        f"{PROGRAM} evaluate mpncov_resnet50 --data /data/imagenet --views ten_crops --output results/ten_crops",
    )
    add_model(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set's files, as they are published")
    parser.add_argument("--split", metavar="NAME", help="which part of it (default: test, or val where there is none)")
    parser.add_argument("--dataset", metavar="NAME", help="the data set's format (default: the one of the weights)")
    parser.add_argument("--views", choices=VIEWS, default="single", help="of each image (default single)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="directory for the reports")
    add_batch_size(parser, 250)
    add_json(parser, "one JSON object, with the accuracy of each class and the confusion matrix")


def run(args: argparse.Namespace) -> int:
    """Print the accuracies."""
    model = load_pretrained(args)
    from mpncov_zoo.training.evaluate import dataset_of, evaluate, published_metrics
    from mpncov_zoo.training.held_out import read_evaluated
    from mpncov_zoo.training.reports import prepare, write_reports

    dataset = args.dataset or dataset_of(model)
    split = args.split or _default_split(model, dataset, args.data)
    images = read_evaluated(model, dataset, args.data, split)
    if args.output:
        prepare(args.output)
    result = evaluate(model, images, views=args.views, batch_size=args.batch_size, progress=True)
    published = published_metrics(model, dataset, split, args.views)
    subject = {"weights": model.load_report.weights, "dataset": dataset, "split": split, "views": args.views}
    metrics = {**subject, **_plain(result, published)}
    if args.output:
        write_reports(result, metrics, args.output)
    if args.json:
        print(json.dumps(metrics))
    else:
        print(f"{subject['weights']} on {dataset} {split}, {VIEWS[args.views]}: {result.images:,} images")
        print("\n".join(_lines(result, published)))
    return 0


def _default_split(model: ImageClassifier, dataset: str, directory: str) -> str:
    from mpncov_zoo.training.held_out import advice, evaluated_splits

    splits = evaluated_splits(model, dataset, directory)
    found = [split for split in DEFAULT_SPLITS if split in splits]
    if not found:
        allowed = f"name one: --split. Allowed: {', '.join(splits)}."
        raise InputError(f"{directory} has no test or val split; {allowed}{advice(splits)}")
    return found[0]


def _plain(result: Evaluation, published: Iterable[Metric]) -> dict[str, Any]:
    return {
        **result.summary(),
        "class_accuracy": result.class_accuracy,
        "confusion": result.confusion.tolist(),
        "published": [metric.model_dump(mode="json") for metric in published],
    }


def _lines(result: Evaluation, published: Iterable[Metric]) -> Iterable[str]:
    """One line for each quantity, with its published values beside the measured one."""
    stated = [(ACCURACY_OF.get(metric.name, metric.name), metric) for metric in published]
    values = {
        "top-1 accuracy": result.top1,
        "top-5 accuracy": result.top5,
        "balanced accuracy": result.balanced_accuracy,
    }
    for name, value in values.items():
        beside = "".join(_beside(metric) for quantity, metric in stated if quantity == name)
        yield f"{name:<17} {value:6.2f} %{beside}"
    yield f"{'cross-entropy':<17} {result.cross_entropy:6.4f}"


def _beside(metric: Metric) -> str:
    accuracy = 100 - metric.value if metric.name in ACCURACY_OF else metric.value
    return f"   published {accuracy:g} % ({metric.origin}: {metric.protocol})"
