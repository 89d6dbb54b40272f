"""`mpncov-zoo evaluate`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mpncov_zoo.cli.options import PROGRAM, add_batch_size, add_command, add_json, add_model, load_pretrained

if TYPE_CHECKING:
    from mpncov_zoo.manifest import Metric
    from mpncov_zoo.training.evaluate import Evaluation


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "evaluate",
        run,
        help="measure a model's accuracy on a data set, beside what the manifest states",
        example=f"{PROGRAM} evaluate mpncov_cifar_resnet20.fashion_mnist --data /usr/share/datasets/fashion-mnist",
    )
    add_model(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set's files, as they are published")
    parser.add_argument("--split", default="test", help="which part of it: train or test (default test)")
    parser.add_argument("--dataset", metavar="NAME", help="the data set's format (default: the one of the weights)")
    add_batch_size(parser, 250)
    add_json(parser, "one JSON object, with the accuracy of each class and the confusion matrix")


def run(args: argparse.Namespace) -> int:
    """Print the accuracies."""
    model = load_pretrained(args)
    from mpncov_zoo.training.datasets import read_dataset
    from mpncov_zoo.training.evaluate import dataset_of, evaluate, published_metrics

    dataset = args.dataset or dataset_of(model)
    images = read_dataset(dataset, args.data, args.split)
    result = evaluate(model, images, batch_size=args.batch_size, progress=True)
    published = published_metrics(model, dataset, args.split)
    subject = {"weights": model.load_report.weights, "dataset": dataset, "split": args.split}
    if args.json:
        print(json.dumps({**subject, **_plain(result, published)}))
    else:
        print(f"{' on '.join((str(subject['weights']), dataset))} {args.split}: {result.images:,} images")
        print("\n".join(_lines(result, published)))
    return 0


def _plain(result: Evaluation, published: Iterable[Metric]) -> dict[str, Any]:
    return {
        "images": result.images,
        "top1_accuracy": result.top1,
        "top5_accuracy": result.top5,
        "cross_entropy": result.cross_entropy,
        "class_accuracy": result.class_accuracy,
        "confusion": result.confusion.tolist(),
        "published": [metric.model_dump(mode="json") for metric in published],
    }


def _lines(result: Evaluation, published: Iterable[Metric]) -> Iterable[str]:
    """A line a quantity, each published value of it beside the measured one."""
    stated = list(published)
    for name, value in (("top-1 accuracy", result.top1), ("top-5 accuracy", result.top5)):
        beside = "".join(f"   published {m.value:g} % ({m.origin})" for m in stated if m.name == name)
        yield f"{name:<15} {value:6.2f} %{beside}"
    yield f"{'cross-entropy':<15} {result.cross_entropy:6.4f}"
