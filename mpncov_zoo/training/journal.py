"""Writes what a run keeps of every epoch: the log, its curves, the state to go on from, and the best weights so far."""

import csv
import logging
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.complete import complete
from mpncov_zoo.training.curves import draw_curves
from mpncov_zoo.training.optimization import averages
from mpncov_zoo.training.recipes import Recipe
from mpncov_zoo.training.runs import Run
from mpncov_zoo.training.state import Row, save_state, write_arrays

logger = logging.getLogger(__name__)


def best_epoch(history: Sequence[Row], first: int = 0) -> int | None:
    """The index of the epoch with the highest validation accuracy; then the lowest loss decides, then the order.

    Args:
        history: a row an epoch.
        first: index of the first epoch that counts.

    Returns:
        None if there was no validation, or no epoch that counts.
    """
    rows = [(row["val_accuracy"], -row["val_loss"], -index) for index, row in enumerate(history) if "val_loss" in row]
    counted = [row for row in rows if -row[2] >= first]
    return -max(counted)[2] if counted else None


def answering_weights(model: ImageClassifier) -> dict[str, np.ndarray]:
    """The weights of a compiled network by name; if it has moving averages of them, the averages."""
    average = averages(model)
    return {name: average.get(v.path, v).numpy() for name, v in model.named_variables().items()}


class Journal(keras.callbacks.Callback):
    """Writes a run's files after every epoch, and ends the run early where its recipe asks for that.

    The state is written after the files that cannot be made from it. So whenever the process dies, the run goes on
    from a complete epoch, with everything that belongs to it.

    Args:
        run: the directory.
        recipe: says what to keep.
        history: of the epochs before; each epoch adds a row to it.
        writes: false for the workers that do not write.
    """

    def __init__(self, run: Run, recipe: Recipe, history: list[Row], *, writes: bool = True):
        super().__init__()
        self.run, self.recipe, self.history, self.writes = run, recipe, history, writes
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the time."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write everything, and compare with the epochs before."""
        rate = float(self.model.optimizer.learning_rate)
        row = {"epoch": epoch + 1, "learning_rate": rate, **{key: float(value) for key, value in (logs or {}).items()}}
        self.history.append({**row, "seconds": round(time.monotonic() - self._began, 1)})
        best = best_epoch(self.history) if self.recipe.keep == "best" else None
        if self.writes:
            if best == epoch:
                write_arrays(self.run.best(epoch + 1), answering_weights(self.model))
            save_state(self.run.state, self.model, self.history)
            self._keep_best(best)
            write_log(self.run, self.history)
        if stopped_early(self.recipe, self.history):
            logger.info("no better epoch for %d epochs: stopped after %d", self.recipe.early_stop, len(self.history))
            self.model.stop_training = True

    def _keep_best(self, best: int | None) -> None:
        for path in self.run.all_best():
            if best is None or path != self.run.best(best + 1):
                path.unlink()


def stopped_early(recipe: Recipe, history: Sequence[Row]) -> bool:
    """Was none of the last `early_stop` epochs better than one before them? Epochs of a first stage do not count."""
    first = recipe.first_stage.epochs if recipe.first_stage else 0
    best = best_epoch(history, first)
    return bool(recipe.early_stop) and best is not None and len(history) - 1 - best >= recipe.early_stop


def write_log(run: Run, history: Sequence[Row]) -> None:
    """Write the history as a CSV file, and draw its curves."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with complete(run.log) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
    draw_curves(history, run.curves)


class AveragesInValidation(keras.callbacks.Callback):
    """Replaces the learned weights by their moving averages while the validation images are measured."""

    def __init__(self) -> None:
        super().__init__()
        self._learned: list[tuple[Any, np.ndarray]] = []

    def on_test_begin(self, logs: Any = None) -> None:
        """Replace the learned weights by their averages."""
        average = averages(self.model)
        self._learned = [(v, v.numpy()) for v in self.model.trainable_variables]
        for variable, _ in self._learned:
            variable.assign(average[variable.path])

    def on_test_end(self, logs: Any = None) -> None:
        """Put the learned weights back."""
        for variable, value in self._learned:
            variable.assign(value)
