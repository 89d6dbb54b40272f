"""The command `mpncov-zoo predict`, which classifies images."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.cli.images import FOLDERS, find_images
from mpncov_zoo.cli.options import (
    PROGRAM,
    add_command,
    add_images,
    add_json,
    add_model,
    load_pretrained,
    positive,
    print_error,
)
from mpncov_zoo.errors import InputError
from mpncov_zoo.features.reading import ReadImage, read_batches

if TYPE_CHECKING:
    from mpncov_zoo.classifier import ImageClassifier

Prediction = list[tuple[str, float]]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "predict",
        run,
        help="classify images",
        details=f"{FOLDERS}\nAn image that cannot be read is reported, the others are classified all the same, and the "
        "exit\ncode is 2.",
        example=f"{PROGRAM} predict mpncov_cifar_resnet20 boot.png photos/ --top 3\n"
        f"find photos -name '*.png' | {PROGRAM} predict mpncov_cifar_resnet20 - --json",
    )
    add_model(parser)
    add_images(parser)
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="classes an image (default 5)")
    add_json(parser, "one JSON object a line and image: path, and predictions (label, probability) or error")


def run(args: argparse.Namespace) -> int:
    """Print one line for each image, batch after batch."""
    paths = find_images(args.inputs)
    model = load_pretrained(args)
    unreadable = 0
    for batch in read_batches(paths, model.preprocess, args.batch_size):
        for path, answer in _classify(model, batch, args.top):
            if isinstance(answer, InputError):
                unreadable += 1
                print_error(answer)
            if args.json or not isinstance(answer, InputError):
                print(_line(path, answer, as_json=args.json))
        print(end="", flush=True)
    return 2 if unreadable else 0


def _classify(model: ImageClassifier, batch: list[ReadImage], top: int) -> list[tuple[str, Prediction | InputError]]:
    images = [image for _, image in batch if not isinstance(image, InputError)]
    predictions = iter(model.decode(model.predict_on_batch(np.stack(images)), top) if images else ())
    return [(path, image if isinstance(image, InputError) else next(predictions)) for path, image in batch]


def _line(path: str, answer: Prediction | InputError, *, as_json: bool) -> str:
    if isinstance(answer, InputError):
        return json.dumps({"path": path, "error": str(answer)})
    if as_json:
        predictions = [{"label": label, "probability": probability} for label, probability in answer]
        return json.dumps({"path": path, "predictions": predictions})
    return f"{path}: " + ", ".join(f"{label} {100 * probability:.2f} %" for label, probability in answer)
