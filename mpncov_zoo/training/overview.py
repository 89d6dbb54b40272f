"""Says what a run is going to do, in one table at its beginning, and how long it will take, after its first steps."""

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.training.datasets import Split
from mpncov_zoo.training.optimization import schedule
from mpncov_zoo.training.recipes import Recipe

logger = logging.getLogger(__name__)

MEASURED = 10  # steps whose time is measured, after the first one, which takes longer


def overview(
    recipe: Recipe, model: ImageClassifier, splits: Mapping[str, Split], sizes: np.ndarray, done: int, artifact: Path
) -> str:
    """The table, one line a fact.

    Args:
        recipe: what is trained.
        model: the network, with the weights that it begins with.
        splits: the images by what they are for, those to train on first.
        sizes: of the batches of an epoch.
        done: epochs that are complete already.
        artifact: what will be written.
    """
    where = f" on {', '.join(model.architecture.stages)}" if model.architecture.stages else ""
    rows = [
        ("network", f"{model.name}{where}"),
        *_of_images(recipe, splits),
        ("batches", _batches(splits["train"], sizes)),
    ]
    for number, phase in enumerate(recipe.phases(), 1):
        name = f"stage {number}: " if recipe.first_stage else ""
        every = phase.optimizer.accumulate
        change = f"; {every} of them make one change of the weights" if every > 1 else ""
        rows += [
            ("epochs", f"{name}{phase.epochs:,}, together {_counted(phase.epochs * len(sizes), 'step')}{change}"),
            ("learning rate", name + _rates(phase, len(sizes))),
            ("frozen", name + _frozen(model, phase.freeze)),
        ]
    begins = f"nothing: the run goes on after epoch {done}" if done else _fresh(model)
    rows += [("fresh", begins), ("time", "is told after the first steps"), ("output", str(artifact))]
    return "\n".join(f"  {name:<14} {text}" for name, text in rows)


def warnings(recipe: Recipe, steps: int) -> Iterator[str]:
    """What is probably not meant in the schedules of a recipe whose epochs have `steps` batches."""
    for phase in recipe.phases():
        never = [epoch for epoch in phase.optimizer.step_epochs if epoch >= phase.epochs]
        if never:
            epochs = ", ".join(map(str, never))
            yield f"the learning rate never falls after epochs {epochs}: there are {phase.epochs}"
        if _rate(phase, steps, steps - 1) == 0:
            yield (
                "the learning rate is 0 in all of epoch 1, whose only batch is the first one of the warm-up: take a "
                "smaller batch_size, or --set optimizer.warmup_epochs=0"
            )


class Estimate(keras.callbacks.Callback):
    """Logs how long a stage will take, as soon as some of its steps are done.

    Args:
        steps: of what is left of the stage.
        measured: images that are measured after every epoch, 0 for none; their time is not known yet.
        newline: begin a new line, since a progress bar stands on this one.
    """

    def __init__(self, steps: int, measured: int, *, newline: bool = False):
        super().__init__()
        self._steps, self._measured, self._newline = steps, measured, newline
        self._timed = min(MEASURED, (steps - 1) // 2)  # a short run is told in its middle
        self._done, self._began = 0, 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Begin to measure after the first step; after some more, say what comes of it."""
        self._done += 1
        if self._done == 1:
            self._began = time.monotonic()
        elif self._done == 1 + self._timed:
            seconds = (time.monotonic() - self._began) / self._timed
            left = self._steps - self._done
            more = f", and the measuring of {self._measured:,} images after every epoch" if self._measured else ""
            text = f"about {_duration(seconds * left)} to go: {_counted(left, 'step')} of {seconds:.2g} s{more}"
            logger.info("%s%s", "\n" * self._newline, text)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{seconds / 3600:.1f} hours"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _of_images(recipe: Recipe, splits: Mapping[str, Split]) -> Iterator[tuple[str, str]]:
    watched = recipe.validation or "holdout"
    for name, split in splits.items():
        counts = np.bincount(split.labels, minlength=len(split.class_names))
        use = ": measured after every epoch" if name == watched else "" if name == "train" else ": not looked at"
        spread = (
            f"{_counted(len(counts), 'class').replace('classs', 'classes')} of {counts.min():,} to {counts.max():,}"
        )
        yield name, f"{_counted(len(split), 'image')}, {spread}{use}"


def _batches(training: Split, sizes: np.ndarray) -> str:
    left_out = len(training) - int(sizes.sum())
    images = f"{sizes.min():,}" if sizes.min() == sizes.max() else f"{sizes.min():,} or {sizes.max():,}"
    rest = "all images are in each epoch"
    if left_out:
        rest = f"each epoch leaves out {_counted(left_out, 'image')}, others each time (--set remainder=train: none)"
    return f"{len(sizes):,} an epoch, of {images} images; {rest}"


def _rate(phase: Recipe, steps: int, step: int) -> float:
    """The learning rate of a step of a stage, counted from 0; an epoch has `steps`."""
    return float(keras.ops.convert_to_numpy(schedule(phase, steps)(step)))


def _rates(phase: Recipe, steps: int) -> str:
    """The first, highest and last learning rate, and those from which another one begins."""
    settings, last = phase.optimizer, phase.epochs * steps - 1
    points = {0, settings.warmup_epochs * steps, *(epoch * steps for epoch in settings.step_epochs), last}
    told, before = [], None
    for step in sorted(point for point in points if point <= last):
        rate = _rate(phase, steps, step)
        if rate != before:
            told.append(f"{rate:.3g} at step {step + 1:,} (epoch {step // steps + 1})")
        before = rate
    return f"{settings.schedule}, " + ", ".join(told)


def _frozen(model: ImageClassifier, stage: str | None) -> str:
    with model.keeping_flags():
        model.freeze(None)
        whole = _size(model.trainable_variables)
        model.freeze(stage)
        learned = _size(model.trainable_variables)
    variables, parameters = (a - b for a, b in zip(whole, learned, strict=True))
    if not variables:
        return "nothing"
    return f"up to {stage}: {variables:,} of {whole[0]:,} variables, {parameters:,} of {whole[1]:,} parameters"


def _fresh(model: ImageClassifier) -> str:
    report, learned = model.load_report, model.learned_variables()
    if report.weights is None:
        return "everything: no pretrained weights"
    variables, parameters = _size([learned[name] for name in report.fresh if name in learned])
    parts = ", ".join(sorted({name.partition("/")[0] for name in report.fresh})) or "nothing"
    return f"{parts}: {variables:,} variables, {parameters:,} parameters; all else is of {report.weights}"


def _size(variables: Any) -> tuple[int, int]:
    """How many variables, and how many numbers in them."""
    return len(variables), sum(int(np.prod(variable.shape)) for variable in variables)
