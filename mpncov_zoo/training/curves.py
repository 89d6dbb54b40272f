"""A run's log as a picture."""

import csv
from pathlib import Path
from typing import Any

from mpncov_zoo.errors import ZooError

NOT_MEASURED = "NA"  # what CSVLogger writes for the validation of a run without one


def require_matplotlib() -> Any:
    """Its Figure.

    Raises:
        ZooError: it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ZooError("Drawing curves needs matplotlib: pip install 'mpncov-zoo[training]'.") from None
    return Figure


def draw_curves(log: Path, output: Path) -> None:
    """Loss and accuracy by epoch, training and (where there is one) validation, as a PNG.

    Args:
        log: the CSV file of Keras' CSVLogger.
        output: the picture.
    """
    Figure = require_matplotlib()
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) + 1 for row in rows]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((metric, "training"), (f"val_{metric}", "validation")):
            if rows and rows[0].get(key, NOT_MEASURED) != NOT_MEASURED:
                axes.plot(epochs, [float(row[key]) for row in rows], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(output, dpi=120)
