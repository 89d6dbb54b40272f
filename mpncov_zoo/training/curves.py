"""Draws the history of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import ZooError


def require_matplotlib() -> Any:
    """Matplotlib's class Figure, which draws without a screen.

    Raises:
        ZooError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ZooError("Pictures need matplotlib: pip install 'mpncov-zoo[training]'.") from None
    return Figure


def draw_curves(history: Sequence[dict[str, float]], output: Path) -> None:
    """Draw loss and accuracy over the epochs into a PNG file, of the training and, if there is one, of the validation.

    Args:
        history: one row for each epoch, with the columns of log.csv.
        output: the file.
    """
    Figure = require_matplotlib()
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((metric, "training"), (f"val_{metric}", "validation")):
            points = [(row["epoch"], row[key]) for row in history if key in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.grid(alpha=0.3)
        axes.legend()
    with complete(output) as partial:
        figure.savefig(partial, dpi=120)
