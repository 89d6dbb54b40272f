"""One training run, from a recipe to an artifact, by Keras' own loop: it goes on after the last complete epoch."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mpncov_zoo import artifact, registry
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.manifest import load_manifest
from mpncov_zoo.training import checkpoints, runs
from mpncov_zoo.training.checkpoints import Row
from mpncov_zoo.training.curves import require_matplotlib
from mpncov_zoo.training.datasets import Share, Split, read_dataset, split_holdout, training_batches
from mpncov_zoo.training.datasets.checking import without_corrupt
from mpncov_zoo.training.datasets.pipelines import WHOLE
from mpncov_zoo.training.distribution import (
    distributed_batches,
    distributed_evaluation,
    is_chief,
    losing_workers,
    make_strategy,
    meet,
    require_shareable,
)
from mpncov_zoo.training.divergence import DivergenceGuard
from mpncov_zoo.training.evaluate import evaluate
from mpncov_zoo.training.journal import (
    AveragesInValidation,
    Journal,
    answering_weights,
    best_epoch,
    stopped_early,
    write_log,
)
from mpncov_zoo.training.networks import assign_pretrained, build
from mpncov_zoo.training.optimization import compile_for, inner
from mpncov_zoo.training.recipes import Recipe, load_recipe
from mpncov_zoo.training.runs import Run

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe | str,
    data: str | Path,
    output: str | Path,
    *,
    hub: str | PathLike[str] | None = None,
    strategy: str = "single",
    resume: bool = False,
    verbose: int = 1,
) -> Path:
    """Train by a recipe and write the result as an artifact.

    Args:
        recipe: what to train: of `load_recipe`, or the name that it takes.
        data: directory of the data set.
        output: directory of the run; it must be new or empty unless `resume`.
        hub: the only place to look for the pretrained weights of the recipe, as `mpncov_zoo.load` takes it.
        strategy: "single", "mirrored" or "multi_worker", as `make_strategy` takes it (docs/scaling.md). All workers
            call this, with the same arguments; the chief writes.
        resume: go on after the last complete epoch of this directory, if there is one; the result is the same.
        verbose: Keras' progress bar: 0 none, 1 bar, 2 a line an epoch.

    Returns:
        The artifact's directory, `<output>/<model>.<tag>`, which `mpncov_zoo.load(hub=...)` takes.

    Raises:
        InputError: data, output or recipe cannot be used.
        ZooError: training diverged, or matplotlib or tensorboard is not installed.
        NoPretrainedWeights, FetchError, IntegrityError: of `mpncov_zoo.load`, for the recipe's pretrained weights.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    _require_extras()
    _require_unpublished(recipe)
    run = runs.inspect(Path(output), recipe, resume=resume)
    devices = make_strategy(strategy)  # before TensorFlow computes anything; all workers have looked at the run
    training, watched = _data(recipe, data)
    require_shareable(devices, recipe.batch_size, recipe.precision)
    keras.utils.set_random_seed(recipe.seed)
    with devices.scope():
        model = build(recipe, training.class_names)
    for stage in recipe.stages():
        model.freeze(stage.freeze)  # refuses a stage that this network has not
    if recipe.pretrained and not run.state.exists():
        assign_pretrained(model, recipe, hub)
    directory = run.directory / f"{model.architecture.name}.{recipe.tag}"
    writes = is_chief(devices)
    with runs.begun(run, recipe, training, writes=writes), losing_workers(devices):
        if writes:
            runs.require_room(run, model, recipe)
        else:
            meet(devices, 0)  # the chief looks for corrupt images and leaves a record
        images = _usable(recipe, training, watched, run, verbose)
        if writes:
            meet(devices, 0)
        session = _Session(recipe, run, devices, *images, verbose if writes else 0)
        if not directory.exists():
            history = _fit(model, session)
            if writes:
                _export(model, session, history, directory)
        meet(devices, 0)
    return directory


@dataclass(frozen=True)
class _Session:
    """What the parts of a training share: images to train on, and to measure on if there are any."""

    recipe: Recipe
    run: Run
    devices: tf.distribute.Strategy
    training: Split
    watched: Split | None
    verbose: int

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return len(self.training) // self.recipe.batch_size

    def batches(self, epoch: int, share: Share = WHOLE) -> tf.data.Dataset:
        """Those of an epoch, counted from 0, and of all that follow; or a worker's share of each."""
        recipe = self.recipe
        return training_batches(
            self.training,
            recipe.input,
            recipe.augmentation,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            share=share,
        )


def _require_extras() -> None:
    require_matplotlib()
    if find_spec("tensorboard") is None:
        raise ZooError("The log for TensorBoard needs tensorboard: pip install 'mpncov-zoo[training]'.")


def _require_unpublished(recipe: Recipe) -> None:
    """Refuse the name of published weights: `load` would hold the result against their digests."""
    entry = load_manifest().get(f"{registry.canonical_name(recipe.model)}.{recipe.tag}")
    if entry is not None and entry.files:
        raise InputError(f"{entry.name} is the name of published weights. Train under another tag: --set tag=mine.")


