"""Trains a network by a recipe, with Keras' own loop, into an artifact; a stopped run goes on after its last epoch."""

import logging
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mpncov_zoo.artifact import writer
from mpncov_zoo.catalog import architecture_and_input
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.description import DESCRIPTION_FILE
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.manifest import load_manifest
from mpncov_zoo.quiet import require_tensorflow_backend
from mpncov_zoo.training import runs
from mpncov_zoo.training.curves import require_matplotlib
from mpncov_zoo.training.datasets import divide, require_outside
from mpncov_zoo.training.distribution import (
    chief_first,
    distributed_batches,
    distributed_evaluation,
    is_chief,
    losing_workers,
    make_strategy,
    meet,
    require_shareable,
)
from mpncov_zoo.training.divergence import DivergenceGuard, reason
from mpncov_zoo.training.evaluate import evaluate
from mpncov_zoo.training.held_out import KEY, division
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
from mpncov_zoo.training.overview import Estimate, overview, warnings
from mpncov_zoo.training.recipes import Recipe, load_recipe
from mpncov_zoo.training.session import Session, read_splits, usable
from mpncov_zoo.training.state import Row, read_arrays, read_history, restore_state

logger = logging.getLogger(__name__)

OF_THE_DATA = (
    tf.errors.NotFoundError,
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.FailedPreconditionError,  # fewer images than there were
)


def train(
    recipe: Recipe | str | PathLike[str],
    data: str | PathLike[str],
    output: str | PathLike[str],
    *,
    hub: str | PathLike[str] | None = None,
    strategy: str = "single",
    resume: bool = False,
    verbose: int = 1,
) -> Path:
    """Train by a recipe and write the result as an artifact.

    Args:
        recipe: what to train: of `load_recipe`, or the name or path that it takes.
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

    Example:
        >>> train("fashion_mnist", "/usr/share/datasets/fashion-mnist", "runs/fashion_mnist")
        PosixPath('runs/fashion_mnist/mpncov_cifar_resnet20.retrained')
    """
    require_tensorflow_backend("Training")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    _require_extras()
    _require_unpublished(recipe)
    run = runs.inspect(Path(output), recipe, resume=resume)
    devices = make_strategy(strategy)  # before TensorFlow computes anything; all workers have looked at the run
    require_shareable(devices, recipe.batch_size, recipe.precision)
    data_sets = read_splits(recipe, data, devices.num_replicas_in_sync)
    require_outside(recipe.dataset, data, output)
    model = _initial(recipe, data_sets["train"].class_names, devices, hub, go_on=run.state.exists())
    directory = run.directory / f"{model.architecture.name}.{recipe.tag}"
    if directory.exists() and not (directory / DESCRIPTION_FILE).exists():
        raise InputError(f"{directory} stands where the artifact will be, and is none. Remove it.")
    writes = is_chief(devices)
    parts = divide(data_sets["train"], recipe.split) if recipe.split else {}
    with runs.begun(run, recipe, {**data_sets, **parts}, writes=writes), losing_workers(devices):
        if not directory.exists():
            with chief_first(devices):  # it leaves a record of corrupt images
                if writes:
                    runs.require_room(run, model, recipe)
                sound = usable(recipe, data_sets, run, verbose)
            session = Session(recipe, run, devices, data_sets["train"], sound, verbose if writes else 0)
            _tell(model, session, directory)
            history = _fit(model, session)
            if writes:
                _export(model, session, history, directory)
        meet(devices, 0)
    return directory


def _require_extras() -> None:
    require_matplotlib()
    if find_spec("tensorboard") is None:
        raise ZooError("The log for TensorBoard needs tensorboard: pip install 'mpncov-zoo[training]'.")


def _require_unpublished(recipe: Recipe) -> None:
    """Refuse the name of published weights, since `load` would compare the result with their digests."""
    entry = load_manifest().get(f"{architecture_and_input(recipe.model)[0].name}.{recipe.tag}")
    if entry is not None and entry.files:
        raise InputError(f"{entry.name} is the name of published weights. Train under another tag: --set tag=mine.")


def _initial(
    recipe: Recipe,
    class_names: tuple[str, ...],
    devices: tf.distribute.Strategy,
    hub: str | PathLike[str] | None,
    *,
    go_on: bool,
) -> ImageClassifier:
    """The network with the weights that it begins with; a run that goes on needs no such weights."""
    keras.utils.set_random_seed(recipe.seed)
    with devices.scope():
        model = build(recipe, class_names)
    for phase in recipe.phases():
        model.freeze(phase.freeze)  # refuses a stage that this network has not
    if recipe.pretrained and not go_on:
        assign_pretrained(model, recipe, hub)
    return model


def _tell(model: ImageClassifier, session: Session, artifact: Path) -> None:
    """Log what the run is going to do."""
    recipe, done = session.recipe, len(read_history(session.run.state))
    splits = {**session.parts, **{name: split for name, split in session.usable.items() if name != "train"}}
    logger.info("training:\n%s", overview(recipe, model, splits, session.sizes, done, artifact))
    for warning in warnings(recipe, session.steps):
        logger.warning(warning)


