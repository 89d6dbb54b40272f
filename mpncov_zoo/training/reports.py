"""Writes an evaluation to files: its numbers, a table of the classes, and the confusion matrix as a picture."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError
from mpncov_zoo.training.curves import require_matplotlib

if TYPE_CHECKING:
    from mpncov_zoo.training.evaluate import Evaluation

METRICS, CLASSES, CONFUSION = FILES = ("evaluation.json", "classes.csv", "confusion.png")
COLUMNS = (
    "class",
    "images",
    "correct",
    "recall_percent",
    "precision_percent",
    "most_confused_with",
    "most_confused_images",
)
DPI = 100  # pixels an inch
SIDE = 800  # pixels of the matrix, or one a class where there are more classes
NAMED = 30  # with up to so many classes their names stand at the rows and columns,
COUNTED = 20  # and with up to so many the numbers of images in the cells
SHOWN = 32  # letters of a name


def prepare(directory: Path) -> None:
    """Make the directory of the reports, and refuse at once what would fail after the evaluation.

    Raises:
        InputError: it cannot be written to.
        ZooError: matplotlib is not installed.
    """
    require_matplotlib()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror}. Give another directory.") from error
    taken = [name for name in FILES if (directory / name).is_dir()]
    if taken:
        raise InputError(f"{directory / taken[0]} is a directory. Remove it, or give another directory.")


def write_reports(result: Evaluation, metrics: Mapping[str, Any], directory: Path) -> None:
    """Write evaluation.json, classes.csv and confusion.png; each takes the place of an older one when it is complete.

    Args:
        result: the evaluation.
        metrics: content of evaluation.json.
        directory: where to.

    Raises:
        InputError: it cannot be written.
        ZooError: matplotlib is not installed.
    """
    with complete(directory / METRICS) as partial:
        partial.write_text(json.dumps(metrics) + "\n")
    write_classes(result, directory / CLASSES)
    draw_confusion(result, directory / CONFUSION)


def write_classes(result: Evaluation, output: Path) -> None:
    """Write a CSV file with one row for each class and the columns `COLUMNS`.

    Recall is the accuracy of a class: the percentage of its images that were recognised. Precision is the percentage of
    the answers of that class that were right. A cell is empty where there is no such image or answer, and where no
    image was taken for one of another class.

    Args:
        result: the evaluation.
        output: the file.

    Raises:
        InputError: it cannot be written.
    """
    with (
        complete(output) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_class_rows(result))


def _class_rows(result: Evaluation) -> Iterator[tuple[object, ...]]:
    correct = np.diag(result.confusion)
    wrong = result.confusion - np.diag(correct)
    images, answers = result.confusion.sum(axis=1), result.confusion.sum(axis=0)
    for index, name in enumerate(result.class_names):
        right = int(correct[index])
        other = int(wrong[index].argmax())
        confused = int(wrong[index, other])
        percents = _percent(right, int(images[index])), _percent(right, int(answers[index]))
        yield name, images[index], right, *percents, result.class_names[other] if confused else "", confused


def _percent(part: int, whole: int) -> float | str:
    return round(100 * part / whole, 4) if whole else ""


def draw_confusion(result: Evaluation, output: Path) -> None:
    """Draw the confusion matrix: a cell is as dark as the share of the true class's images that got this answer.

    Classes without images are grey. No cell is smaller than a pixel, and none is blurred.

    Args:
        result: the evaluation.
        output: the picture, a PNG file.

    Raises:
        InputError: it cannot be written.
        ZooError: matplotlib is not installed.
    """
    Figure = require_matplotlib()
    classes = len(result.class_names)
    side = max(1, SIDE // classes) * classes / DPI
    figure = Figure(figsize=(side, side), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # all of it: what stands around is added when the picture is saved
    shares = _row_percent(result.confusion)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.set(facecolor="lightgray", xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{result.images:,} images, top-1 accuracy {result.top1:.2f} %")
    colours = axes.inset_axes((1.02, 0, 0.03, 1))
    figure.colorbar(image, cax=colours, label="percent of the true class's images")
    if classes <= NAMED:
        _name_classes(axes, result.class_names)
    if classes <= COUNTED:
        _count_cells(axes, result.confusion, shares)
    with complete(output) as partial:
        figure.savefig(partial, bbox_inches="tight")


def _row_percent(confusion: np.ndarray) -> np.ndarray:
    """Percent of each row's sum, float64 (classes, classes); NaN in an empty row."""
    total = confusion.sum(axis=1, keepdims=True)
    return np.divide(100 * confusion, total, out=np.full(confusion.shape, np.nan), where=total > 0)


def _name_classes(axes: Any, names: tuple[str, ...]) -> None:
    shown = [_printable(name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), shown, parse_math=False)


def _printable(name: str) -> str:
    """A name in one line, shortened, and with characters that can be drawn only; folders may have any name."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _count_cells(axes: Any, confusion: np.ndarray, shares: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if shares[row, column] > 50 else "black"
        axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8)