def _data(recipe: Recipe, directory: str | Path) -> tuple[Split, Split | None]:
    """The images to train on and those to measure on, if the recipe names a split for that; none has been looked at."""
    training = read_dataset(recipe.dataset, directory, "train")
    watched = read_dataset(recipe.dataset, directory, recipe.validation) if recipe.validation else None
    if watched is not None and watched.class_names != training.class_names:
        other = sorted({*watched.class_names} ^ {*training.class_names}) or ["their order"]
        raise InputError(f"{recipe.validation} has other classes than the training images: {', '.join(other[:5])}.")
    _divided(recipe, training)
    return training, watched


def _divided(recipe: Recipe, training: Split) -> tuple[Split, Split]:
    """The images to train on and the holdout."""
    training, holdout = split_holdout(training, recipe.holdout, recipe.seed)
    if len(training) < recipe.batch_size:
        raise InputError(f"batch_size={recipe.batch_size} is more than the {len(training)} images to train on.")
    return training, holdout


def _usable(
    recipe: Recipe, training: Split, watched: Split | None, run: Run, verbose: int
) -> tuple[Split, Split | None]:
    """The images that can be decoded: to train on, and to measure on."""

    def decodable(split: Split, name: str) -> Split:
        tolerance, record = recipe.corrupt_tolerance, run.images(name)
        return without_corrupt(split, tolerance=tolerance, record=record, progress=verbose == 1)

    training, holdout = _divided(recipe, decodable(training, "train"))
    if watched is not None:
        return training, decodable(watched, str(recipe.validation))
    return training, holdout if len(holdout) else None


def _fit(model: ImageClassifier, session: _Session) -> list[Row]:
    """Train what is left of the stages; the rows of all epochs."""
    recipe, state = session.recipe, session.run.state
    history = checkpoints.read_history(state)
    meet(session.devices, len(history))
    stages = recipe.stages()
    total = sum(stage.epochs for stage in stages)
    logger.info("training %s: %d of %d epochs are done", model.name, len(history), total)
    to_restore = bool(history)
    end = 0
    for stage in stages:
        first, end = end, end + stage.epochs
        if end <= len(history) and end < total:
            continue
        model.freeze(stage.freeze)
        with session.devices.scope():
            compile_for(model, stage, session.steps)
            if to_restore:
                checkpoints.restore_state(state, model, optimizer=len(history) > first)
        if to_restore and is_chief(session.devices):
            write_log(session.run, history)
        to_restore = False
        if len(history) < end and not stopped_early(recipe, history):
            _fit_stage(model, session, history, end)
    return history


def _fit_stage(model: ImageClassifier, session: _Session, history: list[Row], end: int) -> None:
    """Train up to an epoch; the rows of its epochs are added to the history."""
    recipe, devices, done = session.recipe, session.devices, len(history)
    validation, validation_steps = None, None
    if session.watched is not None:
        validation, validation_steps = distributed_evaluation(devices, session.watched, recipe.input)
    writes = is_chief(devices)
    model.fit(
        distributed_batches(devices, lambda share: session.batches(done, share), recipe.batch_size),
        steps_per_epoch=session.steps,
        initial_epoch=done,
        epochs=end,
        shuffle=False,  # the batches are already
        validation_data=validation,
        validation_steps=validation_steps,
        callbacks=[
            DivergenceGuard(lambda epoch, batch: next(iter(session.batches(epoch).skip(batch))), lambda: len(history)),
            *([AveragesInValidation()] if inner(model.optimizer).use_ema else []),
            Journal(session.run, recipe, history, writes=writes),
            *([keras.callbacks.TensorBoard(os.fspath(session.run.events), write_graph=False)] if writes else []),
        ],
        verbose=session.verbose,  # pyright: ignore[reportArgumentType]
    )


def _export(trained: ImageClassifier, session: _Session, history: Sequence[Row], directory: Path) -> None:
    """Write the kept weights in float32, and what they are worth."""
    recipe, run = session.recipe, session.run
    best = best_epoch(history) if recipe.keep == "best" else None
    kept = checkpoints.read_arrays(run.best(best + 1)) if best is not None else answering_weights(trained)
    model = build(recipe.model_copy(update={"precision": "float32"}), trained.labels or ())
    variables = model.named_variables()
    if variables.keys() != kept.keys():
        raise InputError(f"{run.directory} holds the weights of another network. Begin again in a new directory.")
    for name, variable in variables.items():
        variable.assign(kept[name])
    runs.write_json(run.metrics, _metrics(model, session.watched, history, len(history) - 1 if best is None else best))
    provenance = {"kind": "trained", "recipe": recipe.model_dump(mode="json")}
    artifact.write(model, directory, tag=recipe.tag, provenance=provenance)
    logger.info("wrote %s", directory)


def _metrics(model: ImageClassifier, watched: Split | None, history: Sequence[Row], kept: int) -> dict[str, Any]:
    """What the kept weights are worth, and what they cost."""
    validation = None
    if watched is not None:
        result = evaluate(model, watched)
        validation = {
            "images": result.images,
            "top1_accuracy": result.top1,
            "balanced_accuracy": result.balanced_accuracy,
            "cross_entropy": result.cross_entropy,
        }
    return {
        "parameters": model.parameters,
        "epochs": len(history),
        "kept_epoch": kept + 1,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "log": history[kept],
        "validation": validation,
    }