def _fit(model: ImageClassifier, session: Session) -> list[Row]:
    """Train what is left of the stages, and return the rows of all epochs."""
    recipe, state = session.recipe, session.run.state
    history = read_history(state)
    meet(session.devices, len(history))
    phases = recipe.phases()
    ends = [*accumulate(phase.epochs for phase in phases)]
    logger.info("training %s: %d of %d epochs are done", model.name, len(history), ends[-1])
    if history and is_chief(session.devices):
        write_log(session.run, history)
    current = min(bisect_right(ends, len(history)), len(phases) - 1)
    for number, (phase, end) in enumerate(zip(phases, ends, strict=True)):
        if number < current:
            continue
        model.freeze(phase.freeze)
        with session.devices.scope():
            compile_for(model, phase, session.steps)
            if history and number == current:
                restore_state(state, model, optimizer=len(history) > end - phase.epochs)
        if len(history) < end and not stopped_early(recipe, history):
            _fit_stage(model, session, history, end)
    return history


def _fit_stage(model: ImageClassifier, session: Session, history: list[Row], end: int) -> None:
    """Train up to an epoch; the rows of its epochs are added to the history."""
    recipe, devices, done = session.recipe, session.devices, len(history)
    validation, validation_steps = None, None
    if session.watched is not None:
        validation, validation_steps = distributed_evaluation(devices, session.watched, recipe.input, session.at_once)
    writes = is_chief(devices)
    measured = len(session.watched) if session.watched is not None else 0
    with _said_clearly(recipe):
        model.fit(
            distributed_batches(devices, lambda share: session.batches(done, share), recipe.batch_size),
            steps_per_epoch=session.steps,
            initial_epoch=done,
            epochs=end,
            shuffle=False,  # the batches are already
            validation_data=validation,
            validation_steps=validation_steps,
            callbacks=[
                DivergenceGuard(
                    lambda epoch, batch: next(iter(session.batches(epoch, first=batch))), lambda: len(history)
                ),
                *([Estimate((end - done) * session.steps, measured, newline=session.verbose == 1)] if writes else []),
                *([AveragesInValidation()] if inner(model.optimizer).use_ema else []),
                Journal(session.run, recipe, history, writes=writes),
                *([keras.callbacks.TensorBoard(os.fspath(session.run.events), write_graph=False)] if writes else []),
            ],
            verbose=session.verbose,  # pyright: ignore[reportArgumentType]
        )


@contextmanager
def _said_clearly(recipe: Recipe) -> Iterator[None]:
    """Within this context TensorFlow's errors become one clear sentence, except those of lost workers."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise ZooError(
            f"There is not enough memory for batch_size={recipe.batch_size}. Begin again with a smaller one; "
            "optimizer.accumulate makes one step of several batches."
        ) from error
    except OF_THE_DATA as error:
        raise ZooError(
            f"A batch cannot be read or computed: {reason(error)}. If files were changed or removed, `mpncov-zoo data "
            f"check {recipe.dataset}` names them; put them back, and go on with --resume."
        ) from error


def _export(trained: ImageClassifier, session: Session, history: Sequence[Row], directory: Path) -> None:
    """Write the kept weights in float32, and what they are worth."""
    recipe, run = session.recipe, session.run
    best = best_epoch(history) if recipe.keep == "best" else None
    kept = read_arrays(run.best(best + 1)) if best is not None else answering_weights(trained)
    model = build(recipe.model_copy(update={"precision": "float32"}), trained.labels or (), trained.architecture)
    variables = model.named_variables()
    if variables.keys() != kept.keys():
        raise InputError(f"{run.directory} holds the weights of another network. Begin again in a new directory.")
    for name, variable in variables.items():
        variable.assign(kept[name])
    kept_index = len(history) - 1 if best is None else best
    runs.write_json(run.metrics, _metrics(model, session, history, kept_index))
    values = {**recipe.model_dump(mode="json"), "model": model.architecture.name}  # which may be somebody's path
    provenance: dict[str, Any] = {"kind": "trained", "recipe": values}
    if recipe.split:
        noted = division(session.whole, session.usable["train"], recipe.split)
        provenance[KEY] = noted.model_dump(mode="json")
    writer.write(model, directory, tag=recipe.tag, provenance=provenance)
    logger.info("wrote %s", directory)


def _metrics(model: ImageClassifier, session: Session, history: Sequence[Row], kept: int) -> dict[str, Any]:
    """What the kept weights are worth, and what they cost."""
    watched = session.watched
    return {
        "parameters": model.num_parameters,
        "epochs": len(history),
        "kept_epoch": kept + 1,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "log": history[kept],
        "validation": evaluate(model, watched, batch_size=session.at_once).summary() if watched is not None else None,
    }
