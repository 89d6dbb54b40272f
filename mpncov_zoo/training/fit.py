"""One training run, from a recipe to an artifact: resumable after every epoch, by Keras' own loop."""

import csv
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from mpncov_zoo import artifact, registry
from mpncov_zoo.classifier import ImageClassifier, precision
from mpncov_zoo.errors import InputError
from mpncov_zoo.manifest import load_manifest
from mpncov_zoo.training.curves import draw_curves, require_matplotlib
from mpncov_zoo.training.datasets import Split, evaluation_batches, read_dataset, split_holdout, training_batches
from mpncov_zoo.training.optimization import DropoutByEpoch, compile_for
from mpncov_zoo.training.recipes import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """The files of a run's directory."""

    directory: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, with all defaults."""
        return self.directory / "recipe.json"

    @property
    def log(self) -> Path:
        """One line an epoch."""
        return self.directory / "log.csv"

    @property
    def curves(self) -> Path:
        """Loss and accuracy by epoch."""
        return self.directory / "curves.png"

    @property
    def backup(self) -> Path:
        """The state after the last complete epoch."""
        return self.directory / "backup"


def train(recipe: Recipe, data: str | Path, output: str | Path, *, resume: bool = False, verbose: int = 1) -> Path:
    """Train by a recipe and write the result as an artifact.

    Args:
        recipe: what to train.
        data: directory of the data set.
        output: directory of the run; it must be new or empty unless `resume`.
        resume: go on after the last complete epoch of this directory, if there is one; the result is the same.
        verbose: Keras' progress bar: 0 none, 1 bar, 2 a line an epoch.

    Returns:
        The artifact's directory, `<output>/<model>.<tag>`, which `mpncov_zoo.load(hub=...)` takes.

    Raises:
        InputError: data, output or recipe cannot be used.
        ZooError: matplotlib is not installed.
    """
    require_matplotlib()
    _require_unpublished(recipe)
    run = _inspect(Path(output), recipe, resume=resume)
    training, holdout = split_holdout(read_dataset(recipe.dataset, data, "train"), recipe.holdout, recipe.seed)
    steps = _steps(recipe, training)
    keras.utils.set_random_seed(recipe.seed)
    model = build(recipe, training.class_names)
    compile_for(model, recipe, steps)
    _begin(run, recipe)
    directory = run.directory / f"{model.architecture.name}.{recipe.tag}"
    if not directory.exists():
        _fit(model, recipe, training, holdout, run, steps, verbose)
        _export(model, recipe, directory)
    draw_curves(run.log, run.curves)
    return directory


def build(recipe: Recipe, class_names: tuple[str, ...]) -> ImageClassifier:
    """The network of a recipe, freshly initialised, under the recipe's precision."""
    with precision(recipe.precision):
        return ImageClassifier(
            registry.architecture(recipe.model, options=recipe.options),
            num_classes=len(class_names),
            input_shape=(*recipe.input.size, recipe.input.channels),
            input_specification=recipe.input,
            labels=class_names,
        )


def _require_unpublished(recipe: Recipe) -> None:
    """Refuse the name of published weights: `load` would hold the result against their digests."""
    entry = load_manifest().get(f"{registry.canonical_name(recipe.model)}.{recipe.tag}")
    if entry is not None and entry.files:
        raise InputError(f"{entry.name} is the name of published weights. Train under another tag: --set tag=mine.")


def _inspect(output: Path, recipe: Recipe, *, resume: bool) -> Run:
    """The run in a directory, if this recipe may begin or go on there; nothing is written yet."""
    run = Run(output)
    try:
        used = output.exists() and any(output.iterdir())
    except OSError as error:
        raise InputError(f"{output} cannot be used for a run: {error.strerror}.") from error
    if used and not resume:
        raise InputError(f"{output} is not empty. Go on with --resume, or give a new directory.")
    if used and not run.recipe.exists():
        raise InputError(f"{output} is not empty and holds no run ({run.recipe.name}). Give a new directory.")
    if used:
        _require_same(run.recipe, recipe)
    return run


def _begin(run: Run, recipe: Recipe) -> None:
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        run.recipe.write_text(recipe.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{run.directory} cannot be written: {error.strerror}.") from error


def _require_same(path: Path, recipe: Recipe) -> None:
    before, now = _read_json(path), recipe.model_dump(mode="json")
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise InputError(f"{path.parent} was begun with another recipe: {', '.join(changed)} differ.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}. Begin again in a new directory.") from error


def _steps(recipe: Recipe, training: Split) -> int:
    """Batches an epoch."""
    if len(training) < recipe.batch_size:
        raise InputError(f"batch_size={recipe.batch_size} is more than the {len(training)} images to train on.")
    return len(training) // recipe.batch_size


def _fit(
    model: ImageClassifier, recipe: Recipe, training: Split, holdout: Split, run: Run, steps: int, verbose: int
) -> None:
    first = _completed_epochs(run)
    _truncate_log(run.log, first)
    batches = training_batches(
        training, recipe.input, recipe.augmentation, batch_size=recipe.batch_size, seed=recipe.seed, epoch=first
    )
    logger.info("training %s: %d of %d epochs are done", model.name, first, recipe.epochs)
    model.fit(
        batches,
        steps_per_epoch=steps,
        epochs=recipe.epochs,
        shuffle=False,  # the batches are already
        validation_data=evaluation_batches(holdout, recipe.input) if len(holdout) else None,
        callbacks=[
            keras.callbacks.CSVLogger(os.fspath(run.log), append=True),
            keras.callbacks.BackupAndRestore(os.fspath(run.backup), double_checkpoint=True, delete_checkpoint=False),
            DropoutByEpoch(steps),
        ],
        verbose=verbose,  # pyright: ignore[reportArgumentType]
    )


def _completed_epochs(run: Run) -> int:
    path = run.backup / "training_metadata.json"
    return int(_read_json(path).get("epoch", 0)) if path.exists() else 0


def _truncate_log(path: Path, epochs: int) -> None:
    """Drop the line of an epoch that was logged but not backed up before the run was stopped."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows[:epochs]] if header else [])


def _export(trained: ImageClassifier, recipe: Recipe, directory: Path) -> None:
    """Write the trained network in float32."""
    model = build(recipe.model_copy(update={"precision": "float32"}), trained.labels or ())
    for name, variable in model.named_variables().items():
        variable.assign(trained.named_variables()[name])
    provenance = {"kind": "trained", "recipe": recipe.model_dump(mode="json")}
    artifact.write(model, directory, tag=recipe.tag, provenance=provenance)
    logger.info("wrote %s", directory)
